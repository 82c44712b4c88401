/* The same run on every instruction set of this processor: the same bits wherever multiply-adds are fused. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "kernels/device.h"
#include "src/base/memory.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { STEPS = 20 };

static const char *const families[] = {"llama", "gpt_neox", "qwen3", "mistral"};
enum { FAMILIES = sizeof families / sizeof *families };

static char *dir;
static void setup(void) { dir = test_dir_create(); }
static void teardown(void)
{
    ck_assert_int_eq(qs_cpu_select("auto", false, NULL), 0);
    test_dir_remove(dir);
}

/* Whether this processor runs it; says so where it does not. */
static bool runs(const char *isa)
{
    qs_err e = {0};
    if (!qs_cpu_select(isa, false, &e)) return true;
    printf("skipped: %s\n", e.text);
    return false;
}

/* Trains into DIR/NAME; `more`: a word or NULL. */
static int try_train(const char *family, const char *isa, const char *compute, const char *name,
                     const char *more, qs_err *e)
{
    char path[256];
    test_words w = {0};
    snprintf(path, sizeof path, "tests/golden/%s", family);
    test_words_golden(&w, path);
    test_words_add(&w, "--out=%s/%s", dir, name);
    test_words_add(&w, "--cache=%s/cache", dir);
    test_words_add(&w, "--vram=64M");
    test_words_add(&w, "--ram=96M");
    test_words_add(&w, "--quiet");
    test_words_add(&w, "--threads=2");
    test_words_add(&w, "--compute_dtype=%s", compute);
    test_words_add(&w, "--cpu_isa=%s", isa);
    if (more) test_words_add(&w, "%s", more);
    int rc = test_train(&w, e);
    test_words_free(&w);
    return rc;
}

static void train(const char *family, const char *isa, const char *compute, const char *name,
                  const char *more)
{
    qs_err e = {0};
    ck_assert_msg(!try_train(family, isa, compute, name, more, &e), "%s with %s: %s", family, isa, e.text);
}

static void read_rows(const char *name, test_row rows[STEPS])
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_int_eq(test_read_metrics(path, rows, STEPS), STEPS);
}

static void same_run(const char *a, const char *b)
{
    test_row x[STEPS], y[STEPS];
    char first[512], second[512];
    read_rows(a, x);
    read_rows(b, y);
    for (int s = 0; s < STEPS; s++) {
        ck_assert_msg(x[s].loss == y[s].loss, "step %d: loss %.17g in %s, %.17g in %s", s + 1, x[s].loss, a,
                      y[s].loss, b);
        ck_assert_double_eq(x[s].grad_norm, y[s].grad_norm);
    }
    snprintf(first, sizeof first, "%s/%s/adapter_model.safetensors", dir, a);
    snprintf(second, sizeof second, "%s/%s/adapter_model.safetensors", dir, b);
    ck_assert(test_same_file(first, second));
}

START_TEST(avx2_and_avx512_train_to_the_same_bits)
{
    if (!runs("v4")) return;
    train(families[_i], "v3", "fp32", "v3", NULL);
    train(families[_i], "v4", "fp32", "v4", NULL);
    same_run("v3", "v4");
}
END_TEST

/* bf16 and fp16 are stored so and multiplied in fp32, the same everywhere; a table that multiplies bf16
 * itself has another name. */
START_TEST(storage_in_16_bits_changes_nothing_of_that)
{
    static const char *const types[] = {"bf16", "fp16"};
    if (!runs("v4")) return;
    train("llama", "v3", types[_i], "v3", NULL);
    train("llama", "v4", types[_i], "v4", NULL);
    same_run("v3", "v4");
    train("llama", "auto", types[_i], "portable", "--portable_bits");
    same_run("v4", "portable");
}
END_TEST

START_TEST(without_fused_multiply_adds_a_run_stays_within_a_millionth)
{
    test_row plain[STEPS], fused[STEPS];
    if (!runs("v3")) return;
    train(families[_i], "v2", "fp32", "v2", NULL);
    train(families[_i], "v3", "fp32", "v3", NULL);
    read_rows("v2", plain);
    read_rows("v3", fused);
    for (int s = 0; s < STEPS; s++)
        ck_assert_msg(fabs(plain[s].loss - fused[s].loss) <= 1e-6 * fused[s].loss,
                      "%s step %d: %.9f and %.9f", families[_i], s + 1, plain[s].loss, fused[s].loss);
}
END_TEST

START_TEST(a_run_begun_with_avx512_ends_with_avx2_in_the_same_bits)
{
    qs_err e = {0};
    if (!runs("v4")) return;
    ck_assert_int_eq(try_train("llama", "v4", "fp32", "halves", "--stop_at_step=9", &e), -QS_EINTERRUPT);
    train("llama", "v3", "fp32", "halves", "--resume");
    train("llama", "v4", "fp32", "straight", NULL);
    same_run("halves", "straight");
}
END_TEST

/* Kernels that multiply bf16 themselves are kept where the processor has them, whatever cpu_isa says then.
 * (What happens where it has not: test_run_checks.c.) */
START_TEST(a_resumed_run_keeps_the_bf16_kernels_it_began_with)
{
    qs_err e = {0};
    if (!runs("v4_bf16")) return;
    ck_assert_int_eq(try_train("llama", "v4_bf16", "bf16", "halves", "--stop_at_step=9", &e), -QS_EINTERRUPT);
    train("llama", "v3", "bf16", "halves", "--resume");
    train("llama", "v4_bf16", "bf16", "straight", NULL);
    same_run("halves", "straight");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("isa");
    TCase *t = tcase_create("isa");
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, avx2_and_avx512_train_to_the_same_bits, 0, FAMILIES);
    tcase_add_loop_test(t, storage_in_16_bits_changes_nothing_of_that, 0, 2);
    tcase_add_loop_test(t, without_fused_multiply_adds_a_run_stays_within_a_millionth, 0, FAMILIES);
    tcase_add_test(t, a_run_begun_with_avx512_ends_with_avx2_in_the_same_bits);
    tcase_add_test(t, a_resumed_run_keeps_the_bf16_kernels_it_began_with);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
