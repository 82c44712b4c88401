#include "offload/activation_store.h"

#include "offload/device_buffers.h"
#include "src/base/memory.h"

/* A device buffer of a discrete device. */
typedef struct buffer {
    char *memory;
    qs_event *arrived;  /* the copy in is done: compute may read */
    qs_event *computed; /* the last kernel on it is done: may be copied out, or overwritten by a copy in */
    qs_event *stored;   /* the copy out is done: may be overwritten */
} buffer;

struct qs_activation_store {
    qs_activation_store_config c;
    qs_device_buffers held; /* what the buffers hold */
    buffer *buffers;
    uint64_t *bytes;    /* [micro_batches] */
    qs_event **in_host; /* [levels * micro_batches] the copy out that wrote it */
    uint64_t link_bytes;
};

static const qs_device_api *api(const qs_activation_store *s) { return s->c.device->api; }
static bool shared(const qs_activation_store *s) { return s->c.device->info.shared_memory; }
static int32_t record_of(const qs_activation_store *s, int32_t level, int32_t mb)
{
    QS_ASSERT(level >= 0 && level < s->c.levels && mb >= 0 && mb < s->c.micro_batches);
    return qs_activation_store_record(&s->c, level, mb);
}

void qs_activation_store_open(const qs_activation_store_config *config, qs_activation_store **out)
{
    qs_activation_store *s = qs_calloc(1, sizeof *s);
    s->c = *config;
    s->bytes = qs_calloc((size_t)config->micro_batches, sizeof *s->bytes);
    for (int32_t i = 0; i < config->micro_batches; i++) s->bytes[i] = config->bytes;
    if (!shared(s)) {
        QS_ASSERT(config->buffers >= QS_ACTIVATION_BUFFERS && config->buffers <= QS_DEVICE_BUFFERS_MAX);
        qs_device_buffers_clear(&s->held, config->buffers);
        s->buffers = qs_calloc((size_t)config->buffers, sizeof *s->buffers);
        for (int32_t i = 0; i < config->buffers; i++)
            s->buffers[i] = (buffer){.memory = (char *)config->device_memory + (uint64_t)i * config->bytes,
                                     .arrived = api(s)->event_create(config->device),
                                     .computed = api(s)->event_create(config->device),
                                     .stored = api(s)->event_create(config->device)};
        size_t n = (size_t)config->levels * (size_t)config->micro_batches;
        s->in_host = qs_calloc(n, sizeof *s->in_host);
        for (size_t i = 0; i < n; i++) s->in_host[i] = api(s)->event_create(config->device);
    }
    *out = s;
}

void qs_activation_store_close(qs_activation_store *s)
{
    if (!s) return;
    if (!shared(s)) {
        for (int q = 0; q < QS_QUEUE_COUNT; q++) api(s)->queue_sync(s->c.device, (qs_queue)q);
        for (int32_t i = 0; i < s->c.buffers; i++) {
            api(s)->event_free(s->c.device, s->buffers[i].arrived);
            api(s)->event_free(s->c.device, s->buffers[i].computed);
            api(s)->event_free(s->c.device, s->buffers[i].stored);
        }
        size_t n = (size_t)s->c.levels * (size_t)s->c.micro_batches;
        for (size_t i = 0; i < n; i++) api(s)->event_free(s->c.device, s->in_host[i]);
    }
    qs_free(s->in_host);
    qs_free(s->buffers);
    qs_free(s->bytes);
    qs_free(s);
}

void qs_activation_store_set_bytes(qs_activation_store *s, int32_t micro_batch, uint64_t bytes)
{
    QS_ASSERT(bytes <= s->c.bytes);
    s->bytes[micro_batch] = bytes;
}

void *qs_activation_store_host(qs_activation_store *s, int32_t level, int32_t micro_batch)
{
    void *p = qs_pager_acquire(s->c.host, record_of(s, level, micro_batch), QS_PAGE_NEW);
    qs_pager_wait_device(s->c.host, record_of(s, level, micro_batch));
    return p;
}

static buffer *find(qs_activation_store *s, int32_t level, int32_t mb)
{
    int32_t i = qs_device_buffers_find(&s->held, record_of(s, level, mb));
    return i < 0 ? NULL : &s->buffers[i];
}

static int32_t *pins(qs_activation_store *s, const buffer *b) { return &s->held.pins[b - s->buffers]; }

static int64_t next_use(void *store, int32_t record)
{
    return qs_pager_next_use(((qs_activation_store *)store)->c.host, record);
}

