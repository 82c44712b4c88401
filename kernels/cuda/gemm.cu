/* gemm.cu - matrix products, by cuBLAS. fp32 accumulation, no reduced-precision reductions (set at open),
 * fp32 kept out of TF32.
 *
 * cuBLAS is column-major, and a row-major matrix is the transpose of a column-major one, so c = a b is asked
 * for as c' = b' a'. */
#include "kernels/cuda/common.cuh"
#include "kernels/cuda/libraries.h"

enum { BIAS_THREADS = 256 };

/* c = bias [+ c] in every row: the product is then added to it. */
template <class T>
static __global__ void __launch_bounds__(BIAS_THREADS)
    set_bias(qs_view<T> c, int64_t cols, bool keep, const void *bias, qs_dtype bias_type)
{
    T *row = c.row(blockIdx.x);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x)
        qs_put(row + j, (keep ? qs_get(row[j]) : 0.0f) + qs_get_as(bias, bias_type, j));
}

/* c = product + bias [+ c], the product being in fp32. */
template <class T>
static __global__ void __launch_bounds__(BIAS_THREADS)
    add_bias(qs_view<T> c, int64_t cols, const float *product, bool keep, const void *bias,
             qs_dtype bias_type)
{
    T *row = c.row(blockIdx.x);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        float value = product[blockIdx.x * cols + j] + (keep ? qs_get(row[j]) : 0.0f);
        qs_put(row + j, value + qs_get_as(bias, bias_type, j));
    }
}

/* Whether c cannot hold what the product is added to, c and bias both, so that the sum would be rounded
 * twice. A bias alone is put into c first: it is rounded to c's type, which the biases of models of that type
 * already are. */
static bool needs_product(const qs_gemm *g) { return g->bias && g->beta != 0 && g->c.type != QS_F32; }

static cudaDataType data_type(qs_dtype t)
{
    return t == QS_BF16 ? CUDA_R_16BF : t == QS_F16 ? CUDA_R_16F : CUDA_R_32F;
}

static void multiply(qs_device *d, const qs_gemm *g, qs_mat c, float beta)
{
    int m = (int)c.rows, n = (int)c.cols, k = (int)(g->transpose_a ? g->a.rows : g->a.cols);
    float alpha = g->alpha;
    if (!qs_cuda_ready(d)) return;
    cublasStatus_t status = qs_cublas.gemm_ex(
        qs_cuda_of(d)->blas, g->transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N,
        g->transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N, n, m, k, &alpha, g->b.data, data_type(g->b.type),
        (int)g->b.stride, g->a.data, data_type(g->a.type), (int)g->a.stride, &beta, c.data, data_type(c.type),
        (int)c.stride, g->a.type == QS_F32 ? CUBLAS_COMPUTE_32F_PEDANTIC : CUBLAS_COMPUTE_32F,
        CUBLAS_GEMM_DEFAULT);
    qs_cuda_note_blas(d, status, "cublasGemmEx");
}

extern "C" void qs_cuda_gemm(qs_device *d, const qs_gemm *g)
{
    unsigned rows = (unsigned)g->c.rows;
    if (needs_product(g)) {
        QS_ASSERT(d->workspace_bytes >= qs_cuda_gemm_workspace_bytes(d, g));
        float *product = (float *)d->workspace;
        multiply(d, g, qs_mat_of(product, QS_F32, g->c.rows, g->c.cols), 0);
        QS_BY_TYPE(g->c.type,
                   QS_LAUNCH(d, add_bias<T>, rows, qs_cuda_threads(g->c.cols, BIAS_THREADS), 0,
                             qs_view_of<T>(g->c), g->c.cols, product, g->beta != 0, g->bias, g->bias_type));
    } else if (g->bias) {
        QS_BY_TYPE(g->c.type, QS_LAUNCH(d, set_bias<T>, rows, qs_cuda_threads(g->c.cols, BIAS_THREADS), 0,
                                        qs_view_of<T>(g->c), g->c.cols, g->beta != 0, g->bias, g->bias_type));
        multiply(d, g, g->c, 1);
    } else {
        multiply(d, g, g->c, g->beta);
    }
}

/* cuBLAS has a workspace of its own, given to it at open. */
extern "C" size_t qs_cuda_gemm_workspace_bytes(qs_device *d, const qs_gemm *g)
{
    return needs_product(g) ? (size_t)g->c.rows * (size_t)g->c.cols * sizeof(float) : 0;
}
