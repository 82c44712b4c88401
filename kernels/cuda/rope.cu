/* rope.cu - rotary position embedding (Su et al. 2021) in the half-split layout: pairs are (i, i + rotary_dim / 2). */
#include "kernels/cuda/common.cuh"

enum { ROPE_THREADS = 256 };

/* One thread block per token; one thread per pair at a time. */
template <class T>
static __global__ void __launch_bounds__(ROPE_THREADS)
    rope(qs_view<T> x, int heads, int head_dim, int half, const float *cos, const float *sin, const int32_t *positions, float direction)
{
    T *token = x.row(blockIdx.x);
    int64_t at = (int64_t)positions[blockIdx.x] * half;
    for (int pair = threadIdx.x; pair < heads * half; pair += blockDim.x) {
        int j = pair % half;
        T *low = token + (int64_t)(pair / half) * head_dim + j, *high = low + half;
        float c = cos[at + j], s = sin[at + j] * direction, a = qs_get(*low), b = qs_get(*high);
        qs_put(low, a * c - b * s);
        qs_put(high, b * c + a * s);
    }
}

extern "C" void qs_cuda_rope(qs_device *d, const qs_rope *r)
{
    QS_BY_TYPE(r->x.type, QS_LAUNCH(d, rope<T>, (unsigned)r->x.rows, qs_cuda_threads(r->heads * (r->rotary_dim / 2), ROPE_THREADS), 0, qs_view_of<T>(r->x), r->heads, r->head_dim,
                                    r->rotary_dim / 2, r->cos, r->sin, r->positions, r->inverse ? -1.0f : 1.0f));
}
