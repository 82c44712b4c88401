/* op_cases_norm_rope.c - q and k normed and rotated at once. Size: tokens, heads, kv heads, head_dim,
 * rotary_dim, 1: one norm over all of q and one over all of k; value[0] 1: rounded once, at the end of the
 * norm. */
#include <math.h>

#include "tests/support/op_cases.h"

enum { X, Y, Q_WEIGHT, K_WEIGHT, Q_COS, Q_SIN, K_COS, K_SIN, POSITION, G };
enum { TOKENS, HEADS, KV_HEADS, HEAD_DIM, ROTARY, WHOLE };
enum { POSITIONS = 50 };

/* What fp32 loses is part of the tolerance, and would be noise in differences. */
static double rounded(double x, qs_dtype type)
{
    uint32_t slot = 0;
    if (type == QS_F32) return x;
    qs_store_f32(&slot, type, 0, (float)x);
    return qs_load_f32(&slot, type, 0);
}

static int64_t position_of(int64_t token) { return token * 7 % POSITIONS; }

static void make_tables(op_run *r, int cos_at, double scale)
{
    int64_t half = r->c->size[ROTARY] / 2;
    for (int k = 0; k < 2; k++) op_array_make(r, cos_at + k, OP_INPUT, QS_F32, 1, POSITIONS * half);
    for (int64_t p = 0; p < POSITIONS; p++)
        for (int64_t j = 0; j < half; j++) {
            double angle = (double)p * pow(10000, -(double)j / (double)half);
            ((float *)r->array[cos_at].before)[p * half + j] = (float)(scale * cos(angle));
            ((float *)r->array[cos_at + 1].before)[p * half + j] = (float)(scale * sin(angle));
        }
}

static void setup(op_run *r)
{
    const int64_t *s = r->c->size;
    int64_t cols = (s[HEADS] + s[KV_HEADS]) * s[HEAD_DIM];
    op_array_normal(r, X, OP_INPUT, r->c->type, s[TOKENS], cols, 3);
    op_array_make(r, Y, OP_OUTPUT, r->c->type, s[TOKENS], cols);
    op_array_normal(r, Q_WEIGHT, OP_INPUT, QS_F32, 1, (s[WHOLE] ? s[HEADS] : 1) * s[HEAD_DIM], 1);
    op_array_normal(r, K_WEIGHT, OP_INPUT, QS_F32, 1, (s[WHOLE] ? s[KV_HEADS] : 1) * s[HEAD_DIM], 1);
    make_tables(r, Q_COS, 1.25);
    make_tables(r, K_COS, 1);
    op_array_make(r, POSITION, OP_INPUT, QS_I32, 1, s[TOKENS]);
    for (int64_t i = 0; i < s[TOKENS]; i++)
        ((int32_t *)r->array[POSITION].before)[i] = (int32_t)position_of(i);
}

static void backward_setup(op_run *r)
{
    setup(r);
    op_array_make(r, Y, OP_INPUT, r->c->type, 0, 0);
    op_array_normal(r, G, OP_IN_OUT, r->c->type, r->c->size[TOKENS], r->array[X].cols, 1);
}

static qs_norm_rope call_of(const op_run *r)
{
    const int64_t *s = r->c->size;
    return (qs_norm_rope){.x = op_mat(r, X),
                          .y = op_mat(r, Y),
                          .heads = (int32_t)s[HEADS],
                          .kv_heads = (int32_t)s[KV_HEADS],
                          .head_dim = (int32_t)s[HEAD_DIM],
                          .whole = s[WHOLE],
                          .q_weight = op_device(r, Q_WEIGHT),
                          .k_weight = op_device(r, K_WEIGHT),
                          .eps = 1e-5f,
                          .round_last = r->c->value[0] > 0,
                          .rotary_dim = (int32_t)s[ROTARY],
                          .q_cos = op_device(r, Q_COS),
                          .q_sin = op_device(r, Q_SIN),
                          .k_cos = op_device(r, K_COS),
                          .k_sin = op_device(r, K_SIN),
                          .positions = op_device(r, POSITION)};
}

static void launch(op_run *r, qs_device *d)
{
    qs_norm_rope n = call_of(r);
    qs_op_norm_rope(d, &n);
}
static void backward_launch(op_run *r, qs_device *d)
{
    qs_norm_rope n = call_of(r);
    qs_op_norm_rope_backward(d, &n, op_mat(r, G));
}

/* What column j is normed with: the stretch [*first, *first + *cols), and its weight. */
static double stretch(const op_run *r, int64_t j, int64_t *first, int64_t *cols)
{
    const int64_t *s = r->c->size;
    bool k = j >= s[HEADS] * s[HEAD_DIM];
    *cols = s[HEAD_DIM] * (!s[WHOLE] ? 1 : k ? s[KV_HEADS] : s[HEADS]);
    *first = s[WHOLE] ? (k ? s[HEADS] * s[HEAD_DIM] : 0) : j / s[HEAD_DIM] * s[HEAD_DIM];
    return op_at(r, k ? K_WEIGHT : Q_WEIGHT, 0, j - *first);
}

static double reciprocal(const op_run *r, int64_t i, int64_t first, int64_t cols)
{
    double squares = 0;
    for (int64_t j = first; j < first + cols; j++) squares += op_at(r, X, i, j) * op_at(r, X, i, j);
    return 1 / sqrt(squares / (double)cols + 1e-5);
}

