#include "src/commands/sampling.h"

#include <stdlib.h>

#include "src/base/maths.h"
#include "src/base/memory.h"
#include "src/base/random.h"

enum { STREAM = 0x67656e }; /* of random numbers: "gen" */

typedef struct candidate {
    int32_t id;
    float logit;
    double weight; /* exp of the logit over the largest */
} candidate;

static void penalise(float *logits, int32_t vocab, const int32_t *seen, size_t count, float penalty)
{
    char *done = qs_calloc((size_t)vocab, 1); /* each token once, however often it was seen */
    for (size_t i = 0; i < count; i++) {
        int32_t id = seen[i];
        if (done[id]) continue;
        done[id] = 1;
        logits[id] = logits[id] > 0 ? logits[id] / penalty : logits[id] * penalty;
    }
    qs_free(done);
}

static int32_t likeliest(const float *logits, int32_t vocab)
{
    int32_t best = 0;
    for (int32_t i = 1; i < vocab; i++)
        if (logits[i] > logits[best]) best = i;
    return best;
}

static int by_logit(const void *a, const void *b)
{
    const candidate *x = a, *y = b;
    if (x->logit != y->logit) return x->logit > y->logit ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

/* How many of the candidates, likeliest first, stay; fills their weights. */
static int32_t filter(const qs_sampling *s, candidate *c, int32_t n)
{
    double sum = 0, so_far = 0;
    if (s->top_k && s->top_k < n) n = (int32_t)s->top_k;
    for (int32_t i = 0; i < n; i++) sum += c[i].weight = qs_exp((c[i].logit - c[0].logit) / s->temperature);
    for (int32_t i = 0; s->top_p < 1 && i < n; i++) {
        so_far += c[i].weight;
        if (so_far >= s->top_p * sum) n = i + 1;
    }
    while (n > 1 && c[n - 1].weight < s->min_p) n--; /* the likeliest weighs 1 */
    return n;
}

int32_t qs_sampling_next(const qs_sampling *s, float *logits, int32_t vocab, const int32_t *seen,
                         size_t count, uint64_t position)
{
    if (s->repetition_penalty != 1) penalise(logits, vocab, seen, count, (float)s->repetition_penalty);
    if (s->temperature <= 0) return likeliest(logits, vocab);
    candidate *c = qs_malloc((size_t)vocab * sizeof *c);
    for (int32_t i = 0; i < vocab; i++) c[i] = (candidate){.id = i, .logit = logits[i]};
    qsort(c, (size_t)vocab, sizeof *c, by_logit);
    int32_t n = filter(s, c, vocab), chosen = c[n - 1].id;
    double sum = 0, at = 0, u = qs_uniform_f32(qs_random_u32(s->seed, STREAM, position));
    for (int32_t i = 0; i < n; i++) sum += c[i].weight;
    for (int32_t i = 0; i < n; i++) {
        at += c[i].weight;
        if (at > u * sum) {
            chosen = c[i].id;
            break;
        }
    }
    qs_free(c);
    return chosen;
}
