#include "tests/support/lazy_device.h"

#include <string.h>

#include "src/base/memory.h"
#include "src/base/random.h"

enum { QUEUE_LENGTH = 4096 };

typedef enum piece_kind { PIECE_COPY, PIECE_FILL, PIECE_RECORD, PIECE_WAIT, PIECE_KERNEL } piece_kind;

typedef struct piece {
    piece_kind kind;
    void *to;
    const void *from;
    size_t bytes;
    int byte;
    qs_event *event;
    uint64_t record; /* which record of the event is made, or waited for */
    void (*kernel)(void *p, int64_t n);
    int64_t n;
    uint64_t order; /* of queueing */
} piece;

struct qs_event {
    uint64_t recorded, reached;
};

typedef struct lazy_queue {
    piece pieces[QUEUE_LENGTH];
    size_t head, tail; /* next to run, next to fill; both only grow */
} lazy_queue;

typedef struct lazy_device {
    qs_device base;
    lazy_queue queue[QS_QUEUE_COUNT];
    qs_region memory;
    uint64_t seed, draws, orders, last_order, reordered;
    int64_t events; /* alive */
} lazy_device;

static uint32_t draw(lazy_device *d, uint32_t below) { return qs_random_u32(d->seed, 0, d->draws++) % below; }

/* Runs the next piece of a queue; false when there is none or it waits. */
static bool run_one(lazy_device *d, lazy_queue *q)
{
    if (q->head == q->tail) return false;
    piece *p = &q->pieces[q->head % QUEUE_LENGTH];
    switch (p->kind) {
    case PIECE_COPY:
        memcpy(p->to, p->from, p->bytes);
        break;
    case PIECE_FILL:
        memset(p->to, p->byte, p->bytes);
        break;
    case PIECE_RECORD:
        p->event->reached = p->record;
        break;
    case PIECE_WAIT:
        if (p->event->reached < p->record) return false;
        break;
    case PIECE_KERNEL:
        p->kernel(p->to, p->n);
        break;
    }
    if (p->kind == PIECE_COPY || p->kind == PIECE_KERNEL) {
        d->reordered += p->order < d->last_order;
        d->last_order = p->order;
    }
    q->head++;
    return true;
}

/* Runs one piece of some queue that can go on; false when none can. */
static bool step(lazy_device *d)
{
    uint32_t first = draw(d, QS_QUEUE_COUNT);
    for (uint32_t i = 0; i < QS_QUEUE_COUNT; i++)
        if (run_one(d, &d->queue[(first + i) % QS_QUEUE_COUNT])) return true;
    return false;
}

static void maybe_run(lazy_device *d)
{
    for (uint32_t n = draw(d, 4) ? 0 : draw(d, 12); n; n--) step(d);
}

static void append(lazy_device *d, qs_queue queue, piece p)
{
    lazy_queue *q = &d->queue[queue];
    while (q->tail - q->head == QUEUE_LENGTH) QS_ASSERT(step(d));
    p.order = d->orders++;
    q->pieces[q->tail++ % QUEUE_LENGTH] = p;
    maybe_run(d);
}

static bool on_device(const lazy_device *d, const void *p, size_t bytes)
{
    const char *base = d->memory.base;
    return base && (const char *)p >= base && (const char *)p + bytes <= base + d->memory.bytes;
}

static void lazy_close(qs_device *base)
{
    lazy_device *d = (lazy_device *)base;
    while (step(d)) {
    }
    for (int q = 0; q < QS_QUEUE_COUNT; q++) QS_ASSERT(d->queue[q].head == d->queue[q].tail);
    QS_ASSERT(!d->events);
    qs_region_free(&d->memory);
    qs_free(d);
}

static int lazy_alloc(qs_device *base, size_t bytes, void **out, qs_err *e)
{
    lazy_device *d = (lazy_device *)base;
    QS_ASSERT(!d->memory.base);
    QS_TRY(qs_region_map(&d->memory, bytes, "lazy device memory", e));
    memset(d->memory.base, 0xff, bytes);
    *out = d->memory.base;
    return 0;
}

static void lazy_free(qs_device *base, void *p)
{
    lazy_device *d = (lazy_device *)base;
    while (step(d)) {
    }
    qs_region_free(&d->memory);
}

static int lazy_host_register(qs_device *d, void *p, size_t bytes, qs_err *e) { return 0; }
static void lazy_host_unregister(qs_device *d, void *p) {}

static int lazy_managed_alloc(qs_device *d, size_t bytes, void **out, qs_err *e)
{
    QS_FAIL(e, QS_EUNSUP, "no managed memory here");
}
static void lazy_managed_free(qs_device *d, void *p) {}
static void lazy_managed_prefetch(qs_device *d, qs_queue q, void *p, size_t bytes, bool to_device) {}

