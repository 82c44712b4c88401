#include "offload/pager.h"

#include <inttypes.h>
#include <string.h>
#include <xxhash.h>

#include "offload/farthest.h"
#include "src/base/clock.h"
#include "src/base/hash.h"
#include "src/base/memory.h"

enum { RESERVE = 1 }; /* frames that are kept for what is in transit */
#define HASH_PIECE_BYTES ((uint64_t)4 << 20)

typedef enum content { NOTHING, KEPT, GIVEN_UP } content;
typedef enum transfer { IDLE, READING, WRITING } transfer;

typedef struct record {
    content content;
    int32_t frame; /* or -1 */
    int64_t
        next; /* its first use that is still to come, counted on through the rounds; -1: not in the list */
    uint64_t hash; /* XXH3-64 of what the file was given */
} record;

typedef struct frame {
    char *memory;
    int32_t record; /* -1: empty */
    int32_t pins;
    bool dirty; /* the file does not have it */
    bool lent;  /* the device may be using it: until `returned` */
    transfer transfer;
    qs_aio_op op;
    qs_event *returned;
} frame;

struct qs_pager {
    qs_pager_config c;
    bool resident;
    record *records;
    frame *frames;
    qs_aio_file file;
    XXH3_state_t *hash_state;
    qs_page_list sequence; /* every record in order */
    const qs_page_list *list;
    int64_t now, at; /* tick; first use that is not before it */
    int failed;
    qs_err failure;
    qs_pager_stats stats;
};

/* ---- lists ------------------------------------------------------------------------------------------- */

static const struct qs_page_entry *entry(const qs_pager *p, int64_t u)
{
    return qs_page_list_entry(p->list, u);
}

static int64_t next_use(qs_pager *p, int32_t r)
{
    return qs_page_list_next_use(p->list, p->now, &p->records[r].next);
}

/* Nothing in the record will be wanted. */
static bool is_dead(qs_pager *p, int32_t r)
{
    if (p->records[r].content != KEPT) return true;
    int64_t u = next_use(p, r);
    return u != INT64_MAX && entry(p, u)->use == QS_PAGE_NEW;
}

/* ---- opening ----------------------------------------------------------------------------------------- */

static const qs_device_api *api(const qs_pager *p) { return p->c.device->api; }
static bool shared(const qs_pager *p) { return p->c.device->info.shared_memory; }

int qs_pager_open(const qs_pager_config *config, qs_pager **out, qs_err *e)
{
    QS_ASSERT(config->frames > 0 && config->frames <= config->records);
    bool resident = config->frames == config->records;
    qs_aio_file file = {0};
    if (!resident) {
        QS_ASSERT(config->bytes % 4096 == 0 && config->frames > RESERVE);
        QS_TRY(qs_aio_file_scratch(&file, config->dir, config->what,
                                   (uint64_t)config->records * config->bytes, e));
    }
    qs_pager *p = qs_calloc(1, sizeof *p);
    *p = (qs_pager){.c = *config, .resident = resident, .file = file, .hash_state = qs_hash_create()};
    p->records = qs_calloc((size_t)config->records, sizeof *p->records);
    p->frames = qs_calloc((size_t)config->frames, sizeof *p->frames);
    for (int32_t i = 0; i < config->frames; i++) {
        p->frames[i] = (frame){.memory = (char *)config->memory + (uint64_t)i * config->bytes,
                               .record = resident ? i : -1};
        if (!shared(p)) p->frames[i].returned = api(p)->event_create(config->device);
    }
    for (int32_t r = 0; r < config->records; r++) {
        p->records[r].frame = resident ? r : -1;
        qs_page_list_add(&p->sequence, r, r, QS_PAGE_CHANGE);
    }
    qs_page_list_finish(&p->sequence, config->records, config->records);
    qs_pager_begin(p, NULL);
    *out = p;
    return 0;
}

/* ---- transfers --------------------------------------------------------------------------------------- */

/* XXH3-64 of a frame. A few MiB at a time, so that the disk is kept busy. */
static uint64_t hash(qs_pager *p, const frame *f)
{
    XXH3_64bits_reset(p->hash_state);
    for (uint64_t at = 0; at < p->c.bytes; at += HASH_PIECE_BYTES) {
        XXH3_64bits_update(p->hash_state, f->memory + at,
                           p->c.bytes - at < HASH_PIECE_BYTES ? p->c.bytes - at : HASH_PIECE_BYTES);
        for (int32_t i = 0; i < p->c.frames; i++)
            if (p->frames[i].op.active && !qs_aio_done(p->c.aio, &p->frames[i].op)) break;
    }
    return XXH3_64bits_digest(p->hash_state);
}

