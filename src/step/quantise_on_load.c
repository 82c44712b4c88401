#include "src/step/quantise_on_load.h"

#include <string.h>
#include <xxhash.h>

#include "src/base/hash.h"
#include "src/base/memory.h"
#include "src/model/stored_quant.h"

/* A piece of a source tensor, in the order in which a blob is made. */
typedef struct piece {
    const qs_source_tensor *tensor;
    uint64_t first; /* element */
    uint64_t count;
    int index; /* of the layer's tensors, or -1: the head */
    int part;  /* qs_stored_part of a linear that is stored in 4 bits, or WHOLE */
} piece;

enum { WHOLE = -1 };

typedef struct chunk {
    qs_source_read read;
    void *buffer;
    bool arrived; /* the read has been finished */
} chunk;

struct qs_quantise_on_load {
    const qs_architecture *a;
    const qs_layout *l;
    qs_source *source;
    qs_aio *aio;
    qs_device *cpu;
    chunk chunks[QS_TOUCH_CHUNKS];
    float *absmax; /* of a whole tensor, when it is double quantised */
    int blob;      /* whose pieces are listed; -1: none */
    char *place;   /* where they have begun to be laid, or NULL */
    bool failed;   /* ahead of its turn: make tries again, and tells */
    piece *pieces;
    int count, capacity;
    int started, finished; /* pieces whose read was queued, was used */
    uint64_t read_bytes;
    XXH3_state_t *source_hash; /* of the pieces used so far */
};

static uint64_t chunk_elements(const qs_source_tensor *t)
{
    return QS_TOUCH_CHUNK_BYTES / qs_dtype_bytes(t->type);
}

static uint64_t elements(const qs_tensor *t)
{
    return (uint64_t)t->out * (uint64_t)(t->role == QS_TENSOR_LINEAR ? t->in : 1);
}

static int64_t largest_linear(const qs_layout *l)
{
    int64_t most = 0;
    for (int k = 0; k < l->a->kinds; k++)
        for (int i = 0; i < l->a->kind[k].tensors; i++) {
            int64_t n = (int64_t)elements(&l->a->kind[k].tensor[i]);
            if (n > most) most = n;
        }
    return most;
}

static void carve(qs_quantise_on_load *t, const qs_layout *l, qs_arena *a)
{
    for (int i = 0; i < QS_TOUCH_CHUNKS; i++)
        t->chunks[i].buffer = qs_arena_take(a, qs_source_buffer_bytes(QS_TOUCH_CHUNK_BYTES), 4096);
    t->absmax =
        qs_arena_take(a, l->quant.double_quant ? (size_t)qs_quant_blocks(largest_linear(l)) * 4 : 0, 4096);
}

uint64_t qs_quantise_on_load_bytes(const qs_layout *l)
{
    qs_quantise_on_load t = {0};
    qs_arena a = {0};
    carve(&t, l, &a);
    return a.used;
}

int qs_quantise_on_load_pieces(const qs_layout *l)
{
    uint64_t most = l->tile_bytes / QS_TOUCH_CHUNK_BYTES + 2;
    for (int k = 0; k < l->a->kinds; k++) {
        uint64_t pieces = 0;
        for (int i = 0; i < l->a->kind[k].tensors; i++)
            pieces += elements(&l->a->kind[k].tensor[i]) / (QS_TOUCH_CHUNK_BYTES / 4) + QS_STORED_PARTS;
        if (pieces > most) most = pieces;
    }
    return (int)most;
}

void qs_quantise_on_load_open(const qs_architecture *a, const qs_layout *l, qs_source *source, qs_aio *aio,
                              qs_device *cpu, qs_arena *memory, qs_quantise_on_load **out)
{
    qs_quantise_on_load *t = qs_calloc(1, sizeof *t);
    *t = (qs_quantise_on_load){.a = a, .l = l, .source = source, .aio = aio, .cpu = cpu, .blob = -1};
    t->source_hash = qs_hash_create();
    carve(t, l, memory);
    t->capacity = qs_quantise_on_load_pieces(l);
    t->pieces = qs_calloc((size_t)t->capacity, sizeof *t->pieces);
    *out = t;
}

