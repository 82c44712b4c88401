/* norm.c - RMSNorm (Zhang & Sennrich 2019), forward and backward. One thread per row. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

/* 1 / sqrt(mean(x^2) + eps) of a row. */
static float reciprocal_rms(const char *x, qs_dtype type, int64_t cols, float eps)
{
    v16 sum[2] = {{0}, {0}};
    for (int64_t j = 0; j < cols; j += V16) {
        v16 v = v16_load(x, type, j, cols - j);
        sum[j / V16 & 1] += v * v;
    }
    return 1.0f / sqrtf(v16_sum(sum[0] + sum[1]) / (float)cols + eps);
}

VEC v16 round_to(v16 v, qs_dtype type)
{
    if (type == QS_BF16) return v16_of_bf16(v16_to_bf16(v));
    if (type == QS_F16) return v16_of_f16(v16_to_f16(v));
    return v;
}

void qs_cpu_rmsnorm(qs_device *d, const qs_rmsnorm *n)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i);
        char *y = qs_mat_row(n->y, i);
        float r = reciprocal_rms(x, type, cols, n->eps);
        for (int64_t j = 0; j < cols; j += V16) {
            v16 normed = round_to(v16_load(x, type, j, cols - j) * r, type);
            v16_store(y, type, j, cols - j, normed * v16_load(n->weight, weight_type, j, cols - j));
        }
    }
}

/* With h = dy * weight and r = 1/rms:  dx = r h - x r^3 mean(h x). */
void qs_cpu_rmsnorm_backward(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i), *g = qs_mat_row(dy, i), *more = add.data ? qs_mat_row(add, i) : NULL;
        char *out = qs_mat_row(dx, i);
        float r = reciprocal_rms(x, type, cols, n->eps);
        v16 dot = {0};
        for (int64_t j = 0; j < cols; j += V16) {
            v16 h = v16_load(g, type, j, cols - j) * v16_load(n->weight, weight_type, j, cols - j);
            dot = v16_fma(h, v16_load(x, type, j, cols - j), dot);
        }
        float along_x = v16_sum(dot) / (float)cols * r * r * r;
        for (int64_t j = 0; j < cols; j += V16) {
            v16 h = v16_load(g, type, j, cols - j) * v16_load(n->weight, weight_type, j, cols - j);
            v16 v = h * r - v16_load(x, type, j, cols - j) * along_x;
            if (more) v += v16_load(more, type, j, cols - j);
            v16_store(out, type, j, cols - j, v);
        }
    }
}
