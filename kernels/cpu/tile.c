#include "kernels/cpu/tile.h"

#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile_block.h"

/* ---- the product ------------------------------------------------------------------------------------- */

/* `rows` and `vectors` are constant after inlining. */
VEC void block(qs_unit u, int rows, int vectors, bool add, const block_operands *all, int64_t row, float *c,
               int64_t c_stride)
{
    vf sum[NARROW_ROWS][BLOCK_VECTORS];
    block_operands o = *all;
    o.a += row * o.row_step;
    c += row * c_stride;
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++)
            sum[i][v] = add ? vec_load_f32(c + i * c_stride + v * VW) : vec_all(0);
    block_add(u, rows, vectors, &o, sum);
    for (int i = 0; i < rows; i++)
        for (int v = 0; v < vectors; v++) vec_store_f32(c + i * c_stride + v * VW, sum[i][v]);
}

/* All rows of a column of `vectors` vectors. */
VEC void column(qs_unit u, int vectors, bool add, int64_t rows, const block_operands *o, float *c,
                int64_t c_stride)
{
    int64_t i = 0;
    if (vectors == 1)
        for (; i + NARROW_ROWS <= rows; i += NARROW_ROWS) block(u, NARROW_ROWS, 1, add, o, i, c, c_stride);
    for (; i + BLOCK_ROWS <= rows; i += BLOCK_ROWS) block(u, BLOCK_ROWS, vectors, add, o, i, c, c_stride);
    if (BLOCK_ROWS > 4 && rows - i >= 4) block(u, 4, vectors, add, o, i, c, c_stride), i += 4;
    if (rows - i >= 2) block(u, 2, vectors, add, o, i, c, c_stride), i += 2;
    if (rows - i >= 1) block(u, 1, vectors, add, o, i, c, c_stride);
}

void QS_CPU(tile_product)(qs_unit u, bool add, int64_t rows, int64_t cols, int64_t depth, const uint32_t *a,
                          int64_t row_step, int64_t depth_step, const uint32_t *b, int64_t b_stride, float *c,
                          int64_t c_stride)
{
    for (int64_t j = 0; j < cols;) {
        block_operands o = {depth, a, row_step, depth_step, b + j, b_stride};
        bool whole = j + BLOCK_COLS <= cols;
        if (u == QS_UNIT_F32 && whole)
            column(QS_UNIT_F32, BLOCK_VECTORS, add, rows, &o, c + j, c_stride);
        else if (u == QS_UNIT_F32)
            column(QS_UNIT_F32, 1, add, rows, &o, c + j, c_stride);
        else if (whole)
            column(QS_UNIT_BF16_PAIR, BLOCK_VECTORS, add, rows, &o, c + j, c_stride);
        else
            column(QS_UNIT_BF16_PAIR, 1, add, rows, &o, c + j, c_stride);
        j += whole ? BLOCK_COLS : VW;
    }
}

/* ---- packing ----------------------------------------------------------------------------------------- */

/* A register of units that begin at element `at` of a line; elements past `left` are 0. */
VEC vu load_units(qs_unit u, const void *line, qs_dtype type, int64_t at, int64_t left)
{
    if (u == QS_UNIT_F32) return (vu)vec_load(line, type, at, left);
    vu pairs = {0};
    if (left >= 2 * VW)
        memcpy(&pairs, (const uint16_t *)line + at, sizeof pairs);
    else if (left > 0)
        memcpy(&pairs, (const uint16_t *)line + at, (size_t)left * sizeof(uint16_t));
    return pairs;
}

static const char *line_of(const void *x, qs_dtype type, int64_t stride, int64_t line)
{
    return (const char *)x + (size_t)(line * stride) * qs_dtype_bytes(type);
}

