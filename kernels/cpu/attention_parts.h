/* attention_parts.h - what the forward and the backward pass of attention share: how the work is cut, and who
 * sees what.
 *
 * The unit of work is a query tile of one kv head: the queries of all heads that read that kv head are
 * stacked, head by head, so that a key tile is packed once for all of them. Every product is a small dense
 * one of packed tiles (tile.h). Key tiles that no query of the tile sees are skipped, and so are the parts of
 * a tile beyond the last visible key and before the first query that sees any.
 */
#ifndef QS_KERNELS_CPU_ATTENTION_PARTS_H
#define QS_KERNELS_CPU_ATTENTION_PARTS_H

#include "kernels/cpu/isa.h"
#include "kernels/cpu/tile.h"
#include "kernels/cpu/vec_math.h"
#include "src/base/arena.h"
#include "src/base/memory.h"

enum {
    QS_ATTENTION_KEYS = 64,  /* keys of a tile */
    QS_ATTENTION_ROWS = 128, /* query rows of a tile, all heads of the group together, about */
};

/* Sizes that follow from the arguments. */
typedef struct qs_attention_shape {
    int64_t tokens, dim, padded_dim; /* head size, and rounded up to QS_TILE_PAD */
    int group;                       /* heads per kv head */
    int tile_tokens, rows;           /* of a query tile; rows = group * tile_tokens, a multiple of 8 */
    int64_t tiles;
    qs_unit unit;
    int64_t dim_units; /* units of a head, rounded up to 16 */
} qs_attention_shape;

static inline qs_attention_shape qs_attention_shape_of(const qs_attention *a)
{
    qs_attention_shape s = {.tokens = a->q.rows,
                            .dim = a->head_dim,
                            .group = a->heads / a->kv_heads,
                            .unit = qs_unit_of(a->q.type)};
    s.padded_dim = (int64_t)qs_round_up((size_t)s.dim, QS_TILE_PAD);
    s.dim_units = (int64_t)qs_round_up((size_t)qs_unit_count(s.unit, s.dim), QS_TILE_PAD);
    s.tile_tokens =
        (int)qs_round_up(s.group < QS_ATTENTION_ROWS ? (size_t)(QS_ATTENTION_ROWS / s.group) : 1, 8);
    s.rows = s.group * s.tile_tokens;
    s.tiles = (s.tokens + s.tile_tokens - 1) / s.tile_tokens;
    return s;
}

/* n 32-bit words. */
static inline void *qs_attention_take(qs_arena *arena, int64_t n)
{
    return qs_arena_take(arena, (size_t)n * 4, QS_ARENA_ALIGN);
}

/* ---- visibility -------------------------------------------------------------------------------------- */

/* First key that query i sees; the last is i itself. */
static inline int64_t qs_attention_first_key(const qs_attention *a, int64_t i)
{
    int64_t from = a->document[i];
    if (a->window && i - a->window + 1 > from) from = i - a->window + 1;
    return from < 0 ? 0 : from;
}

/* The queries [first, last] of a tile, the keys [key_begin, key_end) that any of them sees (begin rounded
 * down to a key tile); keys in [all_from, first] are seen by every one. */
typedef struct qs_attention_span {
    int64_t first, last, key_begin, key_end, all_from;
} qs_attention_span;

static inline qs_attention_span qs_attention_span_of(const qs_attention *a, const qs_attention_shape *s,
                                                     int64_t tile)
{
    qs_attention_span x = {.first = tile * s->tile_tokens};
    x.last = x.first + s->tile_tokens < s->tokens ? x.first + s->tile_tokens - 1 : s->tokens - 1;
    int64_t low = INT64_MAX;
    for (int64_t i = x.first; i <= x.last; i++) {
        int64_t from = qs_attention_first_key(a, i);
        low = from < low ? from : low;
        x.all_from = from > x.all_from ? from : x.all_from;
    }
    x.key_begin = low / QS_ATTENTION_KEYS * QS_ATTENTION_KEYS;
    x.key_end = x.last + 1;
    return x;
}

/* One key tile under a query tile: keys [first, first + present) are there, columns up to `cols` (a multiple
 * of 16) are computed. Tokens of the query tile before `skip` see none of them; the rows that do come in
 * `runs` runs of `rows` rows, one for all heads when nothing is skipped. */
typedef struct qs_attention_step {
    int64_t first, present, cols;
    int skip, runs, rows;
    bool masked;
} qs_attention_step;

static inline qs_attention_step qs_attention_step_of(const qs_attention_shape *s, const qs_attention_span *x,
                                                     int64_t key)
{
    qs_attention_step t = {.first = key, .present = x->key_end - key};
    if (t.present > QS_ATTENTION_KEYS) t.present = QS_ATTENTION_KEYS;
    t.cols = (int64_t)qs_round_up((size_t)t.present, QS_TILE_PAD);
    t.skip = key > x->first ? (int)((key - x->first) / 8 * 8) : 0;
    t.runs = t.skip ? s->group : 1;
    t.rows = t.skip ? s->tile_tokens - t.skip : s->rows;
    t.masked = key < x->all_from || key + t.cols - 1 > x->first || x->first + s->tile_tokens > s->tokens;
    return t;
}

/* First row of run k. */
static inline int64_t qs_attention_run(const qs_attention_shape *s, const qs_attention_step *t, int k)
{
    return (int64_t)k * s->tile_tokens + t->skip;
}

/* Puts -infinity on the scores [rows, KEYS] that must not be seen; a row past the last token sees nothing. */
void QS_CPU(attention_mask)(const qs_attention *a, const qs_attention_shape *s, const qs_attention_span *x,
                            const qs_attention_step *t, float *scores);

/* With a soft cap: scores, which the softmax multiplies by scale, become what it makes of them divided by
 * scale. */
void QS_CPU(attention_cap)(const qs_attention *a, const qs_attention_shape *s, const qs_attention_step *t,
                           float *scores);

/* The queries of a tile, from head kv_head * group of m on: k-major [rows, dim_units], or mn-major [rows in
 * units, padded_dim]. Rows past the last token are 0. */
void QS_CPU(pack_queries_k_major)(const qs_attention_shape *s, const qs_attention_span *x, qs_mat m,
                                  int64_t kv_head, uint32_t *out);
void QS_CPU(pack_queries_mn_major)(const qs_attention_shape *s, const qs_attention_span *x, qs_mat m,
                                   int64_t kv_head, uint32_t *out);

/* The keys of a step, from a kv head of m: transposed [dim units, KEYS], or mn-major [keys in units,
 * padded_dim]. Keys past the end are 0. */
void QS_CPU(pack_keys_transpose)(const qs_attention_shape *s, const qs_attention_step *t, qs_mat m,
                                 int64_t kv_head, uint32_t *out);
void QS_CPU(pack_keys_mn_major)(const qs_attention_shape *s, const qs_attention_step *t, qs_mat m,
                                int64_t kv_head, uint32_t *out);

/* scores[rows, KEYS] = queries * keys, for the rows of the step. */
void QS_CPU(attention_scores)(const qs_attention_shape *s, const qs_attention_step *t,
                              const uint32_t *queries, const uint32_t *keys, float *scores);

/* Workspace of the two passes. */
size_t QS_CPU(attention_forward_bytes)(const qs_device *d, const qs_attention *a);
size_t QS_CPU(attention_backward_bytes)(const qs_device *d, const qs_attention *a);

#endif
