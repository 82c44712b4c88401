/* qwen3.c - Qwen3: Llama with heads of their own size, and q and k normed head by head before they rotate. */
#include "src/model/families/family.h"

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 151936,
                                                .hidden = 4096,
                                                .ffn = 22016,
                                                .layers = 32,
                                                .heads = 32,
                                                .kv_heads = 32,
                                                .head_dim = 128,
                                                .max_positions = 32768,
                                                .bos = -1,
                                                .eos = -1,
                                                .pad = -1,
                                                .eps = 1e-6};
    qs_config_sizes s;
    bool bias = false;
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    qs_layer layer = qs_config_layer(&s);
    QS_TRY(qs_json_bool(j, "attention_bias", &bias, e));
    layer.part[0].attention.qkv_bias = layer.part[0].attention.o_bias = bias;
    layer.part[0].attention.qk_norm = QS_QK_NORM_HEAD;
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){0}, s.head_dim, a->max_positions, &a->rotary[0], e));
    return qs_config_optional_window(j, a, &layer, e);
}

#define SIZES(hidden, ffn, heads)                                                                           \
    "\"hidden_size\": " #hidden ",\n  \"intermediate_size\": " #ffn ",\n  \"num_attention_heads\": " #heads \
    ",\n  \"num_key_value_heads\": 8,\n  \"head_dim\": 128,\n  \"hidden_act\": \"silu\",\n  "               \
    "\"vocab_size\": 151936"                                                                                \
    ",\n  \"max_position_embeddings\": 40960,\n  \"rope_theta\": 1000000.0,\n  \"rms_norm_eps\": 1e-6"      \
    ",\n  \"tie_word_embeddings\": false,\n  \"bos_token_id\": 151643,\n  \"eos_token_id\": 151645"

static const qs_family_shape shapes[] = {
    {"qwen3-8b", 36, SIZES(4096, 12288, 32)}, {"qwen3-32b", 64, SIZES(5120, 25600, 64)}, {0}};

const qs_family qs_family_qwen3[] = {{"qwen3", "Qwen3ForCausalLM", "qwen3", read, shapes}, {0}};
