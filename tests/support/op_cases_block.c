/* op_cases_block.c - normalisation, rotary embedding, gated units and activations, regrouping, dropout,
 * conversions. */
#include <math.h>

#include "src/base/random.h"
#include "tests/support/op_cases.h"

static double rounded(double x, qs_dtype type)
{
    uint32_t slot = 0;
    qs_store_f32(&slot, type, 0, (float)x);
    return qs_load_f32(&slot, type, 0);
}

/* ---- rmsnorm: size rows, cols; type2: of the weight; value[0] 1: rounded once, at the end ------------ */

enum { N_X, N_Y, N_WEIGHT, N_DY, N_ADD, N_DX };

static qs_rmsnorm rmsnorm_of(const op_run *r, int y)
{
    return (qs_rmsnorm){.x = op_mat(r, N_X),
                        .y = op_mat(r, y),
                        .weight = op_device(r, N_WEIGHT),
                        .weight_type = r->c->type2,
                        .eps = 1e-5f,
                        .round_last = r->c->value[0] > 0};
}

static double reciprocal_rms(const op_run *r, int64_t i)
{
    double squares = 0;
    for (int64_t j = 0; j < r->c->size[1]; j++) squares += op_at(r, N_X, i, j) * op_at(r, N_X, i, j);
    return 1 / sqrt(squares / (double)r->c->size[1] + 1e-5);
}

static void rmsnorm_setup(op_run *r)
{
    op_array_normal(r, N_X, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 3);
    op_array_make(r, N_Y, OP_OUTPUT, r->c->type, r->c->size[0], r->c->size[1]);
    op_array_normal(r, N_WEIGHT, OP_INPUT, r->c->type2, 1, r->c->size[1], 1);
}
static void rmsnorm_launch(op_run *r, qs_device *d)
{
    qs_rmsnorm n = rmsnorm_of(r, N_Y);
    qs_op_rmsnorm(d, &n);
}
static void rmsnorm_reference(op_run *r)
{
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++) {
            double normed = op_at(r, N_X, i, j) * reciprocal_rms(r, i);
            *op_want(r, N_Y, i, j) =
                (r->c->value[0] > 0 ? normed : rounded(normed, r->c->type)) * op_at(r, N_WEIGHT, 0, j);
        }
}
static const op_kind rmsnorm = {rmsnorm_setup, rmsnorm_launch, rmsnorm_reference, OP(RMSNORM)};

/* Backward; size[2]: dx is added to another gradient; size[3]: in place of it. */
static void rmsnorm_backward_setup(op_run *r)
{
    rmsnorm_setup(r);
    r->array[N_Y].role = OP_INPUT;
    op_array_normal(r, N_DY, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 1);
    op_array_normal(r, N_ADD, r->c->size[3] ? OP_IN_OUT : OP_INPUT, r->c->type, r->c->size[0], r->c->size[1],
                    1);
    op_array_make(r, N_DX, r->c->size[3] ? OP_INPUT : OP_OUTPUT, r->c->type, r->c->size[0], r->c->size[1]);
}
static void rmsnorm_backward_launch(op_run *r, qs_device *d)
{
    qs_rmsnorm n = rmsnorm_of(r, N_X);
    qs_op_rmsnorm_backward(d, &n, op_mat(r, N_DY), r->c->size[2] ? op_mat(r, N_ADD) : (qs_mat){0},
                           op_mat(r, r->c->size[3] ? N_ADD : N_DX));
}
static void rmsnorm_backward_reference(op_run *r)
{
    for (int64_t i = 0; i < r->c->size[0]; i++) {
        double k = reciprocal_rms(r, i), dot = 0;
        for (int64_t j = 0; j < r->c->size[1]; j++)
            dot += op_at(r, N_DY, i, j) * op_at(r, N_WEIGHT, 0, j) * op_at(r, N_X, i, j);
        for (int64_t j = 0; j < r->c->size[1]; j++) {
            double dx = op_at(r, N_DY, i, j) * op_at(r, N_WEIGHT, 0, j) * k -
                        op_at(r, N_X, i, j) * k * k * k * dot / (double)r->c->size[1];
            *op_want(r, r->c->size[3] ? N_ADD : N_DX, i, j) =
                dx + (r->c->size[2] ? op_at(r, N_ADD, i, j) : 0);
        }
    }
}
static const op_kind rmsnorm_backward = {rmsnorm_backward_setup, rmsnorm_backward_launch,
                                         rmsnorm_backward_reference, OP(RMSNORM_BACKWARD)};

