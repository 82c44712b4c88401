/* architecture.c - config.json into a qs_architecture, and the sizes that follow from it.
 *
 * Each family is a row of defaults (those of its transformers configuration class) and a few lines of rules. Whatever would
 * change the forward pass and is not supported is refused here, before anything is read or allocated.
 */
#include "src/model/architecture.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/model/rope_config.h"

enum {
    CONFIG_MAX_BYTES = 16 << 20,
    /* Far above any model there is; products of three of them fit 64 bits. */
    WIDTH_MAX = 1 << 20,
    LAYERS_MAX = 1 << 14,
    VOCAB_MAX = 1 << 24,
    POSITIONS_MAX = 1 << 30
};

typedef struct qs_family {
    const char *name, *class_name;
    int32_t vocab, hidden, ffn, layers, heads;
    int32_t kv_heads; /* 0: as many as heads */
    int32_t head_dim; /* 0: hidden / heads */
    int32_t max_positions, bos, eos;
    bool qkv_bias;        /* always there, whatever the config says */
    bool attention_bias;  /* the key of that name is known */
    bool mlp_bias;        /* the same */
    bool qk_norm;
    bool window;          /* sliding_window counts unless null */
    bool optional_window; /* sliding_window counts if use_sliding_window, from layer max_window_layers on */
    bool neox;            /* LayerNorm, biases, no gate, fused q k v, use_parallel_residual */
} qs_family;

static const qs_family families[] = {
    {.name = "llama", .class_name = "LlamaForCausalLM", .vocab = 32000, .hidden = 4096, .ffn = 11008, .layers = 32, .heads = 32,
     .max_positions = 2048, .bos = 1, .eos = 2, .attention_bias = true, .mlp_bias = true},
    {.name = "mistral", .class_name = "MistralForCausalLM", .vocab = 32000, .hidden = 4096, .ffn = 14336, .layers = 32,
     .heads = 32, .kv_heads = 8, .max_positions = 131072, .bos = 1, .eos = 2, .window = true},
    {.name = "qwen2", .class_name = "Qwen2ForCausalLM", .vocab = 151936, .hidden = 4096, .ffn = 22016, .layers = 32, .heads = 32,
     .kv_heads = 32, .max_positions = 32768, .bos = -1, .eos = -1, .qkv_bias = true, .optional_window = true},
    {.name = "qwen3", .class_name = "Qwen3ForCausalLM", .vocab = 151936, .hidden = 4096, .ffn = 22016, .layers = 32, .heads = 32,
     .kv_heads = 32, .head_dim = 128, .max_positions = 32768, .bos = -1, .eos = -1, .attention_bias = true, .qk_norm = true,
     .optional_window = true},
    {.name = "gpt_neox", .class_name = "GPTNeoXForCausalLM", .vocab = 50432, .hidden = 6144, .ffn = 24576, .layers = 44, .heads = 64,
     .max_positions = 2048, .bos = 0, .eos = 2, .attention_bias = true, .neox = true},
};

static int read_family(qs_json j, const qs_family **out, qs_err *e)
{
    const char *type = NULL;
    QS_TRY(qs_json_string(j, "model_type", &type, e));
    const qs_family *f = NULL;
    for (size_t i = 0; type && i < sizeof families / sizeof *families; i++)
        if (strcmp(type, families[i].name) == 0) f = &families[i];
    if (!f)
        return qs_json_unexpected(j, "model_type", type ? QS_EUNSUP : QS_EFORMAT,
                                  "one of the supported families: llama (1, 2, 3.x), mistral, qwen2 (and 2.5), qwen3, gpt_neox", e);

    const json_t *classes = qs_json_get(j, "architectures");
    if (classes) {
        const json_t *first = json_array_get(classes, 0);
        if (!json_is_array(classes) || (json_array_size(classes) && !json_is_string(first)))
            return qs_json_unexpected(j, "architectures", QS_EFORMAT, "a list of class names", e);
        /* The first Llama conversions were called LLaMAForCausalLM. */
        if (first && strcasecmp(json_string_value(first), f->class_name) != 0) {
            char expected[96];
            snprintf(expected, sizeof expected, "%s: only causal language models are supported", f->class_name);
            return qs_json_unexpected(j, "architectures", QS_EUNSUP, expected, e);
        }
    }
    *out = f;
    return 0;
}

