/* op_compare.h - a list of operation cases on a CUDA device, simulated or real: against the references and
 * the CPU backend. */
#ifndef QS_TESTS_SUPPORT_OP_COMPARE_H
#define QS_TESTS_SUPPORT_OP_COMPARE_H

#include "tests/support/op_cases.h"

/* Fails the test on the first case that is off. tensor_cores: attention's 16-bit products run on them. */
void op_compare_list(const op_case_list *list, qs_device *gpu, qs_device *cpu, bool tensor_cores);

/* Runs the list and keeps the results [list->count]; op_keep_free frees them. */
op_run *op_keep_list(const op_case_list *list, qs_device *d);
void op_keep_free(const op_case_list *list, op_run *runs);
/* Fails the test where two kept lists differ in a bit. */
void op_keep_same(const op_case_list *list, const op_run *a, const op_run *b);

#endif
