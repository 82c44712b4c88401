/* op_cases_train.c - cross entropy over vocabulary tiles, and the optimizers. */
#include <math.h>
#include <string.h>

#include "kernels/quant.h"
#include "tests/support/op_cases.h"

/* ---- cross entropy: size rows, vocabulary, tile, rows without a target (every n-th, 0: none) --------- */

enum { C_LOGITS, C_TARGETS, C_MAX, C_SUM, C_TARGET_LOGIT, C_LOSS, C_GRADIENT };

static int64_t ce_target(const op_run *r, int64_t i)
{
    if (r->c->size[3] && i % r->c->size[3] == 0) return -1;
    return (int64_t)(op_uniform(50, (uint64_t)i) * (double)r->c->size[1]);
}

static void ce_setup(op_run *r)
{
    const int64_t *s = r->c->size;
    op_array_normal(r, C_LOGITS, OP_INPUT, QS_F32, s[0], s[1], 4);
    op_array_make(r, C_TARGETS, OP_INPUT, QS_I32, 1, s[0]);
    for (int64_t i = 0; i < s[0]; i++) ((int32_t *)r->array[C_TARGETS].before)[i] = (int32_t)ce_target(r, i);
    for (int k = C_MAX; k <= C_TARGET_LOGIT; k++) {
        op_array_make(r, k, OP_IN_OUT, QS_F32, 1, s[0]); /* checked through the loss */
        memset(r->array[k].before, 0xff, (size_t)s[0] * 4);
    }
    op_array_make(r, C_LOSS, OP_OUTPUT, QS_F32, 1, s[0]);
    op_array_make(r, C_GRADIENT, OP_OUTPUT, r->c->type, s[0], s[1]);
}

static void ce_launch(op_run *r, qs_device *d)
{
    const int64_t *s = r->c->size;
    qs_ce_state state = {op_device(r, C_MAX), op_device(r, C_SUM), op_device(r, C_TARGET_LOGIT),
                         op_device(r, C_TARGETS), (float)r->c->value[0]};
    for (int pass = 0; pass < 2; pass++) {
        for (int64_t at = 0; at < s[1]; at += s[2]) {
            int64_t n = at + s[2] < s[1] ? s[2] : s[1] - at;
            qs_mat tile = qs_mat_part(op_mat(r, C_LOGITS), 0, s[0], at, n);
            if (pass == 0)
                qs_op_ce_forward(d, tile, at, &state);
            else
                qs_op_ce_backward(d, tile, at, &state, 0.125f,
                                  qs_mat_part(op_mat(r, C_GRADIENT), 0, s[0], at, n));
        }
        if (pass == 0) qs_op_ce_loss(d, s[0], &state, op_device(r, C_LOSS));
    }
}

/* value[0]: the soft cap that the logits have been through; its derivative from its value. */
static double cap_slope(const op_run *r, int64_t i, int64_t j)
{
    double t = r->c->value[0] > 0 ? op_at(r, C_LOGITS, i, j) / r->c->value[0] : 0;
    return 1 - t * t;
}

static void ce_reference(op_run *r)
{
    const int64_t *s = r->c->size;
    for (int64_t i = 0; i < s[0]; i++) {
        int64_t target = ce_target(r, i);
        double max = -INFINITY, sum = 0;
        for (int64_t j = 0; j < s[1]; j++) max = fmax(max, op_at(r, C_LOGITS, i, j));
        for (int64_t j = 0; j < s[1]; j++) sum += exp(op_at(r, C_LOGITS, i, j) - max);
        *op_want(r, C_MAX, 0, i) = target < 0 ? -INFINITY : max;
        *op_want(r, C_SUM, 0, i) = target < 0 ? 0 : sum;
        *op_want(r, C_TARGET_LOGIT, 0, i) = target < 0 ? 0 : op_at(r, C_LOGITS, i, target);
        if (target < 0) continue;
        *op_want(r, C_LOSS, 0, i) = max + log(sum) - op_at(r, C_LOGITS, i, target);
        for (int64_t j = 0; j < s[1]; j++)
            *op_want(r, C_GRADIENT, i, j) =
                (exp(op_at(r, C_LOGITS, i, j) - max) / sum - (j == target)) * 0.125 * cap_slope(r, i, j);
    }
}

/* ---- soft cap: size rows, cols; value[0]: the cap ---------------------------------------------------- */

