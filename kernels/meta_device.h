/* meta_device.h - the meta device: it has a size and a name but no memory, computes nothing, and notes down
 * what it was asked to do.
 *
 * The model's own code, run once on it, lists the operations of a visit with their shapes: what to measure on
 * a real device, and what a step will cost. It also stands for a card that is not here when a plan is made
 * for one. Pointers are never looked at: any address above zero that is aligned will do.
 */
#ifndef QS_KERNELS_META_DEVICE_H
#define QS_KERNELS_META_DEVICE_H

#include "kernels/ops.h"

enum {
    QS_OP_TRANSPOSE_A = 1,
    QS_OP_TRANSPOSE_B = 2,
    QS_OP_ACCUMULATE = 4,
    QS_OP_BIAS = 8,
    QS_OP_NESTED = 16,
    QS_OP_SOFTCAPPED = 32,
    QS_OP_WHOLE = 64,
    QS_OP_ROUND_LAST = 128
};

/* A call without its pointers. Two calls that differ in `n` alone are the same operation on more or fewer
 * tokens. */
typedef struct qs_op_call {
    qs_op_kind kind;
    qs_dtype type, out_type;
    int32_t flags;
    int32_t variant;     /* quantisation type, activation, rule of the optimizer */
    int64_t dim[5];      /* GEMM: columns of c (rows and columns with TRANSPOSE_A: then n is summed over), k,
                            strides of a, b, c. ATTENTION: heads, kv heads, head_dim, stride of q, tokens of a
                            document. Others: columns, ... */
    int64_t n;           /* rows of the activations; elements of a vector */
    double flops, bytes; /* arithmetic; memory traffic at least */
    int64_t times;       /* how often it was called */
} qs_op_call;

typedef struct qs_op_list {
    qs_op_call *calls;
    int count, capacity;
} qs_op_list;
void qs_op_list_free(qs_op_list *l);
/* Adds `times` calls; equal ones share an entry. */
void qs_op_list_add(qs_op_list *l, const qs_op_call *call, int64_t times);

/* "gemm bf16 f32 tb 8192 2048 ...": the call without n, for files. */
void qs_op_call_text(const qs_op_call *c, char text[160]);

/* Opens one; closed like every device. `info` is copied. Workspaces are as a CUDA device's. Memory is refused
 * (QS_EUNSUP). */
qs_device *qs_meta_device(const qs_device_info *info);

/* Calls go to *list from here on; NULL: nowhere. `document_tokens` is what attention is noted to be over. */
void qs_meta_device_note(qs_device *d, qs_op_list *list, int64_t document_tokens);

/* From here on *most becomes the largest workspace that `real` takes for any call. */
void qs_meta_device_ask(qs_device *d, qs_device *real, size_t *most);

/* An address for memory that is never touched, 4096-aligned, for arenas: {.base = qs_meta_memory(), .capacity
 * = SIZE_MAX / 2}. */
void *qs_meta_memory(void);

#endif
