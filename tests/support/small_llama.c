#include "tests/support/small_llama.h"

#include <stdio.h>
#include <stdlib.h>

#include "src/base/memory.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"

enum { PARTS = 9 };

static void write_weights(const char *dir, const test_llama *m)
{
    const struct {
        const char *name;
        int64_t shape[2];
    } parts[PARTS] = {{"input_layernorm", {m->hidden}},
                      {"post_attention_layernorm", {m->hidden}},
                      {"self_attn.q_proj", {m->hidden, m->hidden}},
                      {"self_attn.k_proj", {m->hidden, m->hidden}},
                      {"self_attn.v_proj", {m->hidden, m->hidden}},
                      {"self_attn.o_proj", {m->hidden, m->hidden}},
                      {"mlp.gate_proj", {m->ffn, m->hidden}},
                      {"mlp.up_proj", {m->ffn, m->hidden}},
                      {"mlp.down_proj", {m->hidden, m->ffn}}};
    size_t most = (size_t)m->layers * PARTS + 3;
    test_tensor *t = qs_calloc(most, sizeof *t);
    char(*names)[64] = qs_calloc(most, sizeof *names);
    int n = 0;
    t[n++] = (test_tensor){"model.embed_tokens.weight", QS_BF16, 2, {m->vocab, m->hidden}};
    t[n++] = (test_tensor){"lm_head.weight", QS_BF16, 2, {m->vocab, m->hidden}};
    t[n++] = (test_tensor){"model.norm.weight", QS_BF16, 1, {m->hidden}};
    for (int64_t l = 0; l < m->layers; l++)
        for (int p = 0; p < PARTS; p++, n++) {
            snprintf(names[n], sizeof *names, "model.layers.%d.%s.weight", (int)l, parts[p].name);
            t[n] = (test_tensor){
                names[n], QS_BF16, parts[p].shape[1] ? 2 : 1, {parts[p].shape[0], parts[p].shape[1]}};
        }
    test_model_write(dir, t, n, 1, 5);
    qs_free(names);
    qs_free(t);
}

void test_llama_write(const char *dir, const test_llama *m)
{
    write_weights(dir, m);
    char *path = test_path(dir, "config.json");
    FILE *f = fopen(path, "w");
    if (!f) abort();
    fprintf(f,
            "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":%d,"
            "\"intermediate_size\":%d,"
            "\"num_hidden_layers\":%d,\"num_attention_heads\":%d,\"num_key_value_heads\":%d,\"vocab_size\":%"
            "d,\"rms_norm_eps\":1e-5,"
            "\"max_position_embeddings\":2048,\"tie_word_embeddings\":false}",
            (int)m->hidden, (int)m->ffn, (int)m->layers, (int)m->heads, (int)m->heads, (int)m->vocab);
    fclose(f);
    qs_free(path);
    path = test_path(dir, "data.jsonl");
    f = fopen(path, "w");
    if (!f) abort();
    for (int r = 0; r < m->rows; r++) {
        fprintf(f, "{\"input_ids\": [");
        for (int i = 0; i < m->row_tokens; i++)
            fprintf(f, "%s%d", i ? "," : "", (r * 37 + i * 11) % (int)m->vocab);
        fprintf(f, "]}\n");
    }
    fclose(f);
    qs_free(path);
}
