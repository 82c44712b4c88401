/* optimizer.c - AdamW with 32-bit and with blockwise 8-bit states, and the sum of squares for clipping.
 *
 * Coefficients are computed once in double. The updates then round after every operation, in the order of the
 * library they follow, so that a run here and a run there drift apart no faster than two runs of that
 * library.
 */
#include <math.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/dynamic_map.h"
#include "src/base/maths.h"

enum { STATE_BLOCK = 256 };

void QS_CPU(sum_squares)(qs_device *d, const float *g, int64_t n, double *sum)
{
    enum { PARTS = 256 }; /* fixed: the order of the sum depends on n alone */
    double part_sum[PARTS] = {0};
    int64_t per_part = (n + PARTS - 1) / PARTS;
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < PARTS; part++) {
        int64_t begin = part * per_part, end = begin + per_part < n ? begin + per_part : n;
        double s[32] = {0}; /* enough independent sums to keep the adders busy */
        int64_t whole = begin + (end > begin ? (end - begin) / 32 * 32 : 0);
        for (int64_t i = begin; i < whole; i += 32)
            for (int l = 0; l < 32; l++) s[l] += (double)g[i + l] * g[i + l];
        for (int64_t i = whole; i < end; i++) s[i - whole] += (double)g[i] * g[i];
        for (int half = 16; half; half /= 2)
            for (int l = 0; l < half; l++) s[l] += s[l + half];
        part_sum[part] = s[0];
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
    float step = (float)(-h->learning_rate / (1 - qs_power_of_integer(h->beta1, h->step)));
    float correction = (float)sqrt(1 - qs_power_of_integer(h->beta2, h->step)), eps = (float)h->eps;
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        float pi = p[i] * decay;
        float mi = m[i] + weight * (gi - m[i]);
        float second = v[i] * beta2 + one_minus_beta2 * gi * gi;
        m[i] = mi;
        v[i] = second;
        p[i] = pi + step * mi / (sqrtf(second) / correction + eps);
    }
}

/* The rule of bitsandbytes' CUDA kernel (kOptimizer32bit2State): eps is scaled by the bias correction, decay
 * comes after the step. */
static void adamw_bnb(const qs_adamw *h, float *p, const float *g, float *m, float *v, int64_t n)
{
    double c1 = 1 - qs_power_of_integer(h->beta1, h->step),
           c2 = sqrt(1 - qs_power_of_integer(h->beta2, h->step));
    float decay = h->weight_decay > 0 ? (float)(1 - h->learning_rate * h->weight_decay) : 1,
          scale = h->gradient_scale;
    float beta1 = (float)h->beta1, beta2 = (float)h->beta2, one_minus_beta1 = (float)(1 - h->beta1);
    float one_minus_beta2 = (float)(1 - h->beta2), step = (float)(-h->learning_rate * c2 / c1),
          eps = (float)(h->eps * c2);
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) {
        float gi = g[i] * scale;
        float mi = m[i] * beta1 + one_minus_beta1 * gi;
        float second = v[i] * beta2 + one_minus_beta2 * (gi * gi);
        m[i] = mi;
        v[i] = second;
        p[i] = (p[i] + step * (mi / (sqrtf(second) + eps))) * decay;
    }
}

void QS_CPU(adamw)(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g, float *m,
                   float *v, int64_t n)
{
    (rule == QS_ADAMW_TORCH ? adamw_torch : adamw_bnb)(h, p, g, m, v, n);
}

/* ---- 8-bit states ------------------------------------------------------------------------------------ */

typedef struct adamw8_rule {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, step, eps, decay, scale;
} adamw8_rule;

/* The first moment keeps its sign: a code whose value has the other sign moves one entry over. In a block of
 * zeros x is NaN, its code 0, and that of +0 wraps to 255; absmax is 0, so all of them mean 0. */