/* ---- layernorm: size rows, cols; type2: of the weight and bias; value[0]: the mean of the rows ------- */

enum { N_BIAS = N_DX + 1 };

static qs_layernorm layernorm_of(const op_run *r)
{
    return (qs_layernorm){.x = op_mat(r, N_X),
                          .y = op_mat(r, N_Y),
                          .weight = op_device(r, N_WEIGHT),
                          .bias = op_device(r, N_BIAS),
                          .weight_type = r->c->type2,
                          .eps = 1e-5f};
}

static double row_mean(const op_run *r, int64_t i)
{
    double sum = 0;
    for (int64_t j = 0; j < r->c->size[1]; j++) sum += op_at(r, N_X, i, j);
    return sum / (double)r->c->size[1];
}

static double reciprocal_deviation(const op_run *r, int64_t i)
{
    double squares = 0, mean = row_mean(r, i);
    for (int64_t j = 0; j < r->c->size[1]; j++)
        squares += (op_at(r, N_X, i, j) - mean) * (op_at(r, N_X, i, j) - mean);
    return 1 / sqrt(squares / (double)r->c->size[1] + 1e-5);
}

static void layernorm_inputs(op_run *r)
{
    rmsnorm_setup(r);
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++)
            qs_store_f32(r->array[N_X].before, r->c->type, (size_t)(i * r->array[N_X].stride + j),
                         (float)(op_at(r, N_X, i, j) + r->c->value[0]));
}
static void layernorm_setup(op_run *r)
{
    layernorm_inputs(r);
    for (int k = N_DY; k <= N_DX; k++) op_array_make(r, k, OP_INPUT, r->c->type, 0, 0);
    op_array_normal(r, N_BIAS, OP_INPUT, r->c->type2, 1, r->c->size[1], 1);
}
static void layernorm_launch(op_run *r, qs_device *d)
{
    qs_layernorm n = layernorm_of(r);
    qs_op_layernorm(d, &n);
}
static void layernorm_reference(op_run *r)
{
    for (int64_t i = 0; i < r->c->size[0]; i++) {
        double mean = row_mean(r, i), k = reciprocal_deviation(r, i);
        for (int64_t j = 0; j < r->c->size[1]; j++)
            *op_want(r, N_Y, i, j) =
                (op_at(r, N_X, i, j) - mean) * k * op_at(r, N_WEIGHT, 0, j) + op_at(r, N_BIAS, 0, j);
    }
}
static const op_kind layernorm = {layernorm_setup, layernorm_launch, layernorm_reference, OP(LAYERNORM)};

/* Backward; size[2], size[3] as for rmsnorm. */
static void layernorm_backward_setup(op_run *r)
{
    rmsnorm_backward_setup(r);
    op_array_normal(r, N_BIAS, OP_INPUT, r->c->type2, 1, r->c->size[1], 1);
}
static void layernorm_backward_launch(op_run *r, qs_device *d)
{
    qs_layernorm n = layernorm_of(r);
    qs_op_layernorm_backward(d, &n, op_mat(r, N_DY), r->c->size[2] ? op_mat(r, N_ADD) : (qs_mat){0},
                             op_mat(r, r->c->size[3] ? N_ADD : N_DX));
}
static void layernorm_backward_reference(op_run *r)
{
    int64_t cols = r->c->size[1];
    for (int64_t i = 0; i < r->c->size[0]; i++) {
        double mean = row_mean(r, i), k = reciprocal_deviation(r, i), sum = 0, dot = 0;
        for (int64_t j = 0; j < cols; j++) {
            double h = op_at(r, N_DY, i, j) * op_at(r, N_WEIGHT, 0, j);
            sum += h / (double)cols;
            dot += h * (op_at(r, N_X, i, j) - mean) * k / (double)cols;
        }
        for (int64_t j = 0; j < cols; j++) {
            double dx = k * (op_at(r, N_DY, i, j) * op_at(r, N_WEIGHT, 0, j) - sum -
                             (op_at(r, N_X, i, j) - mean) * k * dot);
            *op_want(r, r->c->size[3] ? N_ADD : N_DX, i, j) =
                dx + (r->c->size[2] ? op_at(r, N_ADD, i, j) : 0);
        }
    }
}
static const op_kind layernorm_backward = {layernorm_backward_setup, layernorm_backward_launch,
                                           layernorm_backward_reference, OP(LAYERNORM_BACKWARD)};

