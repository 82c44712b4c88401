/* mistral.c - Mistral: Llama with a sliding window in every layer and without biases. */
#include "src/model/families/family.h"

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 32000,
                                                .hidden = 4096,
                                                .ffn = 14336,
                                                .layers = 32,
                                                .heads = 32,
                                                .kv_heads = 8,
                                                .max_positions = 131072,
                                                .bos = 1,
                                                .eos = 2,
                                                .pad = -1,
                                                .eps = 1e-6};
    qs_config_sizes s;
    int32_t window = 4096;
    bool sliding[QS_LAYERS_MAX];
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    qs_layer layer = qs_config_layer(&s);
    /* Absent is 4096, but an explicit null is no window: later releases carry it. */
    if (json_is_null(json_object_get(j.object, "sliding_window"))) window = 0;
    QS_TRY(qs_json_int32(j, "sliding_window", 1, 1 << 30, &window, e));
    for (int32_t l = 0; l < a->layers; l++) sliding[l] = window > 0;
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){0}, s.head_dim, a->max_positions, &a->rotary[0], e));
    return qs_config_windows(j, a, &layer, window, sliding, e);
}

static const qs_family_shape shapes[] = {{"mistral-7b", 32,
                                          "\"hidden_size\": 4096,\n  \"intermediate_size\": 14336,\n  "
                                          "\"num_attention_heads\": 32,\n  \"num_key_value_heads\": 8,\n"
                                          "  \"head_dim\": 128,\n  \"hidden_act\": \"silu\",\n  "
                                          "\"vocab_size\": 32000,\n  \"max_position_embeddings\": 32768,\n"
                                          "  \"rope_theta\": 10000.0,\n  \"rms_norm_eps\": 1e-5,\n  "
                                          "\"tie_word_embeddings\": false,\n  \"sliding_window\": 4096,\n"
                                          "  \"bos_token_id\": 1,\n  \"eos_token_id\": 2"},
                                         {0}};

const qs_family qs_family_mistral[] = {{"mistral", "MistralForCausalLM", "mistral", read, shapes}, {0}};
