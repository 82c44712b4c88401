/* block.h - one transformer block, forward and backward, for every supported family.
 *
 *     n = norm(x);  q k v = n W^T (+ bias) (+ LoRA);  [q, k normed per head];  q k rotated;  o = attention(q, k, v)
 *     m = x + o Wo^T;  n = norm(m);  y = m + (act(n Wg^T) * (n Wu^T)) Wd^T
 *
 * The architecture says which norm, which activation, whether there is a gate (without: act(n Wu^T)), and whether the residual is parallel: then the second norm
 * reads x, not m. A fused q k v comes out of its product head by head, [heads, 3, head_dim], as the checkpoint has it and LoRA sees it; it is regrouped to
 * q, k, v once, and its gradient back.
 *
 * Forward keeps nothing but y. Backward gets x and dy, runs the forward again up to the MLP, and goes back through the MLP in tiles of rows, so that no
 * intermediate of width ffn exists for more than `mlp_rows` rows. Where memory is left, a caller lets forward keep what backward would form again: a quarter of a step's
 * arithmetic less for 2 * (qkv + o + hidden + 2 ffn, or ffn without a gate) bytes per token, the same bits. Base weights are frozen: only LoRA gradients are formed, accumulated in fp32.
 * The same functions serve every micro-batch; all calls only queue work on the device.
 */
#ifndef QS_MODEL_BLOCK_H
#define QS_MODEL_BLOCK_H

#include "src/base/arena.h"
#include "src/model/lora.h"
#include "src/model/norm.h"

/* The weights of one block on the device: dense matrices [out, in] of the compute type, vectors fp32 (NULL: none). */
typedef struct qs_block_weights {
    qs_mat qkv, o, gate_up, down;
    qs_norm norm1, norm2, q_norm, k_norm; /* q_norm, k_norm: with qk_norm only */
    const float *bias[QS_GROUP_COUNT]; /* of [q;k;v], o, [gate;up], down */
    int32_t window;
} qs_block_weights;

/* The adapters of one block on the device, laid out as in lora.h. */
typedef struct qs_block_lora {
    const qs_lora *lora;     /* NULL: this block has none */
    const void *values;      /* pack, compute type */
    float *gradients;        /* pack, fp32, accumulated into; NULL in forward and evaluation */
    float dropout;           /* 0 in evaluation */
    uint64_t seed, stream;   /* dropout stream of this (step, micro-batch, layer); the low 4 bits are the linear's */
} qs_block_lora;

/* One micro-batch on the device. */
typedef struct qs_block_batch {
    int32_t rows;            /* tokens and padding */
    const int32_t *positions, *document_start;
    const float *cos, *sin;
} qs_block_batch;

typedef struct qs_block qs_block;

typedef struct qs_block_config {
    qs_device *device;
    const qs_architecture *a;
    const qs_lora *lora;
    qs_dtype type;           /* compute type */
    int32_t max_rows;        /* of a micro-batch */
    int32_t mlp_rows;        /* rows of an MLP tile: part of the numeric identity */
} qs_block_config;

/* Takes the work buffers from `memory` (device memory; may be a counting arena). Free with qs_block_free. */
void qs_block_create(const qs_block_config *config, qs_arena *memory, qs_block **out);
void qs_block_free(qs_block *b);

/* Workspace bytes that the operations of this block need (qs_device_set_workspace). */
size_t qs_block_workspace_bytes(const qs_block *b);

/* Device bytes, a multiple of 4096, that the intermediates of one layer and micro-batch take when they are saved. */
size_t qs_block_saved_bytes(const qs_block *b);

/* y[rows, hidden] from x. y must not be x. saved: NULL, or memory of qs_block_saved_bytes for the intermediates. */
void qs_block_forward(qs_block *b, const qs_block_weights *w, const qs_block_lora *l, const qs_block_batch *batch, void *x, void *y, void *saved);

/* g holds dL/dy and is overwritten; dx may be x. With need_dx false (the lowest trained block) dx is left as it is. saved: what forward was given for this layer and
 * micro-batch; used up. */
void qs_block_backward(qs_block *b, const qs_block_weights *w, const qs_block_lora *l, const qs_block_batch *batch, void *x, void *g, void *dx,
                       bool need_dx, void *saved);

#endif
