/* op_checks.h - what every operation's argument checks are made of. Private to kernels/ops*.c. */
#ifndef QS_KERNELS_OP_CHECKS_H
#define QS_KERNELS_OP_CHECKS_H

#include "kernels/ops.h"

static inline bool is_compute(qs_dtype t) { return t == QS_F32 || t == QS_BF16 || t == QS_F16; }
static inline bool aligned(const void *p, size_t to) { return ((uintptr_t)p & (to - 1)) == 0; }

static inline void check_memory(const qs_device *d, const void *p, size_t bytes)
{
    QS_ASSERT(p || !bytes);
    if (d->holds && bytes) QS_ASSERT(d->holds(d, p, bytes));
}

static inline void check_array(const qs_device *d, const void *p, qs_dtype t, int64_t n)
{
    QS_ASSERT(n >= 0 && aligned(p, qs_dtype_bytes(t)));
    check_memory(d, p, (size_t)n * qs_dtype_bytes(t));
}

/* A matrix of a compute type. */
static inline void check_mat(const qs_device *d, qs_mat m)
{
    QS_ASSERT(is_compute(m.type));
    QS_ASSERT(m.rows >= 0 && m.cols >= 0 && m.stride >= m.cols);
    if (m.rows && m.cols) check_array(d, m.data, m.type, (m.rows - 1) * m.stride + m.cols);
}

static inline bool same_shape(qs_mat a, qs_mat b)
{
    return a.rows == b.rows && a.cols == b.cols && a.type == b.type;
}

static inline bool is_quant(qs_quant_type t) { return t == QS_QUANT_NF4 || t == QS_QUANT_FP4; }

#endif
