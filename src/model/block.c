#include "src/model/block_parts.h"

#include <stdlib.h>

#include "src/base/memory.h"

/* ---- set-up ------------------------------------------------------------------------------------------------------------ */

static size_t most(size_t a, size_t b) { return a > b ? a : b; }

/* All but the MLP's part. */
static void carve_attention_saved(const qs_block *b, qs_arena *a, qs_saved_activations *f)
{
    const qs_architecture *m = b->c.a;
    size_t e = qs_dtype_bytes(b->c.type), rows = (size_t)b->c.max_rows, q = (size_t)b->q_cols;
    f->qkv = qs_arena_take(a, rows * (size_t)b->qkv_cols * e, QS_ARENA_ALIGN);
    f->qk_raw = qs_arena_take(a, m->qk_norm ? rows * (q + (size_t)b->kv_cols) * e : 0, QS_ARENA_ALIGN);
    f->o = qs_arena_take(a, rows * q * e, QS_ARENA_ALIGN);
    f->m = qs_arena_take(a, rows * (size_t)m->hidden * e, QS_ARENA_ALIGN);
    f->lse = qs_arena_take(a, rows * (size_t)m->heads * sizeof(float), QS_ARENA_ALIGN);
    f->h_qkv = qs_arena_take(a, rows * (size_t)b->h_cols[QS_GROUP_QKV] * e, QS_ARENA_ALIGN);
    f->h_o = qs_arena_take(a, rows * (size_t)b->h_cols[QS_GROUP_O] * e, QS_ARENA_ALIGN);
}

static void carve_mlp_saved(const qs_block *b, qs_arena *a, size_t rows, qs_saved_activations *f)
{
    size_t e = qs_dtype_bytes(b->c.type);
    f->gate_up = qs_arena_take(a, rows * (size_t)b->up_cols * e, QS_ARENA_ALIGN);
    f->h_gate_up = qs_arena_take(a, rows * (size_t)b->h_cols[QS_GROUP_GATE_UP] * e, QS_ARENA_ALIGN);
}

static qs_saved_activations saved_whole(const qs_block *b, qs_arena *a)
{
    qs_saved_activations f;
    carve_attention_saved(b, a, &f);
    carve_mlp_saved(b, a, (size_t)b->c.max_rows, &f);
    return f;
}

size_t qs_block_saved_bytes(const qs_block *b)
{
    qs_arena counting = {0};
    saved_whole(b, &counting);
    return qs_round_up(counting.used, 4096);
}

static void carve(qs_block *b, qs_arena *a)
{
    const qs_architecture *m = b->c.a;
    size_t e = qs_dtype_bytes(b->c.type), rows = (size_t)b->c.max_rows, tile = (size_t)b->c.mlp_rows;
    size_t hidden = (size_t)m->hidden, ffn = (size_t)m->ffn, q = (size_t)b->q_cols, qkv = (size_t)b->qkv_cols;
    size_t widest_h = 0, widest_in = most(most(hidden, q), ffn);
    for (int g = 0; g < QS_GROUP_COUNT; g++) widest_h = most(widest_h, (size_t)b->h_cols[g]);
    b->n = qs_arena_take(a, rows * hidden * e, QS_ARENA_ALIGN);
    b->dn = qs_arena_take(a, rows * hidden * e, QS_ARENA_ALIGN);
    carve_attention_saved(b, a, &b->own);
    b->dh = qs_arena_take(a, rows * widest_h * e, QS_ARENA_ALIGN);
    b->dropped = qs_arena_take(a, b->c.lora->dropout > 0 ? rows * widest_in * e : 0, QS_ARENA_ALIGN);
    /* The MLP's tile and the attention's gradients are never alive together. */
    size_t shared = a->used;
    carve_mlp_saved(b, a, tile, &b->own);
    b->act = qs_arena_take(a, tile * ffn * e, QS_ARENA_ALIGN);
    b->d_act = qs_arena_take(a, tile * ffn * e, QS_ARENA_ALIGN);
    b->h_down = qs_arena_take(a, tile * (size_t)b->h_cols[QS_GROUP_DOWN] * e, QS_ARENA_ALIGN);
    size_t mlp_end = a->used;
    a->used = shared;
    b->d_o = qs_arena_take(a, rows * q * e, QS_ARENA_ALIGN);
    b->d_qkv = qs_arena_take(a, rows * qkv * e, QS_ARENA_ALIGN);
    a->used = most(a->used, mlp_end);
}

