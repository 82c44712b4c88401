/* norm.cu - RMSNorm (Zhang & Sennrich 2019), forward and backward. One thread block per row. */
#include "kernels/cuda/reduce.cuh"

enum { NORM_THREADS = 256 };

/* 1 / sqrt(mean(x^2) + eps) of a row. */
template <class T, int N>
static __device__ float reciprocal_rms(const T *x, int64_t cols, float eps, float *scratch)
{
    float sum = 0;
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(x + j);
        for (int i = 0; i < N; i++) sum = fmaf(qs_get(v.v[i]), qs_get(v.v[i]), sum);
    }
    sum = qs_block_reduce<qs_sum>(sum, scratch);
    return 1.0f / sqrtf(sum / (float)cols + eps);
}

template <class T, int N>
static __global__ void __launch_bounds__(NORM_THREADS)
    rmsnorm(qs_view<T> x, qs_view<T> y, const void *weight, qs_dtype weight_type, int64_t cols, float eps,
            bool round_last)
{
    __shared__ float scratch[32];
    const T *in = x.row(blockIdx.x);
    T *out = y.row(blockIdx.x);
    float r = reciprocal_rms<T, N>(in, cols, eps, scratch);
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j);
        for (int i = 0; i < N; i++) {
            float normed = qs_get(v.v[i]) * r;
            qs_put(&v.v[i],
                   (round_last ? normed : qs_rounded<T>(normed)) * qs_get_as(weight, weight_type, j + i));
        }
        *(qs_pack<T, N> *)(out + j) = v;
    }
}

/* With h = dy * weight and r = 1/rms:  dx = r h - x r^3 mean(h x) [+ add]. */
template <class T, int N>
static __global__ void __launch_bounds__(NORM_THREADS)
    rmsnorm_backward(qs_view<T> x, qs_view<T> dy, qs_view<T> add, qs_view<T> dx, const void *weight,
                     qs_dtype weight_type, int64_t cols, float eps)
{
    __shared__ float scratch[32];
    const T *in = x.row(blockIdx.x), *gradient = dy.row(blockIdx.x);
    T *out = dx.row(blockIdx.x);
    float r = reciprocal_rms<T, N>(in, cols, eps, scratch), dot = 0;
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j), g = *(const qs_pack<T, N> *)(gradient + j);
        for (int i = 0; i < N; i++)
            dot = fmaf(qs_get(g.v[i]) * qs_get_as(weight, weight_type, j + i), qs_get(v.v[i]), dot);
    }
    float along_x = qs_block_reduce<qs_sum>(dot, scratch) / (float)cols * r * r * r;
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j), g = *(const qs_pack<T, N> *)(gradient + j),
                      more = {};
        if (add.data) more = *(const qs_pack<T, N> *)(add.row(blockIdx.x) + j);
        for (int i = 0; i < N; i++) {
            float value =
                qs_get(g.v[i]) * qs_get_as(weight, weight_type, j + i) * r - qs_get(v.v[i]) * along_x;
            qs_put(&v.v[i], add.data ? value + qs_get(more.v[i]) : value);
        }
        *(qs_pack<T, N> *)(out + j) = v;
    }
}

extern "C" void qs_cuda_rmsnorm(qs_device *d, const qs_rmsnorm *n)
{
    unsigned rows = (unsigned)n->x.rows;
    QS_BY_TYPE(n->x.type, {
        const int N = 16 / sizeof(T);
        if (qs_cuda_packs(&n->x, N) && qs_cuda_packs(&n->y, N))
            QS_LAUNCH(d, (rmsnorm<T, N>), rows, qs_cuda_threads(n->x.cols / N, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(n->y), n->weight, n->weight_type, n->x.cols, n->eps,
                      n->round_last);
        else
            QS_LAUNCH(d, (rmsnorm<T, 1>), rows, qs_cuda_threads(n->x.cols, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(n->y), n->weight, n->weight_type, n->x.cols, n->eps,
                      n->round_last);
    });
}

extern "C" void qs_cuda_rmsnorm_backward(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    unsigned rows = (unsigned)n->x.rows;
    QS_BY_TYPE(n->x.type, {
        const int N = 16 / sizeof(T);
        bool packs = qs_cuda_packs(&n->x, N) && qs_cuda_packs(&dy, N) && qs_cuda_packs(&dx, N) &&
                     (!add.data || qs_cuda_packs(&add, N));
        if (packs)
            QS_LAUNCH(d, (rmsnorm_backward<T, N>), rows, qs_cuda_threads(n->x.cols / N, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(dy), qs_view_of<T>(add), qs_view_of<T>(dx),
                      n->weight, n->weight_type, n->x.cols, n->eps);
        else
            QS_LAUNCH(d, (rmsnorm_backward<T, 1>), rows, qs_cuda_threads(n->x.cols, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(dy), qs_view_of<T>(add), qs_view_of<T>(dx),
                      n->weight, n->weight_type, n->x.cols, n->eps);
    });
}
