/* weights.h - one layer's weights on the device, as its parts use them: vectors out of the blob, and the
 * linears of each group as one matrix of the compute type. */
#ifndef QS_MODEL_WEIGHTS_H
#define QS_MODEL_WEIGHTS_H

#include "src/model/layout.h"
#include "src/model/norm.h"

typedef struct qs_layer_weights {
    const qs_layout *layout;
    const qs_layer *layer;
    const qs_layer_layout *place;
    qs_dtype type; /* compute type */
    const char *blob;
    char *dense; /* dequantised linears; not used where the blob has the compute type */
} qs_layer_weights;

/* Whether linears are used where they lie in a blob. */
bool qs_weights_in_place(const qs_layout *l, qs_dtype type);

/* The weights of a layer whose blob is at `blob`. Nothing is computed. */
qs_layer_weights qs_weights_of(const qs_layout *l, int32_t layer, qs_dtype type, const void *blob,
                               void *dense);

/* Fills the dense scratch from the blob. Queues only. */
void qs_weights_decode(qs_device *d, const qs_layer_weights *w);

/* [out, in] of the group's linears together. */
qs_mat qs_weights_group(const qs_layer_weights *w, int group);
/* Bias of the group; NULL: none. */
const float *qs_weights_bias(const qs_layer_weights *w, int group);
qs_norm qs_weights_norm(const qs_layer_weights *w, qs_layer_norm n);

#endif