/* ---- rope: size tokens, heads, head_dim, rotary_dim, inverse ----------------------------------------- */

enum { R_X, R_COS, R_SIN, R_POSITIONS };
enum { POSITIONS = 50 };

static void rope_setup(op_run *r)
{
    const int64_t *s = r->c->size;
    op_array_normal(r, R_X, OP_IN_OUT, r->c->type, s[0], s[1] * s[2], 1);
    op_array_make(r, R_COS, OP_INPUT, QS_F32, 1, POSITIONS * s[3] / 2);
    op_array_make(r, R_SIN, OP_INPUT, QS_F32, 1, POSITIONS * s[3] / 2);
    op_array_make(r, R_POSITIONS, OP_INPUT, QS_I32, 1, s[0]);
    for (int64_t p = 0; p < POSITIONS; p++)
        for (int64_t j = 0; j < s[3] / 2; j++) {
            double angle = (double)p * pow(10000, -2.0 * (double)j / (double)s[3]);
            ((float *)r->array[R_COS].before)[p * (s[3] / 2) + j] = (float)cos(angle);
            ((float *)r->array[R_SIN].before)[p * (s[3] / 2) + j] = (float)sin(angle);
        }
    for (int64_t i = 0; i < s[0]; i++)
        ((int32_t *)r->array[R_POSITIONS].before)[i] = (int32_t)(i * 7 % POSITIONS);
}
static void rope_launch(op_run *r, qs_device *d)
{
    const int64_t *s = r->c->size;
    qs_op_rope(d, &(qs_rope){.x = op_mat(r, R_X),
                             .heads = (int32_t)s[1],
                             .head_dim = (int32_t)s[2],
                             .rotary_dim = (int32_t)s[3],
                             .cos = op_device(r, R_COS),
                             .sin = op_device(r, R_SIN),
                             .positions = op_device(r, R_POSITIONS),
                             .inverse = s[4]});
}
static void rope_reference(op_run *r)
{
    const int64_t *s = r->c->size, half = s[3] / 2;
    for (int64_t i = 0; i < s[0]; i++)
        for (int64_t j = 0; j < s[1] * s[2]; j++) {
            int64_t at = j % s[2], position = i * 7 % POSITIONS;
            double x = op_at(r, R_X, i, j);
            if (at < s[3]) {
                double c = op_at(r, R_COS, 0, position * half + at % half);
                double sine = op_at(r, R_SIN, 0, position * half + at % half) * (s[4] ? -1 : 1);
                x = at < half ? x * c - op_at(r, R_X, i, j + half) * sine
                              : x * c + op_at(r, R_X, i, j - half) * sine;
            }
            *op_want(r, R_X, i, j) = x;
        }
}
static const op_kind rope = {rope_setup, rope_launch, rope_reference, OP(ROPE)};

/* ---- gated units: size rows, f, activation, in place ------------------------------------------------- */

enum { GU, GY, GDY, GD };

static double activation(qs_activation act, double x, double *slope)
{
    double k = sqrt(2 / 3.14159265358979323846), u = k * (x + 0.044715 * x * x * x), s = 1 / (1 + exp(-x));
    switch (act) {
    case QS_ACT_SILU:
        *slope = s * (1 + x * (1 - s));
        return x * s;
    case QS_ACT_GELU_TANH:
        *slope = 0.5 * (1 + tanh(u)) + 0.5 * x * (1 - tanh(u) * tanh(u)) * k * (1 + 3 * 0.044715 * x * x);
        return 0.5 * x * (1 + tanh(u));
    default:
        *slope = 0.5 * erfc(-x / sqrt(2)) + x * exp(-x * x / 2) / sqrt(2 * 3.14159265358979323846);
        return 0.5 * x * erfc(-x / sqrt(2));
    }
}

