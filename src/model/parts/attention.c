/* attention.c - causal self-attention: q k v = in W^T (+ bias), [q and k normed], rotated, softmax, out = o
 * Wo^T (+ bias).
 *
 * A fused q k v may come out of its product head by head, [heads, 3, head_dim], as the checkpoint has it and
 * LoRA sees it; it is regrouped to q, k, v once, and its gradient back.
 */
#include "src/model/parts/part.h"

enum { QKV, O }; /* groups */

typedef struct sizes {
    int64_t q, kv, qkv;
} sizes; /* columns of q, of k (and v), of all three */

static const qs_attention_config *config(const qs_layer *l, int part) { return &l->part[part].attention; }

static sizes sizes_of(const qs_attention_config *c)
{
    int64_t q = (int64_t)c->heads * c->head_dim, kv = (int64_t)c->kv_heads * c->head_dim;
    return (sizes){q, kv, q + 2 * kv};
}

static void tensors(qs_layer *l, int part, int32_t hidden)
{
    qs_attention_config *c = &l->part[part].attention;
    sizes s = sizes_of(c);
    int qkv = 2 * part + QKV, o = 2 * part + O;
    if (c->qkv != QS_QKV_SEPARATE) {
        qs_layer_add_linear(l, qkv, c->q, (int32_t)s.qkv, hidden, 0);
    } else {
        qs_layer_add_linear(l, qkv, c->q, (int32_t)s.q, hidden, 0);
        qs_layer_add_linear(l, qkv, c->k, (int32_t)s.kv, hidden, 1);
        qs_layer_add_linear(l, qkv, c->v, (int32_t)s.kv, hidden, 2);
    }
    if (c->qkv_bias) qs_layer_add_biases(l, qkv);
    qs_layer_add_linear(l, o, c->o, hidden, (int32_t)s.q, 3);
    if (c->o_bias) qs_layer_add_biases(l, o);
    if (c->qk_norm == QS_QK_NORM_NONE) return;
    bool all = c->qk_norm == QS_QK_NORM_ALL;
    c->norm_q =
        (qs_layer_norm){qs_layer_add_vector(l, c->q_norm, "weight", all ? (int32_t)s.q : c->head_dim), -1};
    c->norm_k =
        (qs_layer_norm){qs_layer_add_vector(l, c->k_norm, "weight", all ? (int32_t)s.kv : c->head_dim), -1};
}

/* ---- memory ------------------------------------------------------------------------------------------ */

static void saved(const qs_layer *l, int part, const qs_part_sizes *p, qs_arena *memory, qs_part_saved *out)
{
    const qs_attention_config *c = config(l, part);
    sizes s = sizes_of(c);
    size_t e = qs_dtype_bytes(p->type), rows = (size_t)p->rows;
    bool normed = c->qk_norm != QS_QK_NORM_NONE;
    qs_attention_saved *a = &out->attention;
    a->projected = qs_arena_take(memory, normed ? rows * (size_t)s.qkv * e : 0, QS_ARENA_ALIGN);
    a->qkv = qs_arena_take(memory, rows * (size_t)(normed ? s.q + s.kv : s.qkv) * e, QS_ARENA_ALIGN);
    a->o = qs_arena_take(memory, rows * (size_t)s.q * e, QS_ARENA_ALIGN);
    a->lse = qs_arena_take(memory, rows * (size_t)c->heads * sizeof(float), QS_ARENA_ALIGN);
    a->h_qkv = qs_arena_take(memory, rows * (size_t)p->h_cols[2 * part + QKV] * e, QS_ARENA_ALIGN);
    a->h_o = qs_arena_take(memory, rows * (size_t)p->h_cols[2 * part + O] * e, QS_ARENA_ALIGN);
}

static void scratch(const qs_layer *l, int part, const qs_part_sizes *p, qs_arena *memory,
                    qs_part_scratch *out)
{
    const qs_attention_config *c = config(l, part);
    sizes s = sizes_of(c);
    size_t e = qs_dtype_bytes(p->type), rows = (size_t)p->rows;
    qs_attention_scratch *a = &out->attention;
    a->product =
        qs_arena_take(memory, c->qkv == QS_QKV_PER_HEAD ? rows * (size_t)s.qkv * e : 0, QS_ARENA_ALIGN);
    a->d_o = qs_arena_take(memory, rows * (size_t)s.q * e, QS_ARENA_ALIGN);
    a->d_qkv = qs_arena_take(memory, rows * (size_t)s.qkv * e, QS_ARENA_ALIGN);
}

