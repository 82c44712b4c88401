/* nf4.c - 4-bit block quantisation and back (NF4 and FP4), and the 8-bit quantisation of their absmax values.
 *
 * Decoding works on the table, not on the elements: a block's 16 possible values are scaled and rounded to
 * the output type once, then every element is one look-up in a register. Encoding finds the rank of a
 * register of elements by a binary search in 15 midpoints that sit in registers: four look-ups. Both run at
 * the speed of memory.
 */
#include <math.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/dynamic_map.h"

/* Blocks that one thread takes at a time: 16,384 elements. */
enum { PART_BLOCKS = QS_CPU_PART / QS_QUANT_BLOCK };

/* ---- encoding ---------------------------------------------------------------------------------------- */

typedef struct encoder {
    uint32_t midpoints[16], order[16];
} encoder;

/* The codes of a register of numbers: how many of the 15 ascending midpoints lie below x, by bisection. A NaN
 * has rank 0. */
VEC vi encode(const encoder *enc, vf x)
{
    vi rank = {0};
    for (int step = 8; step; step /= 2) {
        vf pivot = (vf)vec_lookup16(enc->midpoints, rank + (step - 1));
        rank += (vi)(x > pivot) & step;
    }
    return (vi)vec_lookup16(enc->order, rank);
}

/* The first of two codes goes to the high nibble. */
VEC void pack_codes(const uint8_t code[QS_QUANT_BLOCK], uint8_t out[QS_QUANT_BLOCK / 2])
{
    for (int k = 0; k < QS_QUANT_BLOCK / 2; k++) out[k] = (uint8_t)(code[2 * k] << 4 | code[2 * k + 1]);
}

VEC void encode_block(const encoder *enc, const vf x[QS_QUANT_BLOCK / VW], uint8_t *codes)
{
    uint8_t code[QS_QUANT_BLOCK];
    for (int k = 0; k < QS_QUANT_BLOCK / VW; k++) {
        vb bytes = vec_bytes(encode(enc, x[k]));
        memcpy(code + k * VW, &bytes, sizeof bytes);
    }
    pack_codes(code, codes);
}

/* The largest magnitude of a block. Magnitudes compare as integers, where a NaN is larger than any number: it
 * stays visible. */
VEC float block_absmax(const vf x[QS_QUANT_BLOCK / VW])
{
    vu top = {0};
    for (int k = 0; k < QS_QUANT_BLOCK / VW; k++) top = vec_max_u(top, (vu)vec_abs(x[k]));
    return qs_f32_of_bits(vec_top_u(top));
}

/* A whole block. */
VEC void quantise_full(const encoder *enc, const void *w, qs_dtype w_type, int64_t at, uint8_t *codes,
                       float *absmax)
{
    vf x[QS_QUANT_BLOCK / VW];
    for (int k = 0; k < QS_QUANT_BLOCK / VW; k++) x[k] = vec_load_full(w, w_type, at + k * VW);
    float top = block_absmax(x), inverse = 1.0f / (top < 1e-38f ? 1e-38f : top);
    for (int k = 0; k < QS_QUANT_BLOCK / VW; k++) x[k] *= inverse;
    encode_block(enc, x, codes);
    *absmax = top;
}

/* The last, partial block, which bitsandbytes treats differently: it divides, and stores the clamped absmax.
 * An odd count is padded with a zero. */
static void quantise_tail(const encoder *enc, const void *w, qs_dtype w_type, int64_t at, int n,
                          uint8_t *codes, float *absmax)
{
    vf x[QS_QUANT_BLOCK / VW] = {{0}};
    for (int k = 0; k * VW < n; k++) x[k] = vec_load(w, w_type, at + k * VW, n - k * VW);
    float top = block_absmax(x), divisor = top < 1e-38f ? 1e-38f : top;
    uint8_t block[QS_QUANT_BLOCK / 2];
    for (int k = 0; k < QS_QUANT_BLOCK / VW; k++) x[k] /= divisor;
    encode_block(enc, x, block);
    memcpy(codes, block, (size_t)(n + 1) / 2);
    *absmax = divisor;
}

