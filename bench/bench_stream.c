/* bench_stream.c - how near the streamer comes to the disk: blobs of a cache file through the ring, verified,
 * with no compute.
 *
 *     make build/release/bench/bench_stream && build/release/bench/bench_stream [directory] [GiB] [blobs]
 * [ring] [rounds]
 *
 * In turn, on the same file: fio at its best (O_DIRECT, io_uring, registered buffers; if it is installed),
 * the I/O layer alone (aio: no ring, no checksums), and the streamer with io_uring and with threads, and the
 * streamer again from a cache striped over two directories (of the same disk: nothing may be lost by it). One
 * turn each per round, so that a busy machine hits all alike; the table has each one's best and median, and
 * their ratio to fio. The files of `GiB` (2) are made as any cache is and removed at the end. Last line: how
 * much of the first the page cache holds.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "io/file.h"
#include "offload/stream.h"
#include "src/base/clock.h"
#include "src/base/memory.h"

enum { MOST_BLOBS = 1024, MOST_ROUNDS = 32, DEPTH = 64 };

static int blobs = 16, ring = 3, rounds = 5;
static uint64_t sizes[MOST_BLOBS], total_bytes;
static char *dir, *pair[2];
static qs_err e;

static void must(int rc)
{
    if (!rc) return;
    fprintf(stderr, "%s\n", e.text);
    exit(1);
}

/* ---- the streamer ------------------------------------------------------------------------------------ */

typedef struct rig {
    qs_device *device;
    qs_plan plan;
    qs_tier tier;
    qs_aio *aio;
    qs_cache *cache;
    qs_stream *stream;
} rig;

static int make(void *context, int blob, void *place, qs_err *err)
{
    uint64_t *w = place, x = (uint64_t)blob + 1;
    for (uint64_t i = 0; i < sizes[blob] / 8; i++) w[i] = x = x * 6364136223846793005u + 1442695040888963407u;
    return 0;
}

static void open_rig(rig *r, qs_aio_engine engine, char *const *dirs, int count)
{
    *r = (rig){0};
    must(qs_device_open("cpu", &r->device, &e));
    qs_plan_input in = {.vram_bytes = 0,
                        .ram_bytes = (uint64_t)1 << 40,
                        .shared_memory = true,
                        .blobs = blobs,
                        .blob_bytes = sizes,
                        .ring_slots = ring,
                        .most_homes = 0};
    must(qs_plan_make(&in, &r->plan, &e));
    must(qs_tier_open(r->device, &r->plan, &r->tier, &e));
    must(qs_aio_open(&(qs_aio_config){.engine = engine, .depth = DEPTH}, &r->aio, &e));
    qs_aio_register(r->aio, r->tier.pinned.base, r->tier.pinned.bytes, &e);
    qs_cache_key key = {
        .model = "bench", .fingerprint = "bench", .format = "bench", .blobs = blobs, .blob_bytes = sizes};
    must(qs_cache_open((const char *const *)dirs, count, &key, &r->cache, &e));
    qs_stream_config c = {.device = r->device,
                          .aio = r->aio,
                          .cache = r->cache,
                          .plan = &r->plan,
                          .blob_bytes = sizes,
                          .tier = &r->tier,
                          .maker = {.make = make}};
    must(qs_stream_open(&c, &r->stream, &e));
}

static void close_rig(rig *r)
{
    qs_stream_close(r->stream);
    qs_cache_close(r->cache);
    qs_aio_close(r->aio);
    qs_tier_close(&r->tier);
    qs_plan_free(&r->plan);
    qs_device_close(r->device);
}

static double verify_share;

/* Bytes per second of two training steps without compute. */
static double stream_rate(qs_aio_engine engine, char *const *dirs, int count)
{
    rig r;
    qs_schedule s;
    open_rig(&r, engine, dirs, count);
    qs_schedule_train(blobs - 1, 1, 1, 0, 1, &s);
    uint64_t start = qs_now_ns(), bytes = 0;
    for (int step = 0; step < 2; step++) {
        qs_stream_begin(r.stream, &s);
        for (int32_t v = 0; v < s.count - 1;
             v++) { /* the last one would read ahead for a step that does not come */
            const void *weights;
            must(qs_stream_acquire(r.stream, v, &weights, &e));
            qs_stream_release(r.stream, v);
        }
    }
    double seconds = qs_seconds(qs_now_ns() - start);
    qs_stream_stats stats = qs_stream_stats_read(r.stream);
    bytes = stats.disk_read_bytes;
    verify_share = qs_seconds(stats.verify_ns) / seconds;
    qs_schedule_free(&s);
    close_rig(&r);
    return (double)bytes / seconds;
}

static double uring_rate(void) { return stream_rate(QS_AIO_AUTO, &dir, 1); }
static double pread_rate(void) { return stream_rate(QS_AIO_PREAD, &dir, 1); }
static double pair_rate(void) { return stream_rate(QS_AIO_AUTO, pair, 2); }

/* ---- what it is compared with ------------------------------------------------------------------------ */

/* The I/O layer: every blob into one of a few buffers, as many under way as the ring has slots. */
static double aio_rate(void)
{
    rig r;
    open_rig(&r, QS_AIO_AUTO, &dir, 1);
    qs_aio_op op[MOST_BLOBS];
    char *place = r.tier.pinned.base;
    uint64_t start = qs_now_ns();
    for (int b = 0; b < blobs + ring; b++) {
        if (b >= ring) must(qs_aio_finish(r.aio, &op[b - ring], &e));
        if (b >= blobs) continue;
        qs_cache_read_op(r.cache, b, place + (uint64_t)(b % ring) * r.plan.slot_bytes, &op[b]);
        qs_aio_start(r.aio, &op[b]);
    }
    double seconds = qs_seconds(qs_now_ns() - start);
    close_rig(&r);
    return (double)total_bytes / seconds;
}

