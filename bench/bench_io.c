/* bench_io.c - how fast both engines read a file past the page cache, and fio the same file in the same run.
 *
 *     make build/release/bench/bench_io && build/release/bench/bench_io [file [gigabytes]]
 *
 * Without a file one of 1 GB is written to the current directory and removed at the end. Each figure is the
 * median of three whole reads; the parts of the file arrive in two halves of one block, as the streaming
 * engine reads layers. The block has huge pages, as the pools of a run have; "small" is io_uring into pages
 * of 4 KiB, which is what fio's buffers have: a disk takes a limited number of separate pages in one request,
 * so compare fio with that column. The last line is the cost of checking a layer's checksum, which is on the
 * same path.
 */
#include <fcntl.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <xxhash.h>

#include "io/aio.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/random.h"

#define PART_BYTES ((uint64_t)64 << 20)
#define OWN_FILE "bench_io.tmp"

enum { REPEATS = 3 };
static const size_t chunks[] = {128 << 10, 1 << 20, 4 << 20};
static const int depths[] = {1, 8, 32};

static qs_region huge, small;
static qs_err e;

static void must(int rc)
{
    if (!rc) return;
    fprintf(stderr, "bench_io: %s\n", e.text);
    unlink(OWN_FILE);
    exit(1);
}

static void write_file(const char *path, uint64_t bytes)
{
    qs_aio *aio;
    qs_aio_file file;
    must(qs_aio_file_open(&file, path, QS_FILE_CREATE, &e));
    must(qs_aio_open(&(qs_aio_config){0}, &aio, &e));
    uint32_t *words = huge.base;
    for (uint64_t i = 0; i < PART_BYTES / 4; i++) words[i] = qs_random_u32(1, 0, i);
    for (uint64_t at = 0; at < bytes; at += PART_BYTES)
        must(qs_aio_run(
            aio,
            &(qs_aio_op){.file = &file, .buffer = words, .bytes = PART_BYTES, .offset = at, .write = true},
            &e));
    fsync(file.fd);
    qs_aio_close(aio);
    qs_aio_file_close(&file);
}

static int ascending(const void *a, const void *b)
{
    return *(const double *)a < *(const double *)b ? -1 : 1;
}

static double median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}

/* GB/s of one read of the first `bytes`: one half of the block is in flight while the other would be in use.
 */
static double read_once(qs_aio *aio, const qs_aio_file *file, const qs_region *block, uint64_t bytes)
{
    qs_aio_op op[2] = {{.file = NULL}};
    uint64_t begin = qs_now_ns(), started = 0;
    for (int k = 0; k < 2 && started < bytes; k++, started += PART_BYTES) {
        op[k] = (qs_aio_op){.file = file,
                            .buffer = (char *)block->base + (uint64_t)k * PART_BYTES,
                            .bytes = PART_BYTES,
                            .offset = started};
        qs_aio_start(aio, &op[k]);
    }
    for (uint64_t at = 0; at < bytes; at += PART_BYTES) {
        qs_aio_op *o = &op[at / PART_BYTES % 2];
        must(qs_aio_finish(aio, o, &e));
        if (started >= bytes) continue;
        o->offset = started;
        started += PART_BYTES;
        qs_aio_start(aio, o);
    }
    return (double)bytes / (double)(qs_now_ns() - begin);
}

/* Negative when there is no such engine here. */
static double measure(qs_aio_config config, const qs_region *block, bool fixed, const char *path,
                      uint64_t bytes)
{
    qs_aio *aio;
    qs_aio_file file;
    double rate[REPEATS];
    if (qs_aio_open(&config, &aio, &e)) return -1;
    if (fixed && !qs_aio_register(aio, block->base, block->bytes, &e)) {
        qs_aio_close(aio);
        return -1;
    }
    must(qs_aio_file_open(&file, path, QS_FILE_READ, &e));
    if (!file.direct) printf("note: this file system has no direct I/O\n");
    for (int i = 0; i < REPEATS; i++) rate[i] = read_once(aio, &file, block, bytes);
    qs_aio_file_close(&file);
    qs_aio_close(aio);
    return median(rate, REPEATS);
}

