#include "offload/stream.h"

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
    bool expected;        /* the maker has been told */
    bool writing;         /* being written to the cache: must not change */
    int32_t pins;
    qs_aio_op op;
    qs_event *copied;     /* discrete: after the last copy out of this place */
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
    int failed;           /* code of a failure seen where no error could be returned */
    qs_err failure;
    qs_stream_stats stats;
};

static const qs_device_api *api(const qs_stream *s) { return s->c.device->api; }
static bool unified(const qs_stream *s) { return s->c.device->info.unified; }

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
    *out = s;
    return 0;
}

/* ---- cache writes ---------------------------------------------------------------------------------------------------- */

/* Commits the cache write of p once it has ended. With `wait`, waits for it. */
static void settle(qs_stream *s, place *p, bool wait)
{
    if (!p->writing || (!wait && !qs_aio_done(s->c.aio, &p->op))) return;
    qs_err e = {0};
    int rc = qs_aio_finish(s->c.aio, &p->op, &e);
    if (!rc) rc = qs_cache_commit(s->c.cache, p->blob, p->memory, &e);
    if (rc && !s->failed) {
        s->failed = rc;
        s->failure = e;
    }
    p->writing = false;
}

/* ---- host places ----------------------------------------------------------------------------------------------------- */

static bool being_copied(const qs_stream *s, const place *p)
{
    return !unified(s) && p->copied && !api(s)->event_done(s->c.device, p->copied);
}

static int32_t distance(const qs_stream *s, int32_t blob) { return qs_schedule_distance(s->schedule, s->at, blob); }

/* A ring place for a blob that is needed `need` visits from now: an empty one, or the one whose blob is needed last and later than that. A place that is still being copied
 * from is only waited for when `must`. Returns -1 when there is none. */
