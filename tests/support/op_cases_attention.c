/* op_cases_attention.c - causal attention over packed documents, against the plain formula in double
 * precision. */
#include <math.h>
#include <string.h>

#include "src/base/memory.h"
#include "tests/support/op_cases.h"

/* size: tokens, heads, kv_heads, head_dim, window, document length (0: one document); the documents' lengths
 * alternate between half as long and one and a half times as long. */
enum { Q, K, V, O, LSE, DOCUMENT, D_O, DQ, DK, DV };

typedef struct sizes {
    int64_t tokens, heads, kv_heads, dim, window;
} sizes;
static sizes sizes_of(const op_run *r)
{
    const int64_t *s = r->c->size;
    return (sizes){s[0], s[1], s[2], s[3], s[4]};
}

static void attention_setup(op_run *r)
{
    sizes s = sizes_of(r);
    op_array_normal(r, Q, OP_INPUT, r->c->type, s.tokens, s.heads * s.dim, 1.5);
    op_array_normal(r, K, OP_INPUT, r->c->type, s.tokens, s.kv_heads * s.dim, 1.5);
    op_array_normal(r, V, OP_INPUT, r->c->type, s.tokens, s.kv_heads * s.dim, 1);
    op_array_make(r, O, OP_OUTPUT, r->c->type, s.tokens, s.heads * s.dim);
    op_array_make(r, LSE, OP_OUTPUT, QS_F32, 1, s.heads * s.tokens);
    op_array_make(r, DOCUMENT, OP_INPUT, QS_I32, 1, s.tokens);
    int32_t *document = r->array[DOCUMENT].before;
    int64_t length = r->c->size[5] ? r->c->size[5] : s.tokens, start = 0, next = length / 2 + 1;
    for (int64_t i = 0; i < s.tokens; i++) {
        if (r->c->size[5] && i == next) {
            start = next;
            next += i % 2 ? length / 2 + 1 : length * 3 / 2;
        }
        document[i] = (int32_t)start;
    }
}

static qs_attention attention_of(const op_run *r)
{
    sizes s = sizes_of(r);
    return (qs_attention){.q = op_mat(r, Q),
                          .k = op_mat(r, K),
                          .v = op_mat(r, V),
                          .o = op_mat(r, O),
                          .lse = op_device(r, LSE),
                          .heads = (int32_t)s.heads,
                          .kv_heads = (int32_t)s.kv_heads,
                          .head_dim = (int32_t)s.dim,
                          .scale = 1 / sqrtf((float)s.dim),
                          .window = (int32_t)s.window,
                          .softcap = (float)r->c->value[0],
                          .document = op_device(r, DOCUMENT)};
}

static void attention_launch(op_run *r, qs_device *d)
{
    qs_attention a = attention_of(r);
    op_workspace(r, d, qs_op_attention_workspace_bytes(d, &a));
    qs_op_attention(d, &a);
}

/* What a soft cap makes of the gradient of the score of query i and key j. */
static double cap_slope(const op_run *r, int64_t h, int64_t i, int64_t j)
{
    sizes s = sizes_of(r);
    double dot = 0, cap = r->c->value[0];
    for (int64_t c = 0; c < s.dim; c++)
        dot += op_at(r, Q, i, h * s.dim + c) * op_at(r, K, j, h / (s.heads / s.kv_heads) * s.dim + c);
    double t = cap > 0 ? tanh(dot * (1 / sqrtf((float)s.dim)) / cap) : 0;
    return 1 - t * t;
}

/* Probabilities of query i of head h over the keys, zero where hidden; returns the log-sum-exp. */
static double probabilities(const op_run *r, int64_t h, int64_t i, double *p)
{
    sizes s = sizes_of(r);
    int64_t kv = h / (s.heads / s.kv_heads), from = (int64_t)op_at(r, DOCUMENT, 0, i);
    if (s.window && i - s.window + 1 > from) from = i - s.window + 1;
    double max = -INFINITY, sum = 0;
    memset(p, 0, (size_t)s.tokens * sizeof *p);
    for (int64_t j = from; j <= i; j++) {
        double dot = 0;
        for (int64_t c = 0; c < s.dim; c++)
            dot += op_at(r, Q, i, h * s.dim + c) * op_at(r, K, j, kv * s.dim + c);
        p[j] = dot * (1 / sqrtf((float)s.dim));
        if (r->c->value[0] > 0) p[j] = r->c->value[0] * tanh(p[j] / r->c->value[0]);
        max = fmax(max, p[j]);
    }
    for (int64_t j = from; j <= i; j++) sum += p[j] = exp(p[j] - max);
    for (int64_t j = from; j <= i; j++) p[j] /= sum;
    return max + log(sum);
}

