/* config.c - what most families read alike from config.json, and how layers are put together. */
#include <stdio.h>
#include <string.h>

#include "src/base/log.h"
#include "src/model/families/family.h"
#include "src/model/parts/part.h"

enum {
    /* Far above any model there is; products of three of them fit 64 bits. */
    WIDTH_MAX = 1 << 20,
    VOCAB_MAX = 1 << 24,
    POSITIONS_MAX = 1 << 30
};

/* Parts that change the forward pass or the weights and that are not here. */
static int refuse_unsupported(qs_json j, qs_err *e)
{
    qs_json quantised;
    QS_TRY(qs_json_object(j, "quantization_config", "quantization_config.", &quantised, e));
    if (quantised.object) {
        const char *method = "an unnamed method";
        bool four = false;
        QS_TRY(qs_json_string(quantised, "quant_method", &method, e));
        QS_TRY(qs_json_bool(quantised, "load_in_4bit", &four, e));
        if (!four || strcmp(method, "bitsandbytes") != 0)
            QS_FAIL(
                e, QS_EUNSUP,
                "%s: the model is already quantised (quantization_config: %.40s); give the 16-bit model it "
                "was made from, it is "
                "quantised on first use",
                j.file, method);
    }
    QS_TRY(qs_json_object(j, "quantization", "quantization.", &quantised, e));
    if (quantised.object)
        QS_FAIL(e, QS_EUNSUP,
                "%s: the model is already quantised (\"quantization\", as MLX writes it); give the 16-bit "
                "model it was made from",
                j.file);
    static const char *const experts[] = {"num_local_experts", "num_experts", "n_routed_experts"};
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++) {
        int64_t n = 0;
        QS_TRY(qs_json_int(j, experts[i], 0, INT32_MAX, &n, e));
        if (n > 0)
            return qs_json_unexpected(j, experts[i], QS_EUNSUP, "none: mixtures of experts are not supported",
                                      e);
    }
    static const char *const dropouts[] = {"attention_dropout", "hidden_dropout"};
    for (size_t i = 0; i < sizeof dropouts / sizeof *dropouts; i++) {
        double p = 0;
        QS_TRY(qs_json_number(j, dropouts[i], 0, 1, &p, e));
        if (p > 0) qs_warn("%s: %s %g is not applied in training", j.file, dropouts[i], p);
    }
    return 0;
}

static int read_activation(qs_json j, const qs_config_defaults *d, qs_activation *out, qs_err *e)
{
    static const struct {
        const char *name;
        qs_activation act;
    } known[] = {
        {"silu", QS_ACT_SILU},
        {"swish", QS_ACT_SILU},
        {"gelu", QS_ACT_GELU_ERF},
        {"gelu_python", QS_ACT_GELU_ERF},
        {"gelu_new", QS_ACT_GELU_TANH},
        {"gelu_fast", QS_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", QS_ACT_GELU_TANH},
        {"gelu_python_tanh", QS_ACT_GELU_TANH},
        {"gelu_accurate", QS_ACT_GELU_TANH},
    };
    const char *name = d->activation ? d->activation : "silu";
    const char *key = d->activation_key ? d->activation_key : "hidden_act";
    QS_TRY(qs_json_string(j, key, &name, e));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].act;
            return 0;
        }
    }
    return qs_json_unexpected(j, key, QS_EUNSUP,
                              "silu, gelu or gelu_pytorch_tanh: other activations are not supported", e);
}

