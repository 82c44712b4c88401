#include "offload/stream.h"

#include <errno.h>
#include <string.h>

#include "offload/residency.h"
#include "src/base/clock.h"
#include "src/base/log.h"

/* The memory of a host slot, and what is under way there. */
typedef struct host_memory {
    char *at;
    qs_aio_op op;
    uint64_t source;  /* while it is written: the checksum of what the blob was made from */
    qs_event *copied; /* discrete: after the last copy out of it */
    uint64_t copy_ns; /* recording: when the copy was queued whose end has not been seen; else 0 */
    int32_t copy_blob;
} host_memory;

/* The memory of a device slot (discrete devices). */
typedef struct device_memory {
    char *at;
    qs_event *ready; /* the copy into it has arrived */
    qs_event *freed; /* its last reader is done */
} device_memory;

struct qs_stream {
    qs_stream_config c;
    qs_mover mover;
    qs_residency where; /* decides; the functions of `mover` below carry it out */
    host_memory *host;  /* parallel to where.host */
    device_memory *device;
    uint64_t copied_until; /* recording: end of the last copy that was seen */
    int failed;            /* code of a failure seen where no error could be returned */
    qs_err failure;
    qs_stream_stats stats;
};

static const qs_device_api *api(const qs_stream *s) { return s->c.device->api; }
static bool shared(const qs_stream *s) { return s->c.device->info.shared_memory; }

static bool busy(const qs_stream *s, int32_t host)
{
    return s->where.host[host].state == QS_SLOT_READING || s->where.host[host].writing;
}

/* Lets the I/O engine reap and submit: between operations, and while a blob is hashed. */
static void keep_disk_busy(void *stream)
{
    qs_stream *s = stream;
    for (int32_t i = 0; i < s->where.host_slots; i++)
        if (busy(s, i) && !qs_aio_done(s->c.aio, &s->host[i].op)) return;
}

/* ---- recording: see offload/recorder.h --------------------------------------------------------------- */

static void record_transfer(const qs_stream *s, qs_activity_kind kind, int32_t host)
{
    qs_record(s->c.recorder, kind, qs_residency_blob(&s->where, host), s->host[host].op.start_ns,
              s->host[host].op.end_ns);
}

/* Notes the copy out of a slot if it has ended. Copies go one after another, so it began when the one before
 * it had ended. */
static void record_copy(qs_stream *s, host_memory *m)
{
    if (!m->copy_ns || !api(s)->event_done(s->c.device, m->copied)) return;
    uint64_t start = m->copy_ns > s->copied_until ? m->copy_ns : s->copied_until;
    s->copied_until = qs_now_ns();
    qs_record(s->c.recorder, QS_ACTIVITY_COPY, m->copy_blob, start, s->copied_until);
    m->copy_ns = 0;
}

static void record_copies(qs_stream *s)
{
    for (int32_t i = 0; s->c.recorder && i < s->where.host_slots; i++) record_copy(s, &s->host[i]);
}

static void record_usage(const qs_stream *s, int32_t v)
{
    qs_usage u = {0};
    for (int32_t i = 0; i < s->where.host_slots; i++) {
        const qs_host_slot *h = &s->where.host[i];
        if (h->state == QS_SLOT_EMPTY || h->blob < 0) continue;
        bool on_device = h->is_home && s->c.plan->home[h->blob] == QS_HOME_DEVICE;
        *(!h->is_home ? &u.ring : on_device ? &u.homes_device : &u.homes_host) += s->c.blob_bytes[h->blob];
    }
    for (int32_t i = 0; i < s->where.device_slots; i++) {
        const qs_device_slot *d = &s->where.device[i];
        if (d->blob >= 0) *(d->is_home ? &u.homes_device : &u.slots) += s->c.blob_bytes[d->blob];
    }
    s->c.recorder->usage[v] = u;
}

static void record_make(qs_stream *s, int32_t blob, uint64_t start)
{
    uint64_t end = qs_now_ns();
    s->stats.make_ns += end - start;
    qs_record(s->c.recorder, QS_ACTIVITY_MAKE, blob, start, end);
}

/* ---- the mover: between the disk and host slots ------------------------------------------------------ */

static bool in_cache(void *stream, int32_t blob)
{
    const qs_stream *s = stream;
    return s->c.cache && qs_cache_has(s->c.cache, blob);
}