/* Parts that change the forward pass or the weights and that are not here. */
static int refuse_unsupported(qs_json j, qs_err *e)
{
    qs_json quantised;
    QS_TRY(qs_json_object(j, "quantization_config", "quantization_config.", &quantised, e));
    if (quantised.object) {
        const char *method = "an unnamed method";
        QS_TRY(qs_json_string(quantised, "quant_method", &method, e));
        QS_FAIL(e, QS_EUNSUP,
                "%s: the model is already quantised (quantization_config: %.40s); give the 16-bit model it was made from, it is "
                "quantised on first use",
                j.file, method);
    }
    static const char *const experts[] = {"num_local_experts", "num_experts", "n_routed_experts"};
    for (size_t i = 0; i < sizeof experts / sizeof *experts; i++) {
        int64_t n = 0;
        QS_TRY(qs_json_int(j, experts[i], 0, INT32_MAX, &n, e));
        if (n > 0) return qs_json_unexpected(j, experts[i], QS_EUNSUP, "none: mixtures of experts are not supported", e);
    }
    static const char *const dropouts[] = {"attention_dropout", "hidden_dropout"};
    for (size_t i = 0; i < sizeof dropouts / sizeof *dropouts; i++) {
        double p = 0;
        QS_TRY(qs_json_number(j, dropouts[i], 0, 1, &p, e));
        if (p > 0) qs_warn("%s: %s %g is not applied in training", j.file, dropouts[i], p);
    }
    return 0;
}

static int read_activation(qs_json j, const qs_family *f, qs_activation *out, qs_err *e)
{
    static const struct { const char *name; qs_activation act; } known[] = {
        {"silu", QS_ACT_SILU}, {"swish", QS_ACT_SILU}, {"gelu", QS_ACT_GELU_ERF}, {"gelu_python", QS_ACT_GELU_ERF},
        {"gelu_new", QS_ACT_GELU_TANH}, {"gelu_fast", QS_ACT_GELU_TANH}, {"gelu_pytorch_tanh", QS_ACT_GELU_TANH},
        {"gelu_python_tanh", QS_ACT_GELU_TANH}, {"gelu_accurate", QS_ACT_GELU_TANH},
    };
    const char *name = f->neox ? "gelu" : "silu";
    QS_TRY(qs_json_string(j, "hidden_act", &name, e));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *out = known[i].act;
            return 0;
        }
    }
    return qs_json_unexpected(j, "hidden_act", QS_EUNSUP, "silu, gelu or gelu_pytorch_tanh: other activations are not supported", e);
}

static int read_sizes(qs_json j, const qs_family *f, qs_architecture *a, qs_err *e)
{
    a->vocab = f->vocab;
    a->hidden = f->hidden;
    a->ffn = f->ffn;
    a->layers = f->layers;
    a->heads = f->heads;
    a->max_positions = f->max_positions;
    QS_TRY(qs_json_int32(j, "vocab_size", 1, VOCAB_MAX, &a->vocab, e));
    QS_TRY(qs_json_int32(j, "hidden_size", 1, WIDTH_MAX, &a->hidden, e));
    QS_TRY(qs_json_int32(j, "intermediate_size", 1, WIDTH_MAX, &a->ffn, e));
    QS_TRY(qs_json_int32(j, "num_hidden_layers", 1, LAYERS_MAX, &a->layers, e));
    QS_TRY(qs_json_int32(j, "num_attention_heads", 1, WIDTH_MAX, &a->heads, e));
    QS_TRY(qs_json_int32(j, "max_position_embeddings", 1, POSITIONS_MAX, &a->max_positions, e));

    /* Null is "as many as heads" everywhere; an absent key is the family's number. */
    bool absent = !json_object_get(j.object, "num_key_value_heads");
    a->kv_heads = absent && f->kv_heads ? f->kv_heads : a->heads;
    if (!f->neox) QS_TRY(qs_json_int32(j, "num_key_value_heads", 1, WIDTH_MAX, &a->kv_heads, e));
    if (a->heads % a->kv_heads)
        QS_FAIL(e, QS_EFORMAT, "%s: num_attention_heads is %d and num_key_value_heads %d; expected a multiple", j.file, a->heads,
                a->kv_heads);

    bool explicit_dim = qs_json_get(j, "head_dim") || f->head_dim;
    a->head_dim = f->head_dim ? f->head_dim : a->hidden / a->heads;
    QS_TRY(qs_json_int32(j, "head_dim", 1, WIDTH_MAX, &a->head_dim, e));
    if (!explicit_dim && a->hidden % a->heads)
        QS_FAIL(e, QS_EFORMAT, "%s: hidden_size is %d, not a multiple of num_attention_heads, %d, and there is no head_dim", j.file,
                a->hidden, a->heads);
    if (a->head_dim % 2)
        QS_FAIL(e, QS_EUNSUP, "%s: head_dim is %d; expected an even number, for halves of a head rotate against each other", j.file,
                a->head_dim);
    if ((int64_t)a->heads * a->head_dim > WIDTH_MAX)
        QS_FAIL(e, QS_EFORMAT, "%s: num_attention_heads * head_dim is %lld; expected at most %d", j.file,
                (long long)a->heads * a->head_dim, WIDTH_MAX);

    if (f->neox && a->heads * a->head_dim != a->hidden)
        QS_FAIL(e, QS_EUNSUP, "%s: num_attention_heads * head_dim is %d; expected hidden_size, %d, in this family", j.file, a->heads * a->head_dim,
                a->hidden);

    double eps = f->neox ? 1e-5 : 1e-6;
    QS_TRY(qs_json_number(j, f->neox ? "layer_norm_eps" : "rms_norm_eps", 0, 1, &eps, e));
    a->norm_eps = (float)eps;
    return 0;
}

