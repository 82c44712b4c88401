/* norm_rope.c - q and k of a token normed and rotated while they are in the cache. */
#include "kernels/cpu/rows.h"

/* One token's q, or its k. */
typedef struct stretch {
    size_t at; /* bytes from the token's first column */
    int32_t heads;
    const float *cos, *sin;
    norm_row norm;
} stretch;

static stretch stretch_of(const qs_norm_rope *n, bool k, int64_t token)
{
    size_t head_bytes = (size_t)n->head_dim * qs_dtype_bytes(n->x.type);
    int32_t heads = k ? n->kv_heads : n->heads;
    int64_t row = n->rotary_dim ? (int64_t)n->positions[token] * (n->rotary_dim / 2) : 0;
    stretch s = {.at = k ? (size_t)n->heads * head_bytes : 0, .heads = heads};
    s.norm = (norm_row){.type = n->x.type,
                        .weight_type = QS_F32,
                        .cols = n->whole ? (int64_t)heads * n->head_dim : n->head_dim,
                        .weight = k ? n->k_weight : n->q_weight,
                        .eps = n->eps,
                        .round_last = n->round_last};
    if (!n->rotary_dim) return s;
    s.cos = (k ? n->k_cos : n->q_cos) + row;
    s.sin = (k ? n->k_sin : n->q_sin) + row;
    return s;
}

static void rotate(const qs_norm_rope *n, const stretch *s, char *row, float direction)
{
    size_t head_bytes = (size_t)n->head_dim * qs_dtype_bytes(n->x.type);
    if (!n->rotary_dim) return;
    for (int32_t h = 0; h < s->heads; h++)
        rotate_head(row + (size_t)h * head_bytes, n->x.type, n->rotary_dim / 2, s->cos, s->sin, direction);
}

void QS_CPU(norm_rope)(qs_device *d, const qs_norm_rope *n)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++)
        for (int k = 0; k < 2; k++) {
            stretch s = stretch_of(n, k, i);
            size_t bytes = (size_t)s.norm.cols * qs_dtype_bytes(n->x.type);
            const char *x = qs_mat_row(n->x, i) + s.at;
            char *y = qs_mat_row(n->y, i) + s.at;
            for (int32_t p = 0; p < (n->whole ? 1 : s.heads); p++)
                norm_row_forward(&s.norm, x + (size_t)p * bytes, y + (size_t)p * bytes);
            rotate(n, &s, y, 1);
        }
}

void QS_CPU(norm_rope_backward)(qs_device *d, const qs_norm_rope *n, qs_mat g)
{
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++)
        for (int k = 0; k < 2; k++) {
            stretch s = stretch_of(n, k, i);
            size_t bytes = (size_t)s.norm.cols * qs_dtype_bytes(n->x.type);
            const char *x = qs_mat_row(n->x, i) + s.at;
            char *dy = qs_mat_row(g, i) + s.at;
            rotate(n, &s, dy, -1);
            for (int32_t p = 0; p < (n->whole ? 1 : s.heads); p++) {
                char *at = dy + (size_t)p * bytes;
                norm_row_backward(&s.norm, x + (size_t)p * bytes, at, NULL, at);
            }
        }
}
