/* placement.h - what the planner is free to choose, and the plan of one choice.
 *
 * A placement plus the job gives a plan (offload/plan.h) without touching memory or a device, so that placements can be compared by the hundred.
 */
#ifndef QS_TRAIN_PLACEMENT_H
#define QS_TRAIN_PLACEMENT_H

#include "src/train/engine.h"

typedef struct qs_placement {
    /* part of the numeric identity */
    int32_t mlp_rows, head_rows; /* of tiles */
    /* changes no bit */
    bool keep_logits;            /* see src/model/head.h */
    int32_t ring_slots;          /* see offload/plan.h */
    int32_t sweeps;              /* groups of micro-batches that go through the layers one after another, so that fewer checkpoints exist at once; 1: all together */
    bool checkpoints_on_disk;    /* activation checkpoints are written to the disk and read back */
    bool adapters_on_disk;       /* masters, gradients and optimizer states too */
} qs_placement;

/* Sets the fields of a sweep's configuration that a placement decides. */
void qs_placement_configure(const qs_placement *p, qs_sweep_config *c);

/* The plan of a prepared engine's job under one placement: pure. Free *out with qs_plan_free. QS_EBUDGET when it does not fit. */
int qs_placement_plan(const qs_engine *g, const qs_placement *p, qs_plan *out, qs_err *e);

/* What a prediction needs to know of the engine's job under one configuration and plan. Borrows all of them. */
void qs_placement_job(const qs_engine *g, const qs_sweep_config *c, const qs_plan *plan, qs_job *out);

/* Chooses: fills the engine's plan and the free fields of its sweep_config. `keep` (may be NULL) holds what a resumed run must keep. QS_EBUDGET with advice when nothing fits.
 * What is part of the numeric identity is chosen by the rates of a nominal machine, so that it depends on the job, the budgets and the backend alone. */
int qs_placement_choose(qs_engine *g, const qs_numeric_identity *keep, qs_err *e);

/* Chooses the rest again, by these rates: replaces the plan by the fastest one of the same numeric identity. */
void qs_placement_refine(qs_engine *g, const qs_rates *rates);

/* With per_device_train_batch_size 0: sets it to the number of sequences of a micro-batch that is fastest on the nominal machine, a divisor of gradient_accumulation_steps, which
 * becomes the number of micro-batches. */
void qs_placement_choose_micro_batch(qs_engine *g, const qs_numeric_identity *keep);

#endif
