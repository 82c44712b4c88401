/* gemm_tiles.h - matrix products by our own tiles: any stride, type and shape. */
#ifndef QS_KERNELS_CPU_GEMM_TILES_H
#define QS_KERNELS_CPU_GEMM_TILES_H

#include "kernels/cpu/isa.h"

void QS_CPU(gemm_tiles)(qs_cpu *d, const qs_gemm *g);
/* Workspace: the same for every product. */
size_t QS_CPU(gemm_tiles_bytes)(const qs_cpu *d);

#endif
