/* bench_plan.c - predicted against measured step time, from disk-bound to compute-bound.
 *
 *     make build/release/bench/bench_plan && OMP_WAIT_POLICY=passive build/release/bench/bench_plan [cpu]
 * [DIR [NUMBER | streamer]]
 *
 * First the streamer alone, on this disk, with visits that sleep in place of computing: the replay's share of
 * a prediction, whatever else the processors do. Then whole jobs. Each job is a known shape cut to a few
 * layers with made-up weights; its cache is filled first, then the machine is measured, and then steps are
 * run: the median of five is compared. With the word `cpu` compute is counted by processor time over threads,
 * in the calibration and in the steps, and waits by the clock: for machines that are busy with something else
 * (there the overlap of disk and compute cannot be compared, but either alone can). DIR holds models and
 * caches, 4 GB; the current directory's bench_plan.tmp otherwise, removed at the end.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/commands/synth.h"
#include "src/train/engine.h"

enum { STEPS = 5 };

typedef struct job {
    const char *shape;
    int layers, tokens, micro_batches, resident, slots;
} job;

static const job jobs[] = {
    {"llama-3.2-1b", 4, 16, 1, 0, 2},   {"llama-3.2-1b", 4, 16, 1, 0, 4},
    {"open-llama-3b", 6, 16, 1, 0, 2},  {"open-llama-3b", 6, 64, 1, 0, 3},
    {"llama-3.2-1b", 4, 64, 1, 18, 3},  {"llama-3.2-1b", 2, 128, 2, 0, 3},
    {"llama-3.2-1b", 2, 128, 1, -1, 3}, {"open-llama-3b", 2, 256, 1, -1, 3},
    {"open-llama-3b", 4, 128, 2, 3, 2},
};
enum { JOBS = sizeof jobs / sizeof *jobs };

static qs_err e;
static bool processor_time;

static void must(int rc)
{
    if (!rc) return;
    fprintf(stderr, "bench_plan: %s\n", e.text);
    exit(1);
}

static double processor_seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return ((double)t.tv_sec + (double)t.tv_nsec * 1e-9) / omp_get_max_threads();
}

static void fill_batch(qs_micro_batch *b, int32_t length, int32_t vocab)
{
    b->tokens = length;
    b->documents = 1;
    b->targets = length - 1;
    for (int32_t i = 0; i < length; i++) {
        b->ids[i] = (int32_t)(qs_random_u32(1, 0, (uint64_t)i) % (uint32_t)vocab);
        b->positions[i] = i;
        b->document_start[i] = 0;
    }
    for (int32_t i = 0; i < length; i++) b->target[i] = i == length - 1 ? -1 : b->ids[i + 1];
    b->offsets[0] = 0;
    b->offsets[1] = length;
    b->samples[0] = 0;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

static double median(const double *v, int n)
{
    double sorted[STEPS];
    memcpy(sorted, v, (size_t)n * sizeof *v);
    qsort(sorted, (size_t)n, sizeof *sorted, ascending);
    return sorted[n / 2];
}

typedef struct seconds {
    double wall, compute, disk;
} seconds;

static seconds one_step(qs_engine *g, const job *j, int step)
{
    qs_sweep_result result;
    double norm, cpu = processor_seconds();
    uint64_t start = qs_now_ns();
    for (int32_t mb = 0; mb < j->micro_batches; mb++)
        fill_batch(qs_sweep_batch(g->sweep, mb), j->tokens, g->architecture.vocab);
    must(qs_sweep_train(g->sweep, j->micro_batches, step, 1, &result, &e));
    qs_update_step t = {.step = step + 1,
                        .learning_rate = 1e-4,
                        .loss_scale = 1,
                        .squares = result.gradient_squares,
                        .schedule = qs_sweep_schedule(g->sweep)};
    must(qs_update_run(g->update, &t, g->masters, g->gradients, &norm, &e));
    seconds s = {.wall = qs_seconds(qs_now_ns() - start), .compute = processor_seconds() - cpu};
    for (int32_t v = 0; v < qs_sweep_schedule(g->sweep)->count; v++)
        s.disk += qs_seconds(qs_sweep_times(g->sweep)[v].disk_wait_ns);
    if (!processor_time) s.compute = s.wall - s.disk;
    return s;
}

/* Runs the job's steps and prints a line. */
static void run(const job *j, const char *dir)
{
    qs_options o = {0};
    qs_engine g = {0};
    qs_architecture a;
    char *model = qs_printf("%s/%s-%d", dir, j->shape, j->layers),
         *cache = qs_printf("%s/cache-%s-%d", dir, j->shape, j->layers);
    char text[6][16];
    int values[] = {j->tokens, j->micro_batches, j->resident, j->slots, omp_get_max_threads()};
    for (int i = 0; i < 5; i++) snprintf(text[i], sizeof text[i], "%d", values[i]);
    must(qs_synth_write(j->shape, model, 0, j->layers, &a, &e));
    const char *argv[] = {"--model",
                          model,
                          "--cache",
                          cache,
                          "--vram",
                          "2G",
                          "--ram",
                          "3G",
                          "--device",
                          "cpu",
                          "--max_seq_length",
                          text[0],
                          "--gradient_accumulation_steps",
                          text[1],
                          "--resident_layers",
                          text[2],
                          "--stream_slots",
                          text[3],
                          "--threads",
                          text[4],
                          "--recalibrate"};
    must(qs_options_parse(&o, sizeof argv / sizeof *argv, (char **)(uintptr_t)argv, NULL, 0, &e));
    must(qs_engine_prepare(&o, NULL, NULL, &g, &e));
    g.calibrate_by_processor_time = processor_time;
    must(qs_engine_start(&g, &e));
    one_step(&g, j, 0); /* fills the cache */
    must(qs_stream_settle(g.stream, &e));
    qs_engine_close(&g);

    must(qs_engine_prepare(&o, NULL, NULL, &g, &e));
    g.calibrate_by_processor_time = processor_time;
    qs_engine_predict(&g, true);
    must(qs_engine_start(&g, &e));
    double wall[STEPS], compute[STEPS], disk[STEPS], both[STEPS];
    for (int step = -1; step < STEPS; step++) { /* the first finds memory empty */
        seconds s = one_step(&g, j, step + 1);
        if (step < 0) continue;
        wall[step] = s.wall;
        compute[step] = s.compute;
        disk[step] = s.disk;
        both[step] = s.compute + s.disk;
    }
    const qs_sim_step *p = &g.prediction.sim.steady;
    double measured = processor_time ? median(both, STEPS) : median(wall, STEPS);
    printf("%-14s %2d layers %4d x %d tokens, %2d of %2d resident, ring %d | predicted %7.3f = %7.3f + disk "
           "%6.3f | measured %7.3f = %7.3f + disk %6.3f "
           "| %+5.1f %% (compute %+5.1f %%) by the clock %7.3f\n",
           j->shape, j->layers, j->tokens, j->micro_batches, g.plan.homes_device + g.plan.homes_host,
           g.plan.blobs, j->slots, p->seconds, p->seconds - p->disk_wait, p->disk_wait, measured,
           median(compute, STEPS), median(disk, STEPS), 100 * (p->seconds / measured - 1),
           100 * ((p->seconds - p->disk_wait) / median(compute, STEPS) - 1), median(wall, STEPS));
    fflush(stdout);
    qs_engine_close(&g);
    qs_options_free(&o);
    qs_free(model);
    qs_free(cache);
}

