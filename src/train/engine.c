#include "src/train/engine.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <xxhash.h>

#include "io/checkpoint_identity.h"
#include "io/file.h"
#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/data/token_progress.h"
#include "src/model/shapes.h"
#include "src/model/stored_quant.h"
#include "src/train/lr_schedule.h"

/* ---- prepare ----------------------------------------------------------------------------------------- */

/* Automatic: bf16 where it is fast; else fp16 on a card, whose fp32 has no tensor cores, and fp32 on a
 * processor, where fp16 gains nothing. */
static qs_dtype compute_type(const qs_options *o, const qs_device *d, const qs_numeric_identity *keep)
{
    static const qs_dtype types[] = {QS_BF16, QS_F16, QS_F32};
    for (size_t i = 0; keep && o->compute_dtype == QS_COMPUTE_AUTO && i < sizeof types / sizeof *types; i++)
        if (!strcmp(keep->compute_dtype, qs_dtype_name(types[i]))) return types[i];
    switch (o->compute_dtype) {
    case QS_COMPUTE_BF16:
        return QS_BF16;
    case QS_COMPUTE_F16:
        return QS_F16;
    case QS_COMPUTE_F32:
        return QS_F32;
    case QS_COMPUTE_AUTO:
        return d->info.bf16 ? QS_BF16 : d->info.f16 ? QS_F16 : QS_F32;
    }
    return QS_F32;
}

static bool rounds_otherwise(const qs_engine *g, const qs_numeric_identity *keep)
{
    const char *kernels = qs_device_kernels(g->device, compute_type(g->options, g->device, keep));
    return keep && *keep->kernels && !g->hardware && strcmp(keep->kernels, kernels);
}

/* A resumed run goes on with the kernels it began with, where this machine has them. */
static int open_device(qs_engine *g, const qs_numeric_identity *keep, qs_err *e)
{
    const qs_options *o = g->options;
    QS_TRY(qs_cpu_select(o->cpu_isa, o->portable_bits, e));
    if (g->hardware) {
        g->device = qs_hardware_device(g->hardware);
        return 0;
    }
    QS_TRY(qs_device_open(o->device, &g->device, e));
    qs_err other = {0};
    if (rounds_otherwise(g, keep) && *keep->isa && !strcmp(keep->device, g->device->api->name) &&
        !qs_cpu_select(keep->isa, false, &other)) {
        qs_device_close(g->device);
        g->device = NULL;
        QS_TRY(qs_device_open(o->device, &g->device, e));
    }
    if (!rounds_otherwise(g, keep) || strcmp(keep->device, g->device->api->name)) return 0;
    const char *kernels = qs_device_kernels(g->device, compute_type(o, g->device, keep));
    if (!o->allow_different_bits)
        QS_FAIL(e, QS_EINVAL,
                "this run was trained with the kernels %s (%s), and this machine has %s (%s), whose last "
                "bits differ; go on there, or with --allow_different_bits",
                keep->kernels, keep->isa, kernels, g->device->info.isa);
    qs_warn("this run was trained with the kernels %s and goes on with %s: results differ in the last bits",
            keep->kernels, kernels);
    return 0;
}

static int open_devices(qs_engine *g, const qs_numeric_identity *keep, qs_err *e)
{
    int threads = (int)g->options->threads;
    if (!threads && keep) threads = keep->threads;
    qs_cpu_set_threads(threads);
    QS_TRY(open_device(g, keep, e));
    if (keep && strcmp(keep->device, g->device->api->name))
        QS_FAIL(e, QS_EINVAL,
                "this run was trained on %s and the device now is %s, which does not give the same bits; use "
                "--device %s",
                keep->device, g->device->api->name, keep->device);
    if (keep && keep->threads != g->device->info.threads)
        qs_warn("this run used %d threads and now uses %d: results may differ in the last bits",
                keep->threads, g->device->info.threads);
    if (g->device->info.host_computes)
        g->cpu = g->device;
    else
        QS_TRY(qs_device_open("cpu", &g->cpu, e));
    return 0;
}

static bool unset(const qs_options *o, const char *name)
{
    return qs_options_source_of(o, name) == QS_FROM_DEFAULT;
}

