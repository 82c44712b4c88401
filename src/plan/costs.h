/* costs.h - the operations of every kind of visit, noted down by running the model's own code on a meta
 * device (kernels/meta_device.h).
 *
 * So what a visit is made of is written in one place, block.c and head.c; what it costs is a sum over these
 * lists.
 */
#ifndef QS_PLAN_COSTS_H
#define QS_PLAN_COSTS_H

#include "kernels/meta_device.h"
#include "src/step/sweep.h"
#include "src/step/update.h"

typedef enum qs_part {
    QS_PART_WEIGHTS,       /* once per visit of a layer: dequantising, adapters into the compute type */
    QS_PART_GRADIENTS,     /* once per backward visit besides */
    QS_PART_FORWARD,       /* per micro-batch from here on */
    QS_PART_FORWARD_PLAIN, /* a layer without adapters */
    QS_PART_BACKWARD,
    QS_PART_BACKWARD_PLAIN,
    QS_PART_BACKWARD_LOWEST, /* below it nothing is trained: no gradient for its input */
    QS_PART_BACKWARD_SAVED,  /* the same three where forward kept its intermediates */
    QS_PART_BACKWARD_PLAIN_SAVED,
    QS_PART_BACKWARD_LOWEST_SAVED,
    QS_PART_HEAD_NORM,
    QS_PART_LOSS_TILE,
    QS_PART_LOSS_LAST, /* before the first tile; a tile; the last one, smaller, with the loss */
    QS_PART_GRADIENT_TILE,
    QS_PART_GRADIENT_LAST,
    QS_PART_HEAD_GRADIENT,
    QS_PART_HEAD_WEIGHTS, /* once per visit of a tile */
    QS_PART_UPDATE,       /* once per step */
    QS_PARTS,
    QS_PART_SAVED = QS_PART_BACKWARD_SAVED - QS_PART_BACKWARD
} qs_part;

typedef struct qs_costs {
    qs_op_list part[QS_PARTS];
    double layer_bytes; /* a layer's weights as they lie in memory during its visit: packed, and dense beside
                           that unless they are used in place */
} qs_costs;

/* For micro-batches of `rows` padded tokens in documents of `document_tokens`; tiles, types and keep_logits
 * are those of *c. Free with qs_costs_free. */
void qs_costs_note(const qs_sweep_config *c, const qs_update_config *u, int32_t rows, int32_t document_tokens,
                   qs_costs *out);
void qs_costs_free(qs_costs *c);

#endif
