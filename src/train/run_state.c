#include "src/train/run_state.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io/file.h"
#include "io/numbered.h"
#include "io/seal.h"
#include "src/base/json.h"
#include "src/base/log.h"
#include "src/base/hash.h"
#include "src/base/memory.h"
#include "src/options/saved.h"
#include "src/train/checkpoints.h"
#include "src/train/set_aside.h"

enum { FORMAT_VERSION = 2, STATE_MAX_BYTES = 1 << 16 };
static const char *const files[] = {"adapter_model.safetensors", "adapter_config.json", "optimizer.bin",
                                    QS_SAVED_OPTIONS};
enum { FILES = sizeof files / sizeof *files };
static const char state_name[] = "trainer_state.json";

bool qs_run_state_owns(const char *name)
{
    for (int i = 0; i < FILES; i++)
        if (!strcmp(name, files[i])) return true;
    return !strcmp(name, state_name);
}

/* ---- sums -------------------------------------------------------------------------------------------- */

/* Want of descriptors or memory says nothing about the file. */
static int open_error(int error)
{
    return error == ENOENT                                         ? QS_EMISSING
           : error == EMFILE || error == ENFILE || error == ENOMEM ? QS_ENOMEM
                                                                   : QS_EIO;
}

static int sum_file(const char *path, uint64_t *bytes, uint64_t *sum, qs_err *e)
{
    FILE *f = fopen(path, "re");
    if (!f) QS_FAIL(e, open_error(errno), "%s: cannot be opened: %s", path, strerror(errno));
    XXH3_state_t *state = qs_hash_create();
    char *buffer = qs_malloc(1 << 20);
    XXH3_64bits_reset(state);
    *bytes = 0;
    for (size_t n; (n = fread(buffer, 1, 1 << 20, f)) > 0; *bytes += n) XXH3_64bits_update(state, buffer, n);
    int error = ferror(f) ? errno : 0;
    *sum = XXH3_64bits_digest(state);
    XXH3_freeState(state);
    qs_free(buffer);
    fclose(f);
    if (error) QS_FAIL(e, QS_EIO, "%s: cannot be read: %s", path, strerror(error));
    return 0;
}

/* ---- saving ------------------------------------------------------------------------------------------ */

static int list_files(const char *dir, json_t *listed, qs_err *e)
{
    for (int i = 0; i < FILES; i++) {
        uint64_t bytes, sum;
        char *path = qs_path_join(dir, files[i]), hex[17];
        int rc = sum_file(path, &bytes, &sum, e);
        qs_free(path);
        QS_TRY(rc);
        snprintf(hex, sizeof hex, "%016" PRIx64, sum);
        json_object_set_new(listed, files[i],
                            json_pack("{s:I,s:s}", "bytes", (json_int_t)bytes, "xxh3", hex));
    }
    return 0;
}

static json_t *key_text(const uint64_t key[2])
{
    char text[40];
    snprintf(text, sizeof text, "%016" PRIx64 "%016" PRIx64, key[0], key[1]);
    return json_string(text);
}

/* Everything but the list of files. */
static json_t *describe(const qs_run_state *s)
{
    const qs_numeric_identity *id = &s->identity;
    char options[17];
    snprintf(options, sizeof options, "%016" PRIx64, s->options_key);
    json_t *root = json_pack(
        "{s:i,s:I,s:s,s:s,s:o,s:{s:s,s:s,s:s,s:s,s:i,s:i,s:i,s:i},s:{s:I,s:f}}", "format", FORMAT_VERSION,
        "step", (json_int_t)s->step, "options", options, "base_model", s->fingerprint, "data",
        key_text(s->data_key), "numeric_identity", "device", id->device, "kernels", id->kernels, "isa",
        id->isa, "compute_dtype", id->compute_dtype, "threads", id->threads, "mlp_chunk_tokens", id->mlp_rows,
        "head_chunk_tokens", id->head_rows, "micro_batch_rows", id->micro_batch_rows, "schedule",
        "total_steps", (json_int_t)s->total_steps, "next_learning_rate", s->next_learning_rate);
    QS_ASSERT(root);
    if (s->best.step)
        json_object_set_new(root, "best",
                            json_pack("{s:I,s:f,s:I}", "step", (json_int_t)s->best.step, "value",
                                      s->best.value, "validations_since", (json_int_t)s->best.stale));
    if (s->validate) json_object_set_new(root, "validate", json_true());
    if (s->eval_key[0] | s->eval_key[1]) json_object_set_new(root, "eval_data", key_text(s->eval_key));
    if (s->loss_scale.dynamic)
        json_object_set_new(root, "loss_scale",
                            json_pack("{s:f,s:I,s:I}", "scale", s->loss_scale.scale, "good_steps",
                                      (json_int_t)s->loss_scale.good_steps, "skipped_steps",
                                      (json_int_t)s->loss_scale.skipped));
    return root;
}

