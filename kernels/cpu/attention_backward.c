/* attention_backward.c - gradients of attention.c.
 *
 * A kv head's query tiles add into its dK and dV, which a thread keeps in fp32 for the whole sequence; a
 * query tile's dQ is complete when its key tiles are done. Where there are fewer kv heads than threads, a kv
 * head's query tiles are dealt out to several units, whose sums are added in order at the end. Nothing is
 * atomic, so equal arguments give equal bits.
 */
#include "kernels/cpu/attention_parts.h"

enum { KEYS = QS_ATTENTION_KEYS };

/* k-major tiles have their depth along a row, mn-major tiles have rows as their depth: one is the other's
 * transpose as an operand. */
typedef struct buffers {
    uint32_t *q_k_major, *q_mn_major, *d_o_k_major, *d_o_mn_major; /* [rows, head] */
    uint32_t *k_transposed, *k_mn_major, *v_transposed;            /* [keys, head] */
    float *p, *ds;                                                 /* [rows, KEYS] in fp32 */
    uint32_t *p_mn_major, *ds_mn_major, *ds_k_major;               /* the same as units */
    float *dq, *lse, *delta;
} buffers;

static buffers carve(qs_arena *arena, const qs_attention_shape *s)
{
    bool pairs = s->unit == QS_UNIT_BF16_PAIR;
    int64_t rows = s->rows, across = rows / qs_unit_elements(s->unit) * s->padded_dim;
    buffers b;
    b.q_k_major = qs_attention_take(arena, rows * s->dim_units);
    b.q_mn_major = qs_attention_take(arena, across);
    b.d_o_k_major = qs_attention_take(arena, rows * s->dim_units);
    b.d_o_mn_major = qs_attention_take(arena, across);
    b.k_transposed = qs_attention_take(arena, KEYS * s->dim_units);
    b.k_mn_major = qs_attention_take(arena, KEYS * s->padded_dim);
    b.v_transposed = qs_attention_take(arena, KEYS * s->dim_units);
    b.p = qs_attention_take(arena, rows * KEYS);
    b.ds = qs_attention_take(arena, rows * KEYS);
    b.p_mn_major = pairs ? qs_attention_take(arena, rows * KEYS / 2) : (uint32_t *)b.p;
    b.ds_mn_major = pairs ? qs_attention_take(arena, rows * KEYS / 2) : (uint32_t *)b.ds;
    b.ds_k_major = pairs ? qs_attention_take(arena, rows * KEYS / 2) : (uint32_t *)b.ds;
    b.dq = qs_attention_take(arena, rows * s->padded_dim);
    b.lse = qs_attention_take(arena, rows);
    b.delta = qs_attention_take(arena, rows);
    return b;
}

/* How the work is cut, and the memory it takes: tile buffers for every thread, then fp32 sums of dK and dV,
 * one pair per thread (one unit per kv head), or one per unit when a kv head is dealt out to several units.
 */
typedef struct plan {
    int64_t parts; /* units per kv head */
    size_t per_thread, sum_floats, bytes;
} plan;

static plan plan_of(const qs_attention *a, const qs_attention_shape *s, int threads)
{
    plan x = {.parts = (threads + a->kv_heads - 1) / a->kv_heads};
    if (x.parts > s->tiles) x.parts = s->tiles;
    qs_arena count = {0};
    carve(&count, s);
    x.per_thread = qs_round_up(count.used, QS_ARENA_ALIGN);
    x.sum_floats = qs_round_up((size_t)s->tokens, KEYS) * (size_t)s->padded_dim;
    size_t sums = x.parts == 1 ? (size_t)threads : (size_t)(x.parts * a->kv_heads);
    x.bytes = x.per_thread * (size_t)threads + sums * 2 * x.sum_floats * sizeof(float);
    return x;
}

size_t QS_CPU(attention_backward_bytes)(const qs_device *d, const qs_attention *a)
{
    qs_attention_shape s = qs_attention_shape_of(a);
    return plan_of(a, &s, d->info.threads).bytes;
}

