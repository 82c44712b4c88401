/* loss.cu - cross entropy over vocabulary tiles: the logits of a row never exist as a whole. One thread block
 * per row. */
#include "kernels/cuda/reduce.cuh"

enum { CE_THREADS = 512, LOSS_THREADS = 128 };

static __global__ void __launch_bounds__(CE_THREADS) softcap(qs_view<float> x, int64_t cols, float cap)
{
    float *row = x.row(blockIdx.x);
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) row[j] = cap * tanhf(row[j] / cap);
}

extern "C" void qs_cuda_softcap(qs_device *d, float cap, qs_mat x)
{
    QS_LAUNCH(d, softcap, (unsigned)x.rows, qs_cuda_threads(x.cols, CE_THREADS), 0, qs_view_of<float>(x),
              x.cols, cap);
}

static __global__ void __launch_bounds__(CE_THREADS)
    ce_forward(qs_view<float> logits, int64_t cols, int64_t vocab_start, qs_ce_state s)
{
    __shared__ float scratch[32];
    int64_t row = blockIdx.x;
    const float *x = logits.row(row);
    bool anew = vocab_start == 0;
    float old_max = anew ? -INFINITY : s.max[row], old_sum = anew ? 0.0f : s.sum[row];
    if (s.targets[row] < 0) { /* the whole block */
        if (anew && threadIdx.x == 0) s.max[row] = -INFINITY, s.sum[row] = 0, s.target_logit[row] = 0;
        return;
    }
    float top = old_max;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) top = fmaxf(top, x[j]);
    top = qs_block_reduce<qs_max>(top, scratch);
    float sum = 0;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) sum += expf(x[j] - top);
    sum = qs_block_reduce<qs_sum>(sum, scratch);
    if (threadIdx.x) return;
    int64_t target = s.targets[row] - vocab_start;
    s.sum[row] = (old_max == -INFINITY ? 0.0f : old_sum * expf(old_max - top)) + sum;
    s.max[row] = top;
    if (target >= 0 && target < cols)
        s.target_logit[row] = x[target];
    else if (anew)
        s.target_logit[row] = 0;
}

extern "C" void qs_cuda_ce_forward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s)
{
    QS_LAUNCH(d, ce_forward, (unsigned)logits.rows, qs_cuda_threads(logits.cols, CE_THREADS), 0,
              qs_view_of<float>(logits), logits.cols, vocab_start, *s);
}

static __global__ void __launch_bounds__(LOSS_THREADS) ce_loss(int64_t rows, qs_ce_state s, float *loss)
{
    int64_t i = (int64_t)blockIdx.x * LOSS_THREADS + threadIdx.x;
    if (i < rows) loss[i] = s.targets[i] < 0 ? 0.0f : s.max[i] + logf(s.sum[i]) - s.target_logit[i];
}

extern "C" void qs_cuda_ce_loss(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss)
{
    QS_LAUNCH(d, ce_loss, qs_cuda_blocks(rows, LOSS_THREADS), LOSS_THREADS, 0, rows, *s, loss);
}

/* An element is read and written by the same thread, so d_logits may be logits. */
template <class T>
static __global__ void __launch_bounds__(CE_THREADS)
    ce_backward(qs_view<float> logits, int64_t cols, int64_t vocab_start, qs_ce_state s, float scale,
                qs_view<T> d_logits)
{
    int64_t row = blockIdx.x;
    const float *x = logits.row(row);
    T *out = d_logits.row(row);
    bool has_target = s.targets[row] >= 0;
    int64_t target = s.targets[row] - vocab_start;
    float max = s.max[row], sum = s.sum[row], factor = scale / sum;
    for (int64_t j = threadIdx.x; j < cols; j += blockDim.x) {
        float e = has_target ? expf(x[j] - max) : 0.0f;
        float g = !has_target   ? 0.0f
                  : j == target ? (e / sum - 1.0f) * scale
                                : e * factor,
              t = s.softcap > 0.0f ? x[j] / s.softcap : 0.0f;
        qs_put(out + j, g * (1.0f - t * t));
    }
}

extern "C" void qs_cuda_ce_backward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s,
                                    float scale, qs_mat d_logits)
{
    QS_BY_TYPE(d_logits.type,
               QS_LAUNCH(d, ce_backward<T>, (unsigned)logits.rows, qs_cuda_threads(logits.cols, CE_THREADS),
                         0, qs_view_of<float>(logits), logits.cols, vocab_start, *s, scale,
                         qs_view_of<T>(d_logits)));
}
