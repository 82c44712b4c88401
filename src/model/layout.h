/* layout.h - where every tensor of a layer lies: in its blob (as cached and streamed), and in the dequantised
 * scratch.
 *
 * A layer's blob holds, 64-byte aligned: its vectors (fp32), then for each linear its weight, quantised
 * (codes, absmax or absmax8 + nested + offset) or in the checkpoint's 16/32-bit type. The blob of a head tile
 * holds rows [first, first + rows) of the head in the checkpoint's type. Layers of one kind have one layout.
 * Dense scratch: the linears of a group lie one below the other, so that each group is one matrix product.
 */
#ifndef QS_MODEL_LAYOUT_H
#define QS_MODEL_LAYOUT_H

#include "src/model/architecture.h"

enum { QS_LAYOUT_VERSION = 2 };

typedef struct qs_quant_config {
    qs_quant_type type; /* QS_QUANT_NONE: the checkpoint's own type */
    bool double_quant;
} qs_quant_config;

typedef struct qs_tensor_layout {
    uint64_t at;                              /* bytes in the blob: a vector, or a linear's weight */
    uint64_t absmax_at, nested_at, offset_at; /* absmax_at: fp32 or, double quantised, u8 */
    uint64_t dense_at;                        /* elements in the dense scratch */
} qs_tensor_layout;

typedef struct qs_layer_layout {
    qs_tensor_layout tensor[QS_TENSORS_MAX]; /* as in the layer's list */
    uint64_t bytes;                          /* of the blob */
    uint64_t dense_elements;                 /* of the dense scratch */
    uint64_t group_elements;                 /* of its largest group */
} qs_layer_layout;

typedef struct qs_layout {
    const qs_architecture *a;
    qs_quant_config quant;
    qs_dtype base_type; /* of the unquantised weights in blobs: the checkpoint's */
    qs_dtype head_type;
    qs_layer_layout kind[QS_LAYER_KINDS_MAX]; /* of the architecture's kinds of layers */
    uint64_t dense_elements,
        group_elements; /* of the dense scratch that serves every layer, or every group */
    int32_t layers, tiles, tile_rows, last_tile_rows;
    uint64_t tile_bytes; /* of a head tile's blob */
} qs_layout;

/* The layout for an architecture whose tensors are in `source` (types are looked up there; it has passed
 * qs_architecture_check). Linears of different types are converted to the widest. A head tile has as many
 * rows as fit 16 MiB, a multiple of 64. `a` is borrowed. */
void qs_layout_make(const qs_architecture *a, const qs_source *source, qs_quant_config quant, qs_layout *out);

static inline const qs_layer_layout *qs_layout_layer(const qs_layout *l, int32_t layer)
{
    return &l->kind[l->a->kind_of[layer]];
}

/* Blob b's bytes: layers first, then tiles. */
static inline uint64_t qs_layout_blob_bytes(const qs_layout *l, int blob)
{
    return blob < l->layers ? qs_layout_layer(l, blob)->bytes : l->tile_bytes;
}
static inline int qs_layout_blobs(const qs_layout *l) { return l->layers + l->tiles; }
static inline int32_t qs_layout_tile_rows(const qs_layout *l, int32_t tile)
{
    return tile == l->tiles - 1 ? l->last_tile_rows : l->tile_rows;
}

/* Everything about the layout that decides a blob's bytes, for the cache's key; freed with qs_free. */
char *qs_layout_describe(const qs_layout *l);

#endif
