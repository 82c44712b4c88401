#include "src/model/layout.h"

#include <stdio.h>

#include "src/base/memory.h"
#include "src/model/names.h"

enum { TILE_BYTES = 16 << 20 };

static uint64_t take(uint64_t *used, uint64_t bytes)
{
    uint64_t at = (*used + 63) & ~(uint64_t)63;
    *used = at + bytes;
    return at;
}

bool qs_layout_linear_name(const qs_architecture *a, int32_t layer, qs_linear linear, char name[128])
{
    const qs_names *n = qs_names_of(a);
    if (!n->linear[linear]) return false;
    snprintf(name, 128, "%s.%d.%s.weight", n->blocks, layer, n->linear[linear]);
    return true;
}

bool qs_layout_vector_name(const qs_architecture *a, int32_t layer, qs_vector v, char name[128])
{
    const qs_names *n = qs_names_of(a);
    bool bias = v >= QS_VECTOR_BIAS;
    const char *module = v >= QS_VECTOR_NORM1_BIAS ? n->norm[v - QS_VECTOR_NORM1_BIAS]
                         : bias                    ? n->linear[v - QS_VECTOR_BIAS]
                         : v <= QS_VECTOR_NORM2    ? n->norm[v]
                                                   : n->head_norm[v - QS_VECTOR_Q_NORM];
    if (!module) return false;
    snprintf(name, 128, "%s.%d.%s.%s", n->blocks, layer, module, bias ? "bias" : "weight");
    return true;
}

void qs_layout_final_norm_name(const qs_architecture *a, bool bias, char name[128])
{
    snprintf(name, 128, "%s.%s", qs_names_of(a)->final_norm, bias ? "bias" : "weight");
}

int64_t qs_layout_vector_length(const qs_architecture *a, qs_vector v)
{
    if (v >= QS_VECTOR_NORM1_BIAS) return a->norm == QS_NORM_LAYER ? a->hidden : 0;
    if (v >= QS_VECTOR_BIAS) {
        qs_linear l = (qs_linear)(v - QS_VECTOR_BIAS);
        return qs_linear_bias(a, l) ? qs_linear_out(a, l) : 0;
    }
    if (v == QS_VECTOR_Q_NORM || v == QS_VECTOR_K_NORM) return a->qk_norm ? a->head_dim : 0;
    return a->hidden;
}

/* The head as a module of its own. */
static void own_head(const qs_architecture *a, const qs_source *source, char name[128])
{
    const qs_names *n = qs_names_of(a);
    snprintf(name, 128, "%s.weight", n->head);
    if (!n->other_head || qs_source_find(source, name)) return;
    char other[128];
    snprintf(other, sizeof other, "%s.weight", n->other_head);
    if (qs_source_find(source, other)) snprintf(name, 128, "%s", other);
}

void qs_layout_embedding_name(const qs_architecture *a, const qs_source *source, char name[128])
{
    snprintf(name, 128, "%s.weight", qs_names_of(a)->embedding);
    if (a->tied && !qs_source_find(source, name)) own_head(a, source, name);
}

void qs_layout_head_name(const qs_architecture *a, const qs_source *source, char name[128])
{
    if (a->tied) qs_layout_embedding_name(a, source, name);
    else own_head(a, source, name);
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
    qs_layout_linear_name(a, 0, QS_LINEAR_Q, name);
    l->base_type = type_of(source, name);
    for (int32_t layer = 0; layer < a->layers; layer++)
        for (int i = 0; i < QS_LINEAR_COUNT; i++) {
            if (qs_layout_linear_name(a, layer, (qs_linear)i, name)) l->base_type = widest(l->base_type, type_of(source, name));
        }
    qs_layout_head_name(a, source, name);
    l->head_type = type_of(source, name);

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
        if (!n) continue;
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
