/* rope.c - rotary position embedding (Su et al. 2021) in the half-split layout: pairs are (i, i + rotary_dim
 * / 2). */
#include "kernels/cpu/rows.h"

void QS_CPU(rope)(qs_device *d, const qs_rope *r)
{
    int64_t half = r->rotary_dim / 2;
    size_t head_bytes = (size_t)r->head_dim * qs_dtype_bytes(r->x.type);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < r->x.rows; i++) {
        const float *cos = r->cos + r->positions[i] * half, *sin = r->sin + r->positions[i] * half;
        for (int32_t h = 0; h < r->heads; h++)
            rotate_head(qs_mat_row(r->x, i) + (size_t)h * head_bytes, r->x.type, half, cos, sin,
                        r->inverse ? -1.0f : 1.0f);
    }
}
