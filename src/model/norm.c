#include "src/model/norm.h"

static qs_rmsnorm rms(const qs_architecture *a, qs_norm w, qs_mat x, qs_mat y)
{
    return (qs_rmsnorm){.x = x,
                        .y = y,
                        .weight = w.weight,
                        .weight_type = QS_F32,
                        .eps = a->norm_eps,
                        .round_last = a->norm == QS_NORM_RMS_PLUS_ONE};
}

static qs_layernorm layer(const qs_architecture *a, qs_norm w, qs_mat x, qs_mat y)
{
    return (qs_layernorm){
        .x = x, .y = y, .weight = w.weight, .bias = w.bias, .weight_type = QS_F32, .eps = a->norm_eps};
}

void qs_norm_forward(qs_device *d, const qs_architecture *a, qs_norm w, qs_mat x, qs_mat y)
{
    if (a->norm == QS_NORM_LAYER) {
        qs_layernorm n = layer(a, w, x, y);
        qs_op_layernorm(d, &n);
    } else {
        qs_rmsnorm n = rms(a, w, x, y);
        qs_op_rmsnorm(d, &n);
    }
}

void qs_norm_backward(qs_device *d, const qs_architecture *a, qs_norm w, qs_mat x, qs_mat dy, qs_mat add,
                      qs_mat dx)
{
    if (a->norm == QS_NORM_LAYER) {
        qs_layernorm n = layer(a, w, x, dx);
        qs_op_layernorm_backward(d, &n, dy, add, dx);
    } else {
        qs_rmsnorm n = rms(a, w, x, dx);
        qs_op_rmsnorm_backward(d, &n, dy, add, dx);
    }
}
