/* ministral3.c - Ministral 3: Llama with YaRN, whose queries are scaled by their position. */
#include "src/model/families/family.h"

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 131072,
                                                .hidden = 4096,
                                                .ffn = 14336,
                                                .layers = 34,
                                                .heads = 32,
                                                .kv_heads = 8,
                                                .head_dim = 128,
                                                .max_positions = 262144,
                                                .bos = 1,
                                                .eos = 2,
                                                .pad = 11,
                                                .eps = 1e-5};
    qs_config_sizes s;
    qs_json r;
    int32_t window = 0;
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    QS_TRY(qs_json_int32(j, "sliding_window", 1, 1 << 30, &window, e));
    QS_TRY(qs_json_object(j, "rope_parameters", "rope_parameters.", &r, e));
    if (!r.object)
        return qs_json_unexpected(j, "rope_parameters", QS_EFORMAT, "the rotary embedding's parameters", e);
    QS_TRY(qs_rotary_read(j, &(qs_rotary_keys){.default_theta = 1000000}, s.head_dim, a->max_positions,
                          &a->rotary[0], e));
    a->rotary[1] = a->rotary[0];
    QS_TRY(qs_json_number(r, "llama_4_scaling_beta", 0, 1e6, &a->rotary[1].position_beta, e));
    a->rotaries = a->rotary[1].position_beta > 0 ? 2 : 1;
    qs_layer layer = qs_config_layer(&s);
    layer.part[0].attention.window = window;
    layer.part[0].attention.scaled_q = a->rotaries == 2;
    qs_config_set_layers(a, &layer);
    return 0;
}

static const qs_family_shape shapes[] = {
    {"ministral-3-8b", 34,
     "\"hidden_size\": 4096,\n  \"intermediate_size\": 14336,\n  \"num_attention_heads\": 32,\n  "
     "\"num_key_value_heads\": 8,\n"
     "  \"head_dim\": 128,\n  \"hidden_act\": \"silu\",\n  \"vocab_size\": 131072,\n  "
     "\"max_position_embeddings\": 262144,\n"
     "  \"rope_parameters\": {\"rope_type\": \"yarn\", \"rope_theta\": 1000000.0, \"factor\": 16.0, "
     "\"beta_fast\": 32.0, \"beta_slow\": 1.0, "
     "\"mscale\": 1.0, \"mscale_all_dim\": 1.0, \"original_max_position_embeddings\": 16384, "
     "\"llama_4_scaling_beta\": 0.1},\n"
     "  \"rms_norm_eps\": 1e-5,\n  \"tie_word_embeddings\": false,\n  \"bos_token_id\": 1,\n  "
     "\"eos_token_id\": 2"},
    {0}};

const qs_family qs_family_ministral3[] = {{"ministral3", "Ministral3ForCausalLM", "ministral3", read, shapes},
                                          {0}};
