/* gemm.c - matrix products: our own tiles, but for bf16 where a library has kernels that pay.
 *
 * The tiles multiply fp32, and bf16 and fp16 as fp32, in the same order on every instruction set. oneDNN is
 * taken for large dense bf16 products where it multiplies pairs of bf16 at full rate or has matrix units
 * (AMX); with padded rows it falls back to a kernel that is half as fast. Products with a small dimension,
 * LoRA's above all, are bound by packing, at which the tiles are several times faster. The choice looks at
 * shapes and processor alone, so equal shapes give equal bits.
 */
#include <stdio.h>

#include "kernels/cpu/gemm_tiles.h"
#include "kernels/cpu/tile.h"

static void by_our_own(qs_cpu *d, const qs_gemm *g)
{
    if (QS_CPU(gemm_is_thin)(g))
        QS_CPU(gemm_thin)(d, g);
    else
        QS_CPU(gemm_tiles)(d, g);
}

#if defined(__AVX512BF16__) && defined(QS_ONEDNN)
#include <cpuid.h>

/* Below this in any dimension the tiles win. */
enum { SMALL = 64 };

static bool dense(qs_mat m) { return m.stride == m.cols || m.rows == 1; }

/* oneDNN has a fast way to multiply bf16: pairs, or matrix units. */
static bool fast_bf16(void)
{
    unsigned a, b, c, d = 0;
    return qs_pairs_are_fast() || (__get_cpuid_count(7, 0, &a, &b, &c, &d) && d & 1u << 22);
}

static bool by_tiles(const qs_gemm *g)
{
    int64_t k = g->transpose_a ? g->a.rows : g->a.cols;
    if (g->a.type != QS_BF16 || !fast_bf16() || g->c.rows < SMALL || g->c.cols < SMALL || k < SMALL)
        return true;
    return !dense(g->a) || !dense(g->b) || !dense(g->c);
}

void QS_CPU(gemm)(qs_device *d, const qs_gemm *g)
{
    if (by_tiles(g))
        by_our_own((qs_cpu *)d, g);
    else
        qs_gemm_onednn((qs_cpu *)d, g);
}

/* Enough for the tiles in any case: they are small, and a caller may plan with a dense matrix and pass a part
 * of a wider one. */
size_t QS_CPU(gemm_workspace_bytes)(qs_device *d, const qs_gemm *g)
{
    size_t tiles = QS_CPU(gemm_tiles_bytes)((qs_cpu *)d),
           onednn = by_tiles(g) ? 0 : qs_gemm_onednn_bytes((qs_cpu *)d, g);
    return tiles > onednn ? tiles : onednn;
}

bool QS_CPU(bf16_kernels)(char text[96])
{
    char library[64];
    if (!fast_bf16()) return false;
    qs_gemm_onednn_name(library);
    snprintf(text, 96, "%s%s", qs_pairs_are_fast() ? "pairs-1 " : "", library);
    return true;
}
#else
void QS_CPU(gemm)(qs_device *d, const qs_gemm *g) { by_our_own((qs_cpu *)d, g); }

size_t QS_CPU(gemm_workspace_bytes)(qs_device *d, const qs_gemm *g)
{
    return QS_CPU(gemm_tiles_bytes)((qs_cpu *)d);
}

/* The two architectures round within a pair in ways of their own, so the names differ. */
#if defined(__aarch64__)
#define PAIRS "bfdot-1"
#else
#define PAIRS "pairs-1"
#endif

bool QS_CPU(bf16_kernels)(char text[96])
{
    if (qs_pairs_are_fast()) snprintf(text, 96, PAIRS);
    return qs_pairs_are_fast();
}
#endif