static void lazy_copy_in(qs_device *base, qs_queue q, void *device, const void *host, size_t bytes)
{
    lazy_device *d = (lazy_device *)base;
    QS_ASSERT(on_device(d, device, bytes) && !on_device(d, host, 1));
    append(d, q, (piece){.kind = PIECE_COPY, .to = device, .from = host, .bytes = bytes});
}

static void lazy_copy_out(qs_device *base, qs_queue q, void *host, const void *device, size_t bytes)
{
    lazy_device *d = (lazy_device *)base;
    QS_ASSERT(on_device(d, device, bytes) && !on_device(d, host, 1));
    append(d, q, (piece){.kind = PIECE_COPY, .to = host, .from = device, .bytes = bytes});
}

static void lazy_fill(qs_device *base, qs_queue q, void *device, int byte, size_t bytes)
{
    lazy_device *d = (lazy_device *)base;
    QS_ASSERT(on_device(d, device, bytes));
    append(d, q, (piece){.kind = PIECE_FILL, .to = device, .byte = byte, .bytes = bytes});
}

static qs_event *lazy_event_create(qs_device *d)
{
    ((lazy_device *)d)->events++;
    return qs_calloc(1, sizeof(qs_event));
}

static void lazy_event_free(qs_device *d, qs_event *event)
{
    QS_ASSERT(event->reached == event->recorded); /* nothing of it is queued */
    ((lazy_device *)d)->events--;
    qs_free(event);
}

static void lazy_event_record(qs_device *d, qs_event *event, qs_queue q)
{
    append((lazy_device *)d, q, (piece){.kind = PIECE_RECORD, .event = event, .record = ++event->recorded});
}

static void lazy_event_wait(qs_device *d, qs_event *event, qs_queue q)
{
    append((lazy_device *)d, q, (piece){.kind = PIECE_WAIT, .event = event, .record = event->recorded});
}

static bool lazy_event_done(qs_device *d, qs_event *event)
{
    maybe_run((lazy_device *)d);
    return event->reached == event->recorded;
}

static void lazy_event_sync(qs_device *d, qs_event *event)
{
    while (event->reached < event->recorded) QS_ASSERT(step((lazy_device *)d)); /* else: a deadlock */
}

static void lazy_queue_sync(qs_device *base, qs_queue q)
{
    lazy_device *d = (lazy_device *)base;
    while (d->queue[q].head < d->queue[q].tail) QS_ASSERT(step(d));
}

static int lazy_count(void) { return 1; }
static int lazy_open(int ordinal, unsigned flags, qs_device **out, qs_err *e)
{
    *out = test_lazy_device(0);
    return 0;
}
static uint64_t lazy_used_bytes(qs_device *d) { return ((lazy_device *)d)->memory.bytes; }
static int lazy_check(qs_device *d, qs_err *e) { return 0; }

static const qs_device_api lazy_api = {
    .name = "lazy",
    .count = lazy_count,
    .open = lazy_open,
    .close = lazy_close,
    .alloc = lazy_alloc,
    .free = lazy_free,
    .host_register = lazy_host_register,
    .host_unregister = lazy_host_unregister,
    .managed_alloc = lazy_managed_alloc,
    .managed_free = lazy_managed_free,
    .managed_prefetch = lazy_managed_prefetch,
    .copy_in = lazy_copy_in,
    .copy_out = lazy_copy_out,
    .fill = lazy_fill,
    .event_create = lazy_event_create,
    .event_free = lazy_event_free,
    .event_record = lazy_event_record,
    .event_wait = lazy_event_wait,
    .event_done = lazy_event_done,
    .event_sync = lazy_event_sync,
    .queue_sync = lazy_queue_sync,
    .used_bytes = lazy_used_bytes,
    .check = lazy_check,
};

qs_device *test_lazy_device(uint64_t seed)
{
    lazy_device *d = qs_calloc(1, sizeof *d);
    d->base.api = &lazy_api;
    strcpy(d->base.info.name, "lazy");
    d->seed = seed;
    return &d->base;
}

void test_lazy_kernel(qs_device *d, void (*kernel)(void *p, int64_t n), void *p, int64_t n)
{
    append((lazy_device *)d, QS_QUEUE_COMPUTE,
           (piece){.kind = PIECE_KERNEL, .kernel = kernel, .to = p, .n = n});
}

uint64_t test_lazy_reordered(const qs_device *d) { return ((const lazy_device *)d)->reordered; }
