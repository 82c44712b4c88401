/* Packed files. The first byte: 0 gives the rest as the file, whatever it is; otherwise the rest is packed by
 * one of the four libraries, and one byte of the file is changed by the second to fourth. Where none is
 * changed the text must come back as it was. */
#include <bzlib.h>
#include <lzma.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "src/base/memory.h"
#include "src/data/byte_source.h"
#include "src/data/unpack.h"
#include "tests/fuzz/fuzz.h"

enum { HEAD = 4, READ_AT_MOST = 4 << 20, DICTIONARY = 300 << 20 };

static size_t pack(qs_packing_kind kind, const uint8_t *text, size_t n, uint8_t *out, size_t room)
{
    size_t used = 0;
    if (kind == QS_PACKED_GZIP) {
        z_stream z = {.next_in = (Bytef *)(uintptr_t)text,
                      .avail_in = (uInt)n,
                      .next_out = out,
                      .avail_out = (uInt)room};
        QS_ASSERT(deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK);
        QS_ASSERT(deflate(&z, Z_FINISH) == Z_STREAM_END);
        used = z.total_out;
        deflateEnd(&z);
    } else if (kind == QS_PACKED_XZ) {
        QS_ASSERT(lzma_easy_buffer_encode(0, LZMA_CHECK_CRC32, NULL, text, n, out, &used, room) == LZMA_OK);
    } else if (kind == QS_PACKED_ZSTD) {
        used = ZSTD_compress(out, room, text, n, 1);
        QS_ASSERT(!ZSTD_isError(used));
    } else {
        unsigned length = (unsigned)room;
        QS_ASSERT(BZ2_bzBuffToBuffCompress((char *)out, &length, (char *)(uintptr_t)text, (unsigned)n, 1, 0,
                                           0) == BZ_OK);
        used = length;
    }
    return used;
}

/* Reads it all, a bomb's beginning alone. want NULL: any text or error is fine. */
static void read_all(const char *path, const uint8_t *want, size_t want_bytes)
{
    qs_byte_source *s;
    qs_err e = {0};
    size_t total = 0, n = 0;
    const char *part;
    int rc = qs_byte_source_open(path, &s, &e);
    while (!rc && !(rc = qs_byte_source_next(s, &part, &n, &e)) && n && total < READ_AT_MOST) {
        if (want) QS_ASSERT(total + n <= want_bytes && memcmp(want + total, part, n) == 0);
        total += n;
    }
    if (want) QS_ASSERT(!rc && total == want_bytes);
    if (s) qs_byte_source_close(s);
}

/* Texts that are changed on the way: a mark left out, UTF-16 turned into UTF-8. */
static int stays_as_it_is(const uint8_t *text, size_t n)
{
    if (n && (text[0] == 0xef || text[0] == 0xff || text[0] == 0xfe)) return 0;
    return !memchr(text, 0, n < 64 ? n : 64);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < HEAD) return 0;
    const uint8_t *text = data + HEAD;
    size_t n = size - HEAD, room = 2 * n + 4096;
    fuzz_watch(size +
               DICTIONARY / QS_FUZZ_FACTOR); /* what a packer's dictionary may take: QS_UNPACK_MAX_BYTES */
    if (!data[0]) {
        read_all(fuzz_put("packed", text, n), NULL, 0);
        return 0;
    }
    uint8_t *file = qs_malloc(room);
    size_t used = pack((qs_packing_kind)(QS_PACKED_GZIP + data[0] % 4), text, n, file, room);
    file[(data[1] << 8 | data[2]) % used] ^= data[3];
    read_all(fuzz_put("packed", file, used), data[3] || !stays_as_it_is(text, n) ? NULL : text, n);
    qs_free(file);
    return 0;
}
