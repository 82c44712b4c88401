/* Behaviour of src/options/import: configurations of other trainers, key by key. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/options/import.h"
#include "src/options/options.h"
#include "src/options/yaml_flat.h"

static qs_import import;

static void read_config(const char *text)
{
    qs_err e = {0};
    qs_import_free(&import);
    ck_assert_msg(qs_import_config("c.yaml", text, strlen(text), &import, &e) == 0, "%s", e.text);
}

/* The options that the imported file gives, by our own reader. */
static qs_options read_options(void)
{
    qs_options o = {0};
    qs_option_set set = {&qs_training_options, &o};
    qs_err e = {0};
    qs_options_defaults(&o);
    ck_assert_msg(
        qs_option_read_yaml(&set, 1, "ours", import.yaml, strlen(import.yaml), QS_FROM_CONFIG, &e) == 0,
        "%s\n%s", e.text, import.yaml);
    return o;
}

static void says(const char *part)
{
    ck_assert_msg(strstr(import.report, part) != NULL, "lacks \"%s\":\n%s", part, import.report);
}

#define AXOLOTL                                                                                              \
    "base_model: some/model\nmodel_type: LlamaForCausalLM\nload_in_4bit: true\nstrict: false\ndatasets:\n  " \
    "- path: a.jsonl\n    type: chat_template\n"                                                             \
    "    field_messages: conversations\n    message_property_mappings: {role: from, content: value}\n  - "   \
    "path: json\n    data_files: [b.jsonl, c.jsonl]\n"                                                       \
    "adapter: qlora\nsequence_len: 4096\nsample_packing: true\nlora_r: 32\nlora_target_linear: "             \
    "true\nmicro_batch_size: 2\nnum_epochs: 4\n"                                                             \
    "optimizer: paged_adamw_8bit\nlr_scheduler: linear\nlearning_rate: 2e-4\nbf16: "                         \
    "auto\ntf32:\nwarmup_steps: 0.1\nspecial_tokens:\n"

START_TEST(an_axolotl_file_becomes_ours_with_its_defaults)
{
    read_config(AXOLOTL);
    ck_assert_ptr_nonnull(import.trainer);
    ck_assert_str_eq(import.trainer, "axolotl");
    ck_assert_msg(!import.refused, "%s", import.report);
    qs_options o = read_options();
    ck_assert_str_eq(o.model, "some/model");
    ck_assert_int_eq(o.data.count, 3);
    ck_assert_str_eq(o.data.items[2], "c.jsonl");
    ck_assert_int_eq(o.quant_type, QS_QUANT_NF4);
    ck_assert_int_eq(o.max_seq_length, 4096);
    ck_assert_int_eq(o.lora_r, 32);
    ck_assert(o.packing);
    ck_assert_int_eq(o.optim, QS_OPTIM_PAGED_ADAMW_8BIT);
    ck_assert_int_eq(o.lr_scheduler_type, QS_LR_LINEAR);
    ck_assert_double_eq(o.warmup_ratio, 0.1);
    ck_assert_double_eq(o.max_grad_norm, 1); /* unset there */
    ck_assert_int_eq(o.gradient_accumulation_steps, 1);
    says("sequence_len: 4096 -> max_seq_length: 4096");
    says("unset, and so as axolotl has it");
    says("model_type: the model's folder");
    qs_options_free(&o);
}
END_TEST

START_TEST(what_is_not_supported_is_named_all_at_once_with_what_to_do)
{
    read_config(AXOLOTL "load_in_8bit: true\nrelora: true\nlora_modules_to_save: [lm_head]\nrl: "
                        "dpo\nfrobnicate: 3\noptimizer_x: 1\nfp16: true\n");
    ck_assert_int_eq(import.refused, 6);
    ck_assert_str_eq(import.refused_keys,
                     "load_in_8bit, relora, lora_modules_to_save, rl, frobnicate, optimizer_x");
    says("load_in_8bit: true - say load_in_4bit");
    says("frobnicate: 3 - this key is not known here");
    qs_err e = {0};
    ck_assert_int_eq(qs_import_check(&import, "c.yaml", &e), -QS_EUSAGE);
    ck_assert_msg(strstr(e.text, "6 keys") && strstr(e.text, "frobnicate"), "%s", e.text);
    read_config("base_model: m\nsequence_len: 1\nadapter: lora\nmicro_batch_size: 0.5\noptimizer: "
                "lion\nbf16: true\nfp16: true\n");
    ck_assert_str_eq(import.refused_keys,
                     "sequence_len, micro_batch_size, optimizer, bf16, fp16"); /* values that do not fit, and
                                                                                  contradictions */
    read_config("base_model: m\nsequence_len: 512\nmicro_batch_size: 1\nstrict: false\n");
    says("adapter: unset - all weights would be trained");
}
END_TEST

