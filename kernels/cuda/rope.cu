/* rope.cu - rotary position embedding (Su et al. 2021) in the half-split layout: pairs are (i, i + rotary_dim
 * / 2). */
#include "kernels/cuda/rows.cuh"

enum { ROPE_THREADS = 256 };

/* One thread block per token. */
template <class T, int N>
static __global__ void __launch_bounds__(ROPE_THREADS)
    rope(qs_view<T> x, rotation r, const float *cos, const float *sin, const int32_t *positions)
{
    int64_t at = (int64_t)positions[blockIdx.x] * r.half;
    rotate_row<T, N>(r, x.row(blockIdx.x), cos + at, sin + at);
}

template <class T, int N> static void rope_by(qs_device *d, const qs_rope *r)
{
    rotation by = {r->heads, r->head_dim, r->rotary_dim / 2, r->inverse ? -1.0f : 1.0f};
    QS_LAUNCH(d, (rope<T, N>), (unsigned)r->x.rows, qs_cuda_threads(r->heads * by.half / N, ROPE_THREADS), 0,
              qs_view_of<T>(r->x), by, r->cos, r->sin, r->positions);
}

extern "C" void qs_cuda_rope(qs_device *d, const qs_rope *r)
{
    enum { N = 4 };
    bool packs = r->rotary_dim / 2 % N == 0 && r->head_dim % N == 0 && qs_cuda_packs(&r->x, N) &&
                 (uintptr_t)r->cos % 16 == 0 && (uintptr_t)r->sin % 16 == 0;
    QS_BY_TYPE(r->x.type, packs ? rope_by<T, N>(d, r) : rope_by<T, 1>(d, r));
}
