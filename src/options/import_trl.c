/* import_trl.c - TRL's SFT scripts and command line, and the alignment handbook, which uses them. */
#include <stdio.h>
#include <string.h>

#include "src/options/import_rules.h"

static void take_data(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    qs_import_add_path(s, entry, "data", entry->value);
}

/* A mixture's weights are shares of the rows taken. */
static void take_mixture(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    char name[256];
    const char *end = strrchr(entry->path, ']');
    snprintf(name, sizeof name, "%.*s.weight", (int)(end + 1 - entry->path), entry->path);
    const char *weight = qs_import_value(s, name);
    bool one = !*weight || qs_import_among(weight, "1|1.0");
    char path[1024];
    snprintf(path, sizeof path, "%s%s%s", entry->value, one ? "" : ":", one ? "" : weight);
    qs_import_add_path(s, entry, "data", path);
}

/* An optional part of a hub data set. */
static void take_split(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (strncmp(entry->value, "train", 5) == 0)
        return qs_import_fine(s, entry->path, "all rows of the files are taken");
    qs_import_fine(s, entry->path, "give the files that are meant");
}

static void take_peft(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (qs_import_is_true(entry->value)) qs_import_fine(s, entry->path, "an adapter is what is trained");
}

static const qs_import_rule rules[] = {
    {"dataset_name dataset_path", IMPORT_CALL, .call = take_data},
    {"dataset_mixture.datasets[].id dataset_mixture.datasets[].path datasets[].path", IMPORT_CALL,
     .call = take_mixture},
    {"dataset_mixture.datasets[].weight datasets[].weight", IMPORT_FINE, .note = "taken with the path"},
    {"dataset_mixture.datasets[].split datasets[].split dataset_train_split dataset_test_split "
     "dataset_splits",
     IMPORT_CALL, .call = take_split},
    {"dataset_mixture.datasets[].config datasets[].name dataset_config dataset_configs "
     "dataset_mixture.datasets[].columns datasets[].columns dataset_streaming streaming "
     "dataset_mixture.streaming",
     IMPORT_FINE, .note = "give the files that are meant; columns show what rows are"},
    {"dataset_mixture.test_split_size test_split_size", IMPORT_TAKE, .to = "val_set_size"},
    {"dataset_mixture.seed", IMPORT_FINE, .note = "seed says it"},
    {"dataset_mixer.*", IMPORT_NOT, .note = "name the files under data, each with its weight (FILE:0.5)"},
    {"dataset_text_field", IMPORT_ONLY, .values = "text", .note = "say text_column instead"},
    {"dataset_kwargs.* dataset_batch_size", IMPORT_FINE,
     .note = "BOS and EOS are put once, where the tokenizer and template have them"},
    {"max_length max_seq_length", IMPORT_TAKE, .to = "max_seq_length"},
    {"truncation_mode", IMPORT_ONLY, .values = "keep_start",
     .note = "long rows keep their beginning (or say overlong); remove it"},
    {"packing", IMPORT_TAKE, .to = "packing"},
    {"packing_strategy eval_packing padding_free pad_to_multiple_of pad_token", IMPORT_FINE,
     .note = "nothing is padded, and packed rows attend to themselves alone"},
    {"assistant_only_loss", IMPORT_TAKE, .to = "train_on_inputs", .values = "true=false|false=true"},
    {"completion_only_loss", IMPORT_TAKE, .to = "train_on_inputs", .values = "true=false|false=true"},
    {"chat_template_path", IMPORT_NOT,
     .note = "put the template into the model's folder as chat_template.jinja, and remove it"},
    {"chat_template", IMPORT_NOT,
     .note = "put the template into the model's folder as chat_template.jinja, and remove it"},
    {"eos_token", IMPORT_NOT, .note = "set it in the model's tokenizer_config.json, and remove it"},
    {"loss_type", IMPORT_ONLY, .values = "nll",
     .note = "the loss is the cross entropy; preferences are not trained on"},
    {"beta max_prompt_length max_completion_length ref_model precompute_ref_log_probs reward_model_path "
     "reward_funcs num_generations",
     IMPORT_NOT, .note = "preferences and rewards are not trained on; use another trainer"},
    {"activation_offloading", IMPORT_FINE, .note = "activations go where there is room"},
    {"use_peft", IMPORT_CALL, .call = take_peft},
    {"lora_r", IMPORT_TAKE, .to = "lora_r"},
    {"lora_alpha", IMPORT_TAKE, .to = "lora_alpha"},
    {"lora_dropout", IMPORT_TAKE, .to = "lora_dropout"},
    {"lora_target_modules", IMPORT_TAKE, .to = "target_modules"},
    {"lora_modules_to_save lora_target_parameters", IMPORT_NOT,
     .note = "only linear layers get adapters; embeddings are not trained"},
    {"lora_task_type", IMPORT_ONLY, .values = "CAUSAL_LM", .note = "only causal language models are trained"},
    {"use_rslora", IMPORT_TAKE, .to = "use_rslora"},
    {"use_dora load_in_8bit", IMPORT_ONLY, .values = "false",
     .note = "is not done here; remove it (4 bits: load_in_4bit)"},
    {"load_in_4bit", IMPORT_TAKE, .to = "quant_type", .values = "true=nf4|false=none"},
    {"bnb_4bit_quant_type", IMPORT_TAKE, .to = "quant_type"},
    {"use_bnb_nested_quant", IMPORT_TAKE, .to = "double_quant"},
    {"model_revision model_code_revision tokenizer_name_or_path", IMPORT_FINE,
     .note = "the model's folder says what it is"},
    {"env.*", IMPORT_FINE, .note = "the environment is the shell's"},
    {0},
};

static const qs_import_rule *const tables[] = {rules, qs_import_hf_rules, NULL};

/* SFTConfig, ModelConfig and TrainingArguments. */
static const qs_import_default defaults[] = {{"max_seq_length", "1024"},
                                             {"packing", "false"},
                                             {"per_device_train_batch_size", "8"},
                                             {"gradient_accumulation_steps", "1"},
                                             {"num_train_epochs", "3"},
                                             {"learning_rate", "2e-5"},
                                             {"lr_scheduler_type", "linear"},
                                             {"warmup_ratio", "0"},
                                             {"optim", "adamw_torch"},
                                             {"max_grad_norm", "1.0"},
                                             {"lora_r", "16"},
                                             {"lora_alpha", "32"},
                                             {"lora_dropout", "0.05"},
                                             {"quant_type", "none"},
                                             {"double_quant", "false"},
                                             {0}};

static void finish(qs_import_state *s)
{
    if (!qs_import_is_true(qs_import_value(s, "use_peft")))
        qs_import_not(s, "use_peft", "unset",
                      "all weights would be trained, which is not done here: say use_peft: true");
    if (!qs_import_got(s, "train_on_inputs"))
        qs_import_fine(s, "(loss)",
                       "only answers are trained on here; TRL trains on whole conversations unless "
                       "assistant_only_loss: true: say train_on_inputs: true for that");
}

const qs_import_trainer qs_import_trl = {
    "TRL",
    "model_name_or_path dataset_name dataset_mixture dataset_mixer dataset_train_split use_peft "
    "dataset_text_field max_length dataset_num_proc torch_dtype "
    "gradient_checkpointing_kwargs eval_strategy push_to_hub hub_model_id attn_implementation "
    "assistant_only_loss lora_target_modules report_to per_device_train_batch_size",
    tables, defaults, finish};