START_TEST(types_of_data_sets_are_taken_or_named)
{
    read_config("base_model: m\nadapter: qlora\nsequence_len: 512\ndatasets:\n  - path: a.jsonl\n    type: "
                "completion\n    field: body\n");
    qs_options o = read_options();
    ck_assert_str_eq(o.text_column, "body");
    qs_options_free(&o);
    read_config("base_model: m\nadapter: qlora\nsequence_len: 512\ndatasets:\n  - path: a.jsonl\n    type: "
                "sharegpt:odd\n    split: train[:1%]\n    roles: {user: [king]}\n");
    ck_assert_str_eq(import.refused_keys, "datasets[0].type, datasets[0].split, datasets[0].roles.user");
}
END_TEST

START_TEST(a_llamafactory_file_becomes_ours)
{
    read_config("model_name_or_path: m\nquantization_bit: 4\nstage: sft\ndo_train: true\nfinetuning_type: "
                "lora\nlora_rank: 4\nlora_target: all\ndataset: identity, b.jsonl\n"
                "dataset_dir: d\ntemplate: llama3\ncutoff_len: 1024\noverwrite_cache: "
                "true\nper_device_train_batch_size: 1\nnum_train_epochs: 3.0\nlearning_rate: 1.0e-4\n"
                "bf16: true\noutput_dir: out\nplot_loss: true\nval_size: 0.1\n");
    ck_assert_str_eq(import.trainer, "LLaMA-Factory");
    ck_assert_msg(!import.refused, "%s", import.report);
    qs_options o = read_options();
    ck_assert_str_eq(o.data.items[0], "d/identity.json");
    ck_assert_str_eq(o.data.items[1], "b.jsonl");
    ck_assert_double_eq(o.lora_alpha, 8); /* twice the rank, where it is unset */
    ck_assert_int_eq(o.quant_type, QS_QUANT_NF4);
    ck_assert_int_eq(o.lr_scheduler_type, QS_LR_LINEAR);
    ck_assert(!o.packing);
    ck_assert_str_eq(o.chat_template, "llama3");
    qs_options_free(&o);
    read_config("model_name_or_path: m\nstage: dpo\nfinetuning_type: full\ntemplate: odd\ncutoff_len: 16\n");
    ck_assert_str_eq(import.refused_keys, "stage, finetuning_type, template");
}
END_TEST

START_TEST(a_trl_file_becomes_ours)
{
    read_config("model_name_or_path: m\ntorch_dtype: bfloat16\nuse_peft: true\nload_in_4bit: true\nlora_r: "
                "8\nlora_target_modules: [q_proj, v_proj]\n"
                "dataset_mixture:\n  datasets:\n    - id: a.jsonl\n      split: train\n      weight: 0.5\n   "
                " - id: b.jsonl\n  test_split_size: 100\n"
                "max_length: 2048\nassistant_only_loss: true\ngradient_checkpointing: "
                "true\ngradient_checkpointing_kwargs: {use_reentrant: false}\n");
    ck_assert_str_eq(import.trainer, "TRL");
    ck_assert_msg(!import.refused, "%s", import.report);
    qs_options o = read_options();
    ck_assert_str_eq(o.data.items[0], "a.jsonl:0.5");
    ck_assert_str_eq(o.data.items[1], "b.jsonl");
    ck_assert_double_eq(o.val_set_size, 100);
    ck_assert_int_eq(o.target_modules.count, 2);
    ck_assert_double_eq(o.learning_rate, 2e-5);
    ck_assert(!o.train_on_inputs && !o.double_quant);
    qs_options_free(&o);
}
END_TEST

START_TEST(a_torchtune_file_becomes_ours)
{
    static const char text[] =
        "output_dir: out\nmodel:\n  _component_: torchtune.models.llama3_1.qlora_llama3_1_8b\n  "
        "lora_attn_modules: ['q_proj', 'output_proj']\n  apply_lora_to_mlp: True\n"
        "  lora_rank: 8\n  lora_alpha: 16\ntokenizer:\n  _component_: t\n  max_seq_len: "
        "null\ncheckpointer:\n  _component_: c\n  checkpoint_dir: m\n"
        "dataset:\n  _component_: torchtune.datasets.alpaca_cleaned_dataset\n  split: "
        "train[:95%%]\ndataset_val:\n  _component_: torchtune.datasets.alpaca_cleaned_dataset\n"
        "  split: train[95%%:]\nseed: null\nbatch_size: 2\noptimizer:\n  _component_: torch.optim.AdamW\n  "
        "fused: True\n  lr: 3e-4\nlr_scheduler:\n"
        "  _component_: torchtune.training.lr_schedulers.get_cosine_schedule_with_warmup\n  "
        "num_warmup_steps: 100\nloss:\n  _component_: torchtune.modules.loss.%s\n"
        "epochs: 1\nclip_grad_norm: null\ndevice: cuda\ndtype: bf16\n";
    char *good = qs_printf(text, "LinearCrossEntropyLoss"), *bad = qs_printf(text, "ForwardKLLoss");
    read_config(good);
    ck_assert_str_eq(import.trainer, "torchtune");
    ck_assert_msg(!import.refused, "%s", import.report);
    qs_options o = read_options();
    ck_assert_str_eq(o.model, "m");
    ck_assert_int_eq(o.target_modules.count, 5);
    ck_assert_str_eq(o.target_modules.items[1], "o_proj");
    ck_assert_double_eq(o.val_set_size, 0.05);
    ck_assert_double_eq(o.max_grad_norm, 0);
    ck_assert_int_eq(o.warmup_steps, 100);
    ck_assert(o.train_on_inputs); /* alpaca_cleaned_dataset's default */
    qs_options_free(&o);
    read_config(bad);
    ck_assert_str_eq(import.refused_keys, "loss._component_");
    qs_free(good);
    qs_free(bad);
}
END_TEST

