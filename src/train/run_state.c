#include "src/train/run_state.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <errno.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/log.h"
#include "src/base/memory.h"

enum { FORMAT_VERSION = 1, STATE_MAX_BYTES = 1 << 16 };
static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json", "optimizer.bin"};
enum { FILES = sizeof files / sizeof *files };
static const char state_name[] = "trainer_state.json", prefix[] = "checkpoint-";

/* ---- sums ----------------------------------------------------------------------------------------------------------------- */

static int sum_file(const char *path, uint64_t *bytes, uint64_t *sum, qs_err *e)
{
    FILE *f = fopen(path, "re");
    if (!f) QS_FAIL(e, QS_EIO, "%s: cannot open: %s", path, strerror(errno));
    XXH3_state_t *state = XXH3_createState();
    char *buffer = qs_malloc(1 << 20);
    XXH3_64bits_reset(state);
    *bytes = 0;
    for (size_t n; (n = fread(buffer, 1, 1 << 20, f)) > 0; *bytes += n) XXH3_64bits_update(state, buffer, n);
    bool failed = ferror(f);
    *sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    qs_free(buffer);
    fclose(f);
    if (failed) QS_FAIL(e, QS_EIO, "%s: cannot read", path);
    return 0;
}

/* ---- saving ---------------------------------------------------------------------------------------------------------------- */

static int write_state(const char *dir, qs_engine *g, int64_t step, qs_err *e)
{
    json_t *listed = json_object();
    int rc = 0;
    for (int i = 0; i < FILES && !rc; i++) {
        uint64_t bytes, sum;
        char *path = qs_path_join(dir, files[i]), hex[17];
        rc = sum_file(path, &bytes, &sum, e);
        qs_free(path);
        if (rc) break;
        snprintf(hex, sizeof hex, "%016" PRIx64, sum);
        json_object_set_new(listed, files[i], json_pack("{s:I,s:s}", "bytes", (json_int_t)bytes, "xxh3", hex));
    }
    char key[40];
    snprintf(key, sizeof key, "%016" PRIx64 "%016" PRIx64, g->train_tokens->key[0], g->train_tokens->key[1]);
    const qs_sweep_sizes *s = &g->sweep_config.sizes;
    json_t *root = json_pack("{s:i,s:I,s:s,s:s,s:{s:s,s:i,s:i,s:i,s:I},s:o}", "format", FORMAT_VERSION, "step", (json_int_t)step, "base_model",
                             qs_source_fingerprint(g->source), "data", key, "numeric_identity", "device", g->device->api->name, "threads",
                             g->device->info.threads, "mlp_chunk_tokens", (int)s->mlp_rows, "head_chunk_tokens", (int)s->head_rows, "micro_batch_rows",
                             (json_int_t)g->options->per_device_train_batch_size, "files", listed);
    QS_ASSERT(root);
    const qs_loss_scale *scale = &g->loss_scale;
    if (scale->dynamic)
        json_object_set_new(root, "loss_scale", json_pack("{s:f,s:I,s:I}", "scale", scale->scale, "good_steps", (json_int_t)scale->good_steps,
                                                          "skipped_steps", (json_int_t)scale->skipped));
    char *text = json_dumps(root, JSON_INDENT(2)), *path = qs_path_join(dir, state_name);
    if (!rc) rc = qs_file_replace(path, text, strlen(text), e);
    qs_free(path);
    free(text); /* lint: allow free, jansson allocated it */
    json_decref(root);
    return rc;
}

/* The optimizer's states, layer by layer. */
static int write_states(qs_file_writer *w, qs_engine *g, qs_err *e)
{
    uint64_t bytes;
    qs_pager *states = qs_update_states(g->update, &bytes);
    qs_pager_begin(states, NULL);
    for (int32_t layer = 0; layer < g->lora.layers; layer++) {
        qs_pager_at(states, layer);
        const void *state = qs_pager_acquire(states, layer, QS_PAGE_READ);
        int rc = qs_pager_check(states, e);
        if (!rc) rc = qs_file_append(w, state, bytes, e);
        qs_pager_release(states, layer, false, QS_QUEUE_COUNT);
        QS_TRY(rc);
    }
    return qs_file_commit(w, e);
}

