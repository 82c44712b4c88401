/* smollm3.c - SmolLM3: Llama without rotation in every fourth layer, and with a tied head. */
#include "src/model/families/family.h"

/* Whether each layer rotates. */
static int read_rotations(qs_json j, const qs_architecture *a, bool *rotates, qs_err *e)
{
    int32_t interval = 4;
    QS_TRY(qs_json_int32(j, "no_rope_layer_interval", 1, 1 << 20, &interval, e));
    for (int32_t l = 0; l < a->layers; l++) rotates[l] = (l + 1) % interval != 0;
    const json_t *list = qs_json_get(j, "no_rope_layers");
    if (!list) return 0;
    if (!json_is_array(list) || json_array_size(list) < (size_t)a->layers)
        QS_FAIL(e, QS_EFORMAT, "%s: no_rope_layers must be a list of num_hidden_layers, %d, times 0 or 1",
                j.file, a->layers);
    for (int32_t l = 0; l < a->layers; l++)
        rotates[l] = json_integer_value(json_array_get(list, (size_t)l)) != 0;
    return 0;
}

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 128256,
                                                .hidden = 2048,
                                                .ffn = 11008,
                                                .layers = 36,
                                                .heads = 16,
                                                .kv_heads = 4,
                                                .max_positions = 32768,
                                                .bos = 128000,
                                                .eos = 128001,
                                                .pad = 128004,
                                                .eps = 1e-6,
                                                .tied = true};
    qs_config_sizes s;
    int32_t window = 0;
    bool bias = false, windows = false, rotates[QS_LAYERS_MAX], sliding[QS_LAYERS_MAX] = {false};
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    QS_TRY(read_rotations(j, a, rotates, e));
    QS_TRY(qs_json_bool(j, "use_sliding_window", &windows, e));
    QS_TRY(qs_json_int32(j, "sliding_window", 1, 1 << 30, &window, e));
    for (int32_t l = 0; l < a->layers; l++) sliding[l] = windows && window && !rotates[l];
    QS_TRY(qs_config_layer_types(j, a, sliding, e));
    qs_layer layer = qs_config_layer(&s);
    QS_TRY(qs_json_bool(j, "attention_bias", &bias, e));
    layer.part[0].attention.qkv_bias = layer.part[0].attention.o_bias = bias;
    QS_TRY(qs_json_bool(j, "mlp_bias", &layer.part[1].mlp.bias, e));
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){.default_theta = 2000000}, s.head_dim, a->max_positions,
                          &a->rotary[0], e));
    for (int32_t l = 0; l < a->layers; l++) {
        layer.part[0].attention.window = sliding[l] ? window : 0;
        layer.part[0].attention.rotary = rotates[l] ? 0 : -1;
        qs_config_set_layer(a, l, &layer);
    }
    return 0;
}

static const qs_family_shape shapes[] = {
    {"smollm3-3b", 36,
     "\"hidden_size\": 2048,\n  \"intermediate_size\": 11008,\n  \"num_attention_heads\": 16,\n  "
     "\"num_key_value_heads\": 4,\n"
     "  \"hidden_act\": \"silu\",\n  \"vocab_size\": 128256,\n  \"max_position_embeddings\": 65536,\n  "
     "\"rope_theta\": 5000000.0,\n"
     "  \"rms_norm_eps\": 1e-6,\n  \"tie_word_embeddings\": true,\n  \"bos_token_id\": 128000,\n  "
     "\"eos_token_id\": 128012"},
    {0}};

const qs_family qs_family_smollm3[] = {{"smollm3", "SmolLM3ForCausalLM", "smollm3", read, shapes}, {0}};
