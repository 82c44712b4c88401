/* norm.c - RMSNorm (Zhang & Sennrich 2019), forward and backward. One thread per row. */
#include <math.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

/* 1 / sqrt(mean(x^2) + eps) of a row. Two sums of 16 lanes, for even and odd steps. */
static float reciprocal_rms(const char *x, qs_dtype type, int64_t cols, float eps)
{
    vf sum[2 * VR] = {{0}}, total[VR];
    for (int64_t j = 0; j < cols; j += 2 * LANES)
        for (int k = 0; k < 2 * VR; k++) {
            vf v = vec_load(x, type, j + k * VW, cols - j - k * VW);
            sum[k] += v * v;
        }
    for (int k = 0; k < VR; k++) total[k] = sum[k] + sum[VR + k];
    return 1.0f / sqrtf(vec16_sum(total) / (float)cols + eps);
}

void QS_CPU(rmsnorm)(qs_device *d, const qs_rmsnorm *n)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i);
        char *y = qs_mat_row(n->y, i);
        float r = reciprocal_rms(x, type, cols, n->eps);
        for (int64_t j = 0; j < cols; j += VW) {
            vf normed = vec_load(x, type, j, cols - j) * r;
            if (!n->round_last) normed = vec_round(normed, type);
            vec_store(y, type, j, cols - j, normed * vec_load(n->weight, weight_type, j, cols - j));
        }
    }
}

/* With h = dy * weight and r = 1/rms:  dx = r h - x r^3 mean(h x). */
void QS_CPU(rmsnorm_backward)(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i), *g = qs_mat_row(dy, i),
                   *more = add.data ? qs_mat_row(add, i) : NULL;
        char *out = qs_mat_row(dx, i);
        float r = reciprocal_rms(x, type, cols, n->eps);
        vf dot[VR] = {{0}};
        for (int64_t j = 0; j < cols; j += LANES)
            for (int k = 0; k < VR; k++) {
                int64_t at = j + k * VW, left = cols - at;
                vf h = vec_load(g, type, at, left) * vec_load(n->weight, weight_type, at, left);
                dot[k] = vec_fma(h, vec_load(x, type, at, left), dot[k]);
            }
        float along_x = vec16_sum(dot) / (float)cols * r * r * r;
        for (int64_t j = 0; j < cols; j += VW) {
            vf h = vec_load(g, type, j, cols - j) * vec_load(n->weight, weight_type, j, cols - j);
            vf v = h * r - vec_load(x, type, j, cols - j) * along_x;
            if (more) v += vec_load(more, type, j, cols - j);
            vec_store(out, type, j, cols - j, v);
        }
    }
}
