/* gemm_thin.c - fp32 products with one small dimension, LoRA's above all: the large operand is read once,
 * where it lies.
 *
 * There are three kinds, by where the small dimension is and how the large operand lies in memory.
 *
 * By lines (h = x A^T): the depth runs along the lines of the large operand; its elements are broadcast.
 *
 * Across (dA = dh^T x): the depth runs across the lines; a few of them at a time are read along their length.
 *
 * Shallow (y += h B^T): the depth is small, and the result is what is large.
 *
 * Every element is summed in order of depth in fp32 and rounded once, as in gemm_tiles.c: the same bits.
 */
#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/tile_block.h"

/* Elements of depth at a time: by lines, as many as let the small operand's stay in the first-level cache;
 * across, as many lines as the processor follows. Columns of a large result at a time. */
enum { ALONG = 512, ACROSS = 32, WIDTH = 512, CHUNK_ROWS = 192, ROWS = 48 };
enum { PANEL = (int)BLOCK_COLS < (int)QS_TILE_PAD ? (int)QS_TILE_PAD : (int)BLOCK_COLS };

static int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }

/* A matrix whose lines are rows or columns of the result. */
typedef struct operand {
    qs_mat m;
    bool across; /* the depth runs across the rows of m */
} operand;

static int64_t lines_of(operand o) { return o.across ? o.m.cols : o.m.rows; }

static qs_mat part_of(operand o, int64_t line, int64_t lines, int64_t at, int64_t depth)
{
    return o.across ? qs_mat_part(o.m, at, depth, line, lines) : qs_mat_part(o.m, line, lines, at, depth);
}

/* out[depth][out_stride]: lines up to a multiple of QS_TILE_PAD. */
static void pack_depth_major(operand o, int64_t line, int64_t lines, int64_t at, int64_t depth, uint32_t *out,
                             int64_t out_stride)
{
    qs_mat p = part_of(o, line, lines, at, depth);
    (o.across ? QS_CPU(pack_mn_major) : QS_CPU(pack_transpose))(QS_UNIT_F32, p.data, p.type, p.stride, lines,
                                                                depth, out, out_stride);
}

typedef struct thin {
    const qs_gemm *g;
    operand large, small;
    bool turned;          /* the large operand's lines are columns of the result */
    int64_t depth, width; /* lines of the small operand, rounded up */
} thin;

/* Rounds and stores what was summed of large lines [line, line + lines): sum[lines][stride], or
 * sum[width][stride] where `across`. */
static void store(const thin *t, qs_tile_buffers *s, bool across, int64_t line, int64_t lines, int64_t stride)
{
    int64_t n = lines_of(t->small);
    const float *sum = s->c;
    if (across != t->turned) { /* the other way round */
        int64_t turned_stride = across ? t->width : (lines + QS_TILE_PAD - 1) / QS_TILE_PAD * QS_TILE_PAD;
        QS_CPU(pack_transpose)
        (QS_UNIT_F32, sum, QS_F32, stride, across ? n : lines, across ? lines : n, s->b, turned_stride);
        sum = (const float *)s->b;
        stride = turned_stride;
    }
    for (int64_t i = 0; i < (t->turned ? n : lines); i++) {
        int64_t row = t->turned ? i : line + i, col = t->turned ? line : 0, wide = t->turned ? lines : n;
        qs_mat c = qs_mat_part(t->g->c, row, 1, col, wide);
        for (int64_t j = 0; j < wide; j += VW)
            gemm_finish(t->g, c, col, j, vec_load_f32(sum + i * stride + j));
    }
}

/* Large lines [line, line + lines) of a product by lines. */
static void by_lines(const thin *t, qs_tile_buffers *s, int64_t line, int64_t lines)
{
    int64_t slice = QS_TILE_WORDS / t->width;
    for (int64_t from = 0; from < t->depth; from += slice) {
        int64_t end = least(from + slice, t->depth);
        pack_depth_major(t->small, 0, lines_of(t->small), from, end - from, s->a, t->width);
        for (int64_t at = from; at < end; at += ALONG)
            for (int64_t i = 0; i < lines; i += ROWS) {
                int64_t deep = least(ALONG, end - at), tall = least(ROWS, lines - i);
                qs_mat x = part_of(t->large, line + i, tall, at, deep);
                if (x.type != QS_F32) {
                    QS_CPU(pack_k_major)(QS_UNIT_F32, x.data, x.type, x.stride, tall, deep, s->b, ALONG);
                    x = qs_mat_part(qs_mat_of(s->b, QS_F32, ROWS, ALONG), 0, tall, 0, deep);
                }
                QS_CPU(tile_product)
                (QS_UNIT_F32, at > 0, tall, t->width, deep, x.data, x.stride, 1,
                 s->a + (at - from) * t->width, t->width, s->c + i * t->width, t->width);
            }
    }
    store(t, s, false, line, lines, t->width);
}