#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
/* A whole block without a search. x in [-1, 1] falls into one of 256 cells; a table of 256 bytes says how
 * many midpoints lie below the cell, and since no cell of NF4 holds more than one midpoint, one comparison
 * with the next midpoint settles the rest. */
typedef struct cells {
    bool usable;      /* no cell holds two midpoints (FP4 has three of them around zero) */
    __m512i below[4]; /* [256] midpoints in cells before this one */
    __m512 next;      /* midpoint of that number; infinity after the last */
    __m512i order;    /* rank to code, as bytes, in every 128-bit lane */
} cells;

/* The cell of x. Monotone, which is all that matters; computed for midpoints as for weights. */
static int cell_of(float x) { return (int)nearbyintf(fmaf(x, 127.5f, 127.5f)); }

static cells cells_of(const qs_code4 *table)
{
    cells c = {.usable = true};
    uint8_t below[256], order[64];
    float next[16];
    for (int q = 0; q < 256; q++) {
        int before = 0, inside = 0;
        for (int i = 0; i < 15; i++) {
            before += cell_of(table->midpoint[i]) < q;
            inside += cell_of(table->midpoint[i]) == q;
        }
        below[q] = (uint8_t)before;
        c.usable &= inside <= 1;
    }
    for (int i = 0; i < 16; i++) next[i] = i < 15 ? table->midpoint[i] : INFINITY;
    for (int i = 0; i < 64; i++) order[i] = table->order[i & 15];
    for (int i = 0; i < 4; i++) c.below[i] = _mm512_loadu_si512(below + 64 * i);
    c.next = _mm512_loadu_ps(next);
    c.order = _mm512_loadu_si512(order);
    return c;
}

VEC __m512i pack_bytes(__m512i a, __m512i b, __m512i c, __m512i d)
{
    return _mm512_packus_epi16(_mm512_packus_epi32(a, b), _mm512_packus_epi32(c, d));
}

/* Bits of the largest magnitude among 64 numbers; as integers magnitudes keep their order, and a NaN is above
 * all. */
VEC uint32_t top_of(const __m512 x[4])
{
    const __m512i magnitude = _mm512_set1_epi32(0x7fffffff);
    __m512i top = _mm512_and_si512(_mm512_castps_si512(x[0]), magnitude);
    for (int k = 1; k < 4; k++)
        top = _mm512_max_epi32(top, _mm512_and_si512(_mm512_castps_si512(x[k]), magnitude));
    return (uint32_t)_mm512_reduce_max_epi32(top);
}

VEC uint16_t top_of_bf16(const void *w, int64_t at)
{
    const uint16_t *p = (const uint16_t *)w + at;
    const __m512i magnitude = _mm512_set1_epi16(0x7fff);
    __m512i top = _mm512_max_epu16(_mm512_and_si512(_mm512_loadu_si512(p), magnitude),
                                   _mm512_and_si512(_mm512_loadu_si512(p + 32), magnitude));
    __m256i half = _mm256_max_epu16(_mm512_castsi512_si256(top), _mm512_extracti64x4_epi64(top, 1));
    __m128i quarter = _mm_max_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
    return (uint16_t)~_mm_extract_epi16(_mm_minpos_epu16(_mm_xor_si128(quarter, _mm_set1_epi16(-1))),
                                        0); /* the instruction finds a minimum */
}

