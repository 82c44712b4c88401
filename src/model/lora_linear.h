/* lora_linear.h - the adapters of a group of linears that share their input: y_t += s * drop_t(x) A_t^T
 * B_t^T, and its gradients.
 *
 * Without dropout the A matrices of a group form one product; with dropout every target has its own mask, as
 * in PEFT.
 */
#ifndef QS_MODEL_LORA_LINEAR_H
#define QS_MODEL_LORA_LINEAR_H

#include "src/model/parts/part.h"

typedef struct qs_lora_call {
    qs_device *device;
    qs_dtype type;
    const qs_block_lora *l;
    int group;
    qs_mat x;          /* [rows, in] */
    int64_t first_row; /* of x within the micro-batch: keys the dropout mask */
    qs_mat h;          /* [rows, targets * r] x A^T: written forward, read backward */
    void *dropped;     /* scratch [rows, in], needed with dropout only */
} qs_lora_call;

/* y[rows, sum of the group's outputs] += the adapters' output. Nothing happens when the group has no targets.
 */
void qs_lora_forward(const qs_lora_call *c, qs_mat y);

/* The inner half only: h = drop(x) A^T. */
void qs_lora_inner(const qs_lora_call *c);

/* dA, dB += from dy; dx += the adapters' input gradient (dx.data NULL: not wanted). dh: scratch like h. */
void qs_lora_backward(const qs_lora_call *c, qs_mat dy, qs_mat dh, qs_mat dx);

#endif