static void softcap_setup(op_run *r)
{
    op_array_normal(r, C_LOGITS, OP_IN_OUT, QS_F32, r->c->size[0], r->c->size[1], 10);
}
static void softcap_launch(op_run *r, qs_device *d)
{
    qs_op_softcap(d, (float)r->c->value[0], op_mat(r, C_LOGITS));
}
static void softcap_reference(op_run *r)
{
    for (int64_t i = 0; i < r->c->size[0]; i++)
        for (int64_t j = 0; j < r->c->size[1]; j++)
            *op_want(r, C_LOGITS, i, j) = r->c->value[0] * tanh(op_at(r, C_LOGITS, i, j) / r->c->value[0]);
}
static const op_kind softcap = {softcap_setup, softcap_launch, softcap_reference, OP(SOFTCAP)};

static const op_kind cross_entropy = {ce_setup, ce_launch, ce_reference,
                                      OP(CE_FORWARD) | OP(CE_LOSS) | OP(CE_BACKWARD)};

/* ---- sum of squares: size n -------------------------------------------------------------------------- */

enum { S_G, S_SUM };

static void squares_setup(op_run *r)
{
    op_array_normal(r, S_G, OP_INPUT, QS_F32, 1, r->c->size[0], 1);
    op_array_make_double(r, S_SUM, OP_OUTPUT);
}
static void squares_launch(op_run *r, qs_device *d)
{
    qs_op_sum_squares(d, op_device(r, S_G), r->c->size[0], op_device(r, S_SUM));
}
static void squares_reference(op_run *r)
{
    double sum = 0;
    for (int64_t i = 0; i < r->c->size[0]; i++) sum += op_at(r, S_G, 0, i) * op_at(r, S_G, 0, i);
    *op_want(r, S_SUM, 0, 0) = sum;
}
static const op_kind sum_squares = {squares_setup, squares_launch, squares_reference, OP(SUM_SQUARES)};

/* ---- AdamW: size n, step, rule; value learning rate, weight decay, clip ------------------------------ */

enum { P, G, M, V8_OR_V, M_ABSMAX, V_ABSMAX };

static qs_adamw adamw_of(const op_run *r)
{
    return (qs_adamw){.learning_rate = r->c->value[0],
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .eps = 1e-8,
                      .weight_decay = r->c->value[1],
                      .step = r->c->size[1],
                      .gradient_scale = (float)r->c->value[2]};
}

static void adamw_setup(op_run *r)
{
    int64_t n = r->c->size[0];
    op_array_normal(r, P, OP_IN_OUT, QS_F32, 1, n, 1);
    op_array_normal(r, G, OP_INPUT, QS_F32, 1, n, 0.1);
    op_array_normal(r, M, OP_IN_OUT, QS_F32, 1, n, 0.1);
    op_array_normal(r, V8_OR_V, OP_IN_OUT, QS_F32, 1, n, 0.1);
    for (int64_t i = 0; i < n; i++) {
        float *v = (float *)r->array[V8_OR_V].before + i;
        *v *= *v;
    }
}
static void adamw_launch(op_run *r, qs_device *d)
{
    qs_adamw h = adamw_of(r);
    qs_op_adamw(d, (qs_adamw_rule)r->c->size[2], &h, op_device(r, P), op_device(r, G), op_device(r, M),
                op_device(r, V8_OR_V), r->c->size[0]);
}
static void adamw_reference(op_run *r)
{
    qs_adamw h = adamw_of(r);
    double c1 = 1 - pow(h.beta1, (double)h.step), c2 = 1 - pow(h.beta2, (double)h.step);
    for (int64_t i = 0; i < r->c->size[0]; i++) {
        bool decay_first = (qs_adamw_rule)r->c->size[2] == QS_ADAMW_TORCH;
        double g = op_at(r, G, 0, i) * h.gradient_scale, decay = 1 - h.learning_rate * h.weight_decay;
        double p = op_at(r, P, 0, i) * (decay_first ? decay : 1);
        double m = h.beta1 * op_at(r, M, 0, i) + (1 - h.beta1) * g,
               v = h.beta2 * op_at(r, V8_OR_V, 0, i) + (1 - h.beta2) * g * g;
        *op_want(r, M, 0, i) = m;
        *op_want(r, V8_OR_V, 0, i) = v;
        p -= h.learning_rate * (m / c1) / (sqrt(v / c2) + h.eps);
        *op_want(r, P, 0, i) = p * (decay_first ? 1 : decay);
    }
}
static const op_kind adamw = {adamw_setup, adamw_launch, adamw_reference, OP(ADAMW)};

