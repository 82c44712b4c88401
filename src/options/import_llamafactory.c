/* import_llamafactory.c - LLaMA-Factory's keys: its examples of today (stage, finetuning_type) and of its
 * second version (peft_config). */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/options/import_rules.h"

/* Names stand in dataset_info.json of dataset_dir; they are taken as files there: NAME.json. Names with a
 * suffix are paths. */
static void take_data(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    const char *dir = qs_import_value(s, "dataset_dir"),
               *option = strncmp(key, "eval", 4) == 0 ? "eval_data" : "data";
    if (!*dir) dir = "data";
    for (const char *v = entry->value; *v;) {
        v += strspn(v, " ,");
        size_t n = strcspn(v, ",");
        while (n && v[n - 1] == ' ') n--;
        char *name = qs_strndup(v, n);
        char *path = strpbrk(name, "./") ? qs_strdup(name) : qs_printf("%s/%s.json", dir, name);
        if (n) qs_import_add_path(s, entry, option, path);
        qs_free(path);
        qs_free(name);
        v += n;
        v += strspn(v, " ,");
    }
}

static void take_template(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    static const char names[] = "llama3=llama3|llama2=llama2|qwen=qwen2.5|qwen3=qwen3|alpaca=alpaca|chatml="
                                "chatml|gemma=gemma|mistral=mistral-v3|phi=phi3|phi4=phi4|vicuna=vicuna|"
                                "zephyr=zephyr|default=auto|empty=none|qwen3_nothink=auto";
    size_t n = strlen(entry->value);
    for (const char *v = names; *v;) {
        size_t m = strcspn(v, "|"), equals = strcspn(v, "=");
        if (equals == n && strncmp(v, entry->value, n) == 0) {
            char *ours = qs_strndup(v + equals + 1, m - equals - 1);
            qs_import_set(s, entry, "chat_template", ours);
            qs_free(ours);
            return;
        }
        v += m + (v[m] == '|');
    }
    qs_import_not(s, entry->path, entry->value, "remove it: the model's own template is then taken");
}

