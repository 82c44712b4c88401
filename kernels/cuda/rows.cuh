/* rows.cuh - the norm and the rotation of one row by one thread block: norm.cu, rope.cu and norm_rope.cu are
 * made of them. */
#ifndef QS_KERNELS_CUDA_ROWS_CUH
#define QS_KERNELS_CUDA_ROWS_CUH

#include "kernels/cuda/reduce.cuh"

/* A row's RMSNorm. */
struct norm_row {
    const void *weight;
    qs_dtype weight_type;
    int64_t cols;
    float eps;
    bool round_last;
};

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
static __device__ void norm_row_forward(norm_row n, const T *in, T *out, float *scratch)
{
    float r = reciprocal_rms<T, N>(in, n.cols, n.eps, scratch);
    for (int64_t j = threadIdx.x * N; j < n.cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j);
        for (int i = 0; i < N; i++) {
            float normed = qs_get(v.v[i]) * r;
            qs_put(&v.v[i], (n.round_last ? normed : qs_rounded<T>(normed)) *
                                qs_get_as(n.weight, n.weight_type, j + i));
        }
        *(qs_pack<T, N> *)(out + j) = v;
    }
}

/* With h = gradient * weight and r = 1/rms:  out = r h - x r^3 mean(h x) [+ add]. add NULL: nothing. */
template <class T, int N>
static __device__ void norm_row_backward(norm_row n, const T *in, const T *gradient, const T *add, T *out,
                                         float *scratch)
{
    float r = reciprocal_rms<T, N>(in, n.cols, n.eps, scratch), dot = 0;
    for (int64_t j = threadIdx.x * N; j < n.cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j), g = *(const qs_pack<T, N> *)(gradient + j);
        for (int i = 0; i < N; i++)
            dot = fmaf(qs_get(g.v[i]) * qs_get_as(n.weight, n.weight_type, j + i), qs_get(v.v[i]), dot);
    }
    float along_x = qs_block_reduce<qs_sum>(dot, scratch) / (float)n.cols * r * r * r;
    for (int64_t j = threadIdx.x * N; j < n.cols; j += blockDim.x * N) {
        qs_pack<T, N> v = *(const qs_pack<T, N> *)(in + j), g = *(const qs_pack<T, N> *)(gradient + j),
                      more = {};
        if (add) more = *(const qs_pack<T, N> *)(add + j);
        for (int i = 0; i < N; i++) {
            float value =
                qs_get(g.v[i]) * qs_get_as(n.weight, n.weight_type, j + i) * r - qs_get(v.v[i]) * along_x;
            qs_put(&v.v[i], add ? value + qs_get(more.v[i]) : value);
        }
        *(qs_pack<T, N> *)(out + j) = v;
    }
}

/* Which columns of a head rotate: pairs (j, j + half). */
struct rotation {
    int heads, head_dim, half;
    float direction; /* -1: back */
};

/* One token's heads, in place, N neighbouring pairs per thread at a time; cos, sin: its rows of the tables.
 */
template <class T, int N>
static __device__ void rotate_row(rotation r, T *token, const float *cos, const float *sin)
{
    for (int pair = threadIdx.x * N; pair < r.heads * r.half; pair += blockDim.x * N) {
        int j = pair % r.half;
        qs_pack<T, N> *low = (qs_pack<T, N> *)(token + (int64_t)(pair / r.half) * r.head_dim + j),
                      *high = (qs_pack<T, N> *)((T *)low + r.half), a = *low, b = *high;
        qs_pack<float, N> c = *(const qs_pack<float, N> *)(cos + j),
                          s = *(const qs_pack<float, N> *)(sin + j);
        for (int i = 0; i < N; i++) {
            float u = qs_get(a.v[i]), v = qs_get(b.v[i]), turn = s.v[i] * r.direction;
            qs_put(&a.v[i], u * c.v[i] - v * turn);
            qs_put(&b.v[i], v * c.v[i] + u * turn);
        }
        *low = a;
        *high = b;
    }
}

#endif