/* The last two parts of a path or of a name on the hub say which model it is; in the hub's cache the folder
 * above the snapshot does. */
static void model_called(const char *path, char *out, size_t capacity)
{
    const char *hub = strstr(path, "models--"), *end = path + strlen(path), *at;
    while (end > path && end[-1] == '/') end--;
    if (hub) {
        at = strstr(hub + 8, "--");
        path = at ? at + 2 : hub + 8;
        end = path + strcspn(path, "/");
    }
    for (at = end; at > path && at[-1] != '/'; at--) {
    }
    snprintf(out, capacity, "%.*s", (int)(end - at), at);
}

/* Numbers that were trained on another base mean nothing on this one, though the shapes may be the same. */
static void compare_bases(const qs_options *o, const char *base)
{
    char theirs[256], ours[256];
    if (!base || !o->model) return;
    model_called(base, theirs, sizeof theirs);
    model_called(o->model, ours, sizeof ours);
    if (strcasecmp(theirs, ours))
        qs_warn("%s: the adapter was made for the base model %s (base_model_name_or_path) and is put on %s; "
                "on another model than its own it means nothing",
                o->init_adapter, base, o->model);
}

/* An adapter to start from brings its own rank, alpha, scaling and targets, where the options do not say
 * otherwise. */
static int adopt_adapter(qs_options *o, qs_err *e)
{
    qs_peft_config c = {0};
    if (!o->init_adapter) return 0;
    QS_TRY(qs_peft_read_config(o->init_adapter, &c, e));
    compare_bases(o, c.base_model);
    struct {
        const char *name;
        qs_strings *option;
        qs_lora_names theirs;
    } lists[] = {{"target_modules", &o->target_modules, c.lora.targets},
                 {"exclude_modules", &o->exclude_modules, c.lora.exclude},
                 {"layers_to_transform", &o->layers_to_transform, c.lora.layers},
                 {"rank_pattern", &o->rank_pattern, c.lora.rank_pattern},
                 {"alpha_pattern", &o->alpha_pattern, c.lora.alpha_pattern}};
    if (unset(o, "lora_r")) o->lora_r = c.lora.r;
    if (unset(o, "lora_alpha")) o->lora_alpha = c.lora.alpha;
    if (unset(o, "use_rslora")) o->use_rslora = c.lora.rslora;
    for (size_t k = 0; k < sizeof lists / sizeof *lists; k++) {
        if (!unset(o, lists[k].name)) continue;
        qs_strings_clear(lists[k].option);
        for (int i = 0; i < lists[k].theirs.count; i++)
            qs_strings_add(lists[k].option, lists[k].theirs.item[i], strlen(lists[k].theirs.item[i]));
    }
    qs_peft_config_free(&c);
    return 0;
}

static qs_lora_names names_of(const qs_strings *s)
{
    return (qs_lora_names){(const char *const *)s->items, s->count};
}

qs_lora_config qs_lora_config_of(const qs_options *o)
{
    return (qs_lora_config){.r = (int32_t)o->lora_r,
                            .alpha = o->lora_alpha,
                            .dropout = (float)o->lora_dropout,
                            .rslora = o->use_rslora,
                            .targets = names_of(&o->target_modules),
                            .exclude = names_of(&o->exclude_modules),
                            .layers = names_of(&o->layers_to_transform),
                            .rank_pattern = names_of(&o->rank_pattern),
                            .alpha_pattern = names_of(&o->alpha_pattern)};
}

static int make_lora(qs_engine *g, qs_err *e)
{
    qs_lora_config c = qs_lora_config_of(g->options);
    return qs_lora_create(&c, &g->architecture, &g->lora, e);
}

static int open_tokens(qs_engine *g, bool validation, FILE *report, qs_token_cache **out, qs_err *e)
{
    char *dir = qs_path_join(g->options->cache.items[0], "tokens");
    qs_data_options d;
    qs_options_data(g->options, validation, dir, &d);
    d.vocab_size = g->architecture.vocab;
    qs_token_progress progress = {.out = report};
    int rc = qs_token_cache_open(&d, report, qs_token_progress_show, &progress, out, e);
    qs_free(dir);
    qs_mem_trim();
    return rc;
}