static void attention_reference(op_run *r)
{
    sizes s = sizes_of(r);
    double *p = qs_calloc((size_t)s.tokens, sizeof *p);
    for (int64_t h = 0; h < s.heads; h++)
        for (int64_t i = 0; i < s.tokens; i++) {
            *op_want(r, LSE, 0, h * s.tokens + i) = probabilities(r, h, i, p);
            for (int64_t j = 0; j <= i; j++)
                for (int64_t c = 0; p[j] > 0 && c < s.dim; c++)
                    *op_want(r, O, i, h * s.dim + c) +=
                        p[j] * op_at(r, V, j, h / (s.heads / s.kv_heads) * s.dim + c);
        }
    qs_free(p);
}

static const op_kind attention = {attention_setup, attention_launch, attention_reference, OP(ATTENTION)};

/* The backward pass takes o and lse as the forward pass would have left them. */
static void attention_backward_setup(op_run *r)
{
    sizes s = sizes_of(r);
    attention_setup(r);
    attention_reference(r);
    for (int k = O; k <= LSE; k++) {
        op_array *a = &r->array[k];
        memset(a->before, 0, (size_t)(a->rows * a->stride - (a->stride - a->cols)) * qs_dtype_bytes(a->type));
        for (int64_t i = 0; i < a->rows; i++)
            for (int64_t j = 0; j < a->cols; j++)
                qs_store_f32(a->before, a->type, (size_t)(i * a->stride + j), (float)*op_want(r, k, i, j));
        a->role = OP_INPUT;
    }
    r->cancelled =
        1; /* terms of order 1 (dS times k) that for a query with few keys leave little or nothing */
    op_array_normal(r, D_O, OP_INPUT, r->c->type, s.tokens, s.heads * s.dim, 1);
    op_array_make(r, DQ, OP_OUTPUT, r->c->type, s.tokens, s.heads * s.dim);
    op_array_make(r, DK, OP_OUTPUT, r->c->type, s.tokens, s.kv_heads * s.dim);
    op_array_make(r, DV, OP_OUTPUT, r->c->type, s.tokens, s.kv_heads * s.dim);
}

static void attention_backward_launch(op_run *r, qs_device *d)
{
    qs_attention a = attention_of(r);
    op_workspace(r, d, qs_op_attention_workspace_bytes(d, &a));
    qs_op_attention_backward(d, &a, op_mat(r, D_O), op_mat(r, DQ), op_mat(r, DK), op_mat(r, DV));
}

static void attention_backward_reference(op_run *r)
{
    sizes s = sizes_of(r);
    double *p = qs_calloc((size_t)s.tokens, sizeof *p), scale = 1 / sqrtf((float)s.dim);
    for (int64_t h = 0; h < s.heads; h++)
        for (int64_t i = 0; i < s.tokens; i++) {
            int64_t at = h * s.dim, kv = h / (s.heads / s.kv_heads) * s.dim;
            double delta = 0;
            probabilities(r, h, i, p);
            for (int64_t c = 0; c < s.dim; c++) delta += op_at(r, O, i, at + c) * op_at(r, D_O, i, at + c);
            for (int64_t j = 0; j <= i; j++) {
                if (p[j] == 0) continue;
                double dp = 0;
                for (int64_t c = 0; c < s.dim; c++) dp += op_at(r, D_O, i, at + c) * op_at(r, V, j, kv + c);
                double ds = p[j] * (dp - delta) * scale * cap_slope(r, h, i, j);
                for (int64_t c = 0; c < s.dim; c++) {
                    *op_want(r, DQ, i, at + c) += ds * op_at(r, K, j, kv + c);
                    *op_want(r, DK, j, kv + c) += ds * op_at(r, Q, i, at + c);
                    *op_want(r, DV, j, kv + c) += p[j] * op_at(r, D_O, i, at + c);
                }
            }
        }
    qs_free(p);
}

static const op_kind attention_backward = {attention_backward_setup, attention_backward_launch,
                                           attention_backward_reference, OP(ATTENTION_BACKWARD)};

/* A text of size[0] keys in blocks of size[6]; the queries are its last size[5]. The state is in the
 * workspace.
 */
static void blocks_setup(op_run *r)
{
    sizes s = sizes_of(r);
    op_array_normal(r, Q, OP_INPUT, r->c->type, r->c->size[5], s.heads * s.dim, 1.5);
    op_array_normal(r, K, OP_INPUT, r->c->type, s.tokens, s.kv_heads * s.dim, 1.5);
    op_array_normal(r, V, OP_INPUT, r->c->type, s.tokens, s.kv_heads * s.dim, 1);
    op_array_make(r, O, OP_OUTPUT, r->c->type, r->c->size[5], s.heads * s.dim);
}

