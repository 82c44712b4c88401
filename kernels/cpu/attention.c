/* attention.c - causal attention over packed documents with an online softmax (Dao et al. 2022), forward and backward.
 *
 * The unit of work is a query tile of one kv head: the queries of all heads that share that kv head are stacked, so that a
 * key tile is unpacked once for all of them. Tiles are unpacked to fp32, and every product is one small dense product of
 * tiles in cache (tile_product). Key tiles that no query of the tile can see are skipped.
 *
 * Forward: units are independent. Backward: a kv head's query tiles add into its dK and dV, which a thread keeps in fp32 for
 * the whole sequence; a query tile's dQ is complete when its key tiles are done. Where there are fewer kv heads than threads,
 * a kv head's query tiles are dealt out to several units, whose sums are added in order at the end. Nothing is atomic.
 */
#include <math.h>

#include "kernels/cpu/cpu.h"
#include "kernels/cpu/vec.h"
#include "src/base/arena.h"
#include "src/base/memory.h"

enum {
    KEYS = 64,       /* keys of a tile */
    ROWS = 128,      /* query rows of a tile, all heads of the group together, about */
    BLOCK_ROWS = 8,  /* register block of tile_product: 8 rows of 2 vectors */
};

/* Sizes that follow from the arguments. */
typedef struct shape {
    int64_t tokens, dim, padded_dim; /* head size, and rounded up to whole vectors */
    int group;                       /* heads per kv head */
    int tile_tokens, rows;           /* of a query tile; rows = group * tile_tokens, a multiple of BLOCK_ROWS */
    int64_t tiles;
} shape;

static shape shape_of(const qs_attention *a)
{
    shape s = {.tokens = a->q.rows, .dim = a->head_dim, .group = a->heads / a->kv_heads};
    s.padded_dim = (int64_t)qs_round_up((size_t)s.dim, V16);
    s.tile_tokens = (int)qs_round_up(s.group < ROWS ? (size_t)(ROWS / s.group) : 1, BLOCK_ROWS);
    s.rows = s.group * s.tile_tokens;
    s.tiles = (s.tokens + s.tile_tokens - 1) / s.tile_tokens;
    return s;
}

/* ---- tiles ------------------------------------------------------------------------------------------------------------ */

/* c[rows, cols] = or += a * b: element (i, p) of a is a[i * row_step + p * depth_step], b is [depth, cols], c [rows, cols] with the given
 * strides. rows a multiple of 8, cols of 16. */
VEC void block_product(int vectors, bool add, int64_t depth, const float *a, int64_t row_step, int64_t depth_step, const float *b,
                       int64_t b_stride, float *c, int64_t c_stride)
{
    v16 sum[BLOCK_ROWS][2];
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int v = 0; v < vectors; v++) sum[i][v] = add ? v16_load_f32(c + i * c_stride + v * V16) : v16_all(0);
    for (int64_t p = 0; p < depth; p++) {
        v16 bv[2];
        for (int v = 0; v < vectors; v++) bv[v] = v16_load_f32(b + p * b_stride + v * V16);
        for (int i = 0; i < BLOCK_ROWS; i++) {
            v16 av = v16_all(a[i * row_step + p * depth_step]);
            for (int v = 0; v < vectors; v++) sum[i][v] = v16_fma(av, bv[v], sum[i][v]);
        }
    }
    for (int i = 0; i < BLOCK_ROWS; i++)
        for (int v = 0; v < vectors; v++) v16_store_f32(c + i * c_stride + v * V16, sum[i][v]);
}

