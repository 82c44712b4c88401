/* ops.h - the operations: contract, argument checks, dispatch.
 *
 * Every operation is one function here, one row of op_list.h, one file family in cpu/ and in cuda/, and one
 * case in the operation tests. Calls queue work on QS_QUEUE_COMPUTE of the device and return. All pointers
 * are device pointers unless said otherwise. Wrong shapes, types or alignments are bugs: asserted here, once,
 * for all backends.
 *
 * Matrices are row-major views: element (i, j) is data[i * stride + j]; stride >= cols, in elements. `compute
 * type` below means QS_F32, QS_BF16 or QS_F16; arithmetic is in fp32 with one rounding at each store. No
 * operation sums in an order that depends on timing: equal arguments give equal bits on one machine with one
 * thread count.
 */
#ifndef QS_KERNELS_OPS_H
#define QS_KERNELS_OPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/device.h"
#include "kernels/op_list.h"
#include "src/base/dtype.h"

typedef struct qs_mat {
    void *data;
    qs_dtype type;
    int64_t rows, cols, stride;
} qs_mat;

static inline qs_mat qs_mat_of(void *data, qs_dtype type, int64_t rows, int64_t cols)
{
    return (qs_mat){data, type, rows, cols, cols};
}
/* Rows [first, first + rows) and columns [col, col + cols) of m. */
static inline qs_mat qs_mat_part(qs_mat m, int64_t first, int64_t rows, int64_t col, int64_t cols)
{
    if (m.data)
        m.data = (char *)m.data +
                 (size_t)(first * m.stride + col) * qs_dtype_bytes(m.type); /* NULL while sizes are counted */
    m.rows = rows;
    m.cols = cols;
    return m;
}

/* ---- 4-bit quantisation (Dettmers et al., "QLoRA", 2023; bit for bit bitsandbytes' CPU path) --------- */

typedef enum qs_quant_type { QS_QUANT_NONE, QS_QUANT_NF4, QS_QUANT_FP4 } qs_quant_type;

enum { QS_QUANT_BLOCK = 64, QS_NESTED_BLOCK = 256 };

/* A quantised tensor of n elements in flattened row-major order. */
typedef struct qs_qtensor {
    qs_quant_type type;
    int64_t n;
    const uint8_t *codes;   /* [(n+1)/2], element 2k in the high nibble of byte k */
    const float *absmax;    /* [ceil(n/64)], or NULL when double quantised: */
    const uint8_t *absmax8; /* [ceil(n/64)] indices into the signed dynamic map */
    const float *nested;    /* [ceil(blocks/256)] absmax of each group of absmax values */
    const float *offset;    /* [1] the mean that was subtracted */
} qs_qtensor;

static inline int64_t qs_quant_blocks(int64_t n) { return (n + QS_QUANT_BLOCK - 1) / QS_QUANT_BLOCK; }
static inline int64_t qs_nested_blocks(int64_t n)
{
    return (qs_quant_blocks(n) + QS_NESTED_BLOCK - 1) / QS_NESTED_BLOCK;
}

/* codes[(n+1)/2], absmax[ceil(n/64)] of w[n] (compute type). Full blocks multiply by the reciprocal, a
 * trailing partial block divides and stores its absmax clamped to 1e-38, ties go to the lower code, an
 * all-zero block encodes as code of 0: what bitsandbytes' CPU path does. May be called in pieces: a piece
 * starts at a multiple of 64 and only the last is ragged. */
void qs_op_quantise4(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n,
                     uint8_t *codes, float *absmax);

/* Double quantisation of absmax[blocks]: offset[1] = mean (summed in double, in order), then blocks of 256 of
 * (absmax - offset) to the nearest entry of the signed dynamic map (exact tie: the even index):
 * absmax8[blocks], nested[ceil(blocks/256)]. */
void qs_op_quantise_absmax(qs_device *d, const float *absmax, int64_t blocks, uint8_t *absmax8, float *nested,
                           float *offset);

/* out[n] (compute type) = round(table[code] * absmax), absmax = map[absmax8] * nested + offset in two
 * roundings when nested. */
void qs_op_dequantise4(qs_device *d, const qs_qtensor *q, void *out, qs_dtype out_type);

