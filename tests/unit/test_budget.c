/* Budgets are kept: the process's peak resident set stays within --vram + --ram + 64 MiB, and the plan's bytes are the bytes used. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/engine.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { HIDDEN = 512, FFN = 1536, LAYERS = 6, VOCAB = 8192, ROWS = 24, ROW_TOKENS = 256, MIB = 1 << 20, ALLOWANCE_MIB = 64 };

static const char config[] =
    "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":512,\"intermediate_size\":1536,\"num_hidden_layers\":6,"
    "\"num_attention_heads\":8,\"num_key_value_heads\":8,\"vocab_size\":8192,\"rms_norm_eps\":1e-5,\"max_position_embeddings\":2048,"
    "\"tie_word_embeddings\":false}";

/* A model of 30 million parameters: its 16-bit weights are more than the smaller budgets hold. */
static void write_model(const char *dir)
{
    static char names[LAYERS * 9][64];
    test_tensor t[LAYERS * 9 + 3];
    int n = 0;
    t[n++] = (test_tensor){"model.embed_tokens.weight", QS_BF16, 2, {VOCAB, HIDDEN}};
    t[n++] = (test_tensor){"lm_head.weight", QS_BF16, 2, {VOCAB, HIDDEN}};
    t[n++] = (test_tensor){"model.norm.weight", QS_BF16, 1, {HIDDEN}};
    static const struct { const char *name; int64_t shape[2]; } parts[9] = {
        {"input_layernorm", {HIDDEN}}, {"post_attention_layernorm", {HIDDEN}}, {"self_attn.q_proj", {HIDDEN, HIDDEN}},
        {"self_attn.k_proj", {HIDDEN, HIDDEN}}, {"self_attn.v_proj", {HIDDEN, HIDDEN}}, {"self_attn.o_proj", {HIDDEN, HIDDEN}},
        {"mlp.gate_proj", {FFN, HIDDEN}}, {"mlp.up_proj", {FFN, HIDDEN}}, {"mlp.down_proj", {HIDDEN, FFN}}};
    for (int l = 0; l < LAYERS; l++)
        for (int p = 0; p < 9; p++) {
            char *name = names[l * 9 + p];
            snprintf(name, 64, "model.layers.%d.%s.weight", l, parts[p].name);
            t[n++] = (test_tensor){name, QS_BF16, parts[p].shape[1] ? 2 : 1, {parts[p].shape[0], parts[p].shape[1]}};
        }
    test_model_write(dir, t, n, 1, 5);
    char *path = test_path(dir, "config.json");
    test_file_write(path, config, sizeof config - 1);
    qs_free(path);
    path = test_path(dir, "data.jsonl");
    FILE *f = fopen(path, "w");
    for (int r = 0; r < ROWS; r++) {
        fprintf(f, "{\"input_ids\": [");
        for (int i = 0; i < ROW_TOKENS; i++) fprintf(f, "%s%d", i ? "," : "", (r * 37 + i * 11) % VOCAB);
        fprintf(f, "]}\n");
    }
    fclose(f);
    qs_free(path);
}

static void words(test_words *w, const char *dir, int vram, int ram, const char *name)
{
    test_words_add(w, "--model=%s", dir);
    test_words_add(w, "--data=%s/data.jsonl", dir);
    test_words_add(w, "--out=%s/%s", dir, name);
    test_words_add(w, "--cache=%s/cache-%s", dir, name);
    test_words_add(w, "--vram=%dM", vram);
    test_words_add(w, "--ram=%dM", ram);
    test_words_add(w, "--max_steps=2");
    test_words_add(w, "--max_seq_length=%d", ROW_TOKENS);
    test_words_add(w, "--no-packing");
    test_words_add(w, "--per_device_train_batch_size=2");
    test_words_add(w, "--gradient_accumulation_steps=2");
    test_words_add(w, "--quiet");
}

/* A sanitizer's own bookkeeping is most of the process, and no budget's business. */
#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
enum { SANITIZED = 1 };
#elif defined __has_feature
enum { SANITIZED = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) };
#else
enum { SANITIZED = 0 };
#endif

