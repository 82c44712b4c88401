/* architecture.h - what a model's blocks are made of, read from config.json.
 *
 * One description covers every supported family (Llama 1/2/3.x, Mistral, Qwen2, Qwen3, GPT-NeoX): the families differ only in the values below. A config that
 * asks for a part that is not here is refused (QS_EUNSUP), naming the key and the value.
 */
#ifndef QS_MODEL_ARCHITECTURE_H
#define QS_MODEL_ARCHITECTURE_H

#include "io/checkpoint_source.h"
#include "kernels/ops.h"

typedef enum qs_rope_scaling {
    QS_ROPE_PLAIN, QS_ROPE_LINEAR, QS_ROPE_DYNAMIC, QS_ROPE_LLAMA3, QS_ROPE_YARN
} qs_rope_scaling;

typedef enum qs_norm_kind { QS_NORM_RMS, QS_NORM_LAYER } qs_norm_kind;
typedef enum qs_naming { QS_NAMING_LLAMA, QS_NAMING_NEOX } qs_naming; /* names.h */

typedef struct qs_architecture {
    char family[24];           /* model_type: "llama", "mistral", "qwen2", "qwen3", "gpt_neox" */
    char class_name[48];       /* architectures[0], e.g. "LlamaForCausalLM" */
    int32_t layers, hidden, ffn, heads, kv_heads, head_dim, vocab;
    int32_t max_positions;
    qs_naming naming;
    qs_norm_kind norm;
    float norm_eps;
    qs_activation activation;
    bool plain_mlp;            /* no gate: act(up) instead of act(gate) * up */
    bool fused_qkv;            /* q, k and v are one linear, QS_LINEAR_Q, whose outputs are [heads, 3, head_dim] */
    bool parallel_residual;    /* attention and MLP both read the block's input */
    bool tied;                 /* the head is the embedding */
    bool qkv_bias, o_bias, mlp_bias;
    bool qk_norm;              /* RMSNorm over head_dim of q and k, before the rotation */
    int32_t window;            /* keys a query sees, itself included; 0: all */
    int32_t window_from_layer; /* layers before it see all */
    int32_t rotary_dim;        /* leading columns of a head that rotate */
    qs_rope_scaling rope;
    double rope_theta, rope_factor, rope_low_freq, rope_high_freq, rope_beta_fast, rope_beta_slow;
    double rope_attention_factor; /* cos and sin are multiplied by it; 1 unless yarn */
    bool rope_truncate;           /* yarn: the ramp's ends are whole numbers */
    int32_t rope_original_positions;
    int32_t bos, eos[8], eos_count, pad; /* -1: none */
} qs_architecture;

/* The linear layers of a block, in the order their weights lie in a blob. A family need not have them all. */
typedef enum qs_linear {
    QS_LINEAR_Q, QS_LINEAR_K, QS_LINEAR_V, QS_LINEAR_O, QS_LINEAR_GATE, QS_LINEAR_UP, QS_LINEAR_DOWN, QS_LINEAR_COUNT
} qs_linear;

/* Reads DIR/config.json. Applies each family's defaults for absent keys (formats differ: rope_scaling type/rope_type, rope_parameters; a Mistral config
 * without sliding_window has 4096, with null has none; Qwen's is off unless use_sliding_window). Errors name DIR/config.json and the key. */
int qs_architecture_read(const char *dir, qs_architecture *out, qs_err *e);

/* The same from text that is at hand; `name` is how errors call it. */
int qs_architecture_parse(const char *name, const char *text, size_t bytes, qs_architecture *out, qs_err *e);

/* Whether a block has this linear; its out (0 without it) and in features; whether it has a bias. */
bool qs_linear_present(const qs_architecture *a, qs_linear l);
int32_t qs_linear_out(const qs_architecture *a, qs_linear l);
int32_t qs_linear_in(const qs_architecture *a, qs_linear l);
bool qs_linear_bias(const qs_architecture *a, qs_linear l);

/* Parameters of the whole model (tied weights once), as transformers counts them. */
int64_t qs_architecture_parameters(const qs_architecture *a);

/* Sliding window of layer l, 0 for none. */
static inline int32_t qs_architecture_window(const qs_architecture *a, int32_t l)
{
    return l >= a->window_from_layer ? a->window : 0;
}

/* Checks that every tensor the architecture needs is in the source with the right shape and a float type, and that nothing the model needs is
 * quantised in a way this program cannot read. The first problem is reported: tensor, expected shape, found shape, file. */
int qs_architecture_check(const qs_architecture *a, const qs_source *s, qs_err *e);

/* inv_freq[rotary_dim/2] in fp32, as transformers' modeling_rope_utils computes it. `positions` is the longest sequence of the run (dynamic scaling). */
void qs_rope_frequencies(const qs_architecture *a, int32_t positions, float *inv_freq);
/* cos, sin [positions][rotary_dim/2]: of the fp32 angle position * inv_freq, times the attention factor. */
void qs_rope_tables(const qs_architecture *a, int32_t positions, float *cos_table, float *sin_table);

#endif
