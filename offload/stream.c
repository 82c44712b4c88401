#include "offload/stream.h"

#include <errno.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/log.h"

typedef enum place_state { PLACE_EMPTY, PLACE_READING, PLACE_TO_MAKE, PLACE_READY } place_state;

/* Host memory that holds one blob. */
typedef struct place {
    char *memory;
    int32_t blob;         /* -1: none */
    place_state state;
    bool is_home;
    bool writing;         /* being written to the cache: must not change */
    uint64_t source;      /* while writing: the checksum of what the blob was made from */
    int32_t pins;         /* unified */
    qs_aio_op op;
    qs_event *copied;     /* discrete: after the last copy out of this place */
    uint64_t copy_ns;     /* recording: when the copy was queued whose end has not been seen; else 0 */
    int32_t copy_blob;
} place;

/* Device memory that holds one blob (discrete devices). */
typedef struct slot {
    char *memory;
    int32_t blob;
    bool is_home;
    int32_t pins;
    qs_event *ready;      /* the copy into it has arrived */
    qs_event *freed;      /* its last reader is done */
} slot;

struct qs_stream {
    qs_stream_config c;
    const qs_schedule *schedule;
    int32_t at;           /* the visit in progress */
    place *places;
    int32_t place_count;
    slot *slots;
    int32_t slot_count;
    int32_t *place_of, *slot_of;   /* [blobs] index or -1 */
    int32_t *home_place, *home_slot;
    bool *loaded;                  /* [blobs] read or made since its last visit */
    int32_t expected;              /* the blob that the maker has been told of, or -1 */
    uint64_t copied_until; /* recording: end of the last copy that was seen */
    int failed;           /* code of a failure seen where no error could be returned */
    qs_err failure;
    qs_stream_stats stats;
};

static const qs_device_api *api(const qs_stream *s) { return s->c.device->api; }
static bool unified(const qs_stream *s) { return s->c.device->info.unified; }

/* Lets the I/O engine reap and submit: between operations, and while a blob is hashed. */
static void keep_disk_busy(void *stream)
{
    qs_stream *s = stream;
    for (int32_t i = 0; i < s->place_count; i++) {
        place *p = &s->places[i];
        if ((p->state == PLACE_READING || p->writing) && !qs_aio_done(s->c.aio, &p->op)) return;
    }
}

int qs_stream_open(const qs_stream_config *config, qs_stream **out, qs_err *e)
{
    const qs_plan *plan = config->plan;
    qs_stream *s = qs_calloc(1, sizeof *s);
    s->c = *config;
    int32_t n = plan->blobs;
    s->places = qs_calloc((size_t)(n + plan->ring_slots), sizeof *s->places);
    s->slots = qs_calloc((size_t)(n + plan->device_slots), sizeof *s->slots);
    s->place_of = qs_malloc((size_t)n * sizeof(int32_t) * 4);
    s->slot_of = s->place_of + n;
    s->home_place = s->slot_of + n;
    s->home_slot = s->home_place + n;
    memset(s->place_of, 0xff, (size_t)n * sizeof(int32_t) * 4);
    s->loaded = qs_calloc((size_t)n, sizeof *s->loaded);
    s->expected = -1;

    char *device_homes = qs_tier_take(config->tier, "resident weights", QS_POOL_DEVICE);
    char *host_homes = qs_tier_take(config->tier, "resident weights (RAM)", unified(s) ? QS_POOL_HOST : QS_POOL_PINNED);
    char *ring = qs_tier_take(config->tier, "streaming ring", QS_POOL_PINNED);
    char *device_ring = qs_tier_take(config->tier, "device slots", QS_POOL_DEVICE);
    for (int32_t b = 0; b < n; b++) {
        bool on_device = plan->home[b] == QS_HOME_DEVICE;
        if (plan->home[b] == QS_HOME_DISK) continue;
        if (on_device && !unified(s)) {
            s->home_slot[b] = s->slot_count;
            s->slots[s->slot_count++] = (slot){.memory = device_homes, .blob = -1, .is_home = true};
        } else {
            s->home_place[b] = s->place_count;
            s->places[s->place_count++] = (place){.memory = on_device ? device_homes : host_homes, .blob = -1, .is_home = true};
        }
        *(on_device ? &device_homes : &host_homes) += config->blob_bytes[b];
    }
    for (int i = 0; i < plan->ring_slots; i++)
        s->places[s->place_count++] = (place){.memory = ring + (uint64_t)i * plan->slot_bytes, .blob = -1};
    for (int i = 0; i < plan->device_slots; i++)
        s->slots[s->slot_count++] = (slot){.memory = device_ring + (uint64_t)i * plan->slot_bytes, .blob = -1};
    if (!unified(s)) {
        for (int32_t i = 0; i < s->place_count; i++) s->places[i].copied = api(s)->event_create(s->c.device);
        for (int32_t i = 0; i < s->slot_count; i++) {
            s->slots[i].ready = api(s)->event_create(s->c.device);
            s->slots[i].freed = api(s)->event_create(s->c.device);
        }
    }
    if (s->c.cache) qs_cache_while_hashing(s->c.cache, keep_disk_busy, s);
    *out = s;
    return 0;
}

