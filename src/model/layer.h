/* layer.h - a layer: a list of parts around a residual stream, and the tensors that follow from it.
 *
 *     x -> [norm before] -> part -> [norm after] -> + x
 *
 * for each part in turn; with a parallel residual every part reads the layer's input. Layers that are alike
 * share one description. What a part computes and which tensors it has is written in its file, parts/NAME.c.
 */
#ifndef QS_MODEL_LAYER_H
#define QS_MODEL_LAYER_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/ops.h"

enum { QS_PARTS_MAX = 2, QS_GROUPS_MAX = 2 * QS_PARTS_MAX, QS_TENSORS_MAX = 32, QS_TENSOR_NAME = 64 };

/* A model's normalisation: RMSNorm, LayerNorm with a bias, or RMSNorm that multiplies by 1 + weight before it
 * rounds. */
typedef enum qs_norm_kind { QS_NORM_RMS, QS_NORM_LAYER, QS_NORM_RMS_PLUS_ONE } qs_norm_kind;

/* What a tensor is to the program. */
typedef enum qs_tensor_role {
    QS_TENSOR_VECTOR, /* fp32 in the blob */
    QS_TENSOR_LINEAR  /* a matrix [out, in] that is quantised; may have an adapter */
} qs_tensor_role;

typedef struct qs_tensor {
    char name[QS_TENSOR_NAME]; /* within the layer: "self_attn.q_proj.weight" */
    qs_tensor_role role;
    int32_t out, in; /* of a vector: its length, and 0 */
    int8_t group;    /* linears that share an input, and their bias, have one group; -1: none */
    int8_t key;      /* of a linear: which random numbers are its own, different in one layer */
    bool joins;      /* lies directly behind the tensor before it: both are used as one */
} qs_tensor;

/* A norm of a layer: its tensors by index; -1: none. */
typedef struct qs_layer_norm {
    int8_t weight, bias;
} qs_layer_norm;

typedef enum qs_qkv {
    QS_QKV_SEPARATE, /* three linears */
    QS_QKV_PER_HEAD, /* one, whose outputs are [heads, 3, head_dim] */
    QS_QKV_JOINED    /* one, whose outputs are q, k and v one behind the other */
} qs_qkv;

/* Before the rotation. */
typedef enum qs_qk_norm {
    QS_QK_NORM_NONE,
    QS_QK_NORM_HEAD, /* over each head */
    QS_QK_NORM_ALL   /* over all of q, and all of k */
} qs_qk_norm;

typedef struct qs_attention_config {
    int32_t heads, kv_heads, head_dim;
    int32_t window; /* keys a query sees, itself included; 0: all */
    int32_t rotary; /* which of the model's rotary embeddings; -1: none */
    int32_t
        rotary_of_window; /* which one layers with a window have, where some have one (qs_config_windows) */
    bool scaled_q;        /* q turns by the embedding behind it: the same angles, scaled by position */
    qs_qkv qkv;
    qs_qk_norm qk_norm;
    bool qkv_bias, o_bias;
    float scale, softcap;                        /* of the scores; softcap 0: none */
    const char *q, *k, *v, *o, *q_norm, *k_norm; /* modules; of a fused one q is it */
    qs_layer_norm norm_q, norm_k;                /* filled by the part */
} qs_attention_config;

typedef struct qs_mlp_config {
    int32_t ffn;
    qs_activation activation;
    bool bias;
    bool joined;                  /* up's outputs are gate and up, one behind the other */
    const char *gate, *up, *down; /* modules; gate NULL, and not joined: act(up) instead of act(gate) * up */
} qs_mlp_config;

typedef struct qs_part_table qs_part_table; /* parts/part.h */

typedef struct qs_layer_part {
    const qs_part_table *table;
    union {
        qs_attention_config attention;
        qs_mlp_config mlp;
    };
    const char *norm_before, *norm_after; /* modules; NULL: none */
    qs_layer_norm before, after;          /* filled by qs_layer_finish */
} qs_layer_part;

/* The linears of one group lie one below the other and are one matrix product. */
typedef struct qs_layer_group {
    int8_t first, count, bias;
    int32_t out, in;
} qs_layer_group;

typedef struct qs_layer {
    qs_layer_part part[QS_PARTS_MAX];
    int32_t parts;
    bool parallel; /* every part reads the layer's input */
    /* Filled by qs_layer_finish: */
    qs_tensor tensor[QS_TENSORS_MAX];
    int32_t tensors;
    qs_layer_group group[QS_GROUPS_MAX]; /* 2 of each part; count 0: none */
} qs_layer;

/* Lists the layer's tensors from its parts. */
void qs_layer_finish(qs_layer *l, qs_norm_kind norm, int32_t hidden);

/* For the parts: add one tensor and return its index. `what` is "weight" or "bias". */
int8_t qs_layer_add_vector(qs_layer *l, const char *module, const char *what, int32_t length);
/* A linear of group `group`, behind those of it that there are. */
int8_t qs_layer_add_linear(qs_layer *l, int group, const char *module, int32_t out, int32_t in, int8_t key);
/* The bias of the last `count` linears, all of one group, as one vector in the blob. */
void qs_layer_add_biases(qs_layer *l, int group);

/* The module of a tensor, without ".weight": into name, returned. Its last part is what target_modules names.
 */
const char *qs_tensor_module(const qs_tensor *t, char name[QS_TENSOR_NAME]);
/* Index of the tensor called so within the layer, or whose module's last part is `name`; -1: none. */
int qs_layer_find(const qs_layer *l, const char *name);

/* Parameters of one such layer. */
int64_t qs_layer_parameters(const qs_layer *l);

#endif
