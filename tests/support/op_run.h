/* op_run.h - running one operation on one device, and judging what came out.
 *
 * A case (op_cases.h) says how its arrays are made, which operation is called on them, and what the answer is
 * in double precision. This file does the rest: device memory, copies, the call, and the comparison - with
 * the reference, or between two devices. Every matrix can carry padding between its rows, which no operation
 * may touch: that is checked too.
 */
#ifndef QS_TESTS_OP_RUN_H
#define QS_TESTS_OP_RUN_H

#include <stdbool.h>

#include "kernels/ops.h"

enum { OP_ARRAYS = 14, OP_SIZES = 8 };

typedef enum op_role { OP_INPUT, OP_OUTPUT, OP_IN_OUT } op_role;

typedef struct op_array {
    op_role role;
    qs_dtype type;
    bool fp64; /* elements are double, whatever type says */
    int64_t rows, cols, stride;
    void *before; /* host copy of what the operation sees */
    void *after;  /* what the operation left */
    double *want; /* [rows * cols] the reference's answer; outputs only */
    void *device;
} op_array;

struct op_run;

typedef struct op_kind {
    void (*setup)(struct op_run *);               /* makes the arrays with op_array_* */
    void (*launch)(struct op_run *, qs_device *); /* calls the operation on op_mat / op_device */
    void (*reference)(struct op_run *);           /* fills .want of every output from .before, in double */
    uint64_t operations;                          /* that launch calls: OP(GEMM) | ... */
} op_kind;

#define OP(KIND) (1ull << QS_OP_##KIND)

typedef struct op_case {
    const char *name;
    const op_kind *kind;
    qs_dtype type, type2; /* of the matrices; of the second kind of them, where there is one */
    int64_t size[OP_SIZES];
    double value[4];
    int64_t padding;  /* extra elements between rows */
    double tolerance; /* |got - want| <= tolerance * (|want| + rms of want + cancelled) */
    const char *why;  /* the reason for that tolerance */
} op_case;

typedef struct op_run {
    const op_case *c;
    int arrays;
    op_array array[OP_ARRAYS];
    double cancelled; /* size of terms that add up to something much smaller, if setup says there are */
    void *workspace;  /* device scratch of the operation, freed with the run */
} op_run;

/* Makes the arrays of a case on the host. Freed with op_run_free. */
void op_run_create(op_run *r, const op_case *c);
void op_run_free(op_run *r);

/* Array number `index`: normal numbers with standard deviation `scale`, rounded to type. Outputs begin as a
 * NaN pattern. */
void op_array_normal(op_run *r, int index, op_role role, qs_dtype type, int64_t rows, int64_t cols,
                     double scale);
/* Same without values (zero bytes): the case fills .before itself. */
void op_array_make(op_run *r, int index, op_role role, qs_dtype type, int64_t rows, int64_t cols);
/* One double. */
void op_array_make_double(op_run *r, int index, op_role role);

/* Element (i, j) before the operation. */
double op_at(const op_run *r, int index, int64_t i, int64_t j);
static inline double *op_want(op_run *r, int index, int64_t i, int64_t j)
{
    return &r->array[index].want[i * r->array[index].cols + j];
}

/* The array on the device: as a matrix, or its first element. */
qs_mat op_mat(const op_run *r, int index);
static inline void *op_device(const op_run *r, int index) { return r->array[index].device; }

/* Gives the device a workspace of exactly `bytes` for this launch. */
void op_workspace(op_run *r, qs_device *d, size_t bytes);

/* Copies in, launches, copies out. Fails the test on a device error. */
void op_run_execute(op_run *r, qs_device *d);

/* The largest error of all outputs, as a multiple of the tolerance, against .want (reference must have run)
 * or against the outputs of another run. Infinite when a number is NaN that should not be, or padding was
 * written; *where says what was worst. */
double op_run_error(const op_run *r, const op_run *other, char where[160]);

/* Uniform in [0, 1) and normal, from the counter: element i of stream s. */
double op_uniform(uint64_t stream, uint64_t i);
double op_normal(uint64_t stream, uint64_t i);

#endif