/* Whatever overwrites it must first wait for its events. */
static buffer *take(qs_activation_store *s, int32_t level, int32_t mb)
{
    int32_t i = qs_device_buffers_take(&s->held, record_of(s, level, mb), next_use, s);
    return i < 0 ? NULL : &s->buffers[i];
}

static buffer *fetch(qs_activation_store *s, int32_t level, int32_t mb)
{
    buffer *b = take(s, level, mb);
    if (!b) return NULL;
    qs_device *d = s->c.device;
    api(s)->event_wait(d, b->computed, QS_QUEUE_IN);
    api(s)->event_wait(d, b->stored, QS_QUEUE_IN);
    api(s)->event_wait(d, s->in_host[record_of(s, level, mb)], QS_QUEUE_IN);
    qs_device_taken_over(d, QS_QUEUE_IN, b->memory, s->c.bytes);
    const void *host = qs_pager_acquire(s->c.host, record_of(s, level, mb), QS_PAGE_READ);
    api(s)->copy_in(d, QS_QUEUE_IN, b->memory, host, s->bytes[mb]);
    qs_pager_release(s->c.host, record_of(s, level, mb), false, QS_QUEUE_IN);
    api(s)->event_record(d, b->arrived, QS_QUEUE_IN);
    s->link_bytes += s->bytes[mb];
    return b;
}

void qs_activation_store_expect(qs_activation_store *s, int32_t level, int32_t micro_batch)
{
    if (shared(s) || find(s, level, micro_batch) ||
        !qs_pager_ready(s->c.host, record_of(s, level, micro_batch)))
        return;
    if (qs_device_buffers_spare(&s->held)) fetch(s, level, micro_batch);
}

void *qs_activation_store_get(qs_activation_store *s, int32_t level, int32_t micro_batch)
{
    if (shared(s)) return qs_pager_acquire(s->c.host, record_of(s, level, micro_batch), QS_PAGE_CHANGE);
    buffer *b = find(s, level, micro_batch);
    if (!b) b = fetch(s, level, micro_batch);
    QS_ASSERT(b);
    api(s)->event_wait(s->c.device, b->arrived, QS_QUEUE_COMPUTE);
    ++*pins(s, b);
    return b->memory;
}

void *qs_activation_store_new(qs_activation_store *s, int32_t level, int32_t micro_batch)
{
    if (shared(s)) return qs_pager_acquire(s->c.host, record_of(s, level, micro_batch), QS_PAGE_NEW);
    buffer *b = find(s, level, micro_batch);
    if (!b) b = take(s, level, micro_batch);
    QS_ASSERT(b);
    api(s)->event_wait(s->c.device, b->arrived, QS_QUEUE_COMPUTE); /* a hint that came to nothing */
    api(s)->event_wait(s->c.device, b->stored, QS_QUEUE_COMPUTE);
    qs_device_taken_over(s->c.device, QS_QUEUE_COMPUTE, b->memory, s->c.bytes);
    ++*pins(s, b);
    return b->memory;
}

void qs_activation_store_put(qs_activation_store *s, int32_t level, int32_t micro_batch, bool changed)
{
    if (shared(s)) {
        qs_pager_release(s->c.host, record_of(s, level, micro_batch), changed, QS_QUEUE_COUNT);
        return;
    }
    buffer *b = find(s, level, micro_batch);
    QS_ASSERT(b && *pins(s, b) > 0);
    qs_device *d = s->c.device;
    --*pins(s, b);
    api(s)->event_record(d, b->computed, QS_QUEUE_COMPUTE);
    if (!changed) return;
    api(s)->event_wait(d, b->computed, QS_QUEUE_OUT);
    void *host = qs_pager_acquire(s->c.host, record_of(s, level, micro_batch), QS_PAGE_NEW);
    api(s)->copy_out(d, QS_QUEUE_OUT, host, b->memory, s->bytes[micro_batch]);
    qs_pager_release(s->c.host, record_of(s, level, micro_batch), true, QS_QUEUE_OUT);
    api(s)->event_record(d, b->stored, QS_QUEUE_OUT);
    api(s)->event_record(d, s->in_host[record_of(s, level, micro_batch)], QS_QUEUE_OUT);
    s->link_bytes += s->bytes[micro_batch];
}

void qs_activation_store_host_written(qs_activation_store *s, int32_t level, int32_t micro_batch)
{
    qs_pager_release(s->c.host, record_of(s, level, micro_batch), true, QS_QUEUE_COUNT);
    if (shared(s)) return;
    buffer *b = find(s, level, micro_batch); /* an older sweep's: forget it */
    if (b) s->held.record[b - s->buffers] = -1;
}

uint64_t qs_activation_store_link_bytes(const qs_activation_store *s) { return s->link_bytes; }