static int64_t widest(const qs_layer *l, int part, int32_t hidden)
{
    int64_t q = sizes_of(config(l, part)).q;
    return q > hidden ? q : hidden;
}

/* ---- forward ----------------------------------------------------------------------------------------- */

/* Where q, k and v are that attention reads. */
static void views(const qs_part_call *c, qs_mat *q, qs_mat *k, qs_mat *v)
{
    const qs_attention_config *t = config(c->layer, c->part);
    sizes s = sizes_of(t);
    int64_t rows = c->batch->rows;
    bool normed = t->qk_norm != QS_QK_NORM_NONE;
    qs_mat read = qs_part_mat(c, c->saved.attention.qkv, rows, normed ? s.q + s.kv : s.qkv);
    qs_mat values = normed ? qs_part_mat(c, c->saved.attention.projected, rows, s.qkv) : read;
    *q = qs_mat_part(read, 0, rows, 0, s.q);
    *k = qs_mat_part(read, 0, rows, s.q, s.kv);
    *v = qs_mat_part(values, 0, rows, s.q + s.kv, s.kv);
}

static qs_attention call_of(const qs_part_call *c)
{
    const qs_attention_config *t = config(c->layer, c->part);
    qs_attention a = {.o = qs_part_mat(c, c->saved.attention.o, c->batch->rows, sizes_of(t).q),
                      .lse = c->saved.attention.lse,
                      .heads = t->heads,
                      .kv_heads = t->kv_heads,
                      .head_dim = t->head_dim,
                      .scale = t->scale,
                      .softcap = t->softcap,
                      .window = t->window,
                      .document = c->batch->document_start};
    views(c, &a.q, &a.k, &a.v);
    return a;
}

/* These heads, forwards or back. */
static void rotate_by(const qs_part_call *c, int rotary, qs_mat x, bool inverse)
{
    const qs_attention_config *t = config(c->layer, c->part);
    qs_rope r = {.x = x,
                 .heads = (int32_t)(x.cols / t->head_dim),
                 .head_dim = t->head_dim,
                 .rotary_dim = c->a->rotary[rotary].dim,
                 .cos = c->batch->cos[rotary],
                 .sin = c->batch->sin[rotary],
                 .positions = c->batch->positions,
                 .inverse = inverse};
    qs_op_rope(c->device, &r);
}

/* q and k, which are neighbours in qk. */
static void rotate(const qs_part_call *c, qs_mat qk, bool inverse)
{
    const qs_attention_config *t = config(c->layer, c->part);
    sizes s = sizes_of(t);
    if (t->rotary < 0) return;
    if (!t->scaled_q) {
        rotate_by(c, t->rotary, qk, inverse);
        return;
    }
    rotate_by(c, t->rotary + 1, qs_mat_part(qk, 0, qk.rows, 0, s.q), inverse);
    rotate_by(c, t->rotary, qs_mat_part(qk, 0, qk.rows, s.q, s.kv), inverse);
}

/* q and k from what was projected to what attention reads, or what that is the backward pass of. */
static qs_norm_rope norm_rope_of(const qs_part_call *c, int64_t rows)
{
    const qs_attention_config *t = config(c->layer, c->part);
    sizes s = sizes_of(t);
    const qs_attention_saved *a = &c->saved.attention;
    qs_norm_rope n = {.x = qs_mat_part(qs_part_mat(c, a->projected, rows, s.qkv), 0, rows, 0, s.q + s.kv),
                      .y = qs_part_mat(c, a->qkv, rows, s.q + s.kv),
                      .heads = t->heads,
                      .kv_heads = t->kv_heads,
                      .head_dim = t->head_dim,
                      .whole = t->qk_norm == QS_QK_NORM_ALL,
                      .q_weight = qs_weights_norm(c->w, t->norm_q).weight,
                      .k_weight = qs_weights_norm(c->w, t->norm_k).weight,
                      .eps = c->a->norm_eps,
                      .round_last = c->a->norm == QS_NORM_RMS_PLUS_ONE};
    QS_ASSERT(c->a->norm != QS_NORM_LAYER);
    if (t->rotary < 0) return n;
    int of_q = t->rotary + t->scaled_q;
    n.rotary_dim = c->a->rotary[t->rotary].dim;
    n.positions = c->batch->positions;
    n.q_cos = c->batch->cos[of_q];
    n.q_sin = c->batch->sin[of_q];
    n.k_cos = c->batch->cos[t->rotary];
    n.k_sin = c->batch->sin[t->rotary];
    return n;
}

