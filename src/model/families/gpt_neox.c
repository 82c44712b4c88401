/* gpt_neox.c - GPT-NeoX (Pythia, GPT-NeoX-20B): LayerNorm, biases everywhere, no gate, q k v fused head by
 * head, a parallel residual as a rule, and heads that rotate in part. */
#include "src/model/families/family.h"

static int read(qs_json j, qs_architecture *a, qs_err *e)
{
    static const qs_config_defaults defaults = {.vocab = 50432,
                                                .hidden = 6144,
                                                .ffn = 24576,
                                                .layers = 44,
                                                .heads = 64,
                                                .max_positions = 2048,
                                                .bos = 0,
                                                .eos = 2,
                                                .pad = -1,
                                                .eps = 1e-5,
                                                .eps_key = "layer_norm_eps",
                                                .activation = "gelu",
                                                .no_kv_key = true};
    static const qs_rotary_keys rotary = {
        .theta = "rotary_emb_base", .share = "rotary_pct", .default_share = 0.25, .partial = true};
    qs_config_sizes s;
    bool bias = true, parallel = true;
    QS_TRY(qs_config_read(j, &defaults, a, &s, e));
    if (s.heads * s.head_dim != a->hidden)
        QS_FAIL(e, QS_EUNSUP,
                "%s: num_attention_heads * head_dim is %d; expected hidden_size, %d, in this family", j.file,
                s.heads * s.head_dim, a->hidden);
    QS_TRY(qs_json_bool(j, "attention_bias", &bias, e));
    QS_TRY(qs_json_bool(j, "use_parallel_residual", &parallel, e));
    a->norm = QS_NORM_LAYER;
    a->names = (qs_model_names){.blocks = "gpt_neox.layers",
                                .embedding = "gpt_neox.embed_in",
                                .final_norm = "gpt_neox.final_layer_norm",
                                .head = "embed_out",
                                .other_head = "lm_head"};
    qs_layer layer = qs_config_layer(&s);
    qs_attention_config *attention = &layer.part[0].attention;
    attention->qkv = QS_QKV_PER_HEAD;
    attention->q = "attention.query_key_value";
    attention->o = "attention.dense";
    attention->qkv_bias = attention->o_bias = bias;
    layer.part[1].mlp = (qs_mlp_config){.ffn = s.ffn,
                                        .activation = s.activation,
                                        .bias = true,
                                        .up = "mlp.dense_h_to_4h",
                                        .down = "mlp.dense_4h_to_h"};
    layer.parallel = parallel;
    a->rotaries = 1;
    QS_TRY(qs_rotary_read(j, &rotary, s.head_dim, a->max_positions, &a->rotary[0], e));
    qs_config_set_layers(a, &layer);
    return 0;
}

#define SIZES(hidden, ffn, heads, vocab, activation)                                                        \
    "\"hidden_size\": " #hidden ",\n  \"intermediate_size\": " #ffn ",\n  \"num_attention_heads\": " #heads \
    ",\n  \"vocab_size\": " #vocab ",\n  \"max_position_embeddings\": 2048,\n  \"rotary_emb_base\": "       \
    "10000.0,\n  \"layer_norm_eps\": 1e-5,\n"                                                               \
    "  \"tie_word_embeddings\": false,\n  \"hidden_act\": \"" activation                                    \
    "\",\n  \"rotary_pct\": 0.25,\n  \"use_parallel_residual\": true,\n"                                    \
    "  \"bos_token_id\": 0,\n  \"eos_token_id\": 0"

static const qs_family_shape shapes[] = {{"pythia-1.4b", 24, SIZES(2048, 8192, 16, 50304, "gelu")},
                                         {"gpt-neox-20b", 44, SIZES(6144, 24576, 64, 50432, "gelu_fast")},
                                         {0}};

const qs_family qs_family_gpt_neox[] = {{"gpt_neox", "GPTNeoXForCausalLM", "gpt_neox", read, shapes}, {0}};
