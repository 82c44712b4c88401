/* vec.h - sixteen floats at a time, in plain C.
 *
 * GCC's and Clang's vector types make one source serve every machine: the compiler turns a v16 into one AVX-512 register,
 * two AVX2 ones or four SSE ones. Intrinsics stand here only where the language has no word for an instruction (fused
 * multiply-add, half precision, table look-up), each beside its portable twin. Loads and stores convert between the
 * compute types and fp32, with the rounding of src/base/dtype.h bit for bit.
 */
#ifndef QS_KERNELS_CPU_VEC_H
#define QS_KERNELS_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

#include "src/base/dtype.h"

#pragma GCC diagnostic ignored "-Wpsabi" /* all of it is inlined: no vector crosses a call */

#define V16 16 /* lanes */

typedef float v16 __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
typedef uint32_t v16u __attribute__((vector_size(64)));
typedef uint16_t v16h __attribute__((vector_size(32)));
typedef uint8_t v16b __attribute__((vector_size(16)));

#define VEC static inline __attribute__((always_inline))

VEC v16 v16_all(float x) { return x - (v16){0}; }

/* Lane by lane mask ? a : b; the mask is what a comparison gives (all ones or zero). */
VEC v16 v16_select(v16i mask, v16 a, v16 b)
{
#if defined(__AVX512DQ__)
    return (v16)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), (__m512)b, (__m512)a);
#else
    return (v16)((mask & (v16i)a) | (~mask & (v16i)b));
#endif
}

/* a where either is NaN: b's NaN is lost, a's is kept. */
VEC v16 v16_max(v16 a, v16 b)
{
#if defined(__AVX512F__)
    return (v16)_mm512_max_ps((__m512)b, (__m512)a);
#else
    return v16_select(a < b, b, a);
#endif
}
VEC v16 v16_min(v16 a, v16 b)
{
#if defined(__AVX512F__)
    return (v16)_mm512_min_ps((__m512)b, (__m512)a);
#else
    return v16_select(a > b, b, a);
#endif
}
VEC v16 v16_abs(v16 a) { return (v16)((v16i)a & 0x7fffffff); }

/* a * b + c in one rounding. */
VEC v16 v16_fma(v16 a, v16 b, v16 c)
{
#if defined(__AVX512F__)
    return (v16)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
#else
    v16 r;
    for (int l = 0; l < V16; l++) r[l] = __builtin_fmaf(a[l], b[l], c[l]);
    return r;
#endif
}

VEC v16 v16_sqrt(v16 a)
{
#if defined(__AVX512F__)
    return (v16)_mm512_sqrt_ps((__m512)a);
#else
    v16 r;
    for (int l = 0; l < V16; l++) r[l] = __builtin_sqrtf(a[l]);
    return r;
#endif
}

/* Sum and maximum of the lanes, in a fixed tree: halves, quarters and so on. A NaN may get lost in the maximum. */
VEC float v16_sum(v16 a)
{
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)a);
#else
    for (int half = V16 / 2; half; half /= 2)
        for (int l = 0; l < half; l++) a[l] += a[l + half];
    return a[0];
#endif
}
VEC float v16_top(v16 a)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)a);
#else
    for (int half = V16 / 2; half; half /= 2)
        for (int l = 0; l < half; l++) a[l] = a[l] < a[l + half] ? a[l + half] : a[l];
    return a[0];
#endif
}

/* table[index], index in 0..15; of 32-bit words. */
VEC v16u v16_lookup(v16u table, v16i index)
{
#if defined(__AVX512F__)
    return (v16u)_mm512_permutexvar_epi32((__m512i)index, (__m512i)table);
#else
    v16u r;
    for (int l = 0; l < V16; l++) r[l] = table[index[l] & 15];
    return r;
#endif
}

/* The larger of two lanes as unsigned numbers. */
VEC v16u v16u_max(v16u a, v16u b)
{
#if defined(__AVX512F__)
    return (v16u)_mm512_max_epu32((__m512i)a, (__m512i)b);
#else
    v16u more = (v16u)(b > a);
    return (more & b) | (~more & a);
#endif
}

/* table[index] from memory. */
VEC v16 v16_gather(const float *table, v16i index)
{
#if defined(__AVX512F__)
    return (v16)_mm512_i32gather_ps((__m512i)index, table, sizeof(float));
#else
    v16 r;
    for (int l = 0; l < V16; l++) r[l] = table[index[l]];
    return r;
#endif
}

/* ---- conversions ------------------------------------------------------------------------------------------------ */

/* 16-bit lanes to 32 and back, the lower halves: one instruction each, which the compilers do not always find. */
VEC v16u v16_widen(v16h h)
{
#if defined(__AVX512F__)
    return (v16u)_mm512_cvtepu16_epi32((__m256i)h);
#else
    return __builtin_convertvector(h, v16u);
#endif
}
VEC v16h v16_narrow(v16u u)
{
#if defined(__AVX512F__)
    return (v16h)_mm512_cvtepi32_epi16((__m512i)u);
#else
    return __builtin_convertvector(u, v16h);
#endif
}

VEC v16 v16_of_bf16(v16h h) { return (v16)(v16_widen(h) << 16); }

