/* import_torchtune.c - torchtune's recipes: components by name under model, dataset, optimizer, ... */
#include <stdio.h>
#include <string.h>

#include "src/options/import_rules.h"

/* "torchtune.models.llama3_1.qlora_llama3_1_8b": QLoRA, LoRA in 16 bits, or all weights. */
static void take_model(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    const char *name = strrchr(entry->value, '.');
    name = name ? name + 1 : entry->value;
    if (strncmp(name, "qlora_", 6) == 0) return qs_import_set(s, entry, "quant_type", "nf4");
    if (strncmp(name, "lora_", 5) == 0) return qs_import_set(s, entry, "quant_type", "none");
    qs_import_not(s, entry->path, entry->value,
                  "all weights would be trained, which is not done here: name the qlora_ or lora_ model");
}

static void take_targets(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    bool mlp = qs_import_is_true(qs_import_value(s, "model.apply_lora_to_mlp"));
    char list[512] = "";
    for (const char *v = entry->value; *v;) {
        size_t n = strcspn(v, ","), used = strlen(list);
        bool out = n == 11 && strncmp(v, "output_proj", n) == 0;
        snprintf(list + used, sizeof list - used, "%s%.*s", used ? "," : "", out ? 6 : (int)n,
                 out ? "o_proj" : v);
        v += n + (v[n] == ',');
    }
    size_t used = strlen(list);
    if (mlp) snprintf(list + used, sizeof list - used, ",gate_proj,up_proj,down_proj");
    qs_import_set(s, entry, "target_modules", list);
}

static void take_optimizer(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    static const char *const names[][2] = {{"torch.optim.AdamW", "adamw_torch"},
                                           {"bitsandbytes.optim.PagedAdamW", "paged_adamw_32bit"},
                                           {"bitsandbytes.optim.PagedAdamW8bit", "paged_adamw_8bit"},
                                           {"bitsandbytes.optim.AdamW8bit", "adamw_8bit"},
                                           {"bitsandbytes.optim.AdamW", "adamw_32bit"}};
    for (int i = 0; i < 5; i++)
        if (strcmp(entry->value, names[i][0]) == 0) return qs_import_set(s, entry, "optim", names[i][1]);
    qs_import_not(s, entry->path, entry->value, "optimizers are AdamW, of torch or bitsandbytes");
}

static void take_schedule(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (strstr(entry->value, "get_cosine_schedule_with_warmup"))
        return qs_import_set(s, entry, "lr_scheduler_type", "cosine");
    qs_import_not(s, entry->path, entry->value, "say lr_scheduler_type: linear, cosine, constant, ...");
}

/* A data set that is a component has its source in its code or under `source`. */
static void take_dataset(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    const char *name = strrchr(entry->value, '.'), *source = qs_import_value(s, "dataset.source"),
               *files = qs_import_value(s, "dataset.data_files");
    name = name ? name + 1 : entry->value;
    if (strstr(name, "multimodal") || strstr(name, "cauldron") || strstr(name, "preference") ||
        strstr(name, "vqa"))
        return qs_import_not(s, entry->path, entry->value,
                             "only text is trained on, and only supervised; remove it");
    if (!qs_import_among(name, "alpaca_dataset|alpaca_cleaned_dataset|chat_dataset|instruct_dataset|text_"
                               "completion_dataset|samsum_dataset|grammar_dataset|slimorca_dataset|"
                               "wikitext_dataset|cnn_dailymail_articles_dataset"))
        return qs_import_not(s, entry->path, entry->value, "give the files as data");
    if (strstr(name, "text_completion")) {
        const char *column = qs_import_value(s, "dataset.column");
        qs_import_set(s, entry, "text_column", *column ? column : "text");
    }
    bool inputs =
        strstr(name, "alpaca") && !*qs_import_value(s, "dataset.train_on_input"); /* its default there */
    if (inputs) qs_import_set(s, NULL, "train_on_inputs", "true");
    if (*files || (*source && !qs_import_among(source, "json|csv|text")))
        return qs_import_fine(s, entry->path, "its rows are told by their columns");
    static const char *const hub[][2] = {{"alpaca_cleaned_dataset", "yahma/alpaca-cleaned"},
                                         {"alpaca_dataset", "tatsu-lab/alpaca"},
                                         {"samsum_dataset", "knkarthick/samsum"},
                                         {"slimorca_dataset", "Open-Orca/SlimOrca-Dedup"},
                                         {"grammar_dataset", "liweili/c4_200m"}};
    for (int i = 0; i < 5; i++)
        if (strcmp(name, hub[i][0]) == 0) return qs_import_add_path(s, entry, "data", hub[i][1]);
    qs_import_not(s, entry->path, entry->value,
                  "its source is in its code: download it, and give the files as data");
}

