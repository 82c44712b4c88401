/* score.h - log-likelihoods of continuations, many at a time: what multiple-choice questions are answered
 * with.
 *
 *     qs_scorer *s;
 *     qs_scorer_open(&engine, &s);
 *     QS_TRY(qs_scorer_add(s, ids, count, context, &log_likelihood, e));   // once per continuation
 *     ...
 *     QS_TRY(qs_scorer_flush(s, e));                                       // now all of them are known
 *     qs_scorer_close(s);
 *
 * Continuations are laid one after another into the micro-batches of a step, each attending to itself only; a
 * full step is one forward sweep. A value does not depend on what else is in the sweep.
 */
#ifndef QS_TRAIN_SCORE_H
#define QS_TRAIN_SCORE_H

#include "src/train/engine.h"

typedef struct qs_scorer qs_scorer;

/* The engine has been started, and outlives the scorer. */
void qs_scorer_open(qs_engine *engine, qs_scorer **out);
void qs_scorer_close(qs_scorer *s);

/* Asks for log p(ids[context, count) | ids[0, context)) in nats; 1 <= context < count. Of a text longer than
 * a micro-batch the front is left out, as lm-eval does, but never of the continuation: QS_EINVAL. *out is
 * written by this call or a later one, by flush at the latest. Blocks for a sweep when the step is full.
 * Errors of the sweep. */
int qs_scorer_add(qs_scorer *s, const int32_t *ids, size_t count, size_t context, double *out, qs_err *e);
int qs_scorer_flush(qs_scorer *s, qs_err *e);

#endif