/* ---- AdamW with 8-bit states ------------------------------------------------------------------------- */

static void adamw8_setup(op_run *r)
{
    int64_t n = r->c->size[0], blocks = (n + 255) / 256;
    op_array_normal(r, P, OP_IN_OUT, QS_F32, 1, n, 1);
    op_array_normal(r, G, OP_INPUT, QS_F32, 1, n, 0.1);
    if (n > 300) ((float *)r->array[G].before)[300] = NAN;
    if (n > 3) ((float *)r->array[G].before)[3] = INFINITY;
    for (int k = M; k <= V8_OR_V; k++) {
        op_array_make(r, k, OP_IN_OUT, QS_U8, 1, n);
        for (int64_t i = 0; i < n; i++)
            ((uint8_t *)r->array[k].before)[i] = (uint8_t)(op_uniform(60 + (uint64_t)k, (uint64_t)i) * 256);
    }
    for (int k = M_ABSMAX; k <= V_ABSMAX; k++) {
        op_array_make(r, k, OP_IN_OUT, QS_F32, 1, blocks);
        for (int64_t b = 0; b < blocks; b++)
            ((float *)r->array[k].before)[b] = (float)(0.01 + 0.01 * op_uniform(70, (uint64_t)b));
    }
    if (r->c->size[2]) /* a first step: no state yet, and a block without gradient */
        for (int64_t i = 0; i < n; i++) {
            ((uint8_t *)r->array[M].before)[i] = 127;
            ((uint8_t *)r->array[V8_OR_V].before)[i] = 0;
            ((float *)r->array[M_ABSMAX].before)[i / 256] = ((float *)r->array[V_ABSMAX].before)[i / 256] = 0;
            if (i / 256 == 2) ((float *)r->array[G].before)[i] = 0;
        }
}
static void adamw8_launch(op_run *r, qs_device *d)
{
    qs_adamw h = adamw_of(r);
    qs_op_adamw8(d, &h, op_device(r, P), op_device(r, G), op_device(r, M), op_device(r, V8_OR_V),
                 op_device(r, M_ABSMAX), op_device(r, V_ABSMAX), r->c->size[0]);
}

/* bitsandbytes' search: fp32 midpoints, strict comparisons, so that a tie keeps the even index. */
static int nearest_code(const float map[256], float x)
{
    int code = 0;
    while (code < 255) {
        float middle = (map[code] + map[code + 1]) * 0.5f;
        bool above = (code + 1) % 2 == 0 ? x >= middle : x > middle;
        if (!above) break;
        code++;
    }
    return code;
}

/* In fp32, in the order of bitsandbytes' kernel: the codes are exact. */
static void adamw8_reference(op_run *r)
{
    qs_adamw h = adamw_of(r);
    double c1 = 1 - pow(h.beta1, (double)h.step), c2 = sqrt(1 - pow(h.beta2, (double)h.step));
    float b1 = (float)h.beta1, b2 = (float)h.beta2, step = (float)(-h.learning_rate * c2 / c1),
          eps = (float)(c2 * h.eps);
    float decay = (float)(1 - h.learning_rate * h.weight_decay);
    for (int64_t at = 0; at < r->c->size[0]; at += 256) {
        float m[256], v[256], m_top = 0, v_top = 0;
        int64_t n = r->c->size[0] - at < 256 ? r->c->size[0] - at : 256, block = at / 256;
        for (int64_t k = 0; k < n; k++) {
            int64_t i = at + k;
            float g = (float)op_at(r, G, 0, i), p = (float)op_at(r, P, 0, i);
            m[k] = v[k] = 0;
            *op_want(r, P, 0, i) = p;
            if (!isfinite(g)) continue;
            g *= h.gradient_scale;
            v[k] = qs_dynamic_unsigned[(int)op_at(r, V8_OR_V, 0, i)] * (float)op_at(r, V_ABSMAX, 0, block);
            v[k] = v[k] * b2 + ((float)(1 - h.beta2) * g) * g;
            m[k] = qs_dynamic_signed[(int)op_at(r, M, 0, i)] * (float)op_at(r, M_ABSMAX, 0, block);
            m[k] = m[k] * b1 + (float)(1 - h.beta1) * g;
            p = p + step * (m[k] / (sqrtf(v[k]) + eps));
            *op_want(r, P, 0, i) = h.weight_decay > 0 ? p * decay : p;
            m_top = fmaxf(m_top, fabsf(m[k]));
            v_top = fmaxf(v_top, v[k]);
        }
        *op_want(r, M_ABSMAX, 0, block) = m_top;
        *op_want(r, V_ABSMAX, 0, block) = v_top;
        for (int64_t k = 0; k < n; k++) {
            int code = nearest_code(qs_dynamic_signed, m[k] / m_top); /* 0/0: 0 */
            if (signbit(qs_dynamic_signed[code]) && m[k] > 0)
                code++;
            else if (signbit(qs_dynamic_signed[code]) != signbit(m[k]))
                code--;
            *op_want(r, M, 0, at + k) = code & 255;
            *op_want(r, V8_OR_V, 0, at + k) = nearest_code(qs_dynamic_unsigned, v[k] / v_top);
        }
    }
}
static const op_kind adamw8 = {adamw8_setup, adamw8_launch, adamw8_reference, OP(ADAMW8)};

