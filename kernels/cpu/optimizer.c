/* optimizer.c - AdamW with 32-bit and with blockwise 8-bit states, and the sum of squares for clipping.
 *
 * Coefficients are computed once in double. The updates then round after every operation, in the order of the library they
 * follow, so that a run here and a run there drift apart no faster than two runs of that library.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dynamic_map.h"

enum { STATE_BLOCK = 256 };

void qs_cpu_sum_squares(qs_device *d, const float *g, int64_t n, double *sum)
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

typedef struct adamw8_rule {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, step, eps, decay, scale;
} adamw8_rule;

/* The first moment keeps its sign: a code whose value has the other sign moves one entry over. In a block of zeros x is NaN,
 * its code 0, and that of +0 wraps to 255; absmax is 0, so all of them mean 0. */
VEC v16b signed_codes(v16 x, v16 moment)
{
    v16b code = qs_dynamic_codes(x, qs_dynamic_signed_above);
    v16i negative_code = __builtin_convertvector(code, v16i) < 127, negative = (v16i)moment < 0;
    v16i correction = (negative_code ^ negative) & (((v16i)(moment > 0) & 2) - 1);
    return code + __builtin_convertvector(correction, v16b);
}

/* A full block of 256. */
static void adamw8_block(const adamw8_rule *r, float *p, const float *g, uint8_t *m8, uint8_t *v8, float *m_absmax, float *v_absmax)
{
    float m[STATE_BLOCK], v[STATE_BLOCK];
    v16 m_most = {0}, v_most = {0};
    for (int i = 0; i < STATE_BLOCK; i += V16) {
        v16 gi = v16_load_f32(g + i), pi = v16_load_f32(p + i);
        v16i finite = ((v16i)gi & 0x7f800000) != 0x7f800000;
        gi = gi * r->scale;
        v16 vi = qs_dynamic_values(v8 + i, qs_dynamic_unsigned) * *v_absmax * r->beta2 + r->one_minus_beta2 * gi * gi;
        v16 mi = qs_dynamic_values(m8 + i, qs_dynamic_signed) * *m_absmax * r->beta1 + r->one_minus_beta1 * gi;
        v16 next = (pi + r->step * (mi / (v16_sqrt(vi) + r->eps))) * r->decay;
        mi = v16_select(finite, mi, v16_all(0));
        vi = v16_select(finite, vi, v16_all(0));
        v16_store_f32(p + i, v16_select(finite, next, pi));
        v16_store_f32(m + i, mi);
        v16_store_f32(v + i, vi);
        m_most = v16_max(m_most, v16_abs(mi));
        v_most = v16_max(v_most, vi);
    }
    float m_top = v16_top(m_most), v_top = v16_top(v_most);
    *m_absmax = m_top;
    *v_absmax = v_top;
    for (int i = 0; i < STATE_BLOCK; i += V16) {
        v16 mi = v16_load_f32(m + i);
        v16b m_code = signed_codes(mi / m_top, mi), v_code = qs_dynamic_codes(v16_load_f32(v + i) / v_top, qs_dynamic_unsigned_above);
        memcpy(m8 + i, &m_code, sizeof m_code);
        memcpy(v8 + i, &v_code, sizeof v_code);
    }
}

/* The last block: a copy filled up with zeros, which change nothing. */
static void adamw8_tail(const adamw8_rule *r, float *p, const float *g, uint8_t *m8, uint8_t *v8, float *m_absmax, float *v_absmax, int n)
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
        if (left == STATE_BLOCK) adamw8_block(&r, p + at, g + at, m8 + at, v8 + at, m_absmax + block, v_absmax + block);
        else adamw8_tail(&r, p + at, g + at, m8 + at, v8 + at, m_absmax + block, v_absmax + block, left);
    }
}