/* ---- recording: see offload/recorder.h ---------------------------------------------------------------------------------- */

static void record_transfer(const qs_stream *s, qs_activity_kind kind, int32_t blob, const qs_aio_op *op)
{
    qs_record(s->c.recorder, kind, blob, op->start_ns, op->end_ns);
}

/* Notes the copy out of p if it has ended. Copies go one after another, so it began when the one before it had ended. */
static void record_copy(qs_stream *s, place *p)
{
    if (!p->copy_ns || !api(s)->event_done(s->c.device, p->copied)) return;
    uint64_t start = p->copy_ns > s->copied_until ? p->copy_ns : s->copied_until;
    s->copied_until = qs_now_ns();
    qs_record(s->c.recorder, QS_ACTIVITY_COPY, p->copy_blob, start, s->copied_until);
    p->copy_ns = 0;
}

static void record_usage(const qs_stream *s, int32_t v)
{
    qs_usage u = {0};
    for (int32_t i = 0; i < s->place_count; i++) {
        const place *p = &s->places[i];
        if (p->state == PLACE_EMPTY || p->blob < 0) continue;
        bool on_device = p->is_home && s->c.plan->home[p->blob] == QS_HOME_DEVICE;
        *(!p->is_home ? &u.ring : on_device ? &u.homes_device : &u.homes_host) += s->c.blob_bytes[p->blob];
    }
    for (int32_t i = 0; i < s->slot_count; i++)
        if (s->slots[i].blob >= 0) *(s->slots[i].is_home ? &u.homes_device : &u.slots) += s->c.blob_bytes[s->slots[i].blob];
    s->c.recorder->usage[v] = u;
}

/* ---- cache writes ---------------------------------------------------------------------------------------------------- */

/* Commits the cache write of p once it has ended. With `wait`, waits for it. */
static void settle(qs_stream *s, place *p, bool wait)
{
    if (!p->writing || (!wait && !qs_aio_done(s->c.aio, &p->op))) return;
    qs_err e = {0};
    int rc = qs_aio_finish(s->c.aio, &p->op, &e);
    uint64_t written = qs_now_ns();
    record_transfer(s, QS_ACTIVITY_WRITE, p->blob, &p->op);
    if (!rc) rc = qs_cache_commit(s->c.cache, p->blob, p->memory, p->source, &e);
    qs_record(s->c.recorder, QS_ACTIVITY_VERIFY, p->blob, written, qs_now_ns());
    if (rc && !s->failed) {
        s->failed = rc;
        s->failure = e;
    }
    p->writing = false;
}

/* Commits what has been written meanwhile, so that a killed run finds it. */
static void settle_written(qs_stream *s)
{
    for (int32_t i = 0; i < s->place_count; i++) settle(s, &s->places[i], false);
}

