/* Budgets are kept: the process's peak resident set stays within --vram + --ram + 64 MiB, and the plan's
 * bytes are the bytes used. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/engine.h"
#include "tests/support/small_llama.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { ROW_TOKENS = 96, MIB = 1 << 20, ALLOWANCE_MIB = 64 };

/* A model of 30 million parameters: its 16-bit weights are more than the smaller budgets hold. */
static void write_model(const char *dir)
{
    test_llama_write(dir, &(test_llama){.hidden = 512,
                                        .ffn = 1536,
                                        .layers = 6,
                                        .heads = 8,
                                        .vocab = 8192,
                                        .rows = 24,
                                        .row_tokens = ROW_TOKENS});
}

static void words(test_words *w, const char *dir, int vram, int ram, const char *name)
{
    test_words_add(w, "--model=%s", dir);
    test_words_add(w, "--data=%s/data.jsonl", dir);
    test_words_add(w, "--out=%s/%s", dir, name);
    test_words_add(w, "--cache=%s/cache-%s", dir, name);
    test_words_add(w, "--vram=%dM", vram);
    test_words_add(w, "--ram=%dM", ram);
    test_words_add(w, "--max_steps=2");
    test_words_add(w, "--max_seq_length=%d", ROW_TOKENS);
    test_words_add(w, "--no-packing");
    test_words_add(w, "--per_device_train_batch_size=2");
    test_words_add(w, "--gradient_accumulation_steps=2");
    test_words_add(w, "--quiet");
}

/* A sanitizer's own bookkeeping is most of the process, and no budget's business. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#elif defined __has_feature
enum { SANITIZED = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) };
#else
enum { SANITIZED = 0 };
#endif

static const struct {
    int vram, ram;
} pairs[] = {{24, 72}, {64, 96}, {256, 512}};

/* Trains in a child process; its peak resident set must be within both budgets. */
static void check_peak(const test_words *w, double vram_mib, double ram_mib)
{
    pid_t child = fork();
    if (!child) {
        qs_err e = {0};
        int rc = test_train(w, &e);
        if (rc) fprintf(stderr, "%s\n", e.text);
        _exit(rc ? 1 : 0);
    }
    int status;
    struct rusage usage;
    ck_assert_int_eq(wait4(child, &status, 0, &usage), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                  "training with --vram %.1fM --ram %.1fM failed", vram_mib, ram_mib);
    int peak = (int)(usage.ru_maxrss / 1024), allowed = (int)(vram_mib + ram_mib + ALLOWANCE_MIB);
    printf("--vram %.1fM --ram %.1fM: peak resident set %d MiB of %d allowed\n", vram_mib, ram_mib, peak,
           allowed);
    if (SANITIZED)
        printf("skip: the peak is not judged in a sanitizer's build\n");
    else
        ck_assert_int_le(peak, allowed);
}

START_TEST(peak_memory_is_within_both_budgets)
{
    char *dir = test_dir_create();
    test_words w = {0};
    write_model(dir);
    words(&w, dir, pairs[_i].vram, pairs[_i].ram, "run");
    check_peak(&w, pairs[_i].vram, pairs[_i].ram);
    test_words_free(&w);
    test_dir_remove(dir);
}
END_TEST

START_TEST(the_plan_s_bytes_are_the_bytes_used)
{
    char *dir = test_dir_create();
    qs_err e = {0};
    write_model(dir);
    test_words w = {0};
    words(&w, dir, pairs[_i].vram, pairs[_i].ram, "plan");
    qs_options o = {0};
    qs_engine g = {0};
    ck_assert_msg(!qs_options_parse(&o, w.count, w.word, NULL, 0, &e), "%s", e.text);
    ck_assert_msg(!qs_engine_prepare(&o, NULL, NULL, &g, &e), "%s", e.text);
    uint64_t before = qs_mem_read().block_bytes, planned = 0, items = 0;
    ck_assert_msg(!qs_engine_start(&g, &e), "%s", e.text);
    for (int p = 0; p < QS_POOL_COUNT; p++) planned += g.plan.pool_bytes[p];
    for (int i = 0; i < g.plan.item_count; i++) items += g.plan.items[i].bytes;
    ck_assert_uint_eq(items, planned);
    ck_assert_uint_eq(qs_mem_read().block_bytes - before,
                      planned); /* on the CPU the device's pool is a block as well */
    for (int i = 0; i < g.plan.item_count; i++) ck_assert(g.tier.taken[i]);
    ck_assert_uint_le(g.plan.vram_used, (uint64_t)pairs[_i].vram * MIB);
    ck_assert_uint_le(g.plan.ram_used, (uint64_t)pairs[_i].ram * MIB);
    qs_engine_close(&g);
    ck_assert_uint_eq(qs_mem_read().block_bytes, before);
    qs_options_free(&o);
    test_words_free(&w);
    test_dir_remove(dir);
}
END_TEST