static double normed(const op_run *r, int64_t i, int64_t j)
{
    int64_t first, cols;
    double weight = stretch(r, j, &first, &cols), v = op_at(r, X, i, j) * reciprocal(r, i, first, cols);
    if (!(r->c->value[0] > 0)) v = rounded(v, r->c->type);
    return rounded(v * weight, r->c->type);
}

/* Column j of a token after rotation by `direction`, from of(i, j). */
static double rotated(const op_run *r, double (*of)(const op_run *, int64_t, int64_t), int64_t i, int64_t j,
                      double direction)
{
    const int64_t *s = r->c->size, half = s[ROTARY] / 2, at = j % s[HEAD_DIM];
    int tables = j >= s[HEADS] * s[HEAD_DIM] ? K_COS : Q_COS;
    if (at >= s[ROTARY]) return of(r, i, j);
    double c = op_at(r, tables, 0, position_of(i) * half + at % half),
           sine = op_at(r, tables + 1, 0, position_of(i) * half + at % half) * direction;
    return at < half ? of(r, i, j) * c - of(r, i, j + half) * sine
                     : of(r, i, j) * c + of(r, i, j - half) * sine;
}

static void reference(op_run *r)
{
    for (int64_t i = 0; i < r->array[Y].rows; i++)
        for (int64_t j = 0; j < r->array[Y].cols; j++) *op_want(r, Y, i, j) = rotated(r, normed, i, j, 1);
}

static double gradient(const op_run *r, int64_t i, int64_t j) { return op_at(r, G, i, j); }

static void backward_reference(op_run *r)
{
    for (int64_t i = 0; i < r->array[G].rows; i++)
        for (int64_t j = 0; j < r->array[G].cols; j++) {
            int64_t first, cols, unused;
            double dot = 0, weight = stretch(r, j, &first, &cols), k = reciprocal(r, i, first, cols);
            for (int64_t l = first; l < first + cols; l++)
                dot += rounded(rotated(r, gradient, i, l, -1), r->c->type) * stretch(r, l, &unused, &unused) *
                       op_at(r, X, i, l);
            double h = rounded(rotated(r, gradient, i, j, -1), r->c->type) * weight;
            *op_want(r, G, i, j) = k * h - op_at(r, X, i, j) * k * k * k * dot / (double)cols;
        }
}

static const op_kind forward = {setup, launch, reference, OP(NORM_ROPE)},
                     backward = {backward_setup, backward_launch, backward_reference, OP(NORM_ROPE_BACKWARD)};

/* A value that lies between two numbers of the type may be rounded to either before it is turned. */
#define TWICE_BF16 2 * OP_TOL_BF16, "two roundings to the type, of the norm and of the rotation"
#define TWICE_F16 2 * OP_TOL_F16, "two roundings to the type, of the norm and of the rotation"
#define F32 2 * OP_TOL_F32, OP_WHY_ONE_ROUNDING

static const op_case cases[] = {
    {"norm and rope f32, heads", &forward, QS_F32, QS_F32, {9, 3, 2, 20, 20, 0}, {0}, 5, F32},
    {"norm and rope bf16, qwen heads",
     &forward,
     QS_BF16,
     QS_F32,
     {13, 4, 2, 128, 128, 0},
     {0},
     64,
     TWICE_BF16},
    {"norm and rope bf16, 1 + w", &forward, QS_BF16, QS_F32, {7, 2, 1, 256, 256, 0}, {1}, 0, TWICE_BF16},
    {"norm and rope f16, all of q", &forward, QS_F16, QS_F32, {7, 4, 2, 64, 64, 1}, {0}, 0, TWICE_F16},
    {"norm and rope bf16, partial", &forward, QS_BF16, QS_F32, {7, 4, 2, 80, 32, 0}, {0}, 0, TWICE_BF16},
    {"norm alone bf16, all of q", &forward, QS_BF16, QS_F32, {7, 5, 5, 24, 0, 1}, {0}, 1, TWICE_BF16},
    {"norm and rope backward f32", &backward, QS_F32, QS_F32, {9, 3, 2, 20, 20, 0}, {0}, 5, F32},
    {"norm and rope backward bf16", &backward, QS_BF16, QS_F32, {13, 4, 2, 128, 128, 0}, {0}, 64, TWICE_BF16},
    {"norm and rope backward f16, all of q",
     &backward,
     QS_F16,
     QS_F32,
     {7, 4, 2, 64, 64, 1},
     {0},
     0,
     TWICE_F16},
    {"norm backward bf16, odd", &backward, QS_BF16, QS_F32, {5, 3, 1, 30, 0, 0}, {1}, 3, TWICE_BF16},
};

const op_case_list op_cases_norm_rope = OP_LIST("norm_rope", cases);

#define CASE(kind, ...)                                         \
    {                                                           \
        "", &kind, QS_F32, QS_F32, {__VA_ARGS__}, {0}, 0, 0, "" \
    }

static const op_gradient gradients[] = {
    {"norm and rope", CASE(forward, 5, 3, 2, 20, 16, 0), CASE(backward, 5, 3, 2, 20, 16, 0), X, Y, G, G, 0},
    {"norm and rope, all", CASE(forward, 5, 3, 2, 20, 20, 1), CASE(backward, 5, 3, 2, 20, 20, 1), X, Y, G, G,
     0},
};

const op_gradient_list op_gradients_norm_rope = OP_GRADIENTS(gradients);