/* lse, and delta = sum of o * d_o: what the softmax's derivative subtracts. */
static void load_row_values(const qs_attention *a, const qs_attention_shape *s, const buffers *b, qs_mat d_o,
                            int64_t kv_head, const qs_attention_span *x)
{
    for (int g = 0; g < s->group; g++)
        for (int t = 0; t < s->tile_tokens; t++) {
            int64_t i = x->first + t, head = kv_head * s->group + g, r = (int64_t)g * s->tile_tokens + t;
            b->lse[r] = b->delta[r] = 0;
            if (i > x->last) continue;
            b->lse[r] = a->lse[head * s->tokens + i];
            qs_mat o = qs_mat_part(a->o, i, 1, head * s->dim, s->dim),
                   g_o = qs_mat_part(d_o, i, 1, head * s->dim, s->dim);
            vf dot[VR] = {{0}};
            for (int64_t j = 0; j < s->dim; j += LANES)
                for (int v = 0, at = (int)j; v < VR; v++, at += VW)
                    dot[v] = vec_fma(vec_load(o.data, o.type, at, s->dim - at),
                                     vec_load(g_o.data, g_o.type, at, s->dim - at), dot[v]);
            b->delta[r] = vec16_sum(dot);
        }
}

/* Rows r and r + 1: scores in p become probabilities, dP in ds becomes the gradient of the scores (before a
 * soft cap), and both become units. */
static void softmax_backward_rows(const qs_attention *a, const qs_attention_shape *s, const buffers *b,
                                  int64_t r, int64_t cols)
{
    float scale = a->scale, inverse_cap = a->softcap > 0 ? scale / a->softcap : 0;
    for (int64_t j = 0; j < cols; j += VW) {
        vf p[2], ds[2];
        for (int k = 0; k < 2; k++) {
            vf score = vec_load_f32(b->p + (r + k) * KEYS + j);
            p[k] = vec_exp(vec_fma(score, vec_all(scale), vec_all(-b->lse[r + k])));
            ds[k] = p[k] * (vec_load_f32(b->ds + (r + k) * KEYS + j) - b->delta[r + k]) * scale;
            if (inverse_cap > 0) { /* a hidden score is -infinity */
                vf t = vec_max(score * inverse_cap, vec_all(-1.0f));
                ds[k] *= 1.0f - t * t;
            }
        }
        if (s->unit == QS_UNIT_F32) {
            for (int k = 0; k < 2; k++) {
                vec_store_f32(b->p + (r + k) * KEYS + j, p[k]);
                vec_store_f32(b->ds + (r + k) * KEYS + j, ds[k]);
            }
        } else {
            vh p0 = vec_to_bf16(p[0]), p1 = vec_to_bf16(p[1]), ds0 = vec_to_bf16(ds[0]),
               ds1 = vec_to_bf16(ds[1]);
            vu pp = vec_widen(p0) | vec_widen(p1) << 16;
            vu dd = vec_widen(ds0) | vec_widen(ds1) << 16;
            memcpy(b->p_mn_major + r / 2 * KEYS + j, &pp, sizeof pp);
            memcpy(b->ds_mn_major + r / 2 * KEYS + j, &dd, sizeof dd);
            memcpy((uint16_t *)b->ds_k_major + r * KEYS + j, &ds0, sizeof ds0);
            memcpy((uint16_t *)b->ds_k_major + (r + 1) * KEYS + j, &ds1, sizeof ds1);
        }
    }
}

static void key_tile(const qs_attention *a, const qs_attention_shape *s, const buffers *b,
                     const qs_attention_span *x, const qs_attention_step *t, int64_t kv_head, float *dk,
                     float *dv)
{
    int64_t dim = s->padded_dim, e = qs_unit_elements(s->unit);
    QS_CPU(pack_keys_transpose)(s, t, a->k, kv_head, b->k_transposed);
    QS_CPU(pack_keys_mn_major)(s, t, a->k, kv_head, b->k_mn_major);
    QS_CPU(pack_keys_transpose)(s, t, a->v, kv_head, b->v_transposed);
    QS_CPU(attention_scores)(s, t, b->q_k_major, b->k_transposed, b->p);
    QS_CPU(attention_cap)(a, s, t, b->p);
    if (t->masked) QS_CPU(attention_mask)(a, s, x, t, b->p);
    QS_CPU(attention_scores)(s, t, b->d_o_k_major, b->v_transposed, b->ds);
    for (int k = 0; k < t->runs; k++) {
        int64_t first = qs_attention_run(s, t, k), units = t->rows / e, at = first / e;
        for (int64_t r = first; r < first + t->rows; r += 2) softmax_backward_rows(a, s, b, r, t->cols);
        QS_CPU(tile_product)
        (s->unit, true, t->rows, dim, t->cols / e, b->ds_k_major + first * KEYS / e, KEYS / e, 1,
         b->k_mn_major, dim, b->dq + first * dim, dim);
        QS_CPU(tile_product)
        (s->unit, true, t->cols, dim, units, b->ds_mn_major + at * KEYS, 1, KEYS, b->q_mn_major + at * dim,
         dim, dk + t->first * dim, dim);
        QS_CPU(tile_product)
        (s->unit, true, t->cols, dim, units, b->p_mn_major + at * KEYS, 1, KEYS, b->d_o_mn_major + at * dim,
         dim, dv + t->first * dim, dim);
    }
}

