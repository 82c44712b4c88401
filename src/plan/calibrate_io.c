/* calibrate_io.c - measuring: disk, checksums, link, quantise on load. */
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/plan/calibrate_parts.h"

enum { PART_BYTES = 32 << 20, PARTS = 2, ROUNDS = 3, LATENCY_READS = 9, TOUCH_BYTES = 8 << 20, LINK_BYTES = 64 << 20 };

/* ---- disk ------------------------------------------------------------------------------------------------------------- */

typedef struct disk_test {
    qs_aio *aio;
    qs_aio_file file;
    qs_region block;
    uint64_t bytes, part;
} disk_test;

/* Two parts in flight, as the ring does. Returns with the first failure. */
static int transfer(disk_test *t, bool write, qs_aio_op op[PARTS], qs_err *e)
{
    uint64_t started = 0;
    for (uint64_t at = 0; at < t->bytes; at += t->part) {
        for (; started < t->bytes && started < at + PARTS * t->part; started += t->part) {
            uint64_t i = started / t->part % PARTS, n = t->bytes - started < t->part ? t->bytes - started : t->part;
            op[i] = (qs_aio_op){.file = &t->file, .buffer = (char *)t->block.base + i * t->part, .bytes = n, .offset = started, .write = write};
            qs_aio_start(t->aio, &op[i]);
        }
        QS_TRY(qs_aio_finish(t->aio, &op[at / t->part % PARTS], e));
    }
    return 0;
}

/* Reads or writes the whole file; bytes per second. */
static int pass(disk_test *t, bool write, double *rate, qs_err *e)
{
    qs_aio_op op[PARTS] = {{.file = NULL}};
    qs_err ignored = {0};
    uint64_t begin = qs_now_ns();
    int rc = transfer(t, write, op, e);
    for (int i = 0; i < PARTS; i++) qs_aio_finish(t->aio, &op[i], &ignored); /* after a failure the others are still in flight */
    *rate = (double)t->bytes / qs_seconds(qs_now_ns() - begin);
    return rc;
}
static int latency(disk_test *t, double *seconds, qs_err *e)
{
    double v[LATENCY_READS];
    for (int i = 0; i < LATENCY_READS; i++) {
        uint64_t pages = t->bytes / 4096, start = qs_now_ns();
        qs_aio_op op = {.file = &t->file, .buffer = t->block.base, .bytes = 4096, .offset = qs_random_u32(1, 0, (uint64_t)i) % pages * 4096};
        QS_TRY(qs_aio_run(t->aio, &op, e));
        v[i] = qs_seconds(qs_now_ns() - start);
    }
    *seconds = qs_median(v, LATENCY_READS);
    return 0;
}

static int disk_rates(qs_calibration *k, disk_test *t, qs_err *e)
{
    double rate[ROUNDS];
    uint32_t *words = t->block.base;
    for (size_t i = 0; i < t->block.bytes / 4; i++) words[i] = (uint32_t)(i * 2654435761u); /* not zeros: some disks have none to write */
    QS_TRY(pass(t, true, &k->disk_write, e));
    for (int i = 0; i < ROUNDS; i++) QS_TRY(pass(t, false, &rate[i], e));
    k->disk_read = qs_median(rate, ROUNDS);
    QS_TRY(latency(t, &k->disk_latency, e));
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = qs_now_ns();
        volatile XXH64_hash_t sum = XXH3_64bits(t->block.base, t->block.bytes);
        (void)sum;
        rate[i] = (double)t->block.bytes / qs_seconds(qs_now_ns() - start);
    }
    k->verify = qs_median(rate, ROUNDS);
    return 0;
}

int qs_calibrate_disk(qs_calibration *k, qs_err *e)
{
    disk_test t = {.bytes = k->c.disk_bytes ? qs_round_up(k->c.disk_bytes, 4096) : 64 << 20};
    char *path = qs_printf("%s/calibration-%ld.tmp", k->c.dir, (long)getpid()); /* others may be measuring there too */
    qs_err refused = {0};
    t.part = t.bytes / PARTS < PART_BYTES ? qs_round_up(t.bytes / PARTS, 4096) : PART_BYTES;
    int rc = qs_region_map(&t.block, PARTS * t.part, "measuring the disk", e);
    if (!rc) rc = qs_aio_open(&(qs_aio_config){.engine = k->c.io_engine, .depth = QS_CALIBRATE_DEPTH, .chunk_bytes = QS_CALIBRATE_CHUNK}, &t.aio, e);
    if (!rc) rc = qs_aio_file_open(&t.file, path, QS_FILE_CREATE, e);
    if (!rc) {
        unlink(path); /* now, so that it goes however this ends */
        qs_aio_register(t.aio, t.block.base, t.block.bytes, &refused);
        rc = disk_rates(k, &t, e);
    }
    qs_aio_close(t.aio);
    qs_aio_file_close(&t.file);
    qs_region_free(&t.block);
    qs_free(path);
    return rc;
}

/* ---- link ------------------------------------------------------------------------------------------------------------- */

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

/* ---- quantise on load ------------------------------------------------------------------------------------------------------ */

typedef struct touch_test {
    qs_calibration *k;
    const qs_source_tensor *tensor;
    qs_aio *aio;
    qs_region buffer, codes;
    uint64_t bytes;
} touch_test;

/* One chunk: read (or made, with a recipe) and quantised. Reading from a real checkpoint is the disk's work and not counted. */
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
    float *nested = (float *)(void *)((char *)t->codes.base + qs_round_up((uint64_t)n, 4096) + qs_round_up((uint64_t)blocks * 5, 64));
    if (k->c.quant.type == QS_QUANT_NONE) memcpy(codes, r.data, (size_t)n);
    else qs_op_quantise4(k->c.cpu, k->c.quant.type, r.data, t->tensor->type, n, codes, absmax);
    if (k->c.quant.type != QS_QUANT_NONE && k->c.quant.double_quant) qs_op_quantise_absmax(k->c.cpu, absmax, blocks, absmax8, nested + 1, nested);
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