/* 0 when there is no fio. */
static double fio_rate(void)
{
    char *path = qs_path_join(dir, "blobs.bin");
    char *command = qs_printf("fio --name=read --filename='%s' --rw=read --bs=1M --iodepth=%d "
                              "--ioengine=io_uring --fixedbufs --registerfiles --direct=1 "
                              "--readonly --output-format=terse 2>/dev/null",
                              path, DEPTH);
    FILE *f = popen(command, "r");
    char line[4096] = "";
    double kib = 0;
    while (f && fgets(line, sizeof line, f)) { /* terse v3: field 7 is the read bandwidth in KiB/s */
        if (line[0] != '3') continue;
        char *at = line;
        for (int i = 0; at && i < 6; i++) at = strchr(at, ';') ? strchr(at, ';') + 1 : NULL;
        if (at) kib = atof(at);
    }
    if (f) pclose(f);
    qs_free(command);
    qs_free(path);
    return kib * 1024;
}

/* Bytes of the file that the page cache holds. */
static uint64_t cached_bytes(void)
{
    char *path = qs_path_join(dir, "blobs.bin");
    int fd = open(path, O_RDONLY);
    uint64_t pages = (total_bytes + 4095) / 4096, resident = 0;
    void *map = mmap(NULL, total_bytes, PROT_READ, MAP_SHARED, fd, 0);
    unsigned char *vector = qs_malloc(pages);
    if (map != MAP_FAILED && !mincore(map, total_bytes, vector))
        for (uint64_t i = 0; i < pages; i++) resident += vector[i] & 1;
    if (map != MAP_FAILED) munmap(map, total_bytes);
    close(fd);
    qs_free(vector);
    qs_free(path);
    return resident * 4096;
}

/* ---- the table --------------------------------------------------------------------------------------- */

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Makes every blob, as the first sweep of a run does. */
static void fill_cache(char *const *dirs, int count)
{
    rig r;
    qs_schedule s;
    open_rig(&r, QS_AIO_AUTO, dirs, count);
    qs_schedule_evaluate(blobs - 1, 1, 1, 1, &s);
    qs_stream_begin(r.stream, &s);
    for (int32_t v = 0; v < s.count; v++) {
        const void *weights;
        must(qs_stream_acquire(r.stream, v, &weights, &e));
        qs_stream_release(r.stream, v);
    }
    must(qs_stream_settle(r.stream, &e));
    if (count == 1)
        printf("%d blobs of %.1f MB, ring of %d, %s\n", blobs, (double)sizes[0] * 1e-6, ring,
               qs_aio_name(r.aio));
    qs_schedule_free(&s);
    close_rig(&r);
}

int main(int argc, char **argv)
{
    dir = qs_printf("%s/qs-bench-stream", argc > 1 ? argv[1] : ".");
    double gib = argc > 2 ? atof(argv[2]) : 2;
    if (argc > 3) blobs = atoi(argv[3]);
    if (argc > 4) ring = atoi(argv[4]);
    if (argc > 5) rounds = atoi(argv[5]);
    if (blobs < 2 || blobs > MOST_BLOBS || ring < 2 || rounds < 1 || rounds > MOST_ROUNDS || gib <= 0)
        return 2;
    for (int b = 0; b < blobs; b++)
        total_bytes += sizes[b] = (uint64_t)(gib * (1 << 30)) / (uint64_t)blobs / 4096 * 4096;

    for (int k = 0; k < 2; k++) pair[k] = qs_printf("%s/pair%d", dir, k);
    fill_cache(&dir, 1);
    fill_cache(pair, 2);

    static double (*const measure[])(void) = {fio_rate, aio_rate, uring_rate, pread_rate, pair_rate};
    static const char *const names[] = {"fio, O_DIRECT", "io layer alone", "streamer", "streamer, threads",
                                        "streamer, two dirs"};
    enum { ROWS = sizeof names / sizeof *names };
    double rate[ROWS][MOST_ROUNDS], ratio[ROWS][MOST_ROUNDS], verify = 0;
    for (int round = 0; round < rounds; round++)
        for (int i = 0; i < ROWS; i++) {
            rate[i][round] = measure[i]();
            ratio[i][round] = rate[0][round] > 0 ? rate[i][round] / rate[0][round] : 0;
            if (i == 2) verify = verify_share;
        }
    if (rate[0][0] <= 0) printf("fio is not installed or failed: no comparison with it (apt install fio)\n");
    printf("%-20s %12s %12s %16s\n", "", "best GB/s", "median GB/s", "median / fio");
    for (int i = 0; i < ROWS; i++) {
        qsort(rate[i], (size_t)rounds, sizeof(double), ascending);
        qsort(ratio[i], (size_t)rounds, sizeof(double), ascending);
        printf("%-20s %12.2f %12.2f %16.3f\n", names[i], rate[i][rounds - 1] * 1e-9,
               rate[i][rounds / 2] * 1e-9, ratio[i][rounds / 2]);
    }
    printf("checksums: %.1f %% of the streamer's time; in the page cache: %.1f MB\n", verify * 100,
           (double)cached_bytes() * 1e-6);
    must(qs_dir_remove(dir, &e));
    return 0;
}
