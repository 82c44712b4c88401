/* rows.h - the norm and the rotation of one row: norm.c, rope.c and norm_rope.c are made of them, and so have
 * the same bits. */
#ifndef QS_KERNELS_CPU_ROWS_H
#define QS_KERNELS_CPU_ROWS_H

#include <math.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"

/* A row's RMSNorm. */
typedef struct norm_row {
    qs_dtype type, weight_type;
    int64_t cols;
    const void *weight;
    float eps;
    bool round_last;
} norm_row;

/* 1 / sqrt(mean(x^2) + eps) of a row. Two sums of 16 lanes, for even and odd steps. */
static inline float reciprocal_rms(const char *x, qs_dtype type, int64_t cols, float eps)
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

static inline void norm_row_forward(const norm_row *n, const char *x, char *y)
{
    float r = reciprocal_rms(x, n->type, n->cols, n->eps);
    for (int64_t j = 0; j < n->cols; j += VW) {
        vf normed = vec_load(x, n->type, j, n->cols - j) * r;
        if (!n->round_last) normed = vec_round(normed, n->type);
        vec_store(y, n->type, j, n->cols - j, normed * vec_load(n->weight, n->weight_type, j, n->cols - j));
    }
}

/* With h = g * weight and r = 1/rms:  out = r h - x r^3 mean(h x) [+ more]. more: NULL: nothing; out may be
 * any of them. */
static inline void norm_row_backward(const norm_row *n, const char *x, const char *g, const char *more,
                                     char *out)
{
    qs_dtype type = n->type, weight_type = n->weight_type;
    int64_t cols = n->cols;
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

/* Pairs (j, j + half) of a head, in place. direction -1: back. */
static inline void rotate_head(char *head, qs_dtype type, int64_t half, const float *cos, const float *sin,
                               float direction)
{
    char *upper = head + (size_t)half * qs_dtype_bytes(type);
    for (int64_t j = 0; j < half; j += VW) {
        vf c = vec_load(cos, QS_F32, j, half - j), s = vec_load(sin, QS_F32, j, half - j) * direction;
        vf a = vec_load(head, type, j, half - j), b = vec_load(upper, type, j, half - j);
        vec_store(head, type, j, half - j, a * c - b * s);
        vec_store(upper, type, j, half - j, b * c + a * s);
    }
}

#endif