void QS_CPU(pack_k_major)(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines,
                          int64_t depth, uint32_t *out, int64_t out_stride)
{
    int64_t step = VW * qs_unit_elements(u), pad = QS_TILE_PAD * qs_unit_elements(u),
            padded = (depth + pad - 1) / pad * pad;
    for (int64_t i = 0; i < lines; i++)
        for (int64_t at = 0; at < padded; at += step) {
            vu units = load_units(u, line_of(x, type, stride, i), type, at, depth - at);
            memcpy(out + i * out_stride + at / qs_unit_elements(u), &units, sizeof units);
        }
}

/* One of the steps that transpose a VW x VW square: in rows i and i + step, blocks of `step` lanes change
 * places. */
#define EXCHANGE(step)                                                  \
    for (int i = 0; i < VW; i++)                                        \
        if (!(i & step)) {                                              \
            vu x = r[i], y = r[i + step];                               \
            r[i] = __builtin_shufflevector(x, y, FIRST_##step);         \
            r[i + step] = __builtin_shufflevector(x, y, SECOND_##step); \
        }
#if VW == 16
#define FIRST_8 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23
#define SECOND_8 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31
#define FIRST_4 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27
#define SECOND_4 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31
#define FIRST_2 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29
#define SECOND_2 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31
#define FIRST_1 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30
#define SECOND_1 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31
#elif VW == 8
#define FIRST_4 0, 1, 2, 3, 8, 9, 10, 11
#define SECOND_4 4, 5, 6, 7, 12, 13, 14, 15
#define FIRST_2 0, 1, 8, 9, 4, 5, 12, 13
#define SECOND_2 2, 3, 10, 11, 6, 7, 14, 15
#define FIRST_1 0, 8, 2, 10, 4, 12, 6, 14
#define SECOND_1 1, 9, 3, 11, 5, 13, 7, 15
#else
#define FIRST_2 0, 1, 4, 5
#define SECOND_2 2, 3, 6, 7
#define FIRST_1 0, 4, 2, 6
#define SECOND_1 1, 5, 3, 7
#endif

VEC void transpose_square(vu r[VW])
{
#if VW >= 16
    EXCHANGE(8)
#endif
#if VW >= 8
    EXCHANGE(4)
#endif
    EXCHANGE(2)
    EXCHANGE(1)
}

void QS_CPU(pack_transpose)(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines,
                            int64_t depth, uint32_t *out, int64_t out_stride)
{
    int64_t units = qs_unit_count(u, depth), padded = (lines + QS_TILE_PAD - 1) / QS_TILE_PAD * QS_TILE_PAD;
    for (int64_t i = 0; i < padded; i += VW)
        for (int64_t p = 0; p < units; p += VW) {
            vu r[VW];
            int64_t at = p * qs_unit_elements(u);
            for (int l = 0; l < VW; l++)
                r[l] = i + l < lines ? load_units(u, line_of(x, type, stride, i + l), type, at, depth - at)
                                     : (vu){0};
            transpose_square(r);
            for (int64_t q = 0; q < VW && p + q < units; q++)
                memcpy(out + (p + q) * out_stride + i, &r[q], sizeof *r);
        }
}

void QS_CPU(pack_mn_major)(qs_unit u, const void *x, qs_dtype type, int64_t stride, int64_t lines,
                           int64_t depth, uint32_t *out, int64_t out_stride)
{
    int64_t elements = qs_unit_elements(u), padded = (lines + QS_TILE_PAD - 1) / QS_TILE_PAD * QS_TILE_PAD;
    for (int64_t p = 0; p < depth; p += elements)
        for (int64_t i = 0; i < padded; i += VW) {
            vu units;
            if (u == QS_UNIT_F32) {
                units = (vu)vec_load(line_of(x, type, stride, p), type, i, lines - i);
            } else { /* a bf16 number is the upper half of its fp32 form */
                vu even = (vu)vec_load(line_of(x, type, stride, p), type, i, lines - i) >> 16;
                vu odd = {0};
                if (p + 1 < depth) odd = (vu)vec_load(line_of(x, type, stride, p + 1), type, i, lines - i);
                units = even | odd;
            }
            memcpy(out + p / elements * out_stride + i, &units, sizeof units);
        }
}
