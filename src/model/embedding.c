#include "src/model/embedding.h"

#include <string.h>

#include "src/base/memory.h"

enum { IN_FLIGHT = 64, FILL_BYTES = 1 << 20 };

struct qs_embedding {
    qs_source *source;
    qs_aio *aio;
    const qs_source_tensor *tensor;
    int64_t hidden;
    double scale;      /* 0: none */
    const char *table; /* NULL: read rows */
    uint64_t *order;   /* [max_tokens] token id << 32 | position, sorted */
    void *buffer[IN_FLIGHT];
    qs_source_read read[IN_FLIGHT];
};

static uint64_t row_bytes(const qs_architecture *a, const qs_source_tensor *t)
{
    return (uint64_t)a->hidden * qs_dtype_bytes(t->type);
}

static const qs_source_tensor *tensor_of(const qs_architecture *a, const qs_source *s)
{
    char name[128];
    qs_architecture_embedding_name(a, s, name);
    return qs_source_find(s, name);
}

static void carve(qs_embedding *m, uint64_t row, int32_t max_tokens, qs_arena *memory)
{
    /* Filling the table reuses the row buffers, so each holds at least FILL_BYTES / IN_FLIGHT. */
    uint64_t each = row > FILL_BYTES / IN_FLIGHT ? row : FILL_BYTES / IN_FLIGHT;
    for (int i = 0; i < IN_FLIGHT; i++)
        m->buffer[i] = qs_arena_take(memory, qs_source_buffer_bytes(each), 4096);
    m->order = qs_arena_take(memory, (size_t)max_tokens * sizeof *m->order, 64);
}

uint64_t qs_embedding_bytes(const qs_architecture *a, const qs_source *s, int32_t max_tokens)
{
    qs_embedding m = {0};
    qs_arena counting = {0};
    carve(&m, row_bytes(a, tensor_of(a, s)), max_tokens, &counting);
    return counting.used;
}

uint64_t qs_embedding_table_bytes(const qs_architecture *a, const qs_source *s)
{
    return tensor_of(a, s)->bytes;
}

static int fill_table(qs_embedding *m, char *table, qs_err *e)
{
    uint64_t row = qs_dtype_bytes(m->tensor->type) * (uint64_t)m->hidden,
             each = row > FILL_BYTES / IN_FLIGHT ? row : FILL_BYTES / IN_FLIGHT;
    uint64_t pieces = (m->tensor->bytes + each - 1) / each, started = 0;
    for (uint64_t done = 0; done < pieces; done++) {
        for (; started < pieces && started < done + IN_FLIGHT; started++) {
            qs_source_read *r = &m->read[started % IN_FLIGHT];
            uint64_t at = started * each, left = m->tensor->bytes - at;
            *r = (qs_source_read){.tensor = m->tensor,
                                  .offset = at,
                                  .bytes = left < each ? left : each,
                                  .buffer = m->buffer[started % IN_FLIGHT]};
            qs_source_read_start(m->source, m->aio, r);
        }
        qs_source_read *r = &m->read[done % IN_FLIGHT];
        int rc = qs_source_read_finish(m->source, m->aio, r, e);
        if (rc) {
            for (uint64_t i = done + 1; i < started; i++) {
                qs_err ignored = {0};
                qs_source_read_finish(m->source, m->aio, &m->read[i % IN_FLIGHT], &ignored);
            }
            return rc;
        }
        memcpy(table + r->offset, r->data, r->bytes);
    }
    return 0;
}

int qs_embedding_open(const qs_architecture *a, qs_source *s, qs_aio *aio, int32_t max_tokens,
                      qs_arena *memory, void *table, qs_embedding **out, qs_err *e)
{
    qs_embedding *m = qs_calloc(1, sizeof *m);
    *m = (qs_embedding){
        .source = s, .aio = aio, .tensor = tensor_of(a, s), .hidden = a->hidden, .scale = a->embedding_scale};
    carve(m, row_bytes(a, m->tensor), max_tokens, memory);
    int rc = table ? fill_table(m, table, e) : 0;
    if (rc) {
        qs_free(m);
        return rc;
    }
    m->table = table;
    *out = m;
    return 0;
}