static const qs_import_rule rules[] = {
    {"model", IMPORT_TAKE, .to = "model"},
    {"adapter_name_or_path peft_config.adapter_name_or_path", IMPORT_TAKE, .to = "init_adapter"},
    {"stage", IMPORT_ONLY, .values = "sft",
     .note = "only supervised fine-tuning (sft) is done here; for pt give text files or text_column"},
    {"finetuning_type", IMPORT_ONLY, .values = "lora",
     .note = "only adapters are trained: say finetuning_type: lora"},
    {"peft_config.name", IMPORT_ONLY, .values = "lora", .note = "only adapters are trained: say lora"},
    {"dataset eval_dataset", IMPORT_CALL, .call = take_data},
    {"train_dataset", IMPORT_TAKE, .to = "data"},
    {"dataset_dir", IMPORT_FINE, .note = "taken with the names of data sets"},
    {"media_dir", IMPORT_NOT, .note = "only text can be trained on"},
    {"template", IMPORT_CALL, .call = take_template},
    {"cutoff_len", IMPORT_TAKE, .to = "max_seq_length"},
    {"max_samples", IMPORT_NOT,
     .note = "all rows are taken: write those that are meant into a file, or give a weight (FILE:0.1), and "
             "remove it"},
    {"val_size", IMPORT_TAKE, .to = "val_set_size"},
    {"packing", IMPORT_TAKE, .to = "packing"},
    {"neat_packing batching_strategy", IMPORT_FINE,
     .note = "packed rows attend to themselves alone, and nothing is padded"},
    {"train_on_prompt", IMPORT_TAKE, .to = "train_on_inputs"},
    {"mask_history", IMPORT_ONLY, .values = "false",
     .note = "mark the answers that are context only with \"train\": false"},
    {"streaming buffer_size tokenized_path preprocessing_batch_size cache_dir model_revision hf_hub_token "
     "disable_gradient_checkpointing upcast_layernorm "
     "upcast_lmhead_output enable_liger_kernel use_unsloth use_unsloth_gc shift_attn sample_backend "
     "model_class max_new_tokens infer_backend infer_dtype "
     "kernel_config.* dist_config.* init_config.* kt_config.* use_kt kt_cpu_activation kt_weight_path "
     "kt_non_expert_weight_path cp_size cp_mode ray_num_workers ray_run_name "
     "resources_per_worker.* placement_strategy flash_attn rope_scaling_type quantization_device_map "
     "peft_config.export_dir peft_config.export_size peft_config.infer_dtype",
     IMPORT_FINE, .note = "how it is computed and placed is ours"},
    {"lora_rank peft_config.r", IMPORT_TAKE, .to = "lora_r"},
    {"lora_alpha peft_config.lora_alpha", IMPORT_TAKE, .to = "lora_alpha"},
    {"lora_dropout peft_config.lora_dropout", IMPORT_TAKE, .to = "lora_dropout"},
    {"lora_target peft_config.target_modules", IMPORT_TAKE, .to = "target_modules"},
    {"use_rslora", IMPORT_TAKE, .to = "use_rslora"},
    {"loraplus_lr_ratio", IMPORT_TAKE, .to = "loraplus_lr_ratio"},
    {"loraplus_lr_embedding", IMPORT_FINE, .note = "the embeddings have no adapters"},
    {"quantization_bit quant_config.quantization_bit", IMPORT_TAKE, .to = "quant_type", .values = "4=nf4"},
    {"quantization_type", IMPORT_TAKE, .to = "quant_type"},
    {"quantization_method quant_config.name", IMPORT_ONLY, .values = "bnb|bitsandbytes",
     .note = "bases are quantised to NF4 here; say bnb"},
    {"double_quantization", IMPORT_TAKE, .to = "double_quant"},
    {"micro_batch_size", IMPORT_TAKE, .to = "per_device_train_batch_size"},
    {"global_batch_size", IMPORT_NOT, .note = "say gradient_accumulation_steps"},
    {"freeze_vision_tower freeze_multi_modal_projector freeze_language_model", IMPORT_ONLY, .values = "true",
     .note = "only the language model's adapters are trained"},
    {"image_max_pixels image_min_pixels video_max_pixels video_min_pixels video_fps video_maxlen", IMPORT_NOT,
     .note = "only text can be trained on"},
    {"use_dora pissa_init pissa_convert pissa_iter "
     "create_new_adapter additional_target use_galore galore_rank galore_scale galore_target "
     "galore_layerwise use_apollo apollo_rank apollo_scale apollo_scale_type apollo_target apollo_layerwise "
     "use_badam badam_mode badam_switch_mode badam_switch_interval "
     "badam_verbose use_adam_mini use_muon use_llama_pro mixture_of_depths use_dft_loss use_asft_loss "
     "asft_alpha use_eaft_loss oft_block_size oft_target oft_rank "
     "freeze_trainable_layers freeze_trainable_modules freeze_extra_modules "
     "peft_config.freeze_trainable_layers peft_config.freeze_trainable_modules "
     "peft_config.freeze_extra_modules fp8 fp8_backend fp8_enable_fsdp_float8_all_gather moe_aux_loss_coef "
     "add_tokens add_special_tokens "
     "new_special_tokens_config resize_vocab rope_scaling",
     IMPORT_ONLY, .values = "false|none", .note = "is not done here; remove it"},
    {"pref_beta pref_loss pref_ftx ref_model reward_model kto_chosen_weight kto_rejected_weight "
     "dpo_label_smoothing simpo_gamma",
     IMPORT_NOT, .note = "preferences are not trained on; use another trainer"},
    {"optim_config.name", IMPORT_ONLY, .values = "adamw", .note = "say optim: adamw_torch"},
    {"optim_config.*", IMPORT_NOT, .note = "say learning_rate, weight_decay, adam_beta1, ..."},
    {"new_special_tokens_config.* <|*", IMPORT_NOT, .note = "tokens cannot be added; remove it"},
    {0},
};

static const qs_import_rule *const tables[] = {rules, qs_import_hf_rules, NULL};

/* Its arguments, and transformers' TrainingArguments. */
static const qs_import_default defaults[] = {{"max_seq_length", "2048"},
                                             {"packing", "false"},
                                             {"per_device_train_batch_size", "8"},
                                             {"gradient_accumulation_steps", "1"},
                                             {"num_train_epochs", "3"},
                                             {"learning_rate", "5e-5"},
                                             {"lr_scheduler_type", "linear"},
                                             {"warmup_ratio", "0"},
                                             {"optim", "adamw_torch"},
                                             {"max_grad_norm", "1.0"},
                                             {"lora_r", "8"},
                                             {"quant_type", "none"},
                                             {0}};

static void finish(qs_import_state *s)
{
    const char *r = qs_import_got(s, "lora_r");
    char twice[32];
    snprintf(twice, sizeof twice, "%ld", 2 * (r ? strtol(r, NULL, 10) : 8));
    if (!qs_import_got(s, "lora_alpha")) qs_import_set(s, NULL, "lora_alpha", twice); /* its default */
    if (!*qs_import_value(s, "finetuning_type") && !*qs_import_value(s, "peft_config.name") &&
        !*qs_import_value(s, "stage"))
        qs_import_not(s, "peft_config", "unset",
                      "all weights would be trained, which is not done here: say name: lora under it");
}

const qs_import_trainer qs_import_llamafactory = {
    "LLaMA-Factory",
    "stage finetuning_type cutoff_len template dataset_dir max_samples overwrite_cache lora_rank lora_target "
    "quantization_bit plot_loss peft_config kernel_config "
    "train_dataset model_class dist_config init_config sample_backend preprocessing_num_workers",
    tables, defaults, finish};
