/* architecture.h - what a model is made of, read from config.json.
 *
 * A model is a list of layers between an embedding and a head. A family (families/NAME.c) says how its
 * config.json becomes that list; nothing else knows it. A config that asks for something that is not here is
 * refused (QS_EUNSUP), naming the key and the value.
 */
#ifndef QS_MODEL_ARCHITECTURE_H
#define QS_MODEL_ARCHITECTURE_H

#include "io/checkpoint_source.h"
#include "src/model/layer.h"
#include "src/model/rotary.h"

enum { QS_LAYERS_MAX = 1024, QS_LAYER_KINDS_MAX = 4, QS_ROTARIES_MAX = 2 };

/* What a family calls its modules outside the layers; their tensors end in .weight (and .bias). */
typedef struct qs_model_names {
    const char *blocks; /* "model.layers": layer N is "model.layers.N" */
    const char *embedding, *final_norm, *head;
    const char *other_head; /* what newer checkpoints may call it; NULL: the same */
} qs_model_names;

typedef struct qs_architecture {
    char family[24];     /* model_type, as config.json has it */
    char class_name[48]; /* architectures[0], e.g. "LlamaForCausalLM" */
    int32_t layers, hidden, vocab;
    int32_t max_positions;
    qs_norm_kind norm;
    float norm_eps;
    double
        embedding_scale; /* embeddings are multiplied by it, rounded to the compute type; 0: they are not */
    float logit_softcap; /* logits become cap * tanh(logit / cap); 0: they stay */
    bool tied;           /* the head is the embedding */
    qs_model_names names;
    qs_rotary rotary[QS_ROTARIES_MAX];
    int32_t rotaries;
    int32_t long_after; /* a micro-batch with a longer document than this turns by rotary[1] instead of [0];
                           0: none does */
    qs_layer kind[QS_LAYER_KINDS_MAX];
    int32_t kinds;
    uint8_t kind_of[QS_LAYERS_MAX];
    int32_t bos, eos[8], eos_count, pad; /* -1: none */
} qs_architecture;

static inline const qs_layer *qs_architecture_layer(const qs_architecture *a, int32_t layer)
{
    return &a->kind[a->kind_of[layer]];
}

/* Reads DIR/config.json. Errors name DIR/config.json and the key. */
int qs_architecture_read(const char *dir, qs_architecture *out, qs_err *e);

/* The same from text that is at hand; `name` is how errors call it. */
int qs_architecture_parse(const char *name, const char *text, size_t bytes, qs_architecture *out, qs_err *e);

/* Parameters of the whole model (tied weights once), as transformers counts them. */
int64_t qs_architecture_parameters(const qs_architecture *a);

/* Width of the widest intermediate of a layer's mlp. */
int32_t qs_architecture_ffn(const qs_architecture *a);

/* Elements of one of the model's norms: its weights and, behind them, its biases. */
static inline int64_t qs_norm_floats(const qs_architecture *a)
{
    return (a->norm == QS_NORM_LAYER ? 2 : 1) * (int64_t)a->hidden;
}

/* Full tensor names: "model.layers.3.self_attn.q_proj.weight" into name[128]. */
void qs_architecture_tensor_name(const qs_architecture *a, int32_t layer, const qs_tensor *t, char name[128]);
/* "model.norm.weight", or ".bias". */
void qs_architecture_final_norm_name(const qs_architecture *a, bool bias, char name[128]);
/* The head's tensor in this source: "lm_head.weight", or the embedding's when tied. */
void qs_architecture_head_name(const qs_architecture *a, const qs_source *source, char name[128]);
void qs_architecture_embedding_name(const qs_architecture *a, const qs_source *source, char name[128]);

/* Whether 1 is added to this tensor when it is loaded: the weight of a norm that multiplies by 1 + weight. */
static inline bool qs_architecture_adds_one(const qs_architecture *a, const qs_tensor *t)
{
    return a->norm == QS_NORM_RMS_PLUS_ONE && t->role == QS_TENSOR_VECTOR && t->group < 0;
}

/* Last part of a module's path: "q_proj" of "self_attn.q_proj". */
const char *qs_module_last(const char *path);

/* Checks that every tensor the architecture needs is in the source with the right shape and a float type, and
 * that nothing the model needs is quantised in a way this program cannot read. The first problem is reported:
 * tensor, expected shape, found shape, file. */
int qs_architecture_check(const qs_architecture *a, const qs_source *s, qs_err *e);

/* Where config.json ties the head to the embedding and the checkpoint has both with different content, the
 * head is its own (transformers 5 does the same): clears a->tied and says so. Reads some of both. QS_EIO. */
int qs_architecture_untie(qs_architecture *a, qs_source *s, qs_err *e);

#endif