/* fio's own figure for the same pattern, or negative when fio is not installed or fails. */
static double measure_fio(size_t chunk_bytes, int depth, const char *path, uint64_t bytes)
{
    double rate[REPEATS];
    char *command = qs_printf("fio --name=read --filename='%s' --rw=read --direct=1 --ioengine=io_uring "
                              "--bs=%zu --iodepth=%d --size=%llu "
                              "--readonly --output-format=json 2>/dev/null",
                              path, chunk_bytes, depth, (unsigned long long)bytes);
    for (int i = 0; i < REPEATS; i++) {
        FILE *f = popen(command, "r");
        json_t *root = f ? json_loadf(f, JSON_DISABLE_EOF_CHECK, NULL) : NULL;
        const json_t *job = json_array_get(json_object_get(root, "jobs"), 0),
                     *read = json_object_get(job, "read");
        rate[i] = json_is_integer(json_object_get(read, "bw_bytes"))
                      ? (double)json_integer_value(json_object_get(read, "bw_bytes")) * 1e-9
                      : -1;
        json_decref(root);
        if (f) pclose(f);
    }
    qs_free(command);
    return median(rate, REPEATS);
}

static void print_rate(double rate)
{
    if (rate < 0)
        printf("  %10s", "-");
    else
        printf("  %10.3f", rate);
}

int main(int argc, char **argv)
{
    const char *path = argc > 1 ? argv[1] : OWN_FILE;
    uint64_t bytes = (uint64_t)((argc > 2 ? atof(argv[2]) : 1) * 1e9) / PART_BYTES * PART_BYTES;
    must(qs_region_map(&huge, 2 * PART_BYTES, "reading", &e));
    must(qs_region_map(&small, 2 * PART_BYTES, "reading", &e));
    madvise(small.base, small.bytes, MADV_NOHUGEPAGE);
    qs_region_touch(&huge);
    qs_region_touch(&small);
    if (argc < 2) write_file(path, bytes);

    printf("%s: %.2f GB, direct reads, GB/s (median of %d)\n\n", path, (double)bytes * 1e-9, REPEATS);
    if (system("command -v fio >/dev/null 2>&1"))
        printf("fio is not installed: no comparison with it (apt install fio)\n\n");
    printf("chunk KiB  depth  %10s  %10s  %10s  %10s  %10s\n", "fixed", "io_uring", "pread", "small", "fio");
    for (size_t c = 0; c < sizeof chunks / sizeof *chunks; c++)
        for (size_t d = 0; d < sizeof depths / sizeof *depths; d++) {
            qs_aio_config uring = {.engine = QS_AIO_URING, .chunk_bytes = chunks[c], .depth = depths[d]},
                          pread = uring;
            pread.engine = QS_AIO_PREAD;
            printf("%9zu  %5d", chunks[c] >> 10, depths[d]);
            print_rate(measure(uring, &huge, true, path, bytes));
            print_rate(measure(uring, &huge, false, path, bytes));
            print_rate(measure(pread, &huge, false, path, bytes));
            print_rate(measure(uring, &small, false, path, bytes));
            print_rate(measure_fio(chunks[c], depths[d], path, bytes));
            printf("\n");
            fflush(stdout);
        }
    if (argc < 2) unlink(path);

    double rate[REPEATS];
    volatile uint64_t keep;
    for (int i = 0; i < REPEATS; i++) {
        uint64_t begin = qs_now_ns();
        keep = XXH3_64bits(huge.base, huge.bytes);
        rate[i] = (double)huge.bytes / (double)(qs_now_ns() - begin);
    }
    (void)keep;
    printf("\nXXH3-64 of %zu MiB: %.1f GB/s on one core\n", huge.bytes >> 20, median(rate, REPEATS));
    qs_region_free(&huge);
    qs_region_free(&small);
    return 0;
}
