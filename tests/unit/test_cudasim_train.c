/* A whole training run on the simulated CUDA device: streamed under many seeds, it has the bits of the
 * resident run. Every order between copies and kernels that no event guarantees is tried; slots and buffers
 * are poisoned before they are taken over. And with the waits of its kernels removed the same comparison
 * fails: the test can see a race. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/engine.h"
#include "tests/cudasim/cudasim.h"
#include "tests/support/racy_device.h"
#include "tests/support/small_llama.h"
#include "tests/support/temp_dir.h"

enum { STEPS = 2, SEEDS = 50, FEW_SEEDS = 12 };

/* What a run leaves: everything that could differ. */
typedef struct outcome {
    double loss[STEPS], norm[STEPS];
    uint64_t masters, states; /* hashes */
    uint64_t link_bytes;
    bool failed; /* a step reported an error, as poison makes it */
} outcome;

static void must(int rc, const qs_err *e) { ck_assert_msg(rc == 0, "%s", e->text); }

/* The golden model has two layers; where packs of more must come and go, DIR/model has five. */
static bool deep;
static void make_deep_model(const char *dir)
{
    char *path = test_path(dir, "model");
    qs_err e = {0};
    must(qs_dir_create(path, &e), &e);
    test_llama_write(
        path,
        &(test_llama){
            .hidden = 32, .ffn = 64, .layers = 5, .heads = 2, .vocab = 61, .rows = 8, .row_tokens = 12});
    qs_free(path);
    deep = true;
}

static void parse(qs_options *o, const char *dir, const char *const *more)
{
    enum { MOST = 48 };
    const char *words[MOST] = {"--model=tests/golden/llama/model",
                               "--data=tests/golden/llama/data.jsonl",
                               "--device=cuda",
                               "--lora_r=4",
                               "--lora_dropout=0.1",
                               "--per_device_train_batch_size=1",
                               "--gradient_accumulation_steps=2",
                               "--max_seq_length=32",
                               "--no-packing",
                               "--mlp_chunk_tokens=16",
                               "--head_chunk_tokens=16",
                               "--seed=7",
                               "--vram=128M",
                               "--ram=96M",
                               "--io_engine=pread",
                               "--compute_dtype=bf16"};
    char cache[512], out[512];
    int n = 16;
    qs_err e = {0};
    char model[512], data[512];
    if (deep) {
        snprintf(model, sizeof model, "--model=%s/model", dir);
        snprintf(data, sizeof data, "--data=%s/model/data.jsonl", dir);
        words[0] = model;
        words[1] = data;
    }
    snprintf(cache, sizeof cache, "--cache=%s/cache", dir);
    snprintf(out, sizeof out, "--out=%s/out", dir);
    words[n++] = cache;
    words[n++] = out;
    for (; *more; more++) words[n++] = *more;
    must(qs_options_parse(o, n, (char **)(uintptr_t)words, NULL, 0, &e), &e);
    must(qs_options_check_train(o, &e), &e);
}

/* Of all records. */
static uint64_t hash(qs_pager *p, int32_t records, uint64_t bytes)
{
    uint64_t h = 0;
    qs_pager_begin(p, NULL);
    for (int32_t r = 0; r < records; r++) {
        h = XXH3_64bits_withSeed(qs_pager_acquire(p, r, QS_PAGE_READ), bytes, h);
        qs_pager_release(p, r, false, QS_QUEUE_COUNT);
    }
    return h;
}

