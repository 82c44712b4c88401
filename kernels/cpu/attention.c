/* attention.c - causal attention over packed documents with an online softmax (Dao et al. 2022), forward.
 *
 * Query tiles are independent: a thread takes one, walks its key tiles in order and writes its part of o and
 * lse. bf16 inputs are multiplied as bf16 where the processor does that, so probabilities are rounded to bf16
 * before they meet v; everything else, the sum of the probabilities included, is fp32.
 */
#include "kernels/cpu/attention_parts.h"

enum { KEYS = QS_ATTENTION_KEYS };

typedef struct buffers {
    uint32_t *q, *k, *v, *p;
    float *o, *scores, *max, *sum;
} buffers;

static buffers carve(qs_arena *arena, const qs_attention_shape *s)
{
    buffers b;
    b.q = qs_attention_take(arena, s->rows * s->dim_units);
    b.o = qs_attention_take(arena, s->rows * s->padded_dim);
    b.scores = qs_attention_take(arena, (int64_t)s->rows * KEYS);
    b.p =
        s->unit == QS_UNIT_F32 ? (uint32_t *)b.scores : qs_attention_take(arena, (int64_t)s->rows * KEYS / 2);
    b.k = qs_attention_take(arena, KEYS * s->dim_units);
    b.v = qs_attention_take(arena, KEYS * s->padded_dim);
    b.max = qs_attention_take(arena, s->rows);
    b.sum = qs_attention_take(arena, s->rows);
    return b;
}

/* Turns row r of the scores into probabilities relative to the largest score so far, as units in b->p, and
 * scales down what was summed under an older maximum. */
static void softmax_row(const qs_attention_shape *s, const buffers *b, int64_t r, int64_t cols, float scale)
{
    const float *scores = b->scores + r * KEYS;
    vf x[KEYS / VW], top = vec_all(-INFINITY), total[VR] = {{0}};
    for (int64_t k = 0; k < cols / VW; k++) {
        x[k] = vec_load_f32(scores + k * VW) * scale;
        top = vec_max(x[k], top);
    }
    float old = b->max[r], tile_max = vec_top(top), max = tile_max > old || isnan(tile_max) ? tile_max : old;
    float base = max == -INFINITY ? 0 : max; /* nothing visible yet: exp(-inf - 0) = 0 */
    uint32_t *p = b->p + r * KEYS / qs_unit_elements(s->unit);
    for (int64_t k = 0; k < cols / VW; k++) {
        x[k] = vec_exp(x[k] - base);
        total[k % VR] += x[k];
        if (s->unit == QS_UNIT_F32)
            vec_store_f32((float *)p + k * VW, x[k]);
        else
            vec_store_full(p, QS_BF16, k * VW, x[k]);
    }
    if (max != old) {
        float shrink = qs_exp_f32(old - base), *o = b->o + r * s->padded_dim;
        b->sum[r] *= shrink;
        for (int64_t j = 0; j < s->padded_dim; j += VW) vec_store_f32(o + j, vec_load_f32(o + j) * shrink);
    }
    b->sum[r] += vec16_sum(total);
    b->max[r] = max;
}

static void key_tile(const qs_attention *a, const qs_attention_shape *s, const buffers *b,
                     const qs_attention_span *x, const qs_attention_step *t, int64_t kv_head)
{
    int64_t e = qs_unit_elements(s->unit);
    QS_CPU(pack_keys_transpose)(s, t, a->k, kv_head, b->k);
    QS_CPU(pack_keys_mn_major)(s, t, a->v, kv_head, b->v);
    QS_CPU(attention_scores)(s, t, b->q, b->k, b->scores);
    QS_CPU(attention_cap)(a, s, t, b->scores);
    if (t->masked) QS_CPU(attention_mask)(a, s, x, t, b->scores);
    for (int k = 0; k < t->runs; k++) {
        int64_t first = qs_attention_run(s, t, k);
        for (int64_t r = first; r < first + t->rows; r++) softmax_row(s, b, r, t->cols, a->scale);
        QS_CPU(tile_product)
        (s->unit, true, t->rows, s->padded_dim, t->cols / e, b->p + first * KEYS / e, KEYS / e, 1, b->v,
         s->padded_dim, b->o + first * s->padded_dim, s->padded_dim);
    }
}

static void query_tile(const qs_attention *a, const qs_attention_shape *s, const buffers *b, int64_t kv_head,
                       int64_t tile)
{
    qs_attention_span x = qs_attention_span_of(a, s, tile);
    int64_t dim = s->padded_dim;
    QS_CPU(pack_queries_k_major)(s, &x, a->q, kv_head, b->q);
    memset(b->o, 0, (size_t)(s->rows * dim) * sizeof(float));
    for (int r = 0; r < s->rows; r++) b->max[r] = -INFINITY, b->sum[r] = 0;
    for (int64_t key = x.key_begin; key < x.key_end; key += KEYS) {
        qs_attention_step t = qs_attention_step_of(s, &x, key);
        key_tile(a, s, b, &x, &t, kv_head);
    }
    for (int g = 0; g < s->group; g++)
        for (int64_t i = x.first; i <= x.last; i++) {
            int64_t head = kv_head * s->group + g, r = g * s->tile_tokens + (i - x.first);
            qs_mat out = qs_mat_part(a->o, i, 1, head * s->dim, s->dim);
            float inverse = 1.0f / b->sum[r];
            for (int64_t j = 0; j < s->dim; j += VW)
                vec_store(out.data, out.type, j, s->dim - j, vec_load_f32(b->o + r * dim + j) * inverse);
            a->lse[head * s->tokens + i] = b->max[r] + qs_log_f32(b->sum[r]);
        }
}

size_t QS_CPU(attention_forward_bytes)(const qs_device *d, const qs_attention *a)
{
    qs_attention_shape s = qs_attention_shape_of(a);
    qs_arena count = {0};
    carve(&count, &s);
    return qs_round_up(count.used, QS_ARENA_ALIGN) * (size_t)d->info.threads;
}

void QS_CPU(attention)(qs_device *d, const qs_attention *a)
{
    qs_attention_shape s = qs_attention_shape_of(a);
    size_t bytes = QS_CPU(attention_forward_bytes)(d, a), per_thread = bytes / (size_t)d->info.threads;
    char *workspace = qs_cpu_workspace(d, bytes);
    int64_t units = a->kv_heads * s.tiles;
#pragma omp parallel num_threads(d->info.threads)
    {
        qs_arena mine = {workspace + per_thread * (size_t)omp_get_thread_num(), per_thread, 0};
        buffers b = carve(&mine, &s);
#pragma omp for schedule(dynamic)
        for (int64_t u = 0; u < units; u++) /* the longest tiles first */
            query_tile(a, &s, &b, u % a->kv_heads, s.tiles - 1 - u / a->kv_heads);
    }
}

size_t QS_CPU(attention_workspace_bytes)(qs_device *d, const qs_attention *a)
{
    size_t forward = QS_CPU(attention_forward_bytes)(d, a), backward = QS_CPU(attention_backward_bytes)(d, a);
    return forward > backward ? forward : backward;
}