/* Validation on what is trained on says nothing of other data. */
static void warn_of_shared_files(const qs_token_cache *train, const qs_token_cache *eval)
{
    for (int i = 0; i < eval->file_count; i++)
        for (int k = 0; k < train->file_count; k++)
            if (memcmp(eval->file_hashes[i], train->file_hashes[k], sizeof *eval->file_hashes) == 0)
                qs_warn("eval_data: %s is the same as the training file %s: its rows are trained on, and the "
                        "validation loss will not tell how "
                        "the model does on others; val_set_size sets rows aside",
                        eval->files[i], train->files[k]);
}

static int open_tokens_of(qs_engine *g, FILE *report, qs_err *e)
{
    QS_TRY(open_tokens(g, false, report, &g->train_tokens, e));
    if (!g->options->eval_data.count) return 0;
    QS_TRY(open_tokens(g, true, report, &g->eval_tokens, e));
    warn_of_shared_files(g->train_tokens, g->eval_tokens);
    return 0;
}

static int make_batches(qs_engine *g, qs_err *e)
{
    const qs_options *o = g->options;
    qs_batch_options b = {.seed = (uint64_t)o->seed,
                          .in_order = !o->shuffle,
                          .packing = o->packing,
                          .max_seq_length = o->max_seq_length,
                          .rows = g->job.micro_batch_rows,
                          .micro_batches = g->job.sweep.sizes.micro_batches,
                          .val_set_size = o->val_set_size};
    return qs_batcher_create(g->train_tokens, g->eval_tokens, &b, &g->batcher, e);
}

/* The job as far as it is known without batches: with per_device_train_batch_size 0 the planner picks, out of
 * as many sequences. */
static void start_job(qs_engine *g, const qs_numeric_identity *keep)
{
    const qs_options *o = g->options;
    int64_t sequences = o->gradient_accumulation_steps, rows = o->per_device_train_batch_size;
    qs_budgets budgets = qs_options_budgets(o, g->device->info.host_memory, g->device->info.available_bytes,
                                            qs_host_available_bytes());
    g->job = (qs_job){.options = o,
                      .vram_bytes = budgets.vram_bytes,
                      .ram_bytes = budgets.ram_bytes,
                      .source = g->source,
                      .blob_bytes = g->blob_bytes,
                      .recipe = !g->hardware && qs_source_is_recipe(g->source)};
    if (keep) g->job.keep = *keep;
    g->job.sweep = (qs_sweep_config){.device = g->device,
                                     .a = &g->architecture,
                                     .layout = &g->layout,
                                     .lora = &g->lora,
                                     .type = compute_type(o, g->device, keep),
                                     .sweeps = 1,
                                     .seed = (uint64_t)o->seed};
    g->job.update = (qs_update_config){.device = g->device,
                                       .lora = &g->lora,
                                       .optim = o->optim,
                                       .beta1 = o->adam_beta1,
                                       .beta2 = o->adam_beta2,
                                       .eps = o->adam_epsilon,
                                       .weight_decay = o->weight_decay,
                                       .loraplus_lr_ratio = o->loraplus_lr_ratio,
                                       .max_grad_norm = o->max_grad_norm};
    if (rows) {
        qs_job_set_sizes(&g->job, rows, sequences);
    } else {
        rows = qs_placement_micro_batch(&g->job, sequences);
        qs_job_set_sizes(&g->job, rows, sequences / rows);
    }
}

static void configure(qs_engine *g)
{
    qs_placed_job placed = qs_placement_apply(&g->job, &g->placement, &g->plan);
    g->sweep_config = placed.sweep;
    g->update_config = placed.update;
}

/* The default cache lies in the home directory, which may be read-only or missing. */
static int make_cache_dir(const qs_options *o, qs_err *e)
{
    int rc = qs_dir_create(o->cache.items[0], e);
    return rc && unset(o, "cache")
               ? qs_err_prefix(e, "the default cache cannot be made, give a folder with --cache")
               : rc;
}

