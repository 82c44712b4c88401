/* elementwise.c - sums, conversion, dropout, regrouping of columns, the search for non-finite numbers. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"
#include "src/base/random.h"

void qs_cpu_add(qs_device *d, qs_mat dst, qs_mat a, qs_mat b)
{
    int64_t cols = dst.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < dst.rows; i++) {
        const char *pa = qs_mat_row(a, i), *pb = qs_mat_row(b, i);
        char *out = qs_mat_row(dst, i);
        for (int64_t j = 0; j < cols; j += V16)
            v16_store(out, dst.type, j, cols - j, v16_load(pa, a.type, j, cols - j) + v16_load(pb, b.type, j, cols - j));
    }
}

void qs_cpu_convert(qs_device *d, void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type, int64_t n)
{
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < n; part += QS_CPU_PART) {
        int64_t end = part + QS_CPU_PART < n ? part + QS_CPU_PART : n;
        for (int64_t i = part; i < end; i += V16) v16_store(dst, dst_type, i, end - i, v16_load(src, src_type, i, end - i));
    }
}

/* ---- dropout --------------------------------------------------------------------------------------------------------- */

/* The 64-bit products a * m, lane by lane: the lower halves are returned. */
VEC v16u multiply_wide(v16u a, uint32_t m, v16u *high)
{
#if defined(__AVX512F__)
    __m512i factor = _mm512_set1_epi64(m), even = _mm512_mul_epu32((__m512i)a, factor);
    __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), factor);
    *high = (v16u)_mm512_mask_blend_epi32(0xaaaa, _mm512_srli_epi64(even, 32), odd);
    return (v16u)_mm512_mask_blend_epi32(0xaaaa, even, _mm512_slli_epi64(odd, 32));
#else
    for (int l = 0; l < V16; l++) (*high)[l] = (uint32_t)((uint64_t)a[l] * m >> 32);
    return a * m;
#endif
}

/* Half the lanes of x and of y (from `at` on) in turns, one by one or in pairs. */
#define TURNS(x, y, at) \
    __builtin_shufflevector(x, y, at, at + 16, at + 1, at + 17, at + 2, at + 18, at + 3, at + 19, at + 4, at + 20, at + 5, at + 21, at + 6, at + 22, at + 7, at + 23)
#define PAIRS(x, y, at) \
    __builtin_shufflevector(x, y, at, at + 1, at + 16, at + 17, at + 2, at + 3, at + 18, at + 19, at + 4, at + 5, at + 20, at + 21, at + 6, at + 7, at + 22, at + 23)

/* The random words of elements [64 k, 64 k + 64): 16 Philox blocks side by side, the same numbers as qs_random_u32. */
static void random_words(const qs_dropout *o, uint64_t k, uint32_t words[64])
{
    uint32_t k0 = (uint32_t)o->seed, k1 = (uint32_t)(o->seed >> 32);
    v16u zero = {0}, lane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    v16u c0 = lane + (uint32_t)(V16 * k), c1 = zero + (uint32_t)(V16 * k >> 32);
    v16u c2 = zero + (uint32_t)o->stream, c3 = zero + (uint32_t)(o->stream >> 32);
    for (int round = 0; round < 10; round++) {
        v16u high0 = zero, high2 = zero, low0 = multiply_wide(c0, 0xD2511F53u, &high0), low2 = multiply_wide(c2, 0xCD9E8D57u, &high2);
        c0 = high2 ^ c1 ^ k0;
        c1 = low2;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    v16u c01[2] = {TURNS(c0, c1, 0), TURNS(c0, c1, 8)}, c23[2] = {TURNS(c2, c3, 0), TURNS(c2, c3, 8)};
    for (int h = 0; h < 2; h++) {
        v16u out[2] = {PAIRS(c01[h], c23[h], 0), PAIRS(c01[h], c23[h], 8)};
        memcpy(words + 32 * h, out, sizeof out);
    }
}

enum { DROPOUT_CHUNK = 512 };

void qs_cpu_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add)
{
    int64_t cols = x.cols;
    float factor = 1.0f / (1.0f - o->p);
    v16i threshold = (v16i){0} + (int32_t)ceilf(o->p * 0x1p24f); /* word >> 8 reaches it: uniform >= p, both exact */
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *in = qs_mat_row(x, i);
        char *out = qs_mat_row(y, i);
        uint64_t first = (uint64_t)(o->first_row + i) * (uint64_t)cols;
        for (int64_t at = 0; at < cols; at += DROPOUT_CHUNK) {
            uint32_t words[DROPOUT_CHUNK + 128];
            int64_t end = at + DROPOUT_CHUNK < cols ? at + DROPOUT_CHUNK : cols;
            uint64_t element = first + (uint64_t)at, group = element / 64;
            for (int64_t have = 0; have < (int64_t)(element % 64) + end - at; have += 64) random_words(o, group++, words + have);
            const uint32_t *word = words + element % 64;
            for (int64_t j = at; j < end; j += V16) {
                v16u bits;
                memcpy(&bits, word + (j - at), sizeof bits); /* of elements past the end: not used */
                v16 kept = v16_select((v16i)(bits >> 8) >= threshold, v16_load(in, x.type, j, end - j) * factor, v16_all(0));
                v16_store(out, y.type, j, end - j, add ? v16_load(out, y.type, j, end - j) + kept : kept);
            }
        }
    }
}

/* ---- non-finite numbers -------------------------------------------------------------------------------------------------- */

void qs_cpu_flag_nonfinite(qs_device *d, qs_mat x, int32_t *flag)
{
    uint32_t exponent = x.type == QS_F32 ? 0x7f800000u : x.type == QS_BF16 ? 0x7f80u : 0x7c00u;
    int found = 0;
#pragma omp parallel for schedule(static) reduction(| : found)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *row = qs_mat_row(x, i);
        int bad = 0;
        if (x.type == QS_F32) {
            for (int64_t j = 0; j < x.cols; j++) bad |= (((const uint32_t *)row)[j] & exponent) == exponent;
        } else {
            for (int64_t j = 0; j < x.cols; j++) bad |= (((const uint16_t *)row)[j] & exponent) == exponent;
        }
        found |= bad;
    }
    *flag |= found;
}

void qs_cpu_regroup(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width, qs_mat y)
{
    size_t bytes = (size_t)width * qs_dtype_bytes(x.type);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *from = qs_mat_row(x, i);
        char *to = qs_mat_row(y, i);
        for (int32_t p = 0; p < parts; p++)
            for (int32_t g = 0; g < groups; g++, to += bytes) memcpy(to, from + ((size_t)g * (size_t)parts + (size_t)p) * bytes, bytes);
    }
}