/* Up to what backward needs. */
static void to_o(const qs_part_call *c, qs_mat in)
{
    const qs_attention_config *t = config(c->layer, c->part);
    const qs_attention_saved *a = &c->saved.attention;
    sizes s = sizes_of(t);
    bool fused = t->qkv == QS_QKV_PER_HEAD, normed = t->qk_norm != QS_QK_NORM_NONE;
    void *to = fused ? c->scratch.attention.product : normed ? a->projected : a->qkv;
    qs_mat product = qs_part_mat(c, to, in.rows, s.qkv);
    qs_part_linear(c, 2 * c->part + QKV, in, a->h_qkv, product);
    if (fused)
        qs_op_regroup(c->device, product, t->heads, 3, t->head_dim, qs_part_mat(c, a->qkv, in.rows, s.qkv));
    if (normed) {
        qs_norm_rope n = norm_rope_of(c, in.rows);
        qs_op_norm_rope(c->device, &n);
    } else {
        rotate(c, qs_mat_part(qs_part_mat(c, a->qkv, in.rows, s.qkv), 0, in.rows, 0, s.q + s.kv), false);
    }
    qs_attention attention = call_of(c);
    qs_op_attention(c->device, &attention);
}

static void forward(const qs_part_call *c, qs_mat in, qs_mat out)
{
    to_o(c, in);
    qs_part_linear(c, 2 * c->part + O, call_of(c).o, c->saved.attention.h_o, out);
}

/* ---- backward ---------------------------------------------------------------------------------------- */

/* d_qkv, the gradient of what attention read, becomes that of the projection's output. */
static void unrotate(const qs_part_call *c, qs_mat d_qkv)
{
    const qs_attention_config *t = config(c->layer, c->part);
    sizes s = sizes_of(t);
    qs_mat d_qk = qs_mat_part(d_qkv, 0, d_qkv.rows, 0, s.q + s.kv);
    if (t->qk_norm == QS_QK_NORM_NONE) {
        rotate(c, d_qk, true);
    } else {
        qs_norm_rope n = norm_rope_of(c, d_qkv.rows);
        qs_op_norm_rope_backward(c->device, &n, d_qk);
    }
}

static void backward(const qs_part_call *c, qs_mat in, qs_mat d_out, qs_mat d_in)
{
    const qs_attention_config *t = config(c->layer, c->part);
    sizes s = sizes_of(t);
    int64_t rows = in.rows;
    qs_mat d_o = qs_part_mat(c, c->scratch.attention.d_o, rows, s.q),
           d_qkv = qs_part_mat(c, c->scratch.attention.d_qkv, rows, s.qkv);
    if (!c->formed) to_o(c, in);
    qs_attention attention = call_of(c);
    qs_part_linear_backward(c, 2 * c->part + O, attention.o, c->saved.attention.h_o, d_out, d_o);
    qs_op_attention_backward(c->device, &attention, d_o, qs_mat_part(d_qkv, 0, rows, 0, s.q),
                             qs_mat_part(d_qkv, 0, rows, s.q, s.kv),
                             qs_mat_part(d_qkv, 0, rows, s.q + s.kv, s.kv));
    unrotate(c, d_qkv);
    if (t->qkv == QS_QKV_PER_HEAD) {
        qs_mat product = qs_part_mat(c, c->scratch.attention.product, rows, s.qkv);
        qs_op_regroup(c->device, d_qkv, 3, t->heads, t->head_dim, product);
        d_qkv = product;
    }
    qs_part_linear_backward(c, 2 * c->part + QKV, in, c->saved.attention.h_qkv, d_qkv, d_in);
}

const qs_part_table qs_part_attention = {.name = "attention",
                                         .tensors = tensors,
                                         .saved = saved,
                                         .scratch = scratch,
                                         .widest = widest,
                                         .forward = forward,
                                         .backward = backward};