static void tile_product(bool add, int64_t rows, int64_t cols, int64_t depth, const float *a, int64_t row_step, int64_t depth_step,
                         const float *b, int64_t b_stride, float *c, int64_t c_stride)
{
    for (int64_t j = 0; j < cols; j += 2 * V16)
        for (int64_t i = 0; i < rows; i += BLOCK_ROWS) {
            const float *ai = a + i * row_step;
            float *cij = c + i * c_stride + j;
            if (j + 2 * V16 <= cols) {
                if (add) block_product(2, true, depth, ai, row_step, depth_step, b + j, b_stride, cij, c_stride);
                else block_product(2, false, depth, ai, row_step, depth_step, b + j, b_stride, cij, c_stride);
            } else {
                block_product(1, add, depth, ai, row_step, depth_step, b + j, b_stride, cij, c_stride);
            }
        }
}

/* out[n, padded_dim] = rows [first, first + n) of head `head` of m, times factor; zero up to padded_dim. */
static void unpack(const shape *s, qs_mat m, int64_t head, int64_t first, int64_t n, float factor, float *out)
{
    for (int64_t i = 0; i < n; i++) {
        const char *row = qs_mat_row(m, first + i) + (size_t)(head * s->dim) * qs_dtype_bytes(m.type);
        for (int64_t j = 0; j < s->dim; j += V16)
            v16_store_f32(out + i * s->padded_dim + j, v16_load(row, m.type, j, s->dim - j) * factor);
    }
}

/* The queries of a tile, of all heads of the group: head h's token i is row h * tile_tokens + i. Rows past the end are 0. */
static void unpack_queries(const shape *s, qs_mat m, int64_t kv_head, int64_t first, float factor, float *out)
{
    int64_t n = s->tokens - first < s->tile_tokens ? s->tokens - first : s->tile_tokens;
    for (int g = 0; g < s->group; g++) {
        float *part = out + (int64_t)g * s->tile_tokens * s->padded_dim;
        unpack(s, m, kv_head * s->group + g, first, n, factor, part);
        memset(part + n * s->padded_dim, 0, (size_t)((s->tile_tokens - n) * s->padded_dim) * sizeof *part);
    }
}

/* Keys [first, first + KEYS) of a kv head: out [KEYS, padded_dim], zero past the end. */
static void unpack_keys(const shape *s, qs_mat m, int64_t kv_head, int64_t first, float *out)
{
    int64_t n = s->tokens - first < KEYS ? s->tokens - first : KEYS;
    unpack(s, m, kv_head, first, n, 1, out);
    memset(out + n * s->padded_dim, 0, (size_t)((KEYS - n) * s->padded_dim) * sizeof *out);
}

/* to [cols, KEYS] = from [KEYS, cols] turned. */
static void transpose_keys(int64_t cols, const float *from, float *to)
{
    for (int64_t j = 0; j < KEYS; j++)
        for (int64_t c = 0; c < cols; c++) to[c * KEYS + j] = from[j * cols + c];
}

/* ---- visibility --------------------------------------------------------------------------------------------------------- */

/* First key that query i sees; the last is i itself. */
static int64_t first_key(const qs_attention *a, int64_t i)
{
    int64_t from = a->document[i];
    if (a->window && i - a->window + 1 > from) from = i - a->window + 1;
    return from < 0 ? 0 : from;
}

/* Keys [begin, end) that any query of [first, last] sees, begin rounded down to a tile; *all_from: keys of the tile from here up to
 * `first` are seen by every one of them. */
static void visible_keys(const qs_attention *a, int64_t first, int64_t last, int64_t *begin, int64_t *end, int64_t *all_from)
{
    int64_t low = INT64_MAX, high = 0;
    for (int64_t i = first; i <= last; i++) {
        int64_t from = first_key(a, i);
        low = from < low ? from : low;
        high = from > high ? from : high;
    }
    *begin = low / KEYS * KEYS;
    *end = last + 1;
    *all_from = high;
}

/* -infinity at the keys of the tile at `key` that row i of the scores must not see. */
static void mask_row(float *row, int64_t key, int64_t from, int64_t to)
{
    for (int j = 0; j < KEYS; j++)
        if (key + j < from || key + j > to) row[j] = -INFINITY;
}

