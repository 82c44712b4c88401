/* part.h - a part of a layer: one file with one table of functions, and what they are called with.
 *
 * A part turns its input [rows, hidden] into an output of the same shape. Forward and backward stand side by
 * side in its file. Base weights are frozen: backward forms the gradient of the input and of the adapters.
 * All calls only queue work on the device.
 *
 * Memory is of two kinds. `saved` is what backward needs of forward: formed again into the block's own
 * buffers, or kept since in memory of the caller. `scratch` is used within one call. Parts have their scratch
 * in the same place, for no two are at work together. Each is described by one function that carves it from
 * an arena, which may only count.
 */
#ifndef QS_MODEL_PARTS_PART_H
#define QS_MODEL_PARTS_PART_H

#include "src/base/arena.h"
#include "src/model/lora.h"
#include "src/model/weights.h"

/* What the sizes of a block's memory follow from. */
typedef struct qs_part_sizes {
    qs_dtype type;      /* compute type */
    int64_t rows;       /* of a micro-batch, at most */
    int64_t chunk;      /* rows of a part that is taken in chunks */
    int64_t saved_rows; /* rows that are saved of such a part: a chunk, or all where they are kept */
    int64_t
        h_cols[QS_GROUPS_MAX]; /* columns of LoRA's inner activations, at most: the sum of r over targets */
    bool dropout;
} qs_part_sizes;

typedef struct qs_attention_saved {
    void *
        projected; /* [rows, qkv] before q and k are normed (with a q and k norm only; v is read from here) */
    void *qkv;     /* [rows, qkv] what attention reads; with a q and k norm [rows, q and k] */
    void *o;       /* [rows, q] */
    float *lse;    /* [heads, rows] */
    void *h_qkv, *h_o; /* LoRA's inner activations */
} qs_attention_saved;

typedef struct qs_attention_scratch {
    void *product;     /* [rows, qkv] of a fused q k v: its output before, its gradient after regrouping */
    void *d_o, *d_qkv; /* gradients */
} qs_attention_scratch;

typedef struct qs_mlp_saved {
    void *gate_up; /* [saved_rows, up]; backward overwrites it */
    void *h_gate_up;
} qs_mlp_saved;

typedef struct qs_mlp_scratch {
    void *act, *d_act, *h_down;
} qs_mlp_scratch; /* of a chunk */

typedef struct qs_part_saved {
    union {
        qs_attention_saved attention;
        qs_mlp_saved mlp;
    };
} qs_part_saved;

typedef struct qs_part_scratch {
    union {
        qs_attention_scratch attention;
        qs_mlp_scratch mlp;
    };
} qs_part_scratch;

/* One micro-batch on the device. */
typedef struct qs_block_batch {
    int32_t rows; /* tokens and padding */
    const int32_t *positions, *document_start;
    const float *const *cos, *const *sin; /* tables of each of the model's rotary embeddings */
} qs_block_batch;

/* The adapters of one layer on the device, laid out as in lora.h. */
typedef struct qs_block_lora {
    const qs_lora_layer *lora; /* NULL: this layer has none */
    const void *values;        /* pack, compute type */
    float *gradients;          /* pack, fp32, accumulated into; NULL in forward and evaluation */
    float dropout;             /* 0 in evaluation */
    uint64_t seed,
        stream; /* dropout stream of this (step, micro-batch, layer); the low 4 bits are the linear's */
} qs_block_lora;

/* One call's arguments. */
typedef struct qs_part_call {
    qs_device *device;
    const qs_architecture *a;
    const qs_layer *layer;
    int part; /* which of the layer */
    const qs_part_sizes *sizes;
    const qs_layer_weights *w;
    const qs_block_lora *l;
    const qs_block_batch *batch;
    qs_part_saved saved;
    qs_part_scratch scratch;
    bool kept;     /* `saved` has every row of the micro-batch, and is kept from forward to backward */
    bool formed;   /* `saved` holds what forward makes of the input already */
    void *dh;      /* scratch like the widest of LoRA's inner activations */
    void *dropped; /* scratch [rows, widest input] with dropout */
    int64_t first; /* row of the micro-batch at which the input begins */
} qs_part_call;

struct qs_part_table {
    const char *name;
    bool chunked; /* rows are independent: taken sizes.chunk at a time, in order */
    /* Adds the part's tensors to the layer (qs_layer_add_...). Its groups are 2 * part and 2 * part + 1. */
    void (*tensors)(qs_layer *l, int part, int32_t hidden);
    void (*saved)(const qs_layer *l, int part, const qs_part_sizes *s, qs_arena *memory, qs_part_saved *out);
    void (*scratch)(const qs_layer *l, int part, const qs_part_sizes *s, qs_arena *memory,
                    qs_part_scratch *out);
    /* The widest input that dropout may have to copy. */
    int64_t (*widest)(const qs_layer *l, int part, int32_t hidden);
    /* out from in; fills saved. */
    void (*forward)(const qs_part_call *c, qs_mat in, qs_mat out);
    /* d_in from d_out (d_in.data NULL: not wanted); adapter gradients are added to. What is saved is formed
     * first, unless it is there (c->formed), and used up. d_out is left alone. */
    void (*backward)(const qs_part_call *c, qs_mat in, qs_mat d_out, qs_mat d_in);
};

extern const qs_part_table qs_part_attention, qs_part_mlp;

static inline qs_mat qs_part_mat(const qs_part_call *c, void *data, int64_t rows, int64_t cols)
{
    return qs_mat_of(data, c->sizes->type, rows, cols);
}

/* out = in W^T (+ bias), W the group's matrices [out, in]; with its adapters, whose inner activations go to
 * h. */
void qs_part_linear(const qs_part_call *c, int group, qs_mat in, void *h, qs_mat out);
/* The inner activations alone. */
void qs_part_linear_inner(const qs_part_call *c, int group, qs_mat in, void *h);
/* d_in = d_out W, and the adapters' gradients. in: the group's input. */
void qs_part_linear_backward(const qs_part_call *c, int group, qs_mat in, void *h, qs_mat d_out, qs_mat d_in);

#endif