static void fill_host(void *stream, int32_t host, bool read)
{
    qs_stream *s = stream;
    host_memory *m = &s->host[host];
    record_copy(s, m);
    qs_memory_taken_over(m->at, s->c.blob_bytes[qs_residency_blob(&s->where, host)]);
    if (!read) return;
    qs_cache_read_op(s->c.cache, qs_residency_blob(&s->where, host), m->at, &m->op);
    qs_aio_start(s->c.aio, &m->op);
    s->stats.disk_read_bytes += m->op.bytes;
}

static bool has_arrived(void *stream, int32_t host)
{
    qs_stream *s = stream;
    return qs_aio_done(s->c.aio, &s->host[host].op);
}

/* Waits for the slot's transfer; returns when it was over. */
static uint64_t wait_for_disk(qs_stream *s, int32_t host, int *rc, qs_err *e)
{
    uint64_t start = qs_now_ns();
    *rc = qs_aio_finish(s->c.aio, &s->host[host].op, e);
    uint64_t ended = qs_now_ns();
    s->stats.disk_wait_ns += ended - start;
    qs_record(s->c.recorder, QS_ACTIVITY_WAIT_DISK, qs_residency_blob(&s->where, host), start, ended);
    if (s->where.host[host].state == QS_SLOT_READING) record_transfer(s, QS_ACTIVITY_READ, host);
    return ended;
}

static void wait_unwanted(void *stream, int32_t host)
{
    qs_err ignored = {0}; /* of data that nobody wants any more; a write's is told by its commit */
    int rc;
    wait_for_disk(stream, host, &rc, &ignored);
}

static int receive_read(void *stream, int32_t host, bool *good, qs_err *e)
{
    qs_stream *s = stream;
    int rc;
    uint64_t arrived = wait_for_disk(s, host, &rc, e);
    bool cut =
        rc && s->host[host].op.error == -ENODATA; /* a file that was cut heals like one that was changed */
    if (rc && !cut) return rc;
    if (cut) qs_cache_forget(s->c.cache, qs_residency_blob(&s->where, host), "is beyond the end of the file");
    *good = !cut && qs_cache_verify(s->c.cache, qs_residency_blob(&s->where, host), s->host[host].at);
    uint64_t verified = qs_now_ns();
    s->stats.verify_ns += verified - arrived;
    qs_record(s->c.recorder, QS_ACTIVITY_VERIFY, qs_residency_blob(&s->where, host), arrived, verified);
    return 0;
}

static void expect_blob(void *stream, int32_t blob)
{
    const qs_stream *s = stream;
    if (s->c.maker.expect) s->c.maker.expect(s->c.maker.context, blob);
}

static qs_made make_what_came(void *stream, int32_t host)
{
    qs_stream *s = stream;
    uint64_t start = qs_now_ns();
    if (!s->c.maker.advance) return QS_MADE_NOTHING;
    qs_made made =
        s->c.maker.advance(s->c.maker.context, qs_residency_blob(&s->where, host), s->host[host].at);
    if (made != QS_MADE_NOTHING) record_make(s, qs_residency_blob(&s->where, host), start);
    return made;
}

static int make_and_write(void *stream, int32_t host, bool *writing, qs_err *e)
{
    qs_stream *s = stream;
    host_memory *m = &s->host[host];
    uint64_t start = qs_now_ns();
    QS_TRY(s->c.maker.make(s->c.maker.context, qs_residency_blob(&s->where, host), m->at, e));
    record_make(s, qs_residency_blob(&s->where, host), start);
    *writing = s->c.cache && qs_cache_may_write(s->c.cache, qs_residency_blob(&s->where, host));
    if (!*writing) return 0;
    m->source = s->c.maker.source_hash ? s->c.maker.source_hash(s->c.maker.context) : 0;
    qs_cache_write_op(s->c.cache, qs_residency_blob(&s->where, host), m->at, &m->op);
    qs_aio_start(s->c.aio, &m->op);
    s->stats.disk_write_bytes += m->op.bytes;
    return 0;
}

static void commit_write(void *stream, int32_t host)
{
    qs_stream *s = stream;
    qs_err e = {0};
    int rc = qs_aio_finish(s->c.aio, &s->host[host].op, &e);
    uint64_t written = qs_now_ns();
    record_transfer(s, QS_ACTIVITY_WRITE, host);
    if (!rc)
        rc = qs_cache_commit(s->c.cache, qs_residency_blob(&s->where, host), s->host[host].at,
                             s->host[host].source, &e);
    qs_record(s->c.recorder, QS_ACTIVITY_VERIFY, qs_residency_blob(&s->where, host), written, qs_now_ns());
    if (!rc || s->failed) return;
    s->failed = rc;
    s->failure = e;
}