/* Large lines [line, line + lines) of a product across. */
static void across(const thin *t, qs_tile_buffers *s, int64_t line, int64_t lines)
{
    int64_t slice = QS_TILE_WORDS / t->width, n = lines_of(t->small),
            padded = (lines + QS_TILE_PAD - 1) / QS_TILE_PAD * QS_TILE_PAD, stride = padded + QS_TILE_PAD;
    bool direct = t->large.m.type == QS_F32 && padded == lines;
    for (int64_t from = 0; from < t->depth; from += slice) {
        int64_t end = least(from + slice, t->depth);
        pack_depth_major(t->small, 0, n, from, end - from, s->a, t->width);
        for (int64_t at = from; at < end; at += ACROSS) {
            int64_t deep = least(ACROSS, end - at);
            qs_mat x = part_of(t->large, line, lines, at, deep);
            if (!direct) {
                pack_depth_major(t->large, line, lines, at, deep, s->b, stride);
                x = qs_mat_part(qs_mat_of(s->b, QS_F32, deep, stride), 0, deep, 0, padded);
            }
            for (int64_t j = 0; j < padded; j += PANEL) QS_CPU(tile_product)
            (QS_UNIT_F32, at > 0, n, least(PANEL, padded - j), deep, s->a + (at - from) * t->width, 1,
             t->width, (const uint32_t *)x.data + j, x.stride, s->c + j, stride);
        }
    }
    store(t, s, true, line, lines, stride);
}

/* ---- shallow ----------------------------------------------------------------------------------------- */

typedef struct shallow {
    const qs_gemm *g;
    const uint32_t *a, *b; /* packed: [rows][deep], and panels of [depth][PANEL] */
    int64_t depth, deep, row, col, cols;
} shallow;

/* gemm_finish without a bias, away from the edge. */
VEC void finish_whole(const qs_gemm *g, void *c, qs_dtype type, int64_t j, vf sum)
{
    vf value = sum * g->alpha;
    if (g->beta != 0) value += vec_load_full(c, type, j);
    vec_store_full(c, type, j, value);
}

/* `rows` rows from the i-th on, `vectors` registers from column j on. */
VEC void shallow_block(const shallow *t, int rows, int vectors, int64_t i, int64_t j)
{
    vf sum[NARROW_ROWS][BLOCK_VECTORS];
    block_operands o = {
        t->depth, t->a + i * t->deep, t->deep, 1, t->b + j / PANEL * PANEL * t->depth + j % PANEL, PANEL};
    for (int r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) sum[r][v] = vec_all(0);
    block_add(QS_UNIT_F32, rows, vectors, &o, sum);
    bool whole = j + vectors * VW <= t->cols && !t->g->bias;
    for (int r = 0; r < rows; r++) {
        qs_mat c = qs_mat_part(t->g->c, t->row + i + r, 1, t->col, t->cols);
        if (whole && c.type == QS_F32)
            for (int v = 0; v < vectors; v++) finish_whole(t->g, c.data, QS_F32, j + v * VW, sum[r][v]);
        else if (whole && c.type == QS_BF16)
            for (int v = 0; v < vectors; v++) finish_whole(t->g, c.data, QS_BF16, j + v * VW, sum[r][v]);
        else
            for (int v = 0; v < vectors; v++) gemm_finish(t->g, c, t->col, j + v * VW, sum[r][v]);
    }
}

/* The block is a constant each time, or its loops stay loops. */
VEC void shallow_rows(const shallow *t, int rows, int64_t i)
{
    int64_t j = 0;
    for (; j + BLOCK_COLS <= t->cols; j += BLOCK_COLS) shallow_block(t, rows, BLOCK_VECTORS, i, j);
    for (; j < t->cols; j += VW) shallow_block(t, rows, 1, i, j);
}