/* layer_types may say the same as the keys of the window; a pattern that "all from one layer on" cannot say is refused. */
static int read_layer_types(qs_json j, qs_architecture *a, qs_err *e)
{
    const json_t *types = qs_json_get(j, "layer_types");
    if (!types) return 0;
    if (!json_is_array(types) || json_array_size(types) != (size_t)a->layers)
        QS_FAIL(e, QS_EFORMAT, "%s: layer_types must be a list of num_hidden_layers, %d, names", j.file, a->layers);
    int32_t from = a->layers;
    for (int32_t l = 0; l < a->layers; l++) {
        const char *type = json_string_value(json_array_get(types, (size_t)l));
        bool sliding = type && strcmp(type, "sliding_attention") == 0;
        if (!sliding && (!type || strcmp(type, "full_attention") != 0))
            QS_FAIL(e, QS_EUNSUP, "%s: layer_types[%d] is %.40s; expected full_attention or sliding_attention", j.file, l,
                    type ? type : "not a string");
        if (sliding && from == a->layers) from = l;
        if (!sliding && from < a->layers)
            QS_FAIL(e, QS_EUNSUP, "%s: layer_types has full_attention in layer %d after sliding_attention in layer %d; such patterns are not supported",
                    j.file, l, from);
    }
    if (from < a->layers && a->window == 0)
        QS_FAIL(e, QS_EFORMAT, "%s: layer_types has sliding_attention in layer %d but there is no sliding_window in use", j.file, from);
    a->window_from_layer = from;
    return 0;
}

static int read_window(qs_json j, const qs_family *f, qs_architecture *a, qs_err *e)
{
    a->window = a->window_from_layer = 0;
    if (!f->window && !f->optional_window) return 0;
    bool used = f->window;
    if (f->optional_window) QS_TRY(qs_json_bool(j, "use_sliding_window", &used, e));
    /* Absent is 4096, but an explicit null is no window: later Mistral releases carry it. */
    if (used && !json_is_null(json_object_get(j.object, "sliding_window"))) {
        a->window = 4096;
        QS_TRY(qs_json_int32(j, "sliding_window", 1, POSITIONS_MAX, &a->window, e));
        if (f->optional_window) {
            a->window_from_layer = 28;
            QS_TRY(qs_json_int32(j, "max_window_layers", 0, LAYERS_MAX, &a->window_from_layer, e));
        }
    }
    QS_TRY(read_layer_types(j, a, e));
    if (a->window_from_layer >= a->layers) a->window = a->window_from_layer = 0;
    return 0;
}

/* A special token: negative (some old files) and null mean none. */
static int read_token(qs_json j, const char *key, int32_t fallback, const qs_architecture *a, int32_t *out, qs_err *e)
{
    *out = json_object_get(j.object, key) ? -1 : fallback;
    QS_TRY(qs_json_int32(j, key, INT32_MIN, VOCAB_MAX, out, e));
    if (*out < 0 || *out >= a->vocab) *out = -1; /* one past the end is a common way to say "pad: none" */
    return 0;
}

static int read_tokens(qs_json j, const qs_family *f, qs_architecture *a, qs_err *e)
{
    QS_TRY(read_token(j, "bos_token_id", f->bos, a, &a->bos, e));
    QS_TRY(read_token(j, "pad_token_id", -1, a, &a->pad, e));
    for (size_t i = 0; i < sizeof a->eos / sizeof *a->eos; i++) a->eos[i] = -1;
    const json_t *eos = qs_json_get(j, "eos_token_id");
    if (!json_is_array(eos)) {
        QS_TRY(read_token(j, "eos_token_id", f->eos, a, &a->eos[0], e));
        a->eos_count = a->eos[0] >= 0;
        return 0;
    }
    if (json_array_size(eos) > sizeof a->eos / sizeof *a->eos)
        QS_FAIL(e, QS_EUNSUP, "%s: eos_token_id has %zu tokens; expected at most %zu", j.file, json_array_size(eos),
                sizeof a->eos / sizeof *a->eos);
    for (size_t i = 0; i < json_array_size(eos); i++) {
        const json_t *v = json_array_get(eos, i);
        if (!json_is_integer(v) || json_integer_value(v) < 0 || json_integer_value(v) >= a->vocab)
            return qs_json_unexpected(j, "eos_token_id", QS_EFORMAT, "token numbers below vocab_size", e);
        a->eos[a->eos_count++] = (int32_t)json_integer_value(v);
    }
    return 0;
}

