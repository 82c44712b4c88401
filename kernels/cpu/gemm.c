/* gemm.c - matrix products: oneDNN's for the large dense ones, our own tiles for the rest.
 *
 * oneDNN's fast kernels want dense matrices; with padded rows it falls back to one that is half as fast and takes an fp32 copy of the
 * result per thread as scratch. Products with a small dimension, LoRA's above all, are bound by packing, at which the tiles
 * are several times faster. It has no binary16 on CPUs. And where the processor's bf16 pairs are slow, but for matrix units (AMX), the tiles multiply bf16 in fp32.
 * The choice looks at shapes and processor alone, so equal shapes give equal bits.
 */
#if defined(__AVX512BF16__)
#include <cpuid.h>
#endif

#include "kernels/cpu/gemm_parts.h"
#include "kernels/cpu/tile.h"

/* Below this in any dimension the tiles win. */
enum { SMALL = 64 };

static bool dense(qs_mat m) { return m.stride == m.cols || m.rows == 1; }

/* oneDNN has a fast way to multiply bf16: pairs, or matrix units. */
static bool fast_bf16(void)
{
#if defined(__AVX512BF16__)
    unsigned a, b, c, d = 0;
    return qs_pairs_are_fast() || (__get_cpuid_count(7, 0, &a, &b, &c, &d) && d & 1u << 22);
#else
    return false;
#endif
}

static bool by_tiles(const qs_gemm *g)
{
    int64_t k = g->transpose_a ? g->a.rows : g->a.cols;
    if (g->a.type == QS_F16 || (g->a.type == QS_BF16 && !fast_bf16()) || g->c.rows < SMALL || g->c.cols < SMALL || k < SMALL) return true;
    return !dense(g->a) || !dense(g->b) || !dense(g->c);
}

void qs_cpu_gemm(qs_device *d, const qs_gemm *g)
{
    (by_tiles(g) ? qs_gemm_tiles : qs_gemm_onednn)((qs_cpu *)d, g);
}

/* Enough for the tiles in any case: they are small, and a caller may plan with a dense matrix and pass a part of a wider one. */
size_t qs_cpu_gemm_workspace_bytes(qs_device *d, const qs_gemm *g)
{
    size_t tiles = qs_gemm_tiles_bytes((qs_cpu *)d), onednn = by_tiles(g) ? 0 : qs_gemm_onednn_bytes((qs_cpu *)d, g);
    return tiles > onednn ? tiles : onednn;
}
