/* Behaviour of qs_architecture_check: the first tensor that is not what config.json says is named, with both
 * shapes and its file. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/model/architecture.h"
#include "tests/support/model_files.h"
#include "tests/support/model_parts.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_err err;

static void remove_dir(void) { test_dir_remove(dir); }

/* Two layers with everything: q, k, v, o bias, q and k norm. */
static qs_architecture model;
enum { MOST = 48 };
static test_tensor tensors[MOST];
static char names[MOST][96];
static int count;

static void add(const char *name, int64_t rows, int64_t cols)
{
    snprintf(names[count], sizeof names[count], "%s", name);
    tensors[count] = (test_tensor){names[count], QS_BF16, cols ? 2 : 1, {rows, cols}};
    count++;
}

/* The list that the architecture asks for, spelt out by hand. */
static void whole_model(void)
{
    count = 0;
    add("model.embed_tokens.weight", 32, 16);
    for (int l = 0; l < 2; l++) {
        static const struct {
            const char *name;
            int64_t rows, cols;
        } layer[] = {{"input_layernorm.weight", 16, 0},   {"post_attention_layernorm.weight", 16, 0},
                     {"self_attn.q_norm.weight", 6, 0},   {"self_attn.k_norm.weight", 6, 0},
                     {"self_attn.q_proj.weight", 24, 16}, {"self_attn.q_proj.bias", 24, 0},
                     {"self_attn.k_proj.weight", 12, 16}, {"self_attn.k_proj.bias", 12, 0},
                     {"self_attn.v_proj.weight", 12, 16}, {"self_attn.v_proj.bias", 12, 0},
                     {"self_attn.o_proj.weight", 16, 24}, {"self_attn.o_proj.bias", 16, 0},
                     {"mlp.gate_proj.weight", 20, 16},    {"mlp.up_proj.weight", 20, 16},
                     {"mlp.down_proj.weight", 16, 20}};
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            char name[96];
            snprintf(name, sizeof name, "model.layers.%d.%s", l, layer[i].name);
            add(name, layer[i].rows, layer[i].cols);
        }
    }
    add("model.norm.weight", 16, 0);
    add("lm_head.weight", 32, 16);
}

static qs_architecture neox;

static void whole_neox(const char *head)
{
    count = 0;
    add("gpt_neox.embed_in.weight", 32, 16);
    for (int l = 0; l < 2; l++) {
        static const struct {
            const char *name;
            int64_t rows, cols;
        } layer[] = {{"input_layernorm.weight", 16, 0},
                     {"input_layernorm.bias", 16, 0},
                     {"post_attention_layernorm.weight", 16, 0},
                     {"post_attention_layernorm.bias", 16, 0},
                     {"attention.query_key_value.weight", 48, 16},
                     {"attention.query_key_value.bias", 48, 0},
                     {"attention.dense.weight", 16, 16},
                     {"attention.dense.bias", 16, 0},
                     {"mlp.dense_h_to_4h.weight", 20, 16},
                     {"mlp.dense_h_to_4h.bias", 20, 0},
                     {"mlp.dense_4h_to_h.weight", 16, 20},
                     {"mlp.dense_4h_to_h.bias", 16, 0}};
        for (size_t i = 0; i < sizeof layer / sizeof *layer; i++) {
            char name[96];
            snprintf(name, sizeof name, "gpt_neox.layers.%d.%s", l, layer[i].name);
            add(name, layer[i].rows, layer[i].cols);
        }
    }
    add("gpt_neox.final_layer_norm.weight", 16, 0);
    add("gpt_neox.final_layer_norm.bias", 16, 0);
    add(head, 32, 16);
}

static int check(const qs_architecture *a, int shards)
{
    char *sub = qs_printf("%s/%d", dir, shards);
    ck_assert_int_eq(qs_dir_remove(sub, &err), 0);
    ck_assert_int_eq(qs_dir_create(sub, &err), 0);
    test_model_write(sub, tensors, count, shards, 1);
    qs_source *s;
    ck_assert_msg(qs_source_open(sub, &s, &err) == 0, "%s", err.text);
    err.text[0] = 0;
    int rc = qs_architecture_check(a, s, &err);
    qs_source_close(s);
    qs_free(sub);
    return rc;
}

