/* options.h - everything a person can say about a training run, one plain field per option.
 *
 * Field names are the option names; src/options/table.c gives each its type, range, default, aliases and
 * help, and docs/options.md is printed from it. `train`, `plan` and `bench` share this struct.
 *
 *     qs_options o = {0};
 *     QS_TRY(qs_options_parse(&o, argc, argv, NULL, 0, e));   // after the command's name
 *     ...
 *     qs_options_free(&o);
 */
#ifndef QS_OPTIONS_OPTIONS_H
#define QS_OPTIONS_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "io/aio.h"
#include "kernels/ops.h"
#include "offload/schedule.h"
#include "src/base/error.h"
#include "src/data/token_cache.h"
#include "src/options/option.h"

typedef enum qs_compute { QS_COMPUTE_AUTO, QS_COMPUTE_BF16, QS_COMPUTE_F16, QS_COMPUTE_F32 } qs_compute;

/* Where something is kept that is not needed all the time. AUTO: on disk only when the job does not fit
 * otherwise. */
typedef enum qs_kept { QS_KEPT_AUTO, QS_KEPT_RAM, QS_KEPT_DISK } qs_kept;

typedef enum qs_optim {
    QS_OPTIM_ADAMW_TORCH,       /* torch.optim.AdamW, 32-bit states (adamw_torch, adamw_torch_fused) */
    QS_OPTIM_ADAMW_32BIT,       /* bitsandbytes' 32-bit AdamW */
    QS_OPTIM_PAGED_ADAMW_32BIT, /* the same values; states may leave the device */
    QS_OPTIM_ADAMW_8BIT,        /* bitsandbytes' blockwise 8-bit AdamW */
    QS_OPTIM_PAGED_ADAMW_8BIT
} qs_optim;

typedef enum qs_lr_type {
    QS_LR_COSINE,
    QS_LR_LINEAR,
    QS_LR_CONSTANT,
    QS_LR_CONSTANT_WITH_WARMUP,
    QS_LR_COSINE_WITH_RESTARTS,
    QS_LR_COSINE_WITH_MIN_LR,
    QS_LR_POLYNOMIAL,
    QS_LR_INVERSE_SQRT
} qs_lr_type;

typedef enum qs_bad_rows { QS_BAD_ROWS_ERROR, QS_BAD_ROWS_DROP } qs_bad_rows;

enum { QS_OPTIONS_MAX = 96 };

typedef struct qs_options {
    /* the job */
    char *model;          /* directory of the base model */
    qs_strings data;      /* training files */
    qs_strings eval_data; /* validation files; empty: none, or val_set_size */
    char *out;            /* directory of the run */
    qs_strings cache;     /* directories of the quantised layers; never empty after parsing */
    char *config, *preset;
    char *resume;       /* NULL: a new run; "latest": OUT's last checkpoint; else a checkpoint directory */
    char *init_adapter; /* PEFT adapter to start from, or NULL */

    /* memory and placement: none of these changes a bit of the result */
    uint64_t vram, ram; /* bytes; 0: auto, see qs_options_budgets */
    char *device;       /* "auto", "cpu", "cuda", "cuda:N" */
    char *cpu_isa;      /* "auto", "v3", ...: qs_cpu_select */
    bool portable_bits;
    qs_aio_engine io_engine;
    int64_t resident_layers; /* at most this many kept on the device; -1: as many as fit */
    int64_t stream_slots;    /* layer slots of the streaming ring; 0: planner picks */
    int64_t keep_layers; /* at most this many layers keep their intermediates for the backward pass; -1: as
                            many as fit */
    int64_t keep_in_ram; /* so many of them in RAM; -1: as is fastest */
    int64_t sweeps_per_step; /* groups of micro-batches; 0: planner picks; more than there are micro-batches:
                                one each */
    qs_kept adapters_on, checkpoints_on;
    int64_t threads;           /* 0: one per core */
    bool allow_different_bits; /* a resumed run may go on with kernels that round otherwise */
    bool recalibrate;          /* measure this machine again for the prediction */

    /* sizes at which sums are cut: part of the numeric identity; 0: planner picks */
    int64_t mlp_chunk_tokens, head_chunk_tokens;

    /* base model */
    qs_quant_type quant_type;
    bool double_quant;
    qs_compute compute_dtype;

    /* adapter */
    int64_t lora_r;
    double lora_alpha, lora_dropout;
    qs_strings target_modules; /* see qs_options_target_kind */
    qs_strings exclude_modules, layers_to_transform;
    qs_strings rank_pattern, alpha_pattern; /* MODULE=NUMBER */
    bool use_rslora;

    /* data */
    int64_t max_seq_length; /* tokens */
    bool packing;
    bool train_on_inputs;
    char *ignore_columns; /* comma-separated, or NULL */
    char *text_column;    /* trained whole, whatever else a row holds; NULL: by the columns */
    qs_bad_rows bad_rows;
    qs_overlong overlong;
    char *chat_template;        /* "auto", a name or a file */
    char *chat_template_kwargs; /* a JSON object; NULL: none */
    char *template_date;        /* YYYY-MM-DD; NULL: today */
    bool shuffle;
    double val_set_size; /* below 1: fraction of the samples; else their number */

    /* length of training */
    int64_t per_device_train_batch_size, gradient_accumulation_steps;
    double num_train_epochs;
    int64_t max_steps;    /* <= 0: by num_train_epochs */
    int64_t stop_at_step; /* end this process there as Ctrl-C would; 0: no */
    int64_t seed;

    /* optimizer */
    double learning_rate;
    qs_lr_type lr_scheduler_type;
    int64_t warmup_steps;
    double warmup_ratio;
    double lr_num_cycles, lr_min_ratio, lr_end, lr_power;
    qs_optim optim;
    double loraplus_lr_ratio; /* 0: one rate for A and B */
    double weight_decay, adam_beta1, adam_beta2, adam_epsilon;
    double max_grad_norm; /* 0: no clipping */

    /* reports and checkpoints */
    int64_t eval_steps; /* 0: at the end only */
    bool load_best_model_at_end, greater_is_better;
    char *metric_for_best_model;     /* NULL: eval_loss; see src/train/best.h */
    int64_t early_stopping_patience; /* validations; 0: no */
    double early_stopping_threshold;
    int64_t logging_steps, save_steps /* 0: at the end only */, save_total_limit /* 0: keep all */;
    double save_minutes;  /* also when so much time has passed; 0: no */
    qs_strings report_to; /* "tensorboard", "none" */
    bool verbose, quiet, no_color;

    uint8_t source[QS_OPTIONS_MAX]; /* qs_option_source of each row of the table */
} qs_options;

