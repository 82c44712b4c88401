/* optimizer.c - AdamW with 32-bit and with blockwise 8-bit states, and the sum of squares for clipping.
 *
 * Coefficients are computed once in double. The updates then round after every operation, in the order of the library they
 * follow, so that a run here and a run there drift apart no faster than two runs of that library.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"
#include "kernels/quant.h"

enum { STATE_BLOCK = 256 };

void qs_cpu_sum_squares(qs_device *d, const float *g, int64_t n, double *sum)
{
    enum { PARTS = 256 }; /* fixed: the order of the sum depends on n alone */
    double part_sum[PARTS] = {0};
    int64_t per_part = (n + PARTS - 1) / PARTS;
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < PARTS; part++) {
        int64_t begin = part * per_part, end = begin + per_part < n ? begin + per_part : n;
        double s[8] = {0};
        for (int64_t i = begin; i < end; i++) s[(i - begin) & 7] += (double)g[i] * g[i];
        part_sum[part] = ((s[0] + s[1]) + (s[2] + s[3])) + ((s[4] + s[5]) + (s[6] + s[7]));
    }
    double total = 0;
    for (int part = 0; part < PARTS; part++) total += part_sum[part];
    *sum = total;
}

/* torch.optim.AdamW, single tensor, not fused (torch/optim/adam.py). */
static void adamw_torch(const qs_adamw *h, float *p, const float *g, float *m, float *v, int64_t n)
{
    float decay = (float)(1 - h->learning_rate * h->weight_decay), scale = h->gradient_scale;
    float weight = (float)(1 - h->beta1), beta2 = (float)h->beta2, one_minus_beta2 = (float)(1 - h->beta2);
    float step = (float)(-h->learning_rate / (1 - pow(h->beta1, (double)h->step)));
    float correction = (float)sqrt(1 - pow(h->beta2, (double)h->step)), eps = (float)h->eps;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        float pi = p[i] * decay;
        float mi = m[i] + weight * (gi - m[i]);
        float vi = v[i] * beta2 + one_minus_beta2 * gi * gi;
        m[i] = mi;
        v[i] = vi;
        p[i] = pi + step * mi / (sqrtf(vi) / correction + eps);
    }
}

/* The rule of bitsandbytes' CUDA kernel (kOptimizer32bit2State): eps is scaled by the bias correction, decay comes after the step. */
static void adamw_bnb(const qs_adamw *h, float *p, const float *g, float *m, float *v, int64_t n)
{
    double c1 = 1 - pow(h->beta1, (double)h->step), c2 = sqrt(1 - pow(h->beta2, (double)h->step));
    float decay = h->weight_decay > 0 ? (float)(1 - h->learning_rate * h->weight_decay) : 1, scale = h->gradient_scale;
    float beta1 = (float)h->beta1, beta2 = (float)h->beta2, one_minus_beta1 = (float)(1 - h->beta1);
    float one_minus_beta2 = (float)(1 - h->beta2), step = (float)(-h->learning_rate * c2 / c1), eps = (float)(h->eps * c2);
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        float mi = m[i] * beta1 + one_minus_beta1 * gi;
        float vi = v[i] * beta2 + one_minus_beta2 * (gi * gi);
        m[i] = mi;
        v[i] = vi;
        p[i] = (p[i] + step * (mi / (sqrtf(vi) + eps))) * decay;
    }
}

void qs_cpu_adamw(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g, float *m, float *v, int64_t n)
{
    (rule == QS_ADAMW_TORCH ? adamw_torch : adamw_bnb)(h, p, g, m, v, n);
}

/* ---- 8-bit states ----------------------------------------------------------------------------------------------------- */

static int code_of(float x, const float above[255])
{
    int code = 0;
    for (int step = 128; step; step /= 2)
        if (x > above[code + step - 1]) code += step;
    return code;
}

/* The first moment keeps its sign: a code whose value has the other sign moves one entry over. In a block of zeros x is NaN,
 * its code 0, and that of +0 wraps to 255; absmax is 0, so all of them mean 0. */
static uint8_t signed_code_of(float x, float moment)
{
    int code = code_of(x, qs_dynamic_signed_above);
    if (!!signbit(qs_dynamic_signed[code]) != !!signbit(moment)) code += moment > 0 ? 1 : -1;
    return (uint8_t)code;
}

typedef struct adamw8_rule {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, step, eps, decay, scale;
} adamw8_rule;

static void adamw8_block(const adamw8_rule *r, float *p, const float *g, uint8_t *m8, uint8_t *v8, float *m_absmax, float *v_absmax,
                         int n)
{
    float m[STATE_BLOCK], v[STATE_BLOCK], m_top = 0, v_top = 0;
    for (int i = 0; i < n; i++) {
        if (!isfinite(g[i])) {
            m[i] = v[i] = 0;
            continue;
        }
        float gi = g[i] * r->scale;
        v[i] = qs_dynamic_unsigned[v8[i]] * *v_absmax * r->beta2 + r->one_minus_beta2 * gi * gi;
        m[i] = qs_dynamic_signed[m8[i]] * *m_absmax * r->beta1 + r->one_minus_beta1 * gi;
        p[i] = (p[i] + r->step * (m[i] / (sqrtf(v[i]) + r->eps))) * r->decay;
        m_top = fabsf(m[i]) > m_top ? fabsf(m[i]) : m_top;
        v_top = v[i] > v_top ? v[i] : v_top;
    }
    *m_absmax = m_top;
    *v_absmax = v_top;
    for (int i = 0; i < n; i++) {
        m8[i] = signed_code_of(m[i] / m_top, m[i]);
        v8[i] = (uint8_t)code_of(v[i] / v_top, qs_dynamic_unsigned_above);
    }
}

/* Decay comes after the step, as in the CUDA kernel of bitsandbytes that defines these states. */
void qs_cpu_adamw8(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8, uint8_t *v8, float *m_absmax,
                   float *v_absmax, int64_t n)
{
    double c1 = 1 - pow(h->beta1, (double)h->step), c2 = sqrt(1 - pow(h->beta2, (double)h->step));
    adamw8_rule r = {
        .beta1 = (float)h->beta1,
        .beta2 = (float)h->beta2,
        .one_minus_beta1 = (float)(1 - h->beta1),
        .one_minus_beta2 = (float)(1 - h->beta2),
        .step = (float)(-h->learning_rate * c2 / c1),
        .eps = (float)(h->eps * c2),
        .decay = h->weight_decay > 0 ? (float)(1 - h->learning_rate * h->weight_decay) : 1,
        .scale = h->gradient_scale,
    };
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < n; at += STATE_BLOCK) {
        int64_t block = at / STATE_BLOCK;
        int left = n - at < STATE_BLOCK ? (int)(n - at) : STATE_BLOCK;
        adamw8_block(&r, p + at, g + at, m8 + at, v8 + at, m_absmax + block, v_absmax + block, left);
    }
}
