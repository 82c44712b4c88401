#include "src/model/lora_linear.h"

/* One linear of the group, its adapter, and the columns of the group's output at which it begins. */
typedef struct target {
    const qs_lora_slot *slot;
    int64_t column;
    uint64_t key;
} target;

/* The next adapted linear of the group after `*i`, which begins at -1; false at the end. */
static bool next_target(const qs_lora_call *c, int *i, target *t)
{
    const qs_lora_layer *l = c->l->lora;
    const qs_layer_group *g = &l->layer->group[c->group];
    for (++*i; *i < g->count; ++*i) {
        const qs_lora_slot *s = &l->slot[g->first + *i];
        if (!s->active) continue;
        *t = (target){.slot = s, .key = (uint64_t)l->layer->tensor[g->first + *i].key};
        for (int k = 0; k < *i; k++) t->column += l->layer->tensor[g->first + k].out;
        return true;
    }
    return false;
}

static qs_mat pack_part(const qs_lora_call *c, int64_t at, int64_t rows, int64_t cols)
{
    return qs_mat_of((char *)c->l->values + (size_t)at * qs_dtype_bytes(c->type), c->type, rows, cols);
}

static qs_dropout mask_of(const qs_lora_call *c, const target *t)
{
    return (qs_dropout){
        .p = c->l->dropout, .seed = c->l->seed, .stream = c->l->stream | t->key, .first_row = c->first_row};
}

static void product(const qs_lora_call *c, qs_mat a, bool ta, qs_mat b, bool tb, qs_mat out, float alpha,
                    float beta)
{
    qs_op_gemm(
        c->device,
        &(qs_gemm){
            .a = a, .b = b, .c = out, .transpose_a = ta, .transpose_b = tb, .alpha = alpha, .beta = beta});
}

/* The group's A matrices lie one below the other from this one on. */
static qs_mat stacked_a(const qs_lora_call *c, int64_t rows)
{
    target t;
    int i = -1;
    next_target(c, &i, &t);
    return pack_part(c, t.slot->a_at, rows, c->x.cols);
}

static bool targets(const qs_lora_call *c) { return c->l->lora && c->l->lora->group_rows[c->group] > 0; }

void qs_lora_inner(const qs_lora_call *c)
{
    if (!targets(c)) return;
    if (c->l->dropout == 0) {
        product(c, c->x, false, stacked_a(c, c->h.cols), true, c->h, 1, 0);
        return;
    }
    qs_mat dropped = qs_mat_of(c->dropped, c->type, c->x.rows, c->x.cols);
    target t;
    for (int i = -1; next_target(c, &i, &t);) {
        const qs_lora_slot *s = t.slot;
        qs_dropout mask = mask_of(c, &t);
        qs_op_dropout(c->device, &mask, c->x, dropped, false);
        product(c, dropped, false, pack_part(c, s->a_at, s->r, s->in), true,
                qs_mat_part(c->h, 0, c->x.rows, s->row_in_group, s->r), 1, 0);
    }
}

void qs_lora_forward(const qs_lora_call *c, qs_mat y)
{
    if (!targets(c)) return;
    target t;
    qs_lora_inner(c);
    for (int i = -1; next_target(c, &i, &t);) {
        const qs_lora_slot *s = t.slot;
        product(c, qs_mat_part(c->h, 0, c->x.rows, s->row_in_group, s->r), false,
                pack_part(c, s->b_at, s->out, s->r), true, qs_mat_part(y, 0, c->x.rows, t.column, s->out),
                s->scaling, 1);
    }
}

void qs_lora_backward(const qs_lora_call *c, qs_mat dy, qs_mat dh, qs_mat dx)
{
    if (!targets(c)) return;
    int64_t rows = c->x.rows;
    target t;
    for (int i = -1; next_target(c, &i, &t);) {
        const qs_lora_slot *s = t.slot;
        int32_t r = s->r;
        qs_mat dy_t = qs_mat_part(dy, 0, rows, t.column, s->out),
               h = qs_mat_part(c->h, 0, rows, s->row_in_group, r);
        qs_mat dh_t = qs_mat_part(dh, 0, rows, s->row_in_group, r);
        product(c, dy_t, true, h, false, qs_mat_of(c->l->gradients + s->b_at, QS_F32, s->out, r), s->scaling,
                1);
        product(c, dy_t, false, pack_part(c, s->b_at, s->out, r), false, dh_t, s->scaling, 0);
        if (c->l->dropout > 0) {
            qs_mat scratch = qs_mat_of(c->dropped, c->type, rows, c->x.cols);
            qs_dropout mask = mask_of(c, &t);
            qs_op_dropout(c->device, &mask, c->x, scratch, false);
            product(c, dh_t, true, scratch, false, qs_mat_of(c->l->gradients + s->a_at, QS_F32, r, s->in), 1,
                    1);
            if (dx.data) {
                product(c, dh_t, false, pack_part(c, s->a_at, r, s->in), false, scratch, 1, 0);
                qs_op_dropout(c->device, &mask, scratch, dx, true);
            }
        }
    }
    if (c->l->dropout == 0) {
        target first;
        int i = -1;
        next_target(c, &i, &first);
        product(c, dh, true, c->x, false,
                qs_mat_of(c->l->gradients + first.slot->a_at, QS_F32, dh.cols, c->x.cols), 1, 1);
        if (dx.data) product(c, dh, false, stacked_a(c, dh.cols), false, dx, 1, 1);
    }
}