static int read_sizes(qs_json j, const qs_config_defaults *d, qs_architecture *a, qs_config_sizes *s,
                      qs_err *e)
{
    a->vocab = d->vocab;
    a->hidden = d->hidden;
    s->ffn = d->ffn;
    a->layers = d->layers;
    s->heads = d->heads;
    a->max_positions = d->max_positions;
    QS_TRY(qs_json_int32(j, "vocab_size", 1, VOCAB_MAX, &a->vocab, e));
    QS_TRY(qs_json_int32(j, "hidden_size", 1, WIDTH_MAX, &a->hidden, e));
    QS_TRY(qs_json_int32(j, "intermediate_size", 1, WIDTH_MAX, &s->ffn, e));
    QS_TRY(qs_json_int32(j, "num_hidden_layers", 1, QS_LAYERS_MAX, &a->layers, e));
    QS_TRY(qs_json_int32(j, "num_attention_heads", 1, WIDTH_MAX, &s->heads, e));
    QS_TRY(qs_json_int32(j, "max_position_embeddings", 1, POSITIONS_MAX, &a->max_positions, e));

    /* Null is "as many as heads" everywhere; an absent key is the family's number. */
    bool absent = !json_object_get(j.object, "num_key_value_heads");
    s->kv_heads = absent && d->kv_heads ? d->kv_heads : s->heads;
    if (!d->no_kv_key) QS_TRY(qs_json_int32(j, "num_key_value_heads", 1, WIDTH_MAX, &s->kv_heads, e));
    if (s->heads % s->kv_heads)
        QS_FAIL(e, QS_EFORMAT,
                "%s: num_attention_heads is %d and num_key_value_heads %d; expected a multiple", j.file,
                s->heads, s->kv_heads);

    bool explicit_dim = qs_json_get(j, "head_dim") || d->head_dim;
    s->head_dim = d->head_dim ? d->head_dim : a->hidden / s->heads;
    QS_TRY(qs_json_int32(j, "head_dim", 1, WIDTH_MAX, &s->head_dim, e));
    if (!explicit_dim && a->hidden % s->heads)
        QS_FAIL(e, QS_EFORMAT,
                "%s: hidden_size is %d, not a multiple of num_attention_heads, %d, and there is no head_dim",
                j.file, a->hidden, s->heads);
    if (s->head_dim % 2)
        QS_FAIL(e, QS_EUNSUP,
                "%s: head_dim is %d; expected an even number, for halves of a head rotate against each other",
                j.file, s->head_dim);
    if ((int64_t)s->heads * s->head_dim > WIDTH_MAX)
        QS_FAIL(e, QS_EFORMAT, "%s: num_attention_heads * head_dim is %lld; expected at most %d", j.file,
                (long long)s->heads * s->head_dim, WIDTH_MAX);

    double eps = d->eps;
    QS_TRY(qs_json_number(j, d->eps_key ? d->eps_key : "rms_norm_eps", 0, 1, &eps, e));
    a->norm_eps = (float)eps;
    return 0;
}

/* A special token: negative (some old files) and null mean none. */
static int read_token(qs_json j, const char *key, int32_t fallback, const qs_architecture *a, int32_t *out,
                      qs_err *e)
{
    *out = json_object_get(j.object, key) ? -1 : fallback;
    QS_TRY(qs_json_int32(j, key, INT32_MIN, VOCAB_MAX, out, e));
    if (*out < 0 || *out >= a->vocab) *out = -1; /* one past the end is a common way to say "pad: none" */
    return 0;
}

static int read_tokens(qs_json j, const qs_config_defaults *d, qs_architecture *a, qs_err *e)
{
    QS_TRY(read_token(j, "bos_token_id", d->bos, a, &a->bos, e));
    QS_TRY(read_token(j, "pad_token_id", d->pad, a, &a->pad, e));
    for (size_t i = 0; i < sizeof a->eos / sizeof *a->eos; i++) a->eos[i] = -1;
    const json_t *eos = qs_json_get(j, "eos_token_id");
    if (!json_is_array(eos)) {
        QS_TRY(read_token(j, "eos_token_id", d->eos, a, &a->eos[0], e));
        a->eos_count = a->eos[0] >= 0;
        return 0;
    }
    if (json_array_size(eos) > sizeof a->eos / sizeof *a->eos)
        QS_FAIL(e, QS_EUNSUP, "%s: eos_token_id has %zu tokens; expected at most %zu", j.file,
                json_array_size(eos), sizeof a->eos / sizeof *a->eos);
    for (size_t i = 0; i < json_array_size(eos); i++) {
        const json_t *v = json_array_get(eos, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= a->vocab)
            return qs_json_unexpected(j, "eos_token_id", QS_EFORMAT, "token numbers below vocab_size", e);
        a->eos[a->eos_count++] = (int32_t)json_integer_value(v);
    }
    return 0;
}

int qs_config_read(qs_json j, const qs_config_defaults *d, qs_architecture *a, qs_config_sizes *out,
                   qs_err *e)
{
    QS_TRY(refuse_unsupported(j, e));
    QS_TRY(read_sizes(j, d, a, out, e));
    QS_TRY(read_activation(j, d, &out->activation, e));
    a->tied = d->tied;
    QS_TRY(qs_json_bool(j, "tie_word_embeddings", &a->tied, e));
    a->names = qs_config_names;
    return read_tokens(j, d, a, e);
}

/* ---- layers ------------------------------------------------------------------------------------------ */

const qs_model_names qs_config_names = {.blocks = "model.layers",
                                        .embedding = "model.embed_tokens",
                                        .final_norm = "model.norm",
                                        .head = "lm_head"};

