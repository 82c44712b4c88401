/* The operations on the CPU, against double-precision references: the list of cases is
 * tests/support/op_cases.h. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "tests/support/op_cases.h"

static const op_case_list *const lists[] = {&op_cases_dense, &op_cases_block, &op_cases_attention,
                                            &op_cases_norm_rope, &op_cases_train};
enum { LISTS = sizeof lists / sizeof *lists };

static qs_device *open_cpu(unsigned flags)
{
    qs_err e = {0};
    qs_device *d;
    ck_assert_msg(qs_device_cpu.open(0, flags, &d, &e) == 0, "%s", e.text);
    return d;
}

/* Every case of a list; `discrete`: on the device that insists on copies. */
static void run_list(const op_case_list *list, unsigned flags)
{
    qs_device *d = open_cpu(flags);
    for (int k = 0; k < list->count; k++) {
        op_run r;
        char where[160];
        op_run_create(&r, &list->cases[k]);
        list->cases[k].kind->reference(&r);
        op_run_execute(&r, d);
        double error = op_run_error(&r, NULL, where);
        if (getenv("QS_TEST_VERBOSE")) printf("%-45s %6.3f of the tolerance\n", list->cases[k].name, error);
        ck_assert_msg(error <= 1, "%s: %s", list->cases[k].name, where);
        op_run_free(&r);
    }
    ck_assert_uint_eq(d->api->used_bytes(d), 0);
    qs_device_close(d);
}

START_TEST(every_case_agrees_with_its_reference) { run_list(lists[_i], 0); }
END_TEST

/* ---- every instruction set of this processor --------------------------------------------------------- */

static const char *const isas[] = {"v2", "v3", "v4", "v4_bf16", "neon", "neon_bf16"};
enum { ISAS = sizeof isas / sizeof *isas };

/* A device with the kernels of an instruction set; NULL where it is not this processor's. */
static qs_device *open_isa(const char *isa)
{
    if (qs_cpu_select(isa, false, NULL)) return NULL;
    return open_cpu(0);
}

START_TEST(every_instruction_set_agrees_with_the_references)
{
    qs_err e = {0};
    if (qs_cpu_select(isas[_i / LISTS], false, &e))
        printf("skipped: %s\n", e.text);
    else
        run_list(lists[_i % LISTS], 0);
}
END_TEST

/* bf16 alone may be multiplied by kernels of its own, whose name then says so. */
START_TEST(instruction_sets_with_fused_multiply_adds_give_the_same_bits)
{
    const op_case_list *list = lists[_i];
    op_run *first = qs_calloc((size_t)list->count, sizeof *first);
    int devices = 0;
    for (int isa = 0; isa < ISAS; isa++) {
        qs_device *d = open_isa(isas[isa]);
        if (!d || strncmp(d->info.kernels, "fma", 3)) {
            qs_device_close(d);
            continue;
        }
        bool same_bf16 = !strcmp(d->info.kernels, d->info.kernels_bf16);
        for (int k = 0; k < list->count; k++) {
            op_run r;
            op_run_create(&r, &list->cases[k]);
            op_run_execute(&r, d);
            bool bf16 = r.c->type == QS_BF16 || r.c->type2 == QS_BF16;
            for (int a = 0; devices && a < r.arrays && (same_bf16 || !bf16); a++) {
                const op_array *x = &r.array[a];
                size_t size = x->fp64 ? 8 : qs_dtype_bytes(x->type),
                       bytes = x->rows ? (size_t)((x->rows - 1) * x->stride + x->cols) * size : 0;
                ck_assert_msg(!memcmp(x->after, first[k].array[a].after, bytes),
                              "%s: array %d has other bits with %s", r.c->name, a, isas[isa]);
            }
            if (devices)
                op_run_free(&r);
            else
                first[k] = r;
        }
        devices++;
        qs_device_close(d);
    }
    if (devices < 2) printf("skipped: %d instruction set with fused multiply-adds here\n", devices);
    for (int k = 0; devices && k < list->count; k++) op_run_free(&first[k]);
    qs_free(first);
}
END_TEST

