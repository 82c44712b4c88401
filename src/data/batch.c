#include "src/data/batch.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/data/packing.h"

/* Streams of the seeded generator: the epoch is added to the first. */
#define STREAM_SHUFFLE 0x65706f6300000000u
#define STREAM_SPLIT 0x73706c6974000000u

/* Some samples of a cache, in file order; index NULL: all of them. */
typedef struct part {
    const qs_token_cache *cache;
    const int32_t *index;
    int64_t count;
} part;

struct qs_batcher {
    qs_batch_options o;
    part train, eval;
    int32_t *split;     /* the tables behind train.index and eval.index */
    qs_packing packing; /* of part train; rows 0 without packing */
    qs_batch_info info;
};

static int32_t sample_of(const part *p, int64_t i) { return p->index ? p->index[i] : (int32_t)i; }

static const qs_sample *entry_of(const part *p, int64_t i) { return &p->cache->samples[sample_of(p, i)]; }

/* Whether sample i begins another row than the one before it: pieces of a row, and its copies, stand
 * together. */
static bool begins_row(const qs_token_cache *c, int64_t i)
{
    return !i || c->samples[i].row != c->samples[i - 1].row || c->samples[i].file != c->samples[i - 1].file;
}

static int64_t count_rows(const qs_token_cache *c)
{
    int64_t rows = 0;
    for (int64_t i = 0; i < c->sample_count; i++) rows += begins_row(c, i);
    return rows;
}

/* Sets aside the samples of some rows for validation, so that no row is on both sides: the first n of a
 * seeded permutation of the rows; both parts keep file order. */
static void split_off(qs_batcher *b, int64_t rows, int64_t held_rows)
{
    const qs_token_cache *c = b->train.cache;
    int64_t n = c->sample_count, k = 0, row = -1, held_out = 0;
    bool *held = qs_calloc((size_t)rows, sizeof *held), *eval = qs_calloc((size_t)n, sizeof *eval);
    for (int64_t i = 0; i < held_rows; i++)
        held[qs_random_permute(b->o.seed, STREAM_SPLIT, (uint64_t)rows, (uint64_t)i)] = true;
    for (int64_t i = 0; i < n; i++) {
        row += begins_row(c, i);
        eval[i] =
            held[row] && (begins_row(c, i) ||
                          c->samples[i].first != c->samples[i - 1].first); /* of copies, one is enough */
        held_out += eval[i];
    }
    b->split = qs_malloc((size_t)n * sizeof *b->split);
    for (int64_t i = 0; i < n; i++)
        if (eval[i]) b->split[k++] = (int32_t)i;
    row = -1;
    for (int64_t i = 0; i < n; i++) {
        row += begins_row(c, i);
        if (!held[row]) b->split[k++] = (int32_t)i;
    }
    qs_free(held);
    qs_free(eval);
    b->eval = (part){c, b->split, held_out};
    b->train = (part){c, b->split + held_out, k - held_out};
}

/* Sum of the k largest of count values (all of them when there are fewer). */
static int64_t sum_of_largest(const int32_t *values, int64_t count, int64_t k)
{
    int32_t max = 0;
    for (int64_t i = 0; i < count; i++)
        if (values[i] > max) max = values[i];
    int64_t *times = qs_calloc((size_t)max + 1, sizeof *times), sum = 0;
    for (int64_t i = 0; i < count; i++) times[values[i]]++;
    for (int64_t v = max; v > 0 && k > 0; v--) {
        int64_t n = times[v] < k ? times[v] : k;
        sum += n * v;
        k -= n;
    }
    qs_free(times);
    return sum;
}

static int64_t max64(int64_t a, int64_t b) { return a > b ? a : b; }

/* Packs the training part, and finds the largest micro-batch that can come up. */
static void size_up(qs_batcher *b)
{
    qs_batch_info *info = &b->info;
    const qs_batch_options *o = &b->o;
    int64_t n = max64(b->train.count, b->eval.count);
    int32_t *length = qs_malloc((size_t)n * sizeof *length);
    for (int64_t i = 0; i < b->eval.count; i++) length[i] = entry_of(&b->eval, i)->tokens;
    info->max_tokens = sum_of_largest(length, b->eval.count, o->eval_rows);
    info->max_documents = b->eval.count < o->eval_rows ? b->eval.count : o->eval_rows;

    for (int64_t i = 0; i < b->train.count; i++) {
        const qs_sample *s = entry_of(&b->train, i);
        length[i] = s->tokens;
        info->train_tokens += s->tokens;
        info->train_targets += s->targets;
    }
    info->train_rows = b->train.count;
    int64_t documents = info->train_rows < o->rows ? info->train_rows : o->rows;
    if (o->packing) {
        qs_packing_build(length, b->train.count, o->max_seq_length, &b->packing);
        info->train_rows = b->packing.rows;
        int32_t *row_documents = qs_malloc((size_t)info->train_rows * sizeof(int32_t));
        int32_t *row_tokens = qs_calloc((size_t)info->train_rows, sizeof(int32_t));
        for (int64_t r = 0; r < info->train_rows; r++) {
            row_documents[r] = b->packing.start[r + 1] - b->packing.start[r];
            for (int32_t k = b->packing.start[r]; k < b->packing.start[r + 1]; k++)
                row_tokens[r] += length[b->packing.samples[k]];
        }
        documents = sum_of_largest(row_documents, info->train_rows, o->rows);
        info->max_tokens = max64(info->max_tokens, sum_of_largest(row_tokens, info->train_rows, o->rows));
        qs_free(row_documents);
        qs_free(row_tokens);
    } else {
        info->max_tokens = max64(info->max_tokens, sum_of_largest(length, b->train.count, o->rows));
    }
    info->max_documents = max64(info->max_documents, documents);
    qs_free(length);
}

