/* import_hf.c - keys of transformers' TrainingArguments, which TRL and LLaMA-Factory share. */
#include "src/options/import_rules.h"

#define REPORTS "reports are ours: metrics.jsonl, TensorBoard"
#define PLACED "placement is planned here, for one machine"

const qs_import_rule qs_import_hf_rules[] = {
    {"model_name_or_path", IMPORT_TAKE, .to = "model"},
    {"output_dir", IMPORT_TAKE, .to = "out"},
    {"learning_rate", IMPORT_TAKE, .to = "learning_rate"},
    {"lr_scheduler_type", IMPORT_TAKE, .to = "lr_scheduler_type"},
    {"lr_scheduler_kwargs.min_lr_rate", IMPORT_TAKE, .to = "lr_min_ratio"},
    {"lr_scheduler_kwargs.num_cycles", IMPORT_TAKE, .to = "lr_num_cycles"},
    {"warmup_ratio", IMPORT_TAKE, .to = "warmup_ratio"},
    {"warmup_steps", IMPORT_TAKE, .to = "warmup_steps"},
    {"weight_decay", IMPORT_TAKE, .to = "weight_decay"},
    {"adam_beta1", IMPORT_TAKE, .to = "adam_beta1"},
    {"adam_beta2", IMPORT_TAKE, .to = "adam_beta2"},
    {"adam_epsilon", IMPORT_TAKE, .to = "adam_epsilon"},
    {"max_grad_norm", IMPORT_TAKE, .to = "max_grad_norm"},
    {"optim", IMPORT_TAKE, .to = "optim"},
    {"num_train_epochs", IMPORT_TAKE, .to = "num_train_epochs"},
    {"max_steps", IMPORT_TAKE, .to = "max_steps", .values = "0=-1"},
    {"per_device_train_batch_size", IMPORT_TAKE, .to = "per_device_train_batch_size"},
    {"gradient_accumulation_steps", IMPORT_TAKE, .to = "gradient_accumulation_steps"},
    {"logging_steps", IMPORT_TAKE, .to = "logging_steps"},
    {"seed", IMPORT_TAKE, .to = "seed"},
    {"save_total_limit", IMPORT_TAKE, .to = "save_total_limit"},
    {"resume_from_checkpoint", IMPORT_TAKE, .to = "resume"},
    {"bf16", IMPORT_TAKE, .to = "compute_dtype", .values = "true=bf16|false=|auto=auto"},
    {"fp16", IMPORT_TAKE, .to = "compute_dtype", .values = "true=fp16|false=|auto=auto"},
    {"pure_bf16", IMPORT_ONLY, .values = "false",
     .note = "adapters and their states stay in 32 bits here; remove it"},
    {"torch_dtype dtype model_init_kwargs.torch_dtype", IMPORT_TAKE, .to = "compute_dtype"},
    {"tf32", IMPORT_FINE, .note = "products are in compute_dtype"},
    {"per_device_eval_batch_size eval_batch_size", IMPORT_FINE,
     .note = "validation takes the training's batch size; its loss does not depend on it"},
    {"gradient_checkpointing gradient_checkpointing_kwargs.* use_reentrant_gc", IMPORT_FINE,
     .note = "layers are always computed again, as far as memory asks for it"},
    {"group_by_length length_column_name", IMPORT_ONLY, .values = "false|length",
     .note = "rows are not grouped by length; packing does better"},
    {"report_to run_name logging_dir logging_strategy logging_first_step log_level log_level_replica "
     "plot_loss include_num_input_tokens_seen "
     "include_tokens_per_second disable_tqdm log_on_each_node trackio_space_id",
     IMPORT_FINE, .note = REPORTS},
    {"hub_model_id hub_strategy push_to_hub hub_private_repo hub_token hub_model_revision hub_always_push",
     IMPORT_FINE, .note = "nothing is uploaded; OUT holds the adapter in PEFT's format"},
    {"dataloader_num_workers dataloader_pin_memory dataloader_persistent_workers dataloader_prefetch_factor "
     "preprocessing_num_workers dataset_num_proc "
     "overwrite_cache overwrite_output_dir overwrite_output remove_unused_columns ddp_timeout "
     "ddp_find_unused_parameters ddp_backend local_rank "
     "torch_compile torch_compile_mode torch_compile_backend use_liger_kernel attn_implementation flash_attn "
     "use_cache low_cpu_mem_usage "
     "trust_remote_code full_determinism data_seed average_tokens_across_devices skip_memory_metrics "
     "eval_accumulation_steps prediction_loss_only "
     "auto_find_batch_size device_map use_fast_tokenizer",
     IMPORT_FINE, .note = "of no effect on the result, or so here already"},
    {"dataloader_drop_last", IMPORT_ONLY, .values = "false",
     .note = "the last group of an epoch is a step of its own; remove it"},
    {"deepspeed fsdp fsdp_config.* fsdp_transformer_layer_cls_to_wrap accelerator_config.* "
     "parallelism_config.*",
     IMPORT_FINE, .note = PLACED},
    {"do_train", IMPORT_ONLY, .values = "true", .note = "this is a training; use another command"},
    {"do_eval", IMPORT_FINE, .note = "validation runs where there is data for it"},
    {"do_predict predict_with_generate", IMPORT_ONLY, .values = "false", .note = "use qlora-stream generate"},
    {"eval_strategy evaluation_strategy save_strategy", IMPORT_ONLY, .values = "steps|no|epoch",
     .note = "validate or save by steps: eval_steps, save_steps"},
    {"eval_steps", IMPORT_TAKE, .to = "eval_steps"},
    {"save_steps", IMPORT_TAKE, .to = "save_steps"},
    {"eval_on_start eval_delay save_on_each_node save_safetensors save_only_model "
     "restore_callback_states_from_checkpoint",
     IMPORT_FINE, .note = "of no effect on the result"},
    {"load_best_model_at_end metric_for_best_model greater_is_better", IMPORT_FINE,
     .note = "checkpoints are kept by save_total_limit; metrics.jsonl tells which is best"},
    {"label_smoothing_factor neftune_noise_alpha", IMPORT_ONLY, .values = "0|0.0|none|false",
     .note = "is not done here; remove it"},
    {"label_names", IMPORT_FINE, .note = "labels come from the rows"},
    {"use_mps_device no_cuda use_cpu", IMPORT_FINE, .note = "device says where to compute"},
    {0},
};
