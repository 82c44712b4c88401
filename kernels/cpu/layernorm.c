/* layernorm.c - LayerNorm (Ba et al. 2016), forward and backward. One thread per row. */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"

typedef struct moments { float mean, scale; } moments; /* scale: 1 / sqrt(variance + eps) */

/* Differences to the mean of columns j.. of a row; lanes past its end are zero, so that they count in no sum. */
VEC v16 centred(const char *x, qs_dtype type, int64_t j, int64_t left, float mean)
{
    v16 v = v16_load(x, type, j, left) - mean;
    for (int64_t l = left; l < V16; l++) v[l] = 0;
    return v;
}

/* Two passes: a sum of squares from which the mean's is taken would lose the variance of a row far from zero. */
static moments moments_of(const char *x, qs_dtype type, int64_t cols, float eps)
{
    v16 sum[2] = {{0}, {0}}, squares[2] = {{0}, {0}};
    for (int64_t j = 0; j < cols; j += V16) sum[j / V16 & 1] += v16_load(x, type, j, cols - j);
    float mean = v16_sum(sum[0] + sum[1]) / (float)cols;
    for (int64_t j = 0; j < cols; j += V16) {
        v16 v = centred(x, type, j, cols - j, mean);
        squares[j / V16 & 1] += v * v;
    }
    return (moments){mean, 1.0f / sqrtf(v16_sum(squares[0] + squares[1]) / (float)cols + eps)};
}

void qs_cpu_layernorm(qs_device *d, const qs_layernorm *n)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i);
        char *y = qs_mat_row(n->y, i);
        moments m = moments_of(x, type, cols, n->eps);
        for (int64_t j = 0; j < cols; j += V16) {
            v16 normed = (v16_load(x, type, j, cols - j) - m.mean) * m.scale;
            v16_store(y, type, j, cols - j, normed * v16_load(n->weight, weight_type, j, cols - j) + v16_load(n->bias, weight_type, j, cols - j));
        }
    }
}

/* With h = dy * weight, s = 1 / sqrt(variance + eps) and z = (x - mean) s:  dx = s (h - mean(h) - z mean(h z)). */
void qs_cpu_layernorm_backward(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i), *g = qs_mat_row(dy, i), *more = add.data ? qs_mat_row(add, i) : NULL;
        char *out = qs_mat_row(dx, i);
        moments m = moments_of(x, type, cols, n->eps);
        v16 sum = {0}, dot = {0};
        for (int64_t j = 0; j < cols; j += V16) {
            v16 h = v16_load(g, type, j, cols - j) * v16_load(n->weight, weight_type, j, cols - j);
            sum += h;
            dot = v16_fma(h, centred(x, type, j, cols - j, m.mean), dot);
        }
        float along_one = v16_sum(sum) / (float)cols, along_z = v16_sum(dot) / (float)cols * m.scale * m.scale;
        for (int64_t j = 0; j < cols; j += V16) {
            v16 h = v16_load(g, type, j, cols - j) * v16_load(n->weight, weight_type, j, cols - j);
            v16 v = (h - along_one - (v16_load(x, type, j, cols - j) - m.mean) * along_z) * m.scale;
            if (more) v += v16_load(more, type, j, cols - j);
            v16_store(out, type, j, cols - j, v);
        }
    }
}
