/* costs.h - the operations of every visit of a step, noted down by running the visits' own code
 * (src/step/visit_compute.h) on a meta device (kernels/meta_device.h).
 *
 * Visits that compute the same (qs_visit_work_same) share an entry: so each kind of layer has its own price,
 * with and without adapters, kept activations and a gradient for its input. What a visit is made of is
 * written in one place; what it costs is a sum over these lists.
 */
#ifndef QS_PLAN_COSTS_H
#define QS_PLAN_COSTS_H

#include "kernels/meta_device.h"
#include "src/step/sweep.h"
#include "src/step/update.h"
#include "src/step/visit.h"

typedef struct qs_visit_cost {
    qs_visit_work work;
    qs_op_list decode; /* once per visit, unless the visit before had the same weights */
    qs_op_list once;   /* per visit */
    qs_op_list each;   /* per micro-batch */
} qs_visit_cost;

typedef struct qs_costs {
    qs_visit_cost *visits;
    int count, capacity;
    double layer_bytes; /* the largest layer's weights as they lie in memory during its visit: packed, and
                           dense beside that unless they are used in place */
} qs_costs;

/* Of every visit of a training step over micro-batches of `rows` padded tokens in documents of
 * `document_tokens`; tiles, types and what is kept are those of *c. Free with qs_costs_free. */
void qs_costs_note(const qs_sweep_config *c, const qs_update_config *u, int32_t rows, int32_t document_tokens,
                   qs_costs *out);
void qs_costs_free(qs_costs *c);

/* Index of the visits that compute this; -1: the step has none. */
int qs_costs_find(const qs_costs *c, const qs_visit_work *work);

/* The lists one after the other; NULL behind the last. */
const qs_op_list *qs_costs_list(const qs_costs *c, int i);

#endif
