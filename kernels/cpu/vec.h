/* vec.h - as many floats at a time as the machine's register holds, in plain C.
 *
 * One text serves every instruction set: a vf is one register of VW floats, 16 with AVX-512, 8 with AVX2, 4
 * with SSE and NEON. The arithmetic is that of GCC's and Clang's vector types; an intrinsic stands where the
 * language has no word for an instruction, beside a portable twin.
 *
 * The same bits everywhere. What is computed lane by lane does not depend on VW. A sum does, so every sum is
 * cut as if a register had 16 lanes: element j belongs to lane j % 16, and the lanes are added in halves,
 * quarters and so on. A kernel walks in steps of 16 and has an array of VR registers for its sums, which
 * vec16_sum adds up. Functions are in vec_math.h.
 */
#ifndef QS_KERNELS_CPU_VEC_H
#define QS_KERNELS_CPU_VEC_H

#include <stdint.h>
#include <string.h>

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

#include "src/base/dtype.h"

#if defined(__AVX512F__)
#define VW 16
#define VX(operation) _mm512_##operation
#define VX_INT __m512i
#elif defined(__AVX2__)
#define VW 8
#define VX(operation) _mm256_##operation
#define VX_INT __m256i
#else
#define VW 4
#endif
#define LANES 16        /* of a sum */
#define VR (LANES / VW) /* registers of 16 lanes */

typedef float vf __attribute__((vector_size(VW * 4)));
typedef int32_t vi __attribute__((vector_size(VW * 4)));
typedef uint32_t vu __attribute__((vector_size(VW * 4)));
typedef uint64_t vq __attribute__((vector_size(VW * 4))); /* half as many lanes of 64 bits */
typedef uint16_t vh __attribute__((vector_size(VW * 2)));
typedef uint8_t vb __attribute__((vector_size(VW)));

#define VEC static inline __attribute__((always_inline))

VEC vf vec_all(float x) { return x - (vf){0}; }
VEC vi vec_load_i(const int32_t *p)
{
    vi v;
    memcpy(&v, p, sizeof v);
    return v;
}
/* 0, 1, 2, ... */
VEC vi vec_lanes(void)
{
    static const int32_t lanes[LANES] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return vec_load_i(lanes);
}

/* Lane by lane mask ? a : b; the mask is what a comparison gives (all ones or zero). */
VEC vf vec_select(vi mask, vf a, vf b)
{
#if defined(__AVX512DQ__)
    return (vf)_mm512_mask_blend_ps(_mm512_movepi32_mask((__m512i)mask), (__m512)b, (__m512)a);
#elif defined(__AVX2__)
    return (vf)_mm256_blendv_ps((__m256)b, (__m256)a, (__m256)mask);
#else
    return (vf)((mask & (vi)a) | (~mask & (vi)b));
#endif
}

/* a where either is NaN: b's NaN is lost, a's is kept. */
VEC vf vec_max(vf a, vf b)
{
#if defined(VX)
    return (vf)VX(max_ps)(b, a);
#elif defined(__x86_64__)
    return (vf)_mm_max_ps((__m128)b, (__m128)a);
#else
    return vec_select(a < b, b, a);
#endif
}
VEC vf vec_min(vf a, vf b)
{
#if defined(VX)
    return (vf)VX(min_ps)(b, a);
#elif defined(__x86_64__)
    return (vf)_mm_min_ps((__m128)b, (__m128)a);
#else
    return vec_select(a > b, b, a);
#endif
}
VEC vf vec_abs(vf a) { return (vf)((vi)a & 0x7fffffff); }

/* a * b + c in one rounding; in two on a processor that has no such instruction, whose bits are different for
 * it. */
VEC vf vec_fma(vf a, vf b, vf c)
{
#if defined(VX)
    return (vf)VX(fmadd_ps)(a, b, c);
#elif defined(__aarch64__)
    return (vf)vfmaq_f32((float32x4_t)c, (float32x4_t)a, (float32x4_t)b);
#else
    return a * b + c;
#endif
}