static size_t gemm_workspace(const qs_block *b, int64_t rows, int64_t out, int64_t in)
{
    qs_mat x = qs_mat_of(NULL, b->c.type, rows, in), w = qs_mat_of(NULL, b->c.type, out, in), y = qs_mat_of(NULL, b->c.type, rows, out);
    qs_gemm forward = {.a = x, .b = w, .c = y, .transpose_b = true, .alpha = 1}, back = {.a = y, .b = w, .c = x, .alpha = 1};
    return most(qs_op_gemm_workspace_bytes(b->c.device, &forward), qs_op_gemm_workspace_bytes(b->c.device, &back));
}

static size_t lora_workspace(const qs_block *b, int64_t rows, const qs_lora_slot *s, int64_t h_cols)
{
    qs_mat x = qs_mat_of(NULL, b->c.type, rows, s->in), h = qs_mat_of(NULL, b->c.type, rows, h_cols);
    qs_mat y = qs_mat_of(NULL, b->c.type, rows, s->out), ga = qs_mat_of(NULL, QS_F32, h_cols, s->in), gb = qs_mat_of(NULL, QS_F32, s->out, b->c.lora->r);
    h.stride = h_cols;
    qs_mat ht = qs_mat_part(h, 0, rows, 0, b->c.lora->r);
    qs_gemm da = {.a = h, .b = x, .c = ga, .transpose_a = true, .alpha = 1, .beta = 1};
    qs_gemm db = {.a = y, .b = ht, .c = gb, .transpose_a = true, .alpha = 1, .beta = 1};
    return most(most(qs_op_gemm_workspace_bytes(b->c.device, &da), qs_op_gemm_workspace_bytes(b->c.device, &db)),
                most(gemm_workspace(b, rows, h_cols, s->in), gemm_workspace(b, rows, s->out, b->c.lora->r)));
}

static size_t workspace(const qs_block *b)
{
    const qs_architecture *m = b->c.a;
    int64_t rows = b->c.max_rows, tile = b->c.mlp_rows;
    qs_attention at = {.q = qs_mat_of(NULL, b->c.type, rows, b->q_cols), .k = qs_mat_of(NULL, b->c.type, rows, b->kv_cols),
                       .v = qs_mat_of(NULL, b->c.type, rows, b->kv_cols), .o = qs_mat_of(NULL, b->c.type, rows, b->q_cols),
                       .heads = m->heads, .kv_heads = m->kv_heads, .head_dim = m->head_dim};
    at.q.stride = at.k.stride = at.v.stride = b->qkv_cols;
    size_t need = qs_op_attention_workspace_bytes(b->c.device, &at);
    need = most(need, most(gemm_workspace(b, rows, b->qkv_cols, m->hidden), gemm_workspace(b, rows, m->hidden, b->q_cols)));
    need = most(need, most(gemm_workspace(b, tile, b->up_cols, m->hidden), gemm_workspace(b, tile, m->hidden, m->ffn)));
    for (int i = 0; i < QS_LINEAR_COUNT; i++) {
        const qs_lora_slot *s = &b->c.lora->slot[i];
        bool mlp = i >= QS_LINEAR_GATE;
        if (s->active) need = most(need, lora_workspace(b, mlp ? tile : rows, s, b->h_cols[qs_linear_group((qs_linear)i)]));
    }
    return need;
}

void qs_block_create(const qs_block_config *config, qs_arena *memory, qs_block **out)
{
    qs_block *b = qs_calloc(1, sizeof *b);
    b->c = *config;
    b->q_cols = (int64_t)config->a->heads * config->a->head_dim;
    b->kv_cols = (int64_t)config->a->kv_heads * config->a->head_dim;
    b->qkv_cols = b->q_cols + 2 * b->kv_cols;
    b->up_cols = (config->a->plain_mlp ? 1 : 2) * (int64_t)config->a->ffn;
    for (int g = 0; g < QS_GROUP_COUNT; g++) b->h_cols[g] = (int64_t)config->lora->group_targets[g] * config->lora->r;
    carve(b, memory);
    b->workspace_bytes = workspace(b);
    *out = b;
}

void qs_block_free(qs_block *b) { qs_free(b); }

size_t qs_block_workspace_bytes(const qs_block *b) { return b->workspace_bytes; }

/* ---- parts --------------------------------------------------------------------------------------------------------------- */

void qs_block_linear(const qs_block_call *c, qs_mat in, qs_mat w, const float *bias, qs_mat out)
{
    qs_op_gemm(c->b->c.device, &(qs_gemm){.a = in, .b = w, .c = out, .transpose_b = true, .alpha = 1, .bias = bias, .bias_type = QS_F32});
}

