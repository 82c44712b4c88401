#include "src/step/visit_compute.h"

void qs_visit_compute_layer(const qs_sweep_config *c, const qs_visit_work *w, qs_block *block,
                            const qs_block_call *call, int32_t *flag)
{
    bool forward = w->kind == QS_VISIT_FORWARD;
    qs_block_call at = *call;
    if (!w->input_gradient) at.dx = NULL;
    if (!w->saved) at.kept = NULL;
    (forward ? qs_block_forward : qs_block_backward)(block, &at);
    void *made = forward ? at.y : at.dx;
    if (made) qs_op_flag_nonfinite(c->device, qs_mat_of(made, c->type, at.batch->rows, c->a->hidden), flag);
}

static qs_head_call call_of(const qs_visit_head_call *h)
{
    return (qs_head_call){
        .mb = h->slot, .rows = h->rows, .tile = h->tile, .vocab_start = h->vocab_start, .targets = h->target};
}

static void head_loss(const qs_visit_work *w, const qs_visit_head_call *h)
{
    if (w->first_tile) qs_head_norm(h->head, h->slot, h->rows, h->x, h->norm);
    qs_head_call call = call_of(h);
    qs_head_loss_tile(h->head, &call);
    if (w->last_tile) qs_head_loss(h->head, h->slot, h->rows, h->target, h->loss);
}

/* Tiles go by in the other order. */
static void head_gradient(const qs_sweep_config *c, const qs_visit_work *w, const qs_visit_head_call *h)
{
    qs_head_call call = call_of(h);
    qs_head_gradient_tile(h->head, &call, h->scale, w->last_tile);
    if (!w->first_tile) return;
    qs_head_gradient(h->head, h->slot, h->rows, h->x, h->norm);
    qs_op_flag_nonfinite(c->device, qs_mat_of(h->x, c->type, h->rows, c->a->hidden), h->flag);
}

void qs_visit_compute_head(const qs_sweep_config *c, const qs_visit_work *w, const qs_visit_head_call *call)
{
    if (w->kind == QS_VISIT_HEAD_LOSS)
        head_loss(w, call);
    else
        head_gradient(c, w, call);
}

void qs_visit_convert_adapters(qs_device *d, const qs_lora *l, qs_dtype type, const float *values, void *to)
{
    if (type != QS_F32) qs_op_convert(d, to, type, values, QS_F32, l->pack_floats);
}

void qs_visit_clear_gradients(qs_device *d, const qs_lora *l, float *gradients)
{
    d->api->fill(d, QS_QUEUE_COMPUTE, gradients, 0, (size_t)l->pack_floats * sizeof(float));
}