VEC vf vec_sqrt(vf a)
{
#if defined(VX)
    return (vf)VX(sqrt_ps)(a);
#elif defined(__aarch64__)
    return (vf)vsqrtq_f32((float32x4_t)a);
#else
    return (vf)_mm_sqrt_ps((__m128)a);
#endif
}

/* The larger of two lanes as unsigned numbers. */
VEC vu vec_max_u(vu a, vu b)
{
#if defined(VX)
    return (vu)VX(max_epu32)((VX_INT)a, (VX_INT)b);
#else
    vu more = (vu)(b > a);
    return (more & b) | (~more & a);
#endif
}

/* The lower and the upper half of a register; what is added up is put together from them. */
typedef float v4f __attribute__((vector_size(16)));
VEC v4f vec_fold_to_4(vf a)
{
#if VW == 16
    v4f b[4];
    memcpy(b, &a, sizeof b);
    return (b[0] + b[2]) + (b[1] + b[3]);
#elif VW == 8
    v4f b[2];
    memcpy(b, &a, sizeof b);
    return b[0] + b[1];
#else
    return a;
#endif
}

/* Sum of 16 lanes, in the fixed tree: lane l takes lane l + 8, then l + 4, l + 2, l + 1. */
VEC float vec16_sum(const vf a[VR])
{
#if VW == 4
    v4f x = (a[0] + a[2]) + (a[1] + a[3]);
#elif VW == 8
    v4f x = vec_fold_to_4(a[0] + a[1]);
#else
    v4f x = vec_fold_to_4(a[0]);
#endif
    return (x[0] + x[2]) + (x[1] + x[3]);
}

/* Largest lane; a NaN may get lost. */
VEC float vec_top(vf a)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)a);
#elif defined(__x86_64__)
#if defined(__AVX2__)
    __m128 m = _mm_max_ps(_mm256_castps256_ps128((__m256)a), _mm256_extractf128_ps((__m256)a, 1));
#else
    __m128 m = (__m128)a;
#endif
    m = _mm_max_ps(m, _mm_movehl_ps(m, m));
    return _mm_cvtss_f32(_mm_max_ss(m, _mm_movehdup_ps(m)));
#else
    return vmaxvq_f32((float32x4_t)a);
#endif
}
VEC uint32_t vec_top_u(vu a)
{
#if defined(__AVX512F__)
    return _mm512_reduce_max_epu32((__m512i)a);
#elif defined(__x86_64__)
#if defined(__AVX2__)
    __m128i m = _mm_max_epu32(_mm256_castsi256_si128((__m256i)a), _mm256_extracti128_si256((__m256i)a, 1));
#else
    __m128i m = (__m128i)a;
#endif
    m = _mm_max_epu32(m, _mm_shuffle_epi32(m, 0x4e));
    return (uint32_t)_mm_cvtsi128_si32(_mm_max_epu32(m, _mm_shuffle_epi32(m, 0xb1)));
#else
    return vmaxvq_u32((uint32x4_t)a);
#endif
}

/* table[index], index in 0..15: a table of 16 words that stays in registers where they are long enough. */
VEC vu vec_lookup16(const uint32_t table[16], vi index)
{
#if defined(__AVX512F__)
    return (vu)_mm512_permutexvar_epi32((__m512i)index, _mm512_loadu_si512(table));
#elif defined(__AVX2__)
    __m256i low = _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)table), (__m256i)index);
    __m256i high =
        _mm256_permutevar8x32_epi32(_mm256_loadu_si256((const __m256i *)(table + 8)), (__m256i)index);
    return (vu)_mm256_blendv_ps((__m256)low, (__m256)high, (__m256)(index << 28));
#else
    vu r;
    for (int l = 0; l < VW; l++) r[l] = table[index[l]];
    return r;
#endif
}

/* table[index] from memory. */
VEC vf vec_gather(const float *table, vi index)
{
#if defined(__AVX512F__)
    return (vf)_mm512_i32gather_ps((__m512i)index, table, sizeof(float));
#elif defined(__AVX2__)
    return (vf)_mm256_i32gather_ps(table, (__m256i)index, sizeof(float));
#else
    vf r;
    for (int l = 0; l < VW; l++) r[l] = table[index[l]];
    return r;
#endif
}

