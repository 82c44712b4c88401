/* table.c - the training options: every name, range, default and explanation, in one place.
 *
 * To add an option: a field in options.h, a row here, `make docs`. Rows of a group stand together, in the
 * order of --help. Defaults are those of the QLoRA paper where it tuned them (nf4, double quantisation, all
 * linear layers, clip 0.3, paged AdamW), and otherwise what most trainers agree on; configs/ holds other
 * tools' defaults as presets.
 */
#include <stddef.h>

#include "src/options/options.h"

#define ROW(field_, type_, group_, resume_, ...)                                                          \
    {                                                                                                     \
        .name = #field_, .type = QS_OPT_##type_, .offset = offsetof(qs_options, field_), .group = group_, \
        .resume = QS_RESUME_##resume_, __VA_ARGS__                                                        \
    }
#define RANGE(low, high) .min = (low), .max = (high)

static const qs_option_name io_engines[] = {
    {"auto", QS_AIO_AUTO}, {"uring", QS_AIO_URING}, {"io_uring", QS_AIO_URING}, {"pread", QS_AIO_PREAD}, {0}};
enum { MOST_SWEEPS = 65536 };
static const qs_option_name sweeps[] = {{"layer-major", 1}, {"micro-batch-major", MOST_SWEEPS}, {0}};
static const qs_option_name places[] = {
    {"auto", QS_KEPT_AUTO}, {"ram", QS_KEPT_RAM}, {"disk", QS_KEPT_DISK}, {0}};
static const qs_option_name quant_types[] = {
    {"nf4", QS_QUANT_NF4}, {"fp4", QS_QUANT_FP4}, {"none", QS_QUANT_NONE}, {0}};
static const qs_option_name computes[] = {{"auto", QS_COMPUTE_AUTO},
                                          {"bf16", QS_COMPUTE_BF16},
                                          {"bfloat16", QS_COMPUTE_BF16},
                                          {"torch.bfloat16", QS_COMPUTE_BF16},
                                          {"fp16", QS_COMPUTE_F16},
                                          {"f16", QS_COMPUTE_F16},
                                          {"float16", QS_COMPUTE_F16},
                                          {"torch.float16", QS_COMPUTE_F16},
                                          {"fp32", QS_COMPUTE_F32},
                                          {"f32", QS_COMPUTE_F32},
                                          {"float32", QS_COMPUTE_F32},
                                          {"torch.float32", QS_COMPUTE_F32},
                                          {0}};
static const qs_option_name overlongs[] = {{"truncate", QS_OVERLONG_TRUNCATE},
                                           {"drop", QS_OVERLONG_DROP},
                                           {"split", QS_OVERLONG_SPLIT},
                                           {"error", QS_OVERLONG_ERROR},
                                           {0}};
static const qs_option_name bad_rows[] = {{"error", QS_BAD_ROWS_ERROR}, {"drop", QS_BAD_ROWS_DROP}, {0}};
static const qs_option_name schedules[] = {{"cosine", QS_LR_COSINE},
                                           {"linear", QS_LR_LINEAR},
                                           {"constant", QS_LR_CONSTANT},
                                           {"constant_with_warmup", QS_LR_CONSTANT_WITH_WARMUP},
                                           {"cosine_with_restarts", QS_LR_COSINE_WITH_RESTARTS},
                                           {"cosine_with_min_lr", QS_LR_COSINE_WITH_MIN_LR},
                                           {"polynomial", QS_LR_POLYNOMIAL},
                                           {"inverse_sqrt", QS_LR_INVERSE_SQRT},
                                           {0}};