static void list_tensor(qs_quantise_on_load *t, const qs_source_tensor *tensor, uint64_t first,
                        uint64_t count, int index, int part)
{
    QS_ASSERT(tensor);
    for (uint64_t done = 0; done < count;) {
        uint64_t n = count - done < chunk_elements(tensor) ? count - done : chunk_elements(tensor);
        QS_ASSERT(t->count < t->capacity);
        t->pieces[t->count++] = (piece){tensor, first + done, n, index, part};
        done += n;
    }
}

static void list_stored(qs_quantise_on_load *t, const qs_stored_linear *w, int index)
{
    for (int part = 0; part < QS_STORED_PARTS; part++)
        if (w->part[part])
            list_tensor(t, w->part[part], 0, w->part[part]->bytes / qs_dtype_bytes(w->part[part]->type),
                        index, part);
}

/* Lists the pieces of a blob. Vectors first, then linears: the blob's own order. */
static void list_blob(qs_quantise_on_load *t, int blob)
{
    const qs_layout *l = t->l;
    qs_stored_linear stored;
    char name[128];
    t->blob = blob;
    t->place = NULL;
    t->failed = false;
    t->count = t->started = t->finished = 0;
    XXH3_64bits_reset(t->source_hash);
    if (blob >= l->layers) {
        int32_t tile = blob - l->layers;
        qs_architecture_head_name(t->a, t->source, name);
        list_tensor(t, qs_source_find(t->source, name),
                    (uint64_t)tile * (uint64_t)l->tile_rows * (uint64_t)t->a->hidden,
                    (uint64_t)qs_layout_tile_rows(l, tile) * (uint64_t)t->a->hidden, -1, WHOLE);
        return;
    }
    const qs_layer *layer = qs_architecture_layer(t->a, blob);
    for (int linears = 0; linears < 2; linears++)
        for (int i = 0; i < layer->tensors; i++) {
            if ((layer->tensor[i].role == QS_TENSOR_LINEAR) != linears) continue;
            qs_architecture_tensor_name(t->a, blob, &layer->tensor[i], name);
            if (linears && t->l->quant.type != QS_QUANT_NONE &&
                qs_stored_linear_find(t->source, name, &stored))
                list_stored(t, &stored, i);
            else
                list_tensor(t, qs_source_find(t->source, name), 0, elements(&layer->tensor[i]), i, WHOLE);
        }
}

/* Queues reads until every chunk buffer is in use. */
static void read_ahead(qs_quantise_on_load *t)
{
    for (; t->started < t->count && t->started - t->finished < QS_TOUCH_CHUNKS; t->started++) {
        const piece *p = &t->pieces[t->started];
        chunk *c = &t->chunks[t->started % QS_TOUCH_CHUNKS];
        size_t each = qs_dtype_bytes(p->tensor->type);
        c->read = (qs_source_read){
            .tensor = p->tensor, .offset = p->first * each, .bytes = p->count * each, .buffer = c->buffer};
        c->arrived = false;
        qs_source_read_start(t->source, t->aio, &c->read);
        t->read_bytes += c->read.bytes;
    }
}

static int arrive(qs_quantise_on_load *t, chunk *c, qs_err *e)
{
    if (c->arrived) return 0;
    QS_TRY(qs_source_read_finish(t->source, t->aio, &c->read, e));
    c->arrived = true;
    return 0;
}

/* Forgets the blob, once reads that nobody will use have ended. */
static void abandon(qs_quantise_on_load *t)
{
    for (; t->finished < t->started; t->finished++) {
        qs_source_read *r = &t->chunks[t->finished % QS_TOUCH_CHUNKS].read;
        qs_err ignored = {0};
        if (!qs_source_read_done(t->source, t->aio, r)) qs_source_read_finish(t->source, t->aio, r, &ignored);
    }
    t->blob = -1;
}

void qs_quantise_on_load_expect(void *context, int blob)
{
    qs_quantise_on_load *t = context;
    if (t->blob == blob) return;
    abandon(t);
    if (blob < 0) return;
    list_blob(t, blob);
    read_ahead(t);
}

