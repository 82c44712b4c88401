#include "src/data/byte_source.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utf8proc.h>

#include "src/base/memory.h"
#include "src/data/unpack.h"

enum { BUFFER = 64 << 10, UTF8_BUFFER = 2 * BUFFER };

typedef enum text_encoding { UTF8, UTF16_LITTLE, UTF16_BIG } text_encoding;

struct qs_byte_source {
    int fd;
    char *path;
    uint64_t done, of;
    qs_unpacker *unpacker; /* NULL: the file is the text */
    qs_packing_kind packing;
    text_encoding encoding;
    bool eof, stream_ended, started;
    unsigned char *raw; /* [BUFFER] of the file */
    size_t raw_at, raw_end;
    unsigned char *unpacked; /* [BUFFER], where there is an unpacker */
    char *text;              /* [UTF8_BUFFER], where the text is UTF-16 */
    unsigned char half[4];   /* UTF-16 that goes on in the next stretch */
    size_t half_bytes;
};

/* Fills `raw` where it is empty. */
static int fill(qs_byte_source *s, qs_err *e)
{
    if (s->raw_at < s->raw_end || s->eof) return 0;
    ssize_t n;
    do n = read(s->fd, s->raw, BUFFER);
    while (n < 0 && errno == EINTR);
    if (n < 0)
        QS_FAIL(e, QS_EIO, "%s: read failed at byte %llu: %s", s->path, (unsigned long long)s->done,
                strerror(errno));
    s->eof = n == 0;
    s->raw_at = 0;
    s->raw_end = (size_t)n;
    s->done += (uint64_t)n;
    return 0;
}

/* gzip may be followed by zeros, as tape and some tools leave them: they are no further stream. */
static bool only_zeros(const qs_byte_source *s)
{
    for (size_t i = s->raw_at; i < s->raw_end; i++)
        if (s->raw[i]) return false;
    return true;
}

static int next_unpacked(qs_byte_source *s, const unsigned char **data, size_t *bytes, qs_err *e)
{
    for (;;) {
        QS_TRY(fill(s, e));
        if (s->stream_ended && s->raw_at < s->raw_end && s->packing != QS_PACKED_XZ) {
            if (only_zeros(s)) {
                s->raw_at = s->raw_end;
                continue;
            }
            if (qs_unpack_kind(s->raw + s->raw_at, s->raw_end - s->raw_at) != s->packing &&
                s->raw_end - s->raw_at >= 16)
                QS_FAIL(e, QS_EFORMAT, "%s: something else follows its %s data; is the file damaged?",
                        s->path, qs_unpack_name(s->packing));
        }
        size_t in = s->raw_end - s->raw_at, out = BUFFER;
        QS_TRY(
            qs_unpack(s->unpacker, s->raw + s->raw_at, &in, s->eof, s->unpacked, &out, &s->stream_ended, e));
        s->raw_at += in;
        *data = s->unpacked;
        *bytes = out;
        if (out) return 0;
        if (s->eof && !in) {
            if (s->stream_ended) return 0;
            QS_FAIL(
                e, QS_EFORMAT,
                "%s: ends inside its %s data: the file is truncated (an aborted download?); fetch it again",
                s->path, qs_unpack_name(s->packing));
        }
    }
}

static int next_raw(qs_byte_source *s, const unsigned char **data, size_t *bytes, qs_err *e)
{
    if (s->unpacker) return next_unpacked(s, data, bytes, e);
    QS_TRY(fill(s, e));
    *data = s->raw + s->raw_at;
    *bytes = s->raw_end - s->raw_at;
    s->raw_at = s->raw_end;
    return 0;
}

static unsigned unit_of(const qs_byte_source *s, const unsigned char *p)
{
    return s->encoding == UTF16_LITTLE ? (unsigned)(p[0] | p[1] << 8) : (unsigned)(p[0] << 8 | p[1]);
}

static size_t put_code(char *out, unsigned code)
{
    return (size_t)utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)out);
}

/* One code unit at p, or a pair; writes its UTF-8 and returns the bytes used, 0 when the pair goes on behind
 * `end`. */
static size_t decode_unit(const qs_byte_source *s, const unsigned char *p, const unsigned char *end,
                          char *out, size_t *made)
{
    unsigned high = unit_of(s, p), low;
    *made = 0;
    if (high < 0xd800 || high > 0xdfff) return *made = put_code(out, high), 2;
    if (high > 0xdbff) return *made = put_code(out, 0xfffd), 2;
    if (end - p < 4) return 0;
    low = unit_of(s, p + 2);
    if (low < 0xdc00 || low > 0xdfff) return *made = put_code(out, 0xfffd), 2;
    *made = put_code(out, 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00));
    return 4;
}

