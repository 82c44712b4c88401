/* layernorm.c - LayerNorm (Ba et al. 2016), forward and backward. One thread per row. */
#include <math.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

typedef struct moments {
    float mean, scale;
} moments; /* scale: 1 / sqrt(variance + eps) */

/* Differences to the mean of columns j.. of a row; lanes past its end are zero, so that they count in no sum.
 */
VEC vf centred(const char *x, qs_dtype type, int64_t j, int64_t left, float mean)
{
    vf v = vec_load(x, type, j, left) - mean;
    if (__builtin_expect(left >= VW, 1)) return v;
    return vec_select(vec_lanes() < (int32_t)left, v, vec_all(0));
}

/* Two sums of 16 lanes each, for even and odd steps. */
VEC float sum_of_both(const vf sum[2 * VR])
{
    vf total[VR];
    for (int k = 0; k < VR; k++) total[k] = sum[k] + sum[VR + k];
    return vec16_sum(total);
}

/* Two passes: a sum of squares from which the mean's is taken would lose the variance of a row far from zero.
 */
static moments moments_of(const char *x, qs_dtype type, int64_t cols, float eps)
{
    vf sum[2 * VR] = {{0}}, squares[2 * VR] = {{0}};
    for (int64_t j = 0; j < cols; j += 2 * LANES)
        for (int k = 0; k < 2 * VR; k++) sum[k] += vec_load(x, type, j + k * VW, cols - j - k * VW);
    float mean = sum_of_both(sum) / (float)cols;
    for (int64_t j = 0; j < cols; j += 2 * LANES)
        for (int k = 0; k < 2 * VR; k++) {
            vf v = centred(x, type, j + k * VW, cols - j - k * VW, mean);
            squares[k] += v * v;
        }
    return (moments){mean, 1.0f / sqrtf(sum_of_both(squares) / (float)cols + eps)};
}

void QS_CPU(layernorm)(qs_device *d, const qs_layernorm *n)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i);
        char *y = qs_mat_row(n->y, i);
        moments m = moments_of(x, type, cols, n->eps);
        for (int64_t j = 0; j < cols; j += VW) {
            vf normed = (vec_load(x, type, j, cols - j) - m.mean) * m.scale;
            vec_store(y, type, j, cols - j,
                      normed * vec_load(n->weight, weight_type, j, cols - j) +
                          vec_load(n->bias, weight_type, j, cols - j));
        }
    }
}

/* With h = dy * weight, s = 1 / sqrt(variance + eps) and z = (x - mean) s:  dx = s (h - mean(h) - z mean(h
 * z)). */
void QS_CPU(layernorm_backward)(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    qs_dtype type = n->x.type, weight_type = n->weight_type;
    int64_t cols = n->x.cols;
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) {
        const char *x = qs_mat_row(n->x, i), *g = qs_mat_row(dy, i),
                   *more = add.data ? qs_mat_row(add, i) : NULL;
        char *out = qs_mat_row(dx, i);
        moments m = moments_of(x, type, cols, n->eps);
        vf sum[VR] = {{0}}, dot[VR] = {{0}};
        for (int64_t j = 0; j < cols; j += LANES)
            for (int k = 0; k < VR; k++) {
                int64_t at = j + k * VW, left = cols - at;
                vf h = vec_load(g, type, at, left) * vec_load(n->weight, weight_type, at, left);
                sum[k] += h;
                dot[k] = vec_fma(h, centred(x, type, at, left, m.mean), dot[k]);
            }
        float along_one = vec16_sum(sum) / (float)cols,
              along_z = vec16_sum(dot) / (float)cols * m.scale * m.scale;
        for (int64_t j = 0; j < cols; j += VW) {
            vf h = vec_load(g, type, j, cols - j) * vec_load(n->weight, weight_type, j, cols - j);
            vf v = (h - along_one - (vec_load(x, type, j, cols - j) - m.mean) * along_z) * m.scale;
            if (more) v += vec_load(more, type, j, cols - j);
            vec_store(out, type, j, cols - j, v);
        }
    }
}
