#include "src/model/layout.h"

#include <stdio.h>

#include "src/base/memory.h"

enum { TILE_BYTES = 16 << 20 };

static uint64_t take(uint64_t *used, uint64_t bytes)
{
    uint64_t at = (*used + 63) & ~(uint64_t)63;
    *used = at + bytes;
    return at;
}

void qs_layout_linear_name(int32_t layer, qs_linear linear, char name[128])
{
    snprintf(name, 128, "model.layers.%d.%s.weight", layer, qs_linear_name(linear));
}

void qs_layout_vector_name(int32_t layer, qs_vector v, char name[128])
{
    static const char *const norms[] = {"input_layernorm", "post_attention_layernorm", "self_attn.q_norm", "self_attn.k_norm"};
    if (v < QS_VECTOR_BIAS) snprintf(name, 128, "model.layers.%d.%s.weight", layer, norms[v]);
    else snprintf(name, 128, "model.layers.%d.%s.bias", layer, qs_linear_name((qs_linear)(v - QS_VECTOR_BIAS)));
}

int64_t qs_layout_vector_length(const qs_architecture *a, qs_vector v)
{
    if (v >= QS_VECTOR_BIAS) {
        qs_linear l = (qs_linear)(v - QS_VECTOR_BIAS);
        return qs_linear_bias(a, l) ? qs_linear_out(a, l) : 0;
    }
    if (v == QS_VECTOR_Q_NORM || v == QS_VECTOR_K_NORM) return a->qk_norm ? a->head_dim : 0;
    return a->hidden;
}

const char *qs_layout_head_name(const qs_architecture *a, const qs_source *source)
{
    if (a->tied && qs_source_find(source, "model.embed_tokens.weight")) return "model.embed_tokens.weight";
    return "lm_head.weight";
}

const char *qs_layout_embedding_name(const qs_architecture *a, const qs_source *source)
{
    return qs_source_find(source, "model.embed_tokens.weight") ? "model.embed_tokens.weight" : "lm_head.weight";
}

static qs_dtype type_of(const qs_source *source, const char *name)
{
    const qs_source_tensor *t = qs_source_find(source, name);
    QS_ASSERT(t);
    return t->type;
}

/* F32 holds both others exactly; between F16 and BF16 only F32 does. */
static qs_dtype widest(qs_dtype a, qs_dtype b) { return a == b ? a : QS_F32; }

void qs_layout_make(const qs_architecture *a, const qs_source *source, qs_quant_config quant, qs_layout *out)
{
    qs_layout *l = out;
    *l = (qs_layout){.quant = quant, .layers = a->layers};
    char name[128];
    qs_layout_linear_name(0, QS_LINEAR_Q, name);
    l->base_type = type_of(source, name);
    for (int32_t layer = 0; layer < a->layers; layer++)
        for (int i = 0; i < QS_LINEAR_COUNT; i++) {
            qs_layout_linear_name(layer, (qs_linear)i, name);
            l->base_type = widest(l->base_type, type_of(source, name));
        }
    l->head_type = type_of(source, qs_layout_head_name(a, source));

    uint64_t used = 0;
    for (int v = 0; v < QS_VECTOR_COUNT; v++) l->vector[v].n = qs_layout_vector_length(a, (qs_vector)v);
    /* Biases of one group touch, like its matrices in the dense scratch, so that a group's bias is one vector. */
    for (int v = 0; v < QS_VECTOR_COUNT; v++) {
        bool joins = v == QS_VECTOR_BIAS + QS_LINEAR_K || v == QS_VECTOR_BIAS + QS_LINEAR_V || v == QS_VECTOR_BIAS + QS_LINEAR_UP;
        if (!joins) used = qs_round_up(used, 64);
        l->vector[v].at = used;
        used += (uint64_t)l->vector[v].n * 4;
    }
    for (int i = 0; i < QS_LINEAR_COUNT; i++) {
        qs_linear_layout *w = &l->linear[i];
        w->out = qs_linear_out(a, (qs_linear)i);
        w->in = qs_linear_in(a, (qs_linear)i);
        int64_t n = (int64_t)w->out * w->in;
        w->dense_at = l->dense_elements;
        l->dense_elements += (uint64_t)n;
        /* A group's matrices touch in the dense scratch; each group begins aligned. */
        if (i == QS_LINEAR_V || i == QS_LINEAR_O || i == QS_LINEAR_UP) l->dense_elements = qs_round_up(l->dense_elements, 64);
        if (quant.type == QS_QUANT_NONE) {
            bool joins = i == QS_LINEAR_K || i == QS_LINEAR_V || i == QS_LINEAR_UP;
            if (!joins) used = qs_round_up(used, 64);
            w->weight_at = used;
            used += (uint64_t)n * qs_dtype_bytes(l->base_type);
            continue;
        }
        w->weight_at = take(&used, (uint64_t)(n + 1) / 2);
        uint64_t blocks = (uint64_t)qs_quant_blocks(n);
        w->absmax_at = take(&used, quant.double_quant ? blocks : blocks * 4);
        if (quant.double_quant) {
            w->nested_at = take(&used, (uint64_t)qs_nested_blocks(n) * 4);
            w->offset_at = take(&used, 4);
        }
    }
    l->dense_elements = qs_round_up(l->dense_elements, 64);
    l->layer_bytes = qs_round_up(used, 4096);

    uint64_t row = (uint64_t)a->hidden * qs_dtype_bytes(l->head_type), rows = TILE_BYTES / row / 64 * 64;
    l->tile_rows = rows < 64 ? 64 : rows > (uint64_t)a->vocab ? a->vocab : (int32_t)rows;
    l->tiles = (a->vocab + l->tile_rows - 1) / l->tile_rows;
    l->last_tile_rows = a->vocab - (l->tiles - 1) * l->tile_rows;
    l->tile_bytes = qs_round_up((uint64_t)l->tile_rows * row, 4096);
}

char *qs_layout_describe(const qs_layout *l)
{
    static const char *const types[] = {"none", "nf4", "fp4"};
    return qs_printf("layout %d, %s%s block %d, base %s, head %s, %d layers of %llu bytes, %d head tiles of %d rows", QS_LAYOUT_VERSION,
                     types[l->quant.type], l->quant.type != QS_QUANT_NONE && l->quant.double_quant ? " double-quantised" : "",
                     QS_QUANT_BLOCK, qs_dtype_name(l->base_type), qs_dtype_name(l->head_type), l->layers,
                     (unsigned long long)l->layer_bytes, l->tiles, l->tile_rows);
}