/* No exponent has all its bits set. */
static bool all_finite(const void *data, qs_dtype type, uint64_t n)
{
    bool bad = false;
    if (type == QS_F32) {
        const uint32_t *x = data;
        for (uint64_t i = 0; i < n; i++) bad |= (x[i] & 0x7f800000u) == 0x7f800000u;
    } else {
        const uint16_t *x = data, mask = type == QS_F16 ? 0x7c00 : 0x7f80;
        for (uint64_t i = 0; i < n; i++) bad |= (x[i] & mask) == mask;
    }
    return !bad;
}

static int refuse(const piece *p, qs_err *e)
{
    QS_FAIL(e, QS_ENUMERIC,
            "%s of the base model has a non-finite weight; the checkpoint is damaged: fetch it again",
            p->tensor->name);
}

/* A piece of a quantised linear. A non-finite weight shows in its block's absmax, so the weights need no look
 * of their own. */
static int quantise(qs_quantise_on_load *t, const piece *p, const void *data, char *place, qs_err *e)
{
    const qs_tensor_layout *w = &qs_layout_layer(t->l, t->blob)->tensor[p->index];
    bool twice = t->l->quant.double_quant;
    float *absmax = twice ? t->absmax : (float *)(place + w->absmax_at),
          *mine = absmax + p->first / QS_QUANT_BLOCK;
    qs_op_quantise4(t->cpu, t->l->quant.type, data, p->tensor->type, (int64_t)p->count,
                    (uint8_t *)place + w->at + p->first / 2, mine);
    if (!all_finite(mine, QS_F32, (uint64_t)qs_quant_blocks((int64_t)p->count))) return refuse(p, e);
    int64_t n = (int64_t)elements(&qs_architecture_layer(t->a, t->blob)->tensor[p->index]);
    if (twice && p->first + p->count == (uint64_t)n)
        qs_op_quantise_absmax(t->cpu, t->absmax, qs_quant_blocks(n), (uint8_t *)place + w->absmax_at,
                              (float *)(place + w->nested_at), (float *)(place + w->offset_at));
    return 0;
}

/* A piece of a linear that is stored in 4 bits: its bytes, untouched, or a check of what they are. */
static int lay_stored(qs_quantise_on_load *t, const piece *p, const void *data, char *place, qs_err *e)
{
    const qs_tensor *is = &qs_architecture_layer(t->a, t->blob)->tensor[p->index];
    const qs_tensor_layout *w = &qs_layout_layer(t->l, t->blob)->tensor[p->index];
    const char *file = qs_source_path(t->source, p->tensor->file);
    size_t each = qs_dtype_bytes(p->tensor->type);
    uint64_t to = p->part == QS_STORED_CODES    ? w->at
                  : p->part == QS_STORED_ABSMAX ? w->absmax_at
                                                : w->nested_at;
    switch ((qs_stored_part)p->part) {
    case QS_STORED_STATE: {
        float offset = 0;
        QS_TRY(qs_stored_state_read(data, p->count, file, p->tensor->name, t->l->quant, is->out, is->in,
                                    &offset, e));
        if (t->l->quant.double_quant) memcpy(place + w->offset_at, &offset, sizeof offset);
        return 0;
    }
    case QS_STORED_TABLE:
    case QS_STORED_NESTED_MAP:
        if (!qs_stored_table_is_ours((qs_stored_part)p->part, t->l->quant.type, data))
            QS_FAIL(e, QS_EUNSUP,
                    "%s: tensor %s is not the table that bitsandbytes uses; give the 16-bit model, it is "
                    "quantised on first use",
                    file, p->tensor->name);
        return 0;
    default:
        if (p->part != QS_STORED_CODES && p->tensor->type == QS_F32 && !all_finite(data, QS_F32, p->count))
            return refuse(p, e);
        memcpy(place + to + p->first * each, data, p->count * each);
        return 0;
    }
}

