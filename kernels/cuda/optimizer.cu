/* optimizer.cu - AdamW with 32-bit and with blockwise 8-bit states, and the sum of squares for clipping.
 *
 * Every expression is that of kernels/cpu/optimizer.c, rounded after every operation, coefficients from
 * double on the host: the bits are the CPU's, wherever the state of an optimizer is updated. */
#include <math.h>

#include "kernels/cuda/reduce.cuh"

enum { THREADS = 256, STATE_BLOCK = 256 };

/* ---- sum of squares ---------------------------------------------------------------------------------- */

enum { PARTS = QS_CUDA_PARTIALS, PART_LANES = 8, PARTS_PER_BLOCK = 4 };

/* The order of the sum depends on n alone: 256 parts, in each eight interleaved sums, one per thread. */
static __global__ void __launch_bounds__(PART_LANES *PARTS_PER_BLOCK)
    sum_parts(const float *g, int64_t n, double *partials)
{
    int64_t per_part = (n + PARTS - 1) / PARTS,
            part = blockIdx.x * PARTS_PER_BLOCK + threadIdx.x / PART_LANES;
    int64_t begin = part * per_part, end = min(begin + per_part, n);
    double s = 0;
#pragma unroll 8
    for (int64_t i = begin + threadIdx.x % PART_LANES; i < end; i += PART_LANES)
        s += (double)g[i] * (double)g[i];
    for (int lanes = 1; lanes < PART_LANES; lanes *= 2) s += __shfl_xor_sync(0xffffffffu, s, lanes);
    if (threadIdx.x % PART_LANES == 0) partials[part] = s;
}

static __global__ void add_parts(const double *partials, double *sum)
{
    double total = 0;
    for (int part = 0; part < PARTS; part++) total += partials[part];
    *sum = total;
}

extern "C" void qs_cuda_sum_squares(qs_device *d, const float *g, int64_t n, double *sum)
{
    double *partials = qs_cuda_of(d)->partials;
    QS_LAUNCH(d, sum_parts, PARTS / PARTS_PER_BLOCK, PART_LANES * PARTS_PER_BLOCK, 0, g, n, partials);
    QS_LAUNCH(d, add_parts, 1, 1, 0, partials, sum);
}

/* ---- 32-bit states ----------------------------------------------------------------------------------- */

struct adamw_rule {
    float beta1, beta2, one_minus_beta1, one_minus_beta2, step, correction, eps, decay, scale;
};

static __global__ void __launch_bounds__(THREADS)
    adamw_torch(adamw_rule r, float *p, const float *g, float *m, float *v, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float gi = g[i] * r.scale;
    float pi = p[i] * r.decay;
    float mi = m[i] + r.one_minus_beta1 * (gi - m[i]);
    float vi = v[i] * r.beta2 + r.one_minus_beta2 * gi * gi;
    m[i] = mi;
    v[i] = vi;
    p[i] = pi + r.step * mi / (sqrtf(vi) / r.correction + r.eps);
}

static __global__ void __launch_bounds__(THREADS)
    adamw_bnb(adamw_rule r, float *p, const float *g, float *m, float *v, int64_t n)
{
    int64_t i = (int64_t)blockIdx.x * THREADS + threadIdx.x;
    if (i >= n) return;
    float gi = g[i] * r.scale;
    float mi = m[i] * r.beta1 + r.one_minus_beta1 * gi;
    float vi = v[i] * r.beta2 + r.one_minus_beta2 * (gi * gi);
    m[i] = mi;
    v[i] = vi;
    p[i] = (p[i] + r.step * (mi / (sqrtf(vi) + r.eps))) * r.decay;
}

static adamw_rule rule_of(const qs_adamw *h, bool torch)
{
    double c1 = 1 - pow(h->beta1, (double)h->step), c2 = sqrt(1 - pow(h->beta2, (double)h->step));
    adamw_rule r;
    r.beta1 = (float)h->beta1;
    r.beta2 = (float)h->beta2;
    r.one_minus_beta1 = (float)(1 - h->beta1);
    r.one_minus_beta2 = (float)(1 - h->beta2);
    r.step = (float)(torch ? -h->learning_rate / c1 : -h->learning_rate * c2 / c1);
    r.correction = (float)c2;
    r.eps = (float)(torch ? h->eps : h->eps * c2);
    r.decay = torch || h->weight_decay > 0 ? (float)(1 - h->learning_rate * h->weight_decay) : 1.0f;
    r.scale = h->gradient_scale;
    return r;
}

extern "C" void qs_cuda_adamw(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g,
                              float *m, float *v, int64_t n)
{
    bool torch = rule == QS_ADAMW_TORCH;
    QS_LAUNCH(d, (torch ? adamw_torch : adamw_bnb), qs_cuda_blocks(n, THREADS), THREADS, 0, rule_of(h, torch),
              p, g, m, v, n);
}

/* ---- 8-bit states ------------------------------------------------------------------------------------ */

static __device__ int code_of(float x, const float *above)
{
    int code = 0;
    for (int step = 128; step; step /= 2)
        if (x > above[code + step - 1]) code += step;
    return code;
}

/* The first moment keeps its sign: a code whose value has the other sign moves one entry over. In a block of
 * zeros x is NaN: see the CPU's. */
static __device__ uint8_t signed_code_of(float x, float moment, const qs_cuda_maps *maps)
{
    int code = code_of(x, maps->above_signed);
    if ((__float_as_uint(maps->value_signed[code]) ^ __float_as_uint(moment)) >> 31)
        code += moment > 0 ? 1 : -1;
    return (uint8_t)code;
}

/* One thread block per 256 elements, which share the scales. */
static __global__ void __launch_bounds__(STATE_BLOCK)
    adamw8(adamw_rule r, const qs_cuda_maps *maps, float *p, const float *g, uint8_t *m8, uint8_t *v8,
           float *m_absmax, float *v_absmax, int64_t n)
{
    __shared__ float scratch[32];
    int64_t i = (int64_t)blockIdx.x * STATE_BLOCK + threadIdx.x;
    float m = 0, v = 0, gradient = i < n ? g[i] : 0.0f;
    if (i < n && (__float_as_uint(gradient) & 0x7f800000u) != 0x7f800000u) {
        float gi = gradient * r.scale;
        v = maps->value_unsigned[v8[i]] * v_absmax[blockIdx.x] * r.beta2 + r.one_minus_beta2 * gi * gi;
        m = maps->value_signed[m8[i]] * m_absmax[blockIdx.x] * r.beta1 + r.one_minus_beta1 * gi;
        p[i] = (p[i] + r.step * (m / (sqrtf(v) + r.eps))) * r.decay;
    }
    float m_top = qs_block_reduce<qs_max>(fabsf(m), scratch), v_top = qs_block_reduce<qs_max>(v, scratch);
    if (i < n) {
        m8[i] = signed_code_of(m / m_top, m, maps);
        v8[i] = (uint8_t)code_of(v / v_top, maps->above_unsigned);
    }
    if (threadIdx.x == 0) m_absmax[blockIdx.x] = m_top, v_absmax[blockIdx.x] = v_top;
}

extern "C" void qs_cuda_adamw8(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8,
                               uint8_t *v8, float *m_absmax, float *v_absmax, int64_t n)
{
    QS_LAUNCH(d, adamw8, qs_cuda_blocks(n, STATE_BLOCK), STATE_BLOCK, 0, rule_of(h, false),
              qs_cuda_of(d)->maps, p, g, m8, v8, m_absmax, v_absmax, n);
}
