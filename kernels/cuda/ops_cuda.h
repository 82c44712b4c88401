/* ops_cuda.h - the CUDA backend's operations, by file. Contracts are those of kernels/ops.h; arguments are already checked. */
#ifndef QS_KERNELS_CUDA_OPS_CUDA_H
#define QS_KERNELS_CUDA_OPS_CUDA_H

#include "kernels/ops.h"

extern const qs_ops qs_ops_cuda;

/* nf4.cu */
void qs_cuda_quantise4(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n, uint8_t *codes, float *absmax);
void qs_cuda_quantise_absmax(qs_device *d, const float *absmax, int64_t blocks, uint8_t *absmax8, float *nested, float *offset);
void qs_cuda_dequantise4(qs_device *d, const qs_qtensor *q, void *out, qs_dtype out_type);

/* gemm.cu */
void qs_cuda_gemm(qs_device *d, const qs_gemm *g);
size_t qs_cuda_gemm_workspace_bytes(qs_device *d, const qs_gemm *g);

/* norm.cu */
void qs_cuda_rmsnorm(qs_device *d, const qs_rmsnorm *n);
void qs_cuda_rmsnorm_backward(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx);
void qs_cuda_layernorm(qs_device *d, const qs_layernorm *n);
void qs_cuda_layernorm_backward(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add, qs_mat dx);

/* rope.cu */
void qs_cuda_rope(qs_device *d, const qs_rope *r);

/* elementwise.cu */
void qs_cuda_add(qs_device *d, qs_mat dst, qs_mat a, qs_mat b);
void qs_cuda_regroup(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width, qs_mat y);
void qs_cuda_convert(qs_device *d, void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type, int64_t n);
void qs_cuda_scale(qs_device *d, float *x, int64_t n, float factor);
void qs_cuda_flag_nonfinite(qs_device *d, qs_mat x, int32_t *flag);

/* gated.cu */
void qs_cuda_gated(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y);
void qs_cuda_gated_backward(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat dy, qs_mat d_gate_up);
void qs_cuda_activation(qs_device *d, qs_activation act, qs_mat x, qs_mat y);
void qs_cuda_activation_backward(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat dx);

/* dropout.cu */
void qs_cuda_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add);

/* attention.cu */
void qs_cuda_attention(qs_device *d, const qs_attention *a);
void qs_cuda_attention_backward(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq, qs_mat dk, qs_mat dv);
size_t qs_cuda_attention_workspace_bytes(qs_device *d, const qs_attention *a);

/* loss.cu */
void qs_cuda_ce_forward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s);
void qs_cuda_ce_loss(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss);
void qs_cuda_ce_backward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s, float scale, qs_mat d_logits);

/* optimizer.cu, optimizer8.cu */
void qs_cuda_sum_squares(qs_device *d, const float *g, int64_t n, double *sum);
void qs_cuda_adamw(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g, float *m, float *v, int64_t n);
void qs_cuda_adamw8(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8, uint8_t *v8, float *m_absmax,
                    float *v_absmax, int64_t n);

#endif
