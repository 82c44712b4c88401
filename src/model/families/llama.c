/* llama.c - Llama 1, 2 and 3.x, and what is built like them. */
#include "src/model/families/family.h"

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 32000,
                                                .hidden = 4096,
                                                .ffn = 11008,
                                                .layers = 32,
                                                .heads = 32,
                                                .max_positions = 2048,
                                                .bos = 1,
                                                .eos = 2,
                                                .pad = -1,
                                                .eps = 1e-6};
    qs_config_sizes s;
    bool bias = false;
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    qs_layer layer = qs_config_layer(&s);
    QS_TRY(qs_json_bool(j, "attention_bias", &bias, e));
    layer.part[0].attention.qkv_bias = layer.part[0].attention.o_bias = bias;
    QS_TRY(qs_json_bool(j, "mlp_bias", &layer.part[1].mlp.bias, e));
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){0}, s.head_dim, a->max_positions, &a->rotary[0], e));
    qs_config_set_layers(a, &layer);
    return 0;
}

#define SIZES(hidden, ffn, heads, kv_heads, head_dim, vocab, positions, theta, eps, tied)                   \
    "\"hidden_size\": " #hidden ",\n  \"intermediate_size\": " #ffn ",\n  \"num_attention_heads\": " #heads \
    ",\n  \"num_key_value_heads\": " #kv_heads ",\n  \"head_dim\": " #head_dim                              \
    ",\n  \"hidden_act\": \"silu\",\n  \"vocab_size\": " #vocab                                             \
    ",\n  \"max_position_embeddings\": " #positions ",\n  \"rope_theta\": " #theta                          \
    ",\n  \"rms_norm_eps\": " #eps ",\n  \"tie_word_embeddings\": " #tied
#define LLAMA2 ",\n  \"bos_token_id\": 1,\n  \"eos_token_id\": 2"
#define LLAMA3 ",\n  \"bos_token_id\": 128000,\n  \"eos_token_id\": 128001"
#define LLAMA31(factor)                                                       \
    ",\n  \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": " #factor \
    ", \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, "                 \
    "\"original_max_position_embeddings\": 8192}" LLAMA3

static const qs_family_shape shapes[] = {
    {"tiny", 4, SIZES(256, 704, 8, 4, 32, 1024, 2048, 10000.0, 1e-5, false) LLAMA2},
    {"llama-2-7b", 32, SIZES(4096, 11008, 32, 32, 128, 32000, 4096, 10000.0, 1e-5, false) LLAMA2},
    {"llama-2-13b", 40, SIZES(5120, 13824, 40, 40, 128, 32000, 4096, 10000.0, 1e-5, false) LLAMA2},
    {"llama-2-70b", 80, SIZES(8192, 28672, 64, 8, 128, 32000, 4096, 10000.0, 1e-5, false) LLAMA2},
    {"llama-3-8b", 32, SIZES(4096, 14336, 32, 8, 128, 128256, 8192, 500000.0, 1e-5, false) LLAMA3},
    {"llama-3-70b", 80, SIZES(8192, 28672, 64, 8, 128, 128256, 8192, 500000.0, 1e-5, false) LLAMA3},
    {"llama-3.1-405b", 126,
     SIZES(16384, 53248, 128, 8, 128, 128256, 131072, 500000.0, 1e-5, false) LLAMA31(8.0)},
    {"llama-3.2-1b", 16, SIZES(2048, 8192, 32, 8, 64, 128256, 131072, 500000.0, 1e-5, true) LLAMA31(32.0)},
    {"llama-3.2-3b", 28, SIZES(3072, 8192, 24, 8, 128, 128256, 131072, 500000.0, 1e-5, true) LLAMA31(32.0)},
    {"open-llama-3b", 26, SIZES(3200, 8640, 32, 32, 100, 32000, 2048, 10000.0, 1e-6, false) LLAMA2},
    {0}};

const qs_family qs_family_llama[] = {{"llama", "LlamaForCausalLM", "llama (1, 2, 3.x)", read, shapes}, {0}};
