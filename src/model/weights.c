#include "src/model/weights.h"

bool qs_weights_in_place(const qs_layout *l, qs_dtype type)
{
    return l->quant.type == QS_QUANT_NONE && l->base_type == type;
}

qs_layer_weights qs_weights_of(const qs_layout *l, int32_t layer, qs_dtype type, const void *blob,
                               qs_dense *dense)
{
    return (qs_layer_weights){.layout = l,
                              .layer = qs_architecture_layer(l->a, layer),
                              .place = qs_layout_layer(l, layer),
                              .type = type,
                              .blob = blob,
                              .index = layer,
                              .dense = dense};
}

static char *dense_at(const qs_layer_weights *w, uint64_t element)
{
    return w->dense->memory + element * qs_dtype_bytes(w->type);
}

static void decode(qs_device *d, const qs_layer_weights *w, int index, char *out)
{
    const qs_quant_config *quant = &w->layout->quant;
    const qs_tensor *t = &w->layer->tensor[index];
    const qs_tensor_layout *p = &w->place->tensor[index];
    int64_t n = (int64_t)t->out * t->in;
    if (quant->type == QS_QUANT_NONE) {
        qs_op_convert(d, out, w->type, w->blob + p->at, w->layout->base_type, n);
        return;
    }
    qs_qtensor q = {.type = quant->type, .n = n, .codes = (const uint8_t *)w->blob + p->at};
    if (quant->double_quant) {
        q.absmax8 = (const uint8_t *)w->blob + p->absmax_at;
        q.nested = (const float *)(w->blob + p->nested_at);
        q.offset = (const float *)(w->blob + p->offset_at);
    } else {
        q.absmax = (const float *)(w->blob + p->absmax_at);
    }
    qs_op_dequantise4(d, &q, out, w->type);
}

void qs_weights_decode(qs_device *d, const qs_layer_weights *w)
{
    if (qs_weights_in_place(w->layout, w->type) || w->dense->by_group || w->dense->blob == w->index) return;
    for (int i = 0; i < w->layer->tensors; i++)
        if (w->layer->tensor[i].role == QS_TENSOR_LINEAR)
            decode(d, w, i, dense_at(w, w->place->tensor[i].dense_at));
    w->dense->blob = w->index;
}

static void decode_group(qs_device *d, const qs_layer_weights *w, int group)
{
    const qs_layer_group *g = &w->layer->group[group];
    if (w->dense->blob == w->index && w->dense->group == group) return;
    for (int i = g->first; i < g->first + g->count; i++)
        decode(d, w, i, dense_at(w, w->place->tensor[i].dense_at - w->place->tensor[g->first].dense_at));
    w->dense->blob = w->index;
    w->dense->group = group;
}

qs_mat qs_weights_group(qs_device *d, const qs_layer_weights *w, int group)
{
    const qs_layer_group *g = &w->layer->group[group];
    const qs_tensor_layout *p = &w->place->tensor[g->first];
    if (qs_weights_in_place(w->layout, w->type))
        return qs_mat_of((void *)(w->blob + p->at), w->type, g->out, g->in);
    if (w->dense->by_group) decode_group(d, w, group);
    return qs_mat_of(dense_at(w, w->dense->by_group ? 0 : p->dense_at), w->type, g->out, g->in);
}

static const float *vector(const qs_layer_weights *w, int index)
{
    return index < 0 ? NULL : (const float *)(w->blob + w->place->tensor[index].at);
}

const float *qs_weights_bias(const qs_layer_weights *w, int group)
{
    return vector(w, w->layer->group[group].bias);
}

qs_norm qs_weights_norm(const qs_layer_weights *w, qs_layer_norm n)
{
    return (qs_norm){vector(w, n.weight), vector(w, n.bias)};
}
