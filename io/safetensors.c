#include "io/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "io/file_kind.h"
#include "src/base/memory.h"

#define HEADER_MAX_BYTES 100000000u

static const struct {
    const char *name;
    uint32_t bits;
    int type; /* a qs_dtype, or -1: not readable */
} types[] = {{"F32", 32, QS_F32},    {"BF16", 16, QS_BF16},  {"F16", 16, QS_F16}, {"U8", 8, QS_U8},
             {"BOOL", 8, -1},        {"F4", 4, -1},          {"F6_E2M3", 6, -1},  {"F6_E3M2", 6, -1},
             {"I8", 8, -1},          {"F8_E5M2", 8, -1},     {"F8_E4M3", 8, -1},  {"F8_E8M0", 8, -1},
             {"F8_E4M3FNUZ", 8, -1}, {"F8_E5M2FNUZ", 8, -1}, {"I16", 16, -1},     {"U16", 16, -1},
             {"I32", 32, -1},        {"U32", 32, -1},        {"C64", 64, -1},     {"F64", 64, -1},
             {"I64", 64, -1},        {"U64", 64, -1}};

/* A whole range at `at`, or why not. */
static int read_at(int fd, const char *path, void *out, uint64_t bytes, uint64_t at, qs_err *e)
{
    for (char *to = out; bytes;) {
        ssize_t n = pread(fd, to, bytes > 1 << 30 ? 1 << 30 : bytes, (off_t)at);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) QS_FAIL(e, QS_EIO, "%s: cannot be read: %s", path, strerror(errno));
        if (!n)
            QS_FAIL(e, QS_EFORMAT, "%s: ends at byte %llu, in the middle of its content", path,
                    (unsigned long long)at);
        to += n;
        at += (uint64_t)n;
        bytes -= (uint64_t)n;
    }
    return 0;
}

/* A non-negative integer, or false. */
static bool get_u64(const json_t *value, uint64_t *out)
{
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *out = (uint64_t)json_integer_value(value);
    return true;
}

/* One entry of the header into *t, with offsets relative to the data. */
static int read_entry(const char *path, const char *name, const json_t *entry, qs_source_tensor *t, qs_err *e)
{
    const json_t *dtype = json_object_get(entry, "dtype"), *shape = json_object_get(entry, "shape"),
                 *range = json_object_get(entry, "data_offsets");
    if (!json_is_string(dtype) || !json_is_array(shape) || !json_is_array(range) ||
        json_array_size(range) != 2)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s lacks a dtype, a shape or a pair of data_offsets", path, name);

    size_t k = 0, count = sizeof types / sizeof *types;
    while (k < count && strcmp(types[k].name, json_string_value(dtype))) k++;
    if (k == count)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has the unknown dtype %s", path, name,
                json_string_value(dtype));
    t->readable = types[k].type >= 0;
    t->type = t->readable ? (qs_dtype)types[k].type : QS_U8;
    t->type_name = types[k].name;

    if (json_array_size(shape) > QS_TENSOR_MAX_DIMS)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has %zu dimensions; at most %d are supported", path, name,
                json_array_size(shape), QS_TENSOR_MAX_DIMS);
    t->dims = (int)json_array_size(shape);
    uint64_t bits = types[k].bits;
    for (int d = 0; d < t->dims; d++) {
        uint64_t size;
        if (!get_u64(json_array_get(shape, (size_t)d), &size))
            QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has a shape that is not a list of non-negative integers",
                    path, name);
        if (__builtin_mul_overflow(bits, size, &bits))
            QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has a shape whose size overflows 64 bits", path, name);
        t->shape[d] = (int64_t)size;
    }

    uint64_t begin, end;
    if (!get_u64(json_array_get(range, 0), &begin) || !get_u64(json_array_get(range, 1), &end) || end < begin)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has data_offsets that are not an ascending pair of integers",
                path, name);
    if (bits % 8 || end - begin != bits / 8)
        QS_FAIL(e, QS_EFORMAT,
                "%s: tensor %s takes %llu bytes in the file, but its dtype and shape need %llu bits", path,
                name, (unsigned long long)(end - begin), (unsigned long long)bits);
    t->offset = begin;
    t->bytes = end - begin;
    return 0;
}

static int by_place(const void *a, const void *b)
{
    const qs_source_tensor *x = a, *y = b;
    if (x->offset != y->offset) return x->offset < y->offset ? -1 : 1;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? -1 : 1; /* empty tensors lie before the next one */
    return strcmp(x->name, y->name);
}

/* The header's text while it is taken apart, one entry at a time: a tree of a million tensors would need
 * gigabytes. Names are kept in one store that grows, as offsets into it until it has its final place. */
typedef struct parser {
    const char *path, *text;
    size_t at, bytes;
    qs_safetensors *out;
    size_t store_bytes, store_capacity;
    int capacity;
} parser;

static size_t keep(parser *p, const char *s)
{
    size_t n = strlen(s) + 1, at = p->store_bytes;
    if (at + n > p->store_capacity)
        p->out->memory = qs_realloc(p->out->memory, p->store_capacity = 2 * p->store_capacity + n + 4096);
    memcpy(p->out->memory + at, s, n);
    p->store_bytes += n;
    return at;
}

