/* visit_compute.h - the operations of one micro-batch in a visit, as the executor queues them and as costs
 * notes them on a meta device. Each ends by looking for values that are not finite. */
#ifndef QS_STEP_VISIT_COMPUTE_H
#define QS_STEP_VISIT_COMPUTE_H

#include "src/model/block.h"
#include "src/model/head.h"
#include "src/step/visit.h"

/* F: call->y from call->x. B: call->dx, or nothing, from call->y. flag: |= 1 where the result is not finite.
 */
void qs_visit_compute_layer(const qs_sweep_config *c, const qs_visit_work *w, qs_block *block,
                            const qs_block_call *call, int32_t *flag);

typedef struct qs_visit_head_call {
    qs_head *head;
    int32_t slot, rows; /* of the micro-batch */
    qs_mat tile;        /* in the compute type */
    int32_t vocab_start;
    qs_norm norm;
    void *x; /* first tile: [rows, hidden] the last layer's output, becomes its gradient */
    const int32_t *target;
    float scale;   /* HEAD gradient */
    float *loss;   /* HEAD loss, last tile: [rows] */
    int32_t *flag; /* HEAD gradient, first tile */
} qs_visit_head_call;
void qs_visit_compute_head(const qs_sweep_config *c, const qs_visit_work *w, const qs_visit_head_call *call);

/* The adapters' values into the compute type, and their gradients set to zero: once per visit. */
void qs_visit_convert_adapters(qs_device *d, const qs_lora *l, qs_dtype type, const float *values, void *to);
void qs_visit_clear_gradients(qs_device *d, const qs_lora *l, float *gradients);

#endif
