/* calibrate_io.c - measuring: disk, checksums, link, quantise on load. */
#include <string.h>

#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/number.h"
#include "src/plan/calibrate_parts.h"
#include "src/plan/disk_rates.h"

enum { ROUNDS = 3, TOUCH_BYTES = 8 << 20, LINK_BYTES = 64 << 20 };

/* ---- disk -------------------------------------------------------------------------------------------- */

int qs_calibrate_disk(qs_calibration *k, qs_err *e)
{
    qs_disk_rates rates = {0};
    QS_TRY(qs_disk_rates_measure(k->c.dir, k->c.io_engine, k->c.disk_bytes ? k->c.disk_bytes : 64 << 20,
                                 &rates, e));
    k->disk_read = rates.read;
    k->disk_write = rates.write;
    k->disk_latency = rates.latency;
    k->verify = rates.verify;
    return 0;
}

/* ---- link -------------------------------------------------------------------------------------------- */

int qs_calibrate_link(qs_calibration *k, qs_err *e)
{
    qs_device *d = k->c.device;
    qs_region host;
    void *there;
    qs_err refused = {0};
    QS_TRY(qs_region_map(&host, LINK_BYTES, "measuring the link", e));
    int rc = d->api->alloc(d, LINK_BYTES, &there, e);
    if (rc) {
        qs_region_free(&host);
        return rc;
    }
    bool registered = !d->api->host_register(d, host.base, host.bytes, &refused);
    double in[ROUNDS], out[ROUNDS];
    for (int i = -1; i < ROUNDS; i++) {
        uint64_t start = qs_now_ns();
        d->api->copy_in(d, QS_QUEUE_IN, there, host.base, LINK_BYTES);
        d->api->queue_sync(d, QS_QUEUE_IN);
        uint64_t middle = qs_now_ns();
        d->api->copy_out(d, QS_QUEUE_OUT, host.base, there, LINK_BYTES);
        d->api->queue_sync(d, QS_QUEUE_OUT);
        if (i < 0) continue; /* the first write maps the pages */
        in[i] = LINK_BYTES / qs_seconds(middle - start);
        out[i] = LINK_BYTES / qs_seconds(qs_now_ns() - middle);
    }
    k->link_in = qs_median(in, ROUNDS);
    k->link_out = qs_median(out, ROUNDS);
    if (registered) d->api->host_unregister(d, host.base);
    d->api->free(d, there);
    qs_region_free(&host);
    return d->api->check(d, e);
}

/* ---- quantise on load -------------------------------------------------------------------------------- */

typedef struct touch_test {
    qs_calibration *k;
    const qs_source_tensor *tensor;
    qs_aio *aio;
    qs_region buffer, codes;
    uint64_t bytes;
} touch_test;

/* One chunk: read (or made, with a recipe) and quantised. Reading from a real checkpoint is the disk's work
 * and not counted. */
static int touch(touch_test *t, double *seconds, qs_err *e)
{
    qs_calibration *k = t->k;
    qs_source_read r = {.tensor = t->tensor, .bytes = t->bytes, .buffer = t->buffer.base};
    uint64_t start = qs_now_ns();
    qs_source_read_start(k->c.source, t->aio, &r);
    QS_TRY(qs_source_read_finish(k->c.source, t->aio, &r, e));
    if (!qs_source_is_recipe(k->c.source)) start = qs_now_ns();
    int64_t n = (int64_t)(t->bytes / qs_dtype_bytes(t->tensor->type)), blocks = qs_quant_blocks(n);
    uint8_t *codes = t->codes.base;
    float *absmax = (float *)(void *)(codes + qs_round_up((uint64_t)n, 4096));
    uint8_t *absmax8 = (uint8_t *)(absmax + blocks);
    float *nested = (float *)(void *)((char *)t->codes.base + qs_round_up((uint64_t)n, 4096) +
                                      qs_round_up((uint64_t)blocks * 5, 64));
    if (k->c.quant.type == QS_QUANT_NONE)
        memcpy(codes, r.data, (size_t)n);
    else
        qs_op_quantise4(k->c.cpu, k->c.quant.type, r.data, t->tensor->type, n, codes, absmax);
    if (k->c.quant.type != QS_QUANT_NONE && k->c.quant.double_quant)
        qs_op_quantise_absmax(k->c.cpu, absmax, blocks, absmax8, nested + 1, nested);
    *seconds = qs_seconds(qs_now_ns() - start);
    return 0;
}

int qs_calibrate_quantise_on_load(qs_calibration *k, qs_err *e)
{
    touch_test t = {.k = k, .tensor = qs_source_find(k->c.source, k->c.tensor)};
    QS_ASSERT(t.tensor);
    t.bytes = t.tensor->bytes < TOUCH_BYTES ? t.tensor->bytes : TOUCH_BYTES;
    double seconds[ROUNDS + 1];
    int rc = qs_aio_open(&(qs_aio_config){.engine = k->c.io_engine, .depth = QS_CALIBRATE_DEPTH}, &t.aio, e);
    if (!rc) rc = qs_region_map(&t.buffer, qs_source_buffer_bytes(t.bytes), "measuring quantise on load", e);
    if (!rc) rc = qs_region_map(&t.codes, 2 * t.bytes + (1 << 20), "measuring quantise on load", e);
    for (int i = 0; i <= ROUNDS && !rc; i++) rc = touch(&t, &seconds[i], e);
    if (!rc) k->quantise_on_load = (double)t.bytes / qs_median(seconds + 1, ROUNDS);
    qs_aio_close(t.aio);
    qs_region_free(&t.buffer);
    qs_region_free(&t.codes);
    return rc;
}