/* ---- the streamer alone ------------------------------------------------------------------------------ */

enum { LAYERS = 24, TILES = 4, BLOBS = LAYERS + TILES };
typedef struct sleeper {
    int slots, homes, milliseconds, polls;
} sleeper;
static const sleeper sleepers[] = {{2, 0, 0, 1},  {3, 0, 0, 1},  {3, 0, 8, 1},  {2, 0, 15, 2}, {5, 0, 15, 1},
                                   {3, 12, 2, 1}, {3, 12, 8, 1}, {2, 0, 30, 4}, {4, 20, 5, 1}};
static uint64_t blob_bytes[BLOBS];

static int make(void *context, int blob, void *place, qs_err *err)
{
    uint64_t *w = place;
    for (uint64_t i = 0; i < blob_bytes[blob] / 8; i++) w[i] = (i + (uint64_t)blob) * 0x9E3779B97F4A7C15u;
    return 0;
}

static void walk(qs_stream *stream, const qs_schedule *list, const sleeper *j)
{
    qs_stream_begin(stream, list);
    for (int32_t v = 0; v < list->count; v++) {
        const void *weights;
        must(qs_stream_acquire(stream, v, &weights, &e));
        for (int i = 0; i < j->polls && list->visits[v].blob >= 0; i++) {
            long ns = j->milliseconds * 1000000L / j->polls;
            uint64_t until = qs_now_ns() + (uint64_t)ns;
            if (ns > 200000) nanosleep(&(struct timespec){0, ns - 200000}, NULL);
            while (qs_now_ns() < until) {
            }
            qs_stream_poll(stream);
        }
        qs_stream_release(stream, v);
    }
}

