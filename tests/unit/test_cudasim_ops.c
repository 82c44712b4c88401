/* The operation cases on the simulated CUDA device: against the double-precision references, against the CPU
 * backend, and against itself under another order of threads and blocks. QS_SIM_ARCH=90 chooses an
 * architecture, QS_TEST_CASE=text a case. */
#include <check.h>
#include <stdlib.h>

#include "tests/cudasim/cudasim.h"
#include "tests/support/op_compare.h"

static const op_case_list *const lists[] = {&op_cases_dense, &op_cases_block, &op_cases_attention,
                                            &op_cases_norm_rope, &op_cases_train};
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

static void run_list(const op_case_list *list, int arch)
{
    qs_device *gpu = open_simulated(arch, 1), *cpu = open_device("cpu");
    op_compare_list(list, gpu, cpu, arch >= 80);
    qs_device_close(cpu);
    qs_device_close(gpu);
    cudasim_reset(&(cudasim_config){0}); /* finds what was not freed */
}

START_TEST(every_case_agrees_with_reference_and_cpu)
{
    run_list(lists[_i], getenv("QS_SIM_ARCH") ? atoi(getenv("QS_SIM_ARCH")) : 80);
}
END_TEST

/* Before sm_80 there are no tensor core kernels: attention takes another path. */
START_TEST(attention_works_without_tensor_cores) { run_list(&op_cases_attention, 75); }
END_TEST

/* Hopper's warpgroup products: attention again. */
START_TEST(attention_works_with_warpgroups) { run_list(&op_cases_attention, 90); }
END_TEST

/* Cards that run code of other cards: each gets attention kernels that exist as an image for it. The
 * simulator dies of an instruction that the card, or the code, lacks. */
START_TEST(every_card_gets_kernels_that_the_code_has)
{
    static const struct {
        int card, code;
    } pairs[] = {{75, 75}, {80, 75},  {80, 80},  {86, 80},  {89, 80},  {90, 75},  {90, 80},
                 {90, 90}, {100, 75}, {100, 90}, {120, 75}, {120, 90}, {120, 120}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        int seen = 0;
        cudasim_reset(&(cudasim_config){.seed = i, .arch = pairs[i].card, .code_arch = pairs[i].code});
        qs_device *gpu = open_device("cuda"), *cpu = open_device("cpu");
        for (int k = 0; k < op_cases_attention.count; k++) {
            const op_case *c = &op_cases_attention.cases[k];
            if (c->type == QS_F32 || (c->size[3] != 64 && c->size[3] != 128) || c->size[0] > 200 || seen >= 4)
                continue;
            op_compare_list(&(op_case_list){"attention", c, 1}, gpu, cpu, pairs[i].code >= 80);
            seen++;
        }
        ck_assert_int_ge(seen, 2);
        qs_device_close(cpu);
        qs_device_close(gpu);
    }
    cudasim_reset(&(cudasim_config){0});
}
END_TEST

static void same_bits_in_any_order(const op_case_list *list, int arch)
{
    op_run *runs[2];
    for (int r = 0; r < 2; r++) {
        qs_device *d = open_simulated(arch, (uint64_t)(2 + r));
        runs[r] = op_keep_list(list, d);
        qs_device_close(d);
    }
    op_keep_same(list, runs[0], runs[1]);
    for (int r = 0; r < 2; r++) op_keep_free(list, runs[r]);
}

START_TEST(any_order_of_threads_and_blocks_gives_the_same_bits) { same_bits_in_any_order(lists[_i], 80); }
END_TEST
START_TEST(any_order_of_warpgroups_gives_the_same_bits) { same_bits_in_any_order(&op_cases_attention, 90); }
END_TEST

int main(void)
{
    Suite *s = suite_create("cudasim_ops");
    TCase *t = tcase_create("ops");
    tcase_add_loop_test(t, every_case_agrees_with_reference_and_cpu, 0, LISTS);
    tcase_add_test(t, attention_works_without_tensor_cores);
    tcase_add_test(t, attention_works_with_warpgroups);
    tcase_add_test(t, every_card_gets_kernels_that_the_code_has);
    tcase_add_test(t, any_order_of_warpgroups_gives_the_same_bits);
    tcase_add_loop_test(t, any_order_of_threads_and_blocks_gives_the_same_bits, 0, LISTS);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