static int write_state(const char *dir, const qs_run_state *s, qs_err *e)
{
    json_t *root = describe(s), *listed = json_object();
    int rc = list_files(dir, listed, e);
    json_object_set_new(root, "files", listed);
    if (!rc) {
        char seal[QS_SEAL_BYTES], *text = json_dumps(root, JSON_INDENT(2)),
                                  *path = qs_path_join(dir, state_name);
        int n = (int)strlen(text) - 2; /* without the last "\n}", which the seal brings */
        qs_seal_make(&qs_seal_json, text, (size_t)n, seal);
        char *sealed = qs_printf("%.*s%s", n, text, seal);
        rc = qs_file_replace(path, sealed, strlen(sealed), e);
        qs_free(sealed);
        qs_free(path);
        free(text); /* lint: allow free, jansson allocated it */
    }
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

static int write_options(const char *dir, const char *text, qs_err *e)
{
    char *path = qs_path_join(dir, QS_SAVED_OPTIONS);
    int rc = qs_file_replace(path, text, strlen(text), e);
    qs_free(path);
    return rc;
}

static int write_all(const char *dir, qs_engine *g, const qs_run_state *s, const char *options_text,
                     qs_err *e)
{
    QS_TRY(qs_dir_create(dir, e));
    QS_TRY(qs_peft_save(dir, &g->lora, g->options->model, g->masters, e));
    QS_TRY(write_options(dir, options_text, e));
    char *path = qs_path_join(dir, "optimizer.bin");
    qs_file_writer w;
    int rc = qs_file_begin(path, &w, e);
    if (!rc && (rc = write_states(&w, g, e))) qs_file_abort(&w);
    qs_free(path);
    return rc ? rc : write_state(dir, s, e);
}

void qs_run_state_describe(const qs_engine *g, qs_run_state *out)
{
    const qs_sweep_sizes *s = &g->sweep_config.sizes;
    out->identity = (qs_numeric_identity){.mlp_rows = (int32_t)s->mlp_rows,
                                          .head_rows = (int32_t)s->head_rows,
                                          .threads = g->device->info.threads,
                                          .micro_batch_rows = g->job.micro_batch_rows};
    snprintf(out->identity.device, sizeof out->identity.device, "%s", g->device->api->name);
    snprintf(out->identity.kernels, sizeof out->identity.kernels, "%s",
             qs_device_kernels(g->device, g->sweep_config.type));
    snprintf(out->identity.isa, sizeof out->identity.isa, "%s", g->device->info.isa);
    snprintf(out->identity.compute_dtype, sizeof out->identity.compute_dtype, "%s",
             qs_dtype_name(g->sweep_config.type));
    snprintf(out->fingerprint, sizeof out->fingerprint, "%s", qs_source_fingerprint(g->source));
    memcpy(out->data_key, g->train_tokens->key, sizeof out->data_key);
    if (g->eval_tokens) memcpy(out->eval_key, g->eval_tokens->key, sizeof out->eval_key);
    out->loss_scale = g->loss_scale;
}

int qs_run_state_save(const char *out_dir, qs_engine *g, const qs_run_state *s, const char *options_text,
                      qs_err *e)
{
    char *path = qs_numbered_path(out_dir, QS_CHECKPOINT, s->step),
         *temporary = qs_numbered_path(out_dir, QS_CHECKPOINT_TEMPORARY, s->step);
    int rc = qs_file_exists(temporary) ? qs_dir_remove(temporary, e) : 0;
    if (!rc) rc = write_all(temporary, g, s, options_text, e);
    if (!rc) rc = qs_dir_sync(temporary, e);
    if (!rc) rc = qs_set_aside(path, e);
    if (!rc && rename(temporary, path))
        rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be renamed to %s: %s", temporary, path,
                        strerror(errno));
    if (!rc) rc = qs_dir_sync(out_dir, e);
    qs_err ignored = {0};
    if (rc) qs_dir_remove(temporary, &ignored);
    qs_free(path);
    qs_free(temporary);
    return rc;
}

/* ---- finding ----------------------------------------------------------------------------------------- */