static void gated_setup(op_run *r)
{
    op_array_normal(r, GU, OP_INPUT, r->c->type, r->c->size[0], 2 * r->c->size[1], 2);
    op_array_make(r, GY, OP_OUTPUT, r->c->type, r->c->size[0], r->c->size[1]);
}
static void gated_launch(op_run *r, qs_device *d)
{
    qs_op_gated(d, (qs_activation)r->c->size[2], op_mat(r, GU), op_mat(r, GY));
}
static void gated_reference(op_run *r)
{
    double slope;
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++)
            *op_want(r, GY, i, j) = activation((qs_activation)r->c->size[2], op_at(r, GU, i, j), &slope) *
                                    op_at(r, GU, i, j + r->c->size[1]);
}
static const op_kind gated = {gated_setup, gated_launch, gated_reference, OP(GATED)};

static void gated_backward_setup(op_run *r)
{
    bool in_place = r->c->size[3];
    op_array_normal(r, GU, in_place ? OP_IN_OUT : OP_INPUT, r->c->type, r->c->size[0], 2 * r->c->size[1], 2);
    op_array_make(r, GY, OP_INPUT, r->c->type, 0, 0);
    op_array_normal(r, GDY, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 1);
    op_array_make(r, GD, in_place ? OP_INPUT : OP_OUTPUT, r->c->type, r->c->size[0], 2 * r->c->size[1]);
}
static void gated_backward_launch(op_run *r, qs_device *d)
{
    qs_op_gated_backward(d, (qs_activation)r->c->size[2], op_mat(r, GU), op_mat(r, GDY),
                         op_mat(r, r->c->size[3] ? GU : GD));
}
static void gated_backward_reference(op_run *r)
{
    int64_t f = r->c->size[1];
    int out = r->c->size[3] ? GU : GD;
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < f; j++) {
            double slope, value = activation((qs_activation)r->c->size[2], op_at(r, GU, i, j), &slope),
                          dy = op_at(r, GDY, i, j);
            *op_want(r, out, i, j) = dy * op_at(r, GU, i, j + f) * slope;
            *op_want(r, out, i, j + f) = dy * value;
        }
}
static const op_kind gated_backward = {gated_backward_setup, gated_backward_launch, gated_backward_reference,
                                       OP(GATED_BACKWARD)};

/* ---- activation: size rows, cols, activation, in place of dy ----------------------------------------- */

enum { A_X, A_Y, A_DY, A_DX };

static void act_setup(op_run *r)
{
    op_array_normal(r, A_X, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 2);
    op_array_make(r, A_Y, OP_OUTPUT, r->c->type, r->c->size[0], r->c->size[1]);
}
static void act_launch(op_run *r, qs_device *d)
{
    qs_op_activation(d, (qs_activation)r->c->size[2], op_mat(r, A_X), op_mat(r, A_Y));
}
static void act_reference(op_run *r)
{
    double slope;
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++)
            *op_want(r, A_Y, i, j) = activation((qs_activation)r->c->size[2], op_at(r, A_X, i, j), &slope);
}
static const op_kind act = {act_setup, act_launch, act_reference, OP(ACTIVATION)};

