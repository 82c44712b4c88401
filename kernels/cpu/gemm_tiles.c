/* gemm_tiles.c - matrix products of any stride, type and shape, tile by tile (kernels/cpu/tile.h).
 *
 * The result is cut into tiles that stay in a core's second-level cache; a thread makes a whole tile: it
 * packs a slice of the depth of both operands, multiplies, goes on to the next slice, and stores the tile
 * once. So every element is summed in order of depth in fp32 and rounded once, whatever the number of
 * threads.
 */
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec.h"

/* Largest tile, and units of depth in a slice: 256 KiB of a, of b and of the result per thread. The right
 * operand is packed in panels of as many columns as a register block has, which stay in the first-level cache
 * while the rows go by. */
enum { ROWS = 256, COLS = 256, DEPTH = 256, PANEL = VW == 16 ? 32 : 16 };

_Static_assert(ROWS *DEPTH <= QS_TILE_WORDS && DEPTH * COLS <= QS_TILE_WORDS && ROWS * COLS <= QS_TILE_WORDS,
               "a slice and a tile fit into the buffers");

size_t QS_CPU(gemm_tiles_bytes)(const qs_cpu *d)
{
    return (size_t)d->base.info.threads * sizeof(qs_tile_buffers);
}

/* Rows [first, first + lines) of op(m), elements [at, at + depth) along the depth, as units: line by line for
 * the left operand. */
static void pack_a(qs_unit u, const qs_gemm *g, int64_t first, int64_t lines, int64_t at, int64_t depth,
                   uint32_t *out)
{
    if (g->transpose_a) {
        qs_mat part = qs_mat_part(g->a, at, depth, first, lines);
        QS_CPU(pack_mn_major)(u, part.data, part.type, part.stride, lines, depth, out, ROWS);
    } else {
        qs_mat part = qs_mat_part(g->a, first, lines, at, depth);
        QS_CPU(pack_k_major)(u, part.data, part.type, part.stride, lines, depth, out, DEPTH);
    }
}

/* Columns [first, first + lines) of op(b), panel by panel. Where the depth runs across rows of memory, a few
 * whole rows at a time, for each is on a page of its own. */
static void pack_b(qs_unit u, const qs_gemm *g, int64_t first, int64_t lines, int64_t at, int64_t depth,
                   uint32_t *out)
{
    int64_t step = g->transpose_b ? depth : 16 * qs_unit_elements(u);
    for (int64_t p = 0; p < depth; p += step)
        for (int64_t j = 0; j < lines; j += PANEL) {
            int64_t deep = depth - p < step ? depth - p : step, wide = lines - j < PANEL ? lines - j : PANEL;
            uint32_t *panel = out + j * DEPTH + p / qs_unit_elements(u) * PANEL;
            qs_mat part = g->transpose_b ? qs_mat_part(g->b, first + j, wide, at + p, deep)
                                         : qs_mat_part(g->b, at + p, deep, first + j, wide);
            (g->transpose_b ? QS_CPU(pack_transpose) : QS_CPU(pack_mn_major))(
                u, part.data, part.type, part.stride, wide, deep, panel, PANEL);
        }
}

static void store_tile(const qs_gemm *g, const float *tile, int64_t row, int64_t rows, int64_t col,
                       int64_t cols)
{
    for (int64_t i = 0; i < rows; i++) {
        qs_mat c = qs_mat_part(g->c, row + i, 1, col, cols);
        for (int64_t j = 0; j < cols; j += VW) gemm_finish(g, c, col, j, vec_load_f32(tile + i * COLS + j));
    }
}

static void make_tile(const qs_gemm *g, qs_tile_buffers *s, int64_t row, int64_t rows, int64_t col,
                      int64_t cols)
{
    qs_unit u = qs_unit_of(g->a.type);
    int64_t k = g->transpose_a ? g->a.rows : g->a.cols, slice = DEPTH * qs_unit_elements(u);
    for (int64_t at = 0; at < k; at += slice) {
        int64_t depth = k - at < slice ? k - at : slice;
        pack_a(u, g, row, rows, at, depth, s->a);
        pack_b(u, g, col, cols, at, depth, s->b);
        for (int64_t j = 0; j < cols; j += PANEL) {
            int64_t wide =
                cols - j < PANEL ? (cols - j + QS_TILE_PAD - 1) / QS_TILE_PAD * QS_TILE_PAD : PANEL;
            QS_CPU(tile_product)
            (u, at > 0, rows, wide, qs_unit_count(u, depth), s->a, g->transpose_a ? 1 : DEPTH,
             g->transpose_a ? ROWS : 1, s->b + j * DEPTH, PANEL, s->c + j, COLS);
        }
    }
    store_tile(g, s->c, row, rows, col, cols);
}

static int64_t parts(int64_t n, int64_t size) { return (n + size - 1) / size; }

/* Smaller tiles where there would be too few of them to keep the threads busy. */
static void tile_size(const qs_gemm *g, int threads, int64_t *rows, int64_t *cols)
{
    while (parts(g->c.rows, *rows) * parts(g->c.cols, *cols) < 4 * threads) {
        if (*cols > 64 && g->c.cols > g->c.rows)
            *cols /= 2;
        else if (*rows > 32)
            *rows /= 2;
        else if (*cols > 64)
            *cols /= 2;
        else
            return;
    }
}

void QS_CPU(gemm_tiles)(qs_cpu *d, const qs_gemm *g)
{
    int threads = d->base.info.threads;
    qs_tile_buffers *all = qs_cpu_workspace(&d->base, QS_CPU(gemm_tiles_bytes)(d));
    int64_t rows = ROWS, cols = COLS;
    tile_size(g, threads, &rows, &cols);
    int64_t down = parts(g->c.rows, rows), across = parts(g->c.cols, cols);
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t t = 0; t < down * across; t++) {
        int64_t row = t / across * rows, col = t % across * cols;
        int64_t tall = g->c.rows - row < rows ? g->c.rows - row : rows,
                wide = g->c.cols - col < cols ? g->c.cols - col : cols;
        make_tile(g, all + omp_get_thread_num(), row, tall, col, wide);
    }
}
