/* The operation cases on the simulated CUDA device: against the double-precision references, against the CPU backend, and
 * against itself under another order of threads and blocks. QS_SIM_ARCH=90 chooses one architecture, QS_SIM_CASE=text one case. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "tests/cudasim/cudasim.h"
#include "tests/support/op_cases.h"

static const op_case_list *const lists[] = {&op_cases_dense, &op_cases_block, &op_cases_attention, &op_cases_train};
enum { LISTS = sizeof lists / sizeof *lists };

static qs_device *open_device(const char *name)
{
    qs_err e = {0};
    qs_device *d;
    ck_assert_msg(qs_device_open(name, &d, &e) == 0, "%s", e.text);
    return d;
}

static qs_device *open_simulated(int arch, uint64_t seed)
{
    cudasim_reset(&(cudasim_config){.seed = seed, .arch = arch});
    return open_device("cuda");
}

static bool wanted(const op_case *c)
{
    const char *text = getenv("QS_SIM_CASE");
    return !text || strstr(c->name, text);
}

/* The tensor cores take probabilities and their gradients as 16-bit operands. The gradients are differences of terms of order
 * sqrt(head size), so one rounding of them costs a few times the tolerance, which is made for fp32 operands. */
static double slack(const op_case *c, int arch)
{
    return arch >= 80 && c->type != QS_F32 && strstr(c->name, "attention") ? 4 : 1;
}

static void run_list(const op_case_list *list, int arch)
{
    qs_device *gpu = open_simulated(arch, 1), *cpu = open_device("cpu");
    for (int k = 0; k < list->count; k++) {
        op_run ours, theirs;
        char where[160];
        if (!wanted(&list->cases[k])) continue;
        op_run_create(&ours, &list->cases[k]);
        op_run_create(&theirs, &list->cases[k]);
        list->cases[k].kind->reference(&ours);
        op_run_execute(&ours, gpu);
        op_run_execute(&theirs, cpu);
        double error = op_run_error(&ours, NULL, where) / slack(&list->cases[k], arch);
        if (getenv("QS_TEST_VERBOSE")) printf("%-45s %6.3f of the tolerance\n", list->cases[k].name, error);
        ck_assert_msg(error <= 1, "%s: %s", list->cases[k].name, where);
        error = op_run_error(&ours, &theirs, where) / slack(&list->cases[k], arch); /* each may be one tolerance away from the reference */
        ck_assert_msg(error <= 2, "%s, CPU as expected: %s", list->cases[k].name, where);
        op_run_free(&ours);
        op_run_free(&theirs);
    }
    qs_device_close(cpu);
    qs_device_close(gpu);
    cudasim_reset(&(cudasim_config){0}); /* finds what was not freed */
}

START_TEST(every_case_agrees_with_reference_and_cpu) { run_list(lists[_i], getenv("QS_SIM_ARCH") ? atoi(getenv("QS_SIM_ARCH")) : 80); }
END_TEST

/* Before sm_80 there are no tensor core kernels: attention takes another path. */
START_TEST(attention_works_without_tensor_cores) { run_list(&op_cases_attention, 75); }
END_TEST

/* Runs the list under a seed and keeps the results. */
static op_run *run_seeded(const op_case_list *list, uint64_t seed)
{
    op_run *runs = qs_calloc((size_t)list->count, sizeof *runs);
    qs_device *d = open_simulated(80, seed);
    for (int k = 0; k < list->count; k++) {
        op_run_create(&runs[k], &list->cases[k]);
        op_run_execute(&runs[k], d);
    }
    qs_device_close(d);
    return runs;
}

START_TEST(any_order_of_threads_and_blocks_gives_the_same_bits)
{
    const op_case_list *list = lists[_i];
    op_run *first = run_seeded(list, 2), *second = run_seeded(list, 3);
    for (int k = 0; k < list->count; k++) {
        for (int a = 0; a < first[k].arrays; a++) {
            const op_array *x = &first[k].array[a];
            size_t bytes = x->rows ? (size_t)((x->rows - 1) * x->stride + x->cols) * qs_dtype_bytes(x->type) : 0;
            ck_assert_msg(!memcmp(x->after, second[k].array[a].after, bytes), "%s: array %d differs", list->cases[k].name, a);
        }
        op_run_free(&first[k]);
        op_run_free(&second[k]);
    }
    qs_free(first);
    qs_free(second);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cudasim_ops");
    TCase *t = tcase_create("ops");
    tcase_set_timeout(t, 200);
    tcase_add_loop_test(t, every_case_agrees_with_reference_and_cpu, 0, LISTS);
    tcase_add_test(t, attention_works_without_tensor_cores);
    tcase_add_loop_test(t, any_order_of_threads_and_blocks_gives_the_same_bits, 0, LISTS);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