static int32_t grab_place(qs_stream *s, int32_t need, bool must)
{
    int32_t best = -1, busy = -1, best_distance = need;
    for (int32_t i = 0; i < s->place_count; i++) {
        place *p = &s->places[i];
        if (p->is_home || p->pins || p->state == PLACE_READING) continue;
        settle(s, p, false);
        if (p->writing) continue;
        if (p->blob < 0) return i;
        int32_t d = distance(s, p->blob);
        if (d < best_distance || (d == best_distance && best >= 0)) continue;
        if (being_copied(s, p)) {
            busy = i;
            continue;
        }
        best = i;
        best_distance = d;
    }
    if (best < 0 && must && busy < 0) { /* only a place being written to the cache can be in the way now */
        for (int32_t i = 0; i < s->place_count && best < 0; i++) {
            if (s->places[i].is_home || s->places[i].pins || !s->places[i].writing) continue;
            uint64_t start = qs_now_ns();
            settle(s, &s->places[i], true);
            s->stats.disk_wait_ns += qs_now_ns() - start;
            best = i;
        }
    }
    if (best < 0 && must && busy >= 0) {
        uint64_t start = qs_now_ns();
        api(s)->event_sync(s->c.device, s->places[busy].copied);
        s->stats.link_wait_ns += qs_now_ns() - start;
        best = busy;
    }
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

/* Finds a place for blob b and begins to fill it. False when none is free. */
static bool begin_fill(qs_stream *s, int32_t b, int32_t need, bool must)
{
    int32_t i = s->home_place[b] >= 0 ? s->home_place[b] : grab_place(s, need, must);
    if (i < 0) return false;
    place *p = &s->places[i];
    if (p->blob >= 0) s->place_of[p->blob] = -1;
    if (s->c.poison && p->blob >= 0) memset(p->memory, 0xff, s->c.blob_bytes[p->blob]);
    p->blob = b;
    p->expected = false;
    s->place_of[b] = i;
    if (s->c.cache && qs_cache_has(s->c.cache, b)) start_read(s, p);
    else p->state = PLACE_TO_MAKE;
    return true;
}

/* Brings place p to PLACE_READY: waits for its read, checks it, or has the blob made. */
static int complete(qs_stream *s, place *p, qs_err *e)
{
    if (p->state == PLACE_READING) {
        uint64_t start = qs_now_ns();
        int rc = qs_aio_finish(s->c.aio, &p->op, e);
        uint64_t arrived = qs_now_ns();
        s->stats.disk_wait_ns += arrived - start;
        if (rc) return rc;
        bool good = qs_cache_verify(s->c.cache, p->blob, p->memory);
        s->stats.verify_ns += qs_now_ns() - arrived;
        p->state = good ? PLACE_READY : PLACE_TO_MAKE;
    }
    if (p->state == PLACE_TO_MAKE) {
        uint64_t start = qs_now_ns();
        QS_TRY(s->c.maker.make(s->c.maker.context, p->blob, p->memory, e));
        s->stats.make_ns += qs_now_ns() - start;
        p->state = PLACE_READY;
        if (s->c.cache) {
            qs_cache_write_op(s->c.cache, p->blob, p->memory, &p->op);
            qs_aio_start(s->c.aio, &p->op);
            p->writing = true;
            s->stats.disk_write_bytes += p->op.bytes;
        }
    }
    return 0;
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
    api(s)->event_wait(device, d->freed, QS_QUEUE_IN);
    if (s->c.poison) api(s)->fill(device, QS_QUEUE_IN, d->memory, 0xff, s->c.blob_bytes[b]);
    api(s)->copy_in(device, QS_QUEUE_IN, d->memory, p->memory, s->c.blob_bytes[b]);
    api(s)->event_record(device, d->ready, QS_QUEUE_IN);
    api(s)->event_record(device, p->copied, QS_QUEUE_IN);
    s->stats.link_bytes += s->c.blob_bytes[b];
    d->blob = b;
    s->slot_of[b] = i;
    return true;
}

/* ---- the walk --------------------------------------------------------------------------------------------------------- */

/* Starts what the visits from the current one on need, in their order, as far as places and slots reach. */
static void pump(qs_stream *s)
{
    const qs_schedule *list = s->schedule;
    bool places_left = true, slots_left = !unified(s), expecting = false;
    for (int32_t i = 0; i < list->count && (places_left || slots_left); i++) {
        int32_t v = s->at + i < list->count ? s->at + i : s->at + i - list->count, b = list->visits[v].blob;
        if (b < 0 || (!unified(s) && s->slot_of[b] >= 0)) continue;
        if (s->place_of[b] < 0) {
            if (!places_left) continue;
            places_left = begin_fill(s, b, i, false);
            if (!places_left) continue;
        }
        place *p = &s->places[s->place_of[b]];
        if (p->state == PLACE_TO_MAKE && !expecting) {
            if (!p->expected) s->c.maker.expect(s->c.maker.context, b);
            p->expected = expecting = true;
        }
        if (slots_left && p->state == PLACE_READING && qs_aio_done(s->c.aio, &p->op)) {
            qs_err ignored = {0};
            if (complete(s, p, &ignored)) p->state = PLACE_READING; /* told again, to the caller, at acquire */
        }
        if (slots_left && p->state == PLACE_READY) slots_left = begin_copy(s, p, i);
    }
}

void qs_stream_begin(qs_stream *s, const qs_schedule *schedule)
{
    s->schedule = schedule;
    s->at = 0;
}

int qs_stream_acquire(qs_stream *s, int32_t v, const void **out, qs_err *e)
{
    int32_t b = s->schedule->visits[v].blob;
    s->at = v;
    *out = NULL;
    pump(s);
    if (b < 0) return 0;
    if (unified(s) || s->slot_of[b] < 0) {
        if (s->place_of[b] < 0) QS_ASSERT(begin_fill(s, b, 0, true));
        place *p = &s->places[s->place_of[b]];
        if (p->state == PLACE_READY) s->stats.hits++;
        QS_TRY(complete(s, p, e));
        if (unified(s)) {
            p->pins++;
            *out = p->memory;
        } else {
            QS_ASSERT(begin_copy(s, p, 0));
        }
    } else {
        s->stats.hits++;
    }
    if (!unified(s)) {
        slot *d = &s->slots[s->slot_of[b]];
        if (!s->c.drop_ready_wait) api(s)->event_wait(s->c.device, d->ready, QS_QUEUE_COMPUTE);
        d->pins++;
        *out = d->memory;
    }
    pump(s); /* the place of this visit is settled: look further ahead */
    if (s->failed) {
        if (e) *e = s->failure;
        return s->failed;
    }
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
    for (int32_t i = 0; i < s->place_count; i++) {
        place *p = &s->places[i];
        if (p->state == PLACE_READING || p->writing) qs_aio_done(s->c.aio, &p->op);
    }
    if (!unified(s)) pump(s);
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
    for (int32_t i = 0; i < s->place_count; i++) {
        place *p = &s->places[i];
        settle(s, p, true);
        qs_err ignored = {0};
        if (p->state == PLACE_READING) qs_aio_finish(s->c.aio, &p->op, &ignored);
    }
    if (!unified(s)) {
        for (int q = 0; q < QS_QUEUE_COUNT; q++) api(s)->queue_sync(s->c.device, (qs_queue)q);
        for (int32_t i = 0; i < s->place_count; i++) api(s)->event_free(s->c.device, s->places[i].copied);
        for (int32_t i = 0; i < s->slot_count; i++) {
            api(s)->event_free(s->c.device, s->slots[i].ready);
            api(s)->event_free(s->c.device, s->slots[i].freed);
        }
    }
    qs_free(s->places);
    qs_free(s->slots);
    qs_free(s->place_of);
    qs_free(s);
}

qs_stream_stats qs_stream_stats_read(const qs_stream *s) { return s->stats; }