/* Lanes of x and y in turns, of the lower and of the upper halves; 32 and 64 bits wide. */
#define ZIP_LOW_2 0, 2
#define ZIP_HIGH_2 1, 3
#define ZIP_LOW_4 0, 4, 1, 5
#define ZIP_HIGH_4 2, 6, 3, 7
#define ZIP_LOW_8 0, 8, 1, 9, 2, 10, 3, 11
#define ZIP_HIGH_8 4, 12, 5, 13, 6, 14, 7, 15
#define ZIP_LOW_16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define ZIP_HIGH_16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#if VW == 16
#define ZIP(half, x, y) __builtin_shufflevector(x, y, ZIP_##half##_16)
#define ZIP64(half, x, y) __builtin_shufflevector((vq)(x), (vq)(y), ZIP_##half##_8)
#elif VW == 8
#define ZIP(half, x, y) __builtin_shufflevector(x, y, ZIP_##half##_8)
#define ZIP64(half, x, y) __builtin_shufflevector((vq)(x), (vq)(y), ZIP_##half##_4)
#else
#define ZIP(half, x, y) __builtin_shufflevector(x, y, ZIP_##half##_4)
#define ZIP64(half, x, y) __builtin_shufflevector((vq)(x), (vq)(y), ZIP_##half##_2)
#endif

/* ---- conversions ------------------------------------------------------------------------------------- */

/* 16-bit lanes to 32 and back, the lower halves: one instruction each, which the compilers do not always
 * find. */
VEC vu vec_widen(vh h)
{
#if defined(__AVX512F__)
    return (vu)_mm512_cvtepu16_epi32((__m256i)h);
#elif defined(__AVX2__)
    return (vu)_mm256_cvtepu16_epi32((__m128i)h);
#else
    return __builtin_convertvector(h, vu);
#endif
}
VEC vh vec_narrow(vu u)
{
#if defined(__AVX512F__)
    return (vh)_mm512_cvtepi32_epi16((__m512i)u);
#elif defined(__AVX2__)
    __m256i low = (__m256i)(u & 0xffffu);
    return (vh)_mm_packus_epi32(_mm256_castsi256_si128(low), _mm256_extracti128_si256(low, 1));
#else
    return __builtin_convertvector(u, vh);
#endif
}

/* Bytes to 32-bit lanes and back, the lowest 8 bits. */
VEC vi vec_widen_bytes(vb b)
{
#if defined(__AVX512F__)
    return (vi)_mm512_cvtepu8_epi32((__m128i)b);
#elif defined(__AVX2__)
    return (vi)_mm256_cvtepu8_epi32(_mm_cvtsi64_si128((long long)b));
#else
    return __builtin_convertvector(b, vi);
#endif
}
VEC vb vec_bytes(vi x)
{
#if defined(__AVX512F__)
    return (vb)_mm512_cvtepi32_epi8((__m512i)x);
#elif defined(__AVX2__)
    __m128i h = (__m128i)vec_narrow((vu)x & 0xffu);
    return (vb)_mm_cvtsi128_si64(_mm_packus_epi16(h, h));
#else
    return __builtin_convertvector(x, vb);
#endif
}
VEC vi vec_of_bytes(const uint8_t *p)
{
    vb b;
    memcpy(&b, p, sizeof b);
    return vec_widen_bytes(b);
}

VEC vf vec_of_bf16(vh h) { return (vf)(vec_widen(h) << 16); }

/* The instruction VCVTNEPS2BF16 is not used: it flushes subnormal numbers. */
VEC vh vec_to_bf16(vf f)
{
    vu u = (vu)f, rounded = u + 0x7fffu + (u >> 16 & 1), quiet = u | 0x400000u;
    return vec_narrow((vu)vec_select(f != f, (vf)quiet, (vf)rounded) >> 16);
}

