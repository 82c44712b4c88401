/* gated.c - SiLU and both GELUs: gated linear units (Shazeer 2020), act(gate) * up, and the plain activation;
 * forward and backward. */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec_math.h"

/* Value and derivative of the activation. */
typedef struct act_value {
    vf value, slope;
} act_value;

/* silu(x) = x s(x), s the logistic function;  silu' = s (1 + x (1 - s)). */
VEC act_value silu(vf x)
{
    vf s = vec_sigmoid(x);
    return (act_value){x * s, s * (1.0f + x * (1.0f - s))};
}

/* gelu_tanh(x) = x (1 + tanh u) / 2 = x s(2u), u = sqrt(2/pi) (x + 0.044715 x^3). */
VEC act_value gelu_tanh(vf x)
{
    float k = 0.7978845608028654f;
    vf twice = 2.0f * k * (x + 0.044715f * x * x * x), s = vec_sigmoid(twice);
    vf slope = 2.0f * k * (1.0f + 3.0f * 0.044715f * x * x);
    return (act_value){x * s, s + x * s * (1.0f - s) * slope};
}

/* gelu(x) = x Phi(x), Phi the normal distribution function;  gelu' = Phi + x phi. */
VEC act_value gelu_erf(vf x)
{
    vf phi = 0.3989422804014327f * vec_exp(-0.5f * x * x), cdf = vec_normal_cdf(x);
    return (act_value){x * cdf, cdf + x * phi};
}

VEC act_value activate(qs_activation act, vf x)
{
    return act == QS_ACT_SILU ? silu(x) : act == QS_ACT_GELU_TANH ? gelu_tanh(x) : gelu_erf(x);
}

void QS_CPU(gated)(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y)
{
    int64_t f = y.cols;
    qs_dtype type = y.type;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < y.rows; i++) {
        const char *gate = qs_mat_row(gate_up, i), *up = gate + (size_t)f * qs_dtype_bytes(type);
        char *out = qs_mat_row(y, i);
        for (int64_t j = 0; j < f; j += VW)
            vec_store(out, type, j, f - j,
                      activate(act, vec_load(gate, type, j, f - j)).value * vec_load(up, type, j, f - j));
    }
}

void QS_CPU(gated_backward)(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat dy, qs_mat d_gate_up)
{
    int64_t f = dy.cols;
    qs_dtype type = dy.type;
    size_t half = (size_t)f * qs_dtype_bytes(type);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < dy.rows; i++) {
        const char *gate = qs_mat_row(gate_up, i), *up = gate + half, *g = qs_mat_row(dy, i);
        char *d_gate = qs_mat_row(d_gate_up, i), *d_up = d_gate + half;
        for (int64_t j = 0; j < f; j += VW) {
            vf u = vec_load(up, type, j, f - j), dv = vec_load(g, type, j, f - j);
            act_value a = activate(act, vec_load(gate, type, j, f - j));
            vec_store(d_gate, type, j, f - j, dv * u * a.slope);
            vec_store(d_up, type, j, f - j, dv * a.value);
        }
    }
}

void QS_CPU(activation)(qs_device *d, qs_activation act, qs_mat x, qs_mat y)
{
    int64_t cols = x.cols;
    qs_dtype type = x.type;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *in = qs_mat_row(x, i);
        char *out = qs_mat_row(y, i);
        for (int64_t j = 0; j < cols; j += VW)
            vec_store(out, type, j, cols - j, activate(act, vec_load(in, type, j, cols - j)).value);
    }
}

void QS_CPU(activation_backward)(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat dx)
{
    int64_t cols = x.cols;
    qs_dtype type = x.type;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *in = qs_mat_row(x, i), *g = qs_mat_row(dy, i);
        char *out = qs_mat_row(dx, i);
        for (int64_t j = 0; j < cols; j += VW)
            vec_store(out, type, j, cols - j,
                      vec_load(g, type, j, cols - j) * activate(act, vec_load(in, type, j, cols - j)).slope);
    }
}