static int write_all(const char *dir, qs_engine *g, int64_t step, qs_err *e)
{
    QS_TRY(qs_dir_create(dir, e));
    QS_TRY(qs_peft_save(dir, &g->lora, g->options->model, g->masters, e));
    char *path = qs_path_join(dir, "optimizer.bin");
    qs_file_writer w;
    int rc = qs_file_begin(path, &w, e);
    if (!rc && (rc = write_states(&w, g, e))) qs_file_abort(&w);
    qs_free(path);
    return rc ? rc : write_state(dir, g, step, e);
}

static int by_step(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return x < y ? -1 : x > y;
}

/* Steps of the checkpoints in OUT, ascending; freed with qs_free. */
static int64_t *list_steps(const char *out_dir, int *count)
{
    DIR *d = opendir(out_dir);
    int64_t *steps = NULL;
    *count = 0;
    if (!d) return NULL;
    for (struct dirent *entry; (entry = readdir(d));) {
        char *end;
        if (strncmp(entry->d_name, prefix, sizeof prefix - 1)) continue;
        long long step = strtoll(entry->d_name + sizeof prefix - 1, &end, 10);
        if (*end || end == entry->d_name + sizeof prefix - 1 || step < 0) continue;
        steps = qs_realloc(steps, (size_t)(*count + 1) * sizeof *steps);
        steps[(*count)++] = step;
    }
    closedir(d);
    if (steps) qsort(steps, (size_t)*count, sizeof *steps, by_step);
    return steps;
}

static char *checkpoint_path(const char *out_dir, int64_t step) { return qs_printf("%s/%s%" PRId64, out_dir, prefix, step); }

static int remove_oldest(const char *out_dir, int keep, qs_err *e)
{
    int count, rc = 0;
    int64_t *steps = list_steps(out_dir, &count);
    for (int i = 0; keep > 0 && i < count - keep && !rc; i++) {
        char *path = checkpoint_path(out_dir, steps[i]);
        rc = qs_dir_remove(path, e);
        qs_free(path);
    }
    qs_free(steps);
    return rc;
}

int qs_run_state_save(const char *out_dir, qs_engine *g, int64_t step, int keep, qs_err *e)
{
    char *path = checkpoint_path(out_dir, step), *temporary = qs_printf("%s/tmp-%s%" PRId64, out_dir, prefix, step);
    int rc = qs_file_exists(temporary) ? qs_dir_remove(temporary, e) : 0;
    if (!rc) rc = write_all(temporary, g, step, e);
    if (!rc) rc = qs_dir_sync(temporary, e);
    if (!rc && qs_file_exists(path)) rc = qs_dir_remove(path, e); /* the same step again, after a resume from an earlier one */
    if (!rc && rename(temporary, path))
        rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be renamed to %s: %s", temporary, path, strerror(errno));
    if (!rc) rc = qs_dir_sync(out_dir, e);
    qs_err ignored = {0};
    if (rc) qs_dir_remove(temporary, &ignored);
    qs_free(path);
    qs_free(temporary);
    return rc ? rc : remove_oldest(out_dir, keep, e);
}

/* ---- finding ---------------------------------------------------------------------------------------------------------------- */

