/* qwen2.c - Qwen2 and 2.5: Llama with biases on q, k and v. */
#include "src/model/families/family.h"

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 151936,
                                                .hidden = 4096,
                                                .ffn = 22016,
                                                .layers = 32,
                                                .heads = 32,
                                                .kv_heads = 32,
                                                .max_positions = 32768,
                                                .bos = -1,
                                                .eos = -1,
                                                .pad = -1,
                                                .eps = 1e-6};
    qs_config_sizes s;
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    qs_layer layer = qs_config_layer(&s);
    layer.part[0].attention.qkv_bias = true;
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){0}, s.head_dim, a->max_positions, &a->rotary[0], e));
    return qs_config_optional_window(j, a, &layer, e);
}

#define SIZES(hidden, ffn, heads, kv_heads, vocab, eps)                                                     \
    "\"hidden_size\": " #hidden ",\n  \"intermediate_size\": " #ffn ",\n  \"num_attention_heads\": " #heads \
    ",\n  \"num_key_value_heads\": " #kv_heads                                                              \
    ",\n  \"head_dim\": 128,\n  \"hidden_act\": \"silu\",\n  \"vocab_size\": " #vocab                       \
    ",\n  \"max_position_embeddings\": 131072,\n  \"rope_theta\": 1000000.0,\n  \"rms_norm_eps\": " #eps    \
    ",\n  \"tie_word_embeddings\": false,\n  \"bos_token_id\": 151643,\n  \"eos_token_id\": 151643"

static const qs_family_shape shapes[] = {{"qwen2.5-7b", 28, SIZES(3584, 18944, 28, 4, 152064, 1e-6)},
                                         {"qwen2.5-72b", 80, SIZES(8192, 29568, 64, 8, 152064, 1e-5)},
                                         {0}};

const qs_family qs_family_qwen2[] = {{"qwen2", "Qwen2ForCausalLM", "qwen2 (and 2.5)", read, shapes}, {0}};