START_TEST(a_wrong_instruction_set_is_refused_with_the_right_ones)
{
    qs_err e = {0};
    ck_assert_int_eq(qs_cpu_select("avx2", false, &e), -QS_EINVAL);
    ck_assert_ptr_nonnull(strstr(e.text, "expected auto or one of "));
    ck_assert_int_eq(qs_cpu_select("auto", false, &e), 0);
    for (int isa = 0; isa < ISAS; isa++) {
        int rc = qs_cpu_select(isas[isa], false, &e);
        ck_assert_msg(!rc || rc == -QS_EINVAL || (rc == -QS_EUNSUP && strstr(e.text, "it runs ")), "%s: %s",
                      isas[isa], e.text);
    }
}
END_TEST

START_TEST(portable_bits_take_kernels_that_every_processor_has)
{
    qs_err e = {0};
    if (qs_cpu_select("auto", true, &e)) {
        ck_assert_ptr_nonnull(strstr(e.text, "no fused multiply-add"));
        return;
    }
    qs_device *d = open_cpu(0);
    ck_assert_str_eq(d->info.kernels, d->info.kernels_bf16);
    ck_assert_int_eq(strncmp(qs_device_kernels(d, QS_BF16), "fma", 3), 0);
    ck_assert(!d->info.bf16);
    qs_device_close(d);
    ck_assert_int_ne(qs_cpu_select("v2", true, &e), 0);
}
END_TEST

START_TEST(every_case_works_on_device_memory_alone) { run_list(lists[_i], QS_CPU_DISCRETE); }
END_TEST

START_TEST(equal_arguments_give_equal_bits)
{
    const op_case_list *list = lists[_i];
    qs_device *d = open_cpu(0);
    for (int k = 0; k < list->count; k++) {
        op_run first, second;
        op_run_create(&first, &list->cases[k]);
        op_run_create(&second, &list->cases[k]);
        op_run_execute(&first, d);
        op_run_execute(&second, d);
        for (int a = 0; a < first.arrays; a++) {
            const op_array *x = &first.array[a];
            size_t bytes =
                x->rows ? (size_t)((x->rows - 1) * x->stride + x->cols) * qs_dtype_bytes(x->type) : 0;
            ck_assert_msg(!memcmp(x->after, second.array[a].after, bytes), "%s: array %d differs",
                          list->cases[k].name, a);
        }
        op_run_free(&first);
        op_run_free(&second);
    }
    qs_device_close(d);
}
END_TEST

/* Sum of output * gradient-of-output of the forward reference, its input moved by `step` along direction
 * number `direction`; *predicted is the change that the answered gradient foresees. fp32 inputs move by what
 * fp32 makes of the step. */
static double loss_along(const op_gradient *g, const op_run *backward, int direction, double step,
                         double *predicted)
{
    op_run r;
    op_run_create(&r, &g->forward);
    const op_array *x = &r.array[g->input], *out = &r.array[g->output],
                   *answer = &backward->array[g->input_gradient];
    *predicted = 0;
    for (int64_t i = 0; i < x->rows * x->cols; i++) {
        float *at = (float *)x->before + i, was = *at;
        *at += (float)(step * op_normal(1000 + (uint64_t)direction, (uint64_t)i));
        *predicted += ((double)*at - was) * ((const float *)answer->after)[i];
    }
    g->forward.kind->reference(&r);
    double loss = 0;
    for (int64_t i = 0; i < out->rows * out->cols; i++)
        loss += out->want[i] * (g->output_gradient < 0
                                    ? g->weight
                                    : ((const float *)backward->array[g->output_gradient].before)[i]);
    op_run_free(&r);
    return loss;
}