/* Trains STEPS steps on a fresh simulated device. */
static outcome run(const cudasim_config *config, const char *dir, bool racy, const char *const *more)
{
    qs_options o = {0};
    qs_engine g = {0};
    qs_err e = {0};
    outcome r = {.failed = false};
    cudasim_reset(config);
    parse(&o, dir, more);
    must(qs_engine_prepare(&o, NULL, NULL, &g, &e), &e);
    if (racy) test_drop_compute_waits(g.device);
    must(qs_engine_start(&g, &e), &e);
    for (int step = 0; step < STEPS && !r.failed; step++) {
        qs_step_info info;
        qs_sweep_result result;
        must(qs_engine_fill_step(&g, step, &info, &e), &e);
        r.failed = qs_sweep_train(g.sweep, info.micro_batches, step, 1, &result, &e) ||
                   qs_update_run(g.update,
                                 &(qs_update_step){.step = step + 1,
                                                   .learning_rate = 0.01,
                                                   .loss_scale = 1,
                                                   .squares = result.gradient_squares,
                                                   .schedule = qs_sweep_schedule(g.sweep)},
                                 g.masters, g.gradients, &r.norm[step], &e);
        r.loss[step] = result.loss_sum;
    }
    uint64_t bytes;
    qs_pager *states = qs_update_states(g.update, &bytes);
    r.states = hash(states, g.lora.layers, bytes);
    r.masters = hash(g.masters, g.lora.layers, (uint64_t)g.lora.pack_floats * sizeof(float));
    r.link_bytes = qs_stream_stats_read(g.stream).link_bytes;
    must(qs_stream_settle(g.stream, &e), &e);
    qs_engine_close(&g);
    qs_options_free(&o);
    cudasim_reset(&(cudasim_config){0}); /* dies on anything left over */
    return r;
}
#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})

static bool same(const outcome *a, const outcome *b)
{
    return a->failed == b->failed && !memcmp(a->loss, b->loss, sizeof a->loss) &&
           !memcmp(a->norm, b->norm, sizeof a->norm) && a->masters == b->masters && a->states == b->states;
}

static const char *const optimizer[] = {"--optim=adamw_torch", "--optim=paged_adamw_8bit"};
#define STREAMED "--resident_layers=0", "--stream_slots=2"

START_TEST(streamed_under_any_seed_has_the_bits_of_the_resident_run)
{
    char *dir = test_dir_create();
    outcome resident = run(&(cudasim_config){.seed = 1}, dir, false, WITH(optimizer[_i]));
    ck_assert(!resident.failed && isfinite(resident.loss[STEPS - 1]) && resident.loss[0] > 0);
    for (uint64_t seed = 0; seed < (_i ? FEW_SEEDS : SEEDS); seed++) {
        outcome streamed = run(&(cudasim_config){.seed = seed, .no_managed = seed % 4 >= 2}, dir, false,
                               WITH(optimizer[_i], STREAMED));
        ck_assert_uint_gt(streamed.link_bytes, resident.link_bytes);
        ck_assert_msg(same(&resident, &streamed), "seed %llu: loss %.17g, resident %.17g",
                      (unsigned long long)seed, streamed.loss[STEPS - 1], resident.loss[STEPS - 1]);
    }
    test_dir_remove(dir);
}
END_TEST

/* Adapters, gradients, states and checkpoints pass through scratch files: the disk must wait for copies, and
 * copies for the disk. */
START_TEST(paged_under_any_seed_has_the_bits_of_the_resident_run)
{
    char *dir = test_dir_create();
    make_deep_model(dir);
    const char *o = optimizer[_i], *adapters = "--adapters_on=disk", *checkpoints = "--checkpoints_on=disk";
    outcome resident = run(&(cudasim_config){.seed = 1}, dir, false, WITH(o));
    ck_assert(!resident.failed && isfinite(resident.loss[STEPS - 1]) && resident.loss[0] > 0);
    for (uint64_t seed = 0; seed < FEW_SEEDS; seed++) {
        outcome paged =
            run(&(cudasim_config){.seed = seed}, dir, false,
                WITH(o, adapters, checkpoints, seed % 3 ? "--sweeps_per_step=1" : "--sweeps_per_step=2",
                     seed % 2 ? "--resident_layers=0" : "--resident_layers=-1"));
        ck_assert_msg(same(&resident, &paged), "seed %llu: loss %.17g, resident %.17g",
                      (unsigned long long)seed, paged.loss[STEPS - 1], resident.loss[STEPS - 1]);
    }
    test_dir_remove(dir);
}
END_TEST

