#include "src/data/unpack.h"

#include <bzlib.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include "src/base/memory.h"
#include "src/data/byte_source.h"

enum { ZSTD_WINDOW_LOG = 27 }; /* 128 MiB: what zstd --ultra makes without --long */

struct qs_unpacker {
    qs_packing_kind kind;
    const char *path;
    bool ended; /* between two streams */
    z_stream gzip;
    lzma_stream xz;
    ZSTD_DCtx *zstd;
    bz_stream bzip2;
};

qs_packing_kind qs_unpack_kind(const unsigned char *head, size_t bytes)
{
    if (bytes >= 3 && head[0] == 0x1f && head[1] == 0x8b && head[2] == 8) return QS_PACKED_GZIP;
    if (bytes >= 6 && memcmp(head,
                             "\xfd"
                             "7zXZ\0",
                             6) == 0)
        return QS_PACKED_XZ;
    if (bytes >= 13 && memcmp(head, "\x5d\0\0", 3) == 0 && (head[12] == 0 || head[12] == 0xff))
        return QS_PACKED_XZ; /* .lzma */
    if (bytes >= 4 && memcmp(head, "\x28\xb5\x2f\xfd", 4) == 0) return QS_PACKED_ZSTD;
    if (bytes >= 4 && (head[0] & 0xf0) == 0x50 && memcmp(head + 1, "\x2a\x4d\x18", 3) == 0)
        return QS_PACKED_ZSTD; /* skippable frame */
    if (bytes >= 10 && memcmp(head, "BZh", 3) == 0 && head[3] >= '1' && head[3] <= '9' &&
        (memcmp(head + 4, "1AY&SY", 6) == 0 || memcmp(head + 4, "\x17\x72\x45\x38\x50\x90", 6) == 0))
        return QS_PACKED_BZIP2;
    return QS_PACKED_NOT;
}

const char *qs_unpack_name(qs_packing_kind kind)
{
    static const char *const names[] = {"", "gzip", "xz", "zstd", "bzip2"};
    return names[kind];
}

int qs_unpack_open(qs_packing_kind kind, const char *path, qs_unpacker **out, qs_err *e)
{
    qs_unpacker *u = *out = qs_calloc(1, sizeof *u);
    u->kind = kind;
    u->path = path;
    bool ok = true;
    switch (kind) {
    case QS_PACKED_GZIP:
        ok = inflateInit2(&u->gzip, 15 + 16) == Z_OK;
        break;
    case QS_PACKED_XZ:
        ok = lzma_auto_decoder(&u->xz, QS_UNPACK_MAX_BYTES, LZMA_CONCATENATED) == LZMA_OK;
        break;
    case QS_PACKED_ZSTD:
        u->zstd = ZSTD_createDCtx();
        ok = u->zstd && !ZSTD_isError(ZSTD_DCtx_setParameter(u->zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG));
        break;
    case QS_PACKED_BZIP2:
        ok = BZ2_bzDecompressInit(&u->bzip2, 0, 0) == BZ_OK;
        break;
    default:
        ok = false;
    }
    if (ok) return 0;
    qs_unpack_close(u);
    *out = NULL;
    QS_FAIL(e, QS_ENOMEM, "%s: no memory to unpack it (%s)", path, qs_unpack_name(kind));
}

void qs_unpack_close(qs_unpacker *u)
{
    if (!u) return;
    if (u->kind == QS_PACKED_GZIP) inflateEnd(&u->gzip);
    if (u->kind == QS_PACKED_XZ) lzma_end(&u->xz);
    if (u->kind == QS_PACKED_ZSTD) ZSTD_freeDCtx(u->zstd);
    if (u->kind == QS_PACKED_BZIP2) BZ2_bzDecompressEnd(&u->bzip2);
    qs_free(u);
}

static int damaged(const qs_unpacker *u, const char *why, qs_err *e)
{
    QS_FAIL(e, QS_EFORMAT, "%s: is damaged: its %s data cannot be unpacked (%s); fetch it again", u->path,
            qs_unpack_name(u->kind), why);
}

static int too_large(const qs_unpacker *u, qs_err *e)
{
    QS_FAIL(e, QS_EUNSUP, "%s: its %s data needs a dictionary of more than %d MiB; unpack it first", u->path,
            qs_unpack_name(u->kind),
            u->kind == QS_PACKED_ZSTD ? 1 << (ZSTD_WINDOW_LOG - 20) : QS_UNPACK_MAX_BYTES >> 20);
}

