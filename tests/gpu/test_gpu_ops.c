/* The operation cases on a real GPU: against the references and the CPU, and twice for equal bits. Exits with
 * 77 without a GPU. Nothing forks: CUDA does not survive it. QS_TEST_CASE=text chooses cases; also what
 * compute-sanitizer runs. */
#include <check.h>
#include <stdio.h>

#include "tests/support/op_compare.h"

static const op_case_list *const lists[] = {&op_cases_dense, &op_cases_block, &op_cases_attention,
                                            &op_cases_norm_rope, &op_cases_train};
enum { LISTS = sizeof lists / sizeof *lists };

static qs_device *gpu, *cpu;

static void open_both(void)
{
    qs_err e = {0};
    if (!gpu)
        ck_assert_msg(qs_device_open("cuda", &gpu, &e) == 0 && qs_device_open("cpu", &cpu, &e) == 0, "%s",
                      e.text);
}

START_TEST(every_case_agrees_with_reference_and_cpu) { op_compare_list(lists[_i], gpu, cpu, gpu->info.bf16); }
END_TEST

START_TEST(equal_arguments_give_equal_bits)
{
    op_run *first = op_keep_list(lists[_i], gpu), *second = op_keep_list(lists[_i], gpu);
    op_keep_same(lists[_i], first, second);
    op_keep_free(lists[_i], first);
    op_keep_free(lists[_i], second);
}
END_TEST

int main(void)
{
    if (!qs_device_cuda() || !qs_device_cuda()->count()) {
        qs_err e = {0};
        qs_device_open("cuda", &gpu, &e); /* says why not */
        printf("skip: %s\n", e.text);
        return 77;
    }
    Suite *s = suite_create("gpu_ops");
    TCase *t = tcase_create("ops");
    tcase_add_unchecked_fixture(t, open_both, NULL);
    tcase_add_loop_test(t, every_case_agrees_with_reference_and_cpu, 0, LISTS);
    tcase_add_loop_test(t, equal_arguments_give_equal_bits, 0, LISTS);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    qs_device_close(gpu);
    qs_device_close(cpu);
    return failed != 0;
}