/* Budgets are promises of memory that the machine must have. */
static int check_budgets(const qs_engine *g, qs_err *e)
{
    const double gib = 1 << 30;
    uint64_t total = qs_host_total_bytes(),
             asked = g->job.ram_bytes + (g->device->info.host_memory ? g->job.vram_bytes : 0);
    uint64_t used = g->plan.ram_used + (g->device->info.host_memory ? g->plan.vram_used : 0);
    if (g->hardware || !total || asked <= total) return 0;
    if (used > total)
        QS_FAIL(e, QS_EBUDGET,
                "this run would use %.1f GiB of host memory and this machine (or its control group) has %.1f "
                "GiB; give less --vram and --ram",
                (double)used / gib, (double)total / gib);
    qs_warn("--vram and --ram promise %.1f GiB of host memory and this machine (or its control group) has "
            "%.1f GiB; the run uses %.1f",
            (double)asked / gib, (double)total / gib, (double)used / gib);
    return 0;
}

/* What was asked for, or what the checkpoint already has. */
static int choose_quant(const qs_engine *g, qs_quant_config *out, qs_err *e)
{
    const qs_options *o = g->options;
    const qs_quant_config asked = {o->quant_type, o->double_quant};
    bool stored;
    *out = asked;
    QS_TRY(qs_stored_quant_of(&g->architecture, g->source, &stored, out, e));
    if (!stored || g->resumed) return 0;
    bool other_type = asked.type != out->type && !unset(o, "quant_type"),
         other_scales = asked.double_quant != out->double_quant && !unset(o, "double_quant");
    if (other_type || other_scales)
        QS_FAIL(e, QS_EINVAL,
                "%s: its linears are stored in 4 bits and stay as they are; leave out --%s, or give the "
                "16-bit model",
                o->model, other_type ? "quant_type" : "double_quant");
    return 0;
}

int qs_engine_prepare(qs_options *o, const qs_numeric_identity *keep, FILE *report, qs_engine *g, qs_err *e)
{
    qs_quant_config quant;
    g->options = o;
    g->resumed = keep != NULL;
    if (g->shape) {
        QS_TRY(qs_shape_open(g->shape, g->shape_layers, &g->architecture, &g->source, e));
    } else {
        QS_TRY(qs_architecture_read(o->model, &g->architecture, e));
        QS_TRY(qs_source_open(o->model, &g->source, e));
    }
    QS_TRY(qs_architecture_check(&g->architecture, g->source, e));
    QS_TRY(qs_architecture_untie(&g->architecture, g->source, e));
    if (!keep) QS_TRY(adopt_adapter(o, e)); /* a resumed run has it all in its checkpoint */
    QS_TRY(make_lora(g, e));
    QS_TRY(open_devices(g, keep, e));
    QS_TRY(choose_quant(g, &quant, e));
    qs_layout_make(&g->architecture, g->source, quant, &g->layout);
    g->blob_bytes = qs_calloc((size_t)qs_layout_blobs(&g->layout), sizeof *g->blob_bytes);
    for (int b = 0; b < qs_layout_blobs(&g->layout); b++)
        g->blob_bytes[b] = qs_layout_blob_bytes(&g->layout, b);
    if (o->data.count) QS_TRY(make_cache_dir(o, e));
    if (o->data.count) QS_TRY(open_tokens_of(g, report, e));
    start_job(g, keep);
    if (o->data.count) QS_TRY(make_batches(g, e));
    if (g->batcher) qs_job_set_data(&g->job, qs_batcher_info(g->batcher), g->train_tokens, g->eval_tokens);
    QS_TRY(qs_placement_choose(&g->job, &g->placement, &g->plan, e));
    configure(g);
    return check_budgets(g, e);
}

enum { DISK_TEST_BYTES = 256 << 20 };
/* Work below this many operations a step is over before measuring would be. */
#define WORTH_MEASURING_FLOPS 2e11

/* Chooses by these rates what does not matter for the bits, and predicts the result. */
static void predict_by(qs_engine *g, const qs_rates *rates)
{
    qs_placement_refine(&g->job, rates, &g->placement, &g->plan);
    configure(g);
    qs_placed_job job = qs_placement_apply(&g->job, &g->placement, &g->plan);
    qs_prediction_free(&g->prediction);
    qs_predict(&job, rates, &g->prediction);
}

