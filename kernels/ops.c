/* ops.c - every operation's argument checks, once for all backends, and its dispatch.
 *
 * A wrong argument is a bug of this program, so it is asserted. Calls with nothing to do end here: backends
 * see at least one row and one column.
 */
#include "kernels/op_checks.h"

/* The end of a long operation. */
static void ended(const qs_device *d)
{
    if (d->on_op_end) d->on_op_end(d->on_op_end_context);
}

const char *qs_op_name(qs_op_kind kind)
{
#define NAME(KIND, name) [QS_OP_##KIND] = #name,
    static const char *const names[QS_OP_KINDS] = {QS_OP_LIST(NAME)[QS_OP_FILL] = "fill"};
    return names[kind];
}

/* ---- 4-bit quantisation ------------------------------------------------------------------------------ */

void qs_op_quantise4(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n,
                     uint8_t *codes, float *absmax)
{
    QS_ASSERT(is_quant(type) && is_compute(w_type));
    check_array(d, w, w_type, n);
    check_array(d, codes, QS_U8, (n + 1) / 2);
    check_array(d, absmax, QS_F32, qs_quant_blocks(n));
    if (n) d->ops->quantise4(d, type, w, w_type, n, codes, absmax);
}

void qs_op_quantise_absmax(qs_device *d, const float *absmax, int64_t blocks, uint8_t *absmax8, float *nested,
                           float *offset)
{
    QS_ASSERT(blocks > 0);
    check_array(d, absmax, QS_F32, blocks);
    check_array(d, absmax8, QS_U8, blocks);
    check_array(d, nested, QS_F32, (blocks + QS_NESTED_BLOCK - 1) / QS_NESTED_BLOCK);
    check_array(d, offset, QS_F32, 1);
    d->ops->quantise_absmax(d, absmax, blocks, absmax8, nested, offset);
}

void qs_op_dequantise4(qs_device *d, const qs_qtensor *q, void *out, qs_dtype out_type)
{
    QS_ASSERT(is_quant(q->type) && is_compute(out_type));
    check_array(d, out, out_type, q->n);
    check_array(d, q->codes, QS_U8, (q->n + 1) / 2);
    if (q->absmax) {
        check_array(d, q->absmax, QS_F32, qs_quant_blocks(q->n));
    } else {
        check_array(d, q->absmax8, QS_U8, qs_quant_blocks(q->n));
        check_array(d, q->nested, QS_F32, qs_nested_blocks(q->n));
        check_array(d, q->offset, QS_F32, 1);
    }
    if (q->n) d->ops->dequantise4(d, q, out, out_type);
    ended(d);
}

/* ---- matrix products --------------------------------------------------------------------------------- */

static void check_gemm_shapes(const qs_gemm *g)
{
    int64_t m = g->transpose_a ? g->a.cols : g->a.rows, k = g->transpose_a ? g->a.rows : g->a.cols;
    int64_t n = g->transpose_b ? g->b.rows : g->b.cols;
    QS_ASSERT((g->transpose_b ? g->b.cols : g->b.rows) == k);
    QS_ASSERT(g->c.rows == m && g->c.cols == n && k > 0 && n > 0);
    QS_ASSERT(is_compute(g->a.type) && g->a.type == g->b.type);
    QS_ASSERT(g->c.type == g->a.type || g->c.type == QS_F32);
    QS_ASSERT(g->beta == 0 || g->beta == 1);
}

void qs_op_gemm(qs_device *d, const qs_gemm *g)
{
    check_gemm_shapes(g);
    check_mat(d, g->a);
    check_mat(d, g->b);
    check_mat(d, g->c);
    if (g->bias) {
        QS_ASSERT(is_compute(g->bias_type));
        check_array(d, g->bias, g->bias_type, g->c.cols);
    }
    if (g->c.rows) d->ops->gemm(d, g);
    ended(d);
}

size_t qs_op_gemm_workspace_bytes(qs_device *d, const qs_gemm *g)
{
    check_gemm_shapes(g);
    return g->c.rows ? d->ops->gemm_workspace_bytes(d, g) : 0;
}

/* ---- element-wise (normalisation and rotary embedding: ops_norm.c) ------------------------------------ */

void qs_op_add(qs_device *d, qs_mat dst, qs_mat a, qs_mat b)
{
    check_mat(d, dst);
    check_mat(d, a);
    check_mat(d, b);
    QS_ASSERT(same_shape(dst, a) && same_shape(dst, b));
    if (dst.rows && dst.cols) d->ops->add(d, dst, a, b);
}

static bool is_activation(qs_activation act)
{
    return act == QS_ACT_SILU || act == QS_ACT_GELU_TANH || act == QS_ACT_GELU_ERF;
}

