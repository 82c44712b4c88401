/* fp16 training: a step whose gradients overflow changes nothing but the loss scale, and stopping in the
 * middle of such steps changes no bit. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/seal.h"
#include "src/base/memory.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { STEPS = 12 };

static int train(const char *dir, const char *out, int stop_at, bool resume, qs_err *e)
{
    static const char *const fixed[] = {"--model=tests/golden/llama/model",
                                        "--data=tests/golden/llama/data.jsonl",
                                        "--compute_dtype=fp16",
                                        "--lora_r=4",
                                        "--learning_rate=0.003",
                                        "--gradient_accumulation_steps=2",
                                        "--max_seq_length=64",
                                        "--no-packing",
                                        "--quiet",
                                        "--report_to=none",
                                        "--vram=64M",
                                        "--ram=96M",
                                        "--warmup_steps=3",
                                        "--save_total_limit=0"};
    test_words w = {0};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(&w, "%s", fixed[i]);
    test_words_add(&w, "--max_steps=%d", STEPS);
    test_words_add(&w, "--out=%s/%s", dir, out);
    test_words_add(&w, "--cache=%s/cache", dir);
    if (stop_at) test_words_add(&w, "--stop_at_step=%d", stop_at);
    if (resume) test_words_add(&w, "--resume");
    int rc = test_train(&w, e);
    test_words_free(&w);
    return rc;
}

/* A run at its beginning, but with a loss scale of 2^23: its first steps overflow. */
static void begin_too_high(const char *dir, const char *out)
{
    qs_err e = {0};
    char path[512], *text;
    size_t bytes;
    ck_assert_int_eq(train(dir, out, 1, false, &e), -QS_EINTERRUPT);
    snprintf(path, sizeof path, "%s/%s/checkpoint-1", dir, out);
    ck_assert_int_eq(qs_dir_remove(path, &e), 0);
    snprintf(path, sizeof path, "%s/%s/checkpoint-0/trainer_state.json", dir, out);
    ck_assert_int_eq(qs_file_read(path, 1 << 16, &text, &bytes, &e), 0);
    char *at = strstr(text, "\"scale\": 65536.0");
    ck_assert_ptr_nonnull(at);
    char *high =
        qs_printf("%.*s\"scale\": 8388608.0%s", (int)(at - text), text, at + strlen("\"scale\": 65536.0"));
    char *checksum = strstr(high, ",\n  \"checksum\""), seal[QS_SEAL_BYTES];
    ck_assert_ptr_nonnull(checksum);
    qs_seal_make(&qs_seal_json, high, (size_t)(checksum - high), seal);
    memcpy(checksum, seal, strlen(seal));
    ck_assert_int_eq(qs_file_replace(path, high, strlen(high), &e), 0);
    qs_free(high);
    qs_free(text);
}

static int rows_of(const char *dir, const char *out, test_row rows[STEPS])
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, out);
    return test_read_metrics(path, rows, STEPS);
}

START_TEST(a_step_that_overflows_changes_nothing_but_the_scale)
{
    char *dir = test_dir_create();
    qs_err e = {0};
    test_row rows[STEPS];
    begin_too_high(dir, "high");
    ck_assert_msg(!train(dir, "high", 0, true, &e), "%s", e.text);
    ck_assert_int_eq(rows_of(dir, "high", rows), STEPS);
    int skipped = 0;
    for (int i = 0; i < STEPS; i++) skipped += rows[i].grad_norm == 0; /* null */
    ck_assert_int_gt(skipped, 2);
    ck_assert_int_lt(skipped, STEPS - 4);
    ck_assert(rows[0].grad_norm == 0 && rows[1].loss != rows[0].loss); /* the data moves on */
    for (int i = 0; i + 1 < STEPS; i++) /* the schedule does not, but in steps that were made */
        ck_assert_int_eq(rows[i].learning_rate != rows[i + 1].learning_rate, rows[i].grad_norm > 0);
    test_dir_remove(dir);
}
END_TEST

START_TEST(stopping_among_skipped_steps_changes_no_bit)
{
    char *dir = test_dir_create(), x[512], y[512];
    qs_err e = {0};
    test_row straight[STEPS], halves[STEPS];
    begin_too_high(dir, "straight");
    begin_too_high(dir, "halves");
    ck_assert_msg(!train(dir, "straight", 0, true, &e), "%s", e.text);
    ck_assert_int_eq(train(dir, "halves", 3, true, &e), -QS_EINTERRUPT);
    ck_assert_int_eq(train(dir, "halves", 9, true, &e), -QS_EINTERRUPT);
    ck_assert_msg(!train(dir, "halves", 0, true, &e), "%s", e.text);
    ck_assert_int_eq(rows_of(dir, "straight", straight), STEPS);
    ck_assert_int_eq(rows_of(dir, "halves", halves), STEPS);
    for (int i = 0; i < STEPS; i++)
        ck_assert(straight[i].loss == halves[i].loss && straight[i].grad_norm == halves[i].grad_norm);
    snprintf(x, sizeof x, "%s/straight/adapter_model.safetensors", dir);
    snprintf(y, sizeof y, "%s/halves/adapter_model.safetensors", dir);
    ck_assert(test_same_file(x, y));
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("fp16");
    TCase *t = tcase_create("fp16");
    tcase_add_test(t, a_step_that_overflows_changes_nothing_but_the_scale);
    tcase_add_test(t, stopping_among_skipped_steps_changes_no_bit);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