/* ---- the mover: between host and device slots -------------------------------------------------------- */

static bool being_copied(void *stream, int32_t host)
{
    const qs_stream *s = stream;
    return !api(s)->event_done(s->c.device, s->host[host].copied);
}

static void wait_for_copy(void *stream, int32_t host)
{
    qs_stream *s = stream;
    uint64_t start = qs_now_ns();
    api(s)->event_sync(s->c.device, s->host[host].copied);
    uint64_t copied = qs_now_ns();
    s->stats.link_wait_ns += copied - start;
    qs_record(s->c.recorder, QS_ACTIVITY_WAIT_LINK, qs_residency_blob(&s->where, host), start, copied);
}

static void queue_copy(void *stream, int32_t host, int32_t to)
{
    qs_stream *s = stream;
    host_memory *from = &s->host[host];
    const device_memory *d = &s->device[to];
    qs_device *device = s->c.device;
    uint64_t bytes = s->c.blob_bytes[qs_residency_blob(&s->where, host)];
    if (s->c.recorder) {
        record_copy(s, from);
        from->copy_ns = qs_now_ns();
        from->copy_blob = qs_residency_blob(&s->where, host);
    }
    api(s)->event_wait(device, d->freed, QS_QUEUE_IN);
    qs_device_taken_over(device, QS_QUEUE_IN, d->at, bytes);
    api(s)->copy_in(device, QS_QUEUE_IN, d->at, from->at, bytes);
    api(s)->event_record(device, d->ready, QS_QUEUE_IN);
    api(s)->event_record(device, from->copied, QS_QUEUE_IN);
    record_copy(s, from);
    s->stats.link_bytes += bytes;
}

/* ---- opening ----------------------------------------------------------------------------------------- */

static void lay_out_homes(qs_stream *s)
{
    const qs_plan *plan = s->c.plan;
    char *device = qs_tier_take(s->c.tier, QS_ITEM_RESIDENT, QS_POOL_DEVICE);
    char *host = qs_tier_take(s->c.tier, QS_ITEM_RESIDENT_RAM, shared(s) ? QS_POOL_HOST : QS_POOL_PINNED);
    for (int32_t b = 0; b < plan->blobs; b++) {
        char **from = plan->home[b] == QS_HOME_DEVICE ? &device : &host;
        if (plan->home[b] == QS_HOME_DISK) continue;
        if (s->where.device_home[b] >= 0)
            s->device[s->where.device_home[b]].at = *from;
        else
            s->host[s->where.host_home[b]].at = *from;
        *from += s->c.blob_bytes[b];
    }
}

static void lay_out_ring(qs_stream *s)
{
    const qs_plan *plan = s->c.plan;
    const qs_residency *r = &s->where;
    char *host = qs_tier_take(s->c.tier, QS_ITEM_RING, QS_POOL_PINNED);
    char *device = qs_tier_take(s->c.tier, QS_ITEM_DEVICE_SLOTS, QS_POOL_DEVICE);
    for (int i = 0; i < plan->ring_slots; i++)
        s->host[r->host_homes + i].at = host + (uint64_t)i * plan->slot_bytes;
    for (int i = 0; i < plan->device_slots; i++)
        s->device[r->device_homes + i].at = device + (uint64_t)i * plan->slot_bytes;
}

int qs_stream_open(const qs_stream_config *config, qs_stream **out, qs_err *e)
{
    qs_stream *s = qs_calloc(1, sizeof *s);
    s->c = *config;
    s->mover = (qs_mover){.context = s,
                          .cached = in_cache,
                          .fill = fill_host,
                          .transferred = has_arrived,
                          .wait_transferred = wait_unwanted,
                          .receive = receive_read,
                          .expect = expect_blob,
                          .make_some = make_what_came,
                          .make = make_and_write,
                          .commit = commit_write,
                          .copying = being_copied,
                          .wait_copied = wait_for_copy,
                          .copy = queue_copy};
    qs_residency_open(config->plan, shared(s), &s->mover, &s->where);
    s->host = qs_calloc((size_t)s->where.host_slots + 1, sizeof *s->host);
    s->device = qs_calloc((size_t)s->where.device_slots + 1, sizeof *s->device);
    lay_out_homes(s);
    lay_out_ring(s);
    for (int32_t i = 0; !shared(s) && i < s->where.host_slots; i++)
        s->host[i].copied = api(s)->event_create(s->c.device);
    for (int32_t i = 0; i < s->where.device_slots; i++) {
        s->device[i].ready = api(s)->event_create(s->c.device);
        s->device[i].freed = api(s)->event_create(s->c.device);
    }
    if (s->c.cache) qs_cache_while_hashing(s->c.cache, keep_disk_busy, s);
    *out = s;
    return 0;
}