qs_layer qs_config_layer(const qs_config_sizes *s)
{
    /* head_dim^-0.5, rounded once from double as Python does */
    double scale = 1.0 / __builtin_sqrt((double)s->head_dim);
    qs_layer_part attention = {.table = &qs_part_attention,
                               .norm_before = "input_layernorm",
                               .attention = {.heads = s->heads,
                                             .kv_heads = s->kv_heads,
                                             .head_dim = s->head_dim,
                                             .scale = (float)scale,
                                             .q = "self_attn.q_proj",
                                             .k = "self_attn.k_proj",
                                             .v = "self_attn.v_proj",
                                             .o = "self_attn.o_proj",
                                             .q_norm = "self_attn.q_norm",
                                             .k_norm = "self_attn.k_norm"}};
    qs_layer_part mlp = {.table = &qs_part_mlp,
                         .norm_before = "post_attention_layernorm",
                         .mlp = {.ffn = s->ffn,
                                 .activation = s->activation,
                                 .gate = "mlp.gate_proj",
                                 .up = "mlp.up_proj",
                                 .down = "mlp.down_proj"}};
    return (qs_layer){.parts = 2, .part = {attention, mlp}};
}

/* Both before qs_layer_finish; padding is zero, for layers are made by assignment of zeroed ones. */
static bool same_attention(const qs_attention_config *x, const qs_attention_config *y)
{
    return x->window == y->window && x->rotary == y->rotary && x->scaled_q == y->scaled_q &&
           x->head_dim == y->head_dim && x->heads == y->heads && x->kv_heads == y->kv_heads &&
           x->scale == y->scale;
}

/* Of one family, whose layers differ in their attention only. */
static bool same_layer(const qs_layer *x, const qs_layer *y)
{
    for (int p = 0; p < x->parts; p++) {
        if (x->part[p].table != y->part[p].table) return false;
        if (x->part[p].table == &qs_part_attention &&
            !same_attention(&x->part[p].attention, &y->part[p].attention))
            return false;
    }
    return x->parts == y->parts;
}

void qs_config_set_layer(qs_architecture *a, int32_t index, const qs_layer *layer)
{
    int kind = 0;
    while (kind < a->kinds && !same_layer(&a->kind[kind], layer)) kind++;
    if (kind == a->kinds) {
        QS_ASSERT(kind < QS_LAYER_KINDS_MAX);
        a->kind[kind] = *layer;
        qs_layer_finish(&a->kind[kind], a->norm, a->hidden);
        a->kinds++;
    }
    a->kind_of[index] = (uint8_t)kind;
}

void qs_config_set_layers(qs_architecture *a, const qs_layer *layer)
{
    for (int32_t i = 0; i < a->layers; i++) qs_config_set_layer(a, i, layer);
}

int qs_config_layer_types(qs_json j, const qs_architecture *a, bool *sliding, qs_err *e)
{
    const json_t *types = qs_json_get(j, "layer_types");
    if (!types) return 0;
    if (!json_is_array(types) || json_array_size(types) != (size_t)a->layers)
        QS_FAIL(e, QS_EFORMAT, "%s: layer_types must be a list of num_hidden_layers, %d, names", j.file,
                a->layers);
    for (int32_t l = 0; l < a->layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        sliding[l] = type && strcmp(type, "sliding_attention") == 0;
        if (!sliding[l] && (!type || strcmp(type, "full_attention") != 0))
            QS_FAIL(e, QS_EUNSUP,
                    "%s: layer_types[%d] is %.40s; expected full_attention or sliding_attention", j.file, l,
                    type ? type : "not a string");
    }
    return 0;
}

int qs_config_windows(qs_json j, qs_architecture *a, const qs_layer *layer, int32_t window, bool *sliding,
                      qs_err *e)
{
    QS_TRY(qs_config_layer_types(j, a, sliding, e));
    for (int32_t l = 0; l < a->layers; l++) {
        if (sliding[l] && !window)
            QS_FAIL(e, QS_EFORMAT,
                    "%s: layer_types has sliding_attention in layer %d but there is no sliding_window in use",
                    j.file, l);
        qs_layer own = *layer;
        own.part[0].attention.window = sliding[l] ? window : 0;
        if (sliding[l]) own.part[0].attention.rotary = layer->part[0].attention.rotary_of_window;
        qs_config_set_layer(a, l, &own);
    }
    return 0;
}

int qs_config_optional_window(qs_json j, qs_architecture *a, const qs_layer *layer, qs_err *e)
{
    bool used = false, sliding[QS_LAYERS_MAX] = {false};
    int32_t window = 0, from = 28;
    QS_TRY(qs_json_bool(j, "use_sliding_window", &used, e));
    QS_TRY(qs_json_int32(j, "max_window_layers", 0, QS_LAYERS_MAX, &from, e));
    if (used && !json_is_null(json_object_get(j.object, "sliding_window"))) {
        window = 4096;
        QS_TRY(qs_json_int32(j, "sliding_window", 1, POSITIONS_MAX, &window, e));
    }
    for (int32_t l = from; l < a->layers; l++) sliding[l] = window > 0;
    return qs_config_windows(j, a, layer, window, sliding, e);
}
