/* synth_weights.c - a recipe's tensors as safetensors: for tools that know no recipes, and to test that both
 * read the same. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "offload/plan.h"
#include "src/base/memory.h"
#include "src/commands/synth.h"

#define WEIGHTS_MAX_BYTES (UINT64_C(20000000000))
#define SHARD_BYTES (UINT64_C(1) << 30)
#define INDEX_NAME "model.safetensors.index.json"

static const char *const metadata[] = {"format", "pt"};

/* The first tensor that does not go into the shard which begins with `first`. */
static int shard_end(const qs_source *s, int first)
{
    uint64_t bytes = qs_source_at(s, first)->bytes;
    int end = first + 1;
    while (end < qs_source_count(s) && bytes + qs_source_at(s, end)->bytes <= SHARD_BYTES)
        bytes += qs_source_at(s, end++)->bytes;
    return end;
}

/* Generated reads need no engine. */
static int load(qs_source *s, const qs_source_tensor *t, void *data, qs_err *e)
{
    qs_source_read r = {.tensor = t, .bytes = t->bytes, .buffer = data};
    qs_source_read_start(s, NULL, &r);
    return qs_source_read_finish(s, NULL, &r, e);
}

static int write_shard(qs_source *s, const char *path, int first, int end, qs_err *e)
{
    uint64_t bytes = 0, used = 0;
    for (int i = first; i < end; i++) bytes += qs_source_at(s, i)->bytes;
    qs_region memory;
    QS_TRY(qs_region_map(&memory, bytes, "a shard", e));
    qs_safetensors_entry *entries = qs_calloc((size_t)(end - first), sizeof *entries);
    int rc = 0;
    for (int i = first; i < end && !rc; i++) {
        const qs_source_tensor *t = qs_source_at(s, i);
        qs_safetensors_entry *entry = &entries[i - first];
        *entry = (qs_safetensors_entry){
            .name = t->name, .type = t->type, .dims = t->dims, .data = (char *)memory.base + used};
        memcpy(entry->shape, t->shape, sizeof t->shape);
        rc = load(s, t, (char *)memory.base + used, e);
        used += t->bytes;
    }
    if (!rc) rc = qs_safetensors_write(path, entries, end - first, metadata, 1, e);
    qs_free(entries);
    qs_region_free(&memory);
    return rc;
}

/* The index comes last: until it is there the recipe counts, and the shards are not looked at. */
static int write_index(const char *dir, json_t *map, uint64_t bytes, qs_err *e)
{
    json_t *root =
        json_pack("{s:{s:I}, s:O}", "metadata", "total_size", (json_int_t)bytes, "weight_map", map);
    size_t n = json_dumpb(root, NULL, 0, JSON_INDENT(2));
    char *text = qs_malloc(n), *path = qs_path_join(dir, INDEX_NAME);
    json_dumpb(root, text, n, JSON_INDENT(2));
    int rc = qs_file_replace(path, text, n, e);
    qs_free(path);
    qs_free(text);
    json_decref(root);
    return rc;
}

static int write_all(const char *dir, qs_source *s, uint64_t bytes, qs_err *e)
{
    int shards = 0, shard = 0, rc = 0;
    for (int i = 0; i < qs_source_count(s); i = shard_end(s, i)) shards++;
    json_t *map = json_object();
    for (int i = 0, end; i < qs_source_count(s) && !rc; i = end) {
        char name[64];
        end = shard_end(s, i);
        snprintf(name, sizeof name, "model-%05d-of-%05d.safetensors", ++shard, shards);
        char *path = qs_path_join(dir, name);
        rc = write_shard(s, path, i, end, e);
        qs_free(path);
        for (int k = i; k < end; k++) json_object_set_new(map, qs_source_at(s, k)->name, json_string(name));
    }
    if (!rc) rc = write_index(dir, map, bytes, e);
    json_decref(map);
    return rc;
}

static int check_room(const char *dir, uint64_t bytes, qs_err *e)
{
    char need[16], found[16];
    uint64_t available;
    if (bytes > WEIGHTS_MAX_BYTES)
        QS_FAIL(e, QS_EINVAL,
                "--weights would write %s; it is for shapes of up to 20 GB: leave it out, the recipe alone "
                "will do, or cut --layers",
                qs_format_bytes(bytes, need));
    QS_TRY(qs_dir_free_bytes(dir, &available, e));
    if (available < bytes + (64u << 20))
        QS_FAIL(e, QS_EIO, "%s: the weights need %s and the disk has %s left", dir,
                qs_format_bytes(bytes, need), qs_format_bytes(available, found));
    return 0;
}

int qs_synth_weights(const char *dir, qs_err *e)
{
    qs_source *s;
    QS_TRY(qs_source_open(dir, &s, e));
    uint64_t bytes = 0;
    for (int i = 0; i < qs_source_count(s); i++) bytes += qs_source_at(s, i)->bytes;
    int rc = check_room(dir, bytes, e);
    if (!rc) rc = write_all(dir, s, bytes, e);
    qs_source_close(s);
    return rc;
}
