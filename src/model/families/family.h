/* family.h - what a family file gives: how its config.json is read, and its well-known models.
 *
 * Each families/NAME.c defines `const qs_family qs_family_NAME[]`, ended by an entry without a model_type.
 * The list of all of them is generated from the folder, so a family is one file.
 */
#ifndef QS_MODEL_FAMILIES_FAMILY_H
#define QS_MODEL_FAMILIES_FAMILY_H

#include "src/model/architecture.h"

/* A well-known model: the keys of its published config.json, but for those that all have (shapes.c writes
 * them). */
typedef struct qs_family_shape {
    const char *name;
    int32_t layers;
    const char *keys; /* "\"hidden_size\": 4096, ..." */
} qs_family_shape;

typedef struct qs_family {
    const char *model_type, *class_name;
    const char *label; /* how the list of supported families calls it */
    int (*read)(qs_json j, qs_architecture *a, qs_err *e);
    const qs_family_shape *shapes; /* ended by an entry without a name; NULL: none */
} qs_family;

/* Ended by NULL; each a list ended by an entry without a model_type. */
extern const qs_family *const qs_families[];

/* ---- what most families read alike ------------------------------------------------------------------- */

/* Values of absent keys, as in the family's transformers configuration class. */
typedef struct qs_config_defaults {
    int32_t vocab, hidden, ffn, layers, heads;
    int32_t kv_heads;                     /* 0: as many as heads */
    int32_t head_dim;                     /* 0: hidden / heads */
    int32_t max_positions, bos, eos, pad; /* tokens: -1 for none */
    double eps;
    const char *eps_key;        /* NULL: "rms_norm_eps" */
    const char *activation;     /* NULL: "silu" */
    const char *activation_key; /* NULL: "hidden_act" */
    bool tied;
    bool no_kv_key; /* num_key_value_heads is not a key of this family */
} qs_config_defaults;

/* What config.json says of the parts of every layer. */
typedef struct qs_config_sizes {
    int32_t ffn, heads, kv_heads, head_dim;
    qs_activation activation;
} qs_config_sizes;

/* Fills the fields of `a` that do not depend on the parts (sizes, eps, tokens, tied) and *out. */
int qs_config_read(qs_json j, const qs_config_defaults *d, qs_architecture *a, qs_config_sizes *out,
                   qs_err *e);

/* An attention and a gated MLP with norms before them, called as in Llama; a family changes what differs. */
qs_layer qs_config_layer(const qs_config_sizes *s);
extern const qs_model_names qs_config_names;

/* Makes layer `index` of the model such a layer. */
void qs_config_set_layer(qs_architecture *a, int32_t index, const qs_layer *layer);
void qs_config_set_layers(qs_architecture *a, const qs_layer *layer);

/* layer_types, where it is there: sliding[layer]. Errors for other words and lengths. */
int qs_config_layer_types(qs_json j, const qs_architecture *a, bool *sliding, qs_err *e);
/* Layers of which some have a sliding window: sets all of them from `layer`. `window` 0: none may slide. */
int qs_config_windows(qs_json j, qs_architecture *a, const qs_layer *layer, int32_t window, bool *sliding,
                      qs_err *e);
/* sliding_window of a family that has it in some layers, if use_sliding_window, from max_window_layers on. */
int qs_config_optional_window(qs_json j, qs_architecture *a, const qs_layer *layer, qs_err *e);

#endif
