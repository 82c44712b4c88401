/* norm.h - a family's normalisation: RMSNorm, or LayerNorm with a bias. */
#ifndef QS_MODEL_NORM_H
#define QS_MODEL_NORM_H

#include "src/model/architecture.h"

/* fp32 vectors on the device, as long as what is normed is wide. */
typedef struct qs_norm { const float *weight, *bias; /* bias: LayerNorm only */ } qs_norm;

void qs_norm_forward(qs_device *d, const qs_architecture *a, qs_norm w, qs_mat x, qs_mat y);
/* dx = [add +] J^T dy; what may alias: qs_op_rmsnorm_backward. */
void qs_norm_backward(qs_device *d, const qs_architecture *a, qs_norm w, qs_mat x, qs_mat dy, qs_mat add, qs_mat dx);

/* Floats of the final norm: its weights and, behind them, its biases. */
static inline int64_t qs_norm_floats(const qs_architecture *a) { return (a->norm == QS_NORM_LAYER ? 2 : 1) * (int64_t)a->hidden; }

#endif