int qs_batcher_create(const qs_token_cache *train, const qs_token_cache *eval, const qs_batch_options *o,
                      qs_batcher **out, qs_err *e)
{
    *out = NULL;
    if (o->rows < 1 || o->micro_batches < 1 || o->eval_rows < 0)
        QS_FAIL(e, QS_EINVAL, "batch sizes must be at least 1, found %lld rows and %lld micro-batches",
                (long long)o->rows, (long long)o->micro_batches);
    int64_t n = train->sample_count;
    if (n > INT32_MAX) QS_FAIL(e, QS_EUNSUP, "%s: has more than 2^31 samples", train->files[0]);
    if (!(o->val_set_size >= 0))
        QS_FAIL(e, QS_EINVAL, "val_set_size must be 0 or more, found %g", o->val_set_size);
    if (eval && o->val_set_size > 0)
        QS_FAIL(e, QS_EINVAL,
                "eval_data and val_set_size both given; expected at most one: val_set_size takes validation "
                "samples "
                "out of the training data");
    /* A fraction is rounded up, as scikit-learn's train_test_split does for its test part. */
    int64_t rows = o->val_set_size > 0 ? count_rows(train) : 0;
    double asked = o->val_set_size < 1 ? ceil(o->val_set_size * (double)rows) : floor(o->val_set_size);
    if (rows && asked >= (double)rows)
        QS_FAIL(e, QS_EINVAL, "%s: has %lld rows with samples, and val_set_size %g leaves none to train on",
                train->files[0], (long long)rows, o->val_set_size);
    if (o->packing && train->longest > o->max_seq_length)
        QS_FAIL(e, QS_EINVAL,
                "%s: its longest sample has %lld tokens; packing needs max_seq_length of at least that, "
                "found %lld",
                train->files[0], (long long)train->longest, (long long)o->max_seq_length);

    qs_batcher *b = qs_calloc(1, sizeof *b);
    b->o = *o;
    if (!b->o.eval_rows) b->o.eval_rows = o->rows;
    b->train = (part){train, NULL, n};
    if (eval) b->eval = (part){eval, NULL, eval->sample_count};
    if (asked > 0) split_off(b, rows, (int64_t)asked);
    size_up(b);

    qs_batch_info *info = &b->info;
    if (info->max_tokens > INT32_MAX) {
        qs_batcher_free(b);
        QS_FAIL(e, QS_EINVAL,
                "a micro-batch could hold %lld tokens; expected fewer than 2^31: lower "
                "per_device_train_batch_size",
                (long long)info->max_tokens);
    }
    info->train_samples = b->train.count;
    info->eval_samples = b->eval.count;
    int64_t batches = (info->train_rows + o->rows - 1) / o->rows;
    info->steps_per_epoch = (batches + o->micro_batches - 1) / o->micro_batches;
    info->eval_batches = (b->eval.count + b->o.eval_rows - 1) / b->o.eval_rows;
    info->table_bytes = (int64_t)sizeof *b + (b->split ? n * 4 : 0) +
                        (o->packing ? (info->train_rows + 1 + b->train.count) * 4 : 0);
    *out = b;
    return 0;
}

void qs_batcher_free(qs_batcher *b)
{
    if (!b) return;
    qs_packing_free(&b->packing);
    qs_free(b->split);
    qs_free(b);
}

const qs_batch_info *qs_batcher_info(const qs_batcher *b) { return &b->info; }

void qs_micro_batch_carve(const qs_batch_info *info, qs_arena *a, qs_micro_batch *m)
{
    size_t tokens = (size_t)info->max_tokens * sizeof(int32_t),
           documents = (size_t)info->max_documents * sizeof(int32_t);
    *m = (qs_micro_batch){0};
    m->ids = qs_arena_take(a, tokens, QS_ARENA_ALIGN);
    m->target = qs_arena_take(a, tokens, QS_ARENA_ALIGN);
    m->positions = qs_arena_take(a, tokens, QS_ARENA_ALIGN);
    m->document_start = qs_arena_take(a, tokens, QS_ARENA_ALIGN);
    m->samples = qs_arena_take(a, documents, QS_ARENA_ALIGN);
    m->offsets = qs_arena_take(a, documents + sizeof(int32_t), QS_ARENA_ALIGN);
}

