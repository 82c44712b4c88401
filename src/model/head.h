/* head.h - final norm, output projection and cross entropy, tile by tile over the vocabulary: logits never
 * exist as a whole.
 *
 * Tiles go by twice. In ascending order their logits are folded into a running log-sum-exp per token; then,
 * in descending order, the tile's logits are formed again (the same product, the same bits), turned into the
 * gradient (softmax - onehot) / targets, and multiplied back into the gradient of the normed hidden state,
 * which accumulates over tiles in fp32. With keep_logits the first pass's logits are kept for the second
 * instead, where there is room: the same bits, one product less. Rows are cut into chunks of head_rows: part
 * of the numeric identity. (Online softmax over the vocabulary: Wijmans et al., "Cut your losses", 2024.)
 */
#ifndef QS_MODEL_HEAD_H
#define QS_MODEL_HEAD_H

#include "kernels/ops.h"
#include "src/base/arena.h"
#include "src/model/norm.h"

typedef struct qs_head qs_head;

typedef struct qs_head_config {
    qs_device *device;
    const qs_architecture *a;
    qs_dtype type; /* compute type */
    int32_t micro_batches, max_rows;
    int32_t head_rows; /* rows of a chunk */
    int32_t tile_rows; /* vocabulary entries of a tile */
    bool keep_logits;  /* [micro_batches][vocabulary] logits per row stay between the passes */
} qs_head_config;

/* Work buffers come from `memory` (device; may count only). Free with qs_head_free. */
void qs_head_create(const qs_head_config *c, qs_arena *memory, qs_head **out);
void qs_head_free(qs_head *h);
size_t qs_head_workspace_bytes(const qs_head *h);

/* Normed hidden states of micro-batch mb from x[rows, hidden]; w: the final norm, [hidden]. Before its first
 * tile. */
void qs_head_norm(qs_head *h, int32_t mb, int32_t rows, void *x, qs_norm w);

/* A micro-batch against a tile of the head. */
typedef struct qs_head_call {
    int32_t mb, rows;
    qs_mat tile;            /* [vocabulary entries, hidden], compute type */
    int32_t vocab_start;    /* entry at which it begins */
    const int32_t *targets; /* [rows] token id, or -1 */
} qs_head_call;

/* Folds the tile. Tiles in ascending order. */
void qs_head_loss_tile(qs_head *h, const qs_head_call *c);

/* After the last tile: the loss of every row (0 without target) into loss[rows], device memory. */
void qs_head_loss(qs_head *h, int32_t mb, int32_t rows, const int32_t *targets, float *loss);

/* Gradient of this tile into the accumulator; `starts` for the first call of a micro-batch. scale = 1 /
 * targets of the step. */
void qs_head_gradient_tile(qs_head *h, const qs_head_call *c, float scale, bool starts);

/* After the last tile: x[rows, hidden], the level that norm was given, becomes dL/dx. */
void qs_head_gradient(qs_head *h, int32_t mb, int32_t rows, void *x, qs_norm w);

/* For tests and generation: logits of rows [first, first + count) against this tile into out[count,
 * vocabulary] (host, fp32). Blocks. */
void qs_head_logits(qs_head *h, int32_t mb, int32_t first, int32_t count, qs_mat w, int32_t vocab_start,
                    float *out);

#endif
