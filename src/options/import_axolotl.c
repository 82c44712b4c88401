/* import_axolotl.c - axolotl's keys (its schema, and what its examples hold). */
#include <stdlib.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/options/import_rules.h"

/* ---- data sets --------------------------------------------------------------------------------------- */

/* The path of the entry that a key belongs to: "datasets[2]" of "datasets[2].type". */
static void entry_path(const char *path, const char *more, char *out, size_t bytes)
{
    const char *end = strrchr(path, ']');
    snprintf(out, bytes, "%.*s%s", end ? (int)(end + 1 - path) : 0, path, more);
}

static const char *sibling(const qs_import_state *s, const char *path, const char *more)
{
    char name[256];
    entry_path(path, more, name, sizeof name);
    return qs_import_value(s, name);
}

static const char *option_of(const char *key)
{
    return strncmp(key, "test_datasets", 13) == 0 ? "eval_data" : "data";
}

/* A path, unless it is a loader's name ("json") beside data_files. */
static void take_path(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    const char *files = sibling(s, entry->path, ".data_files");
    if (*files && qs_import_among(entry->value, "json|csv|text|parquet"))
        return qs_import_fine(s, entry->path, "the files are in data_files");
    if (*files) {
        /* Files of a folder or of a data set on the hub. */
        for (const char *f = files; *f;) {
            size_t n = strcspn(f, ",");
            char *path = qs_printf("%s/%.*s", entry->value, (int)n, f);
            qs_import_add_path(s, entry, option_of(key), path);
            qs_free(path);
            f += n + (f[n] == ',');
        }
        return;
    }
    qs_import_add_path(s, entry, option_of(key), entry->value);
}

static void take_files(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (!qs_import_among(sibling(s, entry->path, ".path"), "json|csv|text|parquet"))
        return qs_import_fine(s, entry->path, "taken with the path");
    for (const char *f = entry->value; *f;) {
        size_t n = strcspn(f, ",");
        char *path = qs_strndup(f, n);
        qs_import_add_path(s, entry, option_of(key), path);
        qs_free(path);
        f += n + (f[n] == ',');
    }
}

/* A list of names alone: datasets: [a.jsonl]. */
static void take_paths(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    for (const char *f = entry->value; *f;) {
        size_t n = strcspn(f, ",");
        char *path = qs_strndup(f, n);
        qs_import_add_path(s, entry, option_of(key), path);
        qs_free(path);
        f += n + (f[n] == ',');
    }
}

static void take_type(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    const char *type = entry->value, *field = sibling(s, entry->path, ".field");
    if (qs_import_among(type, "chat_template|chat_template.default|sharegpt|sharegpt.load_role|openai_chat"))
        return qs_import_fine(s, entry->path, "conversations are told by their columns");
    if (qs_import_among(type, "completion|pretrain"))
        return qs_import_set(s, entry, "text_column", *field ? field : "text");
    if (qs_import_among(type, "alpaca|alpaca_w_system.load_open_orca|alpaca_w_system"))
        return qs_import_set(s, entry, "chat_template", "alpaca-axolotl");
    qs_import_not(
        s, entry->path, type,
        "types are chat_template, alpaca and completion; write the rows as messages and remove the type");
}

static void take_split(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (strncmp(entry->value, "train", 5) == 0 && !entry->value[5])
        return qs_import_fine(s, entry->path, "all rows of the files are taken");
    qs_import_not(s, entry->path, entry->value,
                  "a part of the rows: write them into a file of their own, or give a weight (FILE:0.1), and "
                  "remove it");
}

static void take_roles(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    const char *role = strrchr(key, '.') + 1;
    static const char *const known[][2] = {{"user", "user|human"},
                                           {"assistant", "assistant|gpt|model|chatgpt"},
                                           {"system", "system"},
                                           {"tool", "tool"}};
    for (const char *v = entry->value; *v;) {
        size_t n = strcspn(v, ",");
        char *one = qs_strndup(v, n);
        bool fine = false;
        for (int i = 0; i < 4; i++)
            fine |= strcmp(known[i][0], role) == 0 && qs_import_among(one, known[i][1]);
        qs_free(one);
        if (!fine)
            return qs_import_not(
                s, entry->path, entry->value,
                "roles are user (human), assistant (gpt), system and tool; rename them in the data");
        v += n + (v[n] == ',');
    }
    qs_import_fine(s, entry->path, "these roles are known");
}

#define DATA(field) "datasets[]." field " test_datasets[]." field " pretraining_dataset[]." field

