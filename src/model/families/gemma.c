/* gemma.c - Gemma 1, 2 and 3 (text): embeddings scaled by the square root of hidden, norms that multiply by 1
 * + weight, a tanh GELU gate, a tied head. Gemma 2 has norms before and after each part, every other layer a
 * window, and soft caps of scores and logits; Gemma 3 norms q and k instead, and has five windows with a
 * rotary base of their own before each full layer. */
#include "src/model/families/family.h"

static const qs_config_defaults defaults_of_2 = {.vocab = 256000,
                                                 .hidden = 2304,
                                                 .ffn = 9216,
                                                 .layers = 26,
                                                 .heads = 8,
                                                 .kv_heads = 4,
                                                 .head_dim = 256,
                                                 .max_positions = 8192,
                                                 .bos = 2,
                                                 .eos = 1,
                                                 .pad = 0,
                                                 .eps = 1e-6,
                                                 .activation = "gelu_pytorch_tanh",
                                                 .activation_key = "hidden_activation",
                                                 .tied = true};

/* What all have; the layer is Llama's but for that. */
static int read_common(qs_json j, const qs_config_defaults *d, qs_architecture *a, qs_config_sizes *s,
                       qs_layer *layer, qs_err *e)
{
    bool bias = false, both_ways = false;
    QS_TRY(qs_config_read(j, d, a, s, e));
    a->norm = QS_NORM_RMS_PLUS_ONE;
    a->embedding_scale = __builtin_sqrt((double)a->hidden);
    *layer = qs_config_layer(s);
    QS_TRY(qs_json_bool(j, "attention_bias", &bias, e));
    layer->part[0].attention.qkv_bias = layer->part[0].attention.o_bias = bias;
    QS_TRY(qs_json_bool(j, "use_bidirectional_attention", &both_ways, e));
    if (both_ways)
        return qs_json_unexpected(j, "use_bidirectional_attention", QS_EUNSUP,
                                  "false: only causal attention is supported", e);
    return 0;
}

static int read_1(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 256000,
                                                .hidden = 3072,
                                                .ffn = 24576,
                                                .layers = 28,
                                                .heads = 16,
                                                .kv_heads = 16,
                                                .head_dim = 256,
                                                .max_positions = 8192,
                                                .bos = 2,
                                                .eos = 1,
                                                .pad = 0,
                                                .eps = 1e-6,
                                                .activation = "gelu_pytorch_tanh",
                                                .tied = true};
    qs_config_sizes s;
    qs_layer layer;
    QS_TRY(read_common(j, &defaults, a, &s, &layer, e));
    /* The first releases say gelu and mean its approximation, which is what transformers computes for them.
     */
    if (s.activation == QS_ACT_GELU_ERF) layer.part[1].mlp.activation = QS_ACT_GELU_TANH;
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){0}, s.head_dim, a->max_positions, &a->rotary[0], e));
    qs_config_set_layers(a, &layer);
    return 0;
}

/* Norms after the parts too, the scores' scale and the soft caps. */
static int read_since_2(qs_json j, qs_architecture *a, qs_layer *layer, double score_cap, double logit_cap,
                        qs_err *e)
{
    double scalar = 256;
    layer->part[0].norm_after = "post_attention_layernorm";
    layer->part[1].norm_before = "pre_feedforward_layernorm";
    layer->part[1].norm_after = "post_feedforward_layernorm";
    QS_TRY(qs_json_number(j, "query_pre_attn_scalar", 1e-6, 1e9, &scalar, e));
    layer->part[0].attention.scale = (float)(1.0 / __builtin_sqrt(scalar));
    if (json_is_null(json_object_get(j.object, "attn_logit_softcapping"))) score_cap = 0;
    if (json_is_null(json_object_get(j.object, "final_logit_softcapping"))) logit_cap = 0;
    QS_TRY(qs_json_number(j, "attn_logit_softcapping", 1e-3, 1e9, &score_cap, e));
    QS_TRY(qs_json_number(j, "final_logit_softcapping", 1e-3, 1e9, &logit_cap, e));
    layer->part[0].attention.softcap = (float)score_cap;
    a->logit_softcap = (float)logit_cap;
    return 0;
}

