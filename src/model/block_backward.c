/* block_backward.c - the backward half of block.h. */
#include "src/model/block_parts.h"

/* d_in = d_out W, W [out, in]. */
static void linear_backward(const qs_block_call *c, qs_mat d_out, qs_mat w, qs_mat d_in)
{
    qs_op_gemm(c->b->c.device, &(qs_gemm){.a = d_out, .b = w, .c = d_in, .alpha = 1});
}

static void norm_backward(const qs_block_call *c, qs_mat x, qs_norm w, qs_mat dy, qs_mat add, qs_mat dx)
{
    qs_norm_backward(c->b->c.device, c->b->c.a, w, x, dy, add, dx);
}

/* Rows [first, first + rows) of the MLP, g being their gradient of y. The MLP's input gradient is added to it: g becomes the gradient with respect to m. With a
 * parallel residual the MLP's input was x, so the sum, g's and the MLP's share of dx, goes to m's place and g stays, for it is m's gradient already. */
static void mlp_tile_backward(const qs_block_call *c, void *x, qs_mat g, int64_t first, int64_t rows)
{
    qs_block *b = c->b;
    int64_t hidden = b->c.a->hidden, ffn = b->c.a->ffn;
    bool parallel = b->c.a->parallel_residual;
    qs_mat m = qs_mat_part(qs_block_mat(b, c->f.m, c->batch->rows, hidden), first, rows, 0, hidden);
    qs_mat in = qs_mat_part(qs_block_mat(b, x, c->batch->rows, hidden), first, rows, 0, hidden);
    qs_mat dn = qs_block_mat(b, b->dn, rows, hidden);
    qs_mat act = qs_block_mat(b, b->act, rows, ffn), d_act = qs_block_mat(b, b->d_act, rows, ffn);
    qs_mat gate_up = qs_block_gate_up(c, first, rows);

    if (c->saved) qs_block_activate(c, gate_up, act);
    else qs_block_mlp_tile(c, first, rows);
    qs_lora_call down = qs_block_lora_call(c, QS_GROUP_DOWN, act, first, b->h_down);
    qs_lora_inner(&down); /* the forward pass of this tile stops before the down projection */
    linear_backward(c, g, c->w->down, d_act);
    qs_lora_backward(&down, g, qs_block_mat(b, b->dh, rows, b->h_cols[QS_GROUP_DOWN]), d_act);
    (b->c.a->plain_mlp ? qs_op_activation_backward : qs_op_gated_backward)(b->c.device, b->c.a->activation, gate_up, d_act, gate_up);

    linear_backward(c, gate_up, c->w->gate_up, dn);
    qs_lora_call up = qs_block_lora_gate_up(c, first, rows);
    qs_lora_backward(&up, gate_up, qs_block_mat(b, b->dh, rows, b->h_cols[QS_GROUP_GATE_UP]), dn);
    norm_backward(c, parallel ? in : m, c->w->norm2, dn, g, parallel ? m : g);
}

/* d_qkv, the gradient of the rotated and normed q, k, v, becomes that of the projections' output. */
static void unrotate(const qs_block_call *c)
{
    qs_block *b = c->b;
    qs_block_rotate(c, b->d_qkv, true);
    if (!b->c.a->qk_norm) return;
    int64_t rows = c->batch->rows, d = b->c.a->head_dim;
    qs_mat all = qs_block_mat(b, b->d_qkv, rows, b->qkv_cols), raw = qs_block_mat(b, c->f.qk_raw, rows, b->q_cols + b->kv_cols);
    for (int64_t h = 0; h < b->c.a->heads + b->c.a->kv_heads; h++) {
        qs_mat dy = qs_mat_part(all, 0, rows, h * d, d);
        norm_backward(c, qs_mat_part(raw, 0, rows, h * d, d), h < b->c.a->heads ? c->w->q_norm : c->w->k_norm, dy, (qs_mat){0}, dy);
    }
}

void qs_block_backward(qs_block *b, const qs_block_weights *w, const qs_block_lora *l, const qs_block_batch *batch, void *x, void *g, void *dx,
                       bool need_dx, void *saved)
{
    qs_block_call c = qs_block_begin(b, w, l, batch, saved);
    int64_t rows = batch->rows, hidden = b->c.a->hidden;
    bool parallel = b->c.a->parallel_residual, fused = b->c.a->fused_qkv;
    QS_ASSERT(rows <= b->c.max_rows && x != g);
    qs_mat in = qs_block_mat(b, x, rows, hidden), grad = qs_block_mat(b, g, rows, hidden), n = qs_block_mat(b, b->n, rows, hidden);
    qs_mat o = qs_block_mat(b, c.f.o, rows, b->q_cols), d_o = qs_block_mat(b, b->d_o, rows, b->q_cols);
    qs_mat m = qs_block_mat(b, c.f.m, rows, hidden), d_qkv = qs_block_mat(b, b->d_qkv, rows, b->qkv_cols);

    if (saved) qs_block_norm(&c, parallel ? in : m, w->norm2, n);
    else qs_block_attention_half(&c, x);
    for (int64_t first = 0; first < rows; first += b->c.mlp_rows) {
        int64_t tile = rows - first < b->c.mlp_rows ? rows - first : b->c.mlp_rows;
        mlp_tile_backward(&c, x, qs_mat_part(grad, first, tile, 0, hidden), first, tile);
    }

    linear_backward(&c, grad, w->o, d_o);
    qs_lora_call lora_o = qs_block_lora_call(&c, QS_GROUP_O, o, 0, c.f.h_o);
    qs_lora_backward(&lora_o, grad, qs_block_mat(b, b->dh, rows, b->h_cols[QS_GROUP_O]), d_o);
    qs_attention attention = qs_block_attention(&c);
    qs_op_attention_backward(b->c.device, &attention, d_o, qs_mat_part(d_qkv, 0, rows, 0, b->q_cols),
                             qs_mat_part(d_qkv, 0, rows, b->q_cols, b->kv_cols),
                             qs_mat_part(d_qkv, 0, rows, b->q_cols + b->kv_cols, b->kv_cols));
    unrotate(&c);
    if (fused) { /* q, k and v are done with */
        qs_mat product = qs_block_mat(b, c.f.qkv, rows, b->qkv_cols);
        qs_op_regroup(b->c.device, d_qkv, 3, b->c.a->heads, b->c.a->head_dim, product);
        d_qkv = product;
    }

    qs_block_norm(&c, in, w->norm1, n); /* n has held the MLP's input since */
    qs_mat dn = need_dx ? qs_block_mat(b, b->dn, rows, hidden) : (qs_mat){0};
    if (need_dx) linear_backward(&c, d_qkv, w->qkv, dn);
    qs_lora_call lora_qkv = qs_block_lora_call(&c, QS_GROUP_QKV, n, 0, c.f.h_qkv);
    qs_lora_backward(&lora_qkv, d_qkv, qs_block_mat(b, b->dh, rows, b->h_cols[QS_GROUP_QKV]), dn);
    if (need_dx) norm_backward(&c, in, w->norm1, dn, parallel ? m : grad, qs_block_mat(b, dx, rows, hidden));
}