START_TEST(a_budget_too_small_is_refused_with_one_that_works)
{
    char *dir = test_dir_create();
    qs_err e = {0};
    write_model(dir);
    test_words w = {0};
    words(&w, dir, 4, 512, "small");
    ck_assert_int_eq(test_train(&w, &e), -QS_EBUDGET);
    const char *advice = strstr(e.text, "give --vram ");
    ck_assert_msg(advice != NULL, "%s", e.text);
    test_words_free(&w);
    w = (test_words){0};
    words(&w, dir, atoi(advice + strlen("give --vram ")), 512, "advised");
    ck_assert_msg(!test_train(&w, &e), "%s", e.text);
    test_words_free(&w);
    test_dir_remove(dir);
}
END_TEST

/* With less and less RAM something must give way: adapters or checkpoints go to disk, or a step makes more
 * sweeps, whichever is fastest. At last it is refused. */
START_TEST(what_does_not_fit_gives_way)
{
    char *dir = test_dir_create();
    write_model(dir);
    int stage = 0, seen = 0;
    for (int ram_kib = 76 << 10; ram_kib > 0; ram_kib -= 1024) {
        qs_err e = {0};
        qs_options o = {0};
        qs_engine g = {0};
        test_words w = {0};
        words(&w, dir, 64, 96, "steps");
        test_words_add(&w, "--gradient_accumulation_steps=6");
        test_words_add(&w, "--keep_layers=0"); /* more sweeps only where memory asks for them */
        test_words_add(&w, "--ram=%d", ram_kib << 10);
        ck_assert_msg(!qs_options_parse(&o, w.count, w.word, NULL, 0, &e), "%s", e.text);
        int rc = qs_engine_prepare(&o, NULL, NULL, &g, &e);
        int now = g.sweep_config.sweeps > 1
                      ? 4
                      : g.placement.adapters_on_disk + 2 * g.sweep_config.checkpoints_on_disk;
        if (!rc && stage) ck_assert_int_gt(now, 0); /* what did not fit does not fit in less */
        if (!rc) seen |= 1 << (stage = now);
        qs_engine_close(&g);
        qs_options_free(&o);
        test_words_free(&w);
        if (rc) {
            ck_assert_int_eq(rc, -QS_EBUDGET);
            break;
        }
    }
    ck_assert(seen & 1 << 0 && seen & 1 << 4); /* nothing, and at last more sweeps */
    ck_assert(seen & (1 << 1 | 1 << 2 | 1 << 3));
    test_dir_remove(dir);
}
END_TEST

/* What `plan` prints as the smallest budgets. */
static void smallest(const char *dir, const char *device, uint64_t *vram, uint64_t *ram)
{
    qs_err e = {0};
    qs_options o = {0};
    qs_engine g = {0};
    test_words w = {0};
    words(&w, dir, 4096, 4096, "smallest");
    test_words_add(&w, "--device=%s", device);
    ck_assert_msg(!qs_options_parse(&o, w.count, w.word, NULL, 0, &e), "%s", e.text);
    ck_assert_msg(!qs_engine_prepare(&o, NULL, NULL, &g, &e), "%s", e.text);
    qs_placement_minimum(&g.job, vram, ram);
    qs_engine_close(&g);
    qs_options_free(&o);
    test_words_free(&w);
}

static void words_within(test_words *w, const char *dir, const char *device, uint64_t vram, uint64_t ram,
                         const char *name)
{
    words(w, dir, 1, 1, name);
    test_words_add(w, "--device=%s", device);
    test_words_add(w, "--vram=%llu", (unsigned long long)vram);
    test_words_add(w, "--ram=%llu", (unsigned long long)ram);
}

static void check_refused(const char *dir, const char *device, uint64_t vram, uint64_t ram)
{
    qs_err e = {0};
    test_words w = {0};
    words_within(&w, dir, device, vram, ram, "less");
    ck_assert_int_eq(test_train(&w, &e), -QS_EBUDGET);
    test_words_free(&w);
}

/* The last resort: everything that may be is on disk, one micro-batch at a time. A page less, and there is
 * none. */
START_TEST(a_run_within_the_smallest_budgets_trains)
{
    static const char *const device[] = {"cpu", "cpu:discrete"};
    char *dir = test_dir_create();
    test_words w = {0};
    uint64_t vram, ram;
    write_model(dir);
    smallest(dir, device[_i], &vram, &ram);
    check_refused(dir, device[_i], vram - 4096, ram);
    check_refused(dir, device[_i], vram, ram - 4096);
    words_within(&w, dir, device[_i], vram, ram, "just");
    check_peak(&w, (double)vram / MIB, (double)ram / MIB);
    test_words_free(&w);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("budget");
    tcase_add_loop_test(t, peak_memory_is_within_both_budgets, 0, sizeof pairs / sizeof *pairs);
    tcase_add_loop_test(t, the_plan_s_bytes_are_the_bytes_used, 0, sizeof pairs / sizeof *pairs);
    tcase_add_test(t, a_budget_too_small_is_refused_with_one_that_works);
    tcase_add_test(t, what_does_not_fit_gives_way);
    tcase_add_loop_test(t, a_run_within_the_smallest_budgets_trains, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
