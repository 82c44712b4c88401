/* gemm_parts.h - the two ways a matrix product is done: see gemm.c. */
#ifndef QS_KERNELS_CPU_GEMM_PARTS_H
#define QS_KERNELS_CPU_GEMM_PARTS_H

#include "kernels/cpu/cpu.h"

/* Dense matrices of f32 or bf16. */
void qs_gemm_onednn(qs_cpu *d, const qs_gemm *g);
size_t qs_gemm_onednn_bytes(qs_cpu *d, const qs_gemm *g);

/* Any matrices. The workspace is the same for every product. */
void qs_gemm_tiles(qs_cpu *d, const qs_gemm *g);
size_t qs_gemm_tiles_bytes(const qs_cpu *d);

#endif
