/* norm.h - a model's normalisation on the device: RMSNorm, or LayerNorm with a bias. */
#ifndef QS_MODEL_NORM_H
#define QS_MODEL_NORM_H

#include "src/model/architecture.h"

/* fp32 vectors on the device, as long as what is normed is wide. */
typedef struct qs_norm {
    const float *weight, *bias; /* bias: LayerNorm only */
} qs_norm;

void qs_norm_forward(qs_device *d, const qs_architecture *a, qs_norm w, qs_mat x, qs_mat y);
/* dx = [add +] J^T dy; what may alias: qs_op_rmsnorm_backward. */
void qs_norm_backward(qs_device *d, const qs_architecture *a, qs_norm w, qs_mat x, qs_mat dy, qs_mat add,
                      qs_mat dx);

#endif
