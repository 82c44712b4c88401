#include "src/train/best.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

#include "src/train/metrics.h"

const char *qs_best_metric(const qs_options *o)
{
    const char *name = o->metric_for_best_model;
    return name && strstr(name, "perplexity") ? "eval_perplexity" : "eval_loss";
}

int qs_best_check(const qs_options *o, bool validates, qs_err *e)
{
    static const char *const known[] = {"loss", "eval_loss", "perplexity", "eval_perplexity"};
    const char *name = o->metric_for_best_model;
    bool found = !name;
    for (size_t i = 0; i < sizeof known / sizeof *known && !found; i++) found = !strcmp(name, known[i]);
    if (!found)
        QS_FAIL(e, QS_EUSAGE, "metric_for_best_model expects eval_loss or eval_perplexity, found \"%s\"",
                name);
    if (!o->load_best_model_at_end && !o->early_stopping_patience) return 0;
    const char *wish = o->load_best_model_at_end ? "load_best_model_at_end" : "early_stopping_patience";
    if (!validates)
        QS_FAIL(e, QS_EUSAGE, "%s needs validation data; give --eval_data or --val_set_size", wish);
    if (!o->eval_steps) QS_FAIL(e, QS_EUSAGE, "%s needs validations on the way; give --eval_steps", wish);
    if (o->load_best_model_at_end && (!o->save_steps || o->save_steps % o->eval_steps))
        QS_FAIL(e, QS_EUSAGE,
                "load_best_model_at_end needs a checkpoint where it validates: save_steps (%" PRId64
                ") must be a multiple of eval_steps (%" PRId64 ")",
                o->save_steps, o->eval_steps);
    return 0;
}

void qs_best_note(qs_best *b, const qs_options *o, int64_t step, double eval_loss)
{
    double value = strcmp(qs_best_metric(o), "eval_loss") ? qs_perplexity(eval_loss) : eval_loss;
    if (!step) return;
    bool better = !b->step || (o->greater_is_better ? value > b->value : value < b->value);
    bool counts = !b->step || (better && fabs(value - b->value) > o->early_stopping_threshold);
    b->stale = counts ? 0 : b->stale + 1;
    if (!better) return;
    b->step = step;
    b->value = value;
}

bool qs_best_is_over(const qs_best *b, const qs_options *o)
{
    return o->early_stopping_patience > 0 && b->stale >= o->early_stopping_patience;
}
