/* verdict.h - what a plan means to who asked for it: how long the whole run takes, what binds, what it does
 * to the drive and what it costs in energy. */
#ifndef QS_TRAIN_VERDICT_H
#define QS_TRAIN_VERDICT_H

#include <jansson.h>

#include "src/train/engine.h"

typedef struct qs_verdict {
    int64_t steps;       /* of the run; 0: not known, without data or max_steps */
    double step_seconds; /* 0: this machine has not been measured */
    double seconds;      /* of all steps, the first from an empty layer cache; 0: not known */
    double tokens_per_second;
    double read_bytes, written_bytes; /* of all steps, or of one where their number is not known; the layer
                                         cache's first writing counts */
    double kwh;                       /* at the card's board power; 0: not known */
} qs_verdict;

/* Of an engine that is prepared and, where its speed is wanted, predicted. Pure. */
qs_verdict qs_verdict_of(const qs_engine *g);

/* A few lines for people, the first of which says that it fits. */
void qs_verdict_print(const qs_engine *g, const qs_verdict *v, FILE *f);

/* The verdict and the plan's table as an object; the caller owns it. */
json_t *qs_verdict_json(const qs_engine *g, const qs_verdict *v);

#endif