/* Makes a cache durable that has become whole, so that other processes need not fill theirs. */
static void sync_whole_cache(qs_stream *s)
{
    if (!s->c.cache || s->failed || !qs_cache_needs_sync(s->c.cache)) return;
    s->failed = qs_cache_sync(s->c.cache, &s->failure);
}

/* ---- host places ----------------------------------------------------------------------------------------------------- */

static bool being_copied(const qs_stream *s, const place *p)
{
    return !unified(s) && !api(s)->event_done(s->c.device, p->copied);
}

static int32_t distance(const qs_stream *s, int32_t blob) { return qs_schedule_distance(s->schedule, s->at, blob); }

/* A place whose blob is on the device as well is spare: it is only missed if the slot is given up before the visit. */
static bool spare(const qs_stream *s, const place *p) { return !unified(s) && s->slot_of[p->blob] >= 0; }

/* How soon the blob of a ring place is needed there; never, when it is at home on the device. */
static int32_t place_distance(const qs_stream *s, const place *p)
{
    return spare(s, p) && s->home_slot[p->blob] >= 0 ? s->schedule->count : distance(s, p->blob);
}

/* A ring place for a blob that is needed `need` visits from now: an empty one, or of those that are spare or needed later the one needed last. -1 when there
 * is none, or only such as the disk or the device is busy with. */
static int32_t grab_place(qs_stream *s, int32_t need)
{
    int32_t best = -1, best_distance = -1;
    for (int32_t i = 0; i < s->place_count; i++) {
        place *p = &s->places[i];
        if (p->is_home || p->pins || p->state == PLACE_READING || p->writing) continue;
        if (p->blob < 0) return i;
        int32_t d = place_distance(s, p);
        if (d <= best_distance || (d <= need && !spare(s, p)) || being_copied(s, p)) continue;
        best = i;
        best_distance = d;
    }
    return best;
}

/* The ring place that is needed last, once the disk and the device are done with it. */
static int32_t wait_for_place(qs_stream *s)
{
    int32_t best = -1, best_distance = -1;
    for (int32_t i = 0; i < s->place_count; i++) {
        const place *p = &s->places[i];
        if (p->is_home || p->pins) continue;
        int32_t d = place_distance(s, p);
        if (d <= best_distance) continue;
        best = i;
        best_distance = d;
    }
    QS_ASSERT(best >= 0);
    place *p = &s->places[best];
    uint64_t start = qs_now_ns();
    qs_err ignored = {0}; /* of data that nobody wants any more */
    if (p->state == PLACE_READING || p->writing) qs_aio_finish(s->c.aio, &p->op, &ignored);
    if (p->state == PLACE_READING) record_transfer(s, QS_ACTIVITY_READ, p->blob, &p->op);
    uint64_t ended = qs_now_ns();
    s->stats.disk_wait_ns += ended - start;
    qs_record(s->c.recorder, QS_ACTIVITY_WAIT_DISK, p->blob, start, ended);
    settle(s, p, true);
    if (!being_copied(s, p)) return best;
    uint64_t settled = qs_now_ns();
    api(s)->event_sync(s->c.device, p->copied);
    uint64_t copied = qs_now_ns();
    s->stats.link_wait_ns += copied - settled;
    qs_record(s->c.recorder, QS_ACTIVITY_WAIT_LINK, p->blob, settled, copied);
    return best;
}

static void start_read(qs_stream *s, place *p)
{
    qs_cache_read_op(s->c.cache, p->blob, p->memory, &p->op);
    qs_aio_start(s->c.aio, &p->op);
    p->state = PLACE_READING;
    s->stats.disk_read_bytes += p->op.bytes;
    s->stats.reads++;
}

static void expect(qs_stream *s, int32_t blob)
{
    if (s->expected != blob && s->c.maker.expect) s->c.maker.expect(s->c.maker.context, blob);
    s->expected = blob;
}

