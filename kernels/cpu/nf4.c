/* nf4.c - 4-bit block quantisation and back (NF4 and FP4), and the 8-bit quantisation of their absmax values.
 *
 * Decoding works on the table, not on the elements: a block's 16 possible values are scaled and rounded to the output type
 * once, then every element is one look-up in a register. Encoding finds the rank of 16 elements by a binary search in
 * 15 midpoints that sit in one register: four look-ups. Both run at the speed of memory.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/dynamic_map.h"

/* Blocks that one thread takes at a time: 16,384 elements. */
enum { PART_BLOCKS = QS_CPU_PART / QS_QUANT_BLOCK };

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

typedef uint64_t v8u __attribute__((vector_size(64)));
typedef uint8_t v8b __attribute__((vector_size(8)));

typedef struct encoder { v16u midpoints, order; } encoder;

/* The code of 16 numbers: how many of the 15 ascending midpoints lie below x, by bisection. A NaN has rank 0. */
VEC v16i encode(const encoder *enc, v16 x)
{
    v16i rank = {0};
    for (int step = 8; step; step /= 2) {
        v16 pivot = (v16)v16_lookup(enc->midpoints, rank + (step - 1));
        rank += (v16i)(x > pivot) & step;
    }
    return (v16i)v16_lookup(enc->order, rank);
}

/* 16 codes as 8 bytes: in a 64-bit lane the first of two codes is the lower half, and goes to the high nibble. */
VEC void store_codes(uint8_t *out, v16i code)
{
    v8u pair = (v8u)code;
    v8b bytes = __builtin_convertvector(pair << 4 | pair >> 32, v8b);
    memcpy(out, &bytes, sizeof bytes);
}

/* The largest magnitude of a block. Magnitudes compare as integers, where a NaN is larger than any number: it stays visible. */
VEC float block_absmax(const v16 *x, int vectors)
{
    v16u top = {0};
    for (int k = 0; k < vectors; k++) top = v16u_max(top, (v16u)v16_abs(x[k]));
#if defined(__AVX512F__)
    return qs_f32_of_bits(_mm512_reduce_max_epu32((__m512i)top));
#else
    uint32_t best = 0;
    for (int l = 0; l < V16; l++) best = top[l] > best ? top[l] : best;
    return qs_f32_of_bits(best);
#endif
}

/* A whole block. */
VEC void quantise_full(const encoder *enc, const void *w, qs_dtype w_type, int64_t at, uint8_t *codes, float *absmax)
{
    v16 x[QS_QUANT_BLOCK / V16];
    for (int k = 0; k < QS_QUANT_BLOCK / V16; k++) x[k] = v16_load_full(w, w_type, at + k * V16);
    float top = block_absmax(x, QS_QUANT_BLOCK / V16), inverse = 1.0f / (top < 1e-38f ? 1e-38f : top);
    for (int k = 0; k < QS_QUANT_BLOCK / V16; k++) store_codes(codes + 8 * k, encode(enc, x[k] * inverse));
    *absmax = top;
}

/* The last, partial block, which bitsandbytes treats differently: it divides, and stores the clamped absmax. An odd count is
 * padded with a zero. */
static void quantise_tail(const encoder *enc, const void *w, qs_dtype w_type, int64_t at, int n, uint8_t *codes, float *absmax)
{
    v16 x[QS_QUANT_BLOCK / V16] = {{0}};
    for (int k = 0; k * V16 < n; k++) x[k] = v16_load(w, w_type, at + k * V16, n - k * V16);
    float top = block_absmax(x, QS_QUANT_BLOCK / V16), divisor = top < 1e-38f ? 1e-38f : top;
    uint8_t block[QS_QUANT_BLOCK / 2];
    for (int k = 0; k < QS_QUANT_BLOCK / V16; k++) store_codes(block + 8 * k, encode(enc, x[k] / divisor));
    memcpy(codes, block, (size_t)(n + 1) / 2);
    *absmax = divisor;
}

void qs_cpu_quantise4(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n, uint8_t *codes, float *absmax)
{
    const qs_code4 *table = qs_code4_of(type);
    v16 midpoints;
    encoder enc;
    for (int l = 0; l < V16; l++) {
        midpoints[l] = table->midpoint[l < 15 ? l : 14];
        enc.order[l] = table->order[l];
    }
    enc.midpoints = (v16u)midpoints;
    int64_t full = n / QS_QUANT_BLOCK;
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < full; part += PART_BLOCKS) {
        int64_t end = part + PART_BLOCKS < full ? part + PART_BLOCKS : full;
        for (int64_t b = part; b < end; b++)
            quantise_full(&enc, w, w_type, b * QS_QUANT_BLOCK, codes + b * (QS_QUANT_BLOCK / 2), absmax + b);
    }
    int64_t at = full * QS_QUANT_BLOCK;
    if (at < n) quantise_tail(&enc, w, w_type, at, (int)(n - at), codes + at / 2, absmax + full);
}

/* ---- decoding ---------------------------------------------------------------------------------------------------- */

VEC float absmax_of(const qs_qtensor *q, int64_t block)
{
    if (q->absmax) return q->absmax[block];
    float scaled = qs_dynamic_signed[q->absmax8[block]] * q->nested[block / QS_NESTED_BLOCK];
    return scaled + *q->offset;
}