VEC void quantise_by_cells(const cells *t, const void *w, qs_dtype type, int64_t at, uint8_t *codes,
                           float *absmax)
{
    __m512 x[4];
    for (int k = 0; k < 4; k++) {
        const char *p = (const char *)w + (size_t)(at + 16 * k) * qs_dtype_bytes(type);
        if (type == QS_F32)
            x[k] = _mm512_loadu_ps(p);
        else if (type == QS_BF16)
            x[k] = _mm512_castsi512_ps(
                _mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *)p)), 16));
        else
            x[k] = _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
    }
    float largest = qs_f32_of_bits(type == QS_BF16 ? (uint32_t)top_of_bf16(w, at) << 16 : top_of(x));
    __m512 inverse = _mm512_set1_ps(1.0f / (largest < 1e-38f ? 1e-38f : largest)),
           half = _mm512_set1_ps(127.5f);
    *absmax = largest;
    __m512i cell[4];
    for (int k = 0; k < 4; k++) {
        x[k] = _mm512_mul_ps(x[k], inverse);
        cell[k] = _mm512_cvtps_epi32(
            _mm512_fmadd_ps(x[k], half, half)); /* a NaN saturates to cell 0, where it compares false */
    }
    /* The packed order is by lanes; unpacking restores it, and one permutation at the end. */
    __m512i q = pack_bytes(cell[0], cell[1], cell[2], cell[3]);
    __m512i rank =
        _mm512_mask_blend_epi8(_mm512_movepi8_mask(q), _mm512_permutex2var_epi8(t->below[0], q, t->below[1]),
                               _mm512_permutex2var_epi8(t->below[2], q, t->below[3]));
    const __m512i zero = _mm512_setzero_si512();
    __m512i low = _mm512_unpacklo_epi8(rank, zero), high = _mm512_unpackhi_epi8(rank, zero);
    __m512i each[4] = {_mm512_unpacklo_epi16(low, zero), _mm512_unpackhi_epi16(low, zero),
                       _mm512_unpacklo_epi16(high, zero), _mm512_unpackhi_epi16(high, zero)};
    for (int k = 0; k < 4; k++) {
        __mmask16 beyond = _mm512_cmp_ps_mask(x[k], _mm512_permutexvar_ps(each[k], t->next), _CMP_GT_OQ);
        each[k] = _mm512_mask_add_epi32(each[k], beyond, each[k], _mm512_set1_epi32(1));
    }
    const __m512i in_order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    __m512i code = _mm512_shuffle_epi8(
        t->order, _mm512_permutexvar_epi32(in_order, pack_bytes(each[0], each[1], each[2], each[3])));
    __m512i pairs = _mm512_maddubs_epi16(code, _mm512_set1_epi16(0x0110)); /* 16 * even + odd */
    _mm256_storeu_si256((__m256i *)codes, _mm512_cvtepi16_epi8(pairs));
}
#endif

void QS_CPU(quantise4)(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n,
                       uint8_t *codes, float *absmax)
{
    const qs_code4 *table = qs_code4_of(type);
    encoder enc;
    for (int l = 0; l < 16; l++) {
        enc.midpoints[l] = qs_f32_bits(table->midpoint[l < 15 ? l : 14]);
        enc.order[l] = table->order[l];
    }
    int64_t full = n / QS_QUANT_BLOCK;
#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
    const cells fast = cells_of(table);
#endif
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < full; part += PART_BLOCKS) {
        int64_t end = part + PART_BLOCKS < full ? part + PART_BLOCKS : full;
#if defined(__AVX512VBMI__) && defined(__AVX512BW__)
        if (fast.usable) {
            for (int64_t b = part; b < end; b++)
                quantise_by_cells(&fast, w, w_type, b * QS_QUANT_BLOCK, codes + b * (QS_QUANT_BLOCK / 2),
                                  absmax + b);
            continue;
        }
#endif
        for (int64_t b = part; b < end; b++)
            quantise_full(&enc, w, w_type, b * QS_QUANT_BLOCK, codes + b * (QS_QUANT_BLOCK / 2), absmax + b);
    }
    int64_t at = full * QS_QUANT_BLOCK;
    if (at < n) quantise_tail(&enc, w, w_type, at, (int)(n - at), codes + at / 2, absmax + full);
}

/* ---- decoding ---------------------------------------------------------------------------------------- */