/* Makes a cache durable that has become whole, so that other processes need not fill theirs. */
static void sync_whole_cache(qs_stream *s)
{
    if (!s->c.cache || s->failed || !qs_cache_needs_sync(s->c.cache)) return;
    s->failed = qs_cache_sync(s->c.cache, &s->failure);
}

void qs_stream_close(qs_stream *s)
{
    if (!s) return;
    if (s->c.cache) qs_cache_while_hashing(s->c.cache, NULL, NULL);
    qs_residency_settle(&s->where);
    for (int32_t i = 0; i < s->where.host_slots; i++)
        if (busy(s, i)) wait_unwanted(s, i);
    sync_whole_cache(s);
    if (!shared(s)) {
        for (int q = 0; q < QS_QUEUE_COUNT; q++) api(s)->queue_sync(s->c.device, (qs_queue)q);
        record_copies(s);
        for (int32_t i = 0; i < s->where.host_slots; i++) api(s)->event_free(s->c.device, s->host[i].copied);
        for (int32_t i = 0; i < s->where.device_slots; i++) {
            api(s)->event_free(s->c.device, s->device[i].ready);
            api(s)->event_free(s->c.device, s->device[i].freed);
        }
    }
    qs_residency_close(&s->where);
    qs_free(s->host);
    qs_free(s->device);
    qs_free(s);
}

/* ---- use --------------------------------------------------------------------------------------------- */

void qs_stream_begin(qs_stream *s, const qs_schedule *schedule)
{
    qs_residency_commit_written(&s->where);
    sync_whole_cache(s);
    qs_residency_begin(&s->where, schedule);
}

/* What others did meanwhile: the device, and processes that share the cache. */
static void look_around(qs_stream *s)
{
    record_copies(s);
    if (s->c.cache) qs_cache_refresh(s->c.cache);
}

static int tell_failure(const qs_stream *s, qs_err *e)
{
    if (s->failed && e) *e = s->failure;
    return s->failed;
}

int qs_stream_acquire(qs_stream *s, int32_t v, const void **out, qs_err *e)
{
    int32_t b = s->where.schedule->visits[v].blob;
    *out = NULL;
    look_around(s);
    QS_TRY(qs_residency_acquire(&s->where, v, e));
    if (s->failed) qs_residency_release(&s->where, v);
    QS_TRY(tell_failure(s, e));
    if (s->c.recorder) record_usage(s, v);
    if (b < 0) return 0;
    int32_t i = qs_residency_slot(&s->where, b);
    if (!shared(s)) api(s)->event_wait(s->c.device, s->device[i].ready, QS_QUEUE_COMPUTE);
    *out = shared(s) ? s->host[i].at : s->device[i].at;
    return 0;
}

void qs_stream_release(qs_stream *s, int32_t v)
{
    int32_t b = s->where.schedule->visits[v].blob;
    if (b < 0) return;
    if (!shared(s))
        api(s)->event_record(s->c.device, s->device[qs_residency_slot(&s->where, b)].freed, QS_QUEUE_COMPUTE);
    qs_residency_release(&s->where, v);
}

void qs_stream_poll(qs_stream *s)
{
    keep_disk_busy(s);
    look_around(s);
    qs_residency_pump(&s->where);
}

int qs_stream_settle(qs_stream *s, qs_err *e)
{
    qs_residency_settle(&s->where);
    QS_TRY(tell_failure(s, e));
    return s->c.cache ? qs_cache_sync(s->c.cache, e) : 0;
}

qs_stream_stats qs_stream_stats_read(const qs_stream *s)
{
    qs_stream_stats stats = s->stats;
    stats.reads = (uint64_t)s->where.reads;
    stats.hits = (uint64_t)s->where.hits;
    return stats;
}
