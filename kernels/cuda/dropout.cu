/* dropout.cu - dropout whose mask is a pure function of (seed, stream, element): the same bits as on the CPU.
 */
#include "kernels/cuda/common.cuh"

enum { THREADS = 256, ELEMENTS = 4 /* per thread: one Philox block has four words */ };

template <class T>
static __global__ void __launch_bounds__(THREADS)
    dropout(qs_dropout o, qs_view<T> x, qs_view<T> y, int64_t cols, unsigned row_blocks, float factor,
            bool add)
{
    int64_t row = blockIdx.x / row_blocks,
            first = ((int64_t)(blockIdx.x % row_blocks) * blockDim.x + threadIdx.x) * ELEMENTS;
    const T *in = x.row(row);
    T *out = y.row(row);
    uint64_t have = ~0ull; /* the Philox block in `words` */
    qs_philox_block words = {};
    for (int64_t j = first; j < first + ELEMENTS && j < cols; j++) {
        uint64_t element = (uint64_t)(o.first_row + row) * (uint64_t)cols + (uint64_t)j;
        if (element >> 2 != have) words = qs_random_block(o.seed, o.stream, have = element >> 2);
        float value = qs_uniform_f32(words.v[element & 3]) >= o.p ? qs_get(in[j]) * factor : 0.0f;
        qs_put(out + j, add ? qs_get(out[j]) + value : value);
    }
}

extern "C" void qs_cuda_dropout(qs_device *d, const qs_dropout *o, qs_mat x, qs_mat y, bool add)
{
    int64_t groups = (x.cols + ELEMENTS - 1) / ELEMENTS;
    unsigned threads = qs_cuda_threads(groups, THREADS), row_blocks = qs_cuda_blocks(groups, threads);
    QS_BY_TYPE(x.type,
               QS_LAUNCH(d, dropout<T>, (unsigned)x.rows * row_blocks, threads, 0, *o, qs_view_of<T>(x),
                         qs_view_of<T>(y), x.cols, row_blocks, 1.0f / (1.0f - o->p), add));
}