static void shallow_part(const qs_gemm *g, qs_tile_buffers *s, int64_t row, int64_t rows, int64_t col,
                         int64_t cols)
{
    operand a = {g->a, g->transpose_a}, b = {g->b, !g->transpose_b};
    int64_t depth = a.across ? a.m.rows : a.m.cols,
            deep = (depth + QS_TILE_PAD - 1) / QS_TILE_PAD * QS_TILE_PAD;
    shallow t = {g, s->a, s->b, depth, deep, row, col, cols};
    qs_mat x = part_of(a, row, rows, 0, depth);
    if (!a.across) {
        QS_CPU(pack_k_major)(QS_UNIT_F32, x.data, x.type, x.stride, rows, depth, s->a, deep);
    } else { /* turned twice: there is no other way from lines to lines */
        QS_CPU(pack_mn_major)(QS_UNIT_F32, x.data, x.type, x.stride, rows, depth, s->b, CHUNK_ROWS);
        QS_CPU(pack_transpose)(QS_UNIT_F32, s->b, QS_F32, CHUNK_ROWS, depth, rows, s->a, deep);
    }
    for (int64_t j = 0; j < cols; j += PANEL)
        pack_depth_major(b, col + j, least(PANEL, cols - j), 0, depth, s->b + j * depth, PANEL);
    int64_t i = 0;
    for (; i + BLOCK_ROWS <= rows; i += BLOCK_ROWS) shallow_rows(&t, BLOCK_ROWS, i);
    if (BLOCK_ROWS > 4 && rows - i >= 4) shallow_rows(&t, 4, i), i += 4;
    for (; i < rows; i++) shallow_rows(&t, 1, i);
}

/* ---- the choice -------------------------------------------------------------------------------------- */

/* Above this a packed tile is as good. */
enum { THIN = 64 };

static int64_t depth_of(const qs_gemm *g) { return g->transpose_a ? g->a.rows : g->a.cols; }

bool QS_CPU(gemm_is_thin)(const qs_gemm *g)
{
    if (qs_unit_of(g->a.type) != QS_UNIT_F32) return false;
    return depth_of(g) <= THIN || g->c.rows <= THIN || g->c.cols <= THIN;
}

/* A chunk of n lines for every thread to take several times, of whole units. */
static int64_t chunk(int64_t n, int threads, int64_t unit, int64_t most)
{
    int64_t each = (n / (4 * threads) + unit - 1) / unit * unit;
    return each < unit ? unit : each > most ? most : each;
}

static void shallow_product(qs_cpu *d, const qs_gemm *g, qs_tile_buffers *all)
{
    int threads = d->base.info.threads;
    int64_t tall = chunk(g->c.rows, threads, ROWS, CHUNK_ROWS), wide = WIDTH;
    int64_t down = (g->c.rows + tall - 1) / tall, across = (g->c.cols + wide - 1) / wide;
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t p = 0; p < down * across; p++) {
        int64_t row = p / across * tall, col = p % across * wide;
        shallow_part(g, all + omp_get_thread_num(), row, least(tall, g->c.rows - row), col,
                     least(wide, g->c.cols - col));
    }
}

void QS_CPU(gemm_thin)(qs_cpu *d, const qs_gemm *g)
{
    int threads = d->base.info.threads;
    qs_tile_buffers *all = qs_cpu_workspace(&d->base, QS_CPU(gemm_tiles_bytes)(d));
    if (depth_of(g) <= THIN) {
        shallow_product(d, g, all);
        return;
    }
    operand a = {g->a, g->transpose_a}, b = {g->b, !g->transpose_b};
    thin t = {g, a, b, false, depth_of(g), 0};
    if (g->c.rows < g->c.cols) t.large = b, t.small = a, t.turned = true;
    t.width = (lines_of(t.small) + QS_TILE_PAD - 1) / QS_TILE_PAD * QS_TILE_PAD;
    int64_t n = lines_of(t.large), most = t.large.across ? WIDTH : QS_TILE_WORDS / t.width;
    int64_t step = chunk(n, threads, t.large.across ? 64 : ROWS, least(most, CHUNK_ROWS * 4));
#pragma omp parallel for schedule(dynamic) num_threads(threads)
    for (int64_t line = 0; line < n; line += step)
        (t.large.across ? across : by_lines)(&t, all + omp_get_thread_num(), line, least(step, n - line));
}
