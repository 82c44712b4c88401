/* Behaviour of the data order: seeded, fresh each epoch, fair, and entered anywhere. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "src/data/batch.h"

enum { N = 60, LENGTH = 4 };

static const char *const names[] = {"made.jsonl"};
static uint32_t tokens[N * LENGTH];
static qs_sample samples[N];
static const qs_token_cache cache = {.tokens = tokens,
                                     .samples = samples,
                                     .sample_count = N,
                                     .token_count = N * LENGTH,
                                     .longest = LENGTH,
                                     .files = names,
                                     .file_count = 1};

static void fill_cache(void)
{
    for (int i = 0; i < N; i++)
        samples[i] = (qs_sample){(uint64_t)i * LENGTH, LENGTH, LENGTH - 1, (uint32_t)i + 1, 0};
    for (int i = 0; i < N * LENGTH; i++) tokens[i] = (uint32_t)i | (i % LENGTH ? QS_TOKEN_TRAINED : 0);
}

/* The sample of step `step`, one sample a step. */
static int32_t sample_at(uint64_t seed, bool in_order, int64_t step)
{
    qs_batch_options o = {.seed = seed, .in_order = in_order, .rows = 1, .micro_batches = 1};
    qs_err e;
    qs_batcher *b;
    ck_assert_int_eq(qs_batcher_create(&cache, NULL, &o, &b, &e), 0);
    char memory[4096] __attribute__((aligned(64)));
    qs_arena a = {.base = memory, .capacity = sizeof memory};
    qs_micro_batch m;
    qs_micro_batch_carve(qs_batcher_info(b), &a, &m);
    qs_batcher_fill(b, step, 0, &m);
    qs_batcher_free(b);
    return m.samples[0];
}

START_TEST(a_step_is_entered_directly_and_equals_the_walk)
{
    /* sample_at makes a new batcher for each step: a run resumed at that very step. */
    qs_batch_options o = {.seed = 11, .rows = 1, .micro_batches = 1};
    qs_err e;
    qs_batcher *b;
    ck_assert_int_eq(qs_batcher_create(&cache, NULL, &o, &b, &e), 0);
    char memory[4096] __attribute__((aligned(64)));
    qs_arena a = {.base = memory, .capacity = sizeof memory};
    qs_micro_batch m;
    qs_micro_batch_carve(qs_batcher_info(b), &a, &m);
    for (int64_t step = 0; step < 3 * N; step++) {
        qs_batcher_fill(b, step, 0, &m);
        ck_assert_int_eq(m.samples[0], sample_at(11, false, step));
    }
    qs_batcher_fill(b, (int64_t)1 << 40, 0, &m); /* far away takes no longer */
    qs_batcher_free(b);
}
END_TEST

START_TEST(orders_differ_by_seed_and_by_epoch_and_repeat_by_both)
{
    int same_seed = 0, same_epoch = 0;
    for (int64_t i = 0; i < N; i++) {
        same_seed += sample_at(1, false, i) == sample_at(2, false, i);
        same_epoch += sample_at(1, false, i) == sample_at(1, false, N + i);
        ck_assert_int_eq(sample_at(1, false, i), sample_at(1, false, i));
        ck_assert_int_eq(sample_at(1, true, i), i);
        ck_assert_int_eq(sample_at(1, true, N + i), i);
    }
    ck_assert_int_lt(same_seed, 8); /* 1 expected; 8 or more in 1 of 10^5 */
    ck_assert_int_lt(same_epoch, 8);
}
END_TEST

START_TEST(each_place_gets_each_sample_equally_often)
{
    /* Chi-square over the sample at places 0, 29 and 59 of 6,000 epochs: 59 degrees of freedom, 99.9 %
     * below 99.6; fixed seed. */
    const int64_t places[] = {0, 29, 59};
    enum { EPOCHS = 6000 };
    qs_batch_options o = {.seed = 42, .rows = 1, .micro_batches = 1};
    qs_err e;
    qs_batcher *b;
    ck_assert_int_eq(qs_batcher_create(&cache, NULL, &o, &b, &e), 0);
    char memory[4096] __attribute__((aligned(64)));
    qs_arena a = {.base = memory, .capacity = sizeof memory};
    qs_micro_batch m;
    qs_micro_batch_carve(qs_batcher_info(b), &a, &m);
    for (size_t p = 0; p < 3; p++) {
        int count[N] = {0};
        for (int64_t epoch = 0; epoch < EPOCHS; epoch++) {
            qs_batcher_fill(b, epoch * N + places[p], 0, &m);
            count[m.samples[0]]++;
        }
        double chi = 0, expected = (double)EPOCHS / N;
        for (int i = 0; i < N; i++) chi += (count[i] - expected) * (count[i] - expected) / expected;
        ck_assert_double_lt(chi, 99.6);
        ck_assert_double_gt(chi, 30); /* and not suspiciously even: 0.1 % below 30.2 */
    }
    qs_batcher_free(b);
}
END_TEST

START_TEST(validation_does_not_depend_on_batch_sizes)
{
    qs_err e;
    int32_t first[2][16];
    for (int i = 0; i < 2; i++) {
        qs_batch_options o = {
            .seed = 4, .rows = i ? 5 : 1, .micro_batches = i ? 3 : 1, .val_set_size = 16, .eval_rows = 16};
        qs_batcher *b;
        ck_assert_int_eq(qs_batcher_create(&cache, NULL, &o, &b, &e), 0);
        char memory[8192] __attribute__((aligned(64)));
        qs_arena a = {.base = memory, .capacity = sizeof memory};
        qs_micro_batch m;
        qs_micro_batch_carve(qs_batcher_info(b), &a, &m);
        qs_batcher_fill_eval(b, 0, &m);
        memcpy(first[i], m.samples, sizeof first[i]);
        qs_batcher_free(b);
    }
    ck_assert_mem_eq(first[0], first[1], sizeof first[0]);
}
END_TEST

int main(void)
{
    fill_cache();
    Suite *suite = suite_create("sampler");
    TCase *t = tcase_create("sampler");
    tcase_add_test(t, a_step_is_entered_directly_and_equals_the_walk);
    tcase_add_test(t, orders_differ_by_seed_and_by_epoch_and_repeat_by_both);
    tcase_add_test(t, each_place_gets_each_sample_equally_often);
    tcase_add_test(t, validation_does_not_depend_on_batch_sizes);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