/* Of every `pattern` layers the last is full, unless layer_types says otherwise. */
static int set_windows(qs_json j, qs_architecture *a, qs_layer *layer, int32_t pattern, qs_err *e)
{
    bool sliding[QS_LAYERS_MAX];
    int32_t window = 4096;
    if (json_is_null(json_object_get(j.object, "sliding_window"))) window = 0;
    QS_TRY(qs_json_int32(j, "sliding_window", 1, 1 << 30, &window, e));
    for (int32_t l = 0; l < a->layers; l++) sliding[l] = (l + 1) % pattern != 0;
    return qs_config_windows(j, a, layer, window, sliding, e);
}

static int read_2(qs_json j, qs_architecture *a, qs_err *e)
{
    qs_config_sizes s;
    qs_layer layer;
    QS_TRY(read_common(j, &defaults_of_2, a, &s, &layer, e));
    QS_TRY(read_since_2(j, a, &layer, 50, 30, e));
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){0}, s.head_dim, a->max_positions, &a->rotary[0], e));
    return set_windows(j, a, &layer, 2, e);
}

static int read_3(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_rotary_keys full = {.default_theta = 1e6, .layers = "full_attention"},
                                local = {.theta = "rope_local_base_freq",
                                         .default_theta = 1e4,
                                         .layers = "sliding_attention",
                                         .own = true};
    qs_config_defaults defaults = defaults_of_2;
    qs_config_sizes s;
    qs_layer layer;
    int32_t pattern = 6;
    defaults.vocab = 262208;
    defaults.max_positions = 131072;
    QS_TRY(read_common(j, &defaults, a, &s, &layer, e));
    QS_TRY(read_since_2(j, a, &layer, 0, 0, e));
    layer.part[0].attention.qk_norm = QS_QK_NORM_HEAD;
    layer.part[0].attention.rotary_of_window = 1;
    a->rotaries = 2;
    QS_TRY(qs_rotary_read(j, &full, s.head_dim, a->max_positions, &a->rotary[0], e));
    QS_TRY(qs_rotary_read(j, &local, s.head_dim, a->max_positions, &a->rotary[1], e));
    QS_TRY(qs_json_int32(j, "sliding_window_pattern", 1, QS_LAYERS_MAX, &pattern, e));
    return set_windows(j, a, &layer, pattern, e);
}

#define SIZES(hidden, ffn, heads, kv_heads, head_dim, scalar)                                               \
    "\"hidden_size\": " #hidden ",\n  \"intermediate_size\": " #ffn ",\n  \"num_attention_heads\": " #heads \
    ",\n  \"num_key_value_heads\": " #kv_heads ",\n  \"head_dim\": " #head_dim                              \
    ",\n  \"query_pre_attn_scalar\": " #scalar                                                              \
    ",\n  \"hidden_activation\": \"gelu_pytorch_tanh\",\n  \"vocab_size\": 262208,\n  "                     \
    "\"max_position_embeddings\": 131072"                                                                   \
    ",\n  \"sliding_window\": 1024,\n  \"sliding_window_pattern\": 6,\n  \"rope_theta\": 1000000.0,\n  "    \
    "\"rope_local_base_freq\": 10000.0"                                                                     \
    ",\n  \"rope_scaling\": {\"rope_type\": \"linear\", \"factor\": 8.0},\n  \"rms_norm_eps\": 1e-6,\n  "   \
    "\"tie_word_embeddings\": true"                                                                         \
    ",\n  \"bos_token_id\": 2,\n  \"eos_token_id\": 1"

static const qs_family_shape shapes[] = {{"gemma-3-4b", 34, SIZES(2560, 10240, 8, 4, 256, 256)},
                                         {"gemma-3-12b", 48, SIZES(3840, 15360, 16, 8, 256, 256)},
                                         {"gemma-3-27b", 62, SIZES(5376, 21504, 32, 16, 128, 168)},
                                         {0}};

const qs_family qs_family_gemma[] = {{"gemma", "GemmaForCausalLM", "gemma", read_1, NULL},
                                     {"gemma2", "Gemma2ForCausalLM", "gemma2", read_2, NULL},
                                     {"gemma3_text", "Gemma3ForCausalLM", "gemma3 (text)", read_3, shapes},
                                     {0}};