void qs_embedding_close(qs_embedding *m) { qs_free(m); }

static void sink(uint64_t *x, uint64_t at, uint64_t n)
{
    for (uint64_t child; (child = 2 * at + 1) < n; at = child) {
        if (child + 1 < n && x[child + 1] > x[child]) child++;
        if (x[at] >= x[child]) return;
        uint64_t swap = x[at];
        x[at] = x[child];
        x[child] = swap;
    }
}

/* A heap sort: qsort takes memory, and a step must not. */
static void sort(uint64_t *x, uint64_t n)
{
    for (uint64_t at = n / 2; at--;) sink(x, at, n);
    for (uint64_t last = n; last-- > 1;) {
        uint64_t largest = x[0];
        x[0] = x[last];
        x[last] = largest;
        sink(x, 0, last);
    }
}

static uint64_t same_token(const uint64_t *order, uint64_t first, uint64_t n)
{
    uint64_t end = first + 1;
    while (end < n && order[end] >> 32 == order[first] >> 32) end++;
    return end;
}

/* A row of the table in out_type; scaled, the factor and the product are rounded to it. */
static void put_row(const qs_embedding *m, void *out, qs_dtype out_type, const void *row)
{
    qs_convert(out, out_type, row, m->tensor->type, (size_t)m->hidden);
    if (m->scale == 0) return;
    uint32_t factor = 0;
    qs_store_f32(&factor, out_type, 0, (float)m->scale);
    float scale = qs_load_f32(&factor, out_type, 0);
    for (size_t j = 0; j < (size_t)m->hidden; j++)
        qs_store_f32(out, out_type, j, qs_load_f32(out, out_type, j) * scale);
}

/* The sorted order is walked twice at once: `ahead` queues reads of distinct tokens, `at` uses them. */
static int gather_from_disk(qs_embedding *m, const int32_t *ids, uint64_t n, char *out, qs_dtype out_type,
                            qs_err *e)
{
    uint64_t row = (uint64_t)m->hidden * qs_dtype_bytes(m->tensor->type),
             out_row = (uint64_t)m->hidden * qs_dtype_bytes(out_type);
    for (uint64_t i = 0; i < n; i++) m->order[i] = (uint64_t)(uint32_t)ids[i] << 32 | i;
    sort(m->order, n);
    uint64_t ahead = 0, started = 0, finished = 0;
    int rc = 0;
    for (uint64_t at = 0; at < n;) {
        for (; !rc && ahead < n && started - finished < IN_FLIGHT; started++) {
            qs_source_read *r = &m->read[started % IN_FLIGHT];
            *r = (qs_source_read){.tensor = m->tensor,
                                  .offset = (m->order[ahead] >> 32) * row,
                                  .bytes = row,
                                  .buffer = m->buffer[started % IN_FLIGHT]};
            qs_source_read_start(m->source, m->aio, r);
            ahead = same_token(m->order, ahead, n);
        }
        if (finished == started) break; /* a read failed and no other is in flight */
        qs_source_read *r = &m->read[finished++ % IN_FLIGHT];
        qs_err ignored = {0};
        int failed = qs_source_read_finish(m->source, m->aio, r, rc ? &ignored : e);
        if (!rc) rc = failed;
        uint64_t end = same_token(m->order, at, n);
        for (; at < end; at++)
            if (!rc) put_row(m, out + (uint32_t)m->order[at] * out_row, out_type, r->data);
    }
    return rc;
}

int qs_embedding_gather(qs_embedding *m, const int32_t *ids, int32_t tokens, void *out, qs_dtype out_type,
                        qs_err *e)
{
    uint64_t row = (uint64_t)m->hidden * qs_dtype_bytes(m->tensor->type),
             out_row = (uint64_t)m->hidden * qs_dtype_bytes(out_type);
    if (!m->table) return gather_from_disk(m, ids, (uint64_t)tokens, out, out_type, e);
    for (int32_t i = 0; i < tokens; i++)
        put_row(m, (char *)out + (uint64_t)i * out_row, out_type,
                m->table + (uint64_t)(uint32_t)ids[i] * row);
    return 0;
}
