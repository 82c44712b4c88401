/* isa.h - what the sources see that are compiled once per instruction set (every .c here but the Makefile's
 * CPU_BASE).
 *
 * QS_ISA is the table's suffix: v2, v3, v4, v4_bf16, neon, neon_bf16. A function that another file calls is
 * called QS_CPU(name), which makes qs_cpu_name_v3 and so on; everything else is static. Nothing compiled for
 * a table may be called before the processor was asked.
 */
#ifndef QS_KERNELS_CPU_ISA_H
#define QS_KERNELS_CPU_ISA_H

#include <omp.h>

#include "kernels/cpu/cpu.h"

#ifndef QS_ISA
#define QS_ISA none /* a header compiled by itself */
#endif

#define QS_CPU_PASTE(name, isa) qs_cpu_##name##_##isa
#define QS_CPU_EXPAND(name, isa) QS_CPU_PASTE(name, isa)
#define QS_CPU(name) QS_CPU_EXPAND(name, QS_ISA)

#define QS_CPU_OPERATION(KIND, name) __typeof__(qs_op_##name) QS_CPU(name);
#define QS_CPU_QUESTION(name) __typeof__(qs_op_##name) QS_CPU(name);
QS_OP_LIST(QS_CPU_OPERATION)
QS_OP_QUESTION_LIST(QS_CPU_QUESTION)

/* The entry of qs_cpu_table. */
bool QS_CPU(bf16_kernels)(char text[96]);

/* Elements that one thread takes at a time in element-wise loops: parts start on a cache line in every type.
 */
enum { QS_CPU_PART = 16384 };

static inline char *qs_mat_row(qs_mat m, int64_t row)
{
    return (char *)m.data + (size_t)(row * m.stride) * qs_dtype_bytes(m.type);
}

/* Scratch memory of at least `bytes`, from the device's workspace; too little is a bug of the caller's plan.
 */
static inline void *qs_cpu_workspace(qs_device *d, size_t bytes)
{
    QS_ASSERT(bytes <= d->workspace_bytes);
    return d->workspace;
}

#endif
