/* disk_rates.c - see disk_rates.h. */
#include "src/plan/disk_rates.h"

#include <unistd.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/number.h"
#include "src/base/random.h"
#include "src/plan/calibrate_parts.h"

enum { PART_BYTES = 32 << 20, PARTS = 2, ROUNDS = 3, LATENCY_READS = 9 };

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
            uint64_t i = started / t->part % PARTS,
                     n = t->bytes - started < t->part ? t->bytes - started : t->part;
            op[i] = (qs_aio_op){.file = &t->file,
                                .buffer = (char *)t->block.base + i * t->part,
                                .bytes = n,
                                .offset = started,
                                .write = write};
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
    for (int i = 0; i < PARTS; i++)
        qs_aio_finish(t->aio, &op[i], &ignored); /* after a failure the others are still in flight */
    *rate = (double)t->bytes / qs_seconds(qs_now_ns() - begin);
    return rc;
}

static int latency(disk_test *t, double *seconds, qs_err *e)
{
    double v[LATENCY_READS];
    for (int i = 0; i < LATENCY_READS; i++) {
        uint64_t pages = t->bytes / 4096, start = qs_now_ns();
        qs_aio_op op = {.file = &t->file,
                        .buffer = t->block.base,
                        .bytes = 4096,
                        .offset = qs_random_u32(1, 0, (uint64_t)i) % pages * 4096};
        QS_TRY(qs_aio_run(t->aio, &op, e));
        v[i] = qs_seconds(qs_now_ns() - start);
    }
    *seconds = qs_median(v, LATENCY_READS);
    return 0;
}

static double checksum_rate(const qs_region *block)
{
    double rate[ROUNDS];
    for (int i = 0; i < ROUNDS; i++) {
        uint64_t start = qs_now_ns();
        volatile XXH64_hash_t sum = XXH3_64bits(block->base, block->bytes);
        (void)sum;
        rate[i] = (double)block->bytes / qs_seconds(qs_now_ns() - start);
    }
    return qs_median(rate, ROUNDS);
}

static int measure(disk_test *t, qs_disk_rates *out, qs_err *e)
{
    double rate[ROUNDS];
    uint32_t *words = t->block.base;
    for (size_t i = 0; i < t->block.bytes / 4; i++)
        words[i] = (uint32_t)(i * 2654435761u); /* not zeros: some disks have none to write */
    QS_TRY(pass(t, true, &out->write, e));
    for (int i = 0; i < ROUNDS; i++) QS_TRY(pass(t, false, &rate[i], e));
    out->read = qs_median(rate, ROUNDS);
    QS_TRY(latency(t, &out->latency, e));
    out->verify = checksum_rate(&t->block);
    return 0;
}

int qs_disk_rates_measure(const char *dir, qs_aio_engine engine, uint64_t bytes, qs_disk_rates *out,
                          qs_err *e)
{
    disk_test t = {.bytes = qs_round_up(bytes, 4096)};
    char *path =
        qs_printf("%s/calibration-%ld.tmp", dir, (long)getpid()); /* others may be measuring there too */
    qs_err refused = {0};
    t.part = t.bytes / PARTS < PART_BYTES ? qs_round_up(t.bytes / PARTS, 4096) : PART_BYTES;
    int rc = qs_region_map(&t.block, PARTS * t.part, "measuring the disk", e);
    if (!rc)
        rc = qs_aio_open(&(qs_aio_config){.engine = engine,
                                          .depth = QS_CALIBRATE_DEPTH,
                                          .chunk_bytes = QS_CALIBRATE_CHUNK},
                         &t.aio, e);
    if (!rc) rc = qs_aio_file_open(&t.file, path, QS_FILE_CREATE, e);
    if (!rc) {
        unlink(path); /* now, so that it goes however this ends */
        qs_aio_register(t.aio, t.block.base, t.block.bytes, &refused);
        out->direct = t.file.direct;
        rc = measure(&t, out, e);
    }
    qs_aio_close(t.aio);
    qs_aio_file_close(&t.file);
    qs_region_free(&t.block);
    qs_free(path);
    return rc;
}
