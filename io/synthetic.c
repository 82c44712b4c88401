#include "io/synthetic.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/memory.h"

enum { FORMAT = 1, RECIPE_MAX_BYTES = 64 << 20, NAME_MAX_BYTES = 256 };

/* ---- the recipe -------------------------------------------------------------------------------------- */

/* [rows] or [rows, columns] of a tensor, all positive, the bytes below 2^62. */
static int read_shape(const char *path, const char *name, const json_t *shape, qs_source_tensor *t, qs_err *e)
{
    size_t dims = json_array_size(shape);
    if (!json_is_array(shape) || dims < 1 || dims > 2 || strlen(name) >= NAME_MAX_BYTES)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %.100s: expected a list of one or two sizes", path, name);
    *t = (qs_source_tensor){
        .type = QS_BF16, .readable = true, .type_name = "BF16", .dims = (int)dims, .bytes = 2};
    for (size_t d = 0; d < dims; d++) {
        json_int_t n = json_integer_value(json_array_get(shape, d));
        if (n < 1 || n > INT32_MAX)
            QS_FAIL(e, QS_EFORMAT, "%s: tensor %.100s: size %zu is not a number in [1, 2^31)", path, name, d);
        t->shape[d] = n;
        t->bytes *= (uint64_t)n;
    }
    return 0;
}

static int read_tensors(qs_json j, qs_synthetic *s, qs_err *e)
{
    qs_json list;
    QS_TRY(qs_json_object(j, "tensors", "tensors.", &list, e));
    if (!list.object || !json_object_size(list.object)) QS_FAIL(e, QS_EFORMAT, "%s: has no tensors", j.file);
    size_t n = json_object_size(list.object), used = 0, name_bytes = 0;
    const char *name;
    json_t *shape;
    json_object_foreach((json_t *)(uintptr_t)list.object, name, shape) name_bytes += strlen(name) + 1;
    s->tensors = qs_calloc(n, sizeof *s->tensors);
    s->names = qs_malloc(name_bytes);
    json_object_foreach((json_t *)(uintptr_t)list.object, name, shape)
    {
        qs_source_tensor *t = &s->tensors[s->count];
        QS_TRY(read_shape(j.file, name, shape, t, e));
        t->name = memcpy(s->names + used, name, strlen(name) + 1);
        used += strlen(name) + 1;
        s->count++;
    }
    return 0;
}

static int read_recipe(qs_json j, qs_synthetic *s, qs_err *e)
{
    int64_t format = 0, seed = 0;
    double std = 0.02;
    QS_TRY(qs_json_int(j, "format", INT32_MIN, INT32_MAX, &format, e));
    if (format != FORMAT)
        return qs_json_unexpected(j, "format", QS_EUNSUP, "1: the recipe was written by another version", e);
    QS_TRY(qs_json_int(j, "seed", 0, INT64_MAX, &seed, e));
    QS_TRY(qs_json_number(j, "std", 0, 100, &std, e));
    s->seed = (uint64_t)seed;
    s->std = (float)std;
    return read_tensors(j, s, e);
}

int qs_synthetic_parse(const char *name, const char *text, size_t bytes, qs_synthetic *out, qs_err *e)
{
    json_t *root = NULL;
    XXH128_hash_t hash = XXH3_128bits(text, bytes);
    *out = (qs_synthetic){.path = qs_strdup(name)};
    snprintf(out->fingerprint, sizeof out->fingerprint, "%016llx%016llx", (unsigned long long)hash.high64,
             (unsigned long long)hash.low64);
    int rc = qs_json_parse(text, bytes, name, &root, e);
    if (!rc) rc = read_recipe((qs_json){root, out->path, ""}, out, e);
    json_decref(root);
    return rc;
}

int qs_synthetic_open(const char *path, qs_synthetic *out, qs_err *e)
{
    char *text;
    size_t bytes;
    *out = (qs_synthetic){0};
    QS_TRY(qs_file_read(path, RECIPE_MAX_BYTES, &text, &bytes, e));
    int rc = qs_synthetic_parse(path, text, bytes, out, e);
    qs_free(text);
    return rc;
}

void qs_synthetic_free(qs_synthetic *s)
{
    qs_free(s->tensors);
    qs_free(s->names);
    qs_free(s->path);
    *s = (qs_synthetic){0};
}

