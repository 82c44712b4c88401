#include "tests/support/op_compare.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"

/* The tensor cores take probabilities and their gradients as 16-bit operands. The gradients are differences
 * of terms of order sqrt(head size), so one rounding of them costs a few times the tolerance, which is made
 * for fp32 operands. */
static double slack(const op_case *c, bool tensor_cores)
{
    return tensor_cores && c->type != QS_F32 && strstr(c->name, "attention") ? 4 : 1;
}

static bool wanted(const op_case *c)
{
    const char *text = getenv("QS_TEST_CASE");
    return !text || strstr(c->name, text);
}

void op_compare_list(const op_case_list *list, qs_device *gpu, qs_device *cpu, bool tensor_cores)
{
    for (int k = 0; k < list->count; k++) {
        const op_case *c = &list->cases[k];
        op_run ours, theirs;
        char where[160];
        if (!wanted(c)) continue;
        op_run_create(&ours, c);
        op_run_create(&theirs, c);
        c->kind->reference(&ours);
        op_run_execute(&ours, gpu);
        op_run_execute(&theirs, cpu);
        double error = op_run_error(&ours, NULL, where) / slack(c, tensor_cores);
        if (getenv("QS_TEST_VERBOSE")) printf("%-45s %6.3f of the tolerance\n", c->name, error);
        ck_assert_msg(error <= 1, "%s: %s", c->name, where);
        error = op_run_error(&ours, &theirs, where) /
                slack(c, tensor_cores); /* each may be one tolerance away from the reference */
        ck_assert_msg(error <= 2, "%s, CPU as expected: %s", c->name, where);
        op_run_free(&ours);
        op_run_free(&theirs);
    }
}

op_run *op_keep_list(const op_case_list *list, qs_device *d)
{
    op_run *runs = qs_calloc((size_t)list->count, sizeof *runs);
    for (int k = 0; k < list->count; k++) {
        op_run_create(&runs[k], &list->cases[k]);
        op_run_execute(&runs[k], d);
    }
    return runs;
}

void op_keep_free(const op_case_list *list, op_run *runs)
{
    for (int k = 0; k < list->count; k++) op_run_free(&runs[k]);
    qs_free(runs);
}

void op_keep_same(const op_case_list *list, const op_run *a, const op_run *b)
{
    for (int k = 0; k < list->count; k++)
        for (int i = 0; i < a[k].arrays; i++) {
            const op_array *x = &a[k].array[i];
            size_t bytes =
                x->rows ? (size_t)((x->rows - 1) * x->stride + x->cols) * qs_dtype_bytes(x->type) : 0;
            ck_assert_msg(!memcmp(x->after, b[k].array[i].after, bytes), "%s: array %d differs",
                          list->cases[k].name, i);
        }
}
