/* lr_schedule.h - the learning rate of each optimizer step, as in transformers (optimization.py, trainer.py).
 *
 * A schedule is a pure function of the number of completed steps: the first optimizer step uses s = 0. So
 * with warmup the first step has learning rate 0, and `constant` ignores warmup altogether: both are
 * transformers' behaviour, kept because recipes depend on it. Nothing is stored, so a resumed run cannot be
 * off by one.
 */
#ifndef QS_TRAIN_LR_SCHEDULE_H
#define QS_TRAIN_LR_SCHEDULE_H

#include <stdint.h>

#include "src/options/options.h"

typedef struct qs_lr_schedule {
    qs_lr_type type;
    double learning_rate; /* the peak */
    int64_t warmup_steps;
    int64_t total_steps;
    double
        num_cycles;   /* cosine: periods (0.5 is one descent); with restarts: how many times it starts anew */
    double min_ratio; /* cosine_with_min_lr: floor, as a share of the peak */
    double end;       /* polynomial: learning rate at total_steps */
    double power;     /* polynomial: exponent */
} qs_lr_schedule;

/* Optimizer steps of a run: max_steps when positive, else ceil(num_train_epochs * steps of an epoch), where
 * an epoch of `micro_batches` micro-batches has ceil(micro_batches / group) steps, at least 1. */
int64_t qs_lr_total_steps(const qs_options *o, int64_t micro_batches, int64_t group);

/* The schedule that the options describe. Warmup is warmup_steps when positive, else ceil(total_steps *
 * warmup_ratio). */
qs_lr_schedule qs_lr_schedule_of(const qs_options *o, int64_t total_steps);

/* The learning rate after `completed_steps` optimizer steps, in double as transformers computes it. */
double qs_lr_at(const qs_lr_schedule *s, int64_t completed_steps);

#endif
