/* cpu.h - the CPU backend: its device, and the tables of operations of which it takes one when it opens.
 *
 * The operations are compiled once per instruction set (isa.h); this header and the files that Makefile lists
 * as CPU_BASE are compiled for the oldest processor. Parallel loops cut their range into parts of fixed size
 * and give every part to one thread, so no sum depends on which thread was faster; sums over rows are never
 * shared between threads.
 */
#ifndef QS_KERNELS_CPU_CPU_H
#define QS_KERNELS_CPU_CPU_H

#include "kernels/ops.h"

typedef struct qs_cpu_gemm_cache qs_cpu_gemm_cache; /* gemm_onednn.c */
typedef struct qs_cpu_memory qs_cpu_memory;         /* device_cpu.c */

/* One instruction set's kernels. */
typedef struct qs_cpu_table {
    qs_ops ops;
    const char *isa; /* "v3" */
    const char
        *kernels; /* what decides bits in fp32 and fp16, and in bf16 unless pairs or a library do: "fma-1" */
    int lanes;    /* floats in a register */
    /* Whether bf16 products take a kernel of their own, and then its name is put into text; false: they are
     * fp32 products. */
    bool (*bf16_kernels)(char text[96]);
    /* Seconds for `links` links of chains of fused multiply-adds on one thread, as many chains as keep it
     * busy; *flops: done in them. */
    void (*fma_chains)(int64_t links, double *flops);
} qs_cpu_table;

typedef struct qs_cpu {
    qs_device base;
    const qs_cpu_table *table;
    qs_err failure; /* the first failure of an operation; code 0: none */
    qs_cpu_gemm_cache *gemm;
    qs_cpu_memory *memory; /* the blocks of device memory there are */
} qs_cpu;

/* The table for an instruction set's name, or the best one of this processor for "auto". portable_bits: of
 * those whose bits are equal on every processor with a fused multiply-add. QS_EINVAL for an unknown name,
 * QS_EUNSUP for one that this processor cannot run: both say what it can. */
int qs_cpu_table_choose(const char *isa, bool portable_bits, const qs_cpu_table **out, qs_err *e);

/* Table k of this build, in rising order; NULL past the last. Whether this processor runs it. */
const qs_cpu_table *qs_cpu_table_at(int k);
bool qs_cpu_table_runs(const qs_cpu_table *table);

/* oneDNN's products (gemm_onednn.c), where the build has them: see gemm.c for when they are taken. */
int qs_cpu_gemm_cache_create(qs_cpu_gemm_cache **out, qs_err *e);
void qs_cpu_gemm_cache_free(qs_cpu_gemm_cache *cache);
/* Dense matrices of f32 or bf16. */
void qs_gemm_onednn(qs_cpu *d, const qs_gemm *g);
size_t qs_gemm_onednn_bytes(qs_cpu *d, const qs_gemm *g);
/* "onednn 2.6.3 amx". */
void qs_gemm_onednn_name(char text[64]);

#endif