VEC float absmax_of(const qs_qtensor *q, int64_t block)
{
    if (q->absmax) return q->absmax[block];
    float scaled = qs_dynamic_signed[q->absmax8[block]] * q->nested[block / QS_NESTED_BLOCK];
    return scaled + *q->offset;
}

/* The 16 values that a block has. */
VEC void scale_table(const float value[16], float absmax, float scaled[16])
{
    for (int k = 0; k < 16; k += VW) vec_store_f32(scaled + k, vec_load_f32(value + k) * absmax);
}

#if defined(__AVX512BW__)
/* 32 elements of a 16-bit type: byte k's high nibble is element 2k. Each 32-bit lane gets b >> 4 in its lower
 * and b in its upper half; the look-up reads the low five bits, and the table repeats after 16 entries. */
VEC __m512i decode_half(__m512i table, const uint8_t *codes)
{
    __m512i b = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)codes));
    return _mm512_permutexvar_epi16(_mm512_or_si512(_mm512_srli_epi32(b, 4), _mm512_slli_epi32(b, 16)),
                                    table);
}

/* 16 elements of fp32, from 8 bytes. */
VEC __m512i decode_single(__m512i table, const uint8_t *codes)
{
    __m512i b = _mm512_cvtepu8_epi64(_mm_loadl_epi64((const __m128i *)codes));
    return _mm512_permutexvar_epi32(_mm512_or_si512(_mm512_srli_epi64(b, 4), _mm512_slli_epi64(b, 32)),
                                    table);
}

VEC void decode_full_block(const float values[16], const uint8_t *codes, char *out, qs_dtype type)
{
    vf scaled = vec_load_f32(values);
    if (type == QS_F32) {
        for (int k = 0; k < 4; k++)
            _mm512_storeu_si512(out + 64 * k, decode_single((__m512i)scaled, codes + 8 * k));
    } else {
        __m256i half = (__m256i)(type == QS_BF16 ? vec_to_bf16(scaled) : vec_to_f16(scaled));
        __m512i table = _mm512_broadcast_i64x4(half);
        for (int k = 0; k < 2; k++) _mm512_storeu_si512(out + 64 * k, decode_half(table, codes + 16 * k));
    }
}
#else
/* Look-ups of bytes: a wider type's table is cut into the bytes of its entries, which are put together again
 * after. */
typedef uint8_t bytes16 __attribute__((vector_size(16)));

VEC bytes16 lookup_bytes(bytes16 table, bytes16 index)
{
#if defined(__x86_64__)
    return (bytes16)_mm_shuffle_epi8((__m128i)table, (__m128i)index);
#else
    return (bytes16)vqtbl1q_u8((uint8x16_t)table, (uint8x16_t)index);
#endif
}

#define BYTES_LOW(x, y) __builtin_shufflevector(x, y, ZIP_LOW_16)
#define BYTES_HIGH(x, y) __builtin_shufflevector(x, y, ZIP_HIGH_16)
typedef uint16_t halves8 __attribute__((vector_size(16)));
#define HALVES_LOW(x, y) __builtin_shufflevector((halves8)(x), (halves8)(y), ZIP_LOW_8)
#define HALVES_HIGH(x, y) __builtin_shufflevector((halves8)(x), (halves8)(y), ZIP_HIGH_8)

/* 16 elements from their codes. */
VEC void decode_16(const bytes16 table[4], bytes16 index, char *out, qs_dtype type)
{
    bytes16 b[4];
    for (int k = 0; k < (type == QS_F32 ? 4 : 2); k++) b[k] = lookup_bytes(table[k], index);
    bytes16 low = BYTES_LOW(b[0], b[1]), high = BYTES_HIGH(b[0], b[1]);
    if (type != QS_F32) {
        memcpy(out, &low, sizeof low);
        memcpy(out + 16, &high, sizeof high);
        return;
    }
    bytes16 upper_low = BYTES_LOW(b[2], b[3]), upper_high = BYTES_HIGH(b[2], b[3]);
    halves8 all[4] = {HALVES_LOW(low, upper_low), HALVES_HIGH(low, upper_low), HALVES_LOW(high, upper_high),
                      HALVES_HIGH(high, upper_high)};
    memcpy(out, all, sizeof all);
}

