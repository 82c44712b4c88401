/* rope.cu - rotary position embedding (Su et al. 2021) in the half-split layout: pairs are (i, i + rotary_dim
 * / 2). */
#include "kernels/cuda/common.cuh"

enum { ROPE_THREADS = 256 };

/* One thread block per token; N neighbouring pairs per thread at a time. */
template <class T, int N>
static __global__ void __launch_bounds__(ROPE_THREADS)
    rope(qs_view<T> x, int heads, int head_dim, int half, const float *cos, const float *sin,
         const int32_t *positions, float direction)
{
    T *token = x.row(blockIdx.x);
    int64_t at = (int64_t)positions[blockIdx.x] * half;
    for (int pair = threadIdx.x * N; pair < heads * half; pair += blockDim.x * N) {
        int j = pair % half;
        qs_pack<T, N> *low = (qs_pack<T, N> *)(token + (int64_t)(pair / half) * head_dim + j),
                      *high = (qs_pack<T, N> *)((T *)low + half), a = *low, b = *high;
        qs_pack<float, N> c = *(const qs_pack<float, N> *)(cos + at + j),
                          s = *(const qs_pack<float, N> *)(sin + at + j);
        for (int i = 0; i < N; i++) {
            float u = qs_get(a.v[i]), v = qs_get(b.v[i]), turn = s.v[i] * direction;
            qs_put(&a.v[i], u * c.v[i] - v * turn);
            qs_put(&b.v[i], v * c.v[i] + u * turn);
        }
        *low = a;
        *high = b;
    }
}

template <class T, int N> static void rope_by(qs_device *d, const qs_rope *r)
{
    int half = r->rotary_dim / 2;
    QS_LAUNCH(d, (rope<T, N>), (unsigned)r->x.rows, qs_cuda_threads(r->heads * half / N, ROPE_THREADS), 0,
              qs_view_of<T>(r->x), r->heads, r->head_dim, half, r->cos, r->sin, r->positions,
              r->inverse ? -1.0f : 1.0f);
}

extern "C" void qs_cuda_rope(qs_device *d, const qs_rope *r)
{
    enum { N = 4 };
    bool packs = r->rotary_dim / 2 % N == 0 && r->head_dim % N == 0 && qs_cuda_packs(&r->x, N) &&
                 (uintptr_t)r->cos % 16 == 0 && (uintptr_t)r->sin % 16 == 0;
    QS_BY_TYPE(r->x.type, packs ? rope_by<T, N>(d, r) : rope_by<T, 1>(d, r));
}