static int malformed(const parser *p, const char *why, size_t at, qs_err *e)
{
    QS_FAIL(e, QS_EFORMAT, "%s: its header is not valid JSON: %s at byte %zu", p->path, why, at);
}

static bool is_space(char c) { return c == ' ' || c == '\t' || c == '\r' || c == '\n'; }

/* The next character that is not white space, or 0 at the end. */
static char peek(parser *p)
{
    while (p->at < p->bytes && is_space(p->text[p->at])) p->at++;
    return p->at < p->bytes ? p->text[p->at] : 0;
}

/* One value, of the type that begins with `first`. */
static int next_value(parser *p, char first, json_t **out, qs_err *e)
{
    json_error_t why;
    if (peek(p) != first)
        return malformed(p, first == '"' ? "a name is expected" : "an object is expected", p->at, e);
    *out = json_loadb(p->text + p->at, p->bytes - p->at,
                      JSON_REJECT_DUPLICATES | JSON_DISABLE_EOF_CHECK | JSON_DECODE_ANY, &why);
    if (!*out) return malformed(p, why.text, p->at + (size_t)(why.position > 0 ? why.position : 0), e);
    p->at += (size_t)why.position;
    return 0;
}

static int take_metadata(parser *p, const json_t *metadata, qs_err *e)
{
    qs_safetensors *s = p->out;
    const char *key;
    json_t *value;
    if (s->metadata) return malformed(p, "duplicate object key \"__metadata__\"", p->at, e);
    s->metadata = qs_calloc(2 * json_object_size(metadata) + 1, sizeof *s->metadata);
    json_object_foreach((json_t *)(uintptr_t)metadata, key, value)
    {
        if (!json_is_string(value))
            QS_FAIL(e, QS_EFORMAT, "%s: __metadata__ entry %s is not a string", p->path, key);
        s->metadata[2 * s->metadata_count] = (char *)(uintptr_t)keep(p, key);
        s->metadata[2 * s->metadata_count++ + 1] = (char *)(uintptr_t)keep(p, json_string_value(value));
    }
    return 0;
}

static int take_tensor(parser *p, const char *name, const json_t *entry, qs_err *e)
{
    qs_safetensors *s = p->out;
    if (s->count == p->capacity) {
        p->capacity = 2 * p->capacity + 64;
        s->tensors = qs_realloc(s->tensors, (size_t)p->capacity * sizeof *s->tensors);
    }
    qs_source_tensor *t = &s->tensors[s->count];
    *t = (qs_source_tensor){0};
    QS_TRY(read_entry(p->path, name, entry, t, e));
    t->name = (char *)(uintptr_t)keep(p, name);
    s->count++;
    return 0;
}

/* "name": {...} */
static int next_entry(parser *p, qs_err *e)
{
    json_t *name = NULL, *entry = NULL;
    int rc = next_value(p, '"', &name, e);
    if (!rc && peek(p) != ':') rc = malformed(p, "':' expected", p->at, e);
    p->at++;
    bool metadata = !rc && !strcmp(json_string_value(name), "__metadata__");
    if (!rc && metadata && peek(p) != '{')
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s: __metadata__ is not an object", p->path);
    if (!rc && peek(p) != '{')
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                        "%s: tensor %s lacks a dtype, a shape or a pair of data_offsets", p->path,
                        json_string_value(name));
    if (!rc) rc = next_value(p, '{', &entry, e);
    if (!rc) rc = metadata ? take_metadata(p, entry, e) : take_tensor(p, json_string_value(name), entry, e);
    json_decref(name);
    json_decref(entry);
    return rc;
}

static int take_apart(parser *p, qs_err *e)
{
    p->at = 1; /* after the brace that was looked at */
    if (peek(p) == '}')
        p->at++;
    else
        for (char c = ','; c == ',';) {
            QS_TRY(next_entry(p, e));
            c = peek(p);
            if (c != ',' && c != '}') return malformed(p, "',' or '}' expected", p->at, e);
            p->at++;
        }
    return peek(p) || p->at < p->bytes ? malformed(p, "end of the header expected", p->at, e) : 0;
}

/* Names by their final addresses, the spare memory given back, and none twice. */
static int settle_names(parser *p, qs_err *e)
{
    qs_safetensors *s = p->out;
    size_t slots = 16;
    int rc = 0;
    s->memory = qs_realloc(s->memory, p->store_bytes + 1);
    s->tensors = qs_realloc(s->tensors, ((size_t)s->count + 1) * sizeof *s->tensors);
    for (int i = 0; i < 2 * s->metadata_count; i++) s->metadata[i] = s->memory + (uintptr_t)s->metadata[i];
    for (int i = 0; i < s->count; i++) s->tensors[i].name = s->memory + (uintptr_t)s->tensors[i].name;
    while (slots < 2 * (size_t)s->count) slots *= 2;
    int32_t *seen = qs_calloc(slots, sizeof *seen); /* tensor + 1 by the hash of its name */
    for (int i = 0; i < s->count && !rc; i++) {
        const char *name = s->tensors[i].name;
        size_t slot = XXH3_64bits(name, strlen(name)) & (slots - 1);
        for (; seen[slot] && !rc; slot = (slot + 1) & (slots - 1))
            if (!strcmp(s->tensors[seen[slot] - 1].name, name))
                rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                                "%s: its header is not valid JSON: duplicate object key \"%s\"", p->path,
                                name);
        seen[slot] = i + 1;
    }
    qs_free(seen);
    return rc;
}

