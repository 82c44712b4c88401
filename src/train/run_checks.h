/* run_checks.h - runs that cannot do what was asked, found before the first step or at the first sign.
 *
 * The schedule is transformers' own and stays so; what it comes to for this run is computed here. What trains
 * nothing is refused, what is likely a slip is a warning.
 */
#ifndef QS_TRAIN_RUN_CHECKS_H
#define QS_TRAIN_RUN_CHECKS_H

#include "src/train/lr_schedule.h"
#include "src/train/metrics.h"
#include "src/train/run_state.h"

/* Steps done and steps in all of a run with this schedule, and whether it has validation data. */
typedef struct qs_run_outlook {
    const qs_options *o;
    const qs_lr_schedule *schedule;
    int64_t done, total;
    bool validates;
} qs_run_outlook;

/* QS_EUSAGE: no step has a learning rate, or the schedule cannot be followed, or more steps are done than
 * there are. Warns of a peak that is never reached, a rate far beyond what adapters bear, and validations
 * that will not take place. */
int qs_check_outlook(const qs_run_outlook *r, qs_err *e);

/* Warns when the rate of the step that follows is far from the one the checkpoint was to have. `updates`:
 * made so far. */
void qs_check_resumed_rate(const qs_run_outlook *r, int64_t updates, const qs_run_state *before);

/* What a run has said already. */
typedef struct qs_step_watch {
    bool said_dead, said_lost;
} qs_step_watch;

/* After a step: warns once when all gradients are exactly 0, or when the first loss under an adapter that the
 * run began from is worse than guessing. */
void qs_check_step(qs_step_watch *w, const qs_step_metrics *m, bool first_of_adapter, int64_t vocabulary);

/* QS_ENUMERIC when every B of the adapter is 0: it changes nothing. */
int qs_check_adapter(const qs_lora *l, qs_pager *masters, qs_err *e);

#endif
