/* sampling.h - which token comes next, given the logits: the filters that people know from transformers, in
 * the same order.
 */
#ifndef QS_COMMANDS_SAMPLING_H
#define QS_COMMANDS_SAMPLING_H

#include <stddef.h>
#include <stdint.h>

typedef struct qs_sampling {
    double temperature;        /* logits are divided by it; 0: always the likeliest token */
    int64_t top_k;             /* only so many of the likeliest; 0: all */
    double top_p;              /* of those, the fewest that together are so likely; 1: all */
    double min_p;              /* of those, the ones at least this times as likely as the likeliest; 0: all */
    double repetition_penalty; /* logits of tokens seen are divided by it, or multiplied if negative; 1: not
                                  (Keskar et al., "CTRL", 2019) */
    uint64_t seed;
} qs_sampling;

/* The next token. logits [vocab] are overwritten; seen [count]: the text so far. A function of its arguments:
 * the random number is that of (seed, position). Equal logits: the lower id. */
int32_t qs_sampling_next(const qs_sampling *s, float *logits, int32_t vocab, const int32_t *seen,
                         size_t count, uint64_t position);

#endif
