/* The dense scratch (src/model/weights.h): a whole layer's weights, or where memory is short one product's.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/engine.h"
#include "tests/support/small_llama.h"
#include "tests/support/temp_dir.h"

enum { STEPS = 3, LAYERS = 3, TOKENS = 24 };

static char *dir;
static qs_options o;
static qs_engine g;
static qs_err e;

static void must(int rc) { ck_assert_msg(rc == 0, "%s", e.text); }

static void prepare(const char *device, uint64_t vram_kib)
{
    char words[][512] = {"--lora_dropout=0.1",
                         "--per_device_train_batch_size=1",
                         "--no-packing",
                         "--ram=96M",
                         "--io_engine=pread",
                         "--compute_dtype=bf16",
                         "--mlp_chunk_tokens=16",
                         "--head_chunk_tokens=16",
                         "--max_seq_length=24",
                         "--gradient_accumulation_steps=2",
                         "",
                         "",
                         "",
                         "",
                         "",
                         ""};
    char *argv[sizeof words / sizeof *words];
    int count = sizeof words / sizeof *words, at = 10;
    g = (qs_engine){0};
    snprintf(words[at++], sizeof *words, "--model=%s", dir);
    snprintf(words[at++], sizeof *words, "--data=%s/data.jsonl", dir);
    snprintf(words[at++], sizeof *words, "--cache=%s/cache", dir);
    snprintf(words[at++], sizeof *words, "--out=%s/out", dir);
    snprintf(words[at++], sizeof *words, "--device=%s", device);
    snprintf(words[at++], sizeof *words, "--vram=%lluK", (unsigned long long)vram_kib);
    for (int i = 0; i < count; i++) argv[i] = words[i];
    must(qs_options_parse(&o, count, argv, NULL, 0, &e));
    must(qs_options_check_train(&o, &e));
    must(qs_engine_prepare(&o, NULL, NULL, &g, &e));
}

static void finish(void)
{
    qs_engine_close(&g);
    qs_options_free(&o);
}

/* Losses, and the squares of every layer's gradients. */
static void train(double out[STEPS][1 + LAYERS])
{
    must(qs_engine_start(&g, &e));
    for (int64_t step = 0; step < STEPS; step++) {
        qs_step_info info;
        qs_sweep_result result;
        must(qs_engine_fill_step(&g, step, &info, &e));
        must(qs_sweep_train(g.sweep, info.micro_batches, step, 1, &result, &e));
        out[step][0] = result.loss_sum;
        memcpy(&out[step][1], result.gradient_squares, LAYERS * sizeof(double));
    }
}

static const char *const devices[] = {"cpu", "cpu:discrete"};

START_TEST(one_product_at_a_time_needs_less_memory_and_has_the_same_bits)
{
    double whole[STEPS][1 + LAYERS], by_group[STEPS][1 + LAYERS];
    uint64_t least, ram;
    dir = test_dir_create();
    qs_log_set_level(QS_LOG_WARN);
    test_llama_write(dir, &(test_llama){.hidden = 128,
                                        .ffn = 512,
                                        .layers = LAYERS,
                                        .heads = 2,
                                        .vocab = 61,
                                        .rows = 20,
                                        .row_tokens = TOKENS});
    prepare(devices[_i], 131072);
    ck_assert(!g.placement.dense_by_group);
    qs_placement_minimum(&g.job, &least, &ram);
    uint64_t saved = (g.layout.dense_elements - g.layout.group_elements) * 2;
    ck_assert_uint_eq(g.layout.group_elements, 2 * 512 * 128);
    train(whole);
    finish();

    prepare(devices[_i], (least + 1023) / 1024);
    ck_assert(g.placement.dense_by_group);
    qs_placement p = g.placement;
    uint64_t small, large;
    qs_placement_budgets(&g.job, &p, &small, &ram);
    p.dense_by_group = false;
    qs_placement_budgets(&g.job, &p, &large, &ram);
    ck_assert_uint_eq(large - small, saved);
    train(by_group);
    finish();
    ck_assert_mem_eq(whole, by_group, sizeof whole);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dense");
    TCase *t = tcase_create("dense");
    tcase_add_loop_test(t, one_product_at_a_time_needs_less_memory_and_has_the_same_bits, 0, 2);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
