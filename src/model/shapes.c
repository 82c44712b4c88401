#include "src/model/shapes.h"

#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/model/layout.h"
#include "src/model/names.h"

struct qs_shape {
    const char *name, *model_type, *class_name;
    int32_t layers, hidden, ffn, heads, kv_heads, head_dim, vocab, positions;
    double theta;
    const char *eps;
    bool tied;
    const char *more; /* further keys, each with a comma before it */
};

#define LLAMA .model_type = "llama", .class_name = "LlamaForCausalLM"
#define QWEN2 .model_type = "qwen2", .class_name = "Qwen2ForCausalLM"
#define NEOX .model_type = "gpt_neox", .class_name = "GPTNeoXForCausalLM"
#define NEOX_KEYS(activation)                                                                                                              \
    ",\n  \"hidden_act\": \"" activation "\",\n  \"rotary_pct\": 0.25,\n  \"use_parallel_residual\": true,\n  \"bos_token_id\": 0,\n  \"eos_token_id\": 0"
#define LLAMA31_ROPE(factor)                                                                                                         \
    ",\n  \"rope_scaling\": {\"rope_type\": \"llama3\", \"factor\": " factor ", \"low_freq_factor\": 1.0, \"high_freq_factor\": 4.0, " \
    "\"original_max_position_embeddings\": 8192}"
#define LLAMA2_TOKENS ",\n  \"bos_token_id\": 1,\n  \"eos_token_id\": 2"
#define LLAMA3_TOKENS ",\n  \"bos_token_id\": 128000,\n  \"eos_token_id\": 128001"
#define QWEN_TOKENS ",\n  \"bos_token_id\": 151643,\n  \"eos_token_id\": 151643"

