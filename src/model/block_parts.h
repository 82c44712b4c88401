/* block_parts.h - what block.c and block_backward.c share: the work buffers and the halves of a block. Private to src/model. */
#ifndef QS_MODEL_BLOCK_PARTS_H
#define QS_MODEL_BLOCK_PARTS_H

#include "src/model/lora_linear.h"

/* What the backward pass needs of the forward one: formed again into the block's own buffers, or saved since. Rows as in a micro-batch; of gate_up and h_gate_up
 * the block's own hold one MLP tile. */
typedef struct qs_saved_activations {
    void *qkv;        /* [rows, qkv_cols] */
    void *qk_raw;     /* [rows, q_cols + kv_cols] q and k before their norm (qk_norm only) */
    void *o;          /* [rows, q_cols] */
    void *m;          /* [rows, hidden] x + attention; with a parallel residual the backward pass needs it not, and keeps a gradient there */
    float *lse;       /* [heads, rows] */
    void *h_qkv, *h_o, *h_gate_up;       /* LoRA's inner activations */
    void *gate_up;    /* [rows, up_cols]; the backward pass overwrites it */
} qs_saved_activations;

struct qs_block {
    qs_block_config c;
    int64_t q_cols, kv_cols, qkv_cols;   /* columns of q, of k (and v), of all three */
    int64_t up_cols;                     /* of gate and up: 2 ffn, or ffn without a gate */
    int64_t h_cols[QS_GROUP_COUNT];      /* targets * r */
    /* Work buffers; rows as in a micro-batch unless noted. */
    void *n;          /* [rows, hidden] the normed input of either half */
    void *dn;         /* [rows, hidden] its gradient */
    qs_saved_activations own;
    void *dh;         /* gradient of LoRA's inner activations */
    void *dropped;    /* [rows, widest input] with dropout */
    /* One or the other: the MLP tile ... */
    void *act, *d_act, *h_down;          /* [mlp_rows, ...], with own.gate_up and own.h_gate_up */
    /* ... or the attention's gradients. */
    void *d_o, *d_qkv;                   /* d_qkv also takes the product of a fused q k v before it is regrouped */
    size_t workspace_bytes;
};

/* One call's arguments, carried through the parts. */
typedef struct qs_block_call {
    qs_block *b;
    const qs_block_weights *w;
    const qs_block_lora *l;
    const qs_block_batch *batch;
    qs_saved_activations f;
    bool saved;        /* f is saved memory: whole, where the block's own has tiles */
} qs_block_call;

static inline qs_mat qs_block_mat(const qs_block *b, void *data, int64_t rows, int64_t cols) { return qs_mat_of(data, b->c.type, rows, cols); }

/* out = in W^T (+ bias), W [out, in]. */
void qs_block_linear(const qs_block_call *c, qs_mat in, qs_mat w, const float *bias, qs_mat out);
void qs_block_norm(const qs_block_call *c, qs_mat x, qs_norm w, qs_mat y);
/* The MLP's act from its gate_up. */
void qs_block_activate(const qs_block_call *c, qs_mat gate_up, qs_mat act);
qs_lora_call qs_block_lora_call(const qs_block_call *c, qs_group group, qs_mat x, int64_t first_row, void *h);
qs_attention qs_block_attention(const qs_block_call *c);
/* Rotates q and k of `qkv` forwards, or back. */
void qs_block_rotate(const qs_block_call *c, void *qkv, bool inverse);

/* n, qkv, o, lse, m of the batch from x. */
void qs_block_attention_half(const qs_block_call *c, void *x);
/* Of rows [first, first + rows): gate_up, act and LoRA's h, from n. */
void qs_block_mlp_tile(const qs_block_call *c, int64_t first, int64_t rows);
/* Where gate_up and its h of these rows lie. */
qs_mat qs_block_gate_up(const qs_block_call *c, int64_t first, int64_t rows);
qs_lora_call qs_block_lora_gate_up(const qs_block_call *c, int64_t first, int64_t rows);

/* A call whose intermediates are in `saved`, or where that is NULL in the block's own buffers. */
qs_block_call qs_block_begin(qs_block *b, const qs_block_weights *w, const qs_block_lora *l, const qs_block_batch *batch, void *saved);

#endif