static void query_tile(const qs_attention *a, const qs_attention_shape *s, const buffers *b, qs_mat d_o,
                       qs_mat dq, int64_t kv_head, int64_t tile, float *dk, float *dv)
{
    qs_attention_span x = qs_attention_span_of(a, s, tile);
    QS_CPU(pack_queries_k_major)(s, &x, a->q, kv_head, b->q_k_major);
    QS_CPU(pack_queries_mn_major)(s, &x, a->q, kv_head, b->q_mn_major);
    QS_CPU(pack_queries_k_major)(s, &x, d_o, kv_head, b->d_o_k_major);
    QS_CPU(pack_queries_mn_major)(s, &x, d_o, kv_head, b->d_o_mn_major);
    load_row_values(a, s, b, d_o, kv_head, &x);
    memset(b->dq, 0, (size_t)(s->rows * s->padded_dim) * sizeof(float));
    for (int64_t key = x.key_begin; key < x.key_end; key += KEYS) {
        qs_attention_step t = qs_attention_step_of(s, &x, key);
        key_tile(a, s, b, &x, &t, kv_head, dk, dv);
    }
    for (int g = 0; g < s->group; g++)
        for (int64_t i = x.first; i <= x.last; i++) {
            int64_t r = g * s->tile_tokens + (i - x.first);
            qs_mat out = qs_mat_part(dq, i, 1, (kv_head * s->group + g) * s->dim, s->dim);
            for (int64_t j = 0; j < s->dim; j += VW)
                vec_store(out.data, out.type, j, s->dim - j, vec_load_f32(b->dq + r * s->padded_dim + j));
        }
}

/* Rows of a kv head of m from `parts` fp32 sums, added in order. */
static void store_keys(const qs_attention_shape *s, qs_mat m, int64_t kv_head, const float *sums,
                       int64_t parts, size_t part_step)
{
    for (int64_t i = 0; i < s->tokens; i++) {
        qs_mat out = qs_mat_part(m, i, 1, kv_head * s->dim, s->dim);
        for (int64_t j = 0; j < s->dim; j += VW) {
            const float *at = sums + i * s->padded_dim + j;
            vf total = vec_load_f32(at);
            for (int64_t part = 1; part < parts; part++) total += vec_load_f32(at + (size_t)part * part_step);
            vec_store(out.data, out.type, j, s->dim - j, total);
        }
    }
}

void QS_CPU(attention_backward)(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq, qs_mat dk,
                                qs_mat dv)
{
    qs_attention_shape s = qs_attention_shape_of(a);
    int threads = d->info.threads;
    plan cut = plan_of(a, &s, threads);
    char *workspace = qs_cpu_workspace(d, cut.bytes);
    float *sums = (float *)(workspace + cut.per_thread * (size_t)threads);
#pragma omp parallel num_threads(threads)
    {
        qs_arena mine = {workspace + cut.per_thread * (size_t)omp_get_thread_num(), cut.per_thread, 0};
        buffers b = carve(&mine, &s);
#pragma omp for schedule(dynamic)
        for (int64_t u = 0; u < a->kv_heads * cut.parts; u++) {
            int64_t kv_head = u / cut.parts;
            float *dk_sum = sums + (size_t)(cut.parts == 1 ? omp_get_thread_num() : u) * 2 * cut.sum_floats;
            float *dv_sum = dk_sum + cut.sum_floats;
            memset(dk_sum, 0, 2 * cut.sum_floats * sizeof(float));
            for (int64_t tile = u % cut.parts; tile < s.tiles; tile += cut.parts)
                query_tile(a, &s, &b, d_o, dq, kv_head, tile, dk_sum, dv_sum);
            if (cut.parts == 1) {
                store_keys(&s, dk, kv_head, dk_sum, 1, 0);
                store_keys(&s, dv, kv_head, dv_sum, 1, 0);
            }
        }
        if (cut.parts > 1) {
#pragma omp for schedule(static)
            for (int64_t h = 0; h < 2 * a->kv_heads; h++) {
                const float *first = sums + (size_t)(h / 2 * cut.parts) * 2 * cut.sum_floats +
                                     (size_t)(h % 2) * cut.sum_floats;
                store_keys(&s, h % 2 ? dv : dk, h / 2, first, cut.parts, 2 * cut.sum_floats);
            }
        }
    }
}