void qs_block_norm(const qs_block_call *c, qs_mat x, qs_norm w, qs_mat y) { qs_norm_forward(c->b->c.device, c->b->c.a, w, x, y); }

qs_lora_call qs_block_lora_call(const qs_block_call *c, qs_group group, qs_mat x, int64_t first_row, void *h)
{
    const qs_block *b = c->b;
    return (qs_lora_call){.device = b->c.device, .type = b->c.type, .l = c->l, .group = group, .x = x, .first_row = first_row,
                          .h = qs_block_mat(b, h, x.rows, b->h_cols[group]), .dropped = b->dropped};
}

qs_attention qs_block_attention(const qs_block_call *c)
{
    const qs_block *b = c->b;
    qs_mat qkv = qs_block_mat(b, c->f.qkv, c->batch->rows, b->qkv_cols);
    int64_t rows = c->batch->rows;
    /* head_dim^-0.5, rounded once from double as Python does */
    double scale = 1.0 / __builtin_sqrt((double)b->c.a->head_dim);
    return (qs_attention){.q = qs_mat_part(qkv, 0, rows, 0, b->q_cols),
                          .k = qs_mat_part(qkv, 0, rows, b->q_cols, b->kv_cols),
                          .v = qs_mat_part(qkv, 0, rows, b->q_cols + b->kv_cols, b->kv_cols),
                          .o = qs_block_mat(b, c->f.o, rows, b->q_cols),
                          .lse = c->f.lse,
                          .heads = b->c.a->heads,
                          .kv_heads = b->c.a->kv_heads,
                          .head_dim = b->c.a->head_dim,
                          .scale = (float)scale,
                          .window = c->w->window,
                          .document = c->batch->document_start};
}

void qs_block_rotate(const qs_block_call *c, void *qkv, bool inverse)
{
    const qs_block *b = c->b;
    qs_mat all = qs_block_mat(b, qkv, c->batch->rows, b->qkv_cols);
    qs_rope r = {.x = qs_mat_part(all, 0, c->batch->rows, 0, b->q_cols + b->kv_cols), /* q and k are neighbours: one call */
                 .heads = b->c.a->heads + b->c.a->kv_heads, .head_dim = b->c.a->head_dim, .rotary_dim = b->c.a->rotary_dim,
                 .cos = c->batch->cos, .sin = c->batch->sin, .positions = c->batch->positions, .inverse = inverse};
    qs_op_rope(b->c.device, &r);
}

/* Norms each head of q and k; the raw values are saved for the backward pass. */
static void norm_heads(const qs_block_call *c)
{
    const qs_block *b = c->b;
    int64_t rows = c->batch->rows, d = b->c.a->head_dim;
    qs_mat all = qs_block_mat(b, c->f.qkv, rows, b->qkv_cols), raw = qs_block_mat(b, c->f.qk_raw, rows, b->q_cols + b->kv_cols);
    for (int64_t h = 0; h < b->c.a->heads + b->c.a->kv_heads; h++) {
        qs_mat from = qs_mat_part(all, 0, rows, h * d, d), keep = qs_mat_part(raw, 0, rows, h * d, d);
        qs_dropout copy = {.p = 0}; /* a strided copy */
        qs_op_dropout(b->c.device, &copy, from, keep, false);
        qs_block_norm(c, keep, h < b->c.a->heads ? c->w->q_norm : c->w->k_norm, from);
    }
}

void qs_block_attention_half(const qs_block_call *c, void *x)
{
    qs_block *b = c->b;
    qs_device *d = b->c.device;
    int64_t rows = c->batch->rows, hidden = b->c.a->hidden;
    qs_mat in = qs_block_mat(b, x, rows, hidden), n = qs_block_mat(b, b->n, rows, hidden), m = qs_block_mat(b, c->f.m, rows, hidden);
    qs_mat qkv = qs_block_mat(b, c->f.qkv, rows, b->qkv_cols), o = qs_block_mat(b, c->f.o, rows, b->q_cols);

    qs_block_norm(c, in, c->w->norm1, n);
    bool fused = b->c.a->fused_qkv;
    qs_mat product = fused ? qs_block_mat(b, b->d_qkv, rows, b->qkv_cols) : qkv;
    qs_block_linear(c, n, c->w->qkv, c->w->bias[QS_GROUP_QKV], product);
    qs_lora_call lora = qs_block_lora_call(c, QS_GROUP_QKV, n, 0, c->f.h_qkv);
    qs_lora_forward(&lora, product);
    if (fused) qs_op_regroup(d, product, b->c.a->heads, 3, b->c.a->head_dim, qkv);
    if (b->c.a->qk_norm) norm_heads(c);
    qs_block_rotate(c, c->f.qkv, false);
    qs_attention attention = qs_block_attention(c);
    qs_op_attention(d, &attention);

    qs_block_linear(c, o, c->w->o, c->w->bias[QS_GROUP_O], m);
    lora = qs_block_lora_call(c, QS_GROUP_O, o, 0, c->f.h_o);
    qs_lora_forward(&lora, m);
    qs_op_add(d, m, in, m);
    qs_block_norm(c, b->c.a->parallel_residual ? in : m, c->w->norm2, n);
}

