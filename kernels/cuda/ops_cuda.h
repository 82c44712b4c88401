/* ops_cuda.h - the CUDA backend's operations. Contracts are those of kernels/ops.h; arguments are already
 * checked. */
#ifndef QS_KERNELS_CUDA_OPS_CUDA_H
#define QS_KERNELS_CUDA_OPS_CUDA_H

#include "kernels/ops.h"

extern const qs_ops qs_ops_cuda;

#define QS_CUDA_OPERATION(KIND, name) __typeof__(qs_op_##name) qs_cuda_##name;
#define QS_CUDA_QUESTION(name) __typeof__(qs_op_##name) qs_cuda_##name;
QS_OP_LIST(QS_CUDA_OPERATION)
QS_OP_QUESTION_LIST(QS_CUDA_QUESTION)

#endif