static void mask_tile(const qs_attention *a, const shape *s, int64_t first, int64_t key, float *scores)
{
    for (int t = 0; t < s->tile_tokens; t++) {
        int64_t i = first + t;
        int64_t from = i < s->tokens ? first_key(a, i) : 0, to = i < s->tokens ? i : -1; /* a row past the end sees nothing */
        for (int g = 0; g < s->group; g++) mask_row(scores + ((int64_t)g * s->tile_tokens + t) * KEYS, key, from, to);
    }
}

/* The query tile at `first`: its last token, the keys it needs, and whether a key tile needs a mask. */
typedef struct span { int64_t first, last, key_begin, key_end, all_from; } span;

static span span_of(const qs_attention *a, const shape *s, int64_t tile)
{
    span x = {.first = tile * s->tile_tokens};
    x.last = x.first + s->tile_tokens < s->tokens ? x.first + s->tile_tokens - 1 : s->tokens - 1;
    visible_keys(a, x.first, x.last, &x.key_begin, &x.key_end, &x.all_from);
    return x;
}

static bool needs_mask(const shape *s, const span *x, int64_t key)
{
    return key < x->all_from || key + KEYS - 1 > x->first || x->first + s->tile_tokens > s->tokens;
}

/* ---- forward --------------------------------------------------------------------------------------------------------------- */

typedef struct forward_buffers { float *q, *o, *scores, *k, *k_turned, *v, *max, *sum; } forward_buffers;

static float *take(qs_arena *arena, int64_t floats) { return qs_arena_take(arena, (size_t)floats * sizeof(float), 64); }

static forward_buffers forward_carve(qs_arena *arena, const shape *s)
{
    forward_buffers b;
    b.q = take(arena, s->rows * s->padded_dim);
    b.o = take(arena, s->rows * s->padded_dim);
    b.scores = take(arena, (int64_t)s->rows * KEYS);
    b.k = take(arena, KEYS * s->padded_dim);
    b.k_turned = take(arena, KEYS * s->padded_dim);
    b.v = take(arena, KEYS * s->padded_dim);
    b.max = take(arena, s->rows);
    b.sum = take(arena, s->rows);
    return b;
}

/* Turns a row of scores into exp(score - max), scaling down what was summed under an older maximum. */
static void softmax_row(float *scores, float *o, int64_t padded_dim, float *max, float *sum)
{
    v16 x[KEYS / V16], top = v16_all(-INFINITY), total = {0};
    for (int k = 0; k < KEYS / V16; k++) {
        x[k] = v16_load_f32(scores + k * V16);
        top = v16_max(x[k], top);
    }
    float tile_max = v16_top(top), new_max = tile_max > *max || isnan(tile_max) ? tile_max : *max;
    float base = new_max == -INFINITY ? 0 : new_max; /* nothing visible yet: exp(-inf - 0) = 0 */
    for (int k = 0; k < KEYS / V16; k++) {
        x[k] = v16_exp(x[k] - base);
        total += x[k];
        v16_store_f32(scores + k * V16, x[k]);
    }
    if (new_max != *max) {
        float shrink = expf(*max - base);
        *sum *= shrink;
        for (int64_t j = 0; j < padded_dim; j += V16) v16_store_f32(o + j, v16_load_f32(o + j) * shrink);
    }
    *sum += v16_sum(total);
    *max = new_max;
}

