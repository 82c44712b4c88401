#include "kernels/cpu/attention_parts.h"
#include "kernels/cpu/vec_math.h"

#include <math.h>

enum { KEYS = QS_ATTENTION_KEYS };

static void mask_row(float *row, int64_t cols, int64_t from, int64_t to)
{
    int32_t low = from < 0 ? 0 : (int32_t)from, high = to > KEYS ? KEYS : (int32_t)to;
    for (int64_t j = 0; j < cols; j += VW) {
        vi key = vec_lanes() + (int32_t)j;
        vec_store_f32(row + j,
                      vec_select((key >= low) & (key <= high), vec_load_f32(row + j), vec_all(-INFINITY)));
    }
}

void QS_CPU(attention_mask)(const qs_attention *a, const qs_attention_shape *s, const qs_attention_span *x,
                            const qs_attention_step *t, float *scores)
{
    for (int token = t->skip; token < s->tile_tokens; token++) {
        int64_t i = x->first + token;
        bool there = i <= x->last;
        int64_t from = there ? qs_attention_first_key(a, i) - t->first : 0, to = there ? i - t->first : -1;
        if (from > KEYS) from = KEYS;
        if (to < -1) to = -1;
        for (int g = 0; g < s->group; g++)
            mask_row(scores + ((int64_t)g * s->tile_tokens + token) * KEYS, t->cols, from, to);
    }
}

void QS_CPU(attention_cap)(const qs_attention *a, const qs_attention_shape *s, const qs_attention_step *t,
                           float *scores)
{
    if (a->softcap == 0) return;
    float in = a->scale / a->softcap, out = a->softcap / a->scale;
    for (int k = 0; k < t->runs; k++) {
        int64_t first = qs_attention_run(s, t, k);
        for (int64_t r = first; r < first + t->rows; r++)
            for (int64_t j = 0; j < t->cols; j += VW)
                vec_store_f32(scores + r * KEYS + j,
                              out * vec_tanh(vec_load_f32(scores + r * KEYS + j) * in));
    }
}

static qs_mat head_rows(const qs_attention_shape *s, qs_mat m, int64_t head, int64_t first, int64_t n)
{
    return qs_mat_part(m, first, n, head * s->dim, s->dim);
}

void QS_CPU(pack_queries_k_major)(const qs_attention_shape *s, const qs_attention_span *x, qs_mat m,
                                  int64_t kv_head, uint32_t *out)
{
    int64_t n = x->last - x->first + 1;
    for (int g = 0; g < s->group; g++) {
        qs_mat part = head_rows(s, m, kv_head * s->group + g, x->first, n);
        uint32_t *to = out + (int64_t)g * s->tile_tokens * s->dim_units;
        QS_CPU(pack_k_major)(s->unit, part.data, part.type, part.stride, n, s->dim, to, s->dim_units);
        memset(to + n * s->dim_units, 0, (size_t)((s->tile_tokens - n) * s->dim_units) * 4);
    }
}

void QS_CPU(pack_queries_mn_major)(const qs_attention_shape *s, const qs_attention_span *x, qs_mat m,
                                   int64_t kv_head, uint32_t *out)
{
    int64_t n = x->last - x->first + 1, used = qs_unit_count(s->unit, n),
            all = s->tile_tokens / qs_unit_elements(s->unit);
    for (int g = 0; g < s->group; g++) {
        qs_mat part = head_rows(s, m, kv_head * s->group + g, x->first, n);
        uint32_t *to = out + g * all * s->padded_dim;
        QS_CPU(pack_mn_major)(s->unit, part.data, part.type, part.stride, s->dim, n, to, s->padded_dim);
        memset(to + used * s->padded_dim, 0, (size_t)((all - used) * s->padded_dim) * 4);
    }
}

void QS_CPU(pack_keys_transpose)(const qs_attention_shape *s, const qs_attention_step *t, qs_mat m,
                                 int64_t kv_head, uint32_t *out)
{
    qs_mat part = head_rows(s, m, kv_head, t->first, t->present);
    QS_CPU(pack_transpose)(s->unit, part.data, part.type, part.stride, t->present, s->dim, out, KEYS);
}

void QS_CPU(pack_keys_mn_major)(const qs_attention_shape *s, const qs_attention_step *t, qs_mat m,
                                int64_t kv_head, uint32_t *out)
{
    qs_mat part = head_rows(s, m, kv_head, t->first, t->present);
    int64_t used = qs_unit_count(s->unit, t->present), all = t->cols / qs_unit_elements(s->unit);
    QS_CPU(pack_mn_major)(s->unit, part.data, part.type, part.stride, s->dim, t->present, out, s->padded_dim);
    memset(out + used * s->padded_dim, 0, (size_t)((all - used) * s->padded_dim) * 4);
}

void QS_CPU(attention_scores)(const qs_attention_shape *s, const qs_attention_step *t,
                              const uint32_t *queries, const uint32_t *keys, float *scores)
{
    for (int k = 0; k < t->runs; k++) {
        int64_t r = qs_attention_run(s, t, k);
        QS_CPU(tile_product)
        (s->unit, false, t->rows, t->cols, qs_unit_count(s->unit, s->dim), queries + r * s->dim_units,
         s->dim_units, 1, keys, KEYS, scores + r * KEYS, KEYS);
    }
}
