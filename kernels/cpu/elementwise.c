/* elementwise.c - sums, conversion, dropout, regrouping of columns, the search for non-finite numbers. */
#include <math.h>
#include <string.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"
#include "src/base/random.h"

void QS_CPU(add)(qs_device *d, qs_mat dst, qs_mat a, qs_mat b)
{
    int64_t cols = dst.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < dst.rows; i++) {
        const char *pa = qs_mat_row(a, i), *pb = qs_mat_row(b, i);
        char *out = qs_mat_row(dst, i);
        for (int64_t j = 0; j < cols; j += VW)
            vec_store(out, dst.type, j, cols - j,
                      vec_load(pa, a.type, j, cols - j) + vec_load(pb, b.type, j, cols - j));
    }
}

void QS_CPU(convert)(qs_device *d, void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type,
                     int64_t n)
{
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < n; part += QS_CPU_PART) {
        int64_t end = part + QS_CPU_PART < n ? part + QS_CPU_PART : n;
        for (int64_t i = part; i < end; i += VW)
            vec_store(dst, dst_type, i, end - i, vec_load(src, src_type, i, end - i));
    }
}

/* ---- dropout ----------------------------------------------------------------------------------------- */

/* The 64-bit products a * m, lane by lane: the lower halves are returned. */
VEC vu multiply_wide(vu a, uint32_t m, vu *high)
{
    vq factor = m - (vq){0}, even, odd;
    vu upper = {0};
    upper = ~upper;
    const vu odd_lanes = (vu)((vq)upper << 32);
#if defined(VX)
    even = (vq)VX(mul_epu32)((VX_INT)a, (VX_INT)factor);
    odd = (vq)VX(mul_epu32)((VX_INT)((vq)a >> 32), (VX_INT)factor);
#elif defined(__x86_64__)
    even = (vq)_mm_mul_epu32((__m128i)a, (__m128i)factor);
    odd = (vq)_mm_mul_epu32((__m128i)((vq)a >> 32), (__m128i)factor);
#else
    even = ((vq)a & 0xffffffffu) * factor;
    odd = ((vq)a >> 32) * factor;
#endif
    *high = (vu)(even >> 32) | ((vu)odd & odd_lanes);
    return ((vu)even & ~odd_lanes) | (vu)(odd << 32);
}

/* The random words of elements [4 VW k, 4 VW (k + 1)): VW Philox blocks side by side, the same numbers as
 * qs_random_u32. */
VEC void random_words(const qs_dropout *o, uint64_t k, uint32_t *words)
{
    uint32_t k0 = (uint32_t)o->seed, k1 = (uint32_t)(o->seed >> 32);
    vu zero = {0};
    vu c0 = (vu)vec_lanes() + (uint32_t)(VW * k), c1 = zero + (uint32_t)(VW * k >> 32);
    vu c2 = zero + (uint32_t)o->stream, c3 = zero + (uint32_t)(o->stream >> 32);
    for (int round = 0; round < 10; round++) {
        vu high0, high2, low0 = multiply_wide(c0, 0xD2511F53u, &high0),
                         low2 = multiply_wide(c2, 0xCD9E8D57u, &high2);
        c0 = high2 ^ c1 ^ k0;
        c1 = low2;
        c2 = high0 ^ c3 ^ k1;
        c3 = low0;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    vu low01 = ZIP(LOW, c0, c1), high01 = ZIP(HIGH, c0, c1), low23 = ZIP(LOW, c2, c3),
       high23 = ZIP(HIGH, c2, c3);
    vq out[4] = {ZIP64(LOW, low01, low23), ZIP64(HIGH, low01, low23), ZIP64(LOW, high01, high23),
                 ZIP64(HIGH, high01, high23)};
    memcpy(words, out, sizeof out);
}

enum { DROPOUT_CHUNK = 512, GROUP = 4 * VW };

void QS_CPU(dropout)(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add)
{
    int64_t cols = x.cols;
    float factor = 1.0f / (1.0f - o->p);
    vi threshold =
        (vi){0} + (int32_t)ceilf(o->p * 0x1p24f); /* word >> 8 reaches it: uniform >= p, both exact */
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *in = qs_mat_row(x, i);
        char *out = qs_mat_row(y, i);
        uint64_t first = (uint64_t)(o->first_row + i) * (uint64_t)cols;
        for (int64_t at = 0; at < cols; at += DROPOUT_CHUNK) {
            uint32_t words[DROPOUT_CHUNK + 2 * GROUP + VW];
            int64_t end = at + DROPOUT_CHUNK < cols ? at + DROPOUT_CHUNK : cols;
            uint64_t element = first + (uint64_t)at, group = element / GROUP;
            for (int64_t have = 0; have < (int64_t)(element % GROUP) + end - at; have += GROUP)
                random_words(o, group++, words + have);
            const uint32_t *word = words + element % GROUP;
            for (int64_t j = at; j < end; j += VW) {
                vu bits;
                memcpy(&bits, word + (j - at), sizeof bits); /* of elements past the end: not used */
                vf kept = vec_select((vi)(bits >> 8) >= threshold, vec_load(in, x.type, j, end - j) * factor,
                                     vec_all(0));
                vec_store(out, y.type, j, end - j, add ? vec_load(out, y.type, j, end - j) + kept : kept);
            }
        }
    }
}

/* ---- non-finite numbers ------------------------------------------------------------------------------ */

void QS_CPU(flag_nonfinite)(qs_device *d, qs_mat x, int32_t *flag)
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

void QS_CPU(regroup)(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width, qs_mat y)
{
    size_t bytes = (size_t)width * qs_dtype_bytes(x.type);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *from = qs_mat_row(x, i);
        char *to = qs_mat_row(y, i);
        for (int32_t p = 0; p < parts; p++)
            for (int32_t g = 0; g < groups; g++, to += bytes)
                memcpy(to, from + ((size_t)g * (size_t)parts + (size_t)p) * bytes, bytes);
    }
}
