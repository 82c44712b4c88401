#include "tests/support/stream_rig.h"

#include <check.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "tests/support/aio_fault.h"
#include "tests/support/lazy_device.h"
#include "tests/support/racy_device.h"
#include "tests/support/temp_dir.h"

static uint64_t word(int blob, uint64_t i)
{
    uint64_t x = ((uint64_t)blob << 40 ^ i) * 0x9E3779B97F4A7C15u + 1;
    return x ^ x >> 29;
}

void rig_fill(int blob, void *place, uint64_t bytes)
{
    uint64_t *w = place;
    for (uint64_t i = 0; i < bytes / 8; i++) w[i] = word(blob, i);
}

bool rig_is(int blob, const void *place, uint64_t bytes)
{
    const uint64_t *w = place;
    for (uint64_t i = 0; i < bytes / 8; i++)
        if (w[i] != word(blob, i)) return false;
    return true;
}

/* Writes `bytes` more of a blob; begins anew unless it was begun there. */
static void make_some(stream_rig *r, int blob, void *place, uint64_t bytes)
{
    if (r->begun != blob || r->begun_at != place) {
        r->begun_bytes = 0;
        memset(place, 0x33, r->config.sizes[blob]);
    }
    r->begun = blob;
    r->begun_at = place;
    uint64_t *w = place;
    for (uint64_t end = r->begun_bytes + bytes;
         r->begun_bytes < end && r->begun_bytes < r->config.sizes[blob]; r->begun_bytes += 8)
        w[r->begun_bytes / 8] = word(blob, r->begun_bytes / 8);
}

static int make(void *context, int blob, void *place, qs_err *e)
{
    stream_rig *r = context;
    r->made[blob]++;
    if (r->fail_to_make == blob + 1) QS_FAIL(e, QS_EIO, "blob %d cannot be made", blob);
    make_some(r, blob, place, r->config.sizes[blob]);
    r->begun = -1;
    return 0;
}

static void expect(void *context, int blob)
{
    stream_rig *r = context;
    r->begun = r->next = -1;
    if (blob < 0) return;
    r->next = blob;
    ck_assert(r->config.no_cache || !qs_cache_has(r->cache, blob));
    r->expected[blob]++;
}

/* A page and a bit at a time: the rest is still on its way. */
static qs_made advance(void *context, int blob, void *place)
{
    stream_rig *r = context;
    ck_assert_int_eq(blob, r->next);
    if (r->fail_to_make == blob + 1) return QS_MADE_NOTHING;
    make_some(r, blob, place, 4096 + 512);
    return r->begun_bytes == r->config.sizes[blob] ? QS_MADE_ALL : QS_MADE_SOME;
}

static void add_item(qs_plan *p, qs_item item, qs_pool pool, uint64_t bytes)
{
    if (!bytes) return;
    p->items[p->item_count++] = (qs_plan_item){item, pool, bytes};
    p->pool_bytes[pool] += bytes;
}

/* The placement of another plan, for blobs of the rig's sizes. */
static void plan_like(const qs_plan *like, const uint64_t *sizes, uint64_t largest, bool unified,
                      qs_plan *out)
{
    uint64_t bytes[3] = {0};
    *out = (qs_plan){.blobs = like->blobs,
                     .home = qs_calloc((size_t)like->blobs, 1),
                     .ring_slots = like->ring_slots,
                     .device_slots = like->device_slots,
                     .slot_bytes = largest,
                     .homes_device = like->homes_device,
                     .homes_host = like->homes_host};
    memcpy(out->home, like->home, (size_t)like->blobs);
    for (int b = 0; b < like->blobs; b++) bytes[like->home[b]] += sizes[b];
    out->streamed_bytes = bytes[QS_HOME_DISK];
    add_item(out, QS_ITEM_RING, QS_POOL_PINNED, (uint64_t)out->ring_slots * largest);
    add_item(out, QS_ITEM_DEVICE_SLOTS, QS_POOL_DEVICE, (uint64_t)out->device_slots * largest);
    add_item(out, QS_ITEM_RESIDENT, QS_POOL_DEVICE, bytes[QS_HOME_DEVICE]);
    add_item(out, QS_ITEM_RESIDENT_RAM, unified ? QS_POOL_HOST : QS_POOL_PINNED, bytes[QS_HOME_HOST]);
}