/* Training and validation on two parts of the same rows, as in train[:95%] and train[95%:]. */
static bool is_split_in_two(const qs_import_state *s, int *percent)
{
    int first = 0, second = 0;
    bool same =
        strcmp(qs_import_value(s, "dataset._component_"), qs_import_value(s, "dataset_val._component_")) == 0;
    *percent = 0;
    if (sscanf(qs_import_value(s, "dataset.split"), "train[:%d%%]", &first) != 1 ||
        sscanf(qs_import_value(s, "dataset_val.split"), "train[%d%%:]", &second) != 1)
        return false;
    *percent = 100 - first;
    return same && first == second && first > 0 && first < 100;
}

static void take_split(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    int percent;
    char share[16];
    if (strcmp(entry->value, "train") == 0)
        return qs_import_fine(s, entry->path, "all rows of the files are taken");
    if (!is_split_in_two(s, &percent))
        return qs_import_not(s, entry->path, entry->value,
                             "a part of the rows: write them into a file of their own, and remove it");
    snprintf(share, sizeof share, "0.%02d", percent);
    qs_import_set(s, entry, "val_set_size", share);
}

static void take_validation(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    int percent;
    if (is_split_in_two(s, &percent))
        return qs_import_fine(s, entry->path, "the rest of the rows: val_set_size");
    qs_import_not(s, entry->path, entry->value, "give the files as eval_data");
}

static void take_source(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (qs_import_among(entry->value, "json|csv|text"))
        return qs_import_fine(s, entry->path, "the files are in data_files");
    qs_import_add_path(s, entry, "data", entry->value);
}

static void take_files(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    qs_import_add_path(s, entry, "data", entry->value);
}

static void take_loss(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (strstr(entry->value, "CrossEntropy") || strstr(entry->value, "CEWithChunked"))
        return qs_import_fine(s, entry->path, "the loss is the cross entropy");
    qs_import_not(s, entry->path, entry->value,
                  "the loss is the cross entropy; other losses are not done here");
}

