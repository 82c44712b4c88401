/* layout.h - where every tensor of a block lies: in its blob (as cached and streamed), and in the dequantised scratch.
 *
 * A layer's blob holds, 64-byte aligned and in this order: the norm weights and biases (fp32), then for each linear its weight, quantised (codes, absmax or absmax8 + nested + offset)
 * or in the checkpoint's 16/32-bit type. The blob of a head tile holds rows [first, first + rows) of the head in the checkpoint's type. All layers have one
 * layout. Dense scratch: the linears that share an input lie one below the other ([q;k;v], [gate;up]; a family without k, v or gate has the fused matrix or up alone), so that each group is one matrix product.
 */
#ifndef QS_MODEL_LAYOUT_H
#define QS_MODEL_LAYOUT_H

#include "src/model/architecture.h"

enum { QS_LAYOUT_VERSION = 1 };

typedef struct qs_quant_config {
    qs_quant_type type;      /* QS_QUANT_NONE: the checkpoint's own type */
    bool double_quant;
} qs_quant_config;

typedef enum qs_vector {
    QS_VECTOR_NORM1, QS_VECTOR_NORM2, QS_VECTOR_Q_NORM, QS_VECTOR_K_NORM,
    QS_VECTOR_BIAS,          /* + qs_linear */
    QS_VECTOR_NORM1_BIAS = QS_VECTOR_BIAS + QS_LINEAR_COUNT, QS_VECTOR_NORM2_BIAS,
    QS_VECTOR_COUNT
} qs_vector;

typedef struct qs_linear_layout {
    int32_t out, in;
    uint64_t weight_at, absmax_at, nested_at, offset_at; /* bytes in the blob; absmax_at: fp32 or, double quantised, u8 */
    uint64_t dense_at;                                   /* elements in the dense scratch */
} qs_linear_layout;

typedef struct qs_layout {
    qs_quant_config quant;
    qs_dtype base_type;      /* of the unquantised weights in blobs: the checkpoint's */
    qs_dtype head_type;
    qs_linear_layout linear[QS_LINEAR_COUNT];
    struct { int64_t n; uint64_t at; } vector[QS_VECTOR_COUNT]; /* n 0: the architecture has none */
    uint64_t layer_bytes;    /* of a layer's blob */
    uint64_t dense_elements; /* of a layer's dense scratch */
    int32_t layers, tiles, tile_rows, last_tile_rows;
    uint64_t tile_bytes;     /* of a head tile's blob */
} qs_layout;

/* The layout for an architecture whose tensors are in `source` (types are looked up there; it has passed qs_architecture_check). Linears of different types are converted
 * to the widest. A head tile has as many rows as fit 16 MiB, a multiple of 64. */
void qs_layout_make(const qs_architecture *a, const qs_source *source, qs_quant_config quant, qs_layout *out);

/* Blob b's bytes: layers first, then tiles. */
static inline uint64_t qs_layout_blob_bytes(const qs_layout *l, int blob) { return blob < l->layers ? l->layer_bytes : l->tile_bytes; }
static inline int qs_layout_blobs(const qs_layout *l) { return l->layers + l->tiles; }
static inline int32_t qs_layout_tile_rows(const qs_layout *l, int32_t tile)
{
    return tile == l->tiles - 1 ? l->last_tile_rows : l->tile_rows;
}

/* Everything about the layout that decides a blob's bytes, for the cache's key; freed with qs_free. */
char *qs_layout_describe(const qs_layout *l);

/* Full tensor names: "model.layers.3.self_attn.q_proj.weight" into name[128]; false, and no name, where the family has no such tensor. */
bool qs_layout_linear_name(const qs_architecture *a, int32_t layer, qs_linear linear, char name[128]);
bool qs_layout_vector_name(const qs_architecture *a, int32_t layer, qs_vector v, char name[128]);
/* "model.norm.weight", or ".bias". */
void qs_layout_final_norm_name(const qs_architecture *a, bool bias, char name[128]);
/* Elements of a vector; 0 when the architecture has none. */
int64_t qs_layout_vector_length(const qs_architecture *a, qs_vector v);
/* Name of the head's tensor in this source: "lm_head.weight", or the embedding's when tied. */
void qs_layout_head_name(const qs_architecture *a, const qs_source *source, char name[128]);
void qs_layout_embedding_name(const qs_architecture *a, const qs_source *source, char name[128]);

#endif
