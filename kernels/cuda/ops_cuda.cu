/* ops_cuda.cu - the table of operations of the CUDA backend. */
#include "kernels/cuda/common.cuh"

extern "C" const qs_ops qs_ops_cuda = {
    qs_cuda_quantise4,
    qs_cuda_quantise_absmax,
    qs_cuda_dequantise4,
    qs_cuda_gemm,
    qs_cuda_gemm_workspace_bytes,
    qs_cuda_rmsnorm,
    qs_cuda_rmsnorm_backward,
    qs_cuda_rope,
    qs_cuda_add,
    qs_cuda_gated,
    qs_cuda_gated_backward,
    qs_cuda_dropout,
    qs_cuda_convert,
    qs_cuda_scale,
    qs_cuda_flag_nonfinite,
    qs_cuda_attention,
    qs_cuda_attention_backward,
    qs_cuda_attention_workspace_bytes,
    qs_cuda_ce_forward,
    qs_cuda_ce_loss,
    qs_cuda_ce_backward,
    qs_cuda_sum_squares,
    qs_cuda_adamw,
    qs_cuda_adamw8,
};