/* ---- matrix products --------------------------------------------------------------------------------- */

typedef struct qs_gemm {
    qs_mat a, b, c; /* a and b of one compute type; c the same type or QS_F32 */
    bool transpose_a, transpose_b;
    float alpha, beta; /* c = alpha * op(a) op(b) + beta * c (+ bias); beta 0 never reads c; beta is 0 or 1 */
    const void *bias;  /* NULL, or [c.cols] of bias_type added to every row */
    qs_dtype bias_type;
} qs_gemm;

/* fp32 accumulation. Shapes: op(a) [m,k], op(b) [k,n], c [m,n]. c overlaps neither a nor b. */
void qs_op_gemm(qs_device *d, const qs_gemm *g);
/* Scratch that qs_op_gemm takes from the workspace for these shapes (pointers are not looked at). */
size_t qs_op_gemm_workspace_bytes(qs_device *d, const qs_gemm *g);

/* ---- normalisation, rotary embedding, element-wise --------------------------------------------------- */

typedef struct qs_rmsnorm {
    qs_mat x, y;        /* [rows, cols], compute type; y may be x */
    const void *weight; /* [cols] of weight_type */
    qs_dtype weight_type;
    float eps;
    bool round_last; /* no rounding before the weight */
} qs_rmsnorm;

/* y = round(x * rsqrt(mean(x^2) + eps)) * weight: cast to x's type before the weight, as Llama does (Zhang &
 * Sennrich 2019), unless round_last. */
void qs_op_rmsnorm(qs_device *d, const qs_rmsnorm *n);
/* dx = [add +] J^T dy, the weight being frozen. dy, dx, add like x; dx may alias x, dy or add; add.data NULL:
 * nothing is added. */
void qs_op_rmsnorm_backward(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx);

typedef struct qs_layernorm {
    qs_mat x, y;               /* [rows, cols], compute type; y may be x */
    const void *weight, *bias; /* [cols] of weight_type */
    qs_dtype weight_type;
    float eps;
} qs_layernorm;

/* y = (x - mean(x)) * rsqrt(variance(x) + eps) * weight + bias, one rounding; the variance is the mean of
 * squared differences (Ba et al. 2016). */
void qs_op_layernorm(qs_device *d, const qs_layernorm *n);
/* As qs_op_rmsnorm_backward, weight and bias being frozen; y and bias are not looked at. */
void qs_op_layernorm_backward(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add, qs_mat dx);

typedef struct qs_rope {
    qs_mat x; /* [tokens, heads * head_dim], rotated in place, compute type */
    int32_t heads, head_dim;
    int32_t rotary_dim;       /* <= head_dim, even: leading columns of a head that rotate */
    const float *cos, *sin;   /* [positions, rotary_dim / 2] */
    const int32_t *positions; /* [tokens] rows of the tables */
    bool inverse;             /* rotate back: the backward pass */
} qs_rope;

/* Half-split rotary embedding (Su et al. 2021, Hugging Face layout): pairs are (i, i + rotary_dim/2). */
void qs_op_rope(qs_device *d, const qs_rope *r);

/* q and k side by side, normed and rotated: [tokens, (heads + kv_heads) * head_dim]. */
typedef struct qs_norm_rope {
    qs_mat x, y; /* compute type; not the same memory */
    int32_t heads, kv_heads, head_dim;
    bool whole; /* one norm over all of q, and one over all of k; otherwise one over each head */
    const float *q_weight, *k_weight; /* as long as what is normed: [head_dim], or [heads * head_dim] and
                                         [kv_heads * head_dim] */
    float eps;
    bool round_last;    /* see qs_rmsnorm */
    int32_t rotary_dim; /* see qs_rope; 0: nothing rotates, and tables and positions are not read */
    const float *q_cos, *q_sin, *k_cos, *k_sin; /* [positions, rotary_dim / 2]: those of q may have a scale */
    const int32_t *positions;                   /* [tokens] */
} qs_norm_rope;

/* y = rope(rmsnorm(x)), in the bits of qs_op_rmsnorm on each stretch and qs_op_rope after it. */
void qs_op_norm_rope(qs_device *d, const qs_norm_rope *n);
/* g [like x]: dL/dy becomes dL/dx, the weights being frozen; y is not looked at. The bits of the two after
 * one another, too. */
