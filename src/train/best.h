/* best.h - the best validation of a run, and when to stop for want of a better one, as in transformers.
 *
 * load_best_model_at_end makes its checkpoint the adapter that the run ends with; its checkpoint is never
 * pruned. early_stopping_patience counts validations that were not better than the best by more than
 * early_stopping_threshold. The validation before the first step counts for neither.
 */
#ifndef QS_TRAIN_BEST_H
#define QS_TRAIN_BEST_H

#include "src/options/options.h"

typedef struct qs_best {
    int64_t step;  /* of the best validation; 0: none yet */
    double value;  /* of its metric */
    int64_t stale; /* validations since one that counted as better */
} qs_best;

/* QS_EUSAGE when the options ask for what cannot be. `validates`: there is validation data. */
int qs_best_check(const qs_options *o, bool validates, qs_err *e);

/* Takes in the validation of a step. */
void qs_best_note(qs_best *b, const qs_options *o, int64_t step, double eval_loss);

/* Whether patience is at its end. */
bool qs_best_is_over(const qs_best *b, const qs_options *o);

/* The metric's name: "eval_loss" or "eval_perplexity". */
const char *qs_best_metric(const qs_options *o);

#endif
