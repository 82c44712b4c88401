/* Behaviour of src/step/fetches: what is counted beforehand is what a run brings over the link. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>

#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/step/fetches.h"
#include "src/train/engine.h"
#include "tests/support/small_llama.h"
#include "tests/support/temp_dir.h"

enum { ROW_TOKENS = 12 };

static char *dir;
static qs_options o;
static qs_engine g;
static qs_err e;

static void must(int rc) { ck_assert_msg(rc == 0, "%s", e.text); }

/* Everything resident: what crosses the link is checkpoints and saved activations alone. */
static void start(int micro_batches, int sweeps, int keep_in_ram)
{
    char words[][512] = {"--device=cpu:discrete",
                         "--per_device_train_batch_size=1",
                         "--no-packing",
                         "--vram=128M",
                         "--ram=96M",
                         "--io_engine=pread",
                         "--compute_dtype=bf16",
                         "--resident_layers=-1",
                         "",
                         "",
                         "",
                         "",
                         "",
                         "",
                         "",
                         "",
                         ""};
    char *argv[sizeof words / sizeof *words];
    int count = sizeof words / sizeof *words, at = 8;
    snprintf(words[at++], sizeof *words, "--model=%s", dir);
    snprintf(words[at++], sizeof *words, "--data=%s/data.jsonl", dir);
    snprintf(words[at++], sizeof *words, "--cache=%s/cache", dir);
    snprintf(words[at++], sizeof *words, "--out=%s/out", dir);
    snprintf(words[at++], sizeof *words, "--max_seq_length=%d", ROW_TOKENS);
    snprintf(words[at++], sizeof *words, "--gradient_accumulation_steps=%d", micro_batches);
    snprintf(words[at++], sizeof *words, "--sweeps_per_step=%d", sweeps);
    snprintf(words[at++], sizeof *words, "--keep_in_ram=%d", keep_in_ram);
    snprintf(words[at++], sizeof *words, "--keep_layers=%d", keep_in_ram);
    for (int i = 0; i < count; i++) argv[i] = words[i];
    must(qs_options_parse(&o, count, argv, NULL, 0, &e));
    must(qs_options_check_train(&o, &e));
    must(qs_engine_prepare(&o, NULL, NULL, &g, &e));
    must(qs_engine_start(&g, &e));
}

static uint64_t link_bytes_of_step(int64_t step)
{
    qs_step_info info;
    qs_sweep_result result;
    uint64_t before = qs_sweep_link_bytes(g.sweep);
    must(qs_engine_fill_step(&g, step, &info, &e));
    must(qs_sweep_train(g.sweep, info.micro_batches, step, 1, &result, &e));
    return qs_sweep_link_bytes(g.sweep) - before;
}

static uint64_t counted(void)
{
    const qs_sweep_config *c = &g.sweep_config;
    const qs_schedule *s = qs_sweep_schedule(g.sweep);
    qs_visit_rules rules = qs_visit_rules_of(c);
    int32_t rows = qs_sweep_rows(c->sizes.max_tokens, ROW_TOKENS);
    qs_record_bytes bytes = qs_record_bytes_of(c, &g.update_config, rows, qs_sweep_saved_bytes(c));
    qs_fetches f;
    uint64_t sum = 0;
    bytes.link[QS_RECORD_MASTERS] = bytes.link[QS_RECORD_GRADIENTS] = bytes.link[QS_RECORD_STATES] = 0;
    qs_fetches_count(&rules, s, &f);
    for (int32_t v = 0; v < s->count; v++) {
        qs_visit_traffic t = qs_visit_traffic_of(&rules, &bytes, &s->visits[v]);
        sum += t.link_in + t.link_out;
        for (int k = 0; k < QS_RECORDS; k++)
            if (f.of[k]) sum += (uint64_t)f.of[k][v] * bytes.link[k];
    }
    qs_fetches_free(&f);
    return sum;
}

START_TEST(what_is_counted_is_what_a_run_brings_over_the_link)
{
    int micro_batches = _i % 7 + 1, sweeps = _i % 3 + 1, kept = _i % 4;
    dir = test_dir_create();
    qs_log_set_level(QS_LOG_WARN);
    test_llama_write(dir, &(test_llama){.hidden = 32,
                                        .ffn = 64,
                                        .layers = 5,
                                        .heads = 2,
                                        .vocab = 61,
                                        .rows = 40,
                                        .row_tokens = ROW_TOKENS});
    start(micro_batches, sweeps < micro_batches ? sweeps : micro_batches, kept);
    for (int64_t step = 0; step < 3; step++) {
        uint64_t bytes = link_bytes_of_step(step);
        if (step) ck_assert_uint_eq(bytes, counted());
    }
    ck_assert_int_eq(g.sweep_config.saved_in_ram, kept);
    qs_engine_close(&g);
    qs_options_free(&o);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fetches");
    TCase *t = tcase_create("fetches");
    tcase_add_loop_test(t, what_is_counted_is_what_a_run_brings_over_the_link, 0, 28);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
