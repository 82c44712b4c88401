#include "kernels/cpu/tile.h"

#include "kernels/cpu/vec.h"

bool qs_pairs_are_fast(void)
{
#if defined(__AVX512BF16__)
    __builtin_cpu_init();
    return !__builtin_cpu_is("intel");
#else
    return false;
#endif
}

qs_unit qs_unit_of(qs_dtype type) { return type == QS_BF16 && qs_pairs_are_fast() ? QS_UNIT_BF16_PAIR : QS_UNIT_F32; }

/* ---- the product ------------------------------------------------------------------------------------------------ */

VEC v16 multiply_add(qs_unit u, v16u a, v16u b, v16 sum)
{
#if defined(__AVX512BF16__)
    if (u == QS_UNIT_BF16_PAIR) return (v16)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
#endif
    return v16_fma((v16)a, (v16)b, sum);
}

/* A register block: `rows` rows of `vectors` vectors, both constant after inlining. */
VEC void block(qs_unit u, int rows, int vectors, bool add, int64_t depth, const uint32_t *a, int64_t row_step, int64_t depth_step,
               const uint32_t *b, int64_t b_stride, float *c, int64_t c_stride)
{
    v16 sum[8][2];
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) sum[i][v] = add ? v16_load_f32(c + i * c_stride + v * V16) : v16_all(0);
    for (int64_t p = 0; p < depth; p++) {
        v16u bv[2];
        for (int v = 0; v < vectors; v++) memcpy(&bv[v], b + p * b_stride + v * V16, sizeof bv[v]); /* one by one: together they go over the stack */
        for (int i = 0; i < rows; i++) {
            v16u av = a[i * row_step + p * depth_step] - (v16u){0};
            for (int v = 0; v < vectors; v++) sum[i][v] = multiply_add(u, av, bv[v], sum[i][v]);
        }
    }
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) v16_store_f32(c + i * c_stride + v * V16, sum[i][v]);
}

#define BLOCK(rows) block(u, rows, vectors, add, depth, a + i * row_step, row_step, depth_step, b, b_stride, c + i * c_stride, c_stride)

/* All rows of a column of `vectors` vectors. */
VEC void column(qs_unit u, int vectors, bool add, int64_t rows, int64_t depth, const uint32_t *a, int64_t row_step, int64_t depth_step,
                const uint32_t *b, int64_t b_stride, float *c, int64_t c_stride)
{
    int64_t i = 0;
    for (; i + 8 <= rows; i += 8) BLOCK(8);
    if (rows & 4) BLOCK(4), i += 4;
    if (rows & 2) BLOCK(2), i += 2;
    if (rows & 1) BLOCK(1);
}

void qs_tile_product(qs_unit u, bool add, int64_t rows, int64_t cols, int64_t depth, const uint32_t *a, int64_t row_step,
                     int64_t depth_step, const uint32_t *b, int64_t b_stride, float *c, int64_t c_stride)
{
    int64_t j = 0;
    for (; j + 2 * V16 <= cols; j += 2 * V16) {
        if (u == QS_UNIT_F32) column(QS_UNIT_F32, 2, add, rows, depth, a, row_step, depth_step, b + j, b_stride, c + j, c_stride);
        else column(QS_UNIT_BF16_PAIR, 2, add, rows, depth, a, row_step, depth_step, b + j, b_stride, c + j, c_stride);
    }
    if (j < cols) {
        if (u == QS_UNIT_F32) column(QS_UNIT_F32, 1, add, rows, depth, a, row_step, depth_step, b + j, b_stride, c + j, c_stride);
        else column(QS_UNIT_BF16_PAIR, 1, add, rows, depth, a, row_step, depth_step, b + j, b_stride, c + j, c_stride);
    }
}

/* ---- packing ----------------------------------------------------------------------------------------------------- */

/* 16 units that begin at element `at` of a line; elements past `left` are 0. */
VEC v16u load_units(qs_unit u, const void *line, qs_dtype type, int64_t at, int64_t left)
{
    if (u == QS_UNIT_F32) return (v16u)v16_load(line, type, at, left);
    v16u pairs = {0};
    if (left >= 2 * V16) memcpy(&pairs, (const uint16_t *)line + at, sizeof pairs);
    else memcpy(&pairs, (const uint16_t *)line + at, (size_t)left * sizeof(uint16_t));
    return pairs;
}

static const char *line_of(const void *x, qs_dtype type, int64_t stride, int64_t line)
{
    return (const char *)x + (size_t)(line * stride) * qs_dtype_bytes(type);
}

void qs_pack_k_major(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines, int64_t depth, uint32_t *out, int64_t out_stride)
{
    int64_t step = V16 * qs_unit_elements(u);
    for (int64_t i = 0; i < lines; i++)
        for (int64_t at = 0; at < depth; at += step) {
            v16u units = load_units(u, line_of(x, type, stride, i), type, at, depth - at);
            memcpy(out + i * out_stride + at / qs_unit_elements(u), &units, sizeof units);
        }
}

/* One of the four steps that turn a 16 x 16 square: in rows i and i + step, blocks of `step` lanes change places. */
#define EXCHANGE(step)                                                                                       \
    for (int i = 0; i < V16; i++)                                                                            \
        if (!(i & step)) {                                                                                   \
            v16u x = r[i], y = r[i + step];                                                                  \
            r[i] = __builtin_shufflevector(x, y, FIRST_##step);                                              \
            r[i + step] = __builtin_shufflevector(x, y, SECOND_##step);                                      \
        }
#define FIRST_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define SECOND_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define FIRST_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define SECOND_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define FIRST_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define SECOND_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define FIRST_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define SECOND_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31

VEC void transpose_square(v16u r[V16])
{
    EXCHANGE(8)
    EXCHANGE(4)
    EXCHANGE(2)
    EXCHANGE(1)
}

void qs_pack_transpose(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines, int64_t depth, uint32_t *out, int64_t out_stride)
{
    int64_t units = qs_unit_count(u, depth);
    for (int64_t i = 0; i < lines; i += V16)
        for (int64_t p = 0; p < units; p += V16) {
            v16u r[V16];
            int64_t at = p * qs_unit_elements(u);
            for (int l = 0; l < V16; l++)
                r[l] = i + l < lines ? load_units(u, line_of(x, type, stride, i + l), type, at, depth - at) : (v16u){0};
            transpose_square(r);
            for (int64_t q = 0; q < V16 && p + q < units; q++) memcpy(out + (p + q) * out_stride + i, &r[q], sizeof *r);
        }
}

void qs_pack_mn_major(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines, int64_t depth, uint32_t *out, int64_t out_stride)
{
    int64_t elements = qs_unit_elements(u);
    for (int64_t p = 0; p < depth; p += elements)
        for (int64_t i = 0; i < lines; i += V16) {
            v16u units;
            if (u == QS_UNIT_F32) {
                units = (v16u)v16_load(line_of(x, type, stride, p), type, i, lines - i);
            } else { /* a bf16 number is the upper half of its fp32 form */
                v16u even = (v16u)v16_load(line_of(x, type, stride, p), type, i, lines - i) >> 16;
                v16u odd = {0};
                if (p + 1 < depth) odd = (v16u)v16_load(line_of(x, type, stride, p + 1), type, i, lines - i);
                units = even | odd;
            }
            memcpy(out + p / elements * out_stride + i, &units, sizeof units);
        }
}