VEC vb signed_codes(vf x, vf moment)
{
    vb code = qs_dynamic_codes(x, qs_dynamic_signed_above);
    vi negative_code = vec_widen_bytes(code) < 127, negative = (vi)moment < 0;
    vi correction = (negative_code ^ negative) & (((vi)(moment > 0) & 2) - 1);
    return vec_bytes(vec_widen_bytes(code) + correction);
}

/* A full block of 256. */
static void adamw8_block(const adamw8_rule *r, float *p, const float *g, uint8_t *m8, uint8_t *v8,
                         float *m_absmax, float *v_absmax)
{
    float m[STATE_BLOCK], v[STATE_BLOCK];
    vf m_most = {0}, v_most = {0};
    for (int i = 0; i < STATE_BLOCK; i += VW) {
        vf gi = vec_load_f32(g + i), pi = vec_load_f32(p + i);
        vi finite = ((vi)gi & 0x7f800000) != 0x7f800000;
        gi = gi * r->scale;
        vf second = qs_dynamic_values(v8 + i, qs_dynamic_unsigned) * *v_absmax * r->beta2 +
                    r->one_minus_beta2 * gi * gi;
        vf mi = qs_dynamic_values(m8 + i, qs_dynamic_signed) * *m_absmax * r->beta1 + r->one_minus_beta1 * gi;
        vf next = (pi + r->step * (mi / (vec_sqrt(second) + r->eps))) * r->decay;
        mi = vec_select(finite, mi, vec_all(0));
        second = vec_select(finite, second, vec_all(0));
        vec_store_f32(p + i, vec_select(finite, next, pi));
        vec_store_f32(m + i, mi);
        vec_store_f32(v + i, second);
        m_most = vec_max(m_most, vec_abs(mi));
        v_most = vec_max(v_most, second);
    }
    float m_top = vec_top(m_most), v_top = vec_top(v_most);
    *m_absmax = m_top;
    *v_absmax = v_top;
    for (int i = 0; i < STATE_BLOCK; i += VW) {
        vf mi = vec_load_f32(m + i);
        vb m_code = signed_codes(mi / m_top, mi),
           v_code = qs_dynamic_codes(vec_load_f32(v + i) / v_top, qs_dynamic_unsigned_above);
        memcpy(m8 + i, &m_code, sizeof m_code);
        memcpy(v8 + i, &v_code, sizeof v_code);
    }
}

/* The last block: a copy filled up with zeros, which change nothing. */
static void adamw8_tail(const adamw8_rule *r, float *p, const float *g, uint8_t *m8, uint8_t *v8,
                        float *m_absmax, float *v_absmax, int n)
{
    float p_block[STATE_BLOCK] = {0}, g_block[STATE_BLOCK] = {0};
    uint8_t m_block[STATE_BLOCK], v_block[STATE_BLOCK] = {0};
    memset(m_block, 127, sizeof m_block);
    memcpy(p_block, p, (size_t)n * sizeof *p);
    memcpy(g_block, g, (size_t)n * sizeof *g);
    memcpy(m_block, m8, (size_t)n);
    memcpy(v_block, v8, (size_t)n);
    adamw8_block(r, p_block, g_block, m_block, v_block, m_absmax, v_absmax);
    memcpy(p, p_block, (size_t)n * sizeof *p);
    memcpy(m8, m_block, (size_t)n);
    memcpy(v8, v_block, (size_t)n);
}

/* Decay comes after the step, as in the CUDA kernel of bitsandbytes that defines these states. */
void QS_CPU(adamw8)(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8, uint8_t *v8,
                    float *m_absmax, float *v_absmax, int64_t n)
{
    double c1 = 1 - qs_power_of_integer(h->beta1, h->step),
           c2 = sqrt(1 - qs_power_of_integer(h->beta2, h->step));
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
        if (left == STATE_BLOCK)
            adamw8_block(&r, p + at, g + at, m8 + at, v8 + at, m_absmax + block, v_absmax + block);
        else
            adamw8_tail(&r, p + at, g + at, m8 + at, v8 + at, m_absmax + block, v_absmax + block, left);
    }
}
