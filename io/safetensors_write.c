#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "src/base/memory.h"

/* Places in the order of the Rust enum, which is the order of widths; the writer goes from the last to the
 * first. */
static const struct {
    const char *name;
    int rank;
} types[QS_DTYPE_COUNT] = {[QS_U8] = {"U8", 0},
                           [QS_F16] = {"F16", 1},
                           [QS_BF16] = {"BF16", 2},
                           [QS_I32] = {"I32", 3},
                           [QS_F32] = {"F32", 4}};

static int by_layout(const void *a, const void *b)
{
    const qs_safetensors_entry *x = *(const qs_safetensors_entry *const *)a,
                               *y = *(const qs_safetensors_entry *const *)b;
    int d = types[y->type].rank - types[x->type].rank;
    return d ? d : strcmp(x->name, y->name);
}

static uint64_t entry_bytes(const qs_safetensors_entry *t)
{
    uint64_t n = qs_dtype_bytes(t->type);
    for (int d = 0; d < t->dims; d++) n *= (uint64_t)t->shape[d];
    return n;
}

static json_t *describe(const qs_safetensors_entry *t, uint64_t begin)
{
    json_t *shape = json_array();
    for (int d = 0; d < t->dims; d++) json_array_append_new(shape, json_integer(t->shape[d]));
    return json_pack("{s:s, s:o, s:[I, I]}", "dtype", types[t->type].name, "shape", shape, "data_offsets",
                     (json_int_t)begin, (json_int_t)(begin + entry_bytes(t)));
}

/* The header text, padded with spaces to a multiple of 8; freed with free(). NULL and *bad when a name is not
 * UTF-8 or comes twice. */
static char *header_text(const qs_safetensors_entry *const *order, int count, const char *const *metadata,
                         int metadata_count, size_t *bytes, const char **bad)
{
    json_t *root = json_object();
    *bad = NULL;
    if (metadata_count) {
        json_t *map = json_object();
        for (int i = 0; i < metadata_count && !*bad; i++)
            if (json_object_get(map, metadata[2 * i]) ||
                json_object_set_new(map, metadata[2 * i], json_string(metadata[2 * i + 1])))
                *bad = metadata[2 * i];
        json_object_set_new(root, "__metadata__", map);
    }
    uint64_t at = 0;
    for (int i = 0; i < count && !*bad; i++) {
        if (json_object_get(root, order[i]->name) ||
            json_object_set_new(root, order[i]->name, describe(order[i], at)))
            *bad = order[i]->name;
        at += entry_bytes(order[i]);
    }
    char *text = NULL;
    if (!*bad) {
        size_t n = json_dumpb(root, NULL, 0, JSON_COMPACT);
        *bytes = qs_round_up(n, 8);
        text = qs_malloc(*bytes);
        memset(text, ' ', *bytes);
        json_dumpb(root, text, n, JSON_COMPACT);
    }
    json_decref(root);
    return text;
}

static int append_all(qs_file_writer *w, const qs_safetensors_entry *entries,
                      const qs_safetensors_entry *const *order, int count, const qs_safetensors_data *data,
                      const char *header, size_t header_bytes, qs_err *e)
{
    uint8_t prefix[8];
    for (int i = 0; i < 8; i++) prefix[i] = (uint8_t)((uint64_t)header_bytes >> 8 * i);
    QS_TRY(qs_file_append(w, prefix, 8, e));
    QS_TRY(qs_file_append(w, header, header_bytes, e));
    for (int i = 0; i < count; i++) {
        const void *bytes =
            data ? data->data_of(data->context, (int)(order[i] - entries), e) : order[i]->data;
        if (data && !bytes) return e ? -e->code : -QS_EIO;
        QS_TRY(qs_file_append(w, bytes, entry_bytes(order[i]), e));
    }
    return qs_file_commit(w, e);
}

int qs_safetensors_write(const char *path, const qs_safetensors_entry *entries, int count,
                         const char *const *metadata, int metadata_count, qs_err *e)
{
    return qs_safetensors_write_from(path, entries, count, NULL, metadata, metadata_count, e);
}

int qs_safetensors_write_from(const char *path, const qs_safetensors_entry *entries, int count,
                              const qs_safetensors_data *data, const char *const *metadata,
                              int metadata_count, qs_err *e)
{
    const qs_safetensors_entry **order = qs_calloc((size_t)count, sizeof *order);
    for (int i = 0; i < count; i++) order[i] = &entries[i];
    qsort(order, (size_t)count, sizeof *order, by_layout);

    size_t header_bytes = 0;
    const char *bad;
    qs_file_writer w;
    int rc;
    char *header = header_text(order, count, metadata, metadata_count, &header_bytes, &bad);
    if (!header)
        rc = qs_err_set(e, QS_EINVAL, __FILE__, __LINE__, "%s: the name %s comes twice, or is not UTF-8",
                        path, bad);
    else if (!(rc = qs_file_begin(path, &w, e)) &&
             (rc = append_all(&w, entries, order, count, data, header, header_bytes, e)))
        qs_file_abort(&w);
    qs_free(header);
    qs_free(order);
    return rc;
}
