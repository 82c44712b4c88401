#include "src/model/layout.h"

#include <stdio.h>

#include "src/base/memory.h"

enum { TILE_BYTES = 16 << 20 };

static uint64_t take(uint64_t *used, uint64_t bytes)
{
    uint64_t at = qs_round_up(*used, 64);
    *used = at + bytes;
    return at;
}

/* What joins the tensor before it lies directly behind it. */
static uint64_t take_joined(uint64_t *used, uint64_t bytes, bool joins)
{
    if (!joins) return take(used, bytes);
    uint64_t at = *used;
    *used += bytes;
    return at;
}

static qs_dtype type_of(const qs_source *source, const char *name)
{
    const qs_source_tensor *t = qs_source_find(source, name);
    QS_ASSERT(t);
    return t->type;
}

/* F32 holds both others exactly; between F16 and BF16 only F32 does. */
static qs_dtype widest(qs_dtype a, qs_dtype b) { return a == b ? a : QS_F32; }

/* Of all linears. */
static qs_dtype base_type(const qs_architecture *a, const qs_source *source)
{
    qs_dtype type = QS_F32;
    bool first = true;
    for (int32_t layer = 0; layer < a->layers; layer++) {
        const qs_layer *l = qs_architecture_layer(a, layer);
        for (int i = 0; i < l->tensors; i++) {
            char name[128];
            if (l->tensor[i].role != QS_TENSOR_LINEAR) continue;
            qs_architecture_tensor_name(a, layer, &l->tensor[i], name);
            type = first ? type_of(source, name) : widest(type, type_of(source, name));
            first = false;
        }
    }
    return type;
}

static void place_linear(const qs_layout *l, const qs_tensor *t, uint64_t *used, qs_layer_layout *k,
                         qs_tensor_layout *w)
{
    uint64_t n = (uint64_t)t->out * (uint64_t)t->in;
    w->dense_at = take_joined(&k->dense_elements, n, t->joins);
    if (l->quant.type == QS_QUANT_NONE) {
        w->at = take_joined(used, n * qs_dtype_bytes(l->base_type), t->joins);
        return;
    }
    uint64_t blocks = (uint64_t)qs_quant_blocks((int64_t)n);
    w->at = take(used, (n + 1) / 2);
    w->absmax_at = take(used, l->quant.double_quant ? blocks : blocks * 4);
    if (!l->quant.double_quant) return;
    w->nested_at = take(used, (uint64_t)qs_nested_blocks((int64_t)n) * 4);
    w->offset_at = take(used, 4);
}

static void place_layer(const qs_layout *l, const qs_layer *layer, qs_layer_layout *k)
{
    uint64_t used = 0;
    *k = (qs_layer_layout){0};
    for (int i = 0; i < layer->tensors; i++) {
        const qs_tensor *t = &layer->tensor[i];
        if (t->role == QS_TENSOR_VECTOR) k->tensor[i].at = take_joined(&used, (uint64_t)t->out * 4, t->joins);
    }
    for (int i = 0; i < layer->tensors; i++)
        if (layer->tensor[i].role == QS_TENSOR_LINEAR)
            place_linear(l, &layer->tensor[i], &used, k, &k->tensor[i]);
    k->dense_elements = qs_round_up(k->dense_elements, 64);
    for (int g = 0; g < QS_GROUPS_MAX; g++) {
        uint64_t n = qs_round_up((uint64_t)layer->group[g].out * (uint64_t)layer->group[g].in, 64);
        if (layer->group[g].count && n > k->group_elements) k->group_elements = n;
    }
    k->bytes = qs_round_up(used, 4096);
}

void qs_layout_make(const qs_architecture *a, const qs_source *source, qs_quant_config quant, qs_layout *out)
{
    qs_layout *l = out;
    char name[128];
    *l = (qs_layout){.a = a, .quant = quant, .layers = a->layers, .base_type = base_type(a, source)};
    qs_architecture_head_name(a, source, name);
    l->head_type = type_of(source, name);
    for (int k = 0; k < a->kinds; k++) {
        place_layer(l, &a->kind[k], &l->kind[k]);
        if (l->kind[k].dense_elements > l->dense_elements) l->dense_elements = l->kind[k].dense_elements;
        if (l->kind[k].group_elements > l->group_elements) l->group_elements = l->kind[k].group_elements;
    }
    uint64_t row = (uint64_t)a->hidden * qs_dtype_bytes(l->head_type), rows = TILE_BYTES / row / 64 * 64;
    l->tile_rows = rows < 64 ? 64 : rows > (uint64_t)a->vocab ? a->vocab : (int32_t)rows;
    l->tiles = (a->vocab + l->tile_rows - 1) / l->tile_rows;
    l->last_tile_rows = a->vocab - (l->tiles - 1) * l->tile_rows;
    l->tile_bytes = qs_round_up((uint64_t)l->tile_rows * row, 4096);
}

char *qs_layout_describe(const qs_layout *l)
{
    static const char *const types[] = {"none", "nf4", "fp4"};
    uint64_t bytes = 0;
    for (int32_t layer = 0; layer < l->layers; layer++) bytes += qs_layout_layer(l, layer)->bytes;
    return qs_printf("layout %d, %s%s block %d, base %s, head %s, %d layers of %llu bytes together, %d head "
                     "tiles of %d rows",
                     QS_LAYOUT_VERSION, types[l->quant.type],
                     l->quant.type != QS_QUANT_NONE && l->quant.double_quant ? " double-quantised" : "",
                     QS_QUANT_BLOCK, qs_dtype_name(l->base_type), qs_dtype_name(l->head_type), l->layers,
                     (unsigned long long)bytes, l->tiles, l->tile_rows);
}