static const qs_import_rule datasets[] = {
    {"datasets test_datasets datasets[] test_datasets[]", IMPORT_CALL, .call = take_paths},
    {DATA("path"), IMPORT_CALL, .call = take_path},
    {DATA("data_files"), IMPORT_CALL, .call = take_files},
    {DATA("type"), IMPORT_CALL, .call = take_type},
    {DATA("split"), IMPORT_CALL, .call = take_split},
    {DATA("ds_type") " " DATA("revision") " " DATA("trust_remote_code") " " DATA("preprocess_shards"),
     IMPORT_FINE, .note = "a file shows what it is"},
    {DATA("name"), IMPORT_NOT,
     .note = "a configuration of a hub data set: download its files, give them as path, and remove it"},
    {DATA("field") " " DATA("text_column"), IMPORT_FINE, .note = "taken with type: completion"},
    {DATA("field_messages"), IMPORT_ONLY, .values = "messages|conversations|conversation",
     .note = "name the column messages in the data"},
    {DATA("field_system"), IMPORT_ONLY, .values = "system|system_prompt",
     .note = "name the column system in the data"},
    {DATA("field_tools"), IMPORT_ONLY, .values = "tools", .note = "name the column tools in the data"},
    {DATA("field_instruction"), IMPORT_ONLY, .values = "instruction|question|query",
     .note = "name the column instruction in the data"},
    {DATA("field_input"), IMPORT_ONLY, .values = "input|context",
     .note = "name the column input in the data"},
    {DATA("field_output"), IMPORT_ONLY, .values = "output|response|answer",
     .note = "name the column output in the data"},
    {DATA("message_property_mappings.role") " " DATA("message_field_role"), IMPORT_ONLY,
     .values = "role|from", .note = "name it role in the data"},
    {DATA("message_property_mappings.content") " " DATA("message_field_content"), IMPORT_ONLY,
     .values = "content|value", .note = "name it content in the data"},
    {DATA("message_field_training"), IMPORT_ONLY, .values = "train|training|loss|weight",
     .note = "name it train in the data"},
    {DATA("message_field_training_detail"), IMPORT_NOT,
     .note = "parts of a text cannot be masked; split it into messages, and remove it"},
    {DATA("field_thinking") " " DATA("template_thinking_key"), IMPORT_ONLY,
     .values = "reasoning_content|thinking|reasoning", .note = "name it reasoning_content in the data"},
    {DATA("roles.user") " " DATA("roles.assistant") " " DATA("roles.system") " " DATA("roles.tool"),
     IMPORT_CALL, .call = take_roles},
    {DATA("roles_to_train"), IMPORT_ONLY, .values = "assistant|gpt",
     .note = "the assistant's messages are trained on (all, with train_on_inputs); remove it"},
    {DATA("train_on_eos") " " DATA("train_on_eot"), IMPORT_ONLY, .values = "turn",
     .note = "the end of every trained turn is trained; remove it"},
    {DATA("chat_template"), IMPORT_ONLY, .values = "tokenizer_default",
     .note = "one template for all data: chat_template at the top"},
    {DATA("drop_system_message"), IMPORT_ONLY, .values = "false",
     .note = "remove the system messages from the data"},
    {DATA("step_separator") " " DATA("max_completion_length") " " DATA("train_on_last_step_only"), IMPORT_NOT,
     .note = "of rewards; only supervised fine-tuning is done here"},
    {DATA("shards") " " DATA("shards_idx"), IMPORT_NOT,
     .note = "give a weight (FILE:0.1) for a share of the rows, and remove it"},
    {"rl reward_model process_reward_model kto_desirable_weight kto_undesirable_weight orpo_alpha rl_beta "
     "dpo_beta simpo_gamma cpo_alpha num_labels "
     "center_rewards_coefficient",
     IMPORT_ONLY, .values = "none|false",
     .note = "only supervised fine-tuning is done here; use another trainer for preferences and rewards"},
    {"datasets[].field_chosen datasets[].field_rejected", IMPORT_NOT,
     .note = "preference data; only supervised fine-tuning is done here"},
    {"ebft.* trl.* vllm.* diffusion.* qat.* llmcompressor.* dynamic_checkpoint.*", IMPORT_NOT,
     .note = "another kind of training; remove it"},
    {0},
};

/* ---- the rest ---------------------------------------------------------------------------------------- */