/* Fills *s from the header's text. data_begin is the file offset of the data. */
static int read_entries(const char *path, const char *text, size_t bytes, uint64_t data_begin,
                        qs_safetensors *s, qs_err *e)
{
    parser p = {.path = path, .text = text, .bytes = bytes, .out = s};
    QS_TRY(take_apart(&p, e));
    QS_TRY(settle_names(&p, e));

    qsort(s->tensors, (size_t)s->count, sizeof *s->tensors, by_place);
    uint64_t end = 0;
    for (int i = 0; i < s->count; i++) {
        qs_source_tensor *t = &s->tensors[i];
        if (t->offset != end)
            QS_FAIL(e, QS_EFORMAT,
                    "%s: tensor %s begins at data byte %llu, where %llu was expected: tensors overlap or "
                    "leave a hole",
                    path, t->name, (unsigned long long)t->offset, (unsigned long long)end);
        end += t->bytes; /* cannot overflow: begin + bytes is the end, an int64 in the header */
        t->offset += data_begin;
    }
    if (s->file_bytes - data_begin != end)
        QS_FAIL(e, QS_EFORMAT,
                "%s: has %llu bytes of tensor data where its header describes %llu: the file is %s", path,
                (unsigned long long)(s->file_bytes - data_begin), (unsigned long long)end,
                s->file_bytes - data_begin < end ? "truncated; download it again"
                                                 : "longer than it should be");
    return 0;
}

static int read_header(int fd, const char *path, qs_safetensors *s, qs_err *e)
{
    struct stat st;
    if (fstat(fd, &st)) QS_FAIL(e, QS_EIO, "%s: cannot be examined: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode)) QS_FAIL(e, QS_EFORMAT, "%s: is not a plain file", path);
    s->file_bytes = (uint64_t)st.st_size;
    uint8_t prefix[8];
    uint64_t n = 0;
    if (s->file_bytes < 8) QS_FAIL(e, QS_EFORMAT, "%s: is too short to be a safetensors file", path);
    QS_TRY(read_at(fd, path, prefix, 8, 0, e));
    for (int i = 7; i >= 0; i--) n = n << 8 | prefix[i];
    const char *trouble = n > HEADER_MAX_BYTES && prefix[0] != 0xff ? qs_file_kind_trouble_at(path) : NULL;
    if (trouble) QS_FAIL(e, QS_EFORMAT, "%s: is %s", path, trouble);
    if (n > HEADER_MAX_BYTES || n > s->file_bytes - 8)
        QS_FAIL(
            e, QS_EFORMAT,
            "%s: claims a header of %llu bytes in a file of %llu: not a safetensors file, or a truncated one",
            path, (unsigned long long)n, (unsigned long long)s->file_bytes);

    char *text = qs_malloc(n);
    int rc = read_at(fd, path, text, n, 8, e);
    if (!rc && (!n || text[0] != '{'))
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                        "%s: its header does not begin with '{': not a safetensors file", path);
    if (!rc) {
        s->header_hash = XXH3_64bits(text, n);
        rc = read_entries(path, text, n, 8 + n, s, e);
    }
    qs_free(text);
    return rc;
}

int qs_safetensors_open(const char *path, qs_safetensors *out, qs_err *e)
{
    *out = (qs_safetensors){0};
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* NONBLOCK: opening a pipe must not hang */
    if (fd < 0)
        QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    int rc = read_header(fd, path, out, e);
    close(fd);
    if (rc) qs_safetensors_free(out);
    return rc;
}

void qs_safetensors_free(qs_safetensors *s)
{
    qs_free(s->tensors);
    qs_free(s->metadata);
    qs_free(s->memory);
    *s = (qs_safetensors){0};
}

int qs_safetensors_read_f32(const char *path, const qs_source_tensor *t, float *out, int64_t n, qs_err *e)
{
    if (!t->readable || t->type == QS_U8)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has dtype %s where F32, BF16 or F16 was expected", path,
                t->name, t->type_name);
    size_t width = qs_dtype_bytes(t->type);
    if (n < 0 || t->bytes != (uint64_t)n * width)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has %llu elements where %lld were expected", path, t->name,
                (unsigned long long)(t->bytes / width), (long long)n);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    int rc = 0;
    float block[1024]; /* aligned room for any of the types */
    for (int64_t at = 0, take; at < n && !rc; at += take) {
        take = n - at < 1024 ? n - at : 1024;
        rc = read_at(fd, path, block, (uint64_t)take * width, t->offset + (uint64_t)at * width, e);
        if (!rc) qs_convert(out + at, QS_F32, block, t->type, (size_t)take);
    }
    close(fd);
    return rc;
}
