#include "src/train/run_checks.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/log.h"

/* ---- the schedule ------------------------------------------------------------------------------------ */

enum { LOOKED_AT = 1 << 20 };
#define HIGH_RATE 0.1 /* adapters are trained with 1e-5 to 3e-3 */
#define JUMP 1.5      /* a factor between two steps that no schedule makes in the middle of a run */

/* The highest rate of all steps. A schedule is at its highest at its start or where its warm-up ends, or
 * (with restarts) again later. */
static double highest_rate(const qs_run_outlook *r)
{
    double most = qs_lr_at(r->schedule, r->total - 1);
    for (int64_t s = 0; s < r->total && s < LOOKED_AT; s++) most = fmax(most, qs_lr_at(r->schedule, s));
    if (r->schedule->warmup_steps < r->total)
        most = fmax(most, qs_lr_at(r->schedule, r->schedule->warmup_steps));
    return most;
}

static int check_schedule(const qs_run_outlook *r, qs_err *e)
{
    const qs_lr_schedule *s = r->schedule;
    if (!(s->learning_rate > 0))
        QS_FAIL(e, QS_EUSAGE,
                "learning_rate is 0: nothing would be trained; give a --learning_rate (0.0002 is usual)");
    if (s->type == QS_LR_POLYNOMIAL && s->end >= s->learning_rate)
        QS_FAIL(e, QS_EUSAGE,
                "lr_end (%g) is not below learning_rate (%g), as the polynomial schedule needs it; give a "
                "smaller --lr_end",
                s->end, s->learning_rate);
    if (s->learning_rate > HIGH_RATE)
        qs_warn("learning_rate %g is far above what adapters are trained with (0.00001 to 0.003): expect it "
                "to diverge",
                s->learning_rate);
    double most = highest_rate(r);
    bool counted = r->o->max_steps > 0 &&
                   qs_options_source_of(r->o, "max_steps") != QS_FROM_DEFAULT; /* a few steps to look at */
    if (!(most > 0) && !counted)
        QS_FAIL(e, QS_EUSAGE,
                "the learning rate is 0 in all steps of this run (%" PRId64 ", of which %" PRId64
                " warm up), so the adapter would not change; give --warmup_ratio 0, or more "
                "steps: --num_train_epochs, --max_steps, or fewer --gradient_accumulation_steps",
                r->total, s->warmup_steps);
    if (!(most > 0))
        qs_warn("the learning rate is 0 in all %" PRId64 " steps (%" PRId64
                " of them warm up): the adapter stays as it is; --warmup_ratio 0 changes that",
                r->total, s->warmup_steps);
    else if (most < 0.999 * s->learning_rate)
        qs_warn("the learning rate reaches %g of the %g asked for: the warm-up takes %" PRId64
                " steps and the run has %" PRId64 "; see --warmup_steps and --warmup_ratio",
                most, s->learning_rate, s->warmup_steps, r->total);
    return 0;
}

int qs_check_outlook(const qs_run_outlook *r, qs_err *e)
{
    const qs_options *o = r->o;
    if (r->done > r->total)
        QS_FAIL(e, QS_EUSAGE,
                "%" PRId64 " steps are done already and this run would have %" PRId64
                ": nothing is left to train; give a larger --max_steps or --num_train_epochs",
                r->done, r->total);
    if (r->done == r->total)
        qs_info("all %" PRId64 " steps are done already: nothing is left to train", r->total);
    QS_TRY(check_schedule(r, e));
    if (o->eval_steps > 0 && !r->validates)
        qs_warn("eval_steps %" PRId64
                " has no effect: there is no validation data; give --eval_data or --val_set_size",
                o->eval_steps);
    else if (o->eval_steps > r->total)
        qs_warn("eval_steps %" PRId64 " is beyond the %" PRId64
                " steps of this run: it is validated at its two ends",
                o->eval_steps, r->total);
    return 0;
}

void qs_check_resumed_rate(const qs_run_outlook *r, int64_t updates, const qs_run_state *before)
{
    double now = qs_lr_at(r->schedule, updates), then = before->next_learning_rate;
    if (r->done >= r->total || r->total == before->total_steps) return;
    if (now > JUMP * then || then > JUMP * now)
        qs_warn("the learning rate of step %" PRId64
                " was to be %g and is now %g, because the run had %" PRId64 " steps and has %" PRId64 " now",
                r->done + 1, then, now, before->total_steps, r->total);
}

/* ---- while it runs ----------------------------------------------------------------------------------- */

/* A perplexity so many times that of guessing at random is of an adapter that does not belong to its base. */
#define WORSE_THAN_GUESSING 8

void qs_check_step(qs_step_watch *w, const qs_step_metrics *m, bool first_of_adapter, int64_t vocabulary)
{
    if (m->grad_norm == 0 && !w->said_dead) {
        w->said_dead = true;
        qs_warn("step %" PRId64 ": every gradient is exactly 0, so nothing is learnt any more; a learning "
                "rate that is too high ends so: begin anew with a lower one",
                m->step);
    }
    double perplexity = qs_perplexity(m->loss);
    if (first_of_adapter && !w->said_lost && perplexity > WORSE_THAN_GUESSING * (double)vocabulary) {
        w->said_lost = true;
        qs_warn("the loss of the first step is %.2f, a perplexity of %.3g, and guessing among %" PRId64
                " tokens has %" PRId64 ": the adapter is probably that of another base model",
                m->loss, perplexity, vocabulary, vocabulary);
    }
}

/* ---- the result -------------------------------------------------------------------------------------- */

static bool any_b(const qs_lora *l, int32_t layer, const float *pack)
{
    const qs_lora_layer *kind = qs_lora_of_layer(l, layer);
    for (int t = 0; t < QS_TENSORS_MAX; t++) {
        const qs_lora_slot *s = &kind->slot[t];
        for (int64_t i = 0; s->active && i < (int64_t)s->out * s->r; i++)
            if (pack[s->b_at + i] != 0) return true;
    }
    return false;
}

int qs_check_adapter(const qs_lora *l, qs_pager *masters, qs_err *e)
{
    bool moved = false;
    qs_pager_begin(masters, NULL);
    for (int32_t layer = 0; layer < l->layers && !moved; layer++) {
        qs_pager_at(masters, layer);
        const float *pack = qs_pager_acquire(masters, layer, QS_PAGE_READ);
        int rc = qs_pager_check(masters, e);
        moved = !rc && l->layer_mask[layer] && any_b(l, layer, pack);
        qs_pager_release(masters, layer, false, QS_QUEUE_COUNT);
        QS_TRY(rc);
    }
    if (!moved)
        QS_FAIL(e, QS_ENUMERIC,
                "every B of the adapter is 0 after training: it changes nothing; look at the learning rate, "
                "the data and what of it is trained");
    return 0;
}
