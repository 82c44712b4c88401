/* op_cases.h - the one list of operation cases, for every backend.
 *
 * tests/unit/test_ops.c runs it on the CPU against the double-precision references; a second backend is
 * compared with the CPU over the same list. A new operation adds its kinds and cases to one of the
 * op_cases_*.c files.
 */
#ifndef QS_TESTS_OP_CASES_H
#define QS_TESTS_OP_CASES_H

#include "tests/support/op_run.h"

typedef struct op_case_list {
    const char *name;
    const op_case *cases;
    int count;
} op_case_list;

extern const op_case_list op_cases_dense;     /* 4-bit quantisation and matrix products */
extern const op_case_list op_cases_block;     /* what a transformer block does between its matrix products */
extern const op_case_list op_cases_attention; /* attention, forward and backward */
extern const op_case_list op_cases_norm_rope; /* q and k normed and rotated at once */
extern const op_case_list op_cases_train;     /* cross entropy and optimizers */

/* An operation and its backward pass on the same inputs, for checking one against differences of the other.
 */
typedef struct op_gradient {
    const char *name;
    op_case forward, backward; /* fp32 */
    int input, output;         /* arrays of the forward case */
    int output_gradient,
        input_gradient; /* arrays of the backward case: what it is given, and what it answers */
    double weight;      /* output_gradient -1: the gradient of every output element */
} op_gradient;

typedef struct op_gradient_list {
    const op_gradient *gradients;
    int count;
} op_gradient_list;

extern const op_gradient_list op_gradients_block, op_gradients_norm_rope, op_gradients_attention,
    op_gradients_train;

/* Tolerances: what one rounding to the type costs (half a unit in the last place), doubled because the fp32
 * value that is rounded may itself lie on the other side of a boundary. */
#define OP_TOL_F32 2e-6
#define OP_TOL_BF16 0x1p-8
#define OP_TOL_F16 0x1p-11
#define OP_WHY_ONE_ROUNDING "fp32 arithmetic, then one rounding to the output type"

#define OP_GRADIENTS(array)                           \
    {                                                 \
        array, (int)(sizeof(array) / sizeof *(array)) \
    }
#define OP_LIST(list_name, array)                                \
    {                                                            \
        list_name, array, (int)(sizeof(array) / sizeof *(array)) \
    }

#endif