extern const qs_option_table qs_training_options;

/* Reads a command line (without program and command names), and the preset and config file it names. `more`
 * are further tables of the command, NULL when there are none. Settles what depends on each other:
 * warmup_steps against warmup_ratio, max_steps against num_train_epochs (of a pair, the one set closer to the
 * command line wins), the default cache directory. *o must be zeroed; free it in any case. QS_EUSAGE, or
 * QS_EIO when the config file cannot be read. */
int qs_options_parse(qs_options *o, int argc, char **argv, const qs_option_set *more, int more_count,
                     qs_err *e);
void qs_options_free(qs_options *o);

/* Where the value of the option called `name` came from. */
qs_option_source qs_options_source_of(const qs_options *o, const char *name);

/* Only the defaults, for tests and tools that set fields by hand. */
void qs_options_defaults(qs_options *o);

/* What a command needs beyond ranges: model, data and out are there, and no two options contradict.
 * QS_EUSAGE. */
int qs_options_check_train(const qs_options *o, qs_err *e);
int qs_options_check_plan(const qs_options *o, qs_err *e); /* model only */

/* Puts the directory that --model stands for in its place (io/model_dir.h). */
int qs_options_find_model(qs_options *o, qs_err *e);
/* Where the Hugging Face hub's programs keep what they download, by the environment; freed with qs_free. */
char *qs_options_hub_cache(void);

/* How target_modules is meant: "all-linear" alone; one item with a regular expression's characters (PEFT:
 * full match of the module path); otherwise names, each matching a module path that equals it or ends with
 * "." and it. */
typedef enum qs_target_kind { QS_TARGET_ALL_LINEAR, QS_TARGET_NAMES, QS_TARGET_REGEX } qs_target_kind;
qs_target_kind qs_options_target_kind(const qs_strings *target_modules);

/* What of the options decides tokens: of the training data, or of the validation data. The strings are
 * borrowed. */
void qs_options_data(const qs_options *o, bool validation, const char *cache_dir, qs_data_options *out);

/* The budgets, automatic ones decided. On a card: vram = 90 % of its free memory, ram = half of the host's
 * available memory. On the CPU both come from host memory: a quarter of what is available each. Rounded down
 * to 64 MiB. */
typedef struct qs_budgets {
    uint64_t vram_bytes, ram_bytes;
} qs_budgets;
qs_budgets qs_options_budgets(const qs_options *o, bool of_host_memory, uint64_t device_free_bytes,
                              uint64_t host_available_bytes);

/* The memory of the machine, or of the control group (version 1 or 2) that this process is in (a container
 * sees the machine's meminfo), and what is left of it; bytes. Files are looked for under `root`: "" but in
 * tests. */
void qs_host_memory(const char *root, uint64_t *limit, uint64_t *left);

/* Memory that this process may still take: MemAvailable, or what its control group leaves, whichever is less.
 * 0: unknown. */
uint64_t qs_host_available_bytes(void);

/* The memory of this machine, or the limit of the control group (version 1 or 2) that this process is in,
 * whichever is less. 0: unknown. */
uint64_t qs_host_total_bytes(void);

#endif
