/* phi3.c - Phi-3, 3.5 and Phi-4: Llama with q, k and v in one linear and gate and up in another; heads may
 * rotate in part, and for long texts by longer waves (longrope). */
#include "src/model/families/family.h"

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 32064,
                                                .hidden = 3072,
                                                .ffn = 8192,
                                                .layers = 32,
                                                .heads = 32,
                                                .max_positions = 4096,
                                                .bos = 1,
                                                .eos = 32000,
                                                .pad = 32000,
                                                .eps = 1e-5};
    qs_config_sizes s;
    int32_t window = 0;
    bool two;
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    QS_TRY(qs_json_int32(j, "sliding_window", 1, 1 << 30, &window, e));
    qs_layer layer = qs_config_layer(&s);
    qs_attention_config *attention = &layer.part[0].attention;
    attention->qkv = QS_QKV_JOINED;
    attention->q = "self_attn.qkv_proj";
    attention->window = window;
    layer.part[1].mlp.joined = true;
    layer.part[1].mlp.gate = NULL;
    layer.part[1].mlp.up = "mlp.gate_up_proj";
    QS_TRY(qs_rotary_read_long(j, &(qs_rotary_keys){.partial = true}, s.head_dim, a->max_positions,
                               &a->rotary[0], &a->rotary[1], &two, e));
    a->rotaries = two ? 2 : 1;
    a->long_after = two ? a->rotary[0].original_positions : 0;
    qs_config_set_layers(a, &layer);
    return 0;
}

static const qs_family_shape shapes[] = {{"phi-3-mini", 32,
                                          "\"hidden_size\": 3072,\n  \"intermediate_size\": 8192,\n  "
                                          "\"num_attention_heads\": 32,\n  \"num_key_value_heads\": 32,\n"
                                          "  \"hidden_act\": \"silu\",\n  \"vocab_size\": 32064,\n  "
                                          "\"max_position_embeddings\": 4096,\n  \"rope_theta\": 10000.0,\n"
                                          "  \"rms_norm_eps\": 1e-5,\n  \"tie_word_embeddings\": false,\n  "
                                          "\"sliding_window\": 2047,\n  \"bos_token_id\": 1,\n"
                                          "  \"eos_token_id\": 32000"},
                                         {"phi-4", 40,
                                          "\"hidden_size\": 5120,\n  \"intermediate_size\": 17920,\n  "
                                          "\"num_attention_heads\": 40,\n  \"num_key_value_heads\": 10,\n"
                                          "  \"hidden_act\": \"silu\",\n  \"vocab_size\": 100352,\n  "
                                          "\"max_position_embeddings\": 16384,\n  \"rope_theta\": 250000.0,\n"
                                          "  \"rms_norm_eps\": 1e-5,\n  \"tie_word_embeddings\": false,\n  "
                                          "\"bos_token_id\": 100257,\n  \"eos_token_id\": 100265"},
                                         {0}};

const qs_family qs_family_phi3[] = {{"phi3", "Phi3ForCausalLM", "phi3 (and Phi-4)", read, shapes}, {0}};