/* The row at a place of an epoch's order. */
static int64_t row_at(const qs_batcher *b, int64_t epoch, int64_t position)
{
    if (b->o.in_order) return position;
    return (int64_t)qs_random_permute(b->o.seed, STREAM_SHUFFLE + (uint64_t)epoch,
                                      (uint64_t)b->info.train_rows, (uint64_t)position);
}

/* The members of the training part in a row: their number, and where they are listed. */
static int64_t members_of(const qs_batcher *b, int64_t row, const int32_t **members, int32_t *self)
{
    if (!b->o.packing) {
        *self = (int32_t)row;
        *members = self;
        return 1;
    }
    *members = b->packing.samples + b->packing.start[row];
    return b->packing.start[row + 1] - b->packing.start[row];
}

/* Positions [*first, *last) of the epoch's order that make up micro-batches [from, to) of a step. */
static void positions_of(const qs_batcher *b, int64_t step, int64_t from, int64_t to, int64_t *first,
                         int64_t *last)
{
    int64_t start = step % b->info.steps_per_epoch * b->o.micro_batches;
    *first = (start + from) * b->o.rows;
    *last = (start + to) * b->o.rows;
    if (*last > b->info.train_rows) *last = b->info.train_rows;
}

void qs_batcher_step(const qs_batcher *b, int64_t step, qs_step_info *out)
{
    QS_ASSERT(step >= 0);
    *out = (qs_step_info){.epoch = step / b->info.steps_per_epoch,
                          .step_of_epoch = step % b->info.steps_per_epoch};
    int64_t first, last;
    positions_of(b, step, 0, b->o.micro_batches, &first, &last);
    out->micro_batches = (int32_t)((last - first + b->o.rows - 1) / b->o.rows);
    for (int64_t p = first; p < last; p++) {
        const int32_t *members;
        int32_t self;
        int64_t n = members_of(b, row_at(b, out->epoch, p), &members, &self);
        for (int64_t i = 0; i < n; i++) {
            const qs_sample *s = entry_of(&b->train, members[i]);
            out->tokens += s->tokens;
            out->targets += s->targets;
        }
        out->documents += n;
    }
}

static void begin(qs_micro_batch *m, bool eval)
{
    m->tokens = m->documents = m->targets = 0;
    m->offsets[0] = 0;
    m->eval = eval;
}

static void add_document(const part *p, int64_t i, const qs_batch_info *info, qs_micro_batch *m)
{
    const qs_sample *s = entry_of(p, i);
    const uint32_t *tokens = p->cache->tokens + s->first;
    QS_ASSERT(m->tokens + s->tokens <= info->max_tokens && m->documents < info->max_documents);
    int64_t at = m->tokens;
    for (int32_t k = 0; k < s->tokens; k++) {
        uint32_t next = k + 1 < s->tokens ? tokens[k + 1] : 0;
        m->ids[at + k] = (int32_t)(tokens[k] & QS_TOKEN_ID_MASK);
        m->target[at + k] = next & QS_TOKEN_TRAINED ? (int32_t)(next & QS_TOKEN_ID_MASK) : -1;
        m->positions[at + k] = k;
        m->document_start[at + k] = (int32_t)at;
    }
    m->samples[m->documents++] = sample_of(p, i);
    m->tokens += s->tokens;
    m->targets += s->targets;
    m->offsets[m->documents] = (int32_t)m->tokens;
}

void qs_batcher_fill(const qs_batcher *b, int64_t step, int32_t index, qs_micro_batch *m)
{
    int64_t first, last;
    positions_of(b, step, index, index + 1, &first, &last);
    QS_ASSERT(step >= 0 && index >= 0 && index < b->o.micro_batches && first < last);
    begin(m, false);
    for (int64_t p = first; p < last; p++) {
        const int32_t *members;
        int32_t self;
        int64_t n = members_of(b, row_at(b, step / b->info.steps_per_epoch, p), &members, &self);
        for (int64_t i = 0; i < n; i++) add_document(&b->train, members[i], &b->info, m);
    }
    qs_token_cache_rest(b->train.cache);
}

void qs_batcher_fill_eval(const qs_batcher *b, int64_t index, qs_micro_batch *m)
{
    QS_ASSERT(index >= 0 && index < b->info.eval_batches);
    begin(m, true);
    for (int64_t i = index * b->o.eval_rows; i < (index + 1) * b->o.eval_rows && i < b->eval.count; i++)
        add_document(&b->eval, i, &b->info, m);
    qs_token_cache_rest(b->eval.cache);
}

void qs_batcher_name_sample(const qs_batcher *b, const qs_micro_batch *m, int64_t document, char *text,
                            size_t text_bytes)
{
    const qs_token_cache *c = m->eval ? b->eval.cache : b->train.cache;
    QS_ASSERT(document >= 0 && document < m->documents);
    const qs_sample *s = &c->samples[m->samples[document]];
    snprintf(text, text_bytes, "%s, row %u", c->files[s->file], s->row);
}
