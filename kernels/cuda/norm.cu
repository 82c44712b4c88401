/* norm.cu - RMSNorm (Zhang & Sennrich 2019), forward and backward. One thread block per row. */
#include "kernels/cuda/rows.cuh"

enum { NORM_THREADS = 256 };

template <class T, int N>
static __global__ void __launch_bounds__(NORM_THREADS) rmsnorm(qs_view<T> x, qs_view<T> y, norm_row n)
{
    __shared__ float scratch[32];
    norm_row_forward<T, N>(n, x.row(blockIdx.x), y.row(blockIdx.x), scratch);
}

template <class T, int N>
static __global__ void __launch_bounds__(NORM_THREADS)
    rmsnorm_backward(qs_view<T> x, qs_view<T> dy, qs_view<T> add, qs_view<T> dx, norm_row n)
{
    __shared__ float scratch[32];
    norm_row_backward<T, N>(n, x.row(blockIdx.x), dy.row(blockIdx.x), add.data ? add.row(blockIdx.x) : NULL,
                            dx.row(blockIdx.x), scratch);
}

static norm_row row_of(const qs_rmsnorm *n)
{
    norm_row r = {n->weight, n->weight_type, n->x.cols, n->eps, n->round_last};
    return r;
}

extern "C" void qs_cuda_rmsnorm(qs_device *d, const qs_rmsnorm *n)
{
    unsigned rows = (unsigned)n->x.rows;
    QS_BY_TYPE(n->x.type, {
        const int N = 16 / sizeof(T);
        if (qs_cuda_packs(&n->x, N) && qs_cuda_packs(&n->y, N))
            QS_LAUNCH(d, (rmsnorm<T, N>), rows, qs_cuda_threads(n->x.cols / N, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(n->y), row_of(n));
        else
            QS_LAUNCH(d, (rmsnorm<T, 1>), rows, qs_cuda_threads(n->x.cols, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(n->y), row_of(n));
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
                      row_of(n));
        else
            QS_LAUNCH(d, (rmsnorm_backward<T, 1>), rows, qs_cuda_threads(n->x.cols, NORM_THREADS), 0,
                      qs_view_of<T>(n->x), qs_view_of<T>(dy), qs_view_of<T>(add), qs_view_of<T>(dx),
                      row_of(n));
    });
}