static const qs_option_name optims[] = {{"paged_adamw_32bit", QS_OPTIM_PAGED_ADAMW_32BIT},
                                        {"paged_adamw", QS_OPTIM_PAGED_ADAMW_32BIT},
                                        {"adamw_32bit", QS_OPTIM_ADAMW_32BIT},
                                        {"paged_adamw_8bit", QS_OPTIM_PAGED_ADAMW_8BIT},
                                        {"adamw_8bit", QS_OPTIM_ADAMW_8BIT},
                                        {"adamw_bnb_8bit", QS_OPTIM_ADAMW_8BIT},
                                        {"adamw_torch", QS_OPTIM_ADAMW_TORCH},
                                        {"adamw_torch_fused", QS_OPTIM_ADAMW_TORCH},
                                        {"adamw", QS_OPTIM_ADAMW_TORCH},
                                        {0}};

static const qs_option rows[] = {
#define G "The job"
    ROW(model, PATH, G, WARN, .aliases = "model_name_or_path base_model base",
        .help = "directory of the base model: config.json, tokenizer files, *.safetensors (16 or 32 bits, or "
                "4 bits "
                "as bitsandbytes writes them)"),
    ROW(data, PATHS, G, WARN, .aliases = "dataset datasets train_data",
        .help = "training data: files (.jsonl, .json, .csv, .tsv, .txt; also .gz, .xz, .zst, .bz2), patterns "
                "or directories; FILE:2 takes each row "
                "twice an epoch, FILE:0.5 half of them; several after one flag, repeated, or separated by "
                "commas"),
    ROW(eval_data, PATHS, G, FREE, .aliases = "eval_dataset test_datasets validation_data",
        .help = "validation files; without them val_set_size takes samples from the training files"),
    ROW(out, PATH, G, FREE, .aliases = "output_dir",
        .help = "directory of the run: checkpoints, metrics, adapter; must be new unless --resume is given"),
    ROW(resume, FLAGPATH, G, FREE, .aliases = "resume_from_checkpoint",
        .help = "go on from the last checkpoint in OUT, or from the checkpoint directory PATH"),
    ROW(init_adapter, PATH, G, WARN, .aliases = "lora_model_dir adapter_name_or_path",
        .help = "start from this PEFT adapter directory instead of a fresh one"),
    ROW(config, PATH, G, FREE, .help = "YAML file of options; the command line wins over it"),
    ROW(preset, STRING, G, FREE,
        .help = "start from a named set of options: qlora-paper, torchtune, axolotl or unsloth"),
    ROW(seed, INT, G, SAME, .fallback = "42", RANGE(0, QS_OPTION_MANY),
        .help = "of data order, adapter initialisation and dropout"),
#undef G
#define G "Memory and placement"
    ROW(vram, BYTES, G, FREE, .fallback = "auto", .aliases = "max_vram vram_budget",
        .help = "memory on the device, driver context included; auto is 90 % of what the card has free, or a "
                "quarter of the "
                "available memory where the CPU is the device; 10G is 10 GiB, 10GB is 10^10 bytes"),
    ROW(ram, BYTES, G, FREE, .fallback = "auto", .aliases = "max_ram ram_budget",
        .help = "host memory; auto is half of what is available, or a quarter where the CPU is the device"),
    ROW(cache, PATHS, G, FREE, .aliases = "cache_dir",
        .help = "directory of the quantised layers, or several on as many disks: each layer is striped over "
                "them; default: qlora-stream in the user's cache directory"),
    ROW(device, STRING, G, FREE, .fallback = "auto",
        .help = "auto, cpu, cuda or cuda:N; auto takes a GPU when there is one"),
    ROW(cpu_isa, STRING, G, FREE, .fallback = "auto",
        .help = "instruction set of the CPU kernels: auto (the best of this processor, or what QS_CPU_ISA "
                "says), v2, v3 (AVX2), v4 (AVX-512), v4_bf16; neon and neon_bf16 on aarch64"),
    ROW(portable_bits, BOOL, G, FREE, .fallback = "false",
        .help = "use CPU kernels that give the same bits on every processor with fused multiply-adds; slower "
                "in bf16 where the processor has matrix units"),
    ROW(threads, INT, G, FREE, .fallback = "0", RANGE(0, 1024), .aliases = "num_threads",
        .help = "CPU threads of the operations; 0: one per core"),
    ROW(allow_different_bits, BOOL, G, FREE, .fallback = "false",
        .help =
            "let a resumed run go on where the processor or card rounds otherwise than the one it began on"),
    ROW(recalibrate, BOOL, G, FREE, .fallback = "false",
        .help = "measure this machine again for the predicted step time, instead of taking what an earlier "
                "run measured"),
    ROW(io_engine, ENUM, G, FREE, .fallback = "auto", .names = io_engines, .help = "how files are read"),
    ROW(resident_layers, INT, G, FREE, .fallback = "-1", RANGE(-1, 100000),
        .help = "keep at most N layers on the device; -1: as many as fit"),
    ROW(keep_layers, INT, G, FREE, .fallback = "-1", RANGE(-1, 100000),
        .help = "layers whose intermediate activations are kept for the backward pass instead of being "
                "computed again, in memory that no weights need; -1: as many as fit"),
    ROW(keep_in_ram, INT, G, FREE, .fallback = "-1", RANGE(-1, 100000),
        .help = "of the layers that keep_layers counts, how many keep theirs in RAM, from where a card "
                "fetches them again; -1: as is fastest"),
    ROW(stream_slots, INT, G, FREE, .fallback = "0", RANGE(0, 64),
        .help = "layers in the streaming ring; 0: the planner picks"),
    ROW(sweeps_per_step, INT, G, FREE, .fallback = "0", RANGE(0, MOST_SWEEPS), .names = sweeps,
        .aliases = "order",
        .help = "passes through all layers in a step, each with a share of its micro-batches: 1 (or "
                "layer-major) reads the weights least often, more "
                "need less memory for activations; micro-batch-major is the usual loop, one micro-batch "
                "after another; 0: the planner picks"),
    ROW(adapters_on, ENUM, G, FREE, .fallback = "auto", .names = places,
        .help = "where adapter masters, gradients and optimizer states are kept; auto: on disk (in the cache "
                "directory) only when they do not fit in RAM"),
    ROW(checkpoints_on, ENUM, G, FREE, .fallback = "auto", .names = places,
        .help = "the same for activation checkpoints"),
#undef G
#define G "Base model"
    ROW(quant_type, ENUM, G, SAME, .fallback = "nf4", .names = quant_types, .aliases = "bnb_4bit_quant_type",
        .help = "storage of the linear weights; none streams them in 16 bits (plain LoRA); linears that the "
                "model "
                "already has in 4 bits (bitsandbytes) stay as they are"),
    ROW(double_quant, BOOL, G, SAME, .fallback = "true",
        .aliases = "bnb_4bit_use_double_quant use_bnb_nested_quant",
        .help = "quantise the block scales as well: 0.37 bit per weight less"),
    ROW(compute_dtype, ENUM, G, SAME, .fallback = "auto", .names = computes,
        .aliases = "bnb_4bit_compute_dtype torch_dtype dtype",
        .help = "type of the matrix products; auto is bf16 where the device is fast at it; else fp16, with a "
                "dynamic loss scale, on a GPU and fp32 on a CPU"),
    /* A checkpoint holds the sizes in use, and a resumed run keeps them: hence FREE. */
    ROW(mlp_chunk_tokens, INT, G, FREE, .fallback = "0", RANGE(0, QS_OPTION_MANY), .aliases = "mlp_tile_rows",
        .help = "tokens that pass through the MLP at a time; decides how sums are cut, so it is part of the "
                "numeric identity; 0: the planner picks"),
    ROW(head_chunk_tokens, INT, G, FREE, .fallback = "0", RANGE(0, QS_OPTION_MANY),
        .aliases = "head_tile_rows", .help = "the same for tokens in the head and loss"),
#undef G
#define G "Adapter"
    ROW(lora_r, INT, G, SAME, .fallback = "16", RANGE(1, 4096), .aliases = "r lora_rank rank",
        .help = "rank"),
    ROW(lora_alpha, FLOAT, G, SAME, .fallback = "16", RANGE(0, 1e6), .aliases = "alpha",
        .help = "scale: the update is multiplied by lora_alpha / lora_r"),
    ROW(lora_dropout, FLOAT, G, SAME, .fallback = "0", RANGE(0, 0.99),
        .help = "dropout on the adapter's input"),
    ROW(target_modules, LIST, G, SAME, .fallback = "all-linear", .aliases = "lora_target lora_target_modules",
        .help = "layers that get an adapter: all-linear, names such as q_proj,v_proj, or one regular "
                "expression for the whole path"),
    ROW(exclude_modules, LIST, G, SAME,
        .help = "layers that get none after all: names, or one regular expression for the whole path"),
    ROW(layers_to_transform, LIST, G, SAME,
        .help = "layers of the model that get adapters, by number: 0,1 or 8-15; default: all"),
    ROW(rank_pattern, LIST, G, SAME, .pairs = true,
        .help = "other ranks for some layers, as in PEFT: q_proj=8 or layers.0.self_attn.k_proj=4; a regular "
                "expression on the end of the path, the first that matches counts"),
    ROW(alpha_pattern, LIST, G, SAME, .pairs = true, .help = "other values of lora_alpha, in the same way"),
    ROW(use_rslora, BOOL, G, SAME, .fallback = "false",
        .help = "rank-stabilised scale lora_alpha / sqrt(lora_r)"),
#undef G
#define G "Data"
    ROW(max_seq_length, INT, G, SAME, .fallback = "2048", RANGE(2, 16777216),
        .aliases = "sequence_len cutoff_len max_length seq_len context_length",
        .help = "tokens of one sequence"),
    ROW(packing, BOOL, G, SAME, .fallback = "true", .aliases = "sample_packing packed",
        .help = "put several samples into a sequence, each attending to itself only"),
    ROW(overlong, ENUM, G, SAME, .fallback = "truncate", .names = overlongs,
        .help = "what happens to samples longer than max_seq_length; the audit counts them"),
    ROW(train_on_inputs, BOOL, G, SAME, .fallback = "false",
        .aliases = "train_on_prompt train_on_source train_on_input",
        .help = "count the loss of prompts too, not of answers alone"),
    ROW(ignore_columns, STRING, G, SAME,
        .help = "columns of the data to pass over, separated by commas: those that are refused by name "
                "because they are not honoured"),
    ROW(text_column, STRING, G, SAME, .help = "train this column whole, as text, whatever else a row holds"),
    ROW(bad_rows, ENUM, G, SAME, .fallback = "error", .names = bad_rows,
        .help = "rows that cannot be used: error refuses the data and lists the first twenty, drop leaves "
                "them out and counts them"),
    ROW(chat_template, STRING, G, SAME, .fallback = "auto", .aliases = "template",
        .help = "how conversations become text: auto takes the model's own template, a .jinja file or a name "
                "in the model's list of templates "
                "another one, and a name such as chatml or llama3 a built-in layout"),
    ROW(chat_template_kwargs, STRING, G, SAME,
        .help = "a JSON object of further variables for the chat template, such as '{\"enable_thinking\": "
                "false}'"),
    ROW(template_date, STRING, G, SAME,
        .help = "the day that a chat template writes which asks for it, such as 2026-01-31; default: the day "
                "on which the run began"),
    ROW(shuffle, BOOL, G, SAME, .fallback = "true",
        .help = "a new order of the samples in every epoch, from the seed"),
    ROW(val_set_size, FLOAT, G, SAME, .fallback = "0", RANGE(0, QS_OPTION_MANY),
        .aliases = "val_size test_size",
        .help = "samples set aside for validation: a share below 1, else their number"),
#undef G
#define G "Length of the training"
    ROW(per_device_train_batch_size, INT, G, SAME, .fallback = "1", RANGE(0, 65536),
        .aliases = "micro_batch_size batch_size train_batch_size",
        .help = "sequences per micro-batch; 0: the planner picks, and gradient_accumulation_steps counts the "
                "sequences of a step"),
    ROW(gradient_accumulation_steps, INT, G, SAME, .fallback = "16", RANGE(1, 1000000),
        .aliases = "grad_accum accumulation",
        .help = "micro-batches per optimizer step; weights are streamed once for all of them"),
    ROW(num_train_epochs, FLOAT, G, WARN, .fallback = "1", RANGE(0.001, 1e6), .aliases = "num_epochs epochs",
        .help = "passes over the data"),
    ROW(max_steps, INT, G, WARN, .fallback = "-1", RANGE(-1, QS_OPTION_MANY), .aliases = "iters",
        .help = "optimizer steps in all; when positive num_train_epochs does not count"),
    ROW(stop_at_step, INT, G, FREE, .fallback = "0", RANGE(0, QS_OPTION_MANY),
        .help = "save and end this process after that step, as Ctrl-C would; the schedule is not shortened; "
                "0: no"),
#undef G
#define G "Optimizer"
    ROW(learning_rate, FLOAT, G, SAME, .fallback = "0.0002", RANGE(0, 100), .aliases = "lr",
        .help = "its peak"),
    ROW(lr_scheduler_type, ENUM, G, SAME, .fallback = "cosine", .names = schedules,
        .aliases = "lr_scheduler scheduler", .help = "the learning rate over time"),
    ROW(warmup_steps, INT, G, SAME, .fallback = "0", RANGE(0, QS_OPTION_MANY), .aliases = "num_warmup_steps",
        .help = "steps of linear warmup; when positive warmup_ratio does not count"),
    ROW(warmup_ratio, FLOAT, G, SAME, .fallback = "0.03", RANGE(0, 1),
        .help = "share of all steps that warm up"),
    ROW(lr_num_cycles, FLOAT, G, SAME, .fallback = "0", RANGE(0, 1000), .aliases = "num_cycles",
        .help = "cycles of the cosine schedules; 0: half a cycle, or one with restarts"),
    ROW(lr_min_ratio, FLOAT, G, SAME, .fallback = "0.1", RANGE(0, 1),
        .aliases = "min_lr_rate cosine_min_lr_ratio",
        .help = "floor of cosine_with_min_lr, as a share of the peak"),
    ROW(lr_end, FLOAT, G, SAME, .fallback = "0.0000001", RANGE(0, 100),
        .help = "last learning rate of the polynomial schedule"),
    ROW(lr_power, FLOAT, G, SAME, .fallback = "1", RANGE(0, 100),
        .help = "exponent of the polynomial schedule"),
    ROW(optim, ENUM, G, SAME, .fallback = "paged_adamw_32bit", .names = optims, .aliases = "optimizer",
        .help = "AdamW as bitsandbytes (…_32bit, …_8bit) or torch computes it; paged states may leave the "
                "device"),
    ROW(loraplus_lr_ratio, FLOAT, G, SAME, .fallback = "0", RANGE(0, 1e6), .aliases = "lora_plus_lr_ratio",
        .help = "LoRA+: the B matrices learn so many times faster than the A matrices (8 to 16 is usual); 0: "
                "alike"),
    ROW(weight_decay, FLOAT, G, SAME, .fallback = "0", RANGE(0, 10), .aliases = "wd",
        .help = "decoupled weight decay"),
    ROW(adam_beta1, FLOAT, G, SAME, .fallback = "0.9", RANGE(0, 0.999999),
        .help = "decay of the first moment"),
    ROW(adam_beta2, FLOAT, G, SAME, .fallback = "0.999", RANGE(0, 0.999999),
        .help = "decay of the second moment"),
    ROW(adam_epsilon, FLOAT, G, SAME, .fallback = "1e-8", RANGE(0, 1),
        .help = "added to the root of the second moment"),
    ROW(max_grad_norm, FLOAT, G, SAME, .null = "0", .fallback = "0.3", RANGE(0, 1e9),
        .aliases = "gradient_clipping clip_grad_norm",
        .help = "gradients are scaled down to this global norm; 0: never"),
#undef G
#define G "Reports and checkpoints"
    ROW(eval_steps, INT, G, FREE, .fallback = "0", RANGE(0, QS_OPTION_MANY),
        .help = "validate every N steps; 0: at the end only"),
    ROW(load_best_model_at_end, BOOL, G, WARN, .fallback = "false",
        .help = "end with the adapter of the best validation; save_steps must be a multiple of eval_steps"),
    ROW(metric_for_best_model, STRING, G, WARN,
        .help = "what the best validation has: eval_loss (when unset) or eval_perplexity"),
    ROW(greater_is_better, BOOL, G, WARN, .fallback = "false",
        .help = "the best has the highest metric, not the lowest"),
    ROW(early_stopping_patience, INT, G, WARN, .fallback = "0", RANGE(0, QS_OPTION_MANY),
        .aliases = "early_stopping_rounds",
        .help = "end after so many validations without a better one; 0: no"),
    ROW(early_stopping_threshold, FLOAT, G, WARN, .fallback = "0", RANGE(0, 1e9),
        .help = "how much better one must be to count"),
    ROW(logging_steps, INT, G, FREE, .fallback = "1", RANGE(1, QS_OPTION_MANY),
        .aliases = "log_every_n_steps", .help = "print a line every N steps; metrics.jsonl has every step"),
    ROW(save_steps, INT, G, FREE, .fallback = "100", RANGE(0, QS_OPTION_MANY),
        .help = "checkpoint every N steps; 0: at the end only"),
    ROW(save_minutes, FLOAT, G, FREE, .fallback = "0", RANGE(0, 1e6),
        .help = "checkpoint also when so many minutes have passed since the last one; 0: no"),
    ROW(save_total_limit, INT, G, FREE, .fallback = "2", RANGE(0, QS_OPTION_MANY),
        .help = "whole checkpoints kept; 0: all"),
    ROW(report_to, LIST, G, FREE, .fallback = "tensorboard",
        .help = "tensorboard, or none; metrics.jsonl is always written"),
    ROW(verbose, BOOL, G, FREE, .fallback = "false", .help = "say more"),
    ROW(quiet, BOOL, G, FREE, .fallback = "false", .help = "say only what went wrong"),
    ROW(no_color, BOOL, G, FREE, .fallback = "false",
        .help = "no colour; NO_COLOR in the environment does the same"),
#undef G
};

