/* run_state.h - checkpoints of a run: OUT/checkpoint-N, whole or not there.
 *
 *     adapter_model.safetensors, adapter_config.json   the adapter, as PEFT loads it (fp32: also the masters)
 *     optimizer.bin                                    the optimizer's states
 *     trainer_state.json                               step, numeric identity, loss scale of fp16, what data and model it was, length and XXH3-64 of each file
 *
 * A checkpoint is written under a temporary name, synced, and renamed; trainer_state.json is written last. One that is torn or altered is recognised by its sums and passed over. Together with the
 * options (kept in OUT/options.yaml) this is everything: data order, dropout and learning rate are functions of the step.
 */
#ifndef QS_TRAIN_RUN_STATE_H
#define QS_TRAIN_RUN_STATE_H

#include "src/train/engine.h"

typedef struct qs_run_state {
    int64_t step;                 /* completed */
    qs_numeric_identity identity;
    char fingerprint[40];         /* of the base model */
    uint64_t data_key[2];
    qs_loss_scale loss_scale;     /* fp16 only; else as started */
} qs_run_state;

/* Writes OUT/checkpoint-<step> from the engine, then removes the oldest beyond `keep` (0: keep all). */
int qs_run_state_save(const char *out_dir, qs_engine *g, int64_t step, int keep, qs_err *e);

/* The newest whole checkpoint of OUT (path freed with qs_free; NULL when there is none), or the one named. QS_EFORMAT for a named one that is damaged. */
int qs_run_state_find(const char *out_dir, const char *named, char **path, qs_run_state *out, qs_err *e);

/* Loads masters and optimizer states into a started engine. Refuses a checkpoint of another base model or other data (QS_EINVAL). */
int qs_run_state_load(const char *path, const qs_run_state *state, qs_engine *g, qs_err *e);

#endif