static void refused(int code, const char *word, const char *file)
{
    for (int shards = 1; shards <= 3; shards += 2) {
        ck_assert_msg(check(&model, shards) == -code, "wanted %d: %d: %s", code, err.code, err.text);
        ck_assert_msg(strstr(err.text, word), "no \"%s\" in: %s", word, err.text);
        ck_assert_msg(strstr(err.text, shards == 1 ? "/model.safetensors: " : file), "no file in: %s",
                      err.text);
    }
}

static void make_dir(void)
{
    dir = test_dir_create();
    model = test_architecture("{'model_type':'qwen3','num_hidden_layers':2,'hidden_size':16,'intermediate_"
                              "size':20,'num_attention_heads':4,"
                              "'num_key_value_heads':2,'head_dim':6,'vocab_size':32,'attention_bias':true}");
    neox = test_architecture("{'model_type':'gpt_neox','num_hidden_layers':2,'hidden_size':16,'intermediate_"
                             "size':20,'num_attention_heads':4,"
                             "'vocab_size':32,'rotary_pct':0.5}");
}

START_TEST(a_whole_model_passes_in_one_file_and_in_shards)
{
    whole_model();
    ck_assert_msg(check(&model, 1) == 0, "%s", err.text);
    ck_assert_msg(check(&model, 3) == 0, "%s", err.text);
}
END_TEST

START_TEST(every_tensor_is_asked_for)
{
    whole_model();
    int all = count;
    for (int i = 0; i < all; i++) {
        whole_model();
        char *expected = tensors[i].dims == 1
                             ? qs_printf("no tensor %s, [%d], which", names[i], (int)tensors[i].shape[0])
                             : qs_printf("no tensor %s, [%d, %d], which", names[i], (int)tensors[i].shape[0],
                                         (int)tensors[i].shape[1]);
        tensors[i] = tensors[--count];
        ck_assert_int_eq(check(&model, 1), -QS_EMISSING);
        ck_assert_msg(strstr(err.text, expected), "no \"%s\" in: %s", expected, err.text);
        qs_free(expected);
    }
    whole_model();
    count--;
    refused(QS_EMISSING, "lm_head.weight, [32, 16], which config.json asks for", "and the 2 other shards");
}
END_TEST

START_TEST(every_tensor_of_a_gpt_neox_is_asked_for)
{
    whole_neox("embed_out.weight");
    int all = count;
    ck_assert_msg(check(&neox, 1) == 0, "%s", err.text);
    for (int i = 0; i < all; i++) {
        whole_neox("embed_out.weight");
        char *expected = qs_printf("no tensor %s, [", names[i]);
        tensors[i] = tensors[--count];
        ck_assert_int_eq(check(&neox, 1), -QS_EMISSING);
        ck_assert_msg(strstr(err.text, expected), "no \"%s\" in: %s", expected, err.text);
        qs_free(expected);
    }
    whole_neox("lm_head.weight"); /* as newer checkpoints may call it */
    ck_assert_msg(check(&neox, 1) == 0, "%s", err.text);
}
END_TEST

START_TEST(a_wrong_shape_is_told_with_both_and_the_shard)
{
    whole_model();
    tensors[5].shape[1] = 17; /* shards are dealt round robin: the third of three */
    refused(QS_EFORMAT, "model.layers.0.self_attn.q_proj.weight is [24, 17]; config.json makes it [24, 16]",
            "model-00003-of-00003.safetensors: ");
    whole_model();
    tensors[6].dims = 2;
    tensors[6].shape[1] = 1;
    refused(QS_EFORMAT, "q_proj.bias is [24, 1]; config.json makes it [24]",
            "model-00001-of-00003.safetensors: ");
    whole_model();
    tensors[0].shape[0] = 31;
    refused(QS_EFORMAT, "model.embed_tokens.weight is [31, 16]; config.json makes it [32, 16]",
            "model-00001-of-00003.safetensors: ");
}
END_TEST

START_TEST(types_that_are_not_floats_are_refused)
{
    whole_model();
    tensors[5].type = QS_U8;
    refused(QS_EUNSUP, "q_proj.weight is of type U8: the model is already quantised; give the 16-bit model",
            "00003-of-00003");
    whole_model();
    tensors[5].type = QS_I32;
    refused(QS_EUNSUP, "q_proj.weight is of type I32; expected F32, BF16 or F16", "00003-of-00003");
    whole_model(); /* as GPTQ stores it */
    snprintf(names[5], sizeof names[5], "model.layers.0.self_attn.q_proj.qweight");
    refused(QS_EUNSUP, "instead of tensor model.layers.0.self_attn.q_proj.weight there is its qweight",
            "00001-of-00003");
}
END_TEST