static int read_identity(qs_json j, qs_run_state *out, qs_err *e)
{
    qs_json id = {0};
    const char *device = NULL, *kernels = NULL, *isa = NULL, *type = NULL;
    QS_TRY(qs_json_object(j, "numeric_identity", "numeric_identity.", &id, e));
    if (!id.object) return qs_json_unexpected(j, "numeric_identity", QS_EFORMAT, "an object", e);
    QS_TRY(qs_json_string(id, "device", &device, e));
    QS_TRY(qs_json_string(id, "kernels", &kernels, e));
    QS_TRY(qs_json_string(id, "isa", &isa, e));
    QS_TRY(qs_json_string(id, "compute_dtype", &type, e));
    QS_TRY(qs_json_int32(id, "threads", 1, 1 << 20, &out->identity.threads, e));
    QS_TRY(qs_json_int32(id, "mlp_chunk_tokens", 1, INT32_MAX, &out->identity.mlp_rows, e));
    QS_TRY(qs_json_int32(id, "head_chunk_tokens", 1, INT32_MAX, &out->identity.head_rows, e));
    QS_TRY(qs_json_int32(id, "micro_batch_rows", 1, 65536, &out->identity.micro_batch_rows, e));
    snprintf(out->identity.device, sizeof out->identity.device, "%s", device ? device : "");
    snprintf(out->identity.kernels, sizeof out->identity.kernels, "%s", kernels ? kernels : "");
    snprintf(out->identity.isa, sizeof out->identity.isa, "%s", isa ? isa : "");
    snprintf(out->identity.compute_dtype, sizeof out->identity.compute_dtype, "%s", type ? type : "");
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
            rc = qs_err_set(
                e, QS_EFORMAT, __FILE__, __LINE__,
                "%s: its content is not what %s recorded when it was saved; resume from another checkpoint",
                path, state_name);
        qs_free(path);
        QS_TRY(rc);
    }
    return 0;
}

static int read_key(qs_json j, const char *name, uint64_t out[2], qs_err *e)
{
    const char *text = NULL;
    QS_TRY(qs_json_string(j, name, &text, e));
    if (text && sscanf(text, "%16" SCNx64 "%16" SCNx64, &out[0], &out[1]) != 2)
        return qs_json_unexpected(j, name, QS_EFORMAT, "32 hexadecimal digits", e);
    return 0;
}

static int read_schedule(qs_json j, qs_run_state *out, qs_err *e)
{
    qs_json schedule = {0};
    QS_TRY(qs_json_object(j, "schedule", "schedule.", &schedule, e));
    if (!schedule.object) return 0;
    QS_TRY(qs_json_int(schedule, "total_steps", 0, INT64_MAX, &out->total_steps, e));
    return qs_json_number(schedule, "next_learning_rate", -1e300, 1e300, &out->next_learning_rate, e);
}

/* Absent before the first validation. */
static int read_best(qs_json j, qs_best *out, qs_err *e)
{
    qs_json best = {0};
    QS_TRY(qs_json_object(j, "best", "best.", &best, e));
    if (!best.object) return 0;
    QS_TRY(qs_json_int(best, "step", 0, INT64_MAX, &out->step, e));
    QS_TRY(qs_json_number(best, "value", -INFINITY, INFINITY, &out->value, e));
    return qs_json_int(best, "validations_since", 0, INT64_MAX, &out->stale, e);
}

static int read_members(qs_json j, qs_run_state *out, qs_err *e)
{
    const char *fingerprint = NULL, *options = NULL;
    out->step = -1;
    QS_TRY(qs_json_int(j, "step", 0, INT64_MAX, &out->step, e));
    QS_TRY(qs_json_string(j, "options", &options, e));
    QS_TRY(qs_json_string(j, "base_model", &fingerprint, e));
    if (out->step < 0 || !options || !fingerprint || strlen(fingerprint) >= sizeof out->fingerprint)
        QS_FAIL(e, QS_EFORMAT, "%s: step, options or base_model is missing; resume from another checkpoint",
                j.file);
    snprintf(out->fingerprint, sizeof out->fingerprint, "%s", fingerprint);
    out->options_key = strtoull(options, NULL, 16);
    QS_TRY(read_key(j, "data", out->data_key, e));
    QS_TRY(read_key(j, "eval_data", out->eval_key, e));
    QS_TRY(qs_json_bool(j, "validate", &out->validate, e));
    QS_TRY(read_identity(j, out, e));
    QS_TRY(read_best(j, &out->best, e));
    QS_TRY(read_schedule(j, out, e));
    return read_loss_scale(j, &out->loss_scale, e);
}

