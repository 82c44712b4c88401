/* loss.c - cross entropy over vocabulary tiles: the logits of a row never exist as a whole. One thread per
 * row. */
#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec_math.h"

static float row_max(const float *x, int64_t n)
{
    vf top = vec_all(-INFINITY);
    for (int64_t j = 0; j + VW <= n; j += VW) top = vec_max(vec_load_f32(x + j), top);
    float best = vec_top(top);
    for (int64_t j = n / VW * VW; j < n; j++) best = x[j] > best || isnan(x[j]) ? x[j] : best;
    return best;
}

/* Lanes past the end are exp(-infinity) = 0. */
static float row_sum_exp(const float *x, int64_t n, float max)
{
    vf sum[VR] = {{0}};
    int64_t j = 0;
    for (; j + LANES <= n; j += LANES)
        for (int k = 0; k < VR; k++) sum[k] += vec_exp(vec_load_f32(x + j + k * VW) - max);
    if (j < n) {
        float last[LANES];
        for (int l = 0; l < LANES; l++) last[l] = j + l < n ? x[j + l] - max : -INFINITY;
        for (int k = 0; k < VR; k++) sum[k] += vec_exp(vec_load_f32(last + k * VW));
    }
    return vec16_sum(sum);
}

void QS_CPU(softcap)(qs_device *d, float cap, qs_mat x)
{
    float inverse = 1 / cap;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < x.rows; i++) {
        char *row = qs_mat_row(x, i);
        for (int64_t j = 0; j < x.cols; j += VW)
            vec_store(row, QS_F32, j, x.cols - j,
                      cap * vec_tanh(vec_load(row, QS_F32, j, x.cols - j) * inverse));
    }
}

void QS_CPU(ce_forward)(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s)
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
        float kept = old == -INFINITY ? 0 : s->sum[i] * qs_exp_f32(old - max);
        s->sum[i] = kept + row_sum_exp(x, logits.cols, max);
        s->max[i] = max;
        int64_t target = s->targets[i] - vocab_start;
        if (target >= 0 && target < logits.cols) s->target_logit[i] = x[target];
    }
}

void QS_CPU(ce_loss)(qs_device *d, int64_t rows, const qs_ce_state *s, float *loss)
{
    for (int64_t i = 0; i < rows; i++)
        loss[i] = s->targets[i] < 0 ? 0 : s->max[i] + qs_log_f32(s->sum[i]) - s->target_logit[i];
}

void QS_CPU(ce_backward)(qs_device *d, qs_mat logits, int64_t vocab_start, const qs_ce_state *s, float scale,
                         qs_mat d_logits)
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
        float inverse_cap = s->softcap > 0 ? 1 / s->softcap : 0;
        for (int64_t j = 0; j < cols; j += VW) {
            vf logit = vec_load(x, QS_F32, j, cols - j), g = vec_exp(logit - max) * factor,
               t = logit * inverse_cap;
            vec_store(out, d_logits.type, j, cols - j, inverse_cap > 0 ? g * (1.0f - t * t) : g);
        }
        if (here) { /* softmax - 1 from one rounding of the exponential, not from the stored value */
            float probability = qs_exp_f32(target_logit - max) / s->sum[i], t = target_logit * inverse_cap;
            qs_store_f32(out, d_logits.type, (size_t)target, (probability - 1.0f) * scale * (1.0f - t * t));
        }
    }
}