static int read_identity(qs_json j, qs_run_state *out, qs_err *e)
{
    qs_json id = {0};
    const char *device = NULL;
    QS_TRY(qs_json_object(j, "numeric_identity", "numeric_identity.", &id, e));
    if (!id.object) return qs_json_unexpected(j, "numeric_identity", QS_EFORMAT, "an object", e);
    QS_TRY(qs_json_string(id, "device", &device, e));
    QS_TRY(qs_json_int32(id, "threads", 1, 1 << 20, &out->identity.threads, e));
    /* Checkpoints written before the sizes had these names. */
    QS_TRY(qs_json_int32(id, "mlp_tile_rows", 1, INT32_MAX, &out->identity.mlp_rows, e));
    QS_TRY(qs_json_int32(id, "head_tile_rows", 1, INT32_MAX, &out->identity.head_rows, e));
    QS_TRY(qs_json_int32(id, "mlp_chunk_tokens", 1, INT32_MAX, &out->identity.mlp_rows, e));
    QS_TRY(qs_json_int32(id, "head_chunk_tokens", 1, INT32_MAX, &out->identity.head_rows, e));
    QS_TRY(qs_json_int32(id, "micro_batch_rows", 1, 65536, &out->identity.micro_batch_rows, e));
    snprintf(out->identity.device, sizeof out->identity.device, "%s", device ? device : "");
    return 0;
}

/* Absent in runs of other types. */
static int read_loss_scale(qs_json j, qs_loss_scale *out, qs_err *e)
{
    qs_json scale = {0};
    *out = qs_loss_scale_start(false);
    QS_TRY(qs_json_object(j, "loss_scale", "loss_scale.", &scale, e));
    if (!scale.object) return 0;
    *out = qs_loss_scale_start(true);
    QS_TRY(qs_json_number(scale, "scale", 1, 0x1p127, &out->scale, e));
    QS_TRY(qs_json_int(scale, "good_steps", 0, QS_LOSS_SCALE_INTERVAL, &out->good_steps, e));
    return qs_json_int(scale, "skipped_steps", 0, INT64_MAX, &out->skipped, e);
}

static int check_files(const char *dir, qs_json j, qs_err *e)
{
    qs_json list = {0};
    QS_TRY(qs_json_object(j, "files", "files.", &list, e));
    if (!list.object) return qs_json_unexpected(j, "files", QS_EFORMAT, "an object", e);
    for (int i = 0; i < FILES; i++) {
        qs_json f = {0};
        const char *hex = NULL;
        int64_t want = -1;
        uint64_t bytes, sum;
        QS_TRY(qs_json_object(list, files[i], files[i], &f, e));
        if (!f.object) return qs_json_unexpected(list, files[i], QS_EFORMAT, "an object", e);
        QS_TRY(qs_json_int(f, "bytes", 0, INT64_MAX, &want, e));
        QS_TRY(qs_json_string(f, "xxh3", &hex, e));
        char *path = qs_path_join(dir, files[i]);
        int rc = sum_file(path, &bytes, &sum, e);
        if (!rc && (bytes != (uint64_t)want || !hex || strtoull(hex, NULL, 16) != sum))
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                            "%s: its content is not what %s recorded when it was saved; resume from another checkpoint", path, state_name);
        qs_free(path);
        QS_TRY(rc);
    }
    return 0;
}

static int read_state(const char *dir, json_t **root, qs_run_state *out, qs_err *e)
{
    char *path = qs_path_join(dir, state_name), *text = NULL;
    size_t bytes;
    int rc = qs_file_read(path, STATE_MAX_BYTES, &text, &bytes, e);
    if (!rc) rc = qs_json_parse(text, bytes, path, root, e);
    qs_json j = {rc ? NULL : *root, path, ""};
    int64_t format = 0;
    const char *fingerprint = NULL, *key = NULL;
    out->step = -1;
    if (!rc) rc = qs_json_int(j, "format", 0, INT32_MAX, &format, e);
    if (!rc && format != FORMAT_VERSION)
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s: format %d is not the one this program reads (%d); resume with the version that wrote it",
                        path, (int)format, FORMAT_VERSION);
    if (!rc) rc = qs_json_int(j, "step", 0, INT64_MAX, &out->step, e);
    if (!rc) rc = qs_json_string(j, "base_model", &fingerprint, e);
    if (!rc) rc = qs_json_string(j, "data", &key, e);
    if (!rc && (out->step < 0 || !fingerprint || strlen(fingerprint) >= sizeof out->fingerprint || !key || strlen(key) != 32))
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s: step, base_model or data is missing; resume from another checkpoint", path);
    if (!rc) {
        snprintf(out->fingerprint, sizeof out->fingerprint, "%s", fingerprint);
        sscanf(key, "%16" SCNx64 "%16" SCNx64, &out->data_key[0], &out->data_key[1]);
        rc = read_identity(j, out, e);
    }
    if (!rc) rc = read_loss_scale(j, &out->loss_scale, e);
    if (!rc) rc = check_files(dir, j, e);
    qs_free(text);
    qs_free(path);
    return rc;
}

