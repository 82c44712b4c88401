/* tile.h - small dense products of packed tiles: what attention and matrix products are built from.
 *
 * Operands are packed into 32-bit units along the summed dimension (the depth): one fp32 number, or, on
 * processors that are fast at multiplying pairs of bf16 numbers and adding them to fp32 (AVX512_BF16, BFDOT),
 * two neighbouring bf16 numbers. Moving and transposing units is the same work for both; only the innermost
 * multiply-add differs.
 */
#ifndef QS_KERNELS_CPU_TILE_H
#define QS_KERNELS_CPU_TILE_H

#include <stdbool.h>
#include <stdint.h>

#include "kernels/cpu/isa.h"
#include "src/base/dtype.h"

typedef enum qs_unit { QS_UNIT_F32, QS_UNIT_BF16_PAIR } qs_unit;

/* Rows and columns of packed tiles are padded to a multiple of this, whatever the width of a register: the
 * same layout and the same workspace for every instruction set. */
enum { QS_TILE_PAD = 16 };

/* Whether the processor multiplies pairs at the full rate of its registers. Intel's AVX512_BF16 does not: a
 * pair there takes as long as four fp32 multiply-adds, so that the same product is twice as fast in fp32.
 * (The vendor decides, not a measurement: it decides bits.) */
static inline bool qs_pairs_are_fast(void)
{
#if defined(__AVX512BF16__)
    __builtin_cpu_init();
    return !__builtin_cpu_is("intel");
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    return true;
#else
    return false;
#endif
}

/* The unit for products of this compute type: pairs for bf16 where the processor has fast ones, fp32
 * otherwise. */
static inline qs_unit qs_unit_of(qs_dtype type)
{
    return type == QS_BF16 && qs_pairs_are_fast() ? QS_UNIT_BF16_PAIR : QS_UNIT_F32;
}

/* Elements that one unit holds along the depth, and units that `depth` elements take. */
static inline int64_t qs_unit_elements(qs_unit u) { return u == QS_UNIT_BF16_PAIR ? 2 : 1; }
static inline int64_t qs_unit_count(qs_unit u, int64_t depth)
{
    return (depth + qs_unit_elements(u) - 1) / qs_unit_elements(u);
}

/* c[rows, cols] = or (add) += sum over `depth` units of a * b. Unit p of row i of a is a[i * row_step + p *
 * depth_step]; b is [depth, cols] with stride b_stride; c is fp32. cols is a multiple of 16; any rows. Sums
 * in order of depth. */
void QS_CPU(tile_product)(qs_unit u, bool add, int64_t rows, int64_t cols, int64_t depth, const uint32_t *a,
                          int64_t row_step, int64_t depth_step, const uint32_t *b, int64_t b_stride, float *c,
                          int64_t c_stride);

/* Packs x [lines, depth], the depth running along memory, `stride` elements from line to line:
 *   k_major: out[line * out_stride + unit];   transpose: out[unit * out_stride + line].
 * Elements past `depth` are 0. Lines are written up to a multiple of 16 by transpose, units up to a multiple
 * of 16 by k_major; those past the end are 0. */
void QS_CPU(pack_k_major)(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines,
                          int64_t depth, uint32_t *out, int64_t out_stride);
void QS_CPU(pack_transpose)(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines,
                            int64_t depth, uint32_t *out, int64_t out_stride);

/* Packs x [depth, lines], the depth running across rows: out[unit * out_stride + line], lines up to a
 * multiple of 16. */
void QS_CPU(pack_mn_major)(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines,
                           int64_t depth, uint32_t *out, int64_t out_stride);

#endif
