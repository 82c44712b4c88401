/* placement.h - what the planner is free to choose, and the plan of one choice.
 *
 * A placement plus the job gives a plan (offload/plan.h) without touching memory or a device, so that placements can be compared by the hundred.
 */
#ifndef QS_TRAIN_PLACEMENT_H
#define QS_TRAIN_PLACEMENT_H

#include "src/train/engine.h"

typedef struct qs_placement {
    int32_t mlp_rows, head_rows; /* of tiles: part of the numeric identity */
    bool keep_logits;            /* see src/model/head.h; changes no bit */
    int32_t kept_layers;         /* see src/model/sweep.h; changes no bit */
} qs_placement;

/* Sets the fields of a sweep's configuration that a placement decides. */
void qs_placement_configure(const qs_placement *p, qs_sweep_config *c);

/* The plan of a prepared engine's job under one placement: pure. Free *out with qs_plan_free. QS_EBUDGET when it does not fit. */
int qs_placement_plan(const qs_engine *g, const qs_placement *p, qs_plan *out, qs_err *e);

/* Chooses: fills the engine's plan and the free fields of its sweep_config. `keep` (may be NULL) holds what a resumed run must keep. QS_EBUDGET with advice when nothing fits. */
int qs_placement_choose(qs_engine *g, const qs_numeric_identity *keep, qs_err *e);

#endif
