/* engine.h - everything between options and a running sweep, in two stages.
 *
 * qs_engine_prepare reads the model's and the data's headers and makes the plan: pure as far as memory goes,
 * this is all that `plan` needs. qs_engine_start maps the pools, opens the layer cache and the streamer and
 * builds the sweep: from then on nothing is allocated. train, evaluate, generate and bench all stand on this.
 */
#ifndef QS_TRAIN_ENGINE_H
#define QS_TRAIN_ENGINE_H

#include "src/data/token_cache.h"
#include "src/step/quantise_on_load.h"
#include "src/step/sweep.h"
#include "src/options/options.h"
#include "src/plan/calibrate.h"
#include "src/plan/hardware.h"
#include "src/train/loss_scale.h"
#include "src/plan/placement.h"
#include "src/step/update.h"

typedef struct qs_engine {
    /* Set before qs_engine_prepare, for plans: NULL otherwise, and then --model and --device say. */
    const char *shape;     /* a known shape instead of a model directory */
    int32_t shape_layers;  /* 0: its own number */
    qs_hardware *hardware; /* a card on paper instead of a device; borrowed */
    qs_hardware_host host; /* of that card's machine */

    /* what is trained on what */
    const qs_options *options; /* borrowed */
    bool resumed;              /* its adapters come from a checkpoint */
    qs_device *device, *cpu;   /* the same when training on the CPU */
    qs_architecture architecture;
    qs_source *source;
    qs_layout layout;
    qs_lora lora;
    qs_token_cache *train_tokens, *eval_tokens;
    qs_batcher *batcher;  /* NULL without data */
    uint64_t *blob_bytes; /* [blobs] */
    qs_job job;           /* all of the above as the planner needs it */

    /* what was chosen for it */
    qs_placement placement;
    qs_plan plan;
    qs_sweep_config sweep_config; /* the job's under the placement */
    qs_update_config update_config;
    qs_recorder *recorder;       /* NULL, or set before the start: what the streamer notes its doings in */
    qs_calibration *calibration; /* NULL until a prediction was asked for */
    bool calibrate_by_processor_time; /* see calibrate.h */
    qs_prediction
        prediction; /* of a step under the plan; its visits are those of qs_sweep_schedule in training */

    /* after qs_engine_start */
    qs_tier tier;
    qs_aio *aio;
    qs_cache *cache;
    char *cache_dir; /* the first of them, where a run also puts what its memory has no room for */
    qs_quantise_on_load *maker;
    qs_stream *stream;
    qs_embedding *embedding;
    qs_sweep *sweep;
    qs_update *update;
    qs_loss_scale loss_scale;      /* part of the run's state */
    qs_pager *masters, *gradients; /* packs: see src/model/lora.h */
} qs_engine;

/* The adapters that the options ask for; the names are borrowed from them. */
qs_lora_config qs_lora_config_of(const qs_options *o);

/* Fills *out (zeroed by the caller but for its first fields), also when it fails: qs_engine_close in any
 * case. `report` (may be NULL) gets the data audit. `keep` may be NULL. Errors of every kind of bad input. */
/* Nothing writes into the options after the first lines of it, which adopt what an adapter to start from
 * says. */
int qs_engine_prepare(qs_options *o, const qs_numeric_identity *keep, FILE *report, qs_engine *out,
                      qs_err *e);

/* Fills g->prediction from what is known of this machine's speed; with `measure` (or --recalibrate, or a job
 * big enough to be worth it) measures what is not, which takes seconds. Before qs_engine_start: it borrows
 * memory. A failure is a warning, and the prediction stays unknown. */
void qs_engine_predict(qs_engine *g, bool measure);

/* Maps memory and opens the rest. The adapters are at their initial values: PEFT's, or those of
 * --init-adapter. */
int qs_engine_start(qs_engine *g, qs_err *e);
void qs_engine_close(qs_engine *g);

/* How long the host stood still for the disk over masters, gradients and optimizer states, so far. What a
 * sweep waits for is part of its visits' times already. */
uint64_t qs_engine_pager_wait_ns(const qs_engine *g);

/* Device memory that the process held at its peak, as the driver counts it; where nobody counts, what the
 * plan uses. */
uint64_t qs_engine_device_peak_bytes(const qs_engine *g);

/* Optimizer steps of the run; without data max_steps, or 0 where it is not given. */
int64_t qs_engine_total_steps(const qs_engine *g);

/* Fills the sweep's micro-batches with those of a 0-based step. QS_EIO: the token cache was cut short. */
int qs_engine_fill_step(qs_engine *g, int64_t step, qs_step_info *info, qs_err *e);

/* Mean validation loss over everything set aside; targets counted. Blocks. */
int qs_engine_evaluate(qs_engine *g, double *loss, int64_t *targets, qs_err *e);

#endif