/* Other tools' yes/no names for what are values here. */
static const qs_option_switch switches[] = {
    {"bf16", "compute_dtype", "bf16", NULL},
    {"fp16", "compute_dtype", "fp16", NULL},
    {"load_in_4bit", "quant_type", "nf4|fp4", "none"},
    {"lora_target_linear", "target_modules", "all-linear", NULL},
    {"mask_prompt", "train_on_inputs", "false", "true"},
    {"completion_only_loss", "train_on_inputs", "false", "true"},
};

#define COUNT(array) (int)(sizeof(array) / sizeof *(array))
_Static_assert(sizeof rows / sizeof *rows <= QS_OPTIONS_MAX, "raise QS_OPTIONS_MAX");

const qs_option_table qs_training_options = {.rows = rows,
                                             .count = COUNT(rows),
                                             .switches = switches,
                                             .switch_count = COUNT(switches),
                                             .sources_offset = offsetof(qs_options, source)};

qs_option_source qs_options_source_of(const qs_options *o, const char *name)
{
    qs_option_set set = {&qs_training_options, (void *)(uintptr_t)o};
    return qs_option_where(&set, qs_option_find(&set, 1, name, NULL));
}

void qs_options_free(qs_options *o) { qs_option_clear(&(qs_option_set){&qs_training_options, o}, 1); }