/* From the models' published config.json. */
static const qs_shape shapes[] = {
    {"tiny", LLAMA, 4, 256, 704, 8, 4, 32, 1024, 2048, 1e4, "1e-5", .more = LLAMA2_TOKENS},
    {"llama-2-7b", LLAMA, 32, 4096, 11008, 32, 32, 128, 32000, 4096, 1e4, "1e-5", .more = LLAMA2_TOKENS},
    {"llama-2-13b", LLAMA, 40, 5120, 13824, 40, 40, 128, 32000, 4096, 1e4, "1e-5", .more = LLAMA2_TOKENS},
    {"llama-2-70b", LLAMA, 80, 8192, 28672, 64, 8, 128, 32000, 4096, 1e4, "1e-5", .more = LLAMA2_TOKENS},
    {"llama-3-8b", LLAMA, 32, 4096, 14336, 32, 8, 128, 128256, 8192, 5e5, "1e-5", .more = LLAMA3_TOKENS},
    {"llama-3-70b", LLAMA, 80, 8192, 28672, 64, 8, 128, 128256, 8192, 5e5, "1e-5", .more = LLAMA3_TOKENS},
    {"llama-3.1-405b", LLAMA, 126, 16384, 53248, 128, 8, 128, 128256, 131072, 5e5, "1e-5", .more = LLAMA31_ROPE("8.0") LLAMA3_TOKENS},
    {"llama-3.2-1b", LLAMA, 16, 2048, 8192, 32, 8, 64, 128256, 131072, 5e5, "1e-5", true, LLAMA31_ROPE("32.0") LLAMA3_TOKENS},
    {"llama-3.2-3b", LLAMA, 28, 3072, 8192, 24, 8, 128, 128256, 131072, 5e5, "1e-5", true, LLAMA31_ROPE("32.0") LLAMA3_TOKENS},
    {"open-llama-3b", LLAMA, 26, 3200, 8640, 32, 32, 100, 32000, 2048, 1e4, "1e-6", .more = LLAMA2_TOKENS},
    {"mistral-7b", .model_type = "mistral", .class_name = "MistralForCausalLM", 32, 4096, 14336, 32, 8, 128, 32000, 32768, 1e4, "1e-5",
     .more = ",\n  \"sliding_window\": 4096" LLAMA2_TOKENS},
    {"pythia-1.4b", NEOX, 24, 2048, 8192, 16, 16, 128, 50304, 2048, 1e4, "1e-5", .more = NEOX_KEYS("gelu")},
    {"gpt-neox-20b", NEOX, 44, 6144, 24576, 64, 64, 96, 50432, 2048, 1e4, "1e-5", .more = NEOX_KEYS("gelu_fast")},
    {"qwen2.5-7b", QWEN2, 28, 3584, 18944, 28, 4, 128, 152064, 131072, 1e6, "1e-6", .more = QWEN_TOKENS},
    {"qwen2.5-72b", QWEN2, 80, 8192, 29568, 64, 8, 128, 152064, 131072, 1e6, "1e-5", .more = QWEN_TOKENS},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

const char *qs_shape_name(int index) { return index >= 0 && index < SHAPES ? shapes[index].name : NULL; }

int qs_shape_find(const char *name, const qs_shape **out, qs_err *e)
{
    char known[512] = "";
    for (int i = 0; i < SHAPES; i++) {
        if (!strcmp(name, shapes[i].name)) {
            *out = &shapes[i];
            return 0;
        }
        size_t used = strlen(known);
        snprintf(known + used, sizeof known - used, "%s%s", i ? ", " : "", shapes[i].name);
    }
    QS_FAIL(e, QS_EUSAGE, "no shape is called %.60s; choose from %s", name, known);
}

char *qs_shape_config(const qs_shape *s, int32_t layers)
{
    bool neox = !strcmp(s->model_type, "gpt_neox");
    char *own = neox ? qs_strdup("")
                     : qs_printf("  \"num_key_value_heads\": %d,\n  \"head_dim\": %d,\n  \"hidden_act\": \"silu\",\n", s->kv_heads, s->head_dim);
    char *text = qs_printf("{\n"
                           "  \"architectures\": [\"%s\"],\n"
                           "  \"model_type\": \"%s\",\n"
                           "  \"num_hidden_layers\": %d,\n"
                           "  \"hidden_size\": %d,\n"
                           "  \"intermediate_size\": %d,\n"
                           "  \"num_attention_heads\": %d,\n"
                           "%s"
                           "  \"vocab_size\": %d,\n"
                           "  \"max_position_embeddings\": %d,\n"
                           "  \"%s\": %.1f,\n"
                           "  \"%s\": %s,\n"
                           "  \"tie_word_embeddings\": %s,\n"
                           "  \"torch_dtype\": \"bfloat16\"%s\n"
                           "}\n",
                           s->class_name, s->model_type, layers ? layers : s->layers, s->hidden, s->ffn, s->heads, own, s->vocab, s->positions,
                           neox ? "rotary_emb_base" : "rope_theta", s->theta, neox ? "layer_norm_eps" : "rms_norm_eps", s->eps,
                           s->tied ? "true" : "false", s->more);
    qs_free(own);
    return text;
}

static void add(qs_synthetic_entry *list, int *count, const char *name, int64_t rows, int64_t columns)
{
    qs_synthetic_entry *t = &list[(*count)++];
    snprintf(t->name, sizeof t->name, "%s", name);
    t->shape[0] = rows;
    t->shape[1] = columns;
}

int qs_shape_tensors(const qs_architecture *a, qs_synthetic_entry **out)
{
    qs_synthetic_entry *list = qs_calloc((size_t)a->layers * (QS_VECTOR_COUNT + QS_LINEAR_COUNT) + 4, sizeof *list);
    const qs_names *n = qs_names_of(a);
    int count = 0;
    char name[128];
    snprintf(name, sizeof name, "%s.weight", n->embedding);
    add(list, &count, name, a->vocab, a->hidden);
    for (int32_t layer = 0; layer < a->layers; layer++) {
        for (int v = 0; v < QS_VECTOR_COUNT; v++) {
            int64_t length = qs_layout_vector_length(a, (qs_vector)v);
            if (length && qs_layout_vector_name(a, layer, (qs_vector)v, name)) add(list, &count, name, length, 0);
        }
        for (int l = 0; l < QS_LINEAR_COUNT; l++)
            if (qs_layout_linear_name(a, layer, (qs_linear)l, name)) add(list, &count, name, qs_linear_out(a, (qs_linear)l), qs_linear_in(a, (qs_linear)l));
    }
    for (int bias = 0; bias <= (a->norm == QS_NORM_LAYER); bias++) {
        qs_layout_final_norm_name(a, bias, name);
        add(list, &count, name, a->hidden, 0);
    }
    snprintf(name, sizeof name, "%s.weight", n->head);
    if (!a->tied) add(list, &count, name, a->vocab, a->hidden);
    *out = list;
    return count;
}

int qs_shape_open(const char *name, int32_t layers, qs_architecture *a, qs_source **source, qs_err *e)
{
    const double std = 0.02;
    const qs_shape *s;
    qs_synthetic_entry *tensors;
    size_t bytes;
    *source = NULL;
    QS_TRY(qs_shape_find(name, &s, e));
    char *config = qs_shape_config(s, layers);
    int rc = qs_architecture_parse(name, config, strlen(config), a, e);
    qs_free(config);
    QS_TRY(rc);
    int count = qs_shape_tensors(a, &tensors);
    char *recipe = qs_synthetic_text(name, 0, std, tensors, count, &bytes);
    rc = qs_source_open_recipe(QS_SYNTHETIC_NAME, recipe, bytes, source, e);
    qs_free(recipe);
    qs_free(tensors);
    return rc;
}