/* Rows from `first` on of a buffer that holds a tile, or every row where it is saved. */
static void *tile_at(const qs_block_call *c, void *data, int64_t first, int64_t cols)
{
    return c->saved ? (char *)data + (size_t)(first * cols) * qs_dtype_bytes(c->b->c.type) : data;
}

qs_mat qs_block_gate_up(const qs_block_call *c, int64_t first, int64_t rows)
{
    int64_t cols = c->b->up_cols;
    return qs_block_mat(c->b, tile_at(c, c->f.gate_up, first, cols), rows, cols);
}

qs_lora_call qs_block_lora_gate_up(const qs_block_call *c, int64_t first, int64_t rows)
{
    const qs_block *b = c->b;
    qs_mat n = qs_mat_part(qs_block_mat(b, b->n, c->batch->rows, b->c.a->hidden), first, rows, 0, b->c.a->hidden);
    return qs_block_lora_call(c, QS_GROUP_GATE_UP, n, first, tile_at(c, c->f.h_gate_up, first, b->h_cols[QS_GROUP_GATE_UP]));
}

void qs_block_activate(const qs_block_call *c, qs_mat gate_up, qs_mat act)
{
    const qs_architecture *a = c->b->c.a;
    (a->plain_mlp ? qs_op_activation : qs_op_gated)(c->b->c.device, a->activation, gate_up, act);
}

void qs_block_mlp_tile(const qs_block_call *c, int64_t first, int64_t rows)
{
    qs_mat gate_up = qs_block_gate_up(c, first, rows);
    qs_lora_call lora = qs_block_lora_gate_up(c, first, rows);
    qs_block_linear(c, lora.x, c->w->gate_up, c->w->bias[QS_GROUP_GATE_UP], gate_up);
    qs_lora_forward(&lora, gate_up);
    qs_block_activate(c, gate_up, qs_block_mat(c->b, c->b->act, rows, c->b->c.a->ffn));
}

qs_block_call qs_block_begin(qs_block *b, const qs_block_weights *w, const qs_block_lora *l, const qs_block_batch *batch, void *saved)
{
    qs_block_call c = {.b = b, .w = w, .l = l, .batch = batch, .f = b->own, .saved = saved};
    qs_arena memory = {.base = saved, .capacity = qs_block_saved_bytes(b)};
    if (saved) c.f = saved_whole(b, &memory);
    return c;
}

void qs_block_forward(qs_block *b, const qs_block_weights *w, const qs_block_lora *l, const qs_block_batch *batch, void *x, void *y,
                      void *saved)
{
    qs_block_call c = qs_block_begin(b, w, l, batch, saved);
    int64_t hidden = b->c.a->hidden;
    QS_ASSERT(batch->rows <= b->c.max_rows && x != y);
    qs_block_attention_half(&c, x);
    for (int64_t first = 0; first < batch->rows; first += b->c.mlp_rows) {
        int64_t rows = batch->rows - first < b->c.mlp_rows ? batch->rows - first : b->c.mlp_rows;
        qs_block_mlp_tile(&c, first, rows);
        qs_mat act = qs_block_mat(b, b->act, rows, b->c.a->ffn);
        qs_mat out = qs_mat_part(qs_block_mat(b, y, batch->rows, hidden), first, rows, 0, hidden);
        qs_block_linear(&c, act, w->down, w->bias[QS_GROUP_DOWN], out);
        qs_lora_call lora = qs_block_lora_call(&c, QS_GROUP_DOWN, act, first, b->h_down);
        qs_lora_forward(&lora, out);
        qs_op_add(b->c.device, out, qs_mat_part(qs_block_mat(b, c.f.m, batch->rows, hidden), first, rows, 0, hidden), out);
    }
}