/* ---- the list ---------------------------------------------------------------------------------------- */

#define LOSS 3e-6, "fp32 sums over the vocabulary"
#define LOSS_BF16 OP_TOL_BF16, OP_WHY_ONE_ROUNDING
#define UPDATE 1e-6, "a handful of fp32 roundings per element"
#define STATE8 1e-6, "codes and absmax are exact; the parameter has a few fp32 roundings"

static const op_case cases[] = {
    {"cross entropy, one tile", &cross_entropy, QS_F32, QS_F32, {9, 100, 100, 0}, {0}, 0, LOSS},
    {"cross entropy, ragged tiles", &cross_entropy, QS_F32, QS_F32, {13, 1000, 333, 4}, {0}, 3, LOSS},
    {"cross entropy, bf16 gradient", &cross_entropy, QS_BF16, QS_F32, {20, 517, 128, 3}, {0}, 1, LOSS_BF16},
    {"cross entropy behind a soft cap", &cross_entropy, QS_F32, QS_F32, {13, 300, 77, 4}, {20}, 3, LOSS},
    {"cross entropy behind a soft cap, bf16 gradient",
     &cross_entropy,
     QS_BF16,
     QS_F32,
     {8, 517, 128, 3},
     {30},
     1,
     LOSS_BF16},
    {"soft cap", &softcap, QS_F32, QS_F32, {7, 333}, {8}, 2, LOSS},
    {"cross entropy, no targets", &cross_entropy, QS_F32, QS_F32, {4, 50, 20, 1}, {0}, 0, LOSS},
    {"sum of squares", &sum_squares, QS_F32, QS_F32, {100003}, {0}, 0, 1e-13, "summed in double"},
    {"sum of squares of one", &sum_squares, QS_F32, QS_F32, {1}, {0}, 0, 1e-13, "summed in double"},
    {"adamw torch", &adamw, QS_F32, QS_F32, {1003, 7, QS_ADAMW_TORCH}, {1e-2, 0.1, 0.5}, 0, UPDATE},
    {"adamw torch, first step", &adamw, QS_F32, QS_F32, {77, 1, QS_ADAMW_TORCH}, {1e-3, 0, 1}, 0, UPDATE},
    {"adamw bitsandbytes", &adamw, QS_F32, QS_F32, {1003, 7, QS_ADAMW_BNB}, {1e-2, 0.1, 0.5}, 0, UPDATE},
    {"adamw 8-bit", &adamw8, QS_F32, QS_F32, {256 * 9 + 33, 5}, {1e-2, 0.1, 0.5}, 0, STATE8},
    {"adamw 8-bit, first step", &adamw8, QS_F32, QS_F32, {256 * 4, 1, 1}, {1e-3, 0, 1}, 0, STATE8},
    {"adamw 8-bit, one element", &adamw8, QS_F32, QS_F32, {1, 2}, {1e-3, 0, 1}, 0, STATE8},
};

const op_case_list op_cases_train = OP_LIST("train", cases);

/* ---- gradients --------------------------------------------------------------------------------------- */

#define CASE(kind, ...)                                         \
    {                                                           \
        "", &kind, QS_F32, QS_F32, {__VA_ARGS__}, {0}, 0, 0, "" \
    }

static const op_gradient gradients[] = {
    {"cross entropy", CASE(cross_entropy, 6, 90, 40, 3), CASE(cross_entropy, 6, 90, 40, 3), C_LOGITS, C_LOSS,
     -1, C_GRADIENT, 0.125},
};

const op_gradient_list op_gradients_train = OP_GRADIENTS(gradients);