static void start(qs_pager *p, frame *f, bool write)
{
    if (write) p->records[f->record].hash = hash(p, f);
    f->op = (qs_aio_op){.file = &p->file,
                        .buffer = f->memory,
                        .bytes = p->c.bytes,
                        .offset = (uint64_t)f->record * p->c.bytes,
                        .write = write};
    f->transfer = write ? WRITING : READING;
    *(write ? &p->stats.written_bytes : &p->stats.read_bytes) += p->c.bytes;
    qs_aio_start(p->c.aio, &f->op);
}

/* Ends the frame's transfer, waiting for it. A failed one counts as done: whoever checks hears of it. */
static void finish(qs_pager *p, frame *f)
{
    if (f->transfer == IDLE) return;
    qs_err e = {0};
    uint64_t begin = qs_now_ns();
    int rc = qs_aio_finish(p->c.aio, &f->op, &e);
    p->stats.wait_ns += qs_now_ns() - begin;
    if (!rc && f->transfer == READING && hash(p, f) != p->records[f->record].hash)
        rc = qs_err_set(&e, QS_EIO, __FILE__, __LINE__,
                        "%s: the %s at %" PRIu64 " are not what was written there: the disk, its connection "
                        "or memory changes bits; stopping before they do harm, "
                        "resume from the last checkpoint (on another --cache, or with more --ram)",
                        p->file.path, p->c.what, f->op.offset);
    if (rc && !p->failed) {
        p->failed = rc;
        p->failure = e;
    }
    if (f->transfer == WRITING) f->dirty = false;
    f->transfer = IDLE;
}

void qs_pager_close(qs_pager *p)
{
    if (!p) return;
    if (!shared(p))
        for (int q = 0; q < QS_QUEUE_COUNT; q++) api(p)->queue_sync(p->c.device, (qs_queue)q);
    for (int32_t i = 0; i < p->c.frames; i++) {
        finish(p, &p->frames[i]);
        if (!shared(p)) api(p)->event_free(p->c.device, p->frames[i].returned);
    }
    qs_aio_file_close(&p->file);
    qs_page_list_free(&p->sequence);
    XXH3_freeState(p->hash_state);
    qs_free(p->records);
    qs_free(p->frames);
    qs_free(p);
}

static bool lent(const qs_pager *p, frame *f)
{
    if (f->lent && api(p)->event_done(p->c.device, f->returned)) f->lent = false;
    return f->lent;
}

static void take_back(const qs_pager *p, frame *f)
{
    if (f->lent) api(p)->event_sync(p->c.device, f->returned);
    f->lent = false;
}

/* ---- frames ------------------------------------------------------------------------------------------ */

/* How late a frame's record is needed; what is dead, latest of all. */
static int64_t lateness(qs_pager *p, const frame *f)
{
    return f->record < 0 || is_dead(p, f->record) ? INT64_MAX : next_use(p, f->record);
}

static bool must_be_written(qs_pager *p, const frame *f)
{
    return f->record >= 0 && f->dirty && !is_dead(p, f->record);
}

/* A frame that can be taken over at once, and whose record is needed after use `need`; of these the one
 * needed last. NULL: none. */
static frame *find_free(qs_pager *p, int64_t need)
{
    qs_farthest go = {-1, need};
    for (int32_t i = 0; i < p->c.frames; i++) {
        frame *f = &p->frames[i];
        if (f->pins || f->transfer != IDLE || must_be_written(p, f)) continue;
        int64_t late = lateness(p, f);
        if (qs_is_farther(&go, late) && !lent(p, f)) go = (qs_farthest){i, late};
    }
    return go.index < 0 ? NULL : &p->frames[go.index];
}

/* The same, once the device and the disk are done with one: preferably one that is being written. */
static frame *wait_for_free(qs_pager *p)
{
    frame *best = NULL;
    for (int32_t i = 0; i < p->c.frames; i++) {
        frame *f = &p->frames[i];
        if (f->pins) continue;
        bool better =
            !best || (f->transfer == WRITING) > (best->transfer == WRITING) ||
            ((f->transfer == WRITING) == (best->transfer == WRITING) && lateness(p, f) > lateness(p, best));
        if (better) best = f;
    }
    QS_ASSERT(best); /* more are held at once than there are frames */
    finish(p, best);
    take_back(p, best);
    if (must_be_written(p, best)) {
        start(p, best, true);
        finish(p, best);
    }
    return best;
}

