/* What `qlora-stream inspect` prints. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_err err;

static void make_dir(void) { dir = test_dir_create(); }
static void remove_dir(void) { test_dir_remove(dir); }

/* Runs the command with stdout in a file; the text goes to *out, freed with qs_free. */
static int run(int argc, const char **argv, char **out)
{
    char *path = test_path(dir, "stdout");
    fflush(stdout);
    int saved = dup(1);
    ck_assert_ptr_nonnull(freopen(path, "w", stdout));
    err.text[0] = 0;
    int rc = qs_command_inspect.run(argc, (char **)(uintptr_t)argv, &err);
    fflush(stdout);
    dup2(saved, 1);
    close(saved);
    *out = test_file_read(path, NULL);
    qs_free(path);
    return rc;
}
#define RUN(out, ...) \
    run((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__}, out)

static void has(const char *text, const char *words)
{
    ck_assert_msg(strstr(text, words), "no \"%s\" in:\n%s", words, text);
}

START_TEST(llama_2_7b_is_counted_from_its_config_alone)
{
    static const char config[] =
        "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_size\":4096,"
        "\"intermediate_size\":11008,"
        "\"num_hidden_layers\":32,\"num_attention_heads\":32,\"num_key_value_heads\":32,\"vocab_size\":32000,"
        "\"max_position_embeddings\":4096,\"rms_norm_eps\":1e-05,\"tie_word_embeddings\":false}";
    char *path = test_path(dir, "config.json"), *out;
    test_file_write(path, config, sizeof config - 1);
    int rc = RUN(&out, dir, "--lora_r", "8", "--target_modules", "q_proj,v_proj");
    ck_assert_msg(rc == 0, "%s", err.text);
    has(out, "4,194,304 trainable of 6,742,609,920");
    has(out, "LoRA of rank 8 on q_proj, v_proj: 16.0 MiB in fp32");
    has(out, "LlamaForCausalLM");
    has(out, "none in safetensors");
    /* 32 * 4 * 4096^2; NF4: half a byte and an fp32 per 64, or a byte per 64, an fp32 per 16,384 and an fp32
     * per matrix. */
    has(out, "attention, all layers       2,147,483,648     4.00 GiB     1.12 GiB     1.03 GiB");
    has(out, "mlp, all layers             4,328,521,728     8.06 GiB     2.27 GiB     2.08 GiB");
    has(out, "total                       6,738,415,616    12.55 GiB");
    has(out, "of which one layer            202,383,360    386.0 MiB    108.6 MiB     99.6 MiB");
    qs_free(out);
    ck_assert_int_eq(unlink(path), 0);
    qs_free(path);
}
END_TEST

START_TEST(weights_are_counted_and_checked)
{
    char *out;
    int rc = RUN(&out, "tests/golden/llama/model");
    ck_assert_msg(rc == 0, "%s", err.text);
    has(out, "weights: 2 shards, 20 tensors, BF16");
    has(out, "every tensor that config.json asks for is there");
    has(out, "rope theta 10,000, llama3 scaling by 8");
    has(out, "36,992 trainable of");
    qs_free(out);
}
END_TEST

START_TEST(an_adapter_shows_its_rank_targets_and_size)
{
    char *out;
    int rc = RUN(&out, "tests/golden/mistral/init_adapter");
    ck_assert_msg(rc == 0, "%s", err.text);
    has(out, "r 64, lora_alpha 16, scaling 2 (rank-stabilised)");
    has(out, "q_proj");
    has(out, "8 tensors, F32");
    qs_free(out);
}
END_TEST

START_TEST(wrong_calls_are_usage_errors)
{
    char *out;
    ck_assert_int_eq(run(0, NULL, &out), -QS_EUSAGE);
    qs_free(out);
    ck_assert_int_eq(RUN(&out, "a", "b"), -QS_EUSAGE);
    qs_free(out);
    ck_assert_int_eq(RUN(&out, dir, "--lora_rr", "8"), -QS_EUSAGE);
    qs_free(out);
    ck_assert_int_eq(RUN(&out, "/nonexistent"), -QS_EMISSING);
    has(err.text, "/nonexistent: there is no such model directory");
    qs_free(out);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("inspect");
    TCase *t = tcase_create("inspect");
    tcase_add_unchecked_fixture(t, make_dir, remove_dir);
    tcase_add_test(t, llama_2_7b_is_counted_from_its_config_alone);
    tcase_add_test(t, weights_are_counted_and_checked);
    tcase_add_test(t, an_adapter_shows_its_rank_targets_and_size);
    tcase_add_test(t, wrong_calls_are_usage_errors);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
