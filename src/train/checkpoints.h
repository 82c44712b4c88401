/* checkpoints.h - which checkpoints of OUT stay, which go, and which stand aside.
 *
 * A checkpoint's number says how far it is, not how old or how whole. So only those go that belong to this
 * run, were read back whole or written by this process, hold no file of somebody else, and have `keep` newer
 * whole ones before them. A damaged one, a link, a file of that name and the best one stay. Going on from an
 * older checkpoint renames the newer ones: they belong to a branch that was left.
 */
#ifndef QS_TRAIN_CHECKPOINTS_H
#define QS_TRAIN_CHECKPOINTS_H

#include "src/options/saved.h"
#include "src/train/run_state.h"

#define QS_CHECKPOINT_TEMPORARY "tmp-checkpoint-"

typedef struct qs_checkpoint_verdict {
    int64_t step;
    bool whole;
} qs_checkpoint_verdict;

typedef struct qs_checkpoints {
    const char *out;             /* borrowed */
    int keep;                    /* 0: all */
    int64_t best;                /* stays as well; -1: none */
    qs_checkpoint_verdict *seen; /* [count] what is known so far */
    int count;
} qs_checkpoints;

void qs_checkpoints_free(qs_checkpoints *c);

/* Removes what a cut-off saving or removing left behind (tmp-checkpoint-N). A failure is a warning. */
void qs_checkpoints_tidy(const char *out);

/* Renames the checkpoints beyond `step`, newest first. */
int qs_checkpoints_set_aside(const char *out, int64_t step, qs_err *e);

/* Notes that checkpoint-<step> is whole. */
void qs_checkpoints_know(qs_checkpoints *c, int64_t step);

/* Removes those beyond `keep`; `now` is the state just saved, and says which are of the same run. Failures
 * are warnings. */
void qs_checkpoints_prune(qs_checkpoints *c, const qs_run_state *now);

#endif