void qs_op_gated(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y)
{
    check_mat(d, gate_up);
    check_mat(d, y);
    QS_ASSERT(is_activation(act) && gate_up.type == y.type && gate_up.rows == y.rows &&
              gate_up.cols == 2 * y.cols);
    if (y.rows && y.cols) d->ops->gated(d, act, gate_up, y);
}

void qs_op_gated_backward(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat dy, qs_mat d_gate_up)
{
    check_mat(d, gate_up);
    check_mat(d, dy);
    check_mat(d, d_gate_up);
    QS_ASSERT(is_activation(act) && gate_up.type == dy.type && gate_up.rows == dy.rows &&
              gate_up.cols == 2 * dy.cols);
    QS_ASSERT(same_shape(gate_up, d_gate_up));
    if (dy.rows && dy.cols) d->ops->gated_backward(d, act, gate_up, dy, d_gate_up);
}

void qs_op_activation(qs_device *d, qs_activation act, qs_mat x, qs_mat y)
{
    check_mat(d, x);
    check_mat(d, y);
    QS_ASSERT(is_activation(act) && same_shape(x, y));
    if (x.rows && x.cols) d->ops->activation(d, act, x, y);
}

void qs_op_activation_backward(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat dx)
{
    check_mat(d, x);
    check_mat(d, dy);
    check_mat(d, dx);
    QS_ASSERT(is_activation(act) && same_shape(x, dy) && same_shape(x, dx));
    if (x.rows && x.cols) d->ops->activation_backward(d, act, x, dy, dx);
}

void qs_op_regroup(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width, qs_mat y)
{
    check_mat(d, x);
    check_mat(d, y);
    QS_ASSERT(same_shape(x, y) && x.data != y.data && groups > 0 && parts > 0 && width > 0 &&
              x.cols == width * groups * parts);
    if (x.rows) d->ops->regroup(d, x, groups, parts, width, y);
}

void qs_op_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add)
{
    check_mat(d, x);
    check_mat(d, y);
    QS_ASSERT(same_shape(x, y) && o->p >= 0 && o->p < 1 && o->first_row >= 0);
    if (x.rows && x.cols) d->ops->dropout(d, o, x, y, add);
}

void qs_op_convert(qs_device *d, void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type, int64_t n)
{
    QS_ASSERT(is_compute(dst_type) && is_compute(src_type));
    check_array(d, dst, dst_type, n);
    check_array(d, src, src_type, n);
    if (n) d->ops->convert(d, dst, dst_type, src, src_type, n);
}

void qs_op_flag_nonfinite(qs_device *d, qs_mat x, int32_t *flag)
{
    check_mat(d, x);
    check_array(d, flag, QS_I32, 1);
    if (x.rows && x.cols) d->ops->flag_nonfinite(d, x, flag);
}

/* ---- attention --------------------------------------------------------------------------------------- */

static void check_attention_shapes(const qs_attention *a)
{
    QS_ASSERT(a->head_dim > 0 && a->head_dim <= 256 && a->head_dim % 2 == 0);
    QS_ASSERT(a->kv_heads > 0 && a->heads > 0 && a->heads % a->kv_heads == 0 && a->window >= 0);
    QS_ASSERT(a->q.cols == (int64_t)a->heads * a->head_dim && same_shape(a->q, a->o));
    QS_ASSERT(a->k.cols == (int64_t)a->kv_heads * a->head_dim && same_shape(a->k, a->v));
    QS_ASSERT(a->q.rows == a->k.rows && a->q.type == a->k.type && a->q.rows <= INT32_MAX);
}

static void check_attention(qs_device *d, const qs_attention *a)
{
    check_attention_shapes(a);
    check_mat(d, a->q);
    check_mat(d, a->k);
    check_mat(d, a->v);
    check_mat(d, a->o);
    check_array(d, a->lse, QS_F32, a->heads * a->q.rows);
    check_array(d, a->document, QS_I32, a->q.rows);
}

void qs_op_attention(qs_device *d, const qs_attention *a)
{
    check_attention(d, a);
    if (a->q.rows) d->ops->attention(d, a);
    ended(d);
}

void qs_op_attention_backward(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq, qs_mat dk,
                              qs_mat dv)
{
    check_attention(d, a);
    check_mat(d, d_o);
    check_mat(d, dq);
    check_mat(d, dk);
    check_mat(d, dv);
    QS_ASSERT(same_shape(a->o, d_o) && same_shape(a->q, dq) && same_shape(a->k, dk) && same_shape(a->v, dv));
    if (a->q.rows) d->ops->attention_backward(d, a, d_o, dq, dk, dv);
    ended(d);
}