static void run_sleeper(const sleeper *j, const char *dir)
{
    qs_device *device;
    qs_plan plan;
    qs_tier tier;
    qs_aio *aio;
    qs_cache *cache;
    qs_stream *stream;
    qs_schedule list;
    qs_sim_work work[2 * BLOBS + 2];
    qs_sim_result predicted;
    char *where = qs_path_join(dir, "cache-sleepers");
    must(qs_device_open("cpu", &device, &e));
    qs_plan_input in = {.ram_bytes = (uint64_t)1 << 40,
                        .shared_memory = true,
                        .blobs = BLOBS,
                        .blob_bytes = blob_bytes,
                        .ring_slots = j->slots,
                        .most_homes = j->homes};
    must(qs_plan_make(&in, &plan, &e));
    must(qs_tier_open(device, &plan, &tier, &e));
    must(qs_aio_open(&(qs_aio_config){.depth = 64}, &aio, &e));
    qs_aio_register(aio, tier.pinned.base, tier.pinned.bytes, &e);
    qs_cache_key key = {.model = "sleepers",
                        .fingerprint = "none",
                        .format = "none",
                        .blobs = BLOBS,
                        .blob_bytes = blob_bytes};
    must(qs_cache_open((const char *const *)&where, 1, &key, &cache, &e));
    qs_stream_config c = {.device = device,
                          .aio = aio,
                          .cache = cache,
                          .plan = &plan,
                          .blob_bytes = blob_bytes,
                          .tier = &tier,
                          .maker = {.make = make}};
    must(qs_stream_open(&c, &stream, &e));
    qs_schedule_train(LAYERS, TILES, 1, 0, 1, &list);
    for (int32_t v = 0; v < list.count; v++)
        work[v] = (qs_sim_work){.seconds = list.visits[v].blob >= 0 ? j->milliseconds * 1e-3 : 0,
                                .polls = j->polls};
    walk(stream, &list, j); /* fills the cache, or memory */
    must(qs_stream_settle(stream, &e));
    double ratio[STEPS], measured[STEPS], said[STEPS];
    for (int i = 0; i < STEPS; i++) { /* measured in turn with the disk, which others use too */
        qs_calibrate_config config = {.device = device,
                                      .cpu = device,
                                      .dir = dir,
                                      .disk_bytes = 256 << 20,
                                      .renew = true,
                                      .quiet = true};
        qs_calibration *k = qs_calibration_open(&config);
        must(qs_calibration_measure(k, &(qs_costs){0}, &e));
        qs_sim_input sim = {.schedule = &list,
                            .plan = &plan,
                            .blob_bytes = blob_bytes,
                            .shared_memory = true,
                            .host_computes = true,
                            .cached = true,
                            .rates = qs_calibration_rates(k).io,
                            .work = work};
        qs_simulate(&sim, &predicted);
        said[i] = predicted.steady.seconds;
        qs_sim_free(&predicted);
        qs_calibration_free(k);
        walk(stream, &list, j);
        uint64_t start = qs_now_ns();
        for (int n = 0; n < 2; n++) walk(stream, &list, j);
        measured[i] = qs_seconds(qs_now_ns() - start) / 2;
        ratio[i] = said[i] / measured[i];
    }
    printf("streamer alone: ring %d, %2d of %d resident, visits of %2d ms | predicted %.3f s | measured %.3f "
           "s | %+5.1f %%\n",
           j->slots, plan.homes_device + plan.homes_host, BLOBS, j->milliseconds, median(said, STEPS),
           median(measured, STEPS), 100 * (median(ratio, STEPS) - 1));
    fflush(stdout);
    qs_stream_close(stream);
    qs_cache_close(cache);
    qs_aio_close(aio);
    qs_tier_close(&tier);
    qs_plan_free(&plan);
    qs_schedule_free(&list);
    qs_device_close(device);
    qs_free(where);
}

int main(int argc, char **argv)
{
    int at = 1;
    if (at < argc && !strcmp(argv[at], "cpu")) {
        processor_time = true;
        at++;
    }
    const char *dir = at < argc ? argv[at++] : "bench_plan.tmp";
    bool own = !strcmp(dir, "bench_plan.tmp");
    qs_log_set_level(QS_LOG_WARN);
    must(qs_dir_create(dir, &e));
    for (int b = 0; b < BLOBS; b++) blob_bytes[b] = (uint64_t)(b < LAYERS ? 34 : 16) << 20;
    for (size_t i = 0; i < sizeof sleepers / sizeof *sleepers; i++)
        if (at >= argc || !strcmp(argv[at], "streamer")) run_sleeper(&sleepers[i], dir);
    for (int i = 0; i < JOBS; i++)
        if (at >= argc || (argv[at][0] >= '0' && argv[at][0] <= '9' && atoi(argv[at]) == i))
            run(&jobs[i], dir);
    if (own) must(qs_dir_remove(dir, &e));
    return 0;
}
