/* run_state.h - checkpoints of a run: OUT/checkpoint-N, whole or not there.
 *
 *     adapter_model.safetensors, adapter_config.json   the adapter, as PEFT loads it (fp32: also the masters)
 *     optimizer.bin                                    the optimizer's states
 *     options.yaml                                     the options of the run (src/options/saved.h)
 *     trainer_state.json                               step, numeric identity, loss scale of fp16, what data
 * and model it was, length and XXH3-64 of each file, and its own checksum
 *
 * A checkpoint is written under a temporary name, synced, and renamed; trainer_state.json is written last.
 * One that is torn or altered is recognised by its sums and passed over. This is everything: data order,
 * dropout and learning rate are functions of the step. Which of them stay is src/train/checkpoints.h.
 */
#ifndef QS_TRAIN_RUN_STATE_H
#define QS_TRAIN_RUN_STATE_H

#include "src/train/best.h"
#include "src/train/engine.h"

typedef struct qs_run_state {
    int64_t step; /* completed */
    qs_numeric_identity identity;
    char fingerprint[40]; /* of the base model */
    uint64_t data_key[2];
    uint64_t eval_key[2];     /* of validation files; 0: there are none */
    uint64_t options_key;     /* of what decides the bits: qs_saved_options_key */
    qs_loss_scale loss_scale; /* fp16 only; else as started */
    bool validate;            /* the validation of this step is still to be made */
    qs_best best;
    int64_t total_steps;       /* of the schedule */
    double next_learning_rate; /* of the step that follows */
} qs_run_state;

/* Whether a checkpoint has a file of this name. */
bool qs_run_state_owns(const char *name);

/* Fills in what the engine knows: all but step, options_key and schedule. */
void qs_run_state_describe(const qs_engine *g, qs_run_state *out);

/* Writes OUT/checkpoint-<step> from the engine; options_text is its options.yaml. What stood there under that
 * name is set aside. */
int qs_run_state_save(const char *out_dir, qs_engine *g, const qs_run_state *s, const char *options_text,
                      qs_err *e);

/* Reads and checks a whole checkpoint, all its files included. QS_EFORMAT or QS_EMISSING: it is damaged;
 * QS_ENOMEM: it could not be looked at. */
int qs_run_state_read(const char *dir, qs_run_state *out, qs_err *e);

/* The newest whole checkpoint of OUT (path freed with qs_free; NULL when there are no checkpoints), or the
 * one named. QS_EFORMAT when there are some and none is whole, or the named one is damaged. */
int qs_run_state_find(const char *out_dir, const char *named, char **path, qs_run_state *out, qs_err *e);

/* Loads masters and optimizer states into a started engine. Refuses a checkpoint of another base model or
 * other data (QS_EINVAL). */
int qs_run_state_load(const char *path, const qs_run_state *state, qs_engine *g, qs_err *e);

#endif