static void check_gradient(const op_gradient *g, qs_device *d)
{
    op_run backward;
    op_run_create(&backward, &g->backward);
    op_run_execute(&backward, d);
    const op_array *answer = &backward.array[g->input_gradient];
    double squares = 0;
    for (int64_t i = 0; i < answer->rows * answer->cols; i++)
        squares += pow(((const float *)answer->after)[i], 2);
    for (int direction = 0; direction < 12; direction++) {
        double up, down, step = 1e-3, predicted_up, predicted_down;
        up = loss_along(g, &backward, direction, step, &predicted_up);
        down = loss_along(g, &backward, direction, -step, &predicted_down);
        double error = fabs((up - down) - (predicted_up - predicted_down));
        /* a random direction meets the gradient with 2 * step * |gradient| on average; what is left over is
         * of third order in the step */
        ck_assert_msg(error <= 1e-4 * 2 * step * sqrt(squares),
                      "%s: the loss changes by %.9g, the gradient says %.9g", g->name, up - down,
                      predicted_up - predicted_down);
    }
    op_run_free(&backward);
}

START_TEST(gradients_agree_with_differences)
{
    static const op_gradient_list *const all[] = {&op_gradients_block, &op_gradients_attention,
                                                  &op_gradients_norm_rope, &op_gradients_train};
    qs_device *d = open_cpu(0);
    for (int k = 0; k < all[_i]->count; k++) check_gradient(&all[_i]->gradients[k], d);
    qs_device_close(d);
}
END_TEST

START_TEST(every_operation_has_a_case)
{
    uint64_t covered = OP(FILL); /* tests/unit/test_device.c */
    for (int l = 0; l < LISTS; l++)
        for (int k = 0; k < lists[l]->count; k++) covered |= lists[l]->cases[k].kind->operations;
    for (int kind = 0; kind < QS_OP_KINDS; kind++)
        ck_assert_msg(covered >> kind & 1, "%s has no case", qs_op_name((qs_op_kind)kind));
}
END_TEST

START_TEST(a_repeated_product_allocates_nothing)
{
    qs_device *d = open_cpu(0);
    static float a[64 * 64], b[64 * 64], c[64 * 64];
    qs_gemm g = {.a = qs_mat_of(a, QS_F32, 64, 64),
                 .b = qs_mat_of(b, QS_F32, 64, 64),
                 .c = qs_mat_of(c, QS_F32, 64, 64),
                 .alpha = 1};
    void *workspace;
    size_t bytes = qs_op_gemm_workspace_bytes(d, &g);
    ck_assert_int_eq(d->api->alloc(d, bytes + 1, &workspace, NULL), 0);
    qs_device_set_workspace(d, workspace, bytes);
    qs_op_gemm(d, &g);
    uint64_t calls = qs_mem_read().calls;
    for (int k = 0; k < 10; k++) qs_op_gemm(d, &g);
    ck_assert_uint_eq(qs_mem_read().calls, calls);
    qs_device_close(d);
}
END_TEST

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("ops");
    TCase *t = tcase_create("ops");
    tcase_add_loop_test(t, every_case_agrees_with_its_reference, 0, LISTS);
    tcase_add_loop_test(t, every_instruction_set_agrees_with_the_references, 0, ISAS * LISTS);
    tcase_add_loop_test(t, instruction_sets_with_fused_multiply_adds_give_the_same_bits, 0, LISTS);
    tcase_add_test(t, a_wrong_instruction_set_is_refused_with_the_right_ones);
    tcase_add_test(t, portable_bits_take_kernels_that_every_processor_has);
    tcase_add_loop_test(t, every_case_works_on_device_memory_alone, 0, LISTS);
    tcase_add_loop_test(t, equal_arguments_give_equal_bits, 0, LISTS);
    tcase_add_loop_test(t, gradients_agree_with_differences, 0, 3);
    tcase_add_test(t, every_operation_has_a_case);
    tcase_add_test(t, a_repeated_product_allocates_nothing);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