/* The instruction VCVTNEPS2BF16 is not used: it flushes subnormal numbers. */
VEC v16h v16_to_bf16(v16 f)
{
    v16u u = (v16u)f, rounded = u + 0x7fffu + (u >> 16 & 1), quiet = u | 0x400000u;
    return v16_narrow((v16u)v16_select(f != f, (v16)quiet, (v16)rounded) >> 16);
}

VEC v16 v16_of_f16(v16h h)
{
#if defined(__AVX512F__)
    return (v16)_mm512_cvtph_ps((__m256i)h);
#else
    v16 r;
    for (int l = 0; l < V16; l++) r[l] = qs_f32_of_f16(h[l]);
    return r;
#endif
}

VEC v16h v16_to_f16(v16 f)
{
#if defined(__AVX512F__)
    return (v16h)_mm512_cvtps_ph((__m512)f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#else
    v16h r;
    for (int l = 0; l < V16; l++) r[l] = qs_f16_of_f32(f[l]);
    return r;
#endif
}

/* ---- memory: element i of an array of type t; any alignment --------------------------------------------------------- */

VEC v16 v16_load_f32(const float *p)
{
    v16 v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC void v16_store_f32(float *p, v16 v) { memcpy(p, &v, sizeof v); }

VEC v16 v16_load_full(const void *p, qs_dtype t, int64_t i)
{
    if (t == QS_F32) return v16_load_f32((const float *)p + i);
    v16h h;
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return t == QS_BF16 ? v16_of_bf16(h) : v16_of_f16(h);
}

VEC void v16_store_full(void *p, qs_dtype t, int64_t i, v16 v)
{
    if (t == QS_F32) {
        v16_store_f32((float *)p + i, v);
    } else {
        v16h h = t == QS_BF16 ? v16_to_bf16(v) : v16_to_f16(v);
        memcpy((uint16_t *)p + i, &h, sizeof h);
    }
}

/* n < 16 elements; the other lanes read as 0 and are not written. Ragged ends only, so never inlined. */
static __attribute__((noinline, unused)) void v16_load_part(v16 *out, const void *p, qs_dtype t, int64_t i, int n)
{
    uint32_t buffer[V16] = {0};
    memcpy(buffer, (const char *)p + (size_t)i * qs_dtype_bytes(t), (size_t)n * qs_dtype_bytes(t));
    *out = v16_load_full(buffer, t, 0);
}
static __attribute__((noinline, unused)) void v16_store_part(void *p, qs_dtype t, int64_t i, const v16 *v, int n)
{
    uint32_t buffer[V16];
    v16_store_full(buffer, t, 0, *v);
    memcpy((char *)p + (size_t)i * qs_dtype_bytes(t), buffer, (size_t)n * qs_dtype_bytes(t));
}

/* min(left, 16) elements. */
VEC v16 v16_load(const void *p, qs_dtype t, int64_t i, int64_t left)
{
    if (__builtin_expect(left >= V16, 1)) return v16_load_full(p, t, i);
    v16 v;
    v16_load_part(&v, p, t, i, (int)left);
    return v;
}
VEC void v16_store(void *p, qs_dtype t, int64_t i, int64_t left, v16 v)
{
    if (__builtin_expect(left >= V16, 1)) v16_store_full(p, t, i, v);
    else v16_store_part(p, t, i, &v, (int)left);
}

/* ---- functions -------------------------------------------------------------------------------------------------------- */

/* e^x to about one unit in the last place: x = n ln2 + r, Taylor's series to r^7, times 2^n in two halves so that subnormal
 * results and overflow to infinity come out right. NaN stays NaN. */
VEC v16 v16_exp(v16 x)
{
    x = v16_max(v16_min(x, v16_all(89.0f)), v16_all(-104.0f));
    v16 magic = v16_all(0x1.8p23f);
    v16 shifted = v16_fma(x, v16_all(0x1.715476p0f), magic); /* the low bits of the sum are round(x / ln2) */
    v16 n = shifted - magic;
    v16 r = v16_fma(n, v16_all(-0x1.62e4p-1f), x);           /* ln2's leading bits: the product is exact */
    r = v16_fma(n, v16_all(-0x1.7f7d1cp-20f), r);
    v16 p = v16_all(1.0f / 5040);
    p = v16_fma(p, r, v16_all(1.0f / 720));
    p = v16_fma(p, r, v16_all(1.0f / 120));
    p = v16_fma(p, r, v16_all(1.0f / 24));
    p = v16_fma(p, r, v16_all(1.0f / 6));
    p = v16_fma(p, r, v16_all(0.5f));
    p = v16_fma(p, r, v16_all(1.0f));
    p = v16_fma(p, r, v16_all(1.0f));
#if defined(__AVX512F__)
    return (v16)_mm512_scalef_ps((__m512)p, (__m512)n);
#else
    v16i e = (v16i)shifted - 0x4b400000, half = e >> 1;
    return p * (v16)((half + 127) << 23) * (v16)((e - half + 127) << 23);
#endif
}

VEC v16 v16_sigmoid(v16 x) { return 1.0f / (1.0f + v16_exp(-x)); }

#endif