/* Intermediates leave for the host and come back beside weights and checkpoints. */
START_TEST(saved_in_ram_under_any_seed_has_the_bits_of_the_resident_run)
{
    char *dir = test_dir_create();
    make_deep_model(dir);
    const char *o = optimizer[_i];
    outcome resident = run(&(cudasim_config){.seed = 1}, dir, false, WITH(o));
    ck_assert(!resident.failed && isfinite(resident.loss[STEPS - 1]) && resident.loss[0] > 0);
    for (uint64_t seed = 0; seed < FEW_SEEDS; seed++) {
        outcome kept = run(&(cudasim_config){.seed = seed}, dir, false,
                           WITH(o, STREAMED, seed % 2 ? "--keep_in_ram=100" : "--keep_in_ram=3"));
        ck_assert_uint_gt(kept.link_bytes, resident.link_bytes);
        ck_assert_msg(same(&resident, &kept), "seed %llu: loss %.17g, resident %.17g",
                      (unsigned long long)seed, kept.loss[STEPS - 1], resident.loss[STEPS - 1]);
    }
    test_dir_remove(dir);
}
END_TEST

/* The streamer without the wait that lets kernels read a slot only after its copy has arrived. How far the
 * queues are apart depends on the disk too, so not every seed shows it; one must. */
START_TEST(a_removed_wait_is_noticed)
{
    char *dir = test_dir_create();
    outcome whole = run(&(cudasim_config){.seed = 1}, dir, false, WITH(optimizer[0], STREAMED));
    bool noticed = false;
    for (uint64_t seed = 0; seed < SEEDS && !noticed; seed++) {
        outcome racy = run(&(cudasim_config){.seed = seed}, dir, true, WITH(optimizer[0], STREAMED));
        noticed = !same(&whole, &racy);
    }
    ck_assert(noticed);
    test_dir_remove(dir);
}
END_TEST

/* Cards without fast bf16 train in fp16, which needs a loss scale; --compute_dtype=auto picks both. */
START_TEST(auto_is_fp16_where_a_card_has_no_bf16)
{
    static const struct {
        int arch;
        qs_dtype type;
    } cards[] = {{75, QS_F16}, {80, QS_BF16}};
    char *dir = test_dir_create();
    for (size_t i = 0; i < sizeof cards / sizeof *cards; i++) {
        qs_options o = {0};
        qs_engine g = {0};
        qs_err e = {0};
        cudasim_reset(&(cudasim_config){.arch = cards[i].arch});
        parse(&o, dir, WITH("--compute_dtype=auto"));
        must(qs_engine_prepare(&o, NULL, NULL, &g, &e), &e);
        ck_assert_int_eq(g.sweep_config.type, cards[i].type);
        must(qs_engine_start(&g, &e), &e);
        ck_assert_int_eq(g.loss_scale.dynamic, cards[i].type == QS_F16);
        qs_engine_close(&g);
        qs_options_free(&o);
        cudasim_reset(&(cudasim_config){0});
    }
    outcome r = run(&(cudasim_config){.arch = 75}, dir, false, WITH("--compute_dtype=auto", STREAMED));
    ck_assert(!r.failed && isfinite(r.loss[STEPS - 1]) && r.loss[0] > 0);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("cudasim_train");
    TCase *t = tcase_create("train");
    tcase_add_loop_test(t, streamed_under_any_seed_has_the_bits_of_the_resident_run, 0, 2);
    tcase_add_loop_test(t, paged_under_any_seed_has_the_bits_of_the_resident_run, 0, 2);
    tcase_add_loop_test(t, saved_in_ram_under_any_seed_has_the_bits_of_the_resident_run, 0, 2);
    tcase_add_test(t, a_removed_wait_is_noticed);
    tcase_add_test(t, auto_is_fp16_where_a_card_has_no_bf16);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
