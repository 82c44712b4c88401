/* elementwise.c - sums, conversion, scaling, dropout, the search for non-finite numbers. */
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

void qs_cpu_scale(qs_device *d, float *x, int64_t n, float factor)
{
#pragma omp parallel for simd schedule(static)
    for (int64_t i = 0; i < n; i++) x[i] *= factor;
}

/* ---- dropout --------------------------------------------------------------------------------------------------------- */

/* The random words of elements [64 k, 64 k + 64): 16 Philox blocks side by side, the same numbers as qs_random_u32. */
static void random_words(const qs_dropout *o, uint64_t k, uint32_t words[64])
{
    uint32_t c0[V16], c1[V16], c2[V16], c3[V16], k0 = (uint32_t)o->seed, k1 = (uint32_t)(o->seed >> 32);
    for (uint32_t l = 0; l < V16; l++) {
        uint64_t block = V16 * k + l;
        c0[l] = (uint32_t)block;
        c1[l] = (uint32_t)(block >> 32);
        c2[l] = (uint32_t)o->stream;
        c3[l] = (uint32_t)(o->stream >> 32);
    }
    for (int round = 0; round < 10; round++) {
        for (int l = 0; l < V16; l++) {
            uint64_t p0 = (uint64_t)c0[l] * 0xD2511F53u, p2 = (uint64_t)c2[l] * 0xCD9E8D57u;
            c0[l] = (uint32_t)(p2 >> 32) ^ c1[l] ^ k0;
            c2[l] = (uint32_t)(p0 >> 32) ^ c3[l] ^ k1;
            c1[l] = (uint32_t)p2;
            c3[l] = (uint32_t)p0;
        }
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    for (int l = 0; l < V16; l++) {
        words[4 * l] = c0[l];
        words[4 * l + 1] = c1[l];
        words[4 * l + 2] = c2[l];
        words[4 * l + 3] = c3[l];
    }
}

/* keep[j] = factor where element first + j survives, else 0. */
static void dropout_factors(const qs_dropout *o, uint64_t first, int64_t n, float factor, float *keep)
{
    uint32_t words[64];
    uint64_t have = UINT64_MAX; /* which 64 elements are in words */
    for (int64_t j = 0; j < n; j++) {
        uint64_t e = first + (uint64_t)j;
        if (e / 64 != have) random_words(o, have = e / 64, words);
        keep[j] = qs_uniform_f32(words[e % 64]) >= o->p ? factor : 0;
    }
}

void qs_cpu_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add)
{
    enum { CHUNK = 512 };
    int64_t cols = x.cols;
    float factor = 1.0f / (1.0f - o->p);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        const char *in = qs_mat_row(x, i);
        char *out = qs_mat_row(y, i);
        uint64_t first = (uint64_t)(o->first_row + i) * (uint64_t)cols;
        for (int64_t at = 0; at < cols; at += CHUNK) {
            float keep[CHUNK];
            int64_t end = at + CHUNK < cols ? at + CHUNK : cols;
            dropout_factors(o, first + (uint64_t)at, end - at, factor, keep);
            for (int64_t j = at; j < end; j += V16) {
                v16 mask = v16_load(keep, QS_F32, j - at, end - j), kept = v16_load(in, x.type, j, end - j) * mask;
                kept = v16_select(mask > 0, kept, v16_all(0)); /* a dropped infinity is 0, not NaN */
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
