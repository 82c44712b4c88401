/* attention.cuh - what the attention kernels share. Three families: tensor cores
 * (attention_{forward,dq,dkv}_sm80.cu: 16-bit types, the usual head sizes, sm_80 on), Hopper's warpgroup
 * products (.._sm90.cu: of these the head sizes 64 and 128, on sm_90 alone) and plain arithmetic
 * (attention_simt.cu: everything else, and soft caps). attention.cu chooses.
 *
 * With s = scale * q k':  p = exp(s - lse),  o = p v;  delta = rowsum(d_o * o),  ds = p * (d_o v' - delta);
 *                         dq = scale * ds k,  dk = scale * ds' q,  dv = p' d_o.
 * dq is made by blocks that own queries, dk and dv by blocks that own keys: scores are computed twice, but
 * every sum has one owner and one order, and there are no atomics.
 */
#ifndef QS_KERNELS_CUDA_ATTENTION_CUH
#define QS_KERNELS_CUDA_ATTENTION_CUH

#include "kernels/cuda/common.cuh"

/* A qs_attention and the backward pass's gradients, typed. o is an input of the backward pass. */
template <class T> struct qs_attention_views {
    qs_view<T> q, k, v, o, d_o, dq, dk, dv;
    float *lse, *delta; /* [heads, tokens] */
    const int32_t *document;
    int heads, kv_heads, head_dim, tokens, window;
    float scale, softcap;

    /* The first key that query i sees; never decreases with i, as documents follow one another. */
    __device__ __forceinline__ int first_key(int i) const { return first_key(i, document[i]); }
    __device__ __forceinline__ int first_key(int i, int document_of_i) const
    {
        return window ? max(document_of_i, i - window + 1) : document_of_i;
    }

    /* A score from the product of a query and a key; and the derivative of one by the other, without scale.
     */
    __device__ __forceinline__ float score(float product) const
    {
        float s = product * scale;
        return softcap > 0.0f ? softcap * tanhf(s / softcap) : s;
    }
    __device__ __forceinline__ float score_slope(float s) const
    {
        float t = softcap > 0.0f ? s / softcap : 0.0f;
        return 1.0f - t * t;
    }

    /* The last query that sees key j. */
    __device__ __forceinline__ int last_query(int j) const
    {
        int low = j, high = tokens - 1;
        while (low < high) {
            int middle = low + (high - low + 1) / 2;
            if (first_key(middle) <= j)
                low = middle;
            else
                high = middle - 1;
        }
        return low;
    }
};

/* The families' entry functions. gradients: d_o, dq, dk, dv. */
void qs_attention_forward_sm80(qs_device *d, const qs_attention *a);
void qs_attention_dq_sm80(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta);
void qs_attention_dkv_sm80(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta);
void qs_attention_forward_sm90(qs_device *d, const qs_attention *a);
void qs_attention_dq_sm90(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta);
void qs_attention_dkv_sm90(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta);
void qs_attention_forward_simt(qs_device *d, const qs_attention *a);
void qs_attention_backward_simt(qs_device *d, const qs_attention *a, const qs_mat gradients[4], float *delta);

/* gradients: NULL in the forward pass. */
template <class T>
static inline qs_attention_views<T> qs_attention_views_of(const qs_attention *a, const qs_mat *gradients,
                                                          float *delta)
{
    qs_attention_views<T> w = {};
    w.q = qs_view_of<T>(a->q), w.k = qs_view_of<T>(a->k), w.v = qs_view_of<T>(a->v),
    w.o = qs_view_of<T>(a->o);
    if (gradients) {
        w.d_o = qs_view_of<T>(gradients[0]), w.dq = qs_view_of<T>(gradients[1]);
        w.dk = qs_view_of<T>(gradients[2]), w.dv = qs_view_of<T>(gradients[3]);
    }
    w.lse = a->lse, w.delta = delta, w.document = a->document;
    w.heads = a->heads, w.kv_heads = a->kv_heads, w.head_dim = a->head_dim, w.tokens = (int)a->q.rows,
    w.window = a->window;
    w.scale = a->scale, w.softcap = a->softcap;
    return w;
}

#endif
