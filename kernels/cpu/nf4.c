/* nf4.c - 4-bit block quantisation and back (NF4 and FP4), and the 8-bit quantisation of their absmax values.
 *
 * Decoding works on the table, not on the elements: a block's 16 possible values are scaled and rounded to the output type
 * once, then every element is one look-up in a register. Encoding finds the rank of 16 elements by a binary search in
 * 15 midpoints that sit in one register: four look-ups. Both run at the speed of memory.
 */
#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"
#include "kernels/quant.h"

/* Blocks that one thread takes at a time: 16,384 elements. */
enum { PART_BLOCKS = QS_CPU_PART / QS_QUANT_BLOCK };

/* table[index], index in 0..15. */
VEC v16 lookup16(v16 table, v16i index)
{
#if defined(__AVX512F__)
    return (v16)_mm512_permutexvar_ps((__m512i)index, (__m512)table);
#else
    v16 r;
    for (int l = 0; l < V16; l++) r[l] = table[index[l] & 15];
    return r;
#endif
}

/* ---- encoding ---------------------------------------------------------------------------------------------------- */

/* How many of the 15 ascending midpoints lie below x. A NaN has rank 0. */
VEC v16i rank_of(v16 x, v16 midpoints)
{
    v16i rank = {0};
    for (int step = 8; step; step /= 2) {
        v16 pivot = lookup16(midpoints, rank + (step - 1));
        rank += (v16i)(x > pivot) & step;
    }
    return rank;
}

typedef struct encoder {
    v16 midpoints;
    uint8_t order[16];
} encoder;

/* The largest magnitude of a block. Magnitudes compare as integers, where a NaN is larger than any number: it stays visible. */
static float block_absmax(const v16 *x, int vectors)
{
    v16i top = {0};
    for (int k = 0; k < vectors; k++) {
        v16i bits = (v16i)x[k] & 0x7fffffff, larger = bits > top;
        top = (larger & bits) | (~larger & top);
    }
    int32_t best = 0;
    for (int l = 0; l < V16; l++) best = top[l] > best ? top[l] : best;
    return qs_f32_of_bits((uint32_t)best);
}

static void encode_block(const encoder *enc, const v16 *scaled, int n, uint8_t *codes)
{
    uint8_t code[QS_QUANT_BLOCK + 1];
    int vectors = (n + V16 - 1) / V16;
    for (int k = 0; k < vectors; k++) {
        v16i rank = rank_of(scaled[k], enc->midpoints);
        for (int l = 0; l < V16; l++) code[V16 * k + l] = enc->order[rank[l]];
    }
    if (n & 1) code[n] = enc->order[7]; /* the padding element is 0, and both types have 0 at rank 7 */
    for (int k = 0; k < (n + 1) / 2; k++) codes[k] = (uint8_t)(code[2 * k] << 4 | code[2 * k + 1]);
}

static void quantise_block(const encoder *enc, const void *w, qs_dtype w_type, int64_t at, int n, uint8_t *codes, float *absmax)
{
    v16 x[QS_QUANT_BLOCK / V16];
    int vectors = (n + V16 - 1) / V16;
    for (int k = 0; k < vectors; k++) x[k] = v16_load(w, w_type, at + k * V16, n - k * V16);
    float top = block_absmax(x, vectors), divisor = top < 1e-38f ? 1e-38f : top;
    if (n == QS_QUANT_BLOCK) {
        float inverse = 1.0f / divisor;
        for (int k = 0; k < vectors; k++) x[k] *= inverse;
        *absmax = top;
    } else { /* bitsandbytes treats the last, partial block differently */
        for (int k = 0; k < vectors; k++) x[k] /= divisor;
        *absmax = divisor;
    }
    encode_block(enc, x, n, codes);
}

void qs_cpu_quantise4(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n, uint8_t *codes, float *absmax)
{
    const qs_code4 *table = qs_code4_of(type);
    encoder enc;
    for (int l = 0; l < V16; l++) enc.midpoints[l] = table->midpoint[l < 15 ? l : 14];
    memcpy(enc.order, table->order, sizeof enc.order);
    int64_t blocks = qs_quant_blocks(n);
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < blocks; part += PART_BLOCKS) {
        int64_t end = part + PART_BLOCKS < blocks ? part + PART_BLOCKS : blocks;
        for (int64_t b = part; b < end; b++) {
            int64_t at = b * QS_QUANT_BLOCK, left = n - at;
            quantise_block(&enc, w, w_type, at, left < QS_QUANT_BLOCK ? (int)left : QS_QUANT_BLOCK, codes + at / 2, absmax + b);
        }
    }
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
    float top = 0;
    for (int64_t i = 0; i < n; i++) {
        float magnitude = __builtin_fabsf(absmax[i] - offset);
        if (!(magnitude <= top)) top = magnitude;
    }
    float inverse = top > 0 ? 1.0f / top : 0; /* all equal: every code is 127, which means 0 */
    for (int64_t i = 0; i < n; i++) {
        float x = (absmax[i] - offset) * inverse;
        int code = 0;
        for (int step = 128; step; step /= 2)
            if (x > qs_dynamic_signed_above[code + step - 1]) code += step;
        codes[i] = (uint8_t)code;
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
