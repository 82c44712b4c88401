/* layernorm.cu - LayerNorm (Ba et al. 2016), forward and backward; formulas as in kernels/cpu/layernorm.c.
 * One thread block per row. */
#include "kernels/cuda/reduce.cuh"

enum { NORM_THREADS = 256 };

struct moments {
    float mean, scale;
};

/* The mean of a row and 1 / sqrt(variance + eps). */
template <class T, int N>
static __device__ moments moments_of(const T *x, int64_t cols, float eps, float *scratch)
{
    float sum = 0, squares = 0;
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(x + j);
        for (int i = 0; i < N; i++) sum += qs_get(v.v[i]);
    }
    float mean = qs_block_reduce<qs_sum>(sum, scratch) / (float)cols;
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(x + j);
        for (int i = 0; i < N; i++) squares = fmaf(qs_get(v.v[i]) - mean, qs_get(v.v[i]) - mean, squares);
    }
    squares = qs_block_reduce<qs_sum>(squares, scratch);
    return {mean, 1.0f / sqrtf(squares / (float)cols + eps)};
}

template <class T, int N>
static __global__ void __launch_bounds__(NORM_THREADS)
    layernorm(qs_view<T> x, qs_view<T> y, const void *weight, const void *bias, qs_dtype weight_type,
              int64_t cols, float eps)
{
    __shared__ float scratch[32];
    const T *in = x.row(blockIdx.x);
    T *out = y.row(blockIdx.x);
    moments m = moments_of<T, N>(in, cols, eps, scratch);
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j);
        for (int i = 0; i < N; i++)
            qs_put(&v.v[i], (qs_get(v.v[i]) - m.mean) * m.scale * qs_get_as(weight, weight_type, j + i) +
                                qs_get_as(bias, weight_type, j + i));
        *(qs_pack<T, N> *)(out + j) = v;
    }
}

template <class T, int N>
static __global__ void __launch_bounds__(NORM_THREADS)
    layernorm_backward(qs_view<T> x, qs_view<T> dy, qs_view<T> add, qs_view<T> dx, const void *weight,
                       qs_dtype weight_type, int64_t cols, float eps)
{
    __shared__ float scratch[32];
    const T *in = x.row(blockIdx.x), *gradient = dy.row(blockIdx.x);
    T *out = dx.row(blockIdx.x);
    moments m = moments_of<T, N>(in, cols, eps, scratch);
    float sum = 0, dot = 0;
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j), g = *(const qs_pack<T, N> *)(gradient + j);
        for (int i = 0; i < N; i++) {
            float h = qs_get(g.v[i]) * qs_get_as(weight, weight_type, j + i);
            sum += h;
            dot = fmaf(h, qs_get(v.v[i]) - m.mean, dot);
        }
    }
    float along_one = qs_block_reduce<qs_sum>(sum, scratch) / (float)cols;
    float along_z = qs_block_reduce<qs_sum>(dot, scratch) / (float)cols * m.scale * m.scale;
    for (int64_t j = threadIdx.x * N; j < cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j), g = *(const qs_pack<T, N> *)(gradient + j),
                      more = {};
        if (add.data) more = *(const qs_pack<T, N> *)(add.row(blockIdx.x) + j);
        for (int i = 0; i < N; i++) {
            float h = qs_get(g.v[i]) * qs_get_as(weight, weight_type, j + i);
            float value = (h - along_one - (qs_get(v.v[i]) - m.mean) * along_z) * m.scale;
            qs_put(&v.v[i], add.data ? value + qs_get(more.v[i]) : value);
        }
        *(qs_pack<T, N> *)(out + j) = v;
    }
}

extern "C" void qs_cuda_layernorm(qs_device *d, const qs_layernorm *n)
{
    unsigned rows = (unsigned)n->x.rows;
    QS_BY_TYPE(n->x.type, {
        const int N = 16 / sizeof(T);
        if (qs_cuda_packs(&n->x, N) && qs_cuda_packs(&n->y, N))
            QS_LAUNCH(d, (layernorm<T, N>), rows, qs_cuda_threads(n->x.cols / N, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(n->y), n->weight, n->bias, n->weight_type, n->x.cols,
                      n->eps);
        else
            QS_LAUNCH(d, (layernorm<T, 1>), rows, qs_cuda_threads(n->x.cols, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(n->y), n->weight, n->bias, n->weight_type, n->x.cols,
                      n->eps);
    });
}

extern "C" void qs_cuda_layernorm_backward(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add,
                                           qs_mat dx)
{
    unsigned rows = (unsigned)n->x.rows;
    QS_BY_TYPE(n->x.type, {
        const int N = 16 / sizeof(T);
        bool packs = qs_cuda_packs(&n->x, N) && qs_cuda_packs(&dy, N) && qs_cuda_packs(&dx, N) &&
                     (!add.data || qs_cuda_packs(&add, N));
        if (packs)
            QS_LAUNCH(d, (layernorm_backward<T, N>), rows, qs_cuda_threads(n->x.cols / N, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(dy), qs_view_of<T>(add), qs_view_of<T>(dx),
                      n->weight, n->weight_type, n->x.cols, n->eps);
        else
            QS_LAUNCH(d, (layernorm_backward<T, 1>), rows, qs_cuda_threads(n->x.cols, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(dy), qs_view_of<T>(add), qs_view_of<T>(dx),
                      n->weight, n->weight_type, n->x.cols, n->eps);
    });
}