static void act_backward_setup(op_run *r)
{
    bool in_place = r->c->size[3];
    op_array_normal(r, A_X, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 2);
    op_array_make(r, A_Y, OP_INPUT, r->c->type, 0, 0);
    op_array_normal(r, A_DY, in_place ? OP_IN_OUT : OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 1);
    op_array_make(r, A_DX, in_place ? OP_INPUT : OP_OUTPUT, r->c->type, r->c->size[0], r->c->size[1]);
}
static void act_backward_launch(op_run *r, qs_device *d)
{
    qs_op_activation_backward(d, (qs_activation)r->c->size[2], op_mat(r, A_X), op_mat(r, A_DY),
                              op_mat(r, r->c->size[3] ? A_DY : A_DX));
}
static void act_backward_reference(op_run *r)
{
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++) {
            double slope;
            activation((qs_activation)r->c->size[2], op_at(r, A_X, i, j), &slope);
            *op_want(r, r->c->size[3] ? A_DY : A_DX, i, j) = op_at(r, A_DY, i, j) * slope;
        }
}
static const op_kind act_backward = {act_backward_setup, act_backward_launch, act_backward_reference,
                                     OP(ACTIVATION_BACKWARD)};

/* ---- regroup: size rows, groups, parts, width -------------------------------------------------------- */

static void regroup_setup(op_run *r)
{
    int64_t cols = r->c->size[1] * r->c->size[2] * r->c->size[3];
    op_array_normal(r, A_X, OP_INPUT, r->c->type, r->c->size[0], cols, 1);
    op_array_make(r, A_Y, OP_OUTPUT, r->c->type, r->c->size[0], cols);
}
static void regroup_launch(op_run *r, qs_device *d)
{
    qs_op_regroup(d, op_mat(r, A_X), (int32_t)r->c->size[1], (int32_t)r->c->size[2], r->c->size[3],
                  op_mat(r, A_Y));
}
static void regroup_reference(op_run *r)
{
    int64_t groups = r->c->size[1], parts = r->c->size[2], width = r->c->size[3];
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t g = 0; g < groups; g++)
            for (int64_t p = 0; p < parts; p++)
                for (int64_t w = 0; w < width; w++)
                    *op_want(r, A_Y, i, (p * groups + g) * width + w) =
                        op_at(r, A_X, i, (g * parts + p) * width + w);
}
static const op_kind regroup = {regroup_setup, regroup_launch, regroup_reference, OP(REGROUP)};

/* ---- add, convert, flag, dropout: size rows, cols ---------------------------------------------------- */

enum { E_X, E_Y, E_Z };

static void add_setup(op_run *r)
{
    op_array_normal(r, E_X, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 1);
    op_array_normal(r, E_Y, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 1);
    op_array_make(r, E_Z, OP_OUTPUT, r->c->type, r->c->size[0], r->c->size[1]);
}
static void add_launch(op_run *r, qs_device *d)
{
    qs_op_add(d, op_mat(r, E_Z), op_mat(r, E_X), op_mat(r, E_Y));
}
static void add_reference(op_run *r)
{
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++)
            *op_want(r, E_Z, i, j) = op_at(r, E_X, i, j) + op_at(r, E_Y, i, j);
}
static const op_kind add = {add_setup, add_launch, add_reference, OP(ADD)};

static void convert_setup(op_run *r)
{
    op_array_normal(r, E_X, OP_INPUT, r->c->type, 1, r->c->size[1], 1);
    op_array_make(r, E_Y, OP_OUTPUT, r->c->type2, 1, r->c->size[1]);
}
static void convert_launch(op_run *r, qs_device *d)
{
    qs_op_convert(d, op_device(r, E_Y), r->c->type2, op_device(r, E_X), r->c->type, r->c->size[1]);
}
static void convert_reference(op_run *r)
{
    for (int64_t j = 0; j < r->c->size[1]; j++)
        *op_want(r, E_Y, 0, j) = rounded(op_at(r, E_X, 0, j), r->c->type2);
}
static const op_kind convert = {convert_setup, convert_launch, convert_reference, OP(CONVERT)};

/* size[2]: element that is not finite, or -1; value[0]: what it is. */
static void flag_setup(op_run *r)
{
    op_array_normal(r, E_X, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 1);
    if (r->c->size[2] >= 0)
        qs_store_f32(r->array[E_X].before, r->c->type, (size_t)r->c->size[2], (float)r->c->value[0]);
    op_array_make(r, E_Y, OP_IN_OUT, QS_I32, 1, 1);
}
static void flag_launch(op_run *r, qs_device *d)
{
    qs_op_flag_nonfinite(d, op_mat(r, E_X), op_device(r, E_Y));
}
static void flag_reference(op_run *r)
{
    *op_want(r, E_Y, 0, 0) = r->c->size[2] >= 0 && r->c->size[2] % r->array[E_X].stride < r->c->size[1];
}
static const op_kind flag = {flag_setup, flag_launch, flag_reference, OP(FLAG_NONFINITE)};

