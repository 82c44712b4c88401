/* elementwise.cu - sums, conversion, scaling, regrouping of columns, the search for non-finite numbers. */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256 };

template <class T, int N>
static __global__ void __launch_bounds__(THREADS)
    add_rows(qs_view<T> dst, qs_view<T> a, qs_view<T> b, int64_t cols, unsigned row_blocks)
{
    int64_t row = blockIdx.x / row_blocks,
            j = ((int64_t)(blockIdx.x % row_blocks) * blockDim.x + threadIdx.x) * N;
    if (j >= cols) return;
    qs_pack<T, N> x = *(const qs_pack<T, N> *)(a.row(row) + j), y = *(const qs_pack<T, N> *)(b.row(row) + j);
    for (int i = 0; i < N; i++) qs_put(&x.v[i], qs_get(x.v[i]) + qs_get(y.v[i]));
    *(qs_pack<T, N> *)(dst.row(row) + j) = x;
}

template <class T, int N> static void add_by(qs_device *d, qs_mat dst, qs_mat a, qs_mat b)
{
    unsigned threads = qs_cuda_threads(dst.cols / N, THREADS),
             row_blocks = qs_cuda_blocks(dst.cols / N, threads);
    QS_LAUNCH(d, (add_rows<T, N>), (unsigned)dst.rows * row_blocks, threads, 0, qs_view_of<T>(dst),
              qs_view_of<T>(a), qs_view_of<T>(b), dst.cols, row_blocks);
}

extern "C" void qs_cuda_add(qs_device *d, qs_mat dst, qs_mat a, qs_mat b)
{
    QS_BY_TYPE(dst.type, {
        const int N = 16 / sizeof(T);
        if (qs_cuda_packs(&dst, N) && qs_cuda_packs(&a, N) && qs_cuda_packs(&b, N))
            add_by<T, N>(d, dst, a, b);
        else
            add_by<T, 1>(d, dst, a, b);
    });
}

/* N elements per thread; the last thread has fewer where N does not divide n. */
template <class To, class From, int N>
static __global__ void __launch_bounds__(THREADS) convert(To *dst, const From *src, int64_t n)
{
    int64_t i = ((int64_t)blockIdx.x * THREADS + threadIdx.x) * N;
    if (i + N <= n) {
        qs_pack<From, N> in = *(const qs_pack<From, N> *)(src + i);
        qs_pack<To, N> out;
        for (int j = 0; j < N; j++) qs_put(&out.v[j], qs_get(in.v[j]));
        *(qs_pack<To, N> *)(dst + i) = out;
        return;
    }
    for (; i < n; i++) qs_put(dst + i, qs_get(src[i]));
}

template <class To, class From> static void convert_from(qs_device *d, To *dst, const From *src, int64_t n)
{
    enum { N = 4 };
    bool packs = (uintptr_t)dst % (N * sizeof *dst) == 0 && (uintptr_t)src % (N * sizeof *src) == 0;
    if (packs)
        QS_LAUNCH(d, (convert<To, From, N>), qs_cuda_blocks(n, N * THREADS), THREADS, 0, dst, src, n);
    else
        QS_LAUNCH(d, (convert<To, From, 1>), qs_cuda_blocks(n, THREADS), THREADS, 0, dst, src, n);
}

template <class To>
static void convert_to(qs_device *d, To *dst, const void *src, qs_dtype src_type, int64_t n)
{
    QS_BY_TYPE(src_type, convert_from(d, dst, (const T *)src, n));
}

extern "C" void qs_cuda_convert(qs_device *d, void *dst, qs_dtype dst_type, const void *src,
                                qs_dtype src_type, int64_t n)
{
    QS_BY_TYPE(dst_type, convert_to(d, (T *)dst, src, src_type, n));
}

/* Threads that find something set the same bit: the outcome does not depend on who comes first. */
template <class T>
static __global__ void __launch_bounds__(THREADS)
    flag_nonfinite(qs_view<T> x, int64_t cols, unsigned row_blocks, int32_t *flag)
{
    int64_t row = blockIdx.x / row_blocks, j = (int64_t)(blockIdx.x % row_blocks) * blockDim.x + threadIdx.x;
    if (j >= cols) return;
    uint32_t bits = __float_as_uint(qs_get(x.row(row)[j]));
    if ((bits & 0x7f800000u) == 0x7f800000u) atomicOr(flag, 1);
}

extern "C" void qs_cuda_flag_nonfinite(qs_device *d, qs_mat x, int32_t *flag)
{
    unsigned threads = qs_cuda_threads(x.cols, THREADS), row_blocks = qs_cuda_blocks(x.cols, threads);
    QS_BY_TYPE(x.type, QS_LAUNCH(d, flag_nonfinite<T>, (unsigned)x.rows * row_blocks, threads, 0,
                                 qs_view_of<T>(x), x.cols, row_blocks, flag));
}

/* Chunk (g, p) of a row of x becomes chunk (p, g) of y's. */
template <class T, int N>
static __global__ void __launch_bounds__(THREADS) regroup(qs_view<T> x, qs_view<T> y, int groups, int parts,
                                                          int64_t width, int64_t cols, unsigned row_blocks)
{
    int64_t row = blockIdx.x / row_blocks,
            j = ((int64_t)(blockIdx.x % row_blocks) * blockDim.x + threadIdx.x) * N;
    if (j >= cols) return;
    int64_t chunk = j / width, p = chunk / groups, g = chunk % groups;
    *(qs_pack<T, N> *)(y.row(row) + j) =
        *(const qs_pack<T, N> *)(x.row(row) + (g * parts + p) * width + j % width);
}

template <class T, int N>
static void regroup_by(qs_device *d, qs_mat x, int groups, int parts, int64_t width, qs_mat y)
{
    unsigned threads = qs_cuda_threads(x.cols / N, THREADS), row_blocks = qs_cuda_blocks(x.cols / N, threads);
    QS_LAUNCH(d, (regroup<T, N>), (unsigned)x.rows * row_blocks, threads, 0, qs_view_of<T>(x),
              qs_view_of<T>(y), groups, parts, width, x.cols, row_blocks);
}

extern "C" void qs_cuda_regroup(qs_device *d, qs_mat x, int32_t groups, int32_t parts, int64_t width,
                                qs_mat y)
{
    QS_BY_TYPE(x.type, {
        const int N = 16 / sizeof(T);
        if (width % N == 0 && qs_cuda_packs(&x, N) && qs_cuda_packs(&y, N))
            regroup_by<T, N>(d, x, groups, parts, width, y);
        else
            regroup_by<T, 1>(d, x, groups, parts, width, y);
    });
}