/* Finds a place for blob b and begins to fill it. False when none is free; with `must`, waits for one. */
static bool begin_fill(qs_stream *s, int32_t b, int32_t need, bool must)
{
    int32_t i = s->home_place[b] >= 0 ? s->home_place[b] : grab_place(s, need);
    if (i < 0 && must) i = wait_for_place(s);
    if (i < 0) return false;
    place *p = &s->places[i];
    record_copy(s, p);
    if (p->state == PLACE_TO_MAKE && p->blob == s->expected) expect(s, -1); /* it may have been begun there */
    if (p->blob >= 0) s->place_of[p->blob] = -1;
    if (s->c.poison && p->blob >= 0) memset(p->memory, 0xff, s->c.blob_bytes[p->blob]);
    p->blob = b;
    s->place_of[b] = i;
    s->loaded[b] = true;
    if (s->c.cache && qs_cache_has(s->c.cache, b)) start_read(s, p);
    else p->state = PLACE_TO_MAKE;
    return true;
}

static void record_make(qs_stream *s, int32_t blob, uint64_t start)
{
    uint64_t end = qs_now_ns();
    s->stats.make_ns += end - start;
    qs_record(s->c.recorder, QS_ACTIVITY_MAKE, blob, start, end);
}

/* Has the blob of place p made, or what is left of it, and begins to write it to the cache. */
static int make(qs_stream *s, place *p, qs_err *e)
{
    uint64_t start = qs_now_ns();
    s->expected = -1;
    QS_TRY(s->c.maker.make(s->c.maker.context, p->blob, p->memory, e));
    record_make(s, p->blob, start);
    p->state = PLACE_READY;
    if (!s->c.cache || !qs_cache_may_write(s->c.cache, p->blob)) return 0;
    p->source = s->c.maker.source_hash ? s->c.maker.source_hash(s->c.maker.context) : 0;
    qs_cache_write_op(s->c.cache, p->blob, p->memory, &p->op);
    qs_aio_start(s->c.aio, &p->op);
    p->writing = true;
    s->stats.disk_write_bytes += p->op.bytes;
    return 0;
}

/* The maker hears of blob b, and once b has a place goes on with what the disk has brought. */
static void make_ahead(qs_stream *s, int32_t b)
{
    expect(s, b);
    if (s->place_of[b] < 0 || !s->c.maker.advance) return;
    place *p = &s->places[s->place_of[b]];
    uint64_t start = qs_now_ns();
    qs_err told_at_acquire = {0};
    qs_made made = s->c.maker.advance(s->c.maker.context, b, p->memory);
    if (made != QS_MADE_NOTHING) record_make(s, b, start);
    if (made == QS_MADE_ALL) make(s, p, &told_at_acquire);
}

/* Brings place p to PLACE_READY: waits for its read, checks it, or has the blob made. After a failure the next call fails again. */
static int complete(qs_stream *s, place *p, qs_err *e)
{
    if (p->state == PLACE_READING) {
        uint64_t start = qs_now_ns();
        int rc = qs_aio_finish(s->c.aio, &p->op, e);
        uint64_t arrived = qs_now_ns();
        s->stats.disk_wait_ns += arrived - start;
        qs_record(s->c.recorder, QS_ACTIVITY_WAIT_DISK, p->blob, start, arrived);
        record_transfer(s, QS_ACTIVITY_READ, p->blob, &p->op);
        bool ended = rc && p->op.error == -ENODATA; /* a file that was cut heals like one that was changed */
        if (rc && !ended) return rc;
        if (ended) qs_cache_forget(s->c.cache, p->blob, "is beyond the end of the file");
        bool good = !ended && qs_cache_verify(s->c.cache, p->blob, p->memory);
        uint64_t verified = qs_now_ns();
        s->stats.verify_ns += verified - arrived;
        qs_record(s->c.recorder, QS_ACTIVITY_VERIFY, p->blob, arrived, verified);
        p->state = good ? PLACE_READY : PLACE_TO_MAKE;
    }
    return p->state == PLACE_TO_MAKE ? make(s, p, e) : 0;
}

/* ---- device slots ---------------------------------------------------------------------------------------------------- */