/* size[2]: first row; size[3]: add; value[0]: p. */
static void dropout_setup(op_run *r)
{
    op_array_normal(r, E_X, OP_INPUT, r->c->type, r->c->size[0], r->c->size[1], 1);
    op_array_normal(r, E_Y, OP_IN_OUT, r->c->type, r->c->size[0], r->c->size[1], 1);
}
static void dropout_launch(op_run *r, qs_device *d)
{
    qs_dropout o = {
        .p = (float)r->c->value[0], .seed = 0x123456789abcdefu, .stream = 77, .first_row = r->c->size[2]};
    qs_op_dropout(d, &o, op_mat(r, E_X), op_mat(r, E_Y), r->c->size[3]);
}
static void dropout_reference(op_run *r)
{
    float p = (float)r->c->value[0];
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++) {
            uint64_t e = (uint64_t)((r->c->size[2] + i) * r->c->size[1] + j);
            double kept = qs_uniform_f32(qs_random_u32(0x123456789abcdefu, 77, e)) >= p
                              ? op_at(r, E_X, i, j) / (1 - (double)p)
                              : 0;
            *op_want(r, E_Y, i, j) = kept + (r->c->size[3] ? op_at(r, E_Y, i, j) : 0);
        }
}
static const op_kind dropout = {dropout_setup, dropout_launch, dropout_reference, OP(DROPOUT)};

/* ---- the list ---------------------------------------------------------------------------------------- */

#define F32 OP_TOL_F32, OP_WHY_ONE_ROUNDING
#define BF16 OP_TOL_BF16, OP_WHY_ONE_ROUNDING
#define F16 OP_TOL_F16, OP_WHY_ONE_ROUNDING
#define TWO_BF16 2 * OP_TOL_BF16, "rounded before the weight and after it"
#define TWO_F16 2 * OP_TOL_F16, "rounded before the weight and after it"
#define EXACT 0, "one rounding of an exact value"