static void blocks_launch(op_run *r, qs_device *d)
{
    sizes s = sizes_of(r);
    int64_t rows = r->c->size[5], block = r->c->size[6];
    qs_attention_block a = {.q = op_mat(r, Q),
                            .heads = (int32_t)s.heads,
                            .kv_heads = (int32_t)s.kv_heads,
                            .head_dim = (int32_t)s.dim,
                            .scale = 1 / sqrtf((float)s.dim),
                            .softcap = (float)r->c->value[0],
                            .window = (int32_t)s.window,
                            .query_at = s.tokens - rows};
    op_workspace(r, d, (size_t)qs_attention_state_floats(rows, a.heads, a.head_dim) * sizeof(float));
    a.state = d->workspace;
    for (; a.key_at < s.tokens; a.key_at += block) {
        int64_t n = s.tokens - a.key_at < block ? s.tokens - a.key_at : block;
        a.k = qs_mat_part(op_mat(r, K), a.key_at, n, 0, s.kv_heads * s.dim);
        a.v = qs_mat_part(op_mat(r, V), a.key_at, n, 0, s.kv_heads * s.dim);
        a.first = a.key_at == 0;
        if (a.key_at + n == s.tokens) a.o = op_mat(r, O);
        qs_op_attention_block(d, &a);
    }
}

static void blocks_reference(op_run *r)
{
    sizes s = sizes_of(r);
    int64_t rows = r->c->size[5];
    double *p = qs_calloc((size_t)s.tokens, sizeof *p);
    for (int64_t h = 0; h < s.heads; h++)
        for (int64_t i = 0; i < rows; i++) {
            int64_t at = s.tokens - rows + i, from = s.window && at >= s.window ? at - s.window + 1 : 0;
            double sum = 0;
            for (int64_t j = from; j <= at; j++) {
                double dot = 0;
                for (int64_t c = 0; c < s.dim; c++)
                    dot += op_at(r, Q, i, h * s.dim + c) *
                           op_at(r, K, j, h / (s.heads / s.kv_heads) * s.dim + c);
                p[j] = dot * (1 / sqrtf((float)s.dim));
                if (r->c->value[0] > 0) p[j] = r->c->value[0] * tanh(p[j] / r->c->value[0]);
                sum += p[j] = exp(p[j]);
            }
            for (int64_t j = from; j <= at; j++)
                for (int64_t c = 0; c < s.dim; c++)
                    *op_want(r, O, i, h * s.dim + c) +=
                        p[j] / sum * op_at(r, V, j, h / (s.heads / s.kv_heads) * s.dim + c);
        }
    qs_free(p);
}

static const op_kind blocks = {blocks_setup, blocks_launch, blocks_reference, OP(ATTENTION_BLOCK)};

#define F32 5e-6, "fp32 sums over a few hundred keys and head columns, and an fp32 exponential"
#define BF16                                                                                              \
    2 * OP_TOL_BF16, "probabilities and score gradients are rounded to bf16 before their products, then " \
                     "one rounding at the end"
#define F16 1.5 * OP_TOL_F16, "fp32 sums, one rounding at the end"

#define BOTH(name, type, tokens, heads, kv_heads, dim, window, document, padding, tolerance) \
    {name, &attention, type,     QS_F32, {tokens, heads, kv_heads, dim, window, document},   \
     {0},  padding,    tolerance},                                                           \
    {                                                                                        \
        name ", backward", &attention_backward, type, QS_F32,                                \
            {tokens, heads, kv_heads, dim, window, document}, {0}, padding, tolerance        \
    }

#define CAPPED(name, cap, type, tokens, heads, kv_heads, dim, window, document, tolerance)                   \
    {name, &attention, type, QS_F32, {tokens, heads, kv_heads, dim, window, document}, {cap}, 0, tolerance}, \
    {                                                                                                        \
        name ", backward", &attention_backward, type, QS_F32,                                                \
            {tokens, heads, kv_heads, dim, window, document}, {cap}, 0, tolerance                            \
    }

#define BLOCKS(name, type, tokens, heads, kv_heads, dim, window, rows, block, cap, padding, ...)          \
    {                                                                                                     \
        name, &blocks, type, QS_F32, {tokens, heads, kv_heads, dim, window, rows, block}, {cap}, padding, \
            __VA_ARGS__                                                                                   \
    }

