/* bench.c - `qlora-stream bench`: a few optimizer steps on random tokens, measured visit by visit.
 *
 * The run is the trainer's own engine, plan and sweep; only the data is missing: every micro-batch holds
 * per_device_train_batch_size documents of max_seq_length random tokens.
 */
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "src/base/clock.h"
#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/commands/commands.h"
#include "src/report/profile.h"
#include "src/commands/synth.h"
#include "src/train/trainer.h"

typedef struct bench_options {
    char *shape;
    int64_t steps, layers;
    uint8_t source[4];
} bench_options;

#define ROW(field, kind, ...)                                                            \
    {                                                                                    \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(bench_options, field), \
        .group = "Measurement", __VA_ARGS__                                              \
    }
static const qs_option rows[] = {
    ROW(shape, STRING,
        .help = "instead of --model: synthetic weights of a named shape (see synth), in OUT/model"),
    ROW(steps, INT, .fallback = "3", .min = 1, .max = 1000,
        .help = "optimizer steps; the first one fills the cache if it is empty"),
    ROW(layers, INT, .fallback = "0", .max = 16384, .help = "with --shape: that many layers; 0: all"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(bench_options, source)};

static void help(FILE *f)
{
    bench_options b = {0};
    qs_option_set set = {&table, &b};
    fprintf(f,
            "usage: qlora-stream bench --model DIR | --shape NAME --out DIR [--steps N] [options of train]\n"
            "       qlora-stream bench --compare A/profile.json B/profile.json\n\n"
            "Trains on random tokens and writes OUT/profile.json, OUT/trace.json (for Perfetto or "
            "chrome://tracing) and OUT/report.html.\n\n");
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_option_clear(&set, 1);
}

/* Documents of equal length, one after another; the last token of each predicts nothing. */
static void fill_random(qs_micro_batch *b, int32_t documents, int32_t length, int32_t vocab, uint64_t seed,
                        uint64_t stream)
{
    b->tokens = (int64_t)documents * length;
    b->documents = documents;
    b->targets = (int64_t)documents * (length - 1);
    for (int32_t i = 0; i < b->tokens; i++) {
        b->ids[i] = (int32_t)(qs_random_u32(seed, stream, (uint64_t)i) % (uint32_t)vocab);
        b->positions[i] = i % length;
        b->document_start[i] = i / length * length;
    }
    for (int32_t i = 0; i < b->tokens; i++) b->target[i] = i % length == length - 1 ? -1 : b->ids[i + 1];
    for (int32_t d = 0; d <= documents; d++) b->offsets[d] = d * length;
    for (int32_t d = 0; d < documents; d++) b->samples[d] = d;
}

static int one_step(qs_engine *g, int64_t step, qs_profile_step *s, qs_err *e)
{
    const qs_options *o = g->options;
    int32_t micro_batches = g->sweep_config.sizes.micro_batches;
    qs_sweep_result result;
    double norm, scale = g->loss_scale.scale;
    for (int32_t mb = 0; mb < micro_batches; mb++)
        fill_random(qs_sweep_batch(g->sweep, mb), g->job.micro_batch_rows, (int32_t)o->max_seq_length,
                    g->architecture.vocab, (uint64_t)o->seed,
                    (uint64_t)step * (uint64_t)micro_batches + (uint64_t)mb);
    qs_aio_stats before = qs_aio_stats_read(g->aio);
    uint64_t link = qs_sweep_link_bytes(g->sweep);
    *g->recorder = s->recorder;
    s->start_ns = qs_now_ns();
    QS_TRY(qs_sweep_train(g->sweep, micro_batches, step, g->loss_scale.scale, &result, e));
    s->swept_ns = qs_now_ns();
    uint64_t waited = qs_engine_pager_wait_ns(g);
    if (qs_loss_scale_step(&g->loss_scale, !result.overflow)) {
        qs_update_step t = {.step = step + 1 - g->loss_scale.skipped,
                            .learning_rate = o->learning_rate,
                            .loss_scale = scale,
                            .squares = result.gradient_squares,
                            .schedule = qs_sweep_schedule(g->sweep)};
        QS_TRY(qs_update_run(g->update, &t, g->masters, g->gradients, &norm, e));
    }
    s->end_ns = qs_now_ns();
    s->update_disk_wait_ns = qs_engine_pager_wait_ns(g) - waited;
    s->recorder = *g->recorder;
    qs_aio_stats after = qs_aio_stats_read(g->aio);
    s->loss = result.loss_sum / (double)result.targets;
    s->tokens = result.tokens;
    s->disk_read_bytes = after.read_bytes - before.read_bytes;
    s->disk_write_bytes = after.write_bytes - before.write_bytes;
    s->link_bytes = qs_sweep_link_bytes(g->sweep) - link;
    memcpy(s->visits, qs_sweep_times(g->sweep),
           (size_t)qs_sweep_schedule(g->sweep)->count * sizeof *s->visits);
    return 0;
}

static int write_one(const qs_profile *p, int (*write)(const qs_profile *, const char *, qs_err *),
                     const char *name, qs_err *e)
{
    char *path = qs_path_join(p->engine->options->out, name);
    int rc = write(p, path, e);
    qs_free(path);
    return rc;
}

/* Memory for what a step notes. EMBED, every layer twice, every head tile twice, UPDATE; with the other order
 * once per micro-batch. Per visit at most a read, a write, a copy, two checksums and two waits are noted, and
 * each piece of a quantise on load. */
static void give_arrays(const qs_engine *g, qs_profile_step *steps, int count)
{
    size_t most = (size_t)(2 * qs_layout_blobs(&g->layout) + 2) * (size_t)g->sweep_config.sizes.micro_batches;
    for (int i = 0; i < count; i++) {
        int32_t capacity =
            8 * (int32_t)most + qs_layout_blobs(&g->layout) * qs_quantise_on_load_pieces(&g->layout);
        steps[i].visits = qs_calloc(most, sizeof *steps[i].visits);
        steps[i].recorder = (qs_recorder){.activities = qs_calloc((size_t)capacity, sizeof(qs_activity)),
                                          .capacity = capacity,
                                          .usage = qs_calloc(most, sizeof(qs_usage))};
    }
}

static int run_steps(qs_engine *g, qs_profile *p, int steps, qs_err *e)
{
    while (p->count < steps && !qs_interrupt_requested()) {
        bool quantise_on_load = qs_cache_present(g->cache) < g->plan.blobs;
        QS_TRY(one_step(g, p->count, &p->steps[p->count], e));
        p->schedule = qs_sweep_schedule(g->sweep);
        qs_info("step %d: %.3f s", p->count + 1,
                (double)(p->steps[p->count].end_ns - p->steps[p->count].start_ns) * 1e-9);
        if (quantise_on_load) QS_TRY(qs_stream_settle(g->stream, e));
        p->count++;
    }
    return 0;
}

static int measure(qs_engine *g, const char *name, int steps, qs_err *e)
{
    qs_profile p = {.engine = g,
                    .model = name,
                    .prediction = g->prediction.known ? &g->prediction : NULL,
                    .steps = qs_calloc((size_t)steps, sizeof *p.steps)};
    give_arrays(g, p.steps, steps);
    int rc = run_steps(g, &p, steps, e);
    p.peak_rss_bytes = qs_rss_peak_bytes();
    p.device_peak_bytes = qs_engine_device_peak_bytes(g);
    if (!rc && p.count) {
        *g->recorder = (qs_recorder){.usage = g->recorder->usage}; /* what follows is no step */
        rc = qs_profile_disk_rate(g, p.schedule, &p.disk_rate, e);
        p.product_flops = qs_profile_product_flops(g);
        if (!rc) rc = write_one(&p, qs_profile_write_json, "profile.json", e);
        if (!rc) rc = write_one(&p, qs_profile_write_trace, "trace.json", e);
        if (!rc) rc = write_one(&p, qs_profile_write_report, "report.html", e);
        if (!rc) qs_profile_print(&p, stdout);
    }
    *g->recorder = (qs_recorder){0};
    for (int i = 0; i < steps; i++) {
        qs_free(p.steps[i].visits);
        qs_free(p.steps[i].recorder.activities);
        qs_free(p.steps[i].recorder.usage);
    }
    qs_free(p.steps);
    return rc;
}

/* Options of training that have no meaning here; and the model, when a shape stands for it. */
static int settle(qs_options *o, const bench_options *b, qs_err *e)
{
    if (!o->out) QS_FAIL(e, QS_EUSAGE, "--out is missing: the directory that the profile is written to");
    if (o->max_seq_length < 2)
        QS_FAIL(e, QS_EUSAGE, "max_seq_length is %lld; a step needs documents of at least 2 tokens",
                (long long)o->max_seq_length);
    if (o->model && b->shape)
        QS_FAIL(e, QS_EUSAGE, "--model and --shape are both given; which of them is to be measured?");
    qs_strings_clear(&o->data);
    qs_strings_clear(&o->eval_data);
    QS_TRY(qs_dir_create(o->out, e));
    if (!b->shape) return 0;
    qs_architecture a;
    o->model = qs_path_join(o->out, "model");
    return qs_synth_write(b->shape, o->model, (uint64_t)o->seed, (int32_t)b->layers, &a, e);
}

static int run(int argc, char **argv, qs_err *e)
{
    if (argc && !strcmp(argv[0], "--compare")) {
        if (argc != 3)
            QS_FAIL(e, QS_EUSAGE, "--compare: expected two profile.json, found %d words", argc - 1);
        return qs_profile_compare(argv[1], argv[2], stdout, e);
    }
    qs_options o = {0};
    bench_options b = {0};
    qs_option_set more = {&table, &b};
    qs_recorder recorder = {0};
    qs_engine g = {0};
    int rc = qs_options_parse(&o, argc, argv, &more, 1, e);
    qs_log_set_level(o.verbose ? QS_LOG_DEBUG : o.quiet ? QS_LOG_WARN : QS_LOG_INFO);
    if (!rc) rc = settle(&o, &b, e);
    if (!rc) rc = qs_options_check_plan(&o, e);
    if (!rc) rc = qs_options_find_model(&o, e);
    if (!rc) rc = qs_engine_prepare(&o, NULL, NULL, &g, e);
    if (!rc) qs_engine_predict(&g, true);
    if (!rc && !o.quiet) qs_train_print_plan(&g, stderr);
    g.recorder = &recorder;
    if (!rc) rc = qs_engine_start(&g, e);
    qs_interrupt_defer();
    if (!rc) rc = measure(&g, b.shape ? b.shape : o.model, (int)b.steps, e);
    qs_engine_close(&g);
    qs_option_clear(&more, 1);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_bench = {"bench", "measure a run visit by visit and draw its memory profile",
                                     help, run};