static int32_t grab_slot(const qs_stream *s, int32_t need)
{
    int32_t best = -1, best_distance = need;
    for (int32_t i = 0; i < s->slot_count; i++) {
        const slot *d = &s->slots[i];
        if (d->is_home || d->pins) continue;
        if (d->blob < 0) return i;
        int32_t far = distance(s, d->blob);
        if (far < best_distance || (far == best_distance && best >= 0)) continue;
        best = i;
        best_distance = far;
    }
    return best;
}

/* Queues the copy of a ready place to the device. False when no slot is free. */
static bool begin_copy(qs_stream *s, place *p, int32_t need)
{
    int32_t b = p->blob, i = s->home_slot[b] >= 0 ? s->home_slot[b] : grab_slot(s, need);
    if (i < 0) return false;
    slot *d = &s->slots[i];
    qs_device *device = s->c.device;
    if (d->blob >= 0) s->slot_of[d->blob] = -1;
    if (s->c.recorder) {
        record_copy(s, p);
        p->copy_ns = qs_now_ns();
        p->copy_blob = b;
    }
    api(s)->event_wait(device, d->freed, QS_QUEUE_IN);
    if (s->c.poison) api(s)->fill(device, QS_QUEUE_IN, d->memory, 0xff, s->c.blob_bytes[b]);
    api(s)->copy_in(device, QS_QUEUE_IN, d->memory, p->memory, s->c.blob_bytes[b]);
    api(s)->event_record(device, d->ready, QS_QUEUE_IN);
    api(s)->event_record(device, p->copied, QS_QUEUE_IN);
    record_copy(s, p);
    s->stats.link_bytes += s->c.blob_bytes[b];
    d->blob = b;
    s->slot_of[b] = i;
    return true;
}

/* ---- the walk --------------------------------------------------------------------------------------------------------- */

/* Takes a blob on towards the device: copies it when its place is full. False when that must wait: what is needed later waits with it, so that no slot goes to
 * a later blob and is taken back. */
static bool advance(qs_stream *s, place *p, int32_t need)
{
    qs_err told_at_acquire = {0};
    if (p->state == PLACE_READING && (!qs_aio_done(s->c.aio, &p->op) || complete(s, p, &told_at_acquire))) return false;
    return p->state == PLACE_READY && begin_copy(s, p, need);
}

/* Whether blob b will be made; whether it has a place yet does not matter. */
static bool to_make(const qs_stream *s, int32_t b)
{
    if (s->place_of[b] >= 0) return s->places[s->place_of[b]].state == PLACE_TO_MAKE;
    return !s->c.cache || !qs_cache_has(s->c.cache, b);
}

/* Starts what the visits from the current one on need, in their order, as far as places and slots reach; the first blob that is not in the cache is made ahead. */
static void pump(qs_stream *s)
{
    const qs_schedule *list = s->schedule;
    int32_t reach = 2 * (list->layers + list->tiles) + 2; /* every blob is visited within so many */
    bool places_left = true, slots_left = !unified(s), expecting = false;
    settle_written(s);
    if (s->c.cache) qs_cache_refresh(s->c.cache);
    for (int32_t i = 0; s->c.recorder && i < s->place_count; i++) record_copy(s, &s->places[i]);
    for (int32_t i = 0; i < reach && i < list->count && (places_left || slots_left); i++) {
        int32_t v = s->at + i < list->count ? s->at + i : s->at + i - list->count, b = list->visits[v].blob;
        if (b < 0 || (!unified(s) && s->slot_of[b] >= 0)) continue;
        if (s->place_of[b] < 0) places_left = places_left && begin_fill(s, b, i, false);
        if (!expecting && to_make(s, b)) {
            expecting = true;
            make_ahead(s, b);
        }
        slots_left = slots_left && s->place_of[b] >= 0 && advance(s, &s->places[s->place_of[b]], i);
    }
}

void qs_stream_begin(qs_stream *s, const qs_schedule *schedule)
{
    settle_written(s);
    sync_whole_cache(s);
    s->schedule = schedule;
    s->at = 0;
}