char *qs_synthetic_text(const char *shape_name, uint64_t seed, double std, const qs_synthetic_entry *entries,
                        int count, size_t *bytes)
{
    json_t *tensors = json_object();
    for (int i = 0; i < count; i++) {
        json_t *shape = json_array();
        for (int d = 0; d < 2 && entries[i].shape[d]; d++)
            json_array_append_new(shape, json_integer(entries[i].shape[d]));
        json_object_set_new(tensors, entries[i].name, shape);
    }
    json_t *root = json_pack("{s:i, s:s, s:I, s:f, s:o}", "format", FORMAT, "shape", shape_name, "seed",
                             (json_int_t)seed, "std", std, "tensors", tensors);
    *bytes = json_dumpb(root, NULL, 0, JSON_COMPACT);
    char *text = qs_malloc(*bytes + 1);
    json_dumpb(root, text, *bytes, JSON_COMPACT);
    text[(*bytes)++] = '\n';
    json_decref(root);
    return text;
}

int qs_synthetic_write(const char *dir, const char *shape_name, uint64_t seed, double std,
                       const qs_synthetic_entry *entries, int count, qs_err *e)
{
    size_t bytes;
    char *text = qs_synthetic_text(shape_name, seed, std, entries, count, &bytes),
         *path = qs_path_join(dir, QS_SYNTHETIC_NAME);
    int rc = qs_file_replace(path, text, bytes, e);
    qs_free(path);
    qs_free(text);
    return rc;
}

/* ---- the elements ------------------------------------------------------------------------------------ */

/* Compiled for the widest vectors of the machine that runs it; sanitizers run before the resolvers of clones
 * could. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__) && \
    !defined(__SANITIZE_THREAD__)
#define FOR_EACH_CPU __attribute__((target_clones("arch=skylake-avx512", "avx2", "default"), optimize("O3")))
#else
#define FOR_EACH_CPU
#endif

/* out[i] = bf16(mean + scale * (sum of the four bytes of a hash of (k0, k1, first + i) - 510)). The hash is
 * two rounds of xor-shift and multiply with the constants of Wellons' "lowbias32" (hash-prospector), the key
 * going in before each round. Rounds to nearest even: nothing here is a NaN. */
FOR_EACH_CPU
static void fill(uint32_t k0, uint32_t k1, uint32_t first, uint32_t n, float mean, float scale,
                 uint16_t *restrict out)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t h = (first + i) ^ k0;
        h ^= h >> 16;
        h *= 0x7feb352du;
        h ^= (h >> 15) ^ k1;
        h *= 0x846ca68bu;
        h ^= h >> 16;
        uint32_t pairs = (h & 0x00ff00ffu) + (h >> 8 & 0x00ff00ffu);
        int32_t sum = (int32_t)((pairs & 0xffffu) + (pairs >> 16)) - 510;
        float x = mean + scale * (float)sum;
        uint32_t bits;
        memcpy(&bits, &x, 4);
        out[i] = (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
    }
}

static bool ends_with(const char *name, const char *tail)
{
    size_t n = strlen(name), m = strlen(tail);
    return n >= m && !strcmp(name + n - m, tail);
}

void qs_synthetic_generate(const qs_synthetic *s, const qs_source_tensor *t, uint64_t offset, uint64_t bytes,
                           void *out)
{
    /* The sum of four uniform bytes has the variance 4 * (256^2 - 1) / 12. */
    const float scale = s->std * 0.00676587509f;
    const float mean = ends_with(t->name, "norm.weight") ? 1.0f : 0.0f;
    QS_ASSERT(offset % 2 == 0 && bytes % 2 == 0 && offset <= t->bytes && bytes <= t->bytes - offset);
    uint64_t key = XXH3_64bits_withSeed(t->name, strlen(t->name), s->seed);
    uint16_t *to = out;
    for (uint64_t at = offset / 2, end = (offset + bytes) / 2; at < end;) {
        uint64_t stop = (at | UINT32_MAX) + 1; /* the hash counts 32 bits; the bits above go into the key */
        uint64_t n = (stop < end ? stop : end) - at;
        if (n > 1u << 30) n = 1u << 30;
        fill((uint32_t)key, (uint32_t)(key >> 32) + (uint32_t)(at >> 32), (uint32_t)at, (uint32_t)n, mean,
             scale, to);
        to += n;
        at += n;
    }
}