START_TEST(tied_weights_may_be_kept_under_either_name)
{
    qs_architecture tied = model;
    tied.tied = true;
    whole_model();
    count--;
    ck_assert_msg(check(&tied, 1) == 0, "%s", err.text);
    whole_model();
    tensors[0] = tensors[--count];
    ck_assert_msg(check(&tied, 1) == 0, "%s", err.text);
    tensors[0].shape[0] = 33;
    ck_assert_int_eq(check(&tied, 1), -QS_EFORMAT);
    whole_model();
    tensors[0] = tensors[count - 2];
    count -= 2;
    ck_assert_int_eq(check(&tied, 1), -QS_EMISSING);
    ck_assert_msg(strstr(err.text, "model.embed_tokens.weight"), "%s", err.text);
}
END_TEST

START_TEST(a_head_beside_a_tied_config_is_its_own_only_where_it_differs)
{
    static const test_tensor pair[] = {{"model.embed_tokens.weight", QS_F32, 2, {32, 16}},
                                       {"lm_head.weight", QS_F32, 2, {32, 16}}};
    char *sub = qs_printf("%s/tied", dir), *path = test_path(sub, "model.safetensors");
    char *embedding = test_tensor_data(1, &pair[0]), *head = test_tensor_data(1, &pair[1]);
    ck_assert_int_eq(qs_dir_create(sub, &err), 0);
    for (int differs = 0; differs < 2; differs++) {
        const qs_safetensors_entry entries[] = {
            {pair[0].name, QS_F32, 2, {32, 16}, embedding},
            {pair[1].name, QS_F32, 2, {32, 16}, differs ? head : embedding}};
        static const char *const metadata[] = {"format", "pt"};
        qs_architecture tied = model;
        qs_source *s;
        tied.tied = true;
        ck_assert_int_eq(qs_safetensors_write(path, entries, 2, metadata, 1, &err), 0);
        ck_assert_int_eq(qs_source_open(sub, &s, &err), 0);
        qs_log_set_level(QS_LOG_ERROR);
        ck_assert_msg(!qs_architecture_untie(&tied, s, &err), "%s", err.text);
        qs_log_set_level(QS_LOG_INFO);
        ck_assert_int_eq(tied.tied, !differs);
        qs_source_close(s);
    }
    qs_free(embedding);
    qs_free(head);
    qs_free(path);
    qs_free(sub);
}
END_TEST

START_TEST(golden_models_pass)
{
    static const char *const cases[] = {"llama",      "mistral",  "qwen2",           "qwen3",
                                        "llama_yarn", "gpt_neox", "gpt_neox_serial", "gemma",
                                        "gemma2",     "gemma3",   "lora_patterns"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *path = qs_printf("tests/golden/%s/model", cases[i]);
        qs_architecture a;
        qs_source *s;
        ck_assert_msg(qs_architecture_read(path, &a, &err) == 0, "%s", err.text);
        ck_assert_msg(qs_source_open(path, &s, &err) == 0, "%s", err.text);
        ck_assert_msg(qs_architecture_check(&a, s, &err) == 0, "%s", err.text);
        int64_t elements = 0;
        for (int t = 0; t < qs_source_count(s); t++) {
            const qs_source_tensor *x = qs_source_at(s, t);
            elements += (int64_t)(x->bytes / qs_dtype_bytes(x->type));
        }
        ck_assert_int_eq(elements, qs_architecture_parameters(&a));
        qs_source_close(s);
        qs_free(path);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("check");
    TCase *t = tcase_create("check");
    tcase_add_unchecked_fixture(t, make_dir, remove_dir);
    tcase_add_test(t, a_whole_model_passes_in_one_file_and_in_shards);
    tcase_add_test(t, every_tensor_is_asked_for);
    tcase_add_test(t, every_tensor_of_a_gpt_neox_is_asked_for);
    tcase_add_test(t, a_wrong_shape_is_told_with_both_and_the_shard);
    tcase_add_test(t, types_that_are_not_floats_are_refused);
    tcase_add_test(t, tied_weights_may_be_kept_under_either_name);
    tcase_add_test(t, a_head_beside_a_tied_config_is_its_own_only_where_it_differs);
    tcase_add_test(t, golden_models_pass);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
