/* placement.h - what the planner is free to choose, and the plan of one choice.
 *
 * A placement plus the job gives a plan (offload/plan.h) and a prediction (predict.h) without touching memory
 * or a device, so that placements can be compared by the hundred: placement_search.c does.
 */
#ifndef QS_PLAN_PLACEMENT_H
#define QS_PLAN_PLACEMENT_H

#include "src/plan/job.h"
#include "src/plan/predict.h"

typedef struct qs_placement {
    /* part of the numeric identity */
    int32_t mlp_rows, head_rows; /* of tiles */
    /* changes no bit */
    bool dense_by_group;  /* see src/model/weights.h */
    bool keep_logits;     /* see src/model/head.h */
    int32_t saved_layers; /* see src/step/sweep.h */
    int32_t saved_in_ram; /* likewise */
    int32_t ring_slots;   /* see offload/plan.h */
    int32_t sweeps; /* per step: groups of micro-batches, each of which passes all layers; 1 reads the weights
                       least often */
    bool checkpoints_on_disk; /* activation checkpoints: a few in RAM, the others in a scratch file */
    bool adapters_on_disk;    /* the same for masters, gradients and optimizer states */
} qs_placement;

/* Sets the fields of a sweep's configuration that a placement decides. */
void qs_placement_configure(const qs_placement *p, qs_sweep_config *c);

/* Where the masters, or the gradients, of all layers go. */
qs_pager_spec qs_placement_packs(const qs_job *j, qs_item item, bool on_disk);

/* The plan of a job under one placement: pure. Free *out with qs_plan_free. QS_EBUDGET when it does not fit.
 */
int qs_placement_plan(const qs_job *j, const qs_placement *p, qs_plan *out, qs_err *e);

/* What a prediction needs to know of a job under a placement and its plan. Borrows the plan. */
qs_placed_job qs_placement_apply(const qs_job *j, const qs_placement *p, const qs_plan *plan);

/* The smallest budgets, together, of the job under one placement. */
void qs_placement_budgets(const qs_job *j, const qs_placement *p, uint64_t *vram_bytes, uint64_t *ram_bytes);

/* ---- placement_search.c ------------------------------------------------------------------------------ */

/* The smallest budgets, together, with which the job can run: what may be is on disk, in the smallest tiles
 * and sweeps. */
void qs_placement_minimum(const qs_job *j, uint64_t *vram_bytes, uint64_t *ram_bytes);

/* Chooses a placement and makes its plan (freed with qs_plan_free). QS_EBUDGET with advice when nothing fits.
 * What is part of the numeric identity is chosen by the rates of a nominal machine, so that it depends on the
 * job alone. */
int qs_placement_choose(const qs_job *j, qs_placement *p, qs_plan *plan, qs_err *e);

/* Chooses the rest again, by these rates: replaces *p and *plan by the fastest ones of the same numeric
 * identity. */
void qs_placement_refine(const qs_job *j, const qs_rates *rates, qs_placement *p, qs_plan *plan);

/* The number of sequences of a micro-batch, a divisor of `sequences`, that is fastest on the nominal machine;
 * in a resumed run the one it had. For jobs whose options leave it open. */
int64_t qs_placement_micro_batch(const qs_job *j, int64_t sequences);

#endif