static int read_neox(qs_json j, qs_architecture *a, qs_err *e)
{
    a->naming = QS_NAMING_NEOX;
    a->norm = QS_NORM_LAYER;
    a->plain_mlp = a->fused_qkv = a->mlp_bias = a->parallel_residual = true;
    return qs_json_bool(j, "use_parallel_residual", &a->parallel_residual, e);
}

static int read_config(qs_json j, qs_architecture *a, qs_err *e)
{
    const qs_family *f = NULL;
    QS_TRY(read_family(j, &f, e));
    snprintf(a->family, sizeof a->family, "%s", f->name);
    snprintf(a->class_name, sizeof a->class_name, "%s", f->class_name);
    QS_TRY(refuse_unsupported(j, e));
    QS_TRY(read_sizes(j, f, a, e));
    QS_TRY(read_activation(j, f, &a->activation, e));
    QS_TRY(qs_json_bool(j, "tie_word_embeddings", &a->tied, e));
    bool attention_bias = f->neox;
    if (f->attention_bias) QS_TRY(qs_json_bool(j, "attention_bias", &attention_bias, e));
    if (f->mlp_bias) QS_TRY(qs_json_bool(j, "mlp_bias", &a->mlp_bias, e));
    a->qkv_bias = f->qkv_bias || attention_bias;
    a->o_bias = attention_bias;
    a->qk_norm = f->qk_norm;
    if (f->neox) QS_TRY(read_neox(j, a, e));
    QS_TRY(read_window(j, f, a, e));
    QS_TRY(qs_rope_config_read(j, a, e));
    return read_tokens(j, f, a, e);
}

int qs_architecture_parse(const char *name, const char *text, size_t bytes, qs_architecture *out, qs_err *e)
{
    memset(out, 0, sizeof *out);
    json_t *root = NULL;
    int rc = qs_json_parse(text, bytes, name, &root, e);
    if (!rc) rc = read_config((qs_json){root, name, ""}, out, e);
    json_decref(root);
    return rc;
}

int qs_architecture_read(const char *dir, qs_architecture *out, qs_err *e)
{
    memset(out, 0, sizeof *out);
    char *path = qs_path_join(dir, "config.json"), *text = NULL;
    size_t bytes;
    int rc = qs_file_read(path, CONFIG_MAX_BYTES, &text, &bytes, e);
    if (!rc) rc = qs_architecture_parse(path, text, bytes, out, e);
    qs_free(text);
    qs_free(path);
    return rc;
}

bool qs_linear_present(const qs_architecture *a, qs_linear l)
{
    return !((a->fused_qkv && (l == QS_LINEAR_K || l == QS_LINEAR_V)) || (a->plain_mlp && l == QS_LINEAR_GATE));
}

int32_t qs_linear_out(const qs_architecture *a, qs_linear l)
{
    if (!qs_linear_present(a, l)) return 0;
    switch (l) {
    case QS_LINEAR_Q: return (a->fused_qkv ? 3 : 1) * a->heads * a->head_dim;
    case QS_LINEAR_K:
    case QS_LINEAR_V: return a->kv_heads * a->head_dim;
    case QS_LINEAR_GATE:
    case QS_LINEAR_UP: return a->ffn;
    default: return a->hidden;
    }
}

int32_t qs_linear_in(const qs_architecture *a, qs_linear l)
{
    return l == QS_LINEAR_O ? a->heads * a->head_dim : l == QS_LINEAR_DOWN ? a->ffn : a->hidden;
}

bool qs_linear_bias(const qs_architecture *a, qs_linear l)
{
    if (!qs_linear_present(a, l)) return false;
    return l <= QS_LINEAR_V ? a->qkv_bias : l == QS_LINEAR_O ? a->o_bias : a->mlp_bias;
}

int64_t qs_architecture_parameters(const qs_architecture *a)
{
    int64_t norm = (a->norm == QS_NORM_LAYER ? 2 : 1) * (int64_t)a->hidden, layer = 2 * norm + (a->qk_norm ? 2 * (int64_t)a->head_dim : 0);
    for (int l = 0; l < QS_LINEAR_COUNT; l++) {
        int64_t out = qs_linear_out(a, l);
        layer += out * qs_linear_in(a, l) + (qs_linear_bias(a, l) ? out : 0);
    }
    int64_t embedding = (int64_t)a->vocab * a->hidden;
    return (a->tied ? 1 : 2) * embedding + a->layers * layer + norm;
}
