/* attention.cu - attention's entry functions: which family of kernels, and delta, which both need. */
#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/reduce.cuh"

enum { DELTA_WARPS = 8 };

/* delta = rowsum(d_o * o): one warp per token and head. */
template <class T> static __global__ void __launch_bounds__(32 * DELTA_WARPS) row_dot(qs_attention_views<T> a)
{
    int lane = threadIdx.x % 32, token = blockIdx.x * DELTA_WARPS + threadIdx.x / 32, head = blockIdx.y;
    if (token >= a.tokens) return; /* the whole warp */
    const T *o = a.o.row(token) + head * a.head_dim, *d_o = a.d_o.row(token) + head * a.head_dim;
    float sum = 0;
    for (int j = lane; j < a.head_dim; j += 32) sum = fmaf(qs_get(o[j]), qs_get(d_o[j]), sum);
    sum = qs_warp_reduce<qs_sum>(sum);
    if (lane == 0) a.delta[(int64_t)head * a.tokens + token] = sum;
}

/* Whether the tensor core kernels take these: they copy rows by 16 bytes. */
static bool uses_sm80(qs_device *d, const qs_attention *a, const qs_mat *gradients)
{
    const qs_mat mats[] = {a->q, a->k, a->v, a->o};
    bool head = a->head_dim == 64 || a->head_dim == 80 || a->head_dim == 96 || a->head_dim == 128 ||
                a->head_dim == 256;
    if (qs_cuda_of(d)->code_arch < 80 || a->q.type == QS_F32 || !head || a->softcap > 0) return false;
    for (int i = 0; i < 4; i++) {
        if (!qs_cuda_packs(&mats[i], 8)) return false;
        if (gradients && !qs_cuda_packs(&gradients[i], 8)) return false;
    }
    return true;
}

/* Whether, of these, the warpgroup kernels do. They exist as sm_90a, which no later card runs. QS_CUDA_SM90:
 * they were compiled. */
static bool uses_sm90(qs_device *d, const qs_attention *a)
{
#ifdef QS_CUDA_SM90
    const qs_cuda_device *c = qs_cuda_of(d);
    return c->card_arch == 90 && c->code_arch == 90 && (a->head_dim == 64 || a->head_dim == 128);
#else
    return false;
#endif
}

extern "C" size_t qs_cuda_attention_workspace_bytes(qs_device *d, const qs_attention *a)
{
    return (size_t)a->heads * (size_t)a->q.rows * sizeof(float); /* delta */
}

extern "C" void qs_cuda_attention(qs_device *d, const qs_attention *a)
{
    if (!uses_sm80(d, a, NULL))
        qs_attention_forward_simt(d, a);
    else if (uses_sm90(d, a))
        qs_attention_forward_sm90(d, a);
    else
        qs_attention_forward_sm80(d, a);
}

extern "C" void qs_cuda_attention_backward(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq,
                                           qs_mat dk, qs_mat dv)
{
    QS_ASSERT(d->workspace_bytes >= qs_cuda_attention_workspace_bytes(d, a));
    const qs_mat gradients[4] = {d_o, dq, dk, dv};
    float *delta = (float *)d->workspace;
    dim3 grid(qs_cuda_blocks(a->q.rows, DELTA_WARPS), (unsigned)a->heads);
    QS_BY_TYPE(a->q.type, QS_LAUNCH(d, row_dot<T>, grid, 32 * DELTA_WARPS, 0,
                                    qs_attention_views_of<T>(a, gradients, delta)));
    if (!uses_sm80(d, a, gradients)) {
        qs_attention_backward_simt(d, a, gradients, delta);
    } else if (uses_sm90(d, a)) {
        qs_attention_dq_sm90(d, a, gradients, delta);
        qs_attention_dkv_sm90(d, a, gradients, delta);
    } else {
        qs_attention_dq_sm80(d, a, gradients, delta);
        qs_attention_dkv_sm80(d, a, gradients, delta);
    }
}