static int inspect(const char *dir, qs_run_state *out, qs_err *e)
{
    json_t *root = NULL;
    int rc = read_state(dir, &root, out, e);
    json_decref(root);
    return rc;
}

int qs_run_state_find(const char *out_dir, const char *named, char **path, qs_run_state *out, qs_err *e)
{
    *path = NULL;
    if (named) {
        QS_TRY(inspect(named, out, e));
        *path = qs_strdup(named);
        return 0;
    }
    int count;
    int64_t *steps = list_steps(out_dir, &count);
    for (int i = count - 1; i >= 0 && !*path; i--) {
        char *candidate = checkpoint_path(out_dir, steps[i]);
        qs_err why = {0};
        if (!inspect(candidate, out, &why)) {
            *path = candidate;
            break;
        }
        qs_warn("%s is passed over: %s", candidate, why.text);
        qs_free(candidate);
    }
    qs_free(steps);
    return 0;
}

/* ---- loading ---------------------------------------------------------------------------------------------------------------- */

static int read_states(FILE *f, const char *file, qs_engine *g, qs_err *e)
{
    uint64_t bytes;
    qs_pager *states = qs_update_states(g->update, &bytes);
    bool whole = true;
    qs_pager_begin(states, NULL);
    for (int32_t layer = 0; layer < g->lora.layers && whole; layer++) {
        qs_pager_at(states, layer);
        whole = fread(qs_pager_acquire(states, layer, QS_PAGE_NEW), 1, bytes, f) == bytes;
        qs_pager_release(states, layer, true, QS_QUEUE_COUNT);
    }
    if (!whole || fgetc(f) != EOF)
        QS_FAIL(e, QS_EFORMAT, "%s: the optimizer needs %" PRIu64 " bytes of state and the file does not hold just that; "
                "use the --optim and LoRA options of the run", file, bytes * (uint64_t)g->lora.layers);
    return qs_pager_check(states, e);
}

int qs_run_state_load(const char *path, const qs_run_state *state, qs_engine *g, qs_err *e)
{
    if (strcmp(state->fingerprint, qs_source_fingerprint(g->source)))
        QS_FAIL(e, QS_EINVAL, "%s was trained on another base model than %s (fingerprint %s, found %s); give the --model it was started with",
                path, g->options->model, state->fingerprint, qs_source_fingerprint(g->source));
    if (memcmp(state->data_key, g->train_tokens->key, sizeof state->data_key))
        QS_FAIL(e, QS_EINVAL, "%s was trained on other data, or on data tokenised otherwise, than %s now; give the data and options it was started with",
                path, g->options->data.items[0]);
    if (state->loss_scale.dynamic != g->loss_scale.dynamic)
        QS_FAIL(e, QS_EINVAL, "%s was trained %s fp16 and now it is %s; use the --compute_dtype of the run", path, g->loss_scale.dynamic ? "without" : "in",
                qs_dtype_name(g->sweep_config.type));
    g->loss_scale = state->loss_scale;
    QS_TRY(qs_peft_load(path, &g->lora, &g->architecture, g->masters, e));
    char *file = qs_path_join(path, "optimizer.bin");
    FILE *f = fopen(file, "re");
    int rc = f ? 0 : qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot open: %s", file, strerror(errno));
    if (!rc) rc = read_states(f, file, g, e);
    if (f) fclose(f);
    qs_free(file);
    return rc;
}
