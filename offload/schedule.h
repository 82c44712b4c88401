/* schedule.h - one optimizer step as a fixed list of visits.
 *
 *     EMBED  F0 F1 ... F(L-1)  HEAD...  B(L-1) ... B1 B0  UPDATE
 *
 * A visit is "these weights are on the device: do this to micro-batches [first, first + count) of the step".
 * The weights of a visit are one blob: layer l is blob l, tile t of the head (a range of the vocabulary) is
 * blob layers + t. The head is visited twice, tile by tile: forwards to fold the logits into the loss,
 * backwards to form the gradient, so the whole list is a palindrome of blobs; with several sweeps per step,
 * one palindrome after another.
 *
 * Planner, simulator, streamer, executor and profiler all read this list; none keeps its own idea of the
 * order.
 */
#ifndef QS_OFFLOAD_SCHEDULE_H
#define QS_OFFLOAD_SCHEDULE_H

#include <stdint.h>

typedef enum qs_visit_kind {
    QS_VISIT_EMBED,
    QS_VISIT_FORWARD,
    QS_VISIT_HEAD_LOSS,
    QS_VISIT_HEAD_GRADIENT,
    QS_VISIT_BACKWARD,
    QS_VISIT_UPDATE
} qs_visit_kind;

typedef struct qs_visit {
    qs_visit_kind kind;
    int32_t blob;         /* -1: no weights */
    int32_t index;        /* layer, or tile of the head */
    int32_t first, count; /* micro-batches */
} qs_visit;

typedef struct qs_schedule {
    qs_visit *visits;
    int32_t count;
    int32_t layers, tiles, micro_batches;
    int32_t *next_use; /* [count] steps from visit v to the next visit of its blob, going round the end; 0
                          when it has no blob */
} qs_schedule;

/* A step may make several sweeps, each over a group of the micro-batches: with 1 the weights cross a link
 * twice a step, with `micro_batches` (the usual loop) twice for each. More sweeps keep fewer activation
 * checkpoints at a time. The sums and their order, so the bits, are the same. Micro-batches of a group, the
 * last of which may have fewer: */
static inline int32_t qs_schedule_group(int32_t micro_batches, int32_t sweeps)
{
    return (micro_batches + sweeps - 1) / sweeps;
}

/* The visits of a training step. Layers below `lowest_trained` have no adapters and get no backward visit.
 * sweeps: 1 to micro_batches. Free with qs_schedule_free. */
void qs_schedule_train(int32_t layers, int32_t tiles, int32_t micro_batches, int32_t lowest_trained,
                       int32_t sweeps, qs_schedule *out);

/* Forward only, for evaluation: EMBED, F.., HEAD_LOSS, for each group. */
void qs_schedule_evaluate(int32_t layers, int32_t tiles, int32_t micro_batches, int32_t sweeps,
                          qs_schedule *out);

void qs_schedule_free(qs_schedule *s);

/* "forward 12", "head loss 3", ... into text[32]. */
void qs_visit_name(const qs_visit *v, char text[32]);

/* Visits from position `from` (inclusive) until `blob` is next used, going round the end; count when never.
 */
int32_t qs_schedule_distance(const qs_schedule *s, int32_t from, int32_t blob);

#endif