static void forward_tile(const qs_attention *a, const shape *s, const forward_buffers *b, int64_t kv_head, int64_t tile)
{
    span x = span_of(a, s, tile);
    int64_t dim = s->padded_dim;
    unpack_queries(s, a->q, kv_head, x.first, a->scale, b->q);
    memset(b->o, 0, (size_t)(s->rows * dim) * sizeof(float));
    for (int r = 0; r < s->rows; r++) b->max[r] = -INFINITY, b->sum[r] = 0;
    for (int64_t key = x.key_begin; key < x.key_end; key += KEYS) {
        unpack_keys(s, a->k, kv_head, key, b->k);
        transpose_keys(dim, b->k, b->k_turned);
        unpack_keys(s, a->v, kv_head, key, b->v);
        tile_product(false, s->rows, KEYS, dim, b->q, dim, 1, b->k_turned, KEYS, b->scores, KEYS);
        if (needs_mask(s, &x, key)) mask_tile(a, s, x.first, key, b->scores);
        for (int r = 0; r < s->rows; r++)
            softmax_row(b->scores + (int64_t)r * KEYS, b->o + r * dim, dim, &b->max[r], &b->sum[r]);
        tile_product(true, s->rows, dim, KEYS, b->scores, KEYS, 1, b->v, dim, b->o, dim);
    }
    for (int g = 0; g < s->group; g++)
        for (int64_t i = x.first; i <= x.last; i++) {
            int64_t head = kv_head * s->group + g, r = g * s->tile_tokens + (i - x.first);
            char *out = qs_mat_row(a->o, i) + (size_t)(head * s->dim) * qs_dtype_bytes(a->o.type);
            float inverse = 1.0f / b->sum[r];
            for (int64_t j = 0; j < s->dim; j += V16)
                v16_store(out, a->o.type, j, s->dim - j, v16_load_f32(b->o + r * dim + j) * inverse);
            a->lse[head * s->tokens + i] = b->max[r] + logf(b->sum[r]);
        }
}