/* Turns a stretch of UTF-16 into text; what is left of a unit or a pair waits in `half`. */
static size_t to_utf8(qs_byte_source *s, const unsigned char *p, size_t bytes)
{
    const unsigned char *end = p + bytes;
    size_t used = 0, made;
    while (s->half_bytes && p < end) {
        s->half[s->half_bytes++] = *p++;
        if (s->half_bytes < 2) continue;
        size_t n = decode_unit(s, s->half, s->half + s->half_bytes, s->text + used, &made);
        used += made;
        s->half_bytes -= n;
        memmove(s->half, s->half + n, s->half_bytes);
    }
    while (end - p >= 2) {
        size_t n = decode_unit(s, p, end, s->text + used, &made);
        if (!n) break;
        used += made;
        p += n;
    }
    while (p < end) s->half[s->half_bytes++] = *p++;
    return used;
}

/* UTF-16 by its mark, or by every other byte of its beginning being zero; the mark is left out. */
static void look(qs_byte_source *s, const unsigned char **data, size_t *bytes)
{
    const unsigned char *p = *data;
    size_t n = *bytes, skip = 0, zeros[2] = {0}, looked = n < 64 ? n & ~(size_t)1 : 64;
    s->started = true;
    for (size_t i = 0; i < looked; i++) zeros[i & 1] += !p[i];
    if (n >= 4 && memcmp(p, "\xff\xfe\0\0", 4) == 0)
        return; /* UTF-32: passed on as it is, and named where its kind is looked at */
    if (n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
        skip = 3;
    else if (n >= 2 && p[0] == 0xff && p[1] == 0xfe)
        s->encoding = UTF16_LITTLE, skip = 2;
    else if (n >= 2 && p[0] == 0xfe && p[1] == 0xff)
        s->encoding = UTF16_BIG, skip = 2;
    else if (looked >= 8 && !zeros[0] && zeros[1] * 2 == looked)
        s->encoding = UTF16_LITTLE;
    else if (looked >= 8 && !zeros[1] && zeros[0] * 2 == looked)
        s->encoding = UTF16_BIG;
    if (s->encoding != UTF8) s->text = qs_malloc(UTF8_BUFFER + 64);
    *data += skip;
    *bytes -= skip;
}

int qs_byte_source_next(qs_byte_source *s, const char **data, size_t *bytes, qs_err *e)
{
    for (;;) {
        const unsigned char *p = NULL;
        QS_TRY(next_raw(s, &p, bytes, e));
        if (!*bytes) {
            if (s->half_bytes)
                QS_FAIL(e, QS_EFORMAT, "%s: ends inside a UTF-16 character: the file is truncated", s->path);
            return 0;
        }
        if (!s->started) look(s, &p, bytes);
        *data = (const char *)p;
        if (s->encoding != UTF8) {
            *bytes = to_utf8(s, p, *bytes);
            *data = s->text;
        }
        if (*bytes) return 0;
    }
}

const char *qs_byte_source_packing(const qs_byte_source *s)
{
    return s->packing ? qs_unpack_name(s->packing) : s->encoding != UTF8 ? "UTF-16" : "";
}

void qs_byte_source_progress(const qs_byte_source *s, uint64_t *done, uint64_t *of)
{
    *done = s->done;
    *of = s->of;
}

static int begin(qs_byte_source *s, qs_err *e)
{
    struct stat st;
    if (fstat(s->fd, &st)) QS_FAIL(e, QS_EIO, "%s: %s", s->path, strerror(errno));
    if (!S_ISREG(st.st_mode))
        QS_FAIL(e, QS_EIO, "data file %s: is not a regular file; give one .json, .jsonl, .csv or .txt file",
                s->path);
    s->of = (uint64_t)st.st_size;
    QS_TRY(fill(s, e));
    s->packing = qs_unpack_kind(s->raw, s->raw_end);
    if (!s->packing) return 0;
    s->unpacked = qs_malloc(BUFFER);
    return qs_unpack_open(s->packing, s->path, &s->unpacker, e);
}

int qs_byte_source_open(const char *path, qs_byte_source **out, qs_err *e)
{
    *out = NULL;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* NONBLOCK: a pipe must not hang */
    if (fd < 0)
        QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "cannot open data file %s: %s", path,
                strerror(errno));
    qs_byte_source *s = qs_calloc(1, sizeof *s);
    s->fd = fd;
    s->path = qs_strdup(path);
    s->raw = qs_malloc(BUFFER);
    int rc = begin(s, e);
    if (rc)
        qs_byte_source_close(s);
    else
        *out = s;
    return rc;
}

void qs_byte_source_close(qs_byte_source *s)
{
    if (!s) return;
    close(s->fd);
    qs_unpack_close(s->unpacker);
    qs_free(s->path);
    qs_free(s->raw);
    qs_free(s->unpacked);
    qs_free(s->text);
    qs_free(s);
}
