/* attention_block.c - a few queries over one block of keys and values, folded into a running softmax.
 *
 * A unit of work is one kv head with some of the queries. A tile of keys and values is brought to fp32 once
 * for them; then each query of each of the heads that read it takes its scores, its maximum, its
 * probabilities and its sum of values, all of it by itself: what else is in the call changes none of its
 * bits.
 */
#include <math.h>

#include "kernels/cpu/isa.h"
#include "kernels/cpu/vec.h"
#include "kernels/cpu/vec_math.h"

enum { KEYS = 64, DIM = 256, QUERIES = 32 }; /* of a tile; of a head at most; of a unit of work */

typedef struct tile {
    float k[KEYS][DIM], v[KEYS][DIM];
} tile;

/* A head's columns of rows [first, first + n), padded with zeros to a multiple of 16. */
static void widen(qs_mat m, int64_t first, int64_t n, int64_t column, int64_t dim, float (*out)[DIM])
{
    for (int64_t i = 0; i < n; i++) {
        const void *row = qs_mat_part(m, first + i, 1, column, dim).data;
        for (int64_t j = 0; j < dim; j += LANES)
            for (int r = 0; r < VR; r++) {
                int64_t at = j + r * VW;
                vec_store_f32(out[i] + at, at < dim ? vec_load(row, m.type, at, dim - at) : vec_all(0));
            }
    }
}

static float dot(const float *a, const float *b, int64_t dim)
{
    vf sum[VR] = {{0}};
    for (int64_t j = 0; j < dim; j += LANES)
        for (int r = 0; r < VR; r++)
            sum[r] = vec_fma(vec_load_f32(a + j + r * VW), vec_load_f32(b + j + r * VW), sum[r]);
    return vec16_sum(sum);
}

/* Keys [from, to) of the tile into the state of one query and head. */
static void fold(const qs_attention_block *a, const tile *t, const float *q, int64_t from, int64_t to,
                 float *state)
{
    int64_t dim = a->head_dim;
    float scores[KEYS], *max = state + dim, *sum = max + 1, top = *max;
    for (int64_t j = 0; j < KEYS; j++) scores[j] = -INFINITY;
    for (int64_t j = from; j < to; j++) scores[j] = dot(q, t->k[j], dim) * a->scale;
    for (int64_t j = 0; a->softcap > 0 && j < KEYS; j += VW)
        vec_store_f32(scores + j, vec_tanh(vec_load_f32(scores + j) / a->softcap) * a->softcap);
    for (int64_t j = from; j < to; j++)
        if (!(scores[j] <= top)) top = scores[j]; /* a NaN stays */
    float shrink = *max == -INFINITY ? 0 : qs_exp_f32(*max - top);
    vf total[VR] = {{0}};
    for (int64_t j = 0; j < KEYS; j += VW) {
        vi key = vec_lanes() + (int32_t)j;
        vf p = vec_select((key >= (int32_t)from) & (key < (int32_t)to),
                          vec_exp(vec_load_f32(scores + j) - top), vec_all(0));
        vec_store_f32(scores + j, p);
        total[j / VW % VR] += p;
    }
    *sum = *sum * shrink + vec16_sum(total);
    *max = top;
    for (int64_t c = 0; c < dim; c += VW) {
        vf acc = vec_load(state, QS_F32, c, dim - c) * shrink;
        for (int64_t j = from; j < to; j++) acc = vec_fma(vec_all(scores[j]), vec_load_f32(t->v[j] + c), acc);
        vec_store(state, QS_F32, c, dim - c, acc);
    }
}

/* Query i of every head that reads this kv head, over the tile whose first key is number `first` of the
 * block. */
static void query(const qs_attention_block *a, const tile *t, int64_t kv, int64_t i, int64_t first, int64_t n)
{
    int64_t at = a->query_at + i, key = a->key_at + first, group = a->heads / a->kv_heads;
    int64_t from = a->window && at - a->window + 1 > key ? at - a->window + 1 - key : 0,
            to = at - key + 1 < n ? at - key + 1 : n;
    float q[1][DIM];
    for (int64_t h = kv * group; h < (kv + 1) * group && from < to; h++) {
        widen(a->q, i, 1, h * a->head_dim, a->head_dim, q);
        fold(a, t, q[0], from, to, a->state + (i * a->heads + h) * (a->head_dim + 2));
    }
}

static void begin(const qs_attention_block *a, int64_t kv, int64_t i)
{
    int64_t group = a->heads / a->kv_heads, dim = a->head_dim;
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
        float *state = a->state + (i * a->heads + h) * (dim + 2);
        memset(state, 0, (size_t)(dim + 2) * sizeof(float));
        state[dim] = -INFINITY;
    }
}

static void end(const qs_attention_block *a, int64_t kv, int64_t i)
{
    int64_t group = a->heads / a->kv_heads, dim = a->head_dim;
    for (int64_t h = kv * group; h < (kv + 1) * group; h++) {
        const float *state = a->state + (i * a->heads + h) * (dim + 2);
        void *o = qs_mat_part(a->o, i, 1, h * dim, dim).data;
        float inverse = 1.0f / state[dim + 1];
        for (int64_t j = 0; j < dim; j += VW)
            vec_store(o, a->o.type, j, dim - j, vec_load(state, QS_F32, j, dim - j) * inverse);
    }
}

static void unit(const qs_attention_block *a, int64_t kv, int64_t first_query, int64_t queries)
{
    tile t;
    for (int64_t i = first_query; a->first && i < first_query + queries; i++) begin(a, kv, i);
    for (int64_t first = 0; first < a->k.rows; first += KEYS) {
        int64_t n = a->k.rows - first < KEYS ? a->k.rows - first : KEYS;
        if (a->query_at + first_query + queries <= a->key_at + first) break; /* nobody sees these */
        widen(a->k, first, n, kv * a->head_dim, a->head_dim, t.k);
        widen(a->v, first, n, kv * a->head_dim, a->head_dim, t.v);
        for (int64_t i = first_query; i < first_query + queries; i++) query(a, &t, kv, i, first, n);
    }
    for (int64_t i = first_query; a->o.data && i < first_query + queries; i++) end(a, kv, i);
}

void QS_CPU(attention_block)(qs_device *d, const qs_attention_block *a)
{
    int64_t parts = (a->q.rows + QUERIES - 1) / QUERIES;
#pragma omp parallel for schedule(dynamic) num_threads(d->info.threads)
    for (int64_t u = 0; u < parts * a->kv_heads; u++) {
        int64_t first = u / a->kv_heads * QUERIES, left = a->q.rows - first;
        unit(a, u % a->kv_heads, first, left < QUERIES ? left : QUERIES);
    }
}