static void take_adapter(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (qs_import_among(entry->value, "qlora|lora"))
        return qs_import_fine(s, entry->path, "an adapter is what is trained");
    qs_import_not(s, entry->path, entry->value, "adapters are lora and qlora");
}

/* chat_template: ours by name, or the model's own. */
static void take_template(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    static const char names[] = "alpaca=alpaca-axolotl|chatml=chatml|llama3=llama3|llama2=llama2|mistral_v1="
                                "mistral-v1|mistral_v2v3=mistral-v3|"
                                "mistral_v3_tekken=mistral-tekken|mistral_v7_tekken=mistral-v7-tekken|gemma="
                                "gemma|phi_3=phi3|phi_35=phi3|qwen_25=qwen2.5|qwen3=qwen3|"
                                "tokenizer_default=auto|inst=mistral-v1|vicuna=vicuna|zephyr=zephyr";
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
    qs_import_not(
        s, entry->path, entry->value,
        "remove it (the model's own template is then taken), or name one: auto, chatml, llama3, ...");
}

/* A count of steps, or below 1 a share of them all. */
static void take_warmup(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    double v = strtod(entry->value, NULL);
    qs_import_set(s, entry, v > 0 && v < 1 ? "warmup_ratio" : "warmup_steps", entry->value);
}

/* batch_size is the whole step's: micro_batch_size times the steps that are accumulated. */
static void take_batch(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    long batch = strtol(entry->value, NULL, 10),
         micro = strtol(qs_import_value(s, "micro_batch_size"), NULL, 10);
    if (*qs_import_value(s, "gradient_accumulation_steps"))
        return qs_import_fine(s, entry->path, "gradient_accumulation_steps says it");
    if (micro < 1 || batch < micro || batch % micro)
        return qs_import_not(s, entry->path, entry->value, "say gradient_accumulation_steps instead");
    char text[32];
    snprintf(text, sizeof text, "%ld", batch / micro);
    qs_import_set(s, entry, "gradient_accumulation_steps", text);
}

