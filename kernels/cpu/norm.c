/* norm.c - RMSNorm (Zhang & Sennrich 2019), forward and backward. One thread per row. */
#include "kernels/cpu/rows.h"

static norm_row row_of(const qs_rmsnorm *n)
{
    return (norm_row){.type = n->x.type,
                      .weight_type = n->weight_type,
                      .cols = n->x.cols,
                      .weight = n->weight,
                      .eps = n->eps,
                      .round_last = n->round_last};
}

void QS_CPU(rmsnorm)(qs_device *d, const qs_rmsnorm *n)
{
    norm_row row = row_of(n);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++) norm_row_forward(&row, qs_mat_row(n->x, i), qs_mat_row(n->y, i));
}

void QS_CPU(rmsnorm_backward)(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    norm_row row = row_of(n);
#pragma omp parallel for schedule(static)
    for (int64_t i = 0; i < n->x.rows; i++)
        norm_row_backward(&row, qs_mat_row(n->x, i), qs_mat_row(dy, i), add.data ? qs_mat_row(add, i) : NULL,
                          qs_mat_row(dx, i));
}