static const op_case cases[] = {
    BLOCKS("attention blocks f32, one query", QS_F32, 150, 4, 2, 64, 0, 1, 64, 0, 0, F32),
    BLOCKS("attention blocks f32, ragged head, soft cap", QS_F32, 131, 4, 1, 20, 0, 7, 32, 3, 2, F32),
    BLOCKS("attention blocks f32, all queries, window", QS_F32, 260, 2, 2, 16, 37, 260, 100, 0, 0, F32),
    BLOCKS("attention blocks f32, window of a query", QS_F32, 200, 2, 1, 256, 5, 1, 64, 0, 0, F32),
    BLOCKS("attention blocks bf16, grouped", QS_BF16, 300, 8, 2, 128, 0, 40, 128, 0, 8, 2 * OP_TOL_BF16,
           OP_WHY_ONE_ROUNDING),
    BLOCKS("attention blocks f16", QS_F16, 70, 2, 1, 80, 33, 3, 64, 0, 0, F16),
    BOTH("attention f32", QS_F32, 150, 2, 2, 64, 0, 0, 0, F32),
    BOTH("attention f32, grouped, ragged head", QS_F32, 131, 4, 2, 20, 0, 0, 3, F32),
    BOTH("attention f32, one kv head", QS_F32, 200, 3, 1, 32, 0, 0, 0, F32),
    BOTH("attention f32, documents", QS_F32, 260, 2, 1, 16, 0, 40, 0, F32),
    BOTH("attention f32, window", QS_F32, 260, 2, 2, 16, 37, 0, 1, F32),
    BOTH("attention f32, window and documents", QS_F32, 260, 4, 4, 8, 50, 90, 0, F32),
    BOTH("attention f32, one token", QS_F32, 1, 2, 1, 64, 0, 0, 0, F32),
    BOTH("attention f32, head of 256", QS_F32, 70, 2, 1, 256, 0, 0, 0, F32),
    BOTH("attention f32, head of 2", QS_F32, 65, 2, 2, 2, 0, 0, 0, F32),
    BOTH("attention f32, many heads in a group", QS_F32, 50, 20, 1, 16, 0, 0, 0, F32),
    BOTH("attention bf16", QS_BF16, 200, 4, 1, 64, 0, 0, 0, BF16),
    BOTH("attention bf16, head of 128, documents", QS_BF16, 300, 2, 2, 128, 0, 100, 8, BF16),
    BOTH("attention bf16, head of 80, window", QS_BF16, 140, 2, 1, 80, 64, 0, 0, BF16),
    BOTH("attention bf16, head of 96", QS_BF16, 100, 2, 2, 96, 0, 0, 1, BF16),
    BOTH("attention bf16, head of 128, grouped, window and documents", QS_BF16, 330, 4, 2, 128, 70, 110, 0,
         BF16),
    BOTH("attention bf16, head of 256", QS_BF16, 150, 2, 1, 256, 0, 60, 0, BF16),
    BOTH("attention bf16, many tiles", QS_BF16, 600, 1, 1, 64, 0, 0, 0, BF16),
    BOTH("attention f16, head of 128, many tiles", QS_F16, 530, 1, 1, 128, 0, 0, 0, F16),
    BOTH("attention bf16, odd head", QS_BF16, 77, 2, 1, 38, 0, 0, 0, BF16),
    CAPPED("attention f32, soft cap", 2, QS_F32, 150, 4, 2, 20, 0, 60, F32),
    CAPPED("attention f32, soft cap, window", 50, QS_F32, 150, 2, 2, 64, 33, 0, F32),
    CAPPED("attention bf16, soft cap", 5, QS_BF16, 130, 2, 1, 64, 0, 0, BF16),
    BOTH("attention f16", QS_F16, 130, 2, 1, 64, 0, 0, 0, F16),
};

const op_case_list op_cases_attention = OP_LIST("attention", cases);

/* ---- gradients --------------------------------------------------------------------------------------- */

#define CASE(kind, ...)                                         \
    {                                                           \
        "", &kind, QS_F32, QS_F32, {__VA_ARGS__}, {0}, 0, 0, "" \
    }
#define ALL(name, ...)                                                                                       \
    {name ", q", CASE(attention, __VA_ARGS__), CASE(attention_backward, __VA_ARGS__), Q, O, D_O, DQ, 0},     \
        {name ", k", CASE(attention, __VA_ARGS__), CASE(attention_backward, __VA_ARGS__), K, O, D_O, DK, 0}, \
    {                                                                                                        \
        name ", v", CASE(attention, __VA_ARGS__), CASE(attention_backward, __VA_ARGS__), V, O, D_O, DV, 0    \
    }

static const op_gradient gradients[] = {
    ALL("grouped heads", 90, 4, 2, 12, 0, 0),
    ALL("window and documents", 150, 2, 1, 8, 20, 50),
#undef CASE
#define CASE(kind, ...)                                           \
    {                                                             \
        "", &kind, QS_F32, QS_F32, {__VA_ARGS__}, {1.5}, 0, 0, "" \
    }
    ALL("soft cap", 60, 4, 2, 12, 0, 0),
};

const op_gradient_list op_gradients_attention = OP_GRADIENTS(gradients);