static const op_case cases[] = {
    {"rmsnorm f32", &rmsnorm, QS_F32, QS_F32, {9, 200}, {0}, 3, F32},
    {"rmsnorm bf16", &rmsnorm, QS_BF16, QS_BF16, {33, 2048}, {0}, 0, TWO_BF16},
    {"rmsnorm bf16, fp32 weight, ragged", &rmsnorm, QS_BF16, QS_F32, {5, 77}, {0}, 1, TWO_BF16},
    {"rmsnorm bf16, rounded last", &rmsnorm, QS_BF16, QS_F32, {9, 333}, {1}, 3, BF16},
    {"rmsnorm f16, one column", &rmsnorm, QS_F16, QS_F16, {4, 1}, {0}, 0, TWO_F16},
    {"rmsnorm backward f32", &rmsnorm_backward, QS_F32, QS_F32, {9, 200, 1, 0}, {0}, 3, F32},
    {"rmsnorm backward bf16, in place", &rmsnorm_backward, QS_BF16, QS_BF16, {17, 333, 1, 1}, {0}, 2, BF16},
    {"rmsnorm backward f16, nothing added", &rmsnorm_backward, QS_F16, QS_F16, {3, 64, 0, 0}, {0}, 0, F16},
    {"layernorm f32", &layernorm, QS_F32, QS_F32, {9, 200}, {0}, 3, F32},
    {"layernorm f32, ragged, rows far from zero",
     &layernorm,
     QS_F32,
     QS_F32,
     {5, 77},
     {300},
     1,
     64 * OP_TOL_F32,
     "differences to the mean lose the bits of it"},
    {"layernorm bf16, fp32 weight", &layernorm, QS_BF16, QS_F32, {33, 2048}, {0}, 0, BF16},
    {"layernorm f16, one column", &layernorm, QS_F16, QS_F16, {4, 1}, {0}, 0, F16},
    {"layernorm backward f32", &layernorm_backward, QS_F32, QS_F32, {9, 200, 1, 0}, {0}, 3, F32},
    {"layernorm backward bf16, in place",
     &layernorm_backward,
     QS_BF16,
     QS_F32,
     {17, 333, 1, 1},
     {0},
     2,
     BF16},
    {"layernorm backward f16, nothing added",
     &layernorm_backward,
     QS_F16,
     QS_F16,
     {3, 64, 0, 0},
     {0},
     0,
     F16},
    {"rope f32", &rope, QS_F32, QS_F32, {21, 3, 20, 20, 0}, {0}, 5, F32},
    {"rope bf16, llama heads", &rope, QS_BF16, QS_F32, {60, 4, 64, 64, 0}, {0}, 0, BF16},
    {"rope bf16 inverse", &rope, QS_BF16, QS_F32, {12, 2, 128, 128, 1}, {0}, 4, BF16},
    {"rope f16, partial", &rope, QS_F16, QS_F32, {12, 2, 80, 32, 0}, {0}, 0, F16},
    {"silu gate f32", &gated, QS_F32, QS_F32, {7, 100, QS_ACT_SILU}, {0}, 3, F32},
    {"silu gate bf16", &gated, QS_BF16, QS_F32, {19, 513, QS_ACT_SILU}, {0}, 0, BF16},
    {"gelu_tanh gate f32", &gated, QS_F32, QS_F32, {7, 100, QS_ACT_GELU_TANH}, {0}, 3, F32},
    {"gelu_tanh gate f16", &gated, QS_F16, QS_F32, {5, 40, QS_ACT_GELU_TANH}, {0}, 0, F16},
    {"gelu_erf gate f32", &gated, QS_F32, QS_F32, {7, 100, QS_ACT_GELU_ERF}, {0}, 3, F32},
    {"silu gate backward f32", &gated_backward, QS_F32, QS_F32, {7, 100, QS_ACT_SILU}, {0}, 3, F32},
    {"silu gate backward bf16, in place",
     &gated_backward,
     QS_BF16,
     QS_F32,
     {11, 300, QS_ACT_SILU, 1},
     {0},
     2,
     BF16},
    {"gelu_tanh gate backward f32", &gated_backward, QS_F32, QS_F32, {7, 100, QS_ACT_GELU_TANH}, {0}, 0, F32},
    {"gelu_erf gate backward f16", &gated_backward, QS_F16, QS_F32, {7, 50, QS_ACT_GELU_ERF, 1}, {0}, 0, F16},
    {"gelu_tanh f32", &act, QS_F32, QS_F32, {7, 101, QS_ACT_GELU_TANH}, {0}, 3, F32},
    {"gelu_tanh bf16", &act, QS_BF16, QS_F32, {19, 512, QS_ACT_GELU_TANH}, {0}, 0, BF16},
    {"gelu_erf f32", &act, QS_F32, QS_F32, {7, 100, QS_ACT_GELU_ERF}, {0}, 0, F32},
    {"silu f16", &act, QS_F16, QS_F32, {7, 40, QS_ACT_SILU}, {0}, 0, F16},
    {"gelu_tanh backward f32", &act_backward, QS_F32, QS_F32, {7, 101, QS_ACT_GELU_TANH}, {0}, 3, F32},
    {"gelu_erf backward bf16, in place",
     &act_backward,
     QS_BF16,
     QS_F32,
     {11, 304, QS_ACT_GELU_ERF, 1},
     {0},
     0,
     BF16},
    {"silu backward f16", &act_backward, QS_F16, QS_F32, {5, 40, QS_ACT_SILU}, {0}, 1, F16},
    {"regroup f32", &regroup, QS_F32, QS_F32, {5, 4, 3, 6}, {0}, 2, EXACT},
    {"regroup bf16", &regroup, QS_BF16, QS_F32, {9, 8, 3, 96}, {0}, 0, EXACT},
    {"regroup f16, back", &regroup, QS_F16, QS_F32, {3, 3, 5, 7}, {0}, 1, EXACT},
    {"add f32", &add, QS_F32, QS_F32, {5, 37}, {0}, 2, F32},
    {"add bf16", &add, QS_BF16, QS_F32, {40, 512}, {0}, 0, BF16},
    {"convert f32 to bf16", &convert, QS_F32, QS_BF16, {1, 40001}, {0}, 0, EXACT},
    {"convert f32 to f16", &convert, QS_F32, QS_F16, {1, 1003}, {0}, 0, EXACT},
    {"convert bf16 to f32", &convert, QS_BF16, QS_F32, {1, 1003}, {0}, 0, EXACT},
    {"convert f16 to bf16", &convert, QS_F16, QS_BF16, {1, 19}, {0}, 0, EXACT},
    {"convert bf16 to bf16", &convert, QS_BF16, QS_BF16, {1, 100}, {0}, 0, EXACT},
    {"all finite", &flag, QS_BF16, QS_F32, {9, 100, -1}, {0}, 3, EXACT},
    {"infinity f32", &flag, QS_F32, QS_F32, {9, 100, 99}, {-INFINITY}, 0, EXACT},
    {"infinity bf16, last element", &flag, QS_BF16, QS_F32, {2, 33, 65}, {INFINITY}, 0, EXACT},
    {"infinity f16", &flag, QS_F16, QS_F32, {3, 10, 0}, {1e6}, 0, EXACT},
    {"infinity in the padding", &flag, QS_F32, QS_F32, {3, 10, 21}, {INFINITY}, 1, EXACT},
    {"dropout f32", &dropout, QS_F32, QS_F32, {5, 300, 0, 0}, {0.1}, 3, F32},
    {"dropout bf16, added, later rows", &dropout, QS_BF16, QS_F32, {6, 1030, 12345, 1}, {0.5}, 0, BF16},
    {"dropout f16, p 0", &dropout, QS_F16, QS_F32, {2, 7, 3, 0}, {0}, 0, F16},
};