/* Has blob b where the kernels can read it. */
static int bring(qs_stream *s, int32_t b, qs_err *e)
{
    if (!unified(s) && s->slot_of[b] >= 0) return 0;
    if (s->place_of[b] < 0) QS_ASSERT(begin_fill(s, b, 0, true));
    place *p = &s->places[s->place_of[b]];
    QS_TRY(complete(s, p, e));
    if (!unified(s)) QS_ASSERT(begin_copy(s, p, 0));
    return 0;
}

int qs_stream_acquire(qs_stream *s, int32_t v, const void **out, qs_err *e)
{
    int32_t b = s->schedule->visits[v].blob;
    s->at = v;
    *out = NULL;
    pump(s);
    if (b >= 0) QS_TRY(bring(s, b, e));
    if (s->failed) {
        if (e) *e = s->failure;
        return s->failed;
    }
    if (b < 0) {
        if (s->c.recorder) record_usage(s, v);
        return 0;
    }
    if (unified(s)) {
        place *p = &s->places[s->place_of[b]];
        p->pins++;
        *out = p->memory;
    } else {
        slot *d = &s->slots[s->slot_of[b]];
        if (!s->c.drop_ready_wait) api(s)->event_wait(s->c.device, d->ready, QS_QUEUE_COMPUTE);
        d->pins++;
        *out = d->memory;
    }
    if (!s->loaded[b]) s->stats.hits++;
    s->loaded[b] = false;
    pump(s); /* the place of this visit is settled: look further ahead */
    if (s->c.recorder) record_usage(s, v);
    return 0;
}

void qs_stream_release(qs_stream *s, int32_t v)
{
    int32_t b = s->schedule->visits[v].blob;
    if (b < 0) return;
    if (unified(s)) {
        QS_ASSERT(s->place_of[b] >= 0 && s->places[s->place_of[b]].pins > 0);
        s->places[s->place_of[b]].pins--;
    } else {
        slot *d = &s->slots[s->slot_of[b]];
        QS_ASSERT(d->pins > 0 && d->blob == b);
        api(s)->event_record(s->c.device, d->freed, QS_QUEUE_COMPUTE);
        d->pins--;
    }
}

void qs_stream_poll(qs_stream *s)
{
    keep_disk_busy(s);
    pump(s);
}

int qs_stream_settle(qs_stream *s, qs_err *e)
{
    for (int32_t i = 0; i < s->place_count; i++) settle(s, &s->places[i], true);
    if (s->failed) {
        if (e) *e = s->failure;
        return s->failed;
    }
    return s->c.cache ? qs_cache_sync(s->c.cache, e) : 0;
}

void qs_stream_close(qs_stream *s)
{
    if (!s) return;
    if (s->c.cache) qs_cache_while_hashing(s->c.cache, NULL, NULL);
    for (int32_t i = 0; i < s->place_count; i++) {
        place *p = &s->places[i];
        settle(s, p, true);
        qs_err ignored = {0};
        if (p->state != PLACE_READING) continue;
        qs_aio_finish(s->c.aio, &p->op, &ignored);
        record_transfer(s, QS_ACTIVITY_READ, p->blob, &p->op);
    }
    sync_whole_cache(s);
    if (!unified(s)) {
        for (int q = 0; q < QS_QUEUE_COUNT; q++) api(s)->queue_sync(s->c.device, (qs_queue)q);
        for (int32_t i = 0; i < s->place_count; i++) record_copy(s, &s->places[i]);
        for (int32_t i = 0; i < s->place_count; i++) api(s)->event_free(s->c.device, s->places[i].copied);
        for (int32_t i = 0; i < s->slot_count; i++) {
            api(s)->event_free(s->c.device, s->slots[i].ready);
            api(s)->event_free(s->c.device, s->slots[i].freed);
        }
    }
    qs_free(s->places);
    qs_free(s->slots);
    qs_free(s->place_of);
    qs_free(s->loaded);
    qs_free(s);
}

qs_stream_stats qs_stream_stats_read(const qs_stream *s) { return s->stats; }
