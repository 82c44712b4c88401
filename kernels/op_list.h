/* op_list.h - the operations, once: every backend's table, the meta device, the replay and the names are made
 * from this list.
 *
 * A row is OPERATION(KIND, name). From it follow: the entry `name` of qs_ops with the type of qs_op_name
 * (ops.h), the kind QS_OP_KIND, the backend's function qs_cpu_name or qs_cuda_name, meta_name of the meta
 * device (meta_device.c: what a call costs) and replay_name (op_replay.c: how it is measured). A row without
 * one of them does not compile or link. An entry is always set by its name, so the order here means nothing.
 */
#ifndef QS_KERNELS_OP_LIST_H
#define QS_KERNELS_OP_LIST_H

#define QS_OP_LIST(OPERATION)                           \
    OPERATION(QUANTISE4, quantise4)                     \
    OPERATION(QUANTISE_ABSMAX, quantise_absmax)         \
    OPERATION(DEQUANTISE4, dequantise4)                 \
    OPERATION(GEMM, gemm)                               \
    OPERATION(RMSNORM, rmsnorm)                         \
    OPERATION(RMSNORM_BACKWARD, rmsnorm_backward)       \
    OPERATION(LAYERNORM, layernorm)                     \
    OPERATION(LAYERNORM_BACKWARD, layernorm_backward)   \
    OPERATION(ROPE, rope)                               \
    OPERATION(NORM_ROPE, norm_rope)                     \
    OPERATION(NORM_ROPE_BACKWARD, norm_rope_backward)   \
    OPERATION(ADD, add)                                 \
    OPERATION(GATED, gated)                             \
    OPERATION(GATED_BACKWARD, gated_backward)           \
    OPERATION(ACTIVATION, activation)                   \
    OPERATION(ACTIVATION_BACKWARD, activation_backward) \
    OPERATION(REGROUP, regroup)                         \
    OPERATION(DROPOUT, dropout)                         \
    OPERATION(CONVERT, convert)                         \
    OPERATION(FLAG_NONFINITE, flag_nonfinite)           \
    OPERATION(ATTENTION, attention)                     \
    OPERATION(ATTENTION_BACKWARD, attention_backward)   \
    OPERATION(ATTENTION_BLOCK, attention_block)         \
    OPERATION(SOFTCAP, softcap)                         \
    OPERATION(CE_FORWARD, ce_forward)                   \
    OPERATION(CE_LOSS, ce_loss)                         \
    OPERATION(CE_BACKWARD, ce_backward)                 \
    OPERATION(SUM_SQUARES, sum_squares)                 \
    OPERATION(ADAMW, adamw)                             \
    OPERATION(ADAMW8, adamw8)

/* Questions about an operation that a backend answers: entries of the same table, not operations. */
#define QS_OP_QUESTION_LIST(QUESTION) \
    QUESTION(gemm_workspace_bytes)    \
    QUESTION(attention_workspace_bytes)

#endif
