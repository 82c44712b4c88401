/* fetches.h - how many records each visit must bring into a discrete device's buffers: what the activation
 * stores of a run do (offload/device_buffers.h), counted over the schedule. */
#ifndef QS_STEP_FETCHES_H
#define QS_STEP_FETCHES_H

#include "src/step/visit.h"

typedef struct qs_fetches {
    int32_t *of[QS_RECORDS]; /* [visits of the schedule]; NULL: of this kind none */
} qs_fetches;

/* Of checkpoints and saved activations in a steady step; of none where memory is shared. Free with
 * qs_fetches_free. */
void qs_fetches_count(const qs_visit_rules *r, const qs_schedule *s, qs_fetches *out);
void qs_fetches_free(qs_fetches *f);

#endif
