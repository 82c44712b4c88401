/* cpu.h - the CPU backend's own device, and the functions its table of operations is filled with (device_cpu.c).
 *
 * Parallel loops cut their range into parts of fixed size and give every part to one thread, so no sum depends on which
 * thread was faster; sums over rows are never shared between threads.
 */
#ifndef QS_KERNELS_CPU_CPU_H
#define QS_KERNELS_CPU_CPU_H

#include <omp.h>

#include "kernels/ops.h"

typedef struct qs_cpu_gemm_cache qs_cpu_gemm_cache; /* gemm.c */
typedef struct qs_cpu_memory qs_cpu_memory;         /* device_cpu.c */

typedef struct qs_cpu {
    qs_device base;
    qs_err failure; /* the first failure of an operation; code 0: none */
    qs_cpu_gemm_cache *gemm;
    qs_cpu_memory *memory; /* the blocks of device memory there are */
} qs_cpu;

/* Scratch memory of at least `bytes`, from the device's workspace; too little is a bug of the caller's plan. */
static inline void *qs_cpu_workspace(qs_device *d, size_t bytes)
{
    QS_ASSERT(bytes <= d->workspace_bytes);
    return d->workspace;
}

/* Elements that one thread takes at a time in element-wise loops: parts start on a cache line in every type. */
enum { QS_CPU_PART = 16384 };

static inline char *qs_mat_row(qs_mat m, int64_t row) { return (char *)m.data + (size_t)(row * m.stride) * qs_dtype_bytes(m.type); }

int qs_cpu_gemm_cache_create(qs_cpu_gemm_cache **out, qs_err *e);
void qs_cpu_gemm_cache_free(qs_cpu_gemm_cache *cache);

#define QS_CPU_OPERATION(KIND, name) __typeof__(qs_op_##name) qs_cpu_##name;
#define QS_CPU_QUESTION(name) __typeof__(qs_op_##name) qs_cpu_##name;
QS_OP_LIST(QS_CPU_OPERATION)
QS_OP_QUESTION_LIST(QS_CPU_QUESTION)

#endif