void qs_cpu_attention(qs_device *d, const qs_attention *a)
{
    shape s = shape_of(a);
    qs_arena count = {0};
    forward_carve(&count, &s);
    size_t per_thread = qs_round_up(count.used, 64);
    char *workspace = qs_cpu_workspace(d, per_thread * (size_t)d->info.threads);
    int64_t units = a->kv_heads * s.tiles;
#pragma omp parallel num_threads(d->info.threads)
    {
        qs_arena mine = {workspace + per_thread * (size_t)omp_get_thread_num(), per_thread, 0};
        forward_buffers b = forward_carve(&mine, &s);
#pragma omp for schedule(dynamic)
        for (int64_t u = 0; u < units; u++) /* the longest tiles first */
            forward_tile(a, &s, &b, u % a->kv_heads, s.tiles - 1 - u / a->kv_heads);
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------------------- */

typedef struct backward_buffers { float *q, *d_o, *dq, *p, *ds, *k, *k_turned, *v, *v_turned, *lse, *delta; } backward_buffers;

static backward_buffers backward_carve(qs_arena *arena, const shape *s)
{
    backward_buffers b;
    b.q = take(arena, s->rows * s->padded_dim);
    b.d_o = take(arena, s->rows * s->padded_dim);
    b.dq = take(arena, s->rows * s->padded_dim);
    b.p = take(arena, (int64_t)s->rows * KEYS);
    b.ds = take(arena, (int64_t)s->rows * KEYS);
    b.k = take(arena, KEYS * s->padded_dim);
    b.k_turned = take(arena, KEYS * s->padded_dim);
    b.v = take(arena, KEYS * s->padded_dim);
    b.v_turned = take(arena, KEYS * s->padded_dim);
    b.lse = take(arena, s->rows);
    b.delta = take(arena, s->rows);
    return b;
}

/* How the work of the backward pass is cut, and the memory it takes: tile buffers for every thread, then fp32 sums of dK and dV,
 * one pair per thread (one unit per kv head), or one per unit when a kv head is dealt out to several units. */
typedef struct backward_plan {
    int64_t parts; /* units per kv head */
    size_t per_thread, sum_floats, bytes;
} backward_plan;

static backward_plan backward_plan_of(const qs_attention *a, const shape *s, int threads)
{
    backward_plan plan = {.parts = (threads + a->kv_heads - 1) / a->kv_heads};
    if (plan.parts > s->tiles) plan.parts = s->tiles;
    qs_arena count = {0};
    backward_carve(&count, s);
    plan.per_thread = qs_round_up(count.used, 64);
    plan.sum_floats = qs_round_up((size_t)s->tokens, KEYS) * (size_t)s->padded_dim;
    size_t sums = plan.parts == 1 ? (size_t)threads : (size_t)(plan.parts * a->kv_heads);
    plan.bytes = plan.per_thread * (size_t)threads + sums * 2 * plan.sum_floats * sizeof(float);
    return plan;
}

/* delta = sum of o * d_o of a query: what the softmax's derivative subtracts. */
static void load_row_values(const qs_attention *a, const shape *s, const backward_buffers *b, qs_mat d_o, int64_t kv_head, const span *x)
{
    for (int g = 0; g < s->group; g++)
        for (int t = 0; t < s->tile_tokens; t++) {
            int64_t i = x->first + t, head = kv_head * s->group + g, r = (int64_t)g * s->tile_tokens + t;
            b->lse[r] = b->delta[r] = 0;
            if (i > x->last) continue;
            b->lse[r] = a->lse[head * s->tokens + i];
            size_t at = (size_t)(head * s->dim) * qs_dtype_bytes(a->o.type);
            const char *o = qs_mat_row(a->o, i) + at, *g_o = qs_mat_row(d_o, i) + at;
            v16 dot = {0};
            for (int64_t j = 0; j < s->dim; j += V16)
                dot = v16_fma(v16_load(o, a->o.type, j, s->dim - j), v16_load(g_o, d_o.type, j, s->dim - j), dot);
            b->delta[r] = v16_sum(dot);
        }
}

/* p: scores -> probabilities; ds: gradient of the probabilities -> gradient of the scores. */
static void softmax_backward_row(float *p, float *ds, float lse, float delta)
{
    for (int j = 0; j < KEYS; j += V16) {
        v16 probability = v16_exp(v16_load_f32(p + j) - lse);
        v16_store_f32(p + j, probability);
        v16_store_f32(ds + j, probability * (v16_load_f32(ds + j) - delta));
    }
}

static void backward_tile(const qs_attention *a, const shape *s, const backward_buffers *b, qs_mat d_o, qs_mat dq, int64_t kv_head,
                          int64_t tile, float *dk_sum, float *dv_sum)
{
    span x = span_of(a, s, tile);
    int64_t dim = s->padded_dim;
    unpack_queries(s, a->q, kv_head, x.first, a->scale, b->q);
    unpack_queries(s, d_o, kv_head, x.first, 1, b->d_o);
    load_row_values(a, s, b, d_o, kv_head, &x);
    memset(b->dq, 0, (size_t)(s->rows * dim) * sizeof(float));
    for (int64_t key = x.key_begin; key < x.key_end; key += KEYS) {
        unpack_keys(s, a->k, kv_head, key, b->k);
        transpose_keys(dim, b->k, b->k_turned);
        unpack_keys(s, a->v, kv_head, key, b->v);
        transpose_keys(dim, b->v, b->v_turned);
        tile_product(false, s->rows, KEYS, dim, b->q, dim, 1, b->k_turned, KEYS, b->p, KEYS);
        if (needs_mask(s, &x, key)) mask_tile(a, s, x.first, key, b->p);
        tile_product(false, s->rows, KEYS, dim, b->d_o, dim, 1, b->v_turned, KEYS, b->ds, KEYS);
        for (int r = 0; r < s->rows; r++)
            softmax_backward_row(b->p + (int64_t)r * KEYS, b->ds + (int64_t)r * KEYS, b->lse[r], b->delta[r]);
        tile_product(true, s->rows, dim, KEYS, b->ds, KEYS, 1, b->k, dim, b->dq, dim);
        tile_product(true, KEYS, dim, s->rows, b->ds, 1, KEYS, b->q, dim, dk_sum + key * dim, dim);
        tile_product(true, KEYS, dim, s->rows, b->p, 1, KEYS, b->d_o, dim, dv_sum + key * dim, dim);
    }
    for (int g = 0; g < s->group; g++)
        for (int64_t i = x.first; i <= x.last; i++) {
            int64_t head = kv_head * s->group + g, r = g * s->tile_tokens + (i - x.first);
            char *out = qs_mat_row(dq, i) + (size_t)(head * s->dim) * qs_dtype_bytes(dq.type);
            for (int64_t j = 0; j < s->dim; j += V16)
                v16_store(out, dq.type, j, s->dim - j, v16_load_f32(b->dq + r * dim + j) * a->scale);
        }
}

/* Rows of a kv head of m from `parts` fp32 sums, added in order. */
static void store_keys(const shape *s, qs_mat m, int64_t kv_head, const float *sums, int64_t parts, size_t part_step)
{
    for (int64_t i = 0; i < s->tokens; i++) {
        char *out = qs_mat_row(m, i) + (size_t)(kv_head * s->dim) * qs_dtype_bytes(m.type);
        for (int64_t j = 0; j < s->dim; j += V16) {
            const float *at = sums + i * s->padded_dim + j;
            v16 total = v16_load_f32(at);
            for (int64_t part = 1; part < parts; part++) total += v16_load_f32(at + (size_t)part * part_step);
            v16_store(out, m.type, j, s->dim - j, total);
        }
    }
}

void qs_cpu_attention_backward(qs_device *d, const qs_attention *a, qs_mat d_o, qs_mat dq, qs_mat dk, qs_mat dv)
{
    shape s = shape_of(a);
    int threads = d->info.threads;
    backward_plan plan = backward_plan_of(a, &s, threads);
    char *workspace = qs_cpu_workspace(d, plan.bytes);
    float *sums = (float *)(workspace + plan.per_thread * (size_t)threads);
    int64_t units = a->kv_heads * plan.parts;
#pragma omp parallel num_threads(threads)
    {
        qs_arena mine = {workspace + plan.per_thread * (size_t)omp_get_thread_num(), plan.per_thread, 0};
        backward_buffers b = backward_carve(&mine, &s);
#pragma omp for schedule(dynamic)
        for (int64_t u = 0; u < units; u++) {
            int64_t kv_head = u / plan.parts, part = u % plan.parts;
            float *dk_sum = sums + (size_t)(plan.parts == 1 ? omp_get_thread_num() : u) * 2 * plan.sum_floats;
            float *dv_sum = dk_sum + plan.sum_floats;
            memset(dk_sum, 0, 2 * plan.sum_floats * sizeof(float));
            for (int64_t tile = part; tile < s.tiles; tile += plan.parts)
                backward_tile(a, &s, &b, d_o, dq, kv_head, tile, dk_sum, dv_sum);
            if (plan.parts == 1) {
                store_keys(&s, dk, kv_head, dk_sum, 1, 0);
                store_keys(&s, dv, kv_head, dv_sum, 1, 0);
            }
        }
        if (plan.parts > 1) {
#pragma omp for schedule(static)
            for (int64_t h = 0; h < 2 * a->kv_heads; h++) {
                const float *first = sums + (size_t)(h / 2 * plan.parts) * 2 * plan.sum_floats + (size_t)(h % 2) * plan.sum_floats;
                store_keys(&s, h % 2 ? dv : dk, h / 2, first, plan.parts, 2 * plan.sum_floats);
            }
        }
    }
}

size_t qs_cpu_attention_workspace_bytes(qs_device *d, const qs_attention *a)
{
    shape s = shape_of(a);
    qs_arena count = {0};
    forward_carve(&count, &s);
    size_t forward = qs_round_up(count.used, 64) * (size_t)d->info.threads;
    size_t backward = backward_plan_of(a, &s, d->info.threads).bytes;
    return forward > backward ? forward : backward;
}
