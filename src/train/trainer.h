/* trainer.h - a whole training run: steps, validation, checkpoints, reports, stopping and going on.
 *
 * OUT/ holds options.yaml, metrics.jsonl, events.out.tfevents.* (TensorBoard), checkpoint-N/ and, at the end,
 * the adapter itself. A run begins by writing checkpoint-0, so that a run killed at any later instant goes on
 * with --resume to the same bits, under other budgets too.
 */
#ifndef QS_TRAIN_TRAINER_H
#define QS_TRAIN_TRAINER_H

#include <stdio.h>

#include "src/train/engine.h"

/* Runs to the end of training, to stop_at_step, or until an interrupt is requested (then the step is
 * finished, saved, and QS_EINTERRUPT returned with a sentence saying how to go on). Blocks. `o` must have
 * passed qs_options_check_train. An existing OUT is QS_EINVAL without --resume. */
int qs_train(qs_options *o, qs_err *e);

/* Does everything of it that can be refused, prints the verdict and the plan on `f`, and leaves no trace but
 * tokens and measurements in the cache. */
int qs_train_dry_run(qs_options *o, FILE *f, qs_err *e);

/* Prints a prepared engine's plan on `f`: pools, items, placement, the sizes of the numeric identity. */
void qs_train_print_plan(const qs_engine *g, FILE *f);

#endif