#if defined(__AVX512BW__)
/* 32 elements of a 16-bit type: byte k's high nibble is element 2k. Each 32-bit lane gets b >> 4 in its lower and b in its
 * upper half; the look-up reads the low five bits, and the table repeats after 16 entries. */
VEC __m512i decode_half(__m512i table, const uint8_t *codes)
{
    __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
    return _mm512_permutexvar_epi16(_mm512_or_si512(_mm512_srli_epi32(b, 4), _mm512_slli_epi32(b, 16)), table);
}

/* 16 elements of fp32, from 8 bytes. */
VEC __m512i decode_single(__m512i table, const uint8_t *codes)
{
    __m512i b = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)codes));
    return _mm512_permutexvar_epi32(_mm512_or_si512(_mm512_srli_epi64(b, 4), _mm512_slli_epi64(b, 32)), table);
}

VEC void decode_full_block(v16 scaled, const uint8_t *codes, char *out, qs_dtype type)
{
    if (type == QS_F32) {
        for (int k = 0; k < 4; k++) _mm512_storeu_si512(out + 64 * k, decode_single((__m512i)scaled, codes + 8 * k));
    } else {
        __m256i half = (__m256i)(type == QS_BF16 ? v16_to_bf16(scaled) : v16_to_f16(scaled));
        __m512i table = _mm512_broadcast_i64x4(half);
        for (int k = 0; k < 2; k++) _mm512_storeu_si512(out + 64 * k, decode_half(table, codes + 16 * k));
    }
}
#else
VEC void decode_full_block(v16 scaled, const uint8_t *codes, char *out, qs_dtype type)
{
    if (type == QS_F32) {
        float *o = (float *)out;
        for (int k = 0; k < QS_QUANT_BLOCK / 2; k++) {
            o[2 * k] = scaled[codes[k] >> 4];
            o[2 * k + 1] = scaled[codes[k] & 15];
        }
    } else {
        v16h table = type == QS_BF16 ? v16_to_bf16(scaled) : v16_to_f16(scaled);
        uint16_t *o = (uint16_t *)out;
        for (int k = 0; k < QS_QUANT_BLOCK / 2; k++) {
            o[2 * k] = table[codes[k] >> 4];
            o[2 * k + 1] = table[codes[k] & 15];
        }
    }
}
#endif

void qs_cpu_dequantise4(qs_device *d, const qs_qtensor *q, void *out, qs_dtype out_type)
{
    v16 table = v16_load_f32(qs_code4_of(q->type)->value);
    int64_t blocks = qs_quant_blocks(q->n), full = q->n / QS_QUANT_BLOCK;
    size_t block_bytes = QS_QUANT_BLOCK * qs_dtype_bytes(out_type);
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < blocks; part += PART_BLOCKS) {
        int64_t end = part + PART_BLOCKS < blocks ? part + PART_BLOCKS : blocks;
        for (int64_t b = part; b < end && b < full; b++)
            decode_full_block(table * absmax_of(q, b), q->codes + b * (QS_QUANT_BLOCK / 2), (char *)out + (size_t)b * block_bytes,
                              out_type);
        if (end > full) { /* the partial block at the end */
            int64_t at = full * QS_QUANT_BLOCK, left = q->n - at;
            uint8_t codes[QS_QUANT_BLOCK / 2] = {0};
            char block[QS_QUANT_BLOCK * sizeof(float)];
            memcpy(codes, q->codes + at / 2, (size_t)(left + 1) / 2);
            decode_full_block(table * absmax_of(q, full), codes, block, out_type);
            memcpy((char *)out + (size_t)full * block_bytes, block, (size_t)left * qs_dtype_bytes(out_type));
        }
    }
}

/* ---- the second level -------------------------------------------------------------------------------------------- */

static void quantise_nested_block(const float *absmax, int64_t n, float offset, uint8_t *codes, float *nested)
{
    v16u top_bits = {0};
    for (int64_t i = 0; i < n; i += V16) {
        v16 v = v16_load(absmax, QS_F32, i, n - i) - offset;
        for (int l = (int)(n - i); l < V16; l++) v[l] = 0;
        top_bits = v16u_max(top_bits, (v16u)v16_abs(v));
    }
    uint32_t best = 0;
    for (int l = 0; l < V16; l++) best = top_bits[l] > best ? top_bits[l] : best;
    float top = qs_f32_of_bits(best), inverse = top > 0 ? 1.0f / top : 0; /* all equal: every code is 127, which means 0 */
    for (int64_t i = 0; i < n; i += V16) {
        v16b code = qs_dynamic_codes((v16_load(absmax, QS_F32, i, n - i) - offset) * inverse, qs_dynamic_signed_above);
        memcpy(codes + i, &code, n - i < V16 ? (size_t)(n - i) : sizeof code);
    }
    *nested = top;
}

void qs_cpu_quantise_absmax(qs_device *d, const float *absmax, int64_t blocks, uint8_t *absmax8, float *nested, float *offset)
{
    double sum = 0;
    for (int64_t i = 0; i < blocks; i++) sum += absmax[i];
    float mean = (float)(sum / (double)blocks);
    *offset = mean;
#pragma omp parallel for schedule(static)
    for (int64_t at = 0; at < blocks; at += QS_NESTED_BLOCK) {
        int64_t n = blocks - at < QS_NESTED_BLOCK ? blocks - at : QS_NESTED_BLOCK;
        quantise_nested_block(absmax + at, n, mean, absmax8 + at, nested + at / QS_NESTED_BLOCK);
    }
}
