#include "src/train/score.h"

#include <string.h>

#include "src/base/memory.h"

/* A continuation whose value the next sweep brings. */
typedef struct pending {
    int32_t micro_batch;
    int64_t first, count; /* rows of the micro-batch that have a target */
    double *out;
} pending;

struct qs_scorer {
    qs_engine *engine;
    int32_t filled; /* micro-batches begun */
    pending *asked;
    int64_t count, capacity;
};

void qs_scorer_open(qs_engine *engine, qs_scorer **out)
{
    *out = qs_calloc(1, sizeof **out);
    (*out)->engine = engine;
}

void qs_scorer_close(qs_scorer *s)
{
    if (s) qs_free(s->asked);
    qs_free(s);
}

static qs_micro_batch *begin_micro_batch(qs_scorer *s)
{
    qs_micro_batch *b = qs_sweep_batch(s->engine->sweep, s->filled++);
    b->tokens = b->documents = b->targets = 0;
    b->offsets[0] = 0;
    return b;
}

static void add_document(qs_micro_batch *b, const int32_t *ids, int64_t count, int64_t context)
{
    int64_t at = b->tokens;
    for (int64_t i = 0; i < count; i++) {
        b->ids[at + i] = ids[i];
        b->target[at + i] = i + 1 >= context && i + 1 < count ? ids[i + 1] : -1;
        b->positions[at + i] = (int32_t)i;
        b->document_start[at + i] = (int32_t)at;
    }
    b->tokens += count;
    b->targets += count - context;
    b->offsets[++b->documents] = (int32_t)b->tokens;
}

static void note(qs_scorer *s, pending p)
{
    if (s->count == s->capacity) {
        s->capacity = s->capacity ? 2 * s->capacity : 64;
        s->asked = qs_realloc(s->asked, (size_t)s->capacity * sizeof *s->asked);
    }
    s->asked[s->count++] = p;
}

int qs_scorer_flush(qs_scorer *s, qs_err *e)
{
    qs_sweep_result r;
    if (!s->count) return 0;
    QS_TRY(qs_sweep_evaluate(s->engine->sweep, s->filled, &r, e));
    for (int64_t k = 0; k < s->count; k++) {
        const pending *p = &s->asked[k];
        const float *loss = qs_sweep_losses(s->engine->sweep, p->micro_batch);
        double sum = 0;
        for (int64_t i = 0; i < p->count; i++) sum -= loss[p->first + i];
        *p->out = sum;
    }
    s->filled = 0;
    s->count = 0;
    return 0;
}

int qs_scorer_add(qs_scorer *s, const int32_t *ids, size_t count, size_t context, double *out, qs_err *e)
{
    const qs_sweep_sizes *sizes = &s->engine->sweep_config.sizes;
    size_t room =
        (size_t)(sizes->max_positions < sizes->max_tokens ? sizes->max_positions : sizes->max_tokens);
    QS_ASSERT(context >= 1 && context < count);
    if (count > room) { /* the front goes */
        size_t cut = count - room;
        if (cut >= context)
            QS_FAIL(e, QS_EINVAL,
                    "a continuation of %zu tokens does not fit into %zu; raise --max_seq_length",
                    count - context, room);
        ids += cut, count -= cut, context -= cut;
    }
    qs_micro_batch *b = s->filled ? qs_sweep_batch(s->engine->sweep, s->filled - 1) : begin_micro_batch(s);
    if (b->tokens + (int64_t)count > sizes->max_tokens || b->documents >= sizes->max_documents) {
        if (s->filled == sizes->micro_batches) QS_TRY(qs_scorer_flush(s, e));
        b = begin_micro_batch(s);
    }
    note(s, (pending){s->filled - 1, b->tokens + (int64_t)context - 1, (int64_t)(count - context), out});
    add_document(b, ids, (int64_t)count, (int64_t)context);
    return 0;
}