const op_case_list op_cases_block = OP_LIST("block", cases);

/* ---- gradients --------------------------------------------------------------------------------------- */

#define CASE(kind, ...)                                         \
    {                                                           \
        "", &kind, QS_F32, QS_F32, {__VA_ARGS__}, {0}, 0, 0, "" \
    }

static const op_gradient gradients[] = {
    {"rmsnorm", CASE(rmsnorm, 5, 75), CASE(rmsnorm_backward, 5, 75), N_X, N_Y, N_DY, N_DX, 0},
    {"layernorm", CASE(layernorm, 5, 75), CASE(layernorm_backward, 5, 75), N_X, N_Y, N_DY, N_DX, 0},
    {"rope", CASE(rope, 11, 3, 20, 16, 0), CASE(rope, 11, 3, 20, 16, 1), R_X, R_X, R_X, R_X, 0},
    {"silu gate", CASE(gated, 4, 37, QS_ACT_SILU), CASE(gated_backward, 4, 37, QS_ACT_SILU), GU, GY, GDY, GD,
     0},
    {"gelu_tanh gate", CASE(gated, 4, 37, QS_ACT_GELU_TANH), CASE(gated_backward, 4, 37, QS_ACT_GELU_TANH),
     GU, GY, GDY, GD, 0},
    {"gelu_erf gate", CASE(gated, 4, 37, QS_ACT_GELU_ERF), CASE(gated_backward, 4, 37, QS_ACT_GELU_ERF), GU,
     GY, GDY, GD, 0},
    {"gelu_tanh", CASE(act, 4, 37, QS_ACT_GELU_TANH), CASE(act_backward, 4, 37, QS_ACT_GELU_TANH), A_X, A_Y,
     A_DY, A_DX, 0},
    {"gelu_erf", CASE(act, 4, 37, QS_ACT_GELU_ERF), CASE(act_backward, 4, 37, QS_ACT_GELU_ERF), A_X, A_Y,
     A_DY, A_DX, 0},
};

const op_gradient_list op_gradients_block = OP_GRADIENTS(gradients);