VEC vf vec_of_f16(vh h)
{
#if defined(__AVX512F__)
    return (vf)_mm512_cvtph_ps((__m256i)h);
#elif defined(__F16C__)
    return (vf)_mm256_cvtph_ps((__m128i)h);
#elif defined(__aarch64__)
    return (vf)vcvt_f32_f16(vreinterpret_f16_u16((uint16x4_t)h));
#else
    vf r;
    for (int l = 0; l < VW; l++) r[l] = qs_f32_of_f16(h[l]);
    return r;
#endif
}

VEC vh vec_to_f16(vf f)
{
#if defined(__AVX512F__)
    return (vh)_mm512_cvtps_ph((__m512)f, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
#elif defined(__F16C__)
    return (vh)_mm256_cvtps_ph((__m256)f, _MM_FROUND_TO_NEAREST_INT);
#elif defined(__aarch64__)
    return (vh)vreinterpret_u16_f16(
        vcvt_f16_f32((float32x4_t)f)); /* to nearest: the mode a program starts in */
#else
    vh r;
    for (int l = 0; l < VW; l++) r[l] = qs_f16_of_f32(f[l]);
    return r;
#endif
}

/* f rounded to a type and back. */
VEC vf vec_round(vf f, qs_dtype t)
{
    if (t == QS_BF16) return vec_of_bf16(vec_to_bf16(f));
    if (t == QS_F16) return vec_of_f16(vec_to_f16(f));
    return f;
}

/* ---- memory: element i of an array of type t; any alignment ------------------------------------------ */

VEC vf vec_load_f32(const float *p)
{
    vf v;
    memcpy(&v, p, sizeof v);
    return v;
}
VEC void vec_store_f32(float *p, vf v) { memcpy(p, &v, sizeof v); }

VEC vf vec_load_full(const void *p, qs_dtype t, int64_t i)
{
    if (t == QS_F32) return vec_load_f32((const float *)p + i);
    vh h;
    memcpy(&h, (const uint16_t *)p + i, sizeof h);
    return t == QS_BF16 ? vec_of_bf16(h) : vec_of_f16(h);
}

VEC void vec_store_full(void *p, qs_dtype t, int64_t i, vf v)
{
    if (t == QS_F32) {
        vec_store_f32((float *)p + i, v);
    } else {
        vh h = t == QS_BF16 ? vec_to_bf16(v) : vec_to_f16(v);
        memcpy((uint16_t *)p + i, &h, sizeof h);
    }
}

/* n < VW elements, none where n is negative; the other lanes read as 0 and are not written. Ragged ends only,
 * so never inlined. */
static __attribute__((noinline, unused)) void vec_load_part(vf *out, const void *p, qs_dtype t, int64_t i,
                                                            int64_t n)
{
    uint32_t buffer[VW] = {0};
    if (n > 0) memcpy(buffer, (const char *)p + (size_t)i * qs_dtype_bytes(t), (size_t)n * qs_dtype_bytes(t));
    *out = vec_load_full(buffer, t, 0);
}
static __attribute__((noinline, unused)) void vec_store_part(void *p, qs_dtype t, int64_t i, const vf *v,
                                                             int64_t n)
{
    uint32_t buffer[VW];
    vec_store_full(buffer, t, 0, *v);
    if (n > 0) memcpy((char *)p + (size_t)i * qs_dtype_bytes(t), buffer, (size_t)n * qs_dtype_bytes(t));
}

/* min(left, VW) elements. */
VEC vf vec_load(const void *p, qs_dtype t, int64_t i, int64_t left)
{
    if (__builtin_expect(left >= VW, 1)) return vec_load_full(p, t, i);
    vf v;
    vec_load_part(&v, p, t, i, left);
    return v;
}
VEC void vec_store(void *p, qs_dtype t, int64_t i, int64_t left, vf v)
{
    if (__builtin_expect(left >= VW, 1))
        vec_store_full(p, t, i, v);
    else
        vec_store_part(p, t, i, &v, left);
}

#endif