size_t qs_op_attention_workspace_bytes(qs_device *d, const qs_attention *a)
{
    check_attention_shapes(a);
    return a->q.rows ? d->ops->attention_workspace_bytes(d, a) : 0;
}

void qs_op_attention_block(qs_device *d, const qs_attention_block *a)
{
    QS_ASSERT(a->head_dim > 0 && a->head_dim <= 256 && a->head_dim % 2 == 0);
    QS_ASSERT(a->kv_heads > 0 && a->heads > 0 && a->heads % a->kv_heads == 0 && a->window >= 0);
    QS_ASSERT(a->q.cols == (int64_t)a->heads * a->head_dim && a->query_at >= 0 && a->key_at >= 0);
    QS_ASSERT(a->k.cols == (int64_t)a->kv_heads * a->head_dim && same_shape(a->k, a->v));
    QS_ASSERT(a->q.type == a->k.type && a->k.rows > 0);
    check_mat(d, a->q);
    check_mat(d, a->k);
    check_mat(d, a->v);
    if (a->o.data) QS_ASSERT(same_shape(a->q, a->o));
    if (a->o.data) check_mat(d, a->o);
    check_array(d, a->state, QS_F32, qs_attention_state_floats(a->q.rows, a->heads, a->head_dim));
    if (a->q.rows) d->ops->attention_block(d, a);
    ended(d);
}

/* ---- cross entropy ----------------------------------------------------------------------------------- */

static void check_ce(qs_device *d, int64_t rows, const qs_ce_state *s)
{
    check_array(d, s->max, QS_F32, rows);
    check_array(d, s->sum, QS_F32, rows);
    check_array(d, s->target_logit, QS_F32, rows);
    check_array(d, s->targets, QS_I32, rows);
}

void qs_op_softcap(qs_device *d, float cap, qs_mat x)
{
    check_mat(d, x);
    QS_ASSERT(x.type == QS_F32 && cap > 0);
    if (x.rows && x.cols) d->ops->softcap(d, cap, x);
}

void qs_op_ce_forward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s)
{
    check_mat(d, logits);
    check_ce(d, logits.rows, s);
    QS_ASSERT(logits.type == QS_F32 && vocab_start >= 0);
    if (logits.rows && logits.cols) d->ops->ce_forward(d, logits, vocab_start, s);
}

void qs_op_ce_loss(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss)
{
    check_ce(d, rows, s);
    check_array(d, loss, QS_F32, rows);
    if (rows) d->ops->ce_loss(d, rows, s, loss);
}

void qs_op_ce_backward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s, float scale,
                       qs_mat d_logits)
{
    check_mat(d, logits);
    check_mat(d, d_logits);
    check_ce(d, logits.rows, s);
    QS_ASSERT(logits.type == QS_F32 && vocab_start >= 0);
    QS_ASSERT(logits.rows == d_logits.rows && logits.cols == d_logits.cols);
    QS_ASSERT(logits.data != d_logits.data ||
              (logits.type == d_logits.type && logits.stride == d_logits.stride));
    if (logits.rows && logits.cols) d->ops->ce_backward(d, logits, vocab_start, s, scale, d_logits);
}

/* ---- optimizer --------------------------------------------------------------------------------------- */

void qs_op_sum_squares(qs_device *d, const float *g, int64_t n, double *sum)
{
    check_array(d, g, QS_F32, n);
    check_memory(d, sum, sizeof *sum);
    QS_ASSERT(aligned(sum, sizeof *sum));
    d->ops->sum_squares(d, g, n, sum);
}

void qs_op_adamw(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g, float *m,
                 float *v, int64_t n)
{
    QS_ASSERT((rule == QS_ADAMW_TORCH || rule == QS_ADAMW_BNB) && h->step >= 1);
    check_array(d, p, QS_F32, n);
    check_array(d, g, QS_F32, n);
    check_array(d, m, QS_F32, n);
    check_array(d, v, QS_F32, n);
    if (n) d->ops->adamw(d, rule, h, p, g, m, v, n);
}

void qs_op_adamw8(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8, uint8_t *v8,
                  float *m_absmax, float *v_absmax, int64_t n)
{
    QS_ASSERT(h->step >= 1);
    check_array(d, p, QS_F32, n);
    check_array(d, g, QS_F32, n);
    check_array(d, m8, QS_U8, n);
    check_array(d, v8, QS_U8, n);
    check_array(d, m_absmax, QS_F32, (n + QS_NESTED_BLOCK - 1) / QS_NESTED_BLOCK);
    check_array(d, v_absmax, QS_F32, (n + QS_NESTED_BLOCK - 1) / QS_NESTED_BLOCK);
    if (n) d->ops->adamw8(d, h, p, g, m8, v8, m_absmax, v_absmax, n);
}
