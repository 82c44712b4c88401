/* ops_cuda.cu - the table of operations of the CUDA backend. */
#include "kernels/cuda/common.cuh"

#define OPERATION(KIND, name) .name = qs_cuda_##name,
#define QUESTION(name) .name = qs_cuda_##name,
extern "C" const qs_ops qs_ops_cuda = {QS_OP_LIST(OPERATION) QS_OP_QUESTION_LIST(QUESTION)};