void qs_engine_predict(qs_engine *g, bool measure)
{
    const qs_options *o = g->options;
    char tensor[128];
    qs_costs costs;
    qs_placed_job job = qs_placement_apply(&g->job, &g->placement, &g->plan);
    if (g->hardware) {
        qs_rates rates = qs_hardware_rates(g->hardware, &g->host);
        predict_by(g, &rates);
        return;
    }
    const qs_layer *layer = qs_architecture_layer(&g->architecture, 0);
    qs_architecture_tensor_name(&g->architecture, 0, &layer->tensor[layer->group[QS_GROUPS_MAX - 1].first],
                                tensor);
    qs_calibrate_config c = {.device = g->device,
                             .cpu = g->cpu,
                             .dir = o->cache.items[0],
                             .io_engine = o->io_engine,
                             .source = g->source,
                             .tensor = tensor,
                             .quant = g->layout.quant,
                             .renew = o->recalibrate && !g->calibration,
                             .quiet = o->quiet,
                             .processor_time = g->calibrate_by_processor_time};
    for (int b = 0; b < g->plan.blobs; b++) c.disk_bytes += g->blob_bytes[b];
    if (c.disk_bytes > DISK_TEST_BYTES) c.disk_bytes = DISK_TEST_BYTES;
    if (!g->calibration) g->calibration = qs_calibration_open(&c);
    qs_costs_note(&g->sweep_config, &g->update_config,
                  qs_sweep_rows(g->sweep_config.sizes.max_tokens, job.tokens), job.document_tokens, &costs);
    double flops = 6.0 * (double)qs_architecture_parameters(&g->architecture) * job.tokens *
                   g->sweep_config.sizes.micro_batches;
    qs_err e = {0};
    int rc = 0;
    if (measure || o->recalibrate || flops >= WORTH_MEASURING_FLOPS)
        rc = qs_calibration_measure(g->calibration, &costs, &e);
    if (rc) qs_warn("no prediction: %s", e.text);
    if (!rc && qs_calibration_knows(g->calibration, &costs)) {
        qs_rates rates = qs_calibration_rates(g->calibration);
        predict_by(g, &rates);
    }
    qs_costs_free(&costs);
}

/* ---- start ------------------------------------------------------------------------------------------- */

/* In the default cache directory each model and format has one of its own. */
static char *default_cache_dir(const qs_engine *g, const char *format)
{
    XXH64_hash_t h =
        XXH3_64bits_withSeed(format, strlen(format), 1) ^ XXH3_64bits(qs_source_fingerprint(g->source), 32);
    char name[17];
    snprintf(name, sizeof name, "%016llx", (unsigned long long)h);
    return qs_path_join(g->options->cache.items[0], name);
}

static int open_cache(qs_engine *g, qs_err *e)
{
    char *format = qs_layout_describe(&g->layout);
    const qs_strings *given = &g->options->cache;
    bool by_default = unset(g->options, "cache");
    g->cache_dir = by_default ? default_cache_dir(g, format) : qs_strdup(given->items[0]);
    const char *slash = strrchr(g->options->model, '/');
    qs_cache_key key = {.model = slash && slash[1] ? slash + 1 : g->options->model,
                        .path = g->options->model,
                        .fingerprint = qs_source_fingerprint(g->source),
                        .dates = qs_source_dates(g->source),
                        .format = format,
                        .blobs = qs_layout_blobs(&g->layout),
                        .blob_bytes = g->blob_bytes};
    int rc = by_default ? qs_cache_open((const char *const *)&g->cache_dir, 1, &key, &g->cache, e)
                        : qs_cache_open((const char *const *)given->items, given->count, &key, &g->cache, e);
    qs_free(format);
    return rc;
}