void qs_op_norm_rope_backward(qs_device *d, const qs_norm_rope *n, qs_mat g);

/* dst = a + b. All [rows, cols] of one compute type; any may alias. */
void qs_op_add(qs_device *d, qs_mat dst, qs_mat a, qs_mat b);

typedef enum qs_activation { QS_ACT_SILU, QS_ACT_GELU_TANH, QS_ACT_GELU_ERF } qs_activation;

/* y[rows, f] = act(gate_up[:, :f]) * gate_up[:, f:2f]. */
void qs_op_gated(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y);
/* d_gate_up from dy; d_gate_up may be gate_up. */
void qs_op_gated_backward(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat dy, qs_mat d_gate_up);

/* y = act(x), without a gate. Both [rows, cols] of one compute type; y may be x. */
void qs_op_activation(qs_device *d, qs_activation act, qs_mat x, qs_mat y);
/* dx from x and dy; dx may be x or dy. */
void qs_op_activation_backward(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat dx);

/* Each row is a grid [groups, parts] of chunks of `width` columns; y's rows are its transpose, [parts,
 * groups]. Exact. x and y [rows, groups * parts * width] of one compute type do not overlap. With groups and
 * parts exchanged the call undoes itself, which is its backward pass. */
void qs_op_regroup(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width, qs_mat y);

typedef struct qs_dropout {
    float p; /* probability of zero; survivors are scaled by 1/(1-p) */
    uint64_t seed,
        stream;        /* element e of the matrix keeps iff uniform(qs_random_u32(seed, stream, e)) >= p */
    int64_t first_row; /* e = (first_row + row) * cols + col */
} qs_dropout;

/* y = mask * x / (1-p), or y += with add. The backward pass is the same call on the gradient. y may be x. */
void qs_op_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add);

/* Converts n elements between compute types. Does not alias. */
void qs_op_convert(qs_device *d, void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type, int64_t n);

/* *flag |= 1 if any element of x is NaN or infinite. flag is device memory. */
void qs_op_flag_nonfinite(qs_device *d, qs_mat x, int32_t *flag);

/* ---- attention --------------------------------------------------------------------------------------- */

typedef struct qs_attention {
    qs_mat q, k, v, o; /* q, o [tokens, heads*head_dim]; k, v [tokens, kv_heads*head_dim]; one compute type,
                          own strides */
    float *lse;        /* [heads, tokens] log-sum-exp of the scaled scores: written forward, read backward */
    int32_t heads, kv_heads, head_dim;
    float scale;    /* head_dim^-0.5 as a rule */
    float softcap;  /* scores become softcap * tanh(score / softcap); 0: they stay */
    int32_t window; /* query i sees keys > i - window; 0: no window */
    const int32_t
        *document; /* [tokens] index of the first token of this token's document: keys before it are hidden */
} qs_attention;

/* Causal softmax attention over packed documents: key j is visible to query i iff max(document[i],
 * i-window+1) <= j <= i. Tiled with an online softmax (Dao et al. 2022): memory is linear in tokens. Query
 * head h reads kv head h / (heads/kv_heads). */
void qs_op_attention(qs_device *d, const qs_attention *a);
/* dq, dk, dv like q, k, v (overwritten) from d_o like o; needs o and lse of the forward pass. */
void qs_op_attention_backward(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq, qs_mat dk,
                              qs_mat dv);
/* Workspace of either call (the larger). */
size_t qs_op_attention_workspace_bytes(qs_device *d, const qs_attention *a);

/* One block of keys and values of a longer text, seen by a few queries (a key-value cache). */
typedef struct qs_attention_block {
    qs_mat q;     /* [rows, heads*head_dim], at positions query_at, query_at + 1, ... of the text */
    qs_mat k, v;  /* [keys, kv_heads*head_dim], at positions key_at, ...; of q's type */
    qs_mat o;     /* like q; data NULL: this is not the last block */
    float *state; /* qs_attention_state_floats: what is known so far of every row and head */
    bool first;   /* the state is begun anew */
    int32_t heads, kv_heads, head_dim;
    float scale, softcap; /* as in qs_attention, like window */
    int32_t window;
    int64_t query_at, key_at;
} qs_attention_block;