static int check_format(qs_json j, const char *dir, const char *text, size_t bytes, qs_err *e)
{
    int64_t format = 0;
    QS_TRY(qs_json_int(j, "format", 0, INT32_MAX, &format, e));
    if (format && format < FORMAT_VERSION)
        QS_FAIL(e, QS_EFORMAT,
                "%s: format %d is of an earlier version of this program, whose sums were cut otherwise (this "
                "one reads %d); finish the run with that "
                "version, or begin a new one with --init_adapter %s",
                j.file, (int)format, FORMAT_VERSION, dir);
    if (qs_seal_check(&qs_seal_json, text, bytes) != QS_SEAL_HOLDS)
        QS_FAIL(e, QS_EFORMAT,
                "%s: its content is not what its checksum says; resume from another checkpoint", j.file);
    if (format != FORMAT_VERSION)
        QS_FAIL(e, QS_EFORMAT,
                "%s: format %d is not the one this program reads (%d); resume with the version that wrote it",
                j.file, (int)format, FORMAT_VERSION);
    return 0;
}

int qs_run_state_read(const char *dir, qs_run_state *out, qs_err *e)
{
    char *path = qs_path_join(dir, state_name), *text = NULL;
    json_t *root = NULL;
    size_t bytes;
    *out = (qs_run_state){0};
    int rc = qs_file_read(path, STATE_MAX_BYTES, &text, &bytes, e);
    if (!rc) rc = qs_json_parse(text, bytes, path, &root, e);
    qs_json j = {root, path, ""};
    if (!rc) rc = check_format(j, dir, text, bytes, e);
    if (!rc) rc = read_members(j, out, e);
    if (!rc) rc = check_files(dir, j, e);
    json_decref(root);
    qs_free(text);
    qs_free(path);
    return rc;
}

int qs_run_state_find(const char *out_dir, const char *named, char **path, qs_run_state *out, qs_err *e)
{
    *path = NULL;
    if (named) {
        QS_TRY(qs_run_state_read(named, out, e));
        *path = qs_strdup(named);
        return 0;
    }
    int count, rc = 0;
    int64_t *steps;
    qs_err newest = {0};
    QS_TRY(qs_numbered_list(out_dir, QS_CHECKPOINT, &steps, &count, e));
    for (int i = count - 1; i >= 0 && !*path && !rc; i--) {
        char *candidate = qs_numbered_path(out_dir, QS_CHECKPOINT, steps[i]);
        qs_err why = {0};
        int damaged = qs_run_state_read(candidate, out, &why);
        if (!damaged) {
            *path = candidate;
            break;
        }
        if (damaged == -QS_ENOMEM)
            rc = qs_err_set(e, QS_ENOMEM, __FILE__, __LINE__, "%s", why.text);
        else
            qs_warn("%s is passed over: %s", candidate, why.text);
        if (!newest.code) newest = why;
        qs_free(candidate);
    }
    qs_free(steps);
    if (!rc && count && !*path)
        QS_FAIL(e, QS_EFORMAT,
                "%s: none of its %d checkpoints can be resumed (%.400s); nothing was changed: to start "
                "afresh choose another --out, or move them away",
                out_dir, count, newest.text);
    return rc;
}

/* ---- loading ----------------------------------------------------------------------------------------- */

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
        QS_FAIL(e, QS_EFORMAT,
                "%s: the optimizer needs %" PRIu64 " bytes of state and the file does not hold just that; "
                "use the --optim and LoRA options of the run",
                file, bytes * (uint64_t)g->lora.layers);
    return qs_pager_check(states, e);
}

int qs_run_state_load(const char *path, const qs_run_state *state, qs_engine *g, qs_err *e)
{
    if (strcmp(state->fingerprint, qs_source_fingerprint(g->source)))
        QS_FAIL(e, QS_EINVAL,
                "%s was trained on another base model than %s (fingerprint %s, found %s); give the --model "
                "it was started with",
                path, g->options->model, state->fingerprint, qs_source_fingerprint(g->source));
    if (memcmp(state->data_key, g->train_tokens->key, sizeof state->data_key))
        QS_FAIL(e, QS_EINVAL,
                "%s was trained on other data, or on data tokenised otherwise, than %s now; give the data "
                "and options it was started with",
                path, g->options->data.items[0]);
    uint64_t none[2] = {0};
    if (memcmp(state->eval_key, g->eval_tokens ? g->eval_tokens->key : none, sizeof none))
        qs_warn("eval_data is not what %s was validated on: its validation losses cannot be compared with "
                "those so far",
                path);
    if (state->loss_scale.dynamic != g->loss_scale.dynamic)
        QS_FAIL(e, QS_EINVAL, "%s was trained %s fp16 and now it is %s; use the --compute_dtype of the run",
                path, g->loss_scale.dynamic ? "without" : "in", qs_dtype_name(g->sweep_config.type));
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
