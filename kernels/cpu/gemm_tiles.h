/* gemm_tiles.h - matrix products by our own tiles: any stride, type and shape. */
#ifndef QS_KERNELS_CPU_GEMM_TILES_H
#define QS_KERNELS_CPU_GEMM_TILES_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

enum { QS_TILE_WORDS = 256 * 256 };

/* What a thread packs and sums into. */
typedef struct qs_tile_buffers {
    uint32_t a[QS_TILE_WORDS], b[QS_TILE_WORDS];
    float c[QS_TILE_WORDS];
} qs_tile_buffers;

void QS_CPU(gemm_tiles)(qs_cpu *d, const qs_gemm *g);
/* Workspace: the same for every product. */
size_t QS_CPU(gemm_tiles_bytes)(const qs_cpu *d);

/* Products with a small dimension (gemm_thin.c), in the same workspace. */
bool QS_CPU(gemm_is_thin)(const qs_gemm *g);
void QS_CPU(gemm_thin)(qs_cpu *d, const qs_gemm *g);

/* Finishes a register of sums: elements j and on of `c`, a part of one row of g->c that begins at column col.
 */
VEC void gemm_finish(const qs_gemm *g, qs_mat c, int64_t col, int64_t j, vf sum)
{
    vf value = sum * g->alpha;
    if (g->beta != 0) value += vec_load(c.data, c.type, j, c.cols - j);
    if (g->bias) value += vec_load(g->bias, g->bias_type, col + j, c.cols - j);
    vec_store(c.data, c.type, j, c.cols - j, value);
}

#endif