/* Folds the block into the state, as the online softmax does with a tile of keys; after the last one o is the
 * attention of q over all blocks. A row's bits depend on the cut of its own text into blocks alone, not on
 * the other rows nor on blocks that it does not see. */
void qs_op_attention_block(qs_device *d, const qs_attention_block *a);

/* [rows][heads][head_dim + 2]: the sum of probability * value, its maximum and its sum of probabilities. */
static inline int64_t qs_attention_state_floats(int64_t rows, int32_t heads, int32_t head_dim)
{
    return rows * heads * (head_dim + 2);
}

/* ---- cross entropy over vocabulary tiles ------------------------------------------------------------- */

/* Running state of one row of logits while vocabulary tiles go by in order. Device arrays of length rows. */
typedef struct qs_ce_state {
    float *max, *sum; /* online log-sum-exp: logsumexp = max + log(sum) */
    float *target_logit;
    const int32_t *targets; /* [rows] token id, or -1: no loss on this row */
    float softcap; /* the logits have been through qs_op_softcap with it, and the gradient goes back through
                      it; 0: not */
} qs_ce_state;

/* x = cap * tanh(x / cap), in place. x: QS_F32. */
void qs_op_softcap(qs_device *d, float cap, qs_mat x);

/* Folds logits[rows, tile] (QS_F32), columns vocab_start.., into the state; vocab_start 0 starts it anew. */
void qs_op_ce_forward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s);
/* loss[rows] = max + log(sum) - target_logit, 0 where there is no target. */
void qs_op_ce_loss(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss);
/* d_logits (compute type, may share memory with logits when of the same type) = (softmax - onehot) * scale;
 * rows without target: 0. */
void qs_op_ce_backward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s, float scale,
                       qs_mat d_logits);

/* ---- optimizer --------------------------------------------------------------------------------------- */

/* *sum (double, device) = sum of g[i]^2 in a fixed order. Overwrites. */
void qs_op_sum_squares(qs_device *d, const float *g, int64_t n, double *sum);

typedef enum qs_adamw_rule {
    QS_ADAMW_TORCH, /* torch.optim.AdamW: decay before the step, eps outside the bias-corrected root */
    QS_ADAMW_BNB    /* bitsandbytes' CUDA kernel (kOptimizer32bit2State): eps scaled by the bias correction,
                       decay after the step */
} qs_adamw_rule;

typedef struct qs_adamw {
    double learning_rate, beta1, beta2, eps, weight_decay;
    int64_t step;         /* 1 for the first update */
    float gradient_scale; /* clip coefficient: g is multiplied by it on the way in */
} qs_adamw;

/* p, g, m, v: n fp32 elements; p, m, v updated. */
void qs_op_adamw(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g, float *m,
                 float *v, int64_t n);

/* Blockwise 8-bit states (Dettmers et al. 2022; bitsandbytes' kOptimizerStatic8bit2StateBlockwise): m8, v8
 * [n] codes of the signed and unsigned dynamic map, m_absmax, v_absmax [ceil(n/256)]. Non-finite gradients
 * leave p and zero the states of their element. */
void qs_op_adamw8(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8, uint8_t *v8,
                  float *m_absmax, float *v_absmax, int64_t n);

/* ---- what the list of operations makes: kinds, names, the table a backend fills ---------------------- */

#define QS_OP_KIND_OF(KIND, name) QS_OP_##KIND,
typedef enum qs_op_kind {
    QS_OP_LIST(QS_OP_KIND_OF)
        QS_OP_FILL, /* the device's own, qs_device_api.fill: noted and measured like an operation */
    QS_OP_KINDS
} qs_op_kind;

/* "gemm", "rmsnorm_backward", ... */
const char *qs_op_name(qs_op_kind kind);

/* Same arguments as qs_op_*, already checked. */
#define QS_OP_ENTRY(KIND, name) __typeof__(qs_op_##name) *name;
#define QS_OP_QUESTION_ENTRY(name) __typeof__(qs_op_##name) *name;
typedef struct qs_ops {
    QS_OP_LIST(QS_OP_ENTRY)
    QS_OP_QUESTION_LIST(QS_OP_QUESTION_ENTRY)
} qs_ops;

#endif
