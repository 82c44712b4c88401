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

void qs_cpu_quantise4(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n, uint8_t *codes, float *absmax);
void qs_cpu_quantise_absmax(qs_device *d, const float *absmax, int64_t blocks, uint8_t *absmax8, float *nested, float *offset);
void qs_cpu_dequantise4(qs_device *d, const qs_qtensor *q, void *out, qs_dtype out_type);
void qs_cpu_gemm(qs_device *d, const qs_gemm *g);
size_t qs_cpu_gemm_workspace_bytes(qs_device *d, const qs_gemm *g);
void qs_cpu_rmsnorm(qs_device *d, const qs_rmsnorm *n);
void qs_cpu_rmsnorm_backward(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx);
void qs_cpu_layernorm(qs_device *d, const qs_layernorm *n);
void qs_cpu_layernorm_backward(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add, qs_mat dx);
void qs_cpu_rope(qs_device *d, const qs_rope *r);
void qs_cpu_add(qs_device *d, qs_mat dst, qs_mat a, qs_mat b);
void qs_cpu_gated(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat y);
void qs_cpu_gated_backward(qs_device *d, qs_activation act, qs_mat gate_up, qs_mat dy, qs_mat d_gate_up);
void qs_cpu_activation(qs_device *d, qs_activation act, qs_mat x, qs_mat y);
void qs_cpu_activation_backward(qs_device *d, qs_activation act, qs_mat x, qs_mat dy, qs_mat dx);
void qs_cpu_regroup(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width, qs_mat y);
void qs_cpu_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add);
void qs_cpu_convert(qs_device *d, void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type, int64_t n);
void qs_cpu_scale(qs_device *d, float *x, int64_t n, float factor);
void qs_cpu_flag_nonfinite(qs_device *d, qs_mat x, int32_t *flag);
void qs_cpu_attention(qs_device *d, const qs_attention *a);
void qs_cpu_attention_backward(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq, qs_mat dk, qs_mat dv);
size_t qs_cpu_attention_workspace_bytes(qs_device *d, const qs_attention *a);
void qs_cpu_ce_forward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s);
void qs_cpu_ce_loss(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss);
void qs_cpu_ce_backward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s, float scale, qs_mat d_logits);
void qs_cpu_sum_squares(qs_device *d, const float *g, int64_t n, double *sum);
void qs_cpu_adamw(qs_device *d, qs_adamw_rule rule, const qs_adamw *h, float *p, const float *g, float *m, float *v, int64_t n);
void qs_cpu_adamw8(qs_device *d, const qs_adamw *h, float *p, const float *g, uint8_t *m8, uint8_t *v8, float *m_absmax,
                   float *v_absmax, int64_t n);

#endif
