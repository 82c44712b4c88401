/* import_unsloth.c - Unsloth's command line and Studio. */
#include <stdlib.h>

#include "src/options/import_rules.h"

static void take_data(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    qs_import_add_path(s, entry, "data", entry->value);
}

/* 0 means: by max_steps. */
static void take_epochs(qs_import_state *s, const qs_yaml_entry *entry, const char *key)
{
    if (strtod(entry->value, NULL) > 0)
        qs_import_set(s, entry, "num_train_epochs", entry->value);
    else
        qs_import_fine(s, entry->path, "max_steps counts");
}

static const qs_import_rule rules[] = {
    {"model", IMPORT_TAKE, .to = "model"},
    {"data.dataset data.local_dataset data.path", IMPORT_CALL, .call = take_data},
    {"data.format_type", IMPORT_ONLY, .values = "auto|alpaca|chatml|sharegpt",
     .note = "rows are told by their columns; remove it"},
    {"training.training_type", IMPORT_ONLY, .values = "lora|qlora",
     .note = "only adapters are trained: say lora"},
    {"training.max_seq_length", IMPORT_TAKE, .to = "max_seq_length"},
    {"training.load_in_4bit", IMPORT_TAKE, .to = "quant_type", .values = "true=nf4|false=none"},
    {"training.output_dir", IMPORT_TAKE, .to = "out"},
    {"training.num_epochs", IMPORT_CALL, .call = take_epochs},
    {"training.learning_rate", IMPORT_TAKE, .to = "learning_rate"},
    {"training.batch_size", IMPORT_TAKE, .to = "per_device_train_batch_size"},
    {"training.gradient_accumulation_steps", IMPORT_TAKE, .to = "gradient_accumulation_steps"},
    {"training.warmup_steps", IMPORT_TAKE, .to = "warmup_steps"},
    {"training.warmup_ratio", IMPORT_TAKE, .to = "warmup_ratio"},
    {"training.max_steps", IMPORT_TAKE, .to = "max_steps", .values = "0=-1"},
    {"training.save_steps", IMPORT_TAKE, .to = "save_steps"},
    {"training.eval_steps", IMPORT_FINE, .note = "validation needs data: say val_set_size or eval_data"},
    {"training.weight_decay", IMPORT_TAKE, .to = "weight_decay"},
    {"training.random_seed", IMPORT_TAKE, .to = "seed"},
    {"training.packing", IMPORT_TAKE, .to = "packing"},
    {"training.train_on_completions", IMPORT_TAKE, .to = "train_on_inputs",
     .values = "true=false|false=true"},
    {"training.lr_scheduler_type", IMPORT_TAKE, .to = "lr_scheduler_type"},
    {"training.optim", IMPORT_TAKE, .to = "optim"},
    {"training.gradient_checkpointing training.trust_remote_code trust_remote_code", IMPORT_FINE,
     .note = "layers are always computed again, as far as memory asks for it"},
    {"lora.lora_r", IMPORT_TAKE, .to = "lora_r"},
    {"lora.lora_alpha", IMPORT_TAKE, .to = "lora_alpha"},
    {"lora.lora_dropout", IMPORT_TAKE, .to = "lora_dropout"},
    {"lora.target_modules", IMPORT_TAKE, .to = "target_modules", .values = "=all-linear"},
    {"lora.use_rslora", IMPORT_TAKE, .to = "use_rslora"},
    {"lora.use_dora lora.use_loftq", IMPORT_ONLY, .values = "false", .note = "is not done here; remove it"},
    {"lora.finetune_vision_layers lora.vision_all_linear", IMPORT_FINE,
     .note = "only the language model is trained"},
    {"lora.finetune_language_layers lora.finetune_attention_modules lora.finetune_mlp_modules", IMPORT_ONLY,
     .values = "true", .note = "say in target_modules which layers get an adapter"},
    {"logging.*", IMPORT_FINE, .note = "reports are ours: metrics.jsonl, TensorBoard"},
    {"inference.*", IMPORT_FINE, .note = "of generating, not of the training"},
    {"audio_type audio_input is_vision is_embedding", IMPORT_ONLY, .values = "false",
     .note = "only text models are trained"},
    {0},
};

static const qs_import_rule *const tables[] = {rules, NULL};

static const qs_import_default defaults[] = {{"packing", "false"},
                                             {"lr_scheduler_type", "linear"},
                                             {"optim", "adamw_8bit"},
                                             {"max_grad_norm", "1.0"},
                                             {"max_seq_length", "2048"},
                                             {"seed", "3407"},
                                             {0}};

const qs_import_trainer qs_import_unsloth = {"Unsloth", "training lora logging data inference", tables,
                                             defaults, NULL};
