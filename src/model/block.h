/* block.h - one layer, forward and backward: its parts around the residual stream (layer.h).
 *
 * Forward keeps nothing but y. Backward gets x and dy, runs the forward again as far as it needs it, and goes
 * back through the parts. Where memory is left, a caller lets forward keep what backward would form again: a
 * quarter of a step's arithmetic less, the same bits. Base weights are frozen: only LoRA gradients are
 * formed, accumulated in fp32. The same functions serve every micro-batch and every kind of layer; all calls
 * only queue work on the device.
 */
#ifndef QS_MODEL_BLOCK_H
#define QS_MODEL_BLOCK_H

#include "src/model/parts/part.h"

typedef struct qs_block qs_block;

typedef struct qs_block_config {
    qs_device *device;
    const qs_architecture *a;
    const qs_lora *lora;
    const qs_layout *layout;
    qs_dtype type;    /* compute type */
    int32_t max_rows; /* of a micro-batch */
    int32_t mlp_rows; /* rows of a chunk of a part that is taken in chunks: part of the numeric identity */
} qs_block_config;

/* Takes the work buffers from `memory` (device memory; may be a counting arena). Free with qs_block_free. */
void qs_block_create(const qs_block_config *config, qs_arena *memory, qs_block **out);
void qs_block_free(qs_block *b);

/* Workspace bytes that the operations of this block need (qs_device_set_workspace): those of a forward and
 * backward of each kind of layer, with and without dropout. */
size_t qs_block_workspace_bytes(const qs_block *b);

/* Device bytes, a multiple of 4096, that the saved activations of one layer and micro-batch take when they
 * are kept. */
size_t qs_block_saved_bytes(const qs_block *b);

/* One layer's pass over one micro-batch: [rows, hidden] of the compute type on the device. */
typedef struct qs_block_call {
    const qs_layer_weights *w;
    const qs_block_lora *l;
    const qs_block_batch *batch;
    void *x;    /* the layer's input */
    void *y;    /* not x. Forward: the output. Backward: dL/dy, overwritten */
    void *dx;   /* backward: dL/dx, may be x; NULL: not wanted (the lowest trained block) */
    void *kept; /* NULL, or memory of qs_block_saved_bytes: forward leaves there what backward needs, which
                   uses it up */
} qs_block_call;

void qs_block_forward(qs_block *b, const qs_block_call *at);
void qs_block_backward(qs_block *b, const qs_block_call *at);

#endif