VEC void decode_full_block(const float scaled[16], const uint8_t *codes, char *out, qs_dtype type)
{
    uint8_t entry[16 * sizeof(float)], cut[4][16];
    size_t size = qs_dtype_bytes(type);
    for (int k = 0; k < 16; k += VW) vec_store_full(entry, type, k, vec_load_f32(scaled + k));
    for (int k = 0; k < 16; k++)
        for (size_t b = 0; b < size; b++) cut[b][k] = entry[(size_t)k * size + b];
    bytes16 table[4];
    memcpy(table, cut, sizeof table);
    for (int k = 0; k < QS_QUANT_BLOCK / 2; k += 16) {
        bytes16 c;
        memcpy(&c, codes + k, sizeof c);
        bytes16 first = c >> 4, second = c & 15;
        decode_16(table, BYTES_LOW(first, second), out + (size_t)(2 * k) * size, type);
        decode_16(table, BYTES_HIGH(first, second), out + (size_t)(2 * k + 16) * size, type);
    }
}
#endif

void QS_CPU(dequantise4)(qs_device *d, const qs_qtensor *q, void *out, qs_dtype out_type)
{
    const float *value = qs_code4_of(q->type)->value;
    int64_t blocks = qs_quant_blocks(q->n), full = q->n / QS_QUANT_BLOCK;
    size_t block_bytes = QS_QUANT_BLOCK * qs_dtype_bytes(out_type);
#pragma omp parallel for schedule(static)
    for (int64_t part = 0; part < blocks; part += PART_BLOCKS) {
        int64_t end = part + PART_BLOCKS < blocks ? part + PART_BLOCKS : blocks;
        float scaled[16];
        for (int64_t b = part; b < end && b < full; b++) {
            scale_table(value, absmax_of(q, b), scaled);
            decode_full_block(scaled, q->codes + b * (QS_QUANT_BLOCK / 2),
                              (char *)out + (size_t)b * block_bytes, out_type);
        }
        if (end > full) { /* the partial block at the end */
            int64_t at = full * QS_QUANT_BLOCK, left = q->n - at;
            uint8_t codes[QS_QUANT_BLOCK / 2] = {0};
            char block[QS_QUANT_BLOCK * sizeof(float)];
            memcpy(codes, q->codes + at / 2, (size_t)(left + 1) / 2);
            scale_table(value, absmax_of(q, full), scaled);
            decode_full_block(scaled, codes, block, out_type);
            memcpy((char *)out + (size_t)full * block_bytes, block, (size_t)left * qs_dtype_bytes(out_type));
        }
    }
}

/* ---- the second level -------------------------------------------------------------------------------- */

static void quantise_nested_block(const float *absmax, int64_t n, float offset, uint8_t *codes, float *nested)
{
    vu top_bits = {0};
    for (int64_t i = 0; i < n; i += VW) {
        vf v = vec_load(absmax, QS_F32, i, n - i) - offset;
        if (n - i < VW) v = vec_select(vec_lanes() < (int32_t)(n - i), v, vec_all(0));
        top_bits = vec_max_u(top_bits, (vu)vec_abs(v));
    }
    float top = qs_f32_of_bits(vec_top_u(top_bits)),
          inverse = top > 0 ? 1.0f / top : 0; /* all equal: every code is 127, which means 0 */
    for (int64_t i = 0; i < n; i += VW) {
        vb code = qs_dynamic_codes((vec_load(absmax, QS_F32, i, n - i) - offset) * inverse,
                                   qs_dynamic_signed_above);
        memcpy(codes + i, &code, n - i < VW ? (size_t)(n - i) : sizeof code);
    }
    *nested = top;
}

void QS_CPU(quantise_absmax)(qs_device *d, const float *absmax, int64_t blocks, uint8_t *absmax8,
                             float *nested, float *offset)
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