START_TEST(an_unsloth_file_becomes_ours)
{
    read_config("model: m\ndata: {dataset: a.jsonl, format_type: auto}\ntraining: {training_type: lora, "
                "load_in_4bit: true, num_epochs: 0, max_steps: 60, batch_size: 2, "
                "train_on_completions: true}\nlora: {lora_r: 64, target_modules: 'q_proj,v_proj', use_dora: "
                "true}\nlogging: {enable_wandb: false}\n");
    ck_assert_str_eq(import.trainer, "Unsloth");
    ck_assert_str_eq(import.refused_keys, "lora.use_dora");
    qs_options o = read_options();
    ck_assert_int_eq(o.max_steps, 60);
    ck_assert_int_eq(o.lora_r, 64);
    ck_assert_int_eq(o.seed, 3407);
    ck_assert(!o.train_on_inputs);
    qs_options_free(&o);
}
END_TEST

START_TEST(our_own_files_are_left_alone)
{
    static const char *const texts[] = {
        "model: m\ndata: a.jsonl\nlora_r: 8\n",
        "base_model: m\ndatasets:\n  - path: a\n    type: completion\nmicro_batch_size: 1\n", "",
        "lora_rr: 8\nmodel: m\n"};
    for (int i = 0; i < 4; i++) {
        read_config(texts[i]);
        ck_assert_ptr_null(import.trainer);
    }
}
END_TEST

START_TEST(anchors_and_merge_keys_are_resolved_and_bombs_end)
{
    qs_yaml_flat f;
    qs_err e = {0};
    static const char text[] =
        "a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: [*a, 4]\nd: [5, six]\ne:\nf: ~\n";
    ck_assert_msg(qs_yaml_flatten("t", text, sizeof text - 1, &f, &e) == 0, "%s", e.text);
    ck_assert_str_eq(qs_yaml_find(&f, "b.x")->value, "1");
    ck_assert_str_eq(qs_yaml_find(&f, "b.y")->value, "3");
    ck_assert_str_eq(qs_yaml_find(&f, "c[0].y")->value, "2");
    ck_assert_str_eq(qs_yaml_find(&f, "d")->value, "5,six");
    ck_assert(qs_yaml_find(&f, "e")->null && qs_yaml_find(&f, "f")->null);
    qs_yaml_flat_free(&f);
    static const char bomb[] = "a: &a [{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1},{x: 1}]\nb: &b "
                               "[*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b]\n"
                               "d: &d [*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d]\n";
    ck_assert_int_eq(qs_yaml_flatten("t", bomb, sizeof bomb - 1, &f, &e), -QS_EUSAGE);
    qs_yaml_flat_free(&f);
    ck_assert_int_eq(qs_yaml_flatten("t", "a: [", 4, &f, &e), -QS_EUSAGE);
    ck_assert_msg(strstr(e.text, "t:") != NULL, "%s", e.text);
    qs_yaml_flat_free(&f);
    ck_assert_int_eq(qs_yaml_flatten("t", "- a\n", 4, &f, &e), -QS_EUSAGE);
    qs_yaml_flat_free(&f);
    ck_assert_int_eq(qs_yaml_flatten("t", "a: 1\n---\nb: 2\n", 14, &f, &e), -QS_EUSAGE);
    qs_yaml_flat_free(&f);
}
END_TEST

static void teardown(void) { qs_import_free(&import); }

int main(void)
{
    Suite *s = suite_create("import");
    TCase *t = tcase_create("import");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, an_axolotl_file_becomes_ours_with_its_defaults);
    tcase_add_test(t, what_is_not_supported_is_named_all_at_once_with_what_to_do);
    tcase_add_test(t, types_of_data_sets_are_taken_or_named);
    tcase_add_test(t, a_llamafactory_file_becomes_ours);
    tcase_add_test(t, a_trl_file_becomes_ours);
    tcase_add_test(t, a_torchtune_file_becomes_ours);
    tcase_add_test(t, an_unsloth_file_becomes_ours);
    tcase_add_test(t, our_own_files_are_left_alone);
    tcase_add_test(t, anchors_and_merge_keys_are_resolved_and_bombs_end);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