static int read_norm(qs_engine *g, bool bias, float *out, qs_err *e)
{
    char name[128];
    qs_architecture_final_norm_name(&g->architecture, bias, name);
    const qs_source_tensor *t = qs_source_find(g->source, name);
    QS_ASSERT(t);
    qs_region buffer;
    QS_TRY(qs_region_map(&buffer, qs_source_buffer_bytes(t->bytes), "the final norm", e));
    qs_source_read r = {.tensor = t, .bytes = t->bytes, .buffer = buffer.base};
    qs_source_read_start(g->source, g->aio, &r);
    int rc = qs_source_read_finish(g->source, g->aio, &r, e);
    if (!rc) qs_convert(out, QS_F32, r.data, t->type, (size_t)g->architecture.hidden);
    for (int32_t i = 0; g->architecture.norm == QS_NORM_RMS_PLUS_ONE && i < g->architecture.hidden; i++)
        out[i] += 1.0f;
    qs_region_free(&buffer);
    return rc;
}

static int start_adapters(qs_engine *g, qs_err *e)
{
    qs_pager_spec masters = qs_placement_packs(&g->job, QS_ITEM_MASTERS, g->placement.adapters_on_disk);
    qs_pager_spec gradients = qs_placement_packs(&g->job, QS_ITEM_GRADIENTS, g->placement.adapters_on_disk);
    QS_TRY(qs_pager_spec_open(&masters, &g->tier, g->aio, g->cache_dir, &g->masters, e));
    QS_TRY(qs_pager_spec_open(&gradients, &g->tier, g->aio, g->cache_dir, &g->gradients, e));
    QS_TRY(qs_update_open(&g->update_config, &g->tier, g->aio, g->cache_dir, &g->update, e));
    if (g->options->init_adapter && !g->resumed)
        return qs_peft_load(g->options->init_adapter, &g->lora, &g->architecture, g->masters, e);
    qs_lora_init(&g->lora, (uint64_t)g->options->seed, g->masters);
    return qs_pager_check(g->masters, e);
}

static int start_sweep(qs_engine *g, qs_err *e)
{
    float *norm = qs_calloc((size_t)qs_norm_floats(&g->architecture), sizeof *norm);
    int rc = read_norm(g, false, norm, e);
    if (!rc && g->architecture.norm == QS_NORM_LAYER)
        rc = read_norm(g, true, norm + g->architecture.hidden, e);
    qs_sweep_parts parts = {.tier = &g->tier,
                            .aio = g->aio,
                            .scratch_dir = g->cache_dir,
                            .stream = g->stream,
                            .embedding = g->embedding,
                            .norm = norm,
                            .masters = g->masters,
                            .gradients = g->gradients};
    if (!rc) rc = qs_sweep_open(&g->sweep_config, &parts, &g->sweep, e);
    qs_free(norm);
    return rc;
}

int qs_engine_start(qs_engine *g, qs_err *e)
{
    int disks = g->options->cache.count < 16 ? g->options->cache.count : 16;
    qs_aio_config aio = {.engine = g->options->io_engine, .depth = 64 * disks};
    QS_TRY(qs_aio_open(&aio, &g->aio, e));
    QS_TRY(qs_source_identify(g->source, g->aio, e));
    QS_TRY(open_cache(g, e));
    QS_TRY(qs_tier_open(g->device, &g->plan, &g->tier, e));
    qs_err refused = {0};
    if (g->tier.pinned.bytes && !qs_aio_register(g->aio, g->tier.pinned.base, g->tier.pinned.bytes, &refused))
        qs_debug("disk reads use unregistered memory: %s", refused.text);
    qs_arena memory = qs_tier_arena(&g->tier, QS_ITEM_QUANTISE_ON_LOAD, QS_POOL_HOST);
    qs_quantise_on_load_open(&g->architecture, &g->layout, g->source, g->aio, g->cpu, &memory, &g->maker);
    memory = qs_tier_arena(&g->tier, QS_ITEM_EMBEDDING_READS, QS_POOL_HOST);
    void *table = qs_tier_take(&g->tier, QS_ITEM_EMBEDDING_TABLE, QS_POOL_HOST);
    QS_TRY(qs_embedding_open(&g->architecture, g->source, g->aio, g->sweep_config.sizes.max_tokens, &memory,
                             table, &g->embedding, e));
    qs_stream_config stream = {.device = g->device,
                               .aio = g->aio,
                               .cache = g->cache,
                               .plan = &g->plan,
                               .blob_bytes = g->blob_bytes,
                               .tier = &g->tier,
                               .recorder = g->recorder,
                               .maker = {g->maker, qs_quantise_on_load_make, qs_quantise_on_load_expect,
                                         qs_quantise_on_load_advance, qs_quantise_on_load_source_hash}};
    QS_TRY(qs_stream_open(&stream, &g->stream, e));
    QS_TRY(start_adapters(g, e));
    QS_TRY(start_sweep(g, e));
    g->loss_scale = qs_loss_scale_start(g->sweep_config.type == QS_F16);
    qs_tier_check(&g->tier);
    return 0;
}

