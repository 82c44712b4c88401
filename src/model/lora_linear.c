#include "src/model/lora_linear.h"

static qs_linear first_of(qs_group g)
{
    static const qs_linear first[] = {QS_LINEAR_Q, QS_LINEAR_O, QS_LINEAR_GATE, QS_LINEAR_DOWN, QS_LINEAR_COUNT};
    return first[g];
}

int64_t qs_lora_column(const qs_lora *l, qs_linear linear)
{
    int64_t column = 0;
    for (qs_linear i = first_of(qs_linear_group(linear)); i < linear; i++) column += l->slot[i].out;
    return column;
}

static qs_mat pack_part(const qs_lora_call *c, int64_t at, int64_t rows, int64_t cols)
{
    return qs_mat_of((char *)c->l->values + (size_t)at * qs_dtype_bytes(c->type), c->type, rows, cols);
}

static qs_dropout mask_of(const qs_lora_call *c, qs_linear linear)
{
    return (qs_dropout){.p = c->l->dropout, .seed = c->l->seed, .stream = c->l->stream | (uint64_t)linear, .first_row = c->first_row};
}

static void product(const qs_lora_call *c, qs_mat a, bool ta, qs_mat b, bool tb, qs_mat out, float alpha, float beta)
{
    qs_op_gemm(c->device, &(qs_gemm){.a = a, .b = b, .c = out, .transpose_a = ta, .transpose_b = tb, .alpha = alpha, .beta = beta});
}

/* The group's A matrices lie one below the other from this linear's on. */
static qs_linear first_active(const qs_lora_call *c)
{
    qs_linear i = first_of(c->group);
    while (!c->l->lora->slot[i].active) i++;
    return i;
}

static bool targets(const qs_lora_call *c) { return c->l->lora && c->l->lora->group_targets[c->group] > 0; }

void qs_lora_inner(const qs_lora_call *c)
{
    if (!targets(c)) return;
    const qs_lora *l = c->l->lora;
    if (c->l->dropout == 0) {
        product(c, c->x, false, pack_part(c, l->slot[first_active(c)].a_at, c->h.cols, c->x.cols), true, c->h, 1, 0);
        return;
    }
    qs_mat dropped = qs_mat_of(c->dropped, c->type, c->x.rows, c->x.cols);
    for (qs_linear i = first_of(c->group); i < first_of(c->group + 1); i++) {
        const qs_lora_slot *s = &l->slot[i];
        if (!s->active) continue;
        qs_dropout mask = mask_of(c, i);
        qs_op_dropout(c->device, &mask, c->x, dropped, false);
        product(c, dropped, false, pack_part(c, s->a_at, l->r, s->in), true, qs_mat_part(c->h, 0, c->x.rows, s->row_in_group, l->r), 1, 0);
    }
}

void qs_lora_forward(const qs_lora_call *c, qs_mat y)
{
    if (!targets(c)) return;
    const qs_lora *l = c->l->lora;
    qs_lora_inner(c);
    for (qs_linear i = first_of(c->group); i < first_of(c->group + 1); i++) {
        const qs_lora_slot *s = &l->slot[i];
        if (!s->active) continue;
        product(c, qs_mat_part(c->h, 0, c->x.rows, s->row_in_group, l->r), false, pack_part(c, s->b_at, s->out, l->r), true,
                qs_mat_part(y, 0, c->x.rows, qs_lora_column(l, i), s->out), l->scaling, 1);
    }
}

void qs_lora_backward(const qs_lora_call *c, qs_mat dy, qs_mat dh, qs_mat dx)
{
    if (!targets(c)) return;
    const qs_lora *l = c->l->lora;
    int64_t rows = c->x.rows, r = l->r;
    for (qs_linear i = first_of(c->group); i < first_of(c->group + 1); i++) {
        const qs_lora_slot *s = &l->slot[i];
        if (!s->active) continue;
        qs_mat dy_t = qs_mat_part(dy, 0, rows, qs_lora_column(l, i), s->out), h = qs_mat_part(c->h, 0, rows, s->row_in_group, r);
        qs_mat dh_t = qs_mat_part(dh, 0, rows, s->row_in_group, r);
        product(c, dy_t, true, h, false, qs_mat_of(c->l->gradients + s->b_at, QS_F32, s->out, r), l->scaling, 1);
        product(c, dy_t, false, pack_part(c, s->b_at, s->out, r), false, dh_t, l->scaling, 0);
        if (c->l->dropout > 0) {
            qs_mat scratch = qs_mat_of(c->dropped, c->type, rows, c->x.cols);
            qs_dropout mask = mask_of(c, i);
            qs_op_dropout(c->device, &mask, c->x, scratch, false);
            product(c, dh_t, true, scratch, false, qs_mat_of(c->l->gradients + s->a_at, QS_F32, r, s->in), 1, 1);
            if (dx.data) {
                product(c, dh_t, false, pack_part(c, s->a_at, r, s->in), false, scratch, 1, 0);
                qs_op_dropout(c->device, &mask, scratch, dx, true);
            }
        }
    }
    if (c->l->dropout == 0) {
        const qs_lora_slot *s = &l->slot[first_active(c)];
        product(c, dh, true, c->x, false, qs_mat_of(c->l->gradients + s->a_at, QS_F32, dh.cols, s->in), 1, 1);
        if (dx.data) product(c, dh, false, pack_part(c, s->a_at, dh.cols, s->in), false, dx, 1, 1);
    }
}
