#include "src/train/lr_schedule.h"

#include <math.h>

#include "src/base/maths.h"

/* transformers' trainer.py: an epoch's incomplete last group of micro-batches makes a step too. */
int64_t qs_lr_total_steps(const qs_options *o, int64_t micro_batches, int64_t group)
{
    if (o->max_steps > 0) return o->max_steps;
    int64_t epoch_steps = (micro_batches + group - 1) / group;
    if (epoch_steps < 1) epoch_steps = 1;
    return (int64_t)ceil(o->num_train_epochs * (double)epoch_steps);
}

qs_lr_schedule qs_lr_schedule_of(const qs_options *o, int64_t total_steps)
{
    double cycles = o->lr_num_cycles;
    if (cycles <= 0) cycles = o->lr_scheduler_type == QS_LR_COSINE_WITH_RESTARTS ? 1 : 0.5;
    return (qs_lr_schedule){
        .type = o->lr_scheduler_type,
        .learning_rate = o->learning_rate,
        .warmup_steps =
            o->warmup_steps > 0 ? o->warmup_steps : (int64_t)ceil((double)total_steps * o->warmup_ratio),
        .total_steps = total_steps,
        .num_cycles = cycles,
        .min_ratio = o->lr_min_ratio,
        .end = o->lr_end,
        .power = o->lr_power,
    };
}

/* The schedules of transformers' optimization.py, as a factor on the peak; the order of operations is theirs.
 */
static double factor(const qs_lr_schedule *s, int64_t step)
{
    const double pi = 3.141592653589793;
    double warmup = (double)s->warmup_steps, total = (double)s->total_steps, at = (double)step;
    double decay_steps = fmax(1, total - warmup), progress = (at - warmup) / decay_steps;

    if (s->type == QS_LR_CONSTANT) return 1;
    if (step < s->warmup_steps) return at / fmax(1, warmup);
    switch (s->type) {
    case QS_LR_CONSTANT:
    case QS_LR_CONSTANT_WITH_WARMUP:
        return 1;
    case QS_LR_LINEAR:
        return fmax(0, (total - at) / decay_steps);
    case QS_LR_COSINE:
        return fmax(0, 0.5 * (1 + qs_cos(pi * s->num_cycles * 2 * progress)));
    case QS_LR_COSINE_WITH_RESTARTS:
        return progress >= 1 ? 0 : fmax(0, 0.5 * (1 + qs_cos(pi * fmod(s->num_cycles * progress, 1))));
    case QS_LR_COSINE_WITH_MIN_LR: {
        double f = 0.5 * (1 + qs_cos(pi * s->num_cycles * 2 * progress));
        return fmax(0, f * (1 - s->min_ratio) + s->min_ratio);
    }
    case QS_LR_POLYNOMIAL: {
        if (step > s->total_steps) return s->end / s->learning_rate;
        double left =
            total > warmup ? 1 - (at - warmup) / (total - warmup) : 0; /* transformers divides by zero here */
        return ((s->learning_rate - s->end) * qs_pow(left, s->power) + s->end) / s->learning_rate;
    }
    case QS_LR_INVERSE_SQRT: {
        double timescale = s->warmup_steps ? warmup : 10000, shift = timescale - warmup;
        return 1 / sqrt((at + shift) / timescale);
    }
    }
    return 1;
}

double qs_lr_at(const qs_lr_schedule *s, int64_t completed_steps)
{
    return s->learning_rate * factor(s, completed_steps);
}