uint64_t qs_engine_pager_wait_ns(const qs_engine *g)
{
    uint64_t bytes;
    return qs_pager_stats_read(g->masters).wait_ns + qs_pager_stats_read(g->gradients).wait_ns +
           qs_pager_stats_read(qs_update_states(g->update, &bytes)).wait_ns;
}

uint64_t qs_engine_device_peak_bytes(const qs_engine *g)
{
    uint64_t used = g->device->api->used_bytes(g->device);
    return used ? used : g->plan.vram_used;
}

void qs_engine_close(qs_engine *g)
{
    qs_sweep_close(g->sweep);
    qs_update_close(g->update);
    qs_pager_close(g->masters);
    qs_pager_close(g->gradients);
    qs_stream_close(g->stream);
    qs_quantise_on_load_close(g->maker);
    qs_embedding_close(g->embedding);
    qs_cache_close(g->cache);
    qs_aio_close(g->aio);
    qs_tier_close(&g->tier);
    qs_plan_free(&g->plan);
    qs_prediction_free(&g->prediction);
    qs_calibration_free(g->calibration);
    qs_batcher_free(g->batcher);
    qs_token_cache_close(g->train_tokens);
    qs_token_cache_close(g->eval_tokens);
    qs_lora_free(&g->lora);
    qs_source_close(g->source);
    if (g->cpu != g->device) qs_device_close(g->cpu);
    qs_device_close(g->device);
    qs_free(g->blob_bytes);
    qs_free(g->cache_dir);
    *g = (qs_engine){0};
}

/* ---- use --------------------------------------------------------------------------------------------- */

int64_t qs_engine_total_steps(const qs_engine *g)
{
    const qs_job *job = &g->job;
    if (!g->batcher) return g->options->max_steps > 0 ? g->options->max_steps : 0;
    int64_t rows = qs_batcher_info(g->batcher)->train_rows,
            micro_batches = (rows + job->micro_batch_rows - 1) / job->micro_batch_rows;
    return qs_lr_total_steps(g->options, micro_batches, job->sweep.sizes.micro_batches);
}

int qs_engine_fill_step(qs_engine *g, int64_t step, qs_step_info *info, qs_err *e)
{
    QS_TRY(qs_token_cache_check(g->train_tokens, e));
    qs_batcher_step(g->batcher, step, info);
    for (int32_t mb = 0; mb < info->micro_batches; mb++)
        qs_batcher_fill(g->batcher, step, mb, qs_sweep_batch(g->sweep, mb));
    return 0;
}

int qs_engine_evaluate(qs_engine *g, double *loss, int64_t *targets, qs_err *e)
{
    int64_t batches = qs_batcher_info(g->batcher)->eval_batches;
    int32_t group = g->sweep_config.sizes.micro_batches;
    double sum = 0;
    *targets = 0;
    for (int64_t first = 0; first < batches; first += group) {
        int32_t n = batches - first < group ? (int32_t)(batches - first) : group;
        QS_TRY(qs_token_cache_check(g->eval_tokens ? g->eval_tokens : g->train_tokens, e));
        for (int32_t mb = 0; mb < n; mb++)
            qs_batcher_fill_eval(g->batcher, first + mb, qs_sweep_batch(g->sweep, mb));
        qs_sweep_result r;
        QS_TRY(qs_sweep_evaluate(g->sweep, n, &r, e));
        sum += r.loss_sum;
        *targets += r.targets;
    }
    *loss = *targets ? sum / (double)*targets : 0;
    return 0;
}