/* Puts one piece, now in memory at data, where it belongs in the blob. */
static int lay(qs_quantise_on_load *t, const piece *p, const void *data, char *place, qs_err *e)
{
    const qs_layout *l = t->l;
    qs_dtype type = p->tensor->type;
    const qs_tensor *is = p->index < 0 ? NULL : &qs_architecture_layer(t->a, t->blob)->tensor[p->index];
    bool linear = is && is->role == QS_TENSOR_LINEAR;
    if (p->part != WHOLE) return lay_stored(t, p, data, place, e);
    if (linear && l->quant.type != QS_QUANT_NONE) return quantise(t, p, data, place, e);
    if (!all_finite(data, type, p->count)) return refuse(p, e);
    if (is) {
        char *to = place + qs_layout_layer(l, t->blob)->tensor[p->index].at;
        if (linear)
            qs_op_convert(t->cpu, to + p->first * qs_dtype_bytes(l->base_type), l->base_type, data, type,
                          (int64_t)p->count);
        else
            qs_convert((float *)to + p->first, QS_F32, data, type, p->count);
        if (qs_architecture_adds_one(t->a, is))
            for (uint64_t i = 0; i < p->count; i++) ((float *)to)[p->first + i] += 1.0f;
    } else { /* head */
        uint64_t tile_first =
            (uint64_t)(t->blob - l->layers) * (uint64_t)l->tile_rows * (uint64_t)t->a->hidden;
        memcpy(place + (p->first - tile_first) * qs_dtype_bytes(type), data, p->count * qs_dtype_bytes(type));
    }
    return 0;
}

/* The next piece, whose bytes are there or will be waited for. After a failure the next call fails again. */
static int lay_next(qs_quantise_on_load *t, qs_err *e)
{
    chunk *c = &t->chunks[t->finished % QS_TOUCH_CHUNKS];
    QS_TRY(arrive(t, c, e));
    XXH3_64bits_update(t->source_hash, c->read.data, c->read.bytes);
    QS_TRY(lay(t, &t->pieces[t->finished], c->read.data, t->place, e));
    t->finished++;
    read_ahead(t);
    return 0;
}

static void begin(qs_quantise_on_load *t, int blob, void *place)
{
    if (t->blob == blob && t->place == place) return;
    if (t->blob != blob || t->place) {
        abandon(t);
        list_blob(t, blob);
        read_ahead(t);
    }
    t->place = place;
    memset(place, 0, qs_layout_blob_bytes(t->l, blob)); /* padding is part of the checksummed bytes */
}

qs_made qs_quantise_on_load_advance(void *context, int blob, void *place)
{
    qs_quantise_on_load *t = context;
    qs_err told_at_make = {0};
    qs_made made = QS_MADE_NOTHING;
    begin(t, blob, place);
    while (!t->failed && t->finished < t->count &&
           qs_source_read_done(t->source, t->aio, &t->chunks[t->finished % QS_TOUCH_CHUNKS].read)) {
        t->failed = lay_next(t, &told_at_make) != 0;
        if (!t->failed) made = QS_MADE_SOME;
    }
    return t->finished == t->count ? QS_MADE_ALL : made;
}

int qs_quantise_on_load_make(void *context, int blob, void *place, qs_err *e)
{
    qs_quantise_on_load *t = context;
    int rc = 0;
    begin(t, blob, place);
    while (!rc && t->finished < t->count) rc = lay_next(t, e);
    abandon(t);
    return rc;
}

void qs_quantise_on_load_close(qs_quantise_on_load *t)
{
    if (!t) return;
    abandon(t);
    qs_free(t->pieces);
    XXH3_freeState(t->source_hash);
    qs_free(t);
}

uint64_t qs_quantise_on_load_read_bytes(const qs_quantise_on_load *t) { return t->read_bytes; }

uint64_t qs_quantise_on_load_source_hash(void *context)
{
    const qs_quantise_on_load *t = context;
    return XXH3_64bits_digest(t->source_hash);
}

int qs_quantise_on_load_hash(qs_quantise_on_load *t, int blob, uint64_t *out, qs_err *e)
{
    int rc = 0;
    abandon(t);
    list_blob(t, blob);
    read_ahead(t);
    for (; t->finished < t->count && !rc; read_ahead(t)) {
        chunk *c = &t->chunks[t->finished % QS_TOUCH_CHUNKS];
        if ((rc = arrive(t, c, e))) break;
        XXH3_64bits_update(t->source_hash, c->read.data, c->read.bytes);
        t->finished++;
    }
    *out = XXH3_64bits_digest(t->source_hash);
    abandon(t);
    return rc;
}
