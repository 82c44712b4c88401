#include "src/model/names.h"

#include <string.h>

static const qs_names families[] = {
    [QS_NAMING_LLAMA] = {.blocks = "model.layers",
                         .embedding = "model.embed_tokens",
                         .final_norm = "model.norm",
                         .head = "lm_head",
                         .norm = {"input_layernorm", "post_attention_layernorm"},
                         .head_norm = {"self_attn.q_norm", "self_attn.k_norm"},
                         .linear = {"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj", "mlp.gate_proj", "mlp.up_proj",
                                    "mlp.down_proj"}},
    [QS_NAMING_NEOX] = {.blocks = "gpt_neox.layers",
                        .embedding = "gpt_neox.embed_in",
                        .final_norm = "gpt_neox.final_layer_norm",
                        .head = "embed_out",
                        .other_head = "lm_head",
                        .norm = {"input_layernorm", "post_attention_layernorm"},
                        .linear = {[QS_LINEAR_Q] = "attention.query_key_value",
                                   [QS_LINEAR_O] = "attention.dense",
                                   [QS_LINEAR_UP] = "mlp.dense_h_to_4h",
                                   [QS_LINEAR_DOWN] = "mlp.dense_4h_to_h"}},
};

const qs_names *qs_names_of(const qs_architecture *a) { return &families[a->naming]; }

const char *qs_names_last(const char *path)
{
    const char *dot = strrchr(path, '.');
    return dot ? dot + 1 : path;
}