static const qs_import_rule others[] = {
    {"base_model", IMPORT_TAKE, .to = "model"},
    {"adapter", IMPORT_CALL, .call = take_adapter},
    {"lora_model_dir", IMPORT_TAKE, .to = "init_adapter"},
    {"sequence_len", IMPORT_TAKE, .to = "max_seq_length"},
    {"sample_packing", IMPORT_TAKE, .to = "packing"},
    {"max_packed_sequence_len", IMPORT_FINE, .note = "sequence_len says it"},
    {"micro_batch_size", IMPORT_TAKE, .to = "per_device_train_batch_size"},
    {"batch_size", IMPORT_CALL, .call = take_batch},
    {"num_epochs", IMPORT_TAKE, .to = "num_train_epochs"},
    {"optimizer", IMPORT_TAKE, .to = "optim"},
    {"lr_scheduler", IMPORT_TAKE, .to = "lr_scheduler_type"},
    {"cosine_min_lr_ratio cosine_constant_lr_ratio", IMPORT_ONLY, .values = "0|0.0",
     .note = "say lr_scheduler: cosine_with_min_lr and lr_min_ratio"},
    {"warmup_steps", IMPORT_CALL, .call = take_warmup},
    {"adam_eps", IMPORT_TAKE, .to = "adam_epsilon"},
    {"lora_r", IMPORT_TAKE, .to = "lora_r"},
    {"lora_alpha", IMPORT_TAKE, .to = "lora_alpha"},
    {"lora_dropout", IMPORT_TAKE, .to = "lora_dropout"},
    {"lora_target_modules", IMPORT_TAKE, .to = "target_modules"},
    {"lora_target_linear", IMPORT_TAKE, .to = "target_modules", .values = "true=all-linear|false="},
    {"peft_use_rslora", IMPORT_TAKE, .to = "use_rslora"},
    {"loraplus_lr_ratio", IMPORT_TAKE, .to = "loraplus_lr_ratio"},
    {"loraplus_lr_embedding", IMPORT_FINE, .note = "the embeddings have no adapters"},
    {"peft_use_dora peft.loftq_config.*", IMPORT_ONLY, .values = "false",
     .note = "is not done here; remove it"},
    {"lora_modules_to_save lora_target_parameters", IMPORT_NOT,
     .note = "only linear layers get adapters; embeddings and expert parameters are not trained"},
    {"lora_fan_in_fan_out", IMPORT_ONLY, .values = "false",
     .note = "weights are stored as the model has them; remove it"},
    {"load_in_4bit", IMPORT_TAKE, .to = "quant_type", .values = "true=nf4|false=none"},
    {"load_in_8bit", IMPORT_ONLY, .values = "false",
     .note = "say load_in_4bit: true; 8-bit bases are not read"},
    {"bnb_config_kwargs.bnb_4bit_use_double_quant", IMPORT_TAKE, .to = "double_quant"},
    {"bnb_config_kwargs.bnb_4bit_quant_type", IMPORT_TAKE, .to = "quant_type"},
    {"gptq gptq_groupsize gptq_model_v1 gptq_disable_exllama model_quantization_config "
     "model_quantization_config_kwargs.*",
     IMPORT_ONLY, .values = "false", .note = "the base must be a 16-bit or bitsandbytes checkpoint"},
    {"train_on_inputs", IMPORT_TAKE, .to = "train_on_inputs"},
    {"chat_template", IMPORT_CALL, .call = take_template},
    {"excess_length_strategy", IMPORT_TAKE, .to = "overlong", .values = "raise=error"},
    {"eot_tokens", IMPORT_FINE, .note = "the end of a turn is the template's own"},
    {"default_system_message", IMPORT_NOT, .note = "write it into the rows as system"},
    {"val_set_size", IMPORT_TAKE, .to = "val_set_size"},
    {"evals_per_epoch saves_per_epoch", IMPORT_FINE,
     .note = "without effect on the result; say eval_steps and save_steps"},
    {"early_stopping_patience", IMPORT_FINE,
     .note = "without effect until it stops the run; metrics.jsonl tells which checkpoint is best"},
    {"model_type tokenizer_type processor_type is_llama_derived_model is_falcon_derived_model "
     "is_mistral_derived_model tokenizer_use_fast tokenizer_legacy "
     "tokenizer_use_mistral_common tokenizer_config base_model_config base_model_ignore_patterns "
     "revision_of_model cls_model_config type_of_model",
     IMPORT_FINE, .note = "the model's folder says what it is"},
    {"dataset_prepared_path dataset_processes dataset_num_proc push_dataset_to_hub dataset_keep_in_memory "
     "skip_prepare_dataset dataset_shard_num "
     "shuffle_merged_datasets hf_use_auth_token",
     IMPORT_FINE, .note = "tokens are kept in the cache directory"},
    {"strict debug test_value", IMPORT_FINE, .note = "every key is checked"},
    {"pad_to_sequence_len eval_sample_packing sample_packing_eff_est sample_packing_seq_len_multiplier "
     "total_num_tokens sample_packing_sequentially "
     "pretrain_multipack_attn sample_packing_group_size sample_packing_bin_size multipack_real_batches "
     "batch_flattening",
     IMPORT_FINE, .note = "nothing is padded"},
    {"flash_attention flash_attn_cross_entropy flash_attn_rms_norm flash_attn_fuse_mlp flash_attn_fuse_qkv "
     "flash_optimum sdp_attention xformers_attention "
     "flex_attention s2_attention eager_attention sage_attention attn_implementation "
     "flex_attn_compile_kwargs.* fused_attn_kernel gemma4_hybrid_attn_impl "
     "cut_cross_entropy liger_rope liger_rms_norm liger_rms_norm_gated liger_glu_activation liger_swiglu "
     "liger_layer_norm liger_fused_linear_cross_entropy "
     "liger_cross_entropy plugins lora_mlp_kernel lora_qkv_kernel lora_o_kernel unsloth_lora_mlp "
     "unsloth_lora_qkv unsloth_lora_o use_kernels tiled_mlp use_scattermoe "
     "use_sonicmoe experts_implementation use_dsv4_kernels use_glm_dsa_kernels dsv4_fp4_grouped_mode "
     "quantize_moe_experts llama4_linearized_experts "
     "activation_offloading layer_offloading",
     IMPORT_FINE, .note = "how it is computed and placed is ours"},
    {"fsdp_version fsdp_config tensor_parallel_size context_parallel_size context_parapllel_size "
     "sequence_parallel_degree dp_shard_size dp_replicate_size "
     "expert_parallel_size expert_parallel_num_nvl_bytes expert_parallel_token_capacity ddp "
     "ddp_bucket_cap_mb use_ray ray_num_workers "
     "experimental_skip_move_to_device torchdistx_path gpu_memory_limit max_memory device_map.* "
     "nvfp4_merge_aware",
     IMPORT_FINE, .note = "placement is planned here, for one machine"},
    {"wandb_project wandb_entity wandb_watch wandb_name wandb_log_model wandb_run_id wandb_mode "
     "mlflow_tracking_uri mlflow_experiment_name use_wandb "
     "use_tensorboard use_mlflow use_comet use_swanlab use_trackio use_otel_metrics otel_metrics_host "
     "otel_metrics_port project_name branch "
     "swanlab_project swanlab_experiment_name swanlab_description swanlab_mode swanlab_workspace "
     "swanlab_log_model swanlab_log_completions "
     "swanlab_completion_log_interval swanlab_completion_max_buffer trackio_project_name trackio_run_name "
     "profiler_steps",
     IMPORT_FINE, .note = "reports are ours: metrics.jsonl, TensorBoard"},
    {"provider gpu gpu_count node_count memory memory_preprocess timeout timeout_preprocess secrets volumes "
     "volumes[].* dockerfile_commands env.*",
     IMPORT_FINE, .note = "of a cloud's job, not of the training"},
    {"loss_watchdog_threshold loss_watchdog_patience", IMPORT_FINE,
     .note = "a loss that is no number ends the run"},
    {"special_tokens.pad_token special_tokens.unk_token tokens.pad_token tokens.unk_token", IMPORT_FINE,
     .note = "nothing is padded"},
    {"special_tokens.bos_token special_tokens.eos_token tokens.bos_token tokens.eos_token "
     "special_tokens.additional_special_tokens special_tokens.*",
     IMPORT_NOT,
     .note = "special tokens come from the model's folder: set them in tokenizer_config.json, and remove it"},
    {"special_tokens", IMPORT_FINE, .note = "special tokens come from the model's folder"},
    {"tokens added_tokens_overrides.* added_tokens_overrides resize_token_embeddings_to_32x", IMPORT_ONLY,
     .values = "false", .note = "tokens cannot be added: the embeddings are not trained; remove it"},
    {"relora relora_cpu_offload relora_prune_ratio jagged_restart_steps jagged_restart_warmup_steps "
     "jagged_restart_anneal_steps lisa_layers_attribute lisa_n_layers "
     "lisa_step_interval unfrozen_parameters reinit_weights full_finetune fp8 "
     "fp8_enable_fsdp_float8_all_gather use_onebitllms freeze_mm_modules overrides_of_model_config.* "
     "model_config.* use_eaft eaft_alpha eaft_k lr_quadratic_warmup eta_min streaming "
     "streaming_multipack_buffer_size curriculum_sampling "
     "noisy_embedding_alpha neftune_noise_alpha lr_groups torchao_config.* min_sample_len "
     "dataset_exact_deduplication do_causal_lm_eval rope_scaling.*",
     IMPORT_ONLY, .values = "false|none", .note = "is not done here; remove it"},
    {"eval_table_size eval_max_new_tokens eval_causal_lm_metrics", IMPORT_FINE,
     .note = "validation gives the loss"},
    {"auto_resume_from_checkpoints", IMPORT_TAKE, .to = "resume", .values = "false="},
    {"bfloat16", IMPORT_TAKE, .to = "compute_dtype", .values = "true=bf16|false="},
    {"float16", IMPORT_TAKE, .to = "compute_dtype", .values = "true=fp16|false="},
    {"torch_dtype", IMPORT_TAKE, .to = "compute_dtype"},
    {0},
};

static const qs_import_rule *const tables[] = {datasets, others, qs_import_hf_rules, NULL};

/* axolotl's own defaults (utils/schemas), and transformers' where it has none. */
static const qs_import_default defaults[] = {{"max_seq_length", "512"},
                                             {"packing", "false"},
                                             {"per_device_train_batch_size", "1"},
                                             {"gradient_accumulation_steps", "1"},
                                             {"quant_type", "none"},
                                             {"optim", "adamw_torch"},
                                             {"max_grad_norm", "1.0"},
                                             {"overlong", "drop"},
                                             {0}};

static void finish(qs_import_state *s)
{
    if (!*qs_import_value(s, "adapter") && !qs_import_has_ours(s))
        qs_import_not(s, "adapter", "unset",
                      "all weights would be trained, which is not done here: say adapter: qlora");
}

const qs_import_trainer qs_import_axolotl = {
    "axolotl",
    "base_model adapter sequence_len micro_batch_size dataset_prepared_path lora_target_linear "
    "sample_packing num_epochs datasets strict val_set_size "
    "pretraining_dataset evals_per_epoch saves_per_epoch wandb_project",
    tables, defaults, finish};
