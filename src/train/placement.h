/* placement.h - what the planner is free to choose, and the plan of one choice.
 *
 * A placement plus the job gives a plan (offload/plan.h) without touching memory or a device, so that placements can be compared by the hundred.
 */
#ifndef QS_TRAIN_PLACEMENT_H
#define QS_TRAIN_PLACEMENT_H

#include "src/train/engine.h"

typedef struct qs_placement {
    int32_t mlp_rows, head_rows; /* of tiles: part of the numeric identity */
    bool keep_logits;            /* see src/model/head.h; this and what follows changes no bit */
    int32_t kept_layers;         /* see src/model/sweep.h */
    int32_t sweeps;              /* per step: groups of micro-batches, each of which passes all layers; 1 reads the weights least often */
    bool checkpoints_on_disk;    /* activation checkpoints: a few in RAM, the others in a scratch file */
    bool adapters_on_disk;       /* the same for masters, gradients and optimizer states */
} qs_placement;

/* Sets the fields of a sweep's configuration that a placement decides. */
void qs_placement_configure(const qs_placement *p, qs_sweep_config *c);

/* Where the masters, or the gradients, of all layers go. */
qs_page_place qs_placement_packs(const qs_engine *g, const char *tag, bool on_disk);

/* The plan of a prepared engine's job under one placement: pure. Free *out with qs_plan_free. QS_EBUDGET when it does not fit. */
int qs_placement_plan(const qs_engine *g, const qs_placement *p, qs_plan *out, qs_err *e);

/* Bytes that a step of the chosen placement writes to disk, at most. */
uint64_t qs_placement_written_bytes(const qs_engine *g);

/* The smallest budgets, together, with which the job can run: what may be is on disk, in the smallest tiles and sweeps. */
void qs_placement_minimum(const qs_engine *g, uint64_t *vram_bytes, uint64_t *ram_bytes);

/* Chooses: fills the engine's plan and the free fields of its sweep_config. `keep` (may be NULL) holds what a resumed run must keep. QS_EBUDGET with advice when nothing fits. */
int qs_placement_choose(qs_engine *g, const qs_numeric_identity *keep, qs_err *e);

#endif
