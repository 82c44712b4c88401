/* weights.h - one layer's weights on the device, as its parts use them: vectors out of the blob, and the
 * linears of each group as one matrix of the compute type. */
#ifndef QS_MODEL_WEIGHTS_H
#define QS_MODEL_WEIGHTS_H

#include "src/model/layout.h"
#include "src/model/norm.h"

/* Device memory for dequantised linears: of a whole layer, filled once per visit, or of one group at a time,
 * filled whenever a product needs another. The same bits; the second is smaller and decodes more often. */
typedef struct qs_dense {
    char *memory; /* layout->dense_elements of the compute type; by_group: layout->group_elements */
    bool by_group;
    int32_t blob;  /* whose weights it holds; -1: none */
    int32_t group; /* by_group: which of the layer's */
} qs_dense;

typedef struct qs_layer_weights {
    const qs_layout *layout;
    const qs_layer *layer;
    const qs_layer_layout *place;
    qs_dtype type; /* compute type */
    const char *blob;
    int32_t index;   /* of the layer */
    qs_dense *dense; /* borrowed; not used where the blob has the compute type */
} qs_layer_weights;

/* Whether linears are used where they lie in a blob. */
bool qs_weights_in_place(const qs_layout *l, qs_dtype type);

/* The weights of a layer whose blob is at `blob`. Nothing is computed. */
qs_layer_weights qs_weights_of(const qs_layout *l, int32_t layer, qs_dtype type, const void *blob,
                               qs_dense *dense);

/* Fills the dense scratch of a whole layer, unless the layer is there; by group it does nothing. Before the
 * layer's products. Queues only. */
void qs_weights_decode(qs_device *d, const qs_layer_weights *w);

/* [out, in] of the group's linears together, until another group's are asked for: dequantised now where the
 * scratch holds one group. */
qs_mat qs_weights_group(qs_device *d, const qs_layer_weights *w, int group);
/* Bias of the group; NULL: none. */
const float *qs_weights_bias(const qs_layer_weights *w, int group);
qs_norm qs_weights_norm(const qs_layer_weights *w, qs_layer_norm n);

#endif
