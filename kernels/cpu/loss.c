/* loss.c - cross entropy over vocabulary tiles: the logits of a row never exist as a whole. One thread per row. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

static float row_max(const float *x, int64_t n)
{
    v16 top = v16_all(-INFINITY);
    for (int64_t j = 0; j + V16 <= n; j += V16) top = v16_max(v16_load_f32(x + j), top);
    float best = v16_top(top);
    for (int64_t j = n / V16 * V16; j < n; j++) best = x[j] > best || isnan(x[j]) ? x[j] : best;
    return best;
}

static float row_sum_exp(const float *x, int64_t n, float max)
{
    v16 sum = {0};
    int64_t j = 0;
    for (; j + V16 <= n; j += V16) sum += v16_exp(v16_load_f32(x + j) - max);
    if (j < n) {
        float last[V16];
        for (int l = 0; l < V16; l++) last[l] = j + l < n ? x[j + l] - max : -INFINITY;
        sum += v16_exp(v16_load_f32(last));
    }
    return v16_sum(sum);
}

void qs_cpu_ce_forward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < logits.rows; i++) {
        if (vocab_start == 0) {
            s->max[i] = -INFINITY;
            s->sum[i] = 0;
            s->target_logit[i] = 0;
        }
        if (s->targets[i] < 0) continue;
        const float *x = (const float *)qs_mat_row(logits, i);
        float tile = row_max(x, logits.cols), old = s->max[i], max = tile > old || isnan(tile) ? tile : old;
        float kept = old == -INFINITY ? 0 : s->sum[i] * expf(old - max);
        s->sum[i] = kept + row_sum_exp(x, logits.cols, max);
        s->max[i] = max;
        int64_t target = s->targets[i] - vocab_start;
        if (target >= 0 && target < logits.cols) s->target_logit[i] = x[target];
    }
}

void qs_cpu_ce_loss(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss)
{
    for (int64_t i = 0; i < rows; i++)
        loss[i] = s->targets[i] < 0 ? 0 : s->max[i] + logf(s->sum[i]) - s->target_logit[i];
}

void qs_cpu_ce_backward(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s, float scale, qs_mat d_logits)
{
    int64_t cols = logits.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < logits.rows; i++) {
        const float *x = (const float *)qs_mat_row(logits, i);
        char *out = qs_mat_row(d_logits, i);
        if (s->targets[i] < 0) {
            memset(out, 0, (size_t)cols * qs_dtype_bytes(d_logits.type));
            continue;
        }
        int64_t target = s->targets[i] - vocab_start;
        bool here = target >= 0 && target < cols;
        float max = s->max[i], factor = scale / s->sum[i], target_logit = here ? x[target] : 0;
        for (int64_t j = 0; j < cols; j += V16)
            v16_store(out, d_logits.type, j, cols - j, v16_exp(v16_load(x, QS_F32, j, cols - j) - max) * factor);
        if (here) { /* softmax - 1 from one rounding of the exponential, not from the stored value */
            float probability = expf(target_logit - max) / s->sum[i];
            qs_store_f32(out, d_logits.type, (size_t)target, (probability - 1.0f) * scale);
        }
    }
}