static int gunzip(qs_unpacker *u, const void *in, size_t *in_bytes, void *out, size_t *out_bytes, qs_err *e)
{
    z_stream *z = &u->gzip;
    z->next_in = (Bytef *)(uintptr_t)in;
    z->avail_in = (uInt)*in_bytes;
    z->next_out = out;
    z->avail_out = (uInt)*out_bytes;
    if (u->ended && *in_bytes && inflateReset(z) != Z_OK) return damaged(u, "it cannot begin again", e);
    int rc = inflate(z, Z_NO_FLUSH);
    *in_bytes -= z->avail_in;
    *out_bytes -= z->avail_out;
    u->ended = rc == Z_STREAM_END;
    return rc == Z_OK || rc == Z_STREAM_END || rc == Z_BUF_ERROR
               ? 0
               : damaged(u, z->msg ? z->msg : "no gzip stream", e);
}

static int unxz(qs_unpacker *u, const void *in, size_t *in_bytes, bool last, void *out, size_t *out_bytes,
                qs_err *e)
{
    lzma_stream *x = &u->xz;
    x->next_in = in;
    x->avail_in = *in_bytes;
    x->next_out = out;
    x->avail_out = *out_bytes;
    lzma_ret rc = lzma_code(x, last ? LZMA_FINISH : LZMA_RUN);
    *in_bytes -= x->avail_in;
    *out_bytes -= x->avail_out;
    u->ended = rc == LZMA_STREAM_END;
    if (rc == LZMA_MEMLIMIT_ERROR) return too_large(u, e);
    if (rc == LZMA_MEM_ERROR) QS_FAIL(e, QS_ENOMEM, "%s: no memory to unpack it", u->path);
    if (rc == LZMA_BUF_ERROR && last && *in_bytes == 0 && *out_bytes == 0)
        return 0; /* cut off: the caller sees that it has not ended */
    return rc == LZMA_OK || rc == LZMA_STREAM_END || rc == LZMA_BUF_ERROR ? 0
                                                                          : damaged(u, "its checks fail", e);
}

static int unzstd(qs_unpacker *u, const void *in, size_t *in_bytes, void *out, size_t *out_bytes, qs_err *e)
{
    ZSTD_inBuffer i = {in, *in_bytes, 0};
    ZSTD_outBuffer o = {out, *out_bytes, 0};
    size_t rc = ZSTD_decompressStream(u->zstd, &o, &i);
    if (ZSTD_isError(rc)) {
        if (ZSTD_getErrorCode(rc) == ZSTD_error_frameParameter_windowTooLarge) return too_large(u, e);
        return damaged(u, ZSTD_getErrorName(rc), e);
    }
    *in_bytes = i.pos;
    *out_bytes = o.pos;
    u->ended = rc == 0;
    return 0;
}

static int unbzip2(qs_unpacker *u, const void *in, size_t *in_bytes, void *out, size_t *out_bytes, qs_err *e)
{
    bz_stream *b = &u->bzip2;
    if (u->ended && *in_bytes) {
        BZ2_bzDecompressEnd(b);
        *b = (bz_stream){0};
        if (BZ2_bzDecompressInit(b, 0, 0) != BZ_OK)
            QS_FAIL(e, QS_ENOMEM, "%s: no memory to unpack it", u->path);
    }
    b->next_in = (char *)(uintptr_t)in;
    b->avail_in = (unsigned)*in_bytes;
    b->next_out = out;
    b->avail_out = (unsigned)*out_bytes;
    int rc = u->ended && !*in_bytes ? BZ_OK : BZ2_bzDecompress(b);
    *in_bytes -= b->avail_in;
    *out_bytes -= b->avail_out;
    u->ended = rc == BZ_STREAM_END;
    return rc == BZ_OK || rc == BZ_STREAM_END ? 0 : damaged(u, "its checks fail", e);
}

int qs_unpack(qs_unpacker *u, const void *in, size_t *in_bytes, bool last, void *out, size_t *out_bytes,
              bool *ended, qs_err *e)
{
    int rc = 0;
    if (u->ended && !*in_bytes)
        *out_bytes = 0;
    else if (u->kind == QS_PACKED_GZIP)
        rc = gunzip(u, in, in_bytes, out, out_bytes, e);
    else if (u->kind == QS_PACKED_XZ)
        rc = unxz(u, in, in_bytes, last, out, out_bytes, e);
    else if (u->kind == QS_PACKED_ZSTD)
        rc = unzstd(u, in, in_bytes, out, out_bytes, e);
    else
        rc = unbzip2(u, in, in_bytes, out, out_bytes, e);
    *ended = u->ended;
    return rc;
}
