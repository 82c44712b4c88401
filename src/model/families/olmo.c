/* olmo.c - OLMo 2 and 3: Llama with norms after the parts instead of before them, and q and k normed over
 * their whole width. OLMo 3 has a window in three of four layers, and scales the rotary embedding in the
 * others alone. */
#include "src/model/families/family.h"

static const qs_config_defaults defaults = {.vocab = 50304,
                                            .hidden = 4096,
                                            .ffn = 11008,
                                            .layers = 32,
                                            .heads = 32,
                                            .max_positions = 2048,
                                            .bos = -1,
                                            .eos = 50279,
                                            .pad = 1,
                                            .eps = 1e-5};

static int read_layer(qs_json j, qs_architecture *a, qs_config_sizes *s, qs_layer *layer, qs_err *e)
{
    bool bias = false;
    QS_TRY(qs_config_read(j, &defaults, a, s, e));
    QS_TRY(qs_json_bool(j, "attention_bias", &bias, e));
    *layer = qs_config_layer(s);
    layer->part[0].norm_before = layer->part[1].norm_before = NULL;
    layer->part[0].norm_after = "post_attention_layernorm";
    layer->part[1].norm_after = "post_feedforward_layernorm";
    layer->part[0].attention.qk_norm = QS_QK_NORM_ALL;
    layer->part[0].attention.qkv_bias = layer->part[0].attention.o_bias = bias;
    return 0;
}

static int read2(qs_json j, qs_architecture *a, qs_err *e)
{
    qs_config_sizes s;
    qs_layer layer;
    QS_TRY(read_layer(j, a, &s, &layer, e));
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){0}, s.head_dim, a->max_positions, &a->rotary[0], e));
    qs_config_set_layers(a, &layer);
    return 0;
}

enum { FULL, SLIDING }; /* rotary embeddings */

static int read3(qs_json j, qs_architecture *a, qs_err *e)
{
    qs_config_sizes s;
    qs_layer layer;
    int32_t window = 4096;
    bool sliding[QS_LAYERS_MAX];
    QS_TRY(read_layer(j, a, &s, &layer, e));
    for (int32_t l = 0; l < a->layers; l++) sliding[l] = (l + 1) % 4 != 0;
    QS_TRY(qs_config_layer_types(j, a, sliding, e));
    QS_TRY(qs_json_int32(j, "sliding_window", 1, 1 << 30, &window, e));
    a->rotaries = 2;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){.default_theta = 500000, .layers = "full_attention"},
                          s.head_dim, a->max_positions, &a->rotary[FULL], e));
    QS_TRY(qs_rotary_read(
        j, &(qs_rotary_keys){.default_theta = 500000, .layers = "sliding_attention", .own = true}, s.head_dim,
        a->max_positions, &a->rotary[SLIDING], e));
    for (int32_t l = 0; l < a->layers; l++) {
        layer.part[0].attention.window = sliding[l] ? window : 0;
        layer.part[0].attention.rotary = sliding[l] ? SLIDING : FULL;
        qs_config_set_layer(a, l, &layer);
    }
    return 0;
}

static const qs_family_shape shapes2[] = {{"olmo-2-7b", 32,
                                           "\"hidden_size\": 4096,\n  \"intermediate_size\": 11008,\n  "
                                           "\"num_attention_heads\": 32,\n  \"num_key_value_heads\": 32,\n"
                                           "  \"hidden_act\": \"silu\",\n  \"vocab_size\": 100352,\n  "
                                           "\"max_position_embeddings\": 4096,\n  \"rope_theta\": 500000.0,\n"
                                           "  \"rms_norm_eps\": 1e-6,\n  \"tie_word_embeddings\": false,\n  "
                                           "\"eos_token_id\": 100257,\n  \"pad_token_id\": 100277"},
                                          {0}};

static const qs_family_shape shapes3[] = {
    {"olmo-3-7b", 32,
     "\"hidden_size\": 4096,\n  \"intermediate_size\": 11008,\n  \"num_attention_heads\": 32,\n  "
     "\"num_key_value_heads\": 32,\n"
     "  \"hidden_act\": \"silu\",\n  \"vocab_size\": 100278,\n  \"max_position_embeddings\": 65536,\n  "
     "\"rope_theta\": 500000.0,\n"
     "  \"rms_norm_eps\": 1e-6,\n  \"tie_word_embeddings\": false,\n  \"sliding_window\": 4096,\n  "
     "\"eos_token_id\": 100257,\n"
     "  \"pad_token_id\": 100277"},
    {0}};

const qs_family qs_family_olmo[] = {{"olmo2", "Olmo2ForCausalLM", "olmo2", read2, shapes2},
                                    {"olmo3", "Olmo3ForCausalLM", "olmo3", read3, shapes3},
                                    {0}};