static const struct { int vram, ram; } pairs[] = {{24, 72}, {64, 96}, {256, 512}};

START_TEST(peak_memory_is_within_both_budgets)
{
    char *dir = test_dir_create();
    write_model(dir);
    pid_t child = fork();
    if (!child) {
        qs_err e = {0};
        test_words w = {0};
        words(&w, dir, pairs[_i].vram, pairs[_i].ram, "run");
        int rc = test_train(&w, &e);
        if (rc) fprintf(stderr, "%s\n", e.text);
        _exit(rc ? 1 : 0);
    }
    int status;
    struct rusage usage;
    ck_assert_int_eq(wait4(child, &status, 0, &usage), child);
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0, "training with --vram %dM --ram %dM failed", pairs[_i].vram, pairs[_i].ram);
    int peak = (int)(usage.ru_maxrss / 1024), allowed = pairs[_i].vram + pairs[_i].ram + ALLOWANCE_MIB;
    printf("--vram %dM --ram %dM: peak resident set %d MiB of %d allowed\n", pairs[_i].vram, pairs[_i].ram, peak, allowed);
    if (SANITIZED) printf("skip: the peak is not judged in a sanitizer's build\n");
    else ck_assert_int_le(peak, allowed);
    test_dir_remove(dir);
}
END_TEST

START_TEST(the_plan_s_bytes_are_the_bytes_used)
{
    char *dir = test_dir_create();
    qs_err e = {0};
    write_model(dir);
    test_words w = {0};
    words(&w, dir, pairs[_i].vram, pairs[_i].ram, "plan");
    qs_options o = {0};
    qs_engine g = {0};
    ck_assert_msg(!qs_options_parse(&o, w.count, w.word, NULL, 0, &e), "%s", e.text);
    ck_assert_msg(!qs_engine_prepare(&o, NULL, NULL, &g, &e), "%s", e.text);
    uint64_t before = qs_mem_read().block_bytes, planned = 0, items = 0;
    ck_assert_msg(!qs_engine_start(&g, &e), "%s", e.text);
    for (int p = 0; p < QS_POOL_COUNT; p++) planned += g.plan.pool_bytes[p];
    for (int i = 0; i < g.plan.item_count; i++) items += g.plan.items[i].bytes;
    ck_assert_uint_eq(items, planned);
    ck_assert_uint_eq(qs_mem_read().block_bytes - before, planned); /* on the CPU the device's pool is a block as well */
    for (int i = 0; i < g.plan.item_count; i++) ck_assert(g.tier.taken[i]);
    ck_assert_uint_le(g.plan.vram_used, (uint64_t)pairs[_i].vram * MIB);
    ck_assert_uint_le(g.plan.ram_used, (uint64_t)pairs[_i].ram * MIB);
    qs_engine_close(&g);
    ck_assert_uint_eq(qs_mem_read().block_bytes, before);
    qs_options_free(&o);
    test_words_free(&w);
    test_dir_remove(dir);
}
END_TEST

START_TEST(a_budget_too_small_is_refused_with_one_that_works)
{
    char *dir = test_dir_create();
    qs_err e = {0};
    write_model(dir);
    test_words w = {0};
    words(&w, dir, 4, 512, "small");
    ck_assert_int_eq(test_train(&w, &e), -QS_EBUDGET);
    const char *advice = strstr(e.text, "give --vram ");
    ck_assert_msg(advice != NULL, "%s", e.text);
    test_words_free(&w);
    w = (test_words){0};
    words(&w, dir, atoi(advice + strlen("give --vram ")), 512, "advised");
    ck_assert_msg(!test_train(&w, &e), "%s", e.text);
    test_words_free(&w);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("budget");
    TCase *t = tcase_create("budget");
    tcase_set_timeout(t, 120);
    tcase_add_loop_test(t, peak_memory_is_within_both_budgets, 0, sizeof pairs / sizeof *pairs);
    tcase_add_loop_test(t, the_plan_s_bytes_are_the_bytes_used, 0, sizeof pairs / sizeof *pairs);
    tcase_add_test(t, a_budget_too_small_is_refused_with_one_that_works);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
