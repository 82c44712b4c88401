/* tile_block.h - a register block of a product: the innermost loop of every one of them. */
#ifndef QS_KERNELS_CPU_TILE_BLOCK_H
#define QS_KERNELS_CPU_TILE_BLOCK_H

#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

/* As many sums as keep the multiply-add units busy and leave registers for a line of b and an element of a.
 * A block that is one register wide has more rows, for each multiply-add waits for the one before it. */
#if VW == 16
enum { BLOCK_ROWS = 8, BLOCK_VECTORS = 2, NARROW_ROWS = 16 };
#elif VW == 8
enum { BLOCK_ROWS = 6, BLOCK_VECTORS = 2, NARROW_ROWS = 12 };
#elif defined(__aarch64__)
enum { BLOCK_ROWS = 6, BLOCK_VECTORS = 4, NARROW_ROWS = 12 };
#else
enum { BLOCK_ROWS = 4, BLOCK_VECTORS = 2, NARROW_ROWS = 8 };
#endif
enum { BLOCK_COLS = BLOCK_VECTORS * VW };

VEC vf multiply_add(qs_unit u, vu a, vu b, vf sum)
{
#if defined(__AVX512BF16__)
    if (u == QS_UNIT_BF16_PAIR) return (vf)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#elif defined(__ARM_FEATURE_BF16_VECTOR_ARITHMETIC)
    if (u == QS_UNIT_BF16_PAIR)
        return (vf)vbfdotq_f32((float32x4_t)sum, vreinterpretq_bf16_u32((uint32x4_t)a),
                               vreinterpretq_bf16_u32((uint32x4_t)b));
#endif
    return vec_fma((vf)a, (vf)b, sum);
}

/* Of a product: unit p of row i of a is a[i * row_step + p * depth_step]; line p of b is b + p * b_stride. */
typedef struct block_operands {
    int64_t depth;
    const uint32_t *a;
    int64_t row_step, depth_step;
    const uint32_t *b;
    int64_t b_stride;
} block_operands;

/* sum[rows][vectors] += the product of the operands' first rows; in order of depth. `rows` and `vectors` are
 * constant after inlining. */
VEC void block_add(qs_unit u, int rows, int vectors, const block_operands *o, vf sum[][BLOCK_VECTORS])
{
    const uint32_t *a = o->a, *b = o->b;
    int64_t row_step = o->row_step, depth_step = o->depth_step, b_stride = o->b_stride;
    for (int64_t p = 0; p < o->depth; p++, a += depth_step, b += b_stride) {
        vu bv[BLOCK_VECTORS];
        for (int v = 0; v < vectors; v++)
            memcpy(&bv[v], b + v * VW, sizeof bv[v]); /* one by one: together they go over the stack */
        for (int i = 0; i < rows; i++) {
            vu av = a[i * row_step] - (vu){0};
            for (int v = 0; v < vectors; v++) sum[i][v] = multiply_add(u, av, bv[v], sum[i][v]);
        }
    }
}

#endif