static void give(qs_pager *p, frame *f, int32_t r)
{
    if (f->record >= 0) {
        record *old = &p->records[f->record];
        old->frame = -1;
        if (f->dirty) old->content = GIVEN_UP;
        qs_memory_taken_over(f->memory, p->c.bytes);
    }
    f->record = r;
    f->dirty = false;
    p->records[r].frame = (int32_t)(f - p->frames);
}

/* ---- foresight --------------------------------------------------------------------------------------- */

/* The use up to which all but RESERVE frames will be needed: what is used later must leave. */
static int64_t horizon(qs_pager *p)
{
    int64_t u = p->at, end = p->at + 4 * (int64_t)p->c.frames;
    for (int32_t different = 0; u < end; u++)
        if (next_use(p, entry(p, u)->record) == u && ++different == p->c.frames - RESERVE) break;
    return u;
}

/* Starts what should be under way: reads of what is used next, writes of what must leave. */
static void pump(qs_pager *p)
{
    if (p->resident || !p->list->count) return;
    for (int32_t i = 0; i < p->c.frames; i++)
        if (p->frames[i].transfer != IDLE && qs_aio_done(p->c.aio, &p->frames[i].op))
            finish(p, &p->frames[i]);
    int64_t last = horizon(p);
    for (int32_t i = 0; i < p->c.frames; i++) {
        frame *f = &p->frames[i];
        if (!f->pins && f->transfer == IDLE && must_be_written(p, f) && next_use(p, f->record) > last &&
            !lent(p, f))
            start(p, f, true);
    }
    for (int64_t u = p->at; u <= last; u++) {
        int32_t r = entry(p, u)->record;
        const record *x = &p->records[r];
        if (entry(p, u)->use == QS_PAGE_NEW || x->content != KEPT || x->frame >= 0 || next_use(p, r) != u)
            continue;
        frame *f = find_free(p, u);
        if (!f) break;
        give(p, f, r);
        start(p, f, false);
    }
}

void qs_pager_begin(qs_pager *p, const qs_page_list *list)
{
    p->list = list ? list : &p->sequence;
    p->now = p->at = 0;
    for (int32_t r = 0; r < p->c.records; r++) p->records[r].next = p->list->first[r];
}

void qs_pager_at(qs_pager *p, int64_t tick)
{
    QS_ASSERT(tick >= p->now);
    p->now = tick;
    while (p->list->count && qs_page_list_tick(p->list, p->at) < tick) p->at++;
    pump(p);
}

/* ---- use --------------------------------------------------------------------------------------------- */

void *qs_pager_acquire(qs_pager *p, int32_t r, qs_page_use use)
{
    QS_ASSERT(r >= 0 && r < p->c.records);
    record *x = &p->records[r];
    qs_page_list_used(p->list, p->now, &x->next);
    if (x->frame < 0) {
        frame *f = find_free(p, -1);
        if (!f) f = wait_for_free(p);
        give(p, f, r);
        if (use != QS_PAGE_NEW && x->content == KEPT) start(p, f, false);
    }
    frame *f = &p->frames[x->frame];
    finish(p, f);
    if (use != QS_PAGE_NEW) {
        QS_ASSERT(x->content != GIVEN_UP); /* the list said that it would not be read */
        if (x->content == NOTHING) memset(f->memory, 0, p->c.bytes);
    }
    f->pins++;
    pump(p);
    return f->memory;
}

void qs_pager_release(qs_pager *p, int32_t r, bool changed, qs_queue queue)
{
    record *x = &p->records[r];
    QS_ASSERT(x->frame >= 0 && p->frames[x->frame].pins > 0);
    frame *f = &p->frames[x->frame];
    f->pins--;
    if (changed) {
        x->content = KEPT;
        f->dirty = true;
    }
    if (queue < QS_QUEUE_COUNT && !shared(p)) {
        api(p)->event_record(p->c.device, f->returned, queue);
        f->lent = true;
    }
    pump(p);
}

int64_t qs_pager_next_use(qs_pager *p, int32_t r) { return next_use(p, r); }

bool qs_pager_ready(qs_pager *p, int32_t r)
{
    const record *x = &p->records[r];
    return x->content == KEPT && x->frame >= 0 && p->frames[x->frame].transfer == IDLE;
}

void qs_pager_wait_device(qs_pager *p, int32_t r)
{
    QS_ASSERT(p->records[r].frame >= 0);
    take_back(p, &p->frames[p->records[r].frame]);
}

int qs_pager_check(const qs_pager *p, qs_err *e)
{
    if (p->failed && e) *e = p->failure;
    return p->failed;
}

qs_pager_stats qs_pager_stats_read(const qs_pager *p) { return p->stats; }
