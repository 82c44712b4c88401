/* placement.h - what the planner is free to choose, and the plan of one choice.
 *
 * A placement plus the job gives a plan (offload/plan.h) and a prediction (predict.h) without touching memory or a device, so that placements can be compared by the hundred:
 * placement_search.c does.
 */
#ifndef QS_TRAIN_PLACEMENT_H
#define QS_TRAIN_PLACEMENT_H

#include "src/train/engine.h"

typedef struct qs_placement {
    /* part of the numeric identity */
    int32_t mlp_rows, head_rows; /* of tiles */
    /* changes no bit */
    bool keep_logits;            /* see src/model/head.h */
    int32_t saved_layers;         /* see src/step/sweep.h */
    int32_t saved_in_ram;         /* likewise */
    int32_t ring_slots;          /* see offload/plan.h */
    int32_t sweeps;              /* per step: groups of micro-batches, each of which passes all layers; 1 reads the weights least often */
    bool checkpoints_on_disk;    /* activation checkpoints: a few in RAM, the others in a scratch file */
    bool adapters_on_disk;       /* the same for masters, gradients and optimizer states */
} qs_placement;

/* Fills the sizes that the data decides: all of the sweep's but the tiles. */
void qs_placement_sizes_of_data(qs_engine *g);

/* Sets the fields of a sweep's configuration that a placement decides. */
void qs_placement_configure(const qs_placement *p, qs_sweep_config *c);

/* Where the masters, or the gradients, of all layers go. */
qs_pager_spec qs_placement_packs(const qs_engine *g, qs_item item, bool on_disk);

/* The plan of a prepared engine's job under one placement: pure. Free *out with qs_plan_free. QS_EBUDGET when it does not fit. */
int qs_placement_plan(const qs_engine *g, const qs_placement *p, qs_plan *out, qs_err *e);

/* What a prediction needs to know of the engine's job under a placement and its plan. Borrows the plan. */
void qs_placement_job(const qs_engine *g, const qs_placement *p, const qs_plan *plan, qs_job *out);

/* The smallest budgets, together, of the job under one placement. */
void qs_placement_budgets(const qs_engine *g, const qs_placement *p, uint64_t *vram_bytes, uint64_t *ram_bytes);

/* Bytes that a step of the chosen placement writes to disk, at most. */
uint64_t qs_placement_written_bytes(const qs_engine *g);

/* ---- placement_search.c ---- */

/* The smallest budgets, together, with which the job can run: what may be is on disk, in the smallest tiles and sweeps. */
void qs_placement_minimum(const qs_engine *g, uint64_t *vram_bytes, uint64_t *ram_bytes);

/* Chooses: fills the engine's placement and plan, and the free fields of its sweep_config. `keep` (may be NULL) holds what a resumed run must keep. QS_EBUDGET with advice when nothing fits.
 * What is part of the numeric identity is chosen by the rates of a nominal machine, so that it depends on the job, the budgets and the backend alone. */
int qs_placement_choose(qs_engine *g, const qs_numeric_identity *keep, qs_err *e);

/* Chooses the rest again, by these rates: replaces the plan by the fastest one of the same numeric identity. */
void qs_placement_refine(qs_engine *g, const qs_rates *rates);

/* The chosen placement, as it stands in the engine's configuration. */
qs_placement qs_placement_chosen(const qs_engine *g);

/* With per_device_train_batch_size 0: sets it to the number of sequences of a micro-batch that is fastest on the nominal machine, a divisor of gradient_accumulation_steps, which
 * becomes the number of micro-batches. */
void qs_placement_choose_micro_batch(qs_engine *g, const qs_numeric_identity *keep);

#endif
