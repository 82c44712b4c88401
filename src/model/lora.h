/* lora.h - the adapters: which linear layers have one, where their numbers lie, and PEFT's files.
 *
 * All adapters are fp32 vectors (masters), one contiguous stretch per block: "pack" l holds layer l and is
 * record l of a pager, in host memory or on disk. Within a pack the order is, for each group of linears that
 * share an input (as a rule q k v | o | gate up | down): the A matrices [r, in] of its targets one below the
 * other, then their B matrices [out, r] one after the other. So a group's A is one [targets * r, in] matrix.
 * Gradients and optimizer states use the same layout. (Hu et al., "LoRA", 2021; rank-stabilised scaling:
 * Kalajdzievski 2023.)
 */
#ifndef QS_MODEL_LORA_H
#define QS_MODEL_LORA_H

#include "offload/pager.h"
#include "src/model/architecture.h"

enum { QS_LORA_R_MAX = 1 << 16 }; /* the largest rank */

/* Names and patterns as a user writes them; borrowed unless said otherwise. */
typedef struct qs_lora_names {
    const char *const *item;
    int count;
} qs_lora_names;

/* PEFT's LoraConfig, as far as it is supported. */
typedef struct qs_lora_config {
    int32_t r;
    double alpha;
    float dropout;
    bool rslora;           /* scaling alpha / sqrt(r) instead of alpha / r */
    qs_lora_names targets; /* module names or suffixes; one entry that is not a plain name is a regex on the
                              full path; "all-linear" */
    qs_lora_names exclude; /* modules that get none, written as the targets are */
    qs_lora_names layers;  /* layers_to_transform: "3" or "8-15"; empty: all */
    qs_lora_names rank_pattern, alpha_pattern; /* "MODULE=NUMBER", MODULE a regex on the end of the path:
                                                  other r and alpha for the linears it matches first */
} qs_lora_config;

/* One linear's adapter inside a pack; offsets in floats. */
typedef struct qs_lora_slot {
    bool active;
    int32_t out, in, r;
    double alpha;
    float scaling;
    int32_t row_in_group; /* first row of its A in the group's stacked A */
    int64_t a_at, b_at;   /* [r, in], [out, r] */
} qs_lora_slot;

/* The adapters of layers that are alike in them. */
typedef struct qs_lora_layer {
    const qs_layer *layer;
    qs_lora_slot slot[QS_TENSORS_MAX]; /* as in the layer's list of tensors */
    int32_t group_rows[QS_GROUPS_MAX]; /* of the stacked A: the sum of r over the group's targets */
    int64_t floats;
} qs_lora_layer;

typedef struct qs_lora {
    const qs_architecture *a;
    qs_lora_config config; /* a copy of its own */
    int32_t layers;
    qs_lora_layer *shape; /* [shapes] */
    int32_t shapes;
    int32_t *shape_of;   /* [layers] */
    int64_t pack_floats; /* of the layer that has most, a multiple of 64 (padding is zero) */
    uint8_t *layer_mask; /* [layers] 1: this layer has adapters */
} qs_lora;

static inline const qs_lora_layer *qs_lora_of_layer(const qs_lora *l, int32_t layer)
{
    return &l->shape[l->shape_of[layer]];
}

/* Matches the targets as PEFT does: one string with regex characters is a full match on
 * "model.layers.N.self_attn.q_proj"; otherwise names match a whole path or a suffix after a dot; "all-linear"
 * (any case) is every linear of the blocks. The head is refused (QS_EUNSUP). A name or pattern that matches
 * nothing is QS_EINVAL and lists the names there are. `a` is borrowed. Freed with qs_lora_free. */
int qs_lora_create(const qs_lora_config *config, const qs_architecture *a, qs_lora *out, qs_err *e);
void qs_lora_free(qs_lora *l);

/* A copy whose strings are its own, and its end. */
qs_lora_config qs_lora_config_copy(const qs_lora_config *c);
void qs_lora_config_free(qs_lora_config *c);

/* Whether a target is a module name (letters, digits, _ and .) and not a pattern. */
bool qs_lora_is_name(const char *target);

/* Trainable parameters. */
int64_t qs_lora_parameters(const qs_lora *l);
/* PEFT's initial values of every pack: A uniform in +-1/sqrt(in) (kaiming_uniform with a = sqrt 5) from the
 * counter-based generator keyed by seed, layer and linear; B zero. */
void qs_lora_init(const qs_lora *l, uint64_t seed, qs_pager *masters);

/* Reads adapter_config.json and adapter_model.safetensors of a PEFT adapter directory into the masters, all
 * of whose packs are written. Its r, alpha, rsLoRA and targets must be those of l (QS_EINVAL says which
 * differs and how to set the option). Tensors missing or misshapen: QS_EFORMAT naming the key. F32, BF16 or
 * F16. */
int qs_peft_load(const char *dir, const qs_lora *l, const qs_architecture *a, qs_pager *masters, qs_err *e);

/* Fills config from a PEFT adapter's adapter_config.json (so --init-adapter can supply r, alpha, targets). A
 * config without target_modules has q_proj and v_proj, PEFT's choice for these families. QS_EUNSUP for
 * features that change what A and B mean (DoRA, modules_to_save, PiSSA, ...). The strings belong to *out;
 * free with qs_peft_config_free. */
typedef struct qs_peft_config {
    qs_lora_config lora;
    char *base_model; /* or NULL */
} qs_peft_config;
int qs_peft_read_config(const char *dir, qs_peft_config *out, qs_err *e);
void qs_peft_config_free(qs_peft_config *c);

/* Writes adapter_model.safetensors (fp32, keys base_model.model.model.layers.N....lora_A.weight, or as the
 * family's modules are called) and adapter_config.json (sorted keys, indent 2, only fields that PEFT knows
 * since 0.9) into dir (created). Each file is replaced atomically. base_model is the directory or name of the
 * base, or NULL. */
int qs_peft_save(const char *dir, const qs_lora *l, const char *base_model, qs_pager *masters, qs_err *e);

#endif