static const qs_import_rule rules[] = {
    {"output_dir", IMPORT_TAKE, .to = "out"},
    {"model._component_", IMPORT_CALL, .call = take_model},
    {"model.lora_attn_modules", IMPORT_CALL, .call = take_targets},
    {"model.apply_lora_to_mlp", IMPORT_FINE, .note = "taken with lora_attn_modules"},
    {"model.apply_lora_to_output", IMPORT_ONLY, .values = "false",
     .note = "the head gets no adapter; say false"},
    {"model.lora_rank", IMPORT_TAKE, .to = "lora_r"},
    {"model.lora_alpha", IMPORT_TAKE, .to = "lora_alpha"},
    {"model.lora_dropout", IMPORT_TAKE, .to = "lora_dropout"},
    {"model.use_dora", IMPORT_ONLY, .values = "false", .note = "is not done here; remove it"},
    {"model.*", IMPORT_NOT, .note = "only language models with LoRA adapters are trained; remove it"},
    {"checkpointer.checkpoint_dir", IMPORT_TAKE, .to = "model"},
    {"checkpointer.adapter_checkpoint", IMPORT_NOT, .note = "give a PEFT adapter's folder as init_adapter"},
    {"checkpointer.*", IMPORT_FINE, .note = "the model's folder says what it is"},
    {"tokenizer.max_seq_len", IMPORT_TAKE, .to = "max_seq_length"},
    {"tokenizer.prompt_template", IMPORT_NOT, .note = "say chat_template"},
    {"tokenizer.image_size tokenizer.max_num_tiles", IMPORT_NOT,
     .note = "only text is trained on; remove it"},
    {"tokenizer.*", IMPORT_FINE, .note = "the model's folder says what it is"},
    {"dataset._component_", IMPORT_CALL, .call = take_dataset},
    {"dataset.source", IMPORT_CALL, .call = take_source},
    {"dataset.data_files", IMPORT_CALL, .call = take_files},
    {"dataset.packed", IMPORT_TAKE, .to = "packing"},
    {"dataset.train_on_input", IMPORT_TAKE, .to = "train_on_inputs"},
    {"dataset.column", IMPORT_FINE, .note = "taken with the component"},
    {"dataset.split", IMPORT_CALL, .call = take_split},
    {"dataset.conversation_column dataset.conversation_style dataset.column_map.*", IMPORT_FINE,
     .note = "rows are told by their columns"},
    {"dataset.new_system_prompt", IMPORT_NOT, .note = "write it into the rows as system"},
    {"dataset.*", IMPORT_NOT, .note = "is not done here; remove it"},
    {"dataset_val.*", IMPORT_CALL, .call = take_validation},
    {"datasets[].*", IMPORT_NOT, .note = "give the files as data"},
    {"collate_fn dataloader.*", IMPORT_FINE, .note = "nothing is padded"},
    {"seed", IMPORT_TAKE, .to = "seed"},
    {"shuffle", IMPORT_TAKE, .to = "shuffle"},
    {"batch_size", IMPORT_TAKE, .to = "per_device_train_batch_size"},
    {"batch_size_val run_val_every_n_steps", IMPORT_FINE, .note = "say eval_steps"},
    {"optimizer._component_", IMPORT_CALL, .call = take_optimizer},
    {"optimizer.lr", IMPORT_TAKE, .to = "learning_rate"},
    {"optimizer.weight_decay", IMPORT_TAKE, .to = "weight_decay"},
    {"optimizer.eps", IMPORT_TAKE, .to = "adam_epsilon"},
    {"optimizer.fused", IMPORT_FINE, .note = "of no effect on the result"},
    {"optimizer.*", IMPORT_NOT, .note = "say adam_beta1, adam_beta2, adam_epsilon"},
    {"lr_scheduler._component_", IMPORT_CALL, .call = take_schedule},
    {"lr_scheduler.num_warmup_steps", IMPORT_TAKE, .to = "warmup_steps"},
    {"lr_scheduler.num_cycles", IMPORT_TAKE, .to = "lr_num_cycles"},
    {"loss._component_", IMPORT_CALL, .call = take_loss},
    {"loss.num_output_chunks", IMPORT_FINE, .note = "the head is tiled here"},
    {"loss.* kd_loss.* kd_ratio teacher_model.* teacher_checkpointer.* policy_model.* "
     "ref_policy_checkpointer.* ref_checkpointer.* reward_and_value_model.* reward_checkpointer.* "
     "policy_checkpointer.* value_checkpointer.* reward_penalty ppo_epochs ppo_batch_size forward_batch_size "
     "grpo_samples max_generated_tokens temperature top_k gamma lmbda kl_coeff "
     "min_response_length penalise_no_eos stop_token_ids whiten_rewards enable_kv_cache num_steps "
     "base_model_path name save_every_n_epochs",
     IMPORT_NOT, .note = "another kind of training; only supervised fine-tuning is done here"},
    {"epochs", IMPORT_TAKE, .to = "num_train_epochs"},
    {"max_steps_per_epoch", IMPORT_NOT, .note = "say max_steps"},
    {"gradient_accumulation_steps", IMPORT_TAKE, .to = "gradient_accumulation_steps"},
    {"clip_grad_norm", IMPORT_TAKE, .to = "max_grad_norm"},
    {"resume_from_checkpoint", IMPORT_TAKE, .to = "resume"},
    {"dtype", IMPORT_TAKE, .to = "compute_dtype"},
    {"device", IMPORT_TAKE, .to = "device"},
    {"log_every_n_steps", IMPORT_TAKE, .to = "logging_steps"},
    {"optimizer_in_bwd", IMPORT_ONLY, .values = "false",
     .note = "steps take the whole gradient here; say false"},
    {"quantizer.* custom_quantizer.*", IMPORT_NOT,
     .note = "quantisation-aware training is not done here; remove it"},
    {"compile enable_activation_checkpointing enable_activation_offloading activation_offloading_use_streams "
     "ac_mode ac_option custom_sharded_layers low_cpu_ram "
     "memory_efficient_fsdp_wrap fsdp_cpu_offload fsdp_reshard_after_forward fsdp.* tensor_parallel_dim "
     "tensor_parallel_plan.* data_parallel_replicate_dim "
     "data_parallel_shard_dim save_adapter_weights_only log_peak_memory_stats log_level metric_logger.* "
     "profiler.* cudnn_deterministic_mode use_bsh "
     "checkpoint_interval enable_async_checkpointing context_parallel_dim",
     IMPORT_FINE, .note = "how it is computed, placed and reported is ours"},
    {0},
};

static const qs_import_rule *const tables[] = {rules, NULL};

static const qs_import_default defaults[] = {{"packing", "false"},
                                             {"warmup_ratio", "0"},
                                             {"lr_scheduler_type", "constant"},
                                             {"max_grad_norm", "0"},
                                             {"double_quant", "true"},
                                             {"lora_r", "8"},
                                             {"lora_alpha", "16"},
                                             {"gradient_accumulation_steps", "1"},
                                             {0}};

const qs_import_trainer qs_import_torchtune = {
    "torchtune",
    "checkpointer tokenizer metric_logger dataset optimizer loss enable_activation_checkpointing profiler "
    "model log_peak_memory_stats",
    tables, defaults, NULL};
