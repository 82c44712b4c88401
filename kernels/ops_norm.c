/* ops_norm.c - argument checks and dispatch of normalisation and rotary embedding: see ops.c. */
#include "kernels/op_checks.h"

static void check_norm_gradients(qs_device *d, qs_mat x, qs_mat dy, qs_mat add, qs_mat dx)
{
    check_mat(d, dy);
    check_mat(d, dx);
    QS_ASSERT(same_shape(x, dy) && same_shape(x, dx));
    if (!add.data) return;
    check_mat(d, add);
    QS_ASSERT(same_shape(x, add));
}

static void check_rmsnorm(qs_device *d, const qs_rmsnorm *n)
{
    check_mat(d, n->x);
    QS_ASSERT(is_compute(n->weight_type) && n->eps >= 0);
    check_array(d, n->weight, n->weight_type, n->x.cols);
}

void qs_op_rmsnorm(qs_device *d, const qs_rmsnorm *n)
{
    check_rmsnorm(d, n);
    check_mat(d, n->y);
    QS_ASSERT(same_shape(n->x, n->y));
    if (n->x.rows && n->x.cols) d->ops->rmsnorm(d, n);
}

void qs_op_rmsnorm_backward(qs_device *d, const qs_rmsnorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    check_rmsnorm(d, n);
    check_norm_gradients(d, n->x, dy, add, dx);
    if (n->x.rows && n->x.cols) d->ops->rmsnorm_backward(d, n, dy, add, dx);
}

static void check_layernorm(qs_device *d, const qs_layernorm *n)
{
    check_mat(d, n->x);
    QS_ASSERT(is_compute(n->weight_type) && n->eps >= 0);
    check_array(d, n->weight, n->weight_type, n->x.cols);
}

void qs_op_layernorm(qs_device *d, const qs_layernorm *n)
{
    check_layernorm(d, n);
    check_array(d, n->bias, n->weight_type, n->x.cols);
    check_mat(d, n->y);
    QS_ASSERT(same_shape(n->x, n->y));
    if (n->x.rows && n->x.cols) d->ops->layernorm(d, n);
}

void qs_op_layernorm_backward(qs_device *d, const qs_layernorm *n, qs_mat dy, qs_mat add, qs_mat dx)
{
    check_layernorm(d, n);
    check_norm_gradients(d, n->x, dy, add, dx);
    if (n->x.rows && n->x.cols) d->ops->layernorm_backward(d, n, dy, add, dx);
}

void qs_op_rope(qs_device *d, const qs_rope *r)
{
    check_mat(d, r->x);
    QS_ASSERT(r->heads > 0 && r->head_dim > 0 && r->x.cols == (int64_t)r->heads * r->head_dim);
    QS_ASSERT(r->rotary_dim >= 0 && r->rotary_dim <= r->head_dim && r->rotary_dim % 2 == 0);
    check_array(d, r->positions, QS_I32, r->x.rows);
    check_memory(d, r->cos, 4);
    check_memory(d, r->sin, 4);
    if (r->x.rows && r->rotary_dim) d->ops->rope(d, r);
}

static void check_norm_rope(qs_device *d, const qs_norm_rope *n)
{
    int64_t tokens = n->x.rows, q = n->whole ? n->heads * n->head_dim : n->head_dim,
            k = n->whole ? n->kv_heads * n->head_dim : n->head_dim;
    check_mat(d, n->x);
    QS_ASSERT(n->heads > 0 && n->kv_heads > 0 && n->head_dim > 0 && n->eps >= 0);
    QS_ASSERT(n->x.cols == (int64_t)(n->heads + n->kv_heads) * n->head_dim);
    QS_ASSERT(n->rotary_dim >= 0 && n->rotary_dim <= n->head_dim && n->rotary_dim % 2 == 0);
    check_array(d, n->q_weight, QS_F32, q);
    check_array(d, n->k_weight, QS_F32, k);
    if (!n->rotary_dim) return;
    check_array(d, n->positions, QS_I32, tokens);
    check_memory(d, n->q_cos, 4);
    check_memory(d, n->q_sin, 4);
    check_memory(d, n->k_cos, 4);
    check_memory(d, n->k_sin, 4);
}

void qs_op_norm_rope(qs_device *d, const qs_norm_rope *n)
{
    check_norm_rope(d, n);
    check_mat(d, n->y);
    QS_ASSERT(same_shape(n->x, n->y) && n->x.data != n->y.data);
    if (n->x.rows) d->ops->norm_rope(d, n);
}

void qs_op_norm_rope_backward(qs_device *d, const qs_norm_rope *n, qs_mat g)
{
    check_norm_rope(d, n);
    check_mat(d, g);
    QS_ASSERT(same_shape(n->x, g) && n->x.data != g.data);
    if (n->x.rows) d->ops->norm_rope_backward(d, n, g);
}