void rig_open(stream_rig *r, const char *dir)
{
    rig_config *c = &r->config;
    uint64_t largest = 0;
    for (int b = 0; b < c->blobs; b++) {
        if (!c->sizes[b]) c->sizes[b] = 3 * 4096;
        largest = c->sizes[b] > largest ? c->sizes[b] : largest;
    }
    if (c->device == RIG_LAZY)
        r->device = test_lazy_device(c->seed);
    else
        ck_assert_int_eq(
            qs_device_cpu.open(0, c->device == RIG_DISCRETE ? QS_CPU_DISCRETE : 0, &r->device, &r->e), 0);

    if (c->racy) test_drop_compute_waits(r->device);

    qs_plan_input in = {.vram_bytes = (uint64_t)1 << 32,
                        .ram_bytes = (uint64_t)1 << 32,
                        .shared_memory = r->device->info.shared_memory,
                        .blobs = c->blobs,
                        .blob_bytes = c->sizes,
                        .ring_slots = c->ring,
                        .most_homes = c->most_homes};
    if (c->device_room) in.vram_bytes = c->device_room + (in.shared_memory ? 0 : (uint64_t)c->ring * largest);
    if (c->like)
        plan_like(c->like, c->sizes, largest, in.shared_memory, &r->plan);
    else
        ck_assert_msg(!qs_plan_make(&in, &r->plan, &r->e), "%s", r->e.text);
    ck_assert_msg(!qs_tier_open(r->device, &r->plan, &r->tier, &r->e), "%s", r->e.text);

    qs_aio_config aio = {
        .engine = c->engine, .depth = 4, .chunk_bytes = 4096, .seam = test_faults(c->faults)};
    ck_assert_msg(!qs_aio_open(&aio, &r->aio, &r->e), "%s", r->e.text);
    qs_cache_key key = {
        .model = "rig", .fingerprint = "known", .format = "words", .blobs = c->blobs, .blob_bytes = c->sizes};
    if (!c->no_cache) ck_assert_msg(!qs_cache_open(&dir, 1, &key, &r->cache, &r->e), "%s", r->e.text);
    qs_stream_config stream = {.device = r->device,
                               .aio = r->aio,
                               .cache = r->cache,
                               .plan = &r->plan,
                               .blob_bytes = c->sizes,
                               .tier = &r->tier,
                               .maker = {.context = r, .make = make, .expect = expect, .advance = advance},
                               .recorder = c->recorder};
    ck_assert_msg(!qs_stream_open(&stream, &r->stream, &r->e), "%s", r->e.text);
    qs_tier_check(&r->tier);
}

void rig_close(stream_rig *r)
{
    qs_stream_close(r->stream);
    qs_cache_close(r->cache);
    qs_aio_close(r->aio);
    qs_tier_close(&r->tier);
    qs_plan_free(&r->plan);
    qs_device_close(r->device);
    *r = (stream_rig){.config = r->config};
}

typedef struct look {
    stream_rig *rig;
    const void *weights;
    int blob;
} look;

/* What a kernel of the lazy device looks at must outlive the call that queues it. */
enum { LOOKS = 1 << 14 };
static look looks[LOOKS];
static unsigned next_look;

static void look_kernel(void *p, int64_t n)
{
    const look *l = p;
    l->rig->wrong += !rig_is(l->blob, l->weights, l->rig->config.sizes[l->blob]);
}

static void check(stream_rig *r, int blob, const void *weights)
{
    look *l = &looks[next_look++ % LOOKS];
    *l = (look){r, weights, blob};
    if (r->config.device == RIG_LAZY)
        test_lazy_kernel(r->device, look_kernel, l, 0);
    else
        look_kernel(l, 0);
}

int rig_visit(stream_rig *r, int32_t v, const qs_schedule *s)
{
    const void *weights = r;
    int blob = s->visits[v].blob;
    QS_TRY(qs_stream_acquire(r->stream, v, &weights, &r->e));
    if (blob < 0)
        ck_assert_ptr_null(weights);
    else
        check(r, blob, weights);
    qs_stream_poll(r->stream);
    if (blob >= 0) check(r, blob, weights);
    qs_stream_release(r->stream, v);
    return 0;
}

int rig_follow(stream_rig *r, const qs_schedule *s)
{
    qs_stream_begin(r->stream, s);
    for (int32_t v = 0; v < s->count; v++) QS_TRY(rig_visit(r, v, s));
    for (int q = 0; q < QS_QUEUE_COUNT; q++) r->device->api->queue_sync(r->device, (qs_queue)q);
    return 0;
}

/* Until everything that was started has arrived and nothing more is started. */
static void wait_for_calm(stream_rig *r, bool poll)
{
    enum { CALM = 4, PATIENCE = 20000 };
    uint64_t before = 0;
    for (int i = 0, calm = 0; i < PATIENCE && calm < CALM; i++) {
        if (poll) qs_stream_poll(r->stream);
        qs_stream_stats s = qs_stream_stats_read(r->stream);
        qs_aio_stats io = qs_aio_stats_read(r->aio);
        bool arrived = io.read_bytes == s.disk_read_bytes && io.write_bytes == s.disk_write_bytes;
        uint64_t now = s.disk_read_bytes + s.disk_write_bytes + s.link_bytes;
        calm = (arrived || !poll) && now == before ? calm + 1 : 0;
        before = now;
        usleep(poll ? 20 : 200);
    }
}

int rig_follow_at_leisure(stream_rig *r, const qs_schedule *s)
{
    qs_stream_begin(r->stream, s);
    for (int32_t v = 0; v < s->count; v++) {
        const void *weights;
        int blob = s->visits[v].blob;
        QS_TRY(qs_stream_acquire(r->stream, v, &weights, &r->e));
        if (blob >= 0) check(r, blob, weights);
        wait_for_calm(r, s->visits[v].kind != QS_VISIT_UPDATE);
        qs_stream_release(r->stream, v);
    }
    return 0;
}

int rig_total_made(const stream_rig *r)
{
    int sum = 0;
    for (int b = 0; b < r->config.blobs; b++) sum += r->made[b];
    return sum;
}

void rig_corrupt(const stream_rig *r, const char *dir, int blob)
{
    uint64_t at = r->config.sizes[blob] / 2;
    for (int b = 0; b < blob; b++) at += r->config.sizes[b];
    char *path = test_path(dir, "blobs.bin");
    int fd = open(path, O_RDWR);
    uint8_t byte;
    ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
    byte ^= 1;
    ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
    ck_assert_int_eq(fsync(fd), 0);
    close(fd);
    qs_free(path);
}
