/* Behaviour of io/aio, the same for both engines: what is asked for arrives, whatever the disk does in
 * between. */
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/aio.h"
#include "tests/support/aio_fault.h"
#include "io/file.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/ring_faults.h"
#include "tests/support/temp_dir.h"

/* Not a multiple of anything: the last block is short. */
#define FILE_BYTES (3 * 1000 * 1000 + 123)
#define ROOM (4 << 20)

static const qs_aio_engine engines[] = {QS_AIO_PREAD, QS_AIO_URING};
static char *dir, *path, *content, *buffer;
static qs_aio *aio;
static qs_aio_file file;
static qs_err e;

static void setup(void)
{
    dir = test_dir_create();
    path = test_path(dir, "data");
    content = qs_malloc(FILE_BYTES);
    for (size_t i = 0; i < FILE_BYTES; i++) content[i] = (char)(qs_random_u32(3, 0, i / 4) >> 8 * (i % 4));
    test_file_write(path, content, FILE_BYTES);
    buffer = aligned_alloc(4096, ROOM);
    memset(buffer, 0, ROOM);
    e = (qs_err){0};
}

static void teardown(void)
{
    qs_aio_close(aio);
    qs_aio_file_close(&file);
    free(buffer);
    qs_free(content);
    qs_free(path);
    test_dir_remove(dir);
}

/* False, with a reason printed, where rings are refused. */
static bool start_engine(int engine, qs_aio_config config)
{
    config.engine = engines[engine];
    int rc = qs_aio_open(&config, &aio, &e);
    if (rc == -QS_EUNSUP && config.engine == QS_AIO_URING) {
        printf("skip: %s\n", e.text);
        return false;
    }
    ck_assert_msg(!rc, "%s", e.text);
    return true;
}

/* Reads [offset, offset + bytes) of the file, through the aligned superset when it is direct, and compares.
 */
static void read_and_compare(uint64_t offset, uint64_t bytes)
{
    uint64_t begin = offset / file.align * file.align, end = qs_round_up(offset + bytes, file.align);
    qs_aio_op op = {.file = &file,
                    .buffer = buffer,
                    .offset = begin,
                    .bytes = end - begin,
                    .allow_eof = end > FILE_BYTES};
    memset(buffer, 0, end - begin);
    ck_assert_msg(!qs_aio_run(aio, &op, &e), "%s", e.text);
    ck_assert_uint_eq(op.done_bytes, (end < FILE_BYTES ? end : FILE_BYTES) - begin);
    ck_assert_int_eq(memcmp(buffer + (offset - begin), content + offset, bytes), 0);
}

static void read_random_ranges(int count)
{
    for (int i = 0; i < count; i++) {
        uint64_t at = qs_random_u32(4, 0, (uint64_t)i) % FILE_BYTES;
        read_and_compare(at, qs_random_u32(4, 1, (uint64_t)i) % (FILE_BYTES - at) + 1);
    }
    read_and_compare(0, FILE_BYTES);
    read_and_compare(FILE_BYTES - 1, 1);
}

START_TEST(any_range_reads_back_direct_and_buffered_at_any_depth)
{
    static const qs_aio_config configs[] = {
        {0}, {.depth = 1, .chunk_bytes = 4096}, {.depth = 7, .chunk_bytes = 64 << 10}};
    for (int flags = 0; flags <= QS_FILE_BUFFERED; flags += QS_FILE_BUFFERED)
        for (size_t c = 0; c < 3; c++) {
            if (!start_engine(_i, configs[c])) return;
            ck_assert_int_eq(qs_aio_file_open(&file, path, flags, &e), 0);
            if (flags) ck_assert(!file.direct && file.align == 1);
            read_random_ranges(c == 1 ? 3 : 20);
            qs_aio_file_close(&file);
            qs_aio_close(aio);
            aio = NULL;
        }
}
END_TEST

enum { PARTS = 3, UNIT = 8192, WHOLE = 40 * UNIT + 4096 };

START_TEST(a_striped_file_takes_and_gives_any_range_and_its_parts_are_even)
{
    qs_aio_file part[PARTS];
    for (int flags = 0; flags <= QS_FILE_BUFFERED; flags += QS_FILE_BUFFERED) {
        if (!start_engine(_i, (qs_aio_config){.depth = 5, .chunk_bytes = flags ? 4096 : 64 << 10})) return;
        uint64_t sum = 0;
        for (int k = 0; k < PARTS; k++) {
            char *name = qs_printf("%s.%d", path, k);
            ck_assert_int_eq(qs_aio_file_open(&part[k], name, QS_FILE_CREATE | flags, &e), 0);
            qs_free(name);
        }
        qs_aio_file_stripe(&file, part, PARTS, UNIT);
        for (uint64_t at = 0; at < WHOLE; at += 5 * 4096) {
            uint64_t bytes = WHOLE - at < 5 * 4096 ? WHOLE - at : 5 * 4096;
            memcpy(buffer, content + at, bytes);
            qs_aio_op op = {.file = &file, .buffer = buffer, .offset = at, .bytes = bytes, .write = true};
            ck_assert_msg(!qs_aio_run(aio, &op, &e), "%s", e.text);
        }
        for (uint64_t i = 0; i < 200; i++) {
            uint64_t at = qs_random_u32(5, 0, i) % (WHOLE / 4096) * 4096,
                     bytes = (qs_random_u32(5, 1, i) % ((WHOLE - at) / 4096) + 1) * 4096;
            qs_aio_op op = {.file = &file, .buffer = buffer, .offset = at, .bytes = bytes};
            ck_assert_msg(!qs_aio_run(aio, &op, &e), "%s", e.text);
            ck_assert_uint_eq(op.done_bytes, bytes);
            ck_assert_int_eq(memcmp(buffer, content + at, bytes), 0);
        }
        for (int k = 0; k < PARTS; k++) {
            char unit[UNIT];
            off_t size = lseek(part[k].fd, 0, SEEK_END);
            ck_assert_uint_eq((uint64_t)size, qs_aio_stripe_bytes(WHOLE, k, PARTS, UNIT));
            sum += (uint64_t)size;
            char *name = qs_printf("%s.%d", path, k);
            FILE *f = fopen(name, "rb");
            ck_assert_uint_eq(fread(unit, 1, UNIT, f), UNIT);
            ck_assert_int_eq(memcmp(unit, content + k * UNIT, UNIT), 0);
            fclose(f);
            qs_free(name);
        }
        ck_assert_uint_eq(sum, WHOLE);

        ck_assert_int_eq(ftruncate(part[1].fd, UNIT), 0); /* a failure names the part */
        qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 8 * UNIT};
        ck_assert_int_eq(qs_aio_run(aio, &op, &e), -QS_EIO);
        ck_assert_msg(strstr(e.text, part[1].path) && strstr(e.text, "truncated"), "%s", e.text);
        for (int k = 0; k < PARTS; k++) qs_aio_file_close(&part[k]);
        file = (qs_aio_file){.fd = -1};
        qs_aio_close(aio);
        aio = NULL;
    }
}
END_TEST

START_TEST(reading_past_the_end_is_an_error_unless_allowed)
{
    if (!start_engine(_i, (qs_aio_config){.chunk_bytes = 64 << 10})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    ck_assert_uint_eq(file.bytes, FILE_BYTES);
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = ROOM};
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, path) && strstr(e.text, "reading 4194304 bytes at 0") &&
                      strstr(e.text, "truncated"),
                  "%s", e.text);
    op.allow_eof = true;
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), 0);
    ck_assert_uint_eq(op.done_bytes, FILE_BYTES);
    ck_assert_int_eq(memcmp(buffer, content, FILE_BYTES), 0);
    op.offset = 64 << 20; /* wholly outside */
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), 0);
    ck_assert_uint_eq(op.done_bytes, 0);
}
END_TEST

START_TEST(what_is_written_is_in_the_file)
{
    if (!start_engine(_i, (qs_aio_config){.chunk_bytes = 64 << 10})) return;
    char *other = test_path(dir, "other");
    ck_assert_int_eq(qs_aio_file_open(&file, other, QS_FILE_WRITE, &e), -QS_EMISSING);
    ck_assert_int_eq(qs_aio_file_open(&file, other, QS_FILE_CREATE, &e), 0);
    size_t whole = FILE_BYTES / 4096 * 4096;
    memcpy(buffer, content, whole);
    qs_aio_op second = {.file = &file,
                        .buffer = buffer + 4096,
                        .bytes = whole - 4096,
                        .offset = 4096,
                        .write = true},
              first = {.file = &file, .buffer = buffer, .bytes = 4096, .write = true};
    qs_aio_start(aio, &second);
    qs_aio_start(aio, &first);
    ck_assert_int_eq(qs_aio_finish(aio, &first, &e), 0);
    ck_assert_int_eq(qs_aio_finish(aio, &second, &e), 0);
    ck_assert_uint_eq(qs_aio_stats_read(aio).write_bytes, whole);
    size_t bytes;
    char *got = test_file_read(other, &bytes);
    ck_assert_uint_eq(bytes, whole);
    ck_assert_int_eq(memcmp(got, content, whole), 0);
    qs_free(got);
    qs_free(other);
}
END_TEST

START_TEST(writing_to_a_file_opened_for_reading_fails_and_says_so)
{
    if (!start_engine(_i, (qs_aio_config){0})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 4096, .write = true};
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, "writing") && strstr(e.text, "reading only"), "%s", e.text);
}
END_TEST

START_TEST(operations_are_served_in_order_of_start)
{
    if (!start_engine(_i, (qs_aio_config){.depth = 1, .chunk_bytes = 4096})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    qs_aio_op op[8];
    for (int i = 0; i < 8; i++) {
        op[i] = (qs_aio_op){
            .file = &file, .buffer = buffer + i * 65536, .bytes = 65536, .offset = (uint64_t)(7 - i) * 65536};
        qs_aio_start(aio, &op[i]);
    }
    for (int i = 7; i >= 0; i -= 3) {
        ck_assert_int_eq(qs_aio_finish(aio, &op[i], &e), 0);
        for (int k = 0; k <= i; k++) ck_assert(!op[k].active);
    }
    for (int i = 0; i < 8; i++)
        ck_assert_int_eq(memcmp(buffer + i * 65536, content + (7 - i) * 65536, 65536), 0);
}
END_TEST

START_TEST(done_becomes_true_without_finish_and_nothing_is_allocated)
{
    if (!start_engine(_i, (qs_aio_config){.depth = 4, .chunk_bytes = 64 << 10})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    uint64_t calls = qs_mem_read().calls;
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 2 << 20}, empty = {.file = &file};
    qs_aio_start(aio, &op);
    while (!qs_aio_done(aio, &op)) usleep(100);
    ck_assert_int_eq(qs_aio_finish(aio, &op, &e), 0);
    ck_assert_int_eq(qs_aio_run(aio, &empty, &e), 0);
    ck_assert_uint_eq(qs_mem_read().calls, calls);
    ck_assert_int_eq(memcmp(buffer, content, 2 << 20), 0);
    ck_assert_uint_eq(qs_aio_stats_read(aio).read_bytes, 2 << 20);
}
END_TEST

START_TEST(closing_waits_for_what_is_in_flight)
{
    qs_aio_faults faults = {.delay_ns = 20 * 1000 * 1000};
    if (!start_engine(_i, (qs_aio_config){.chunk_bytes = 1 << 20, .seam = test_faults(&faults)})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 2 << 20};
    qs_aio_start(aio, &op);
    ck_assert(!qs_aio_done(aio, &op));
    qs_aio_close(aio);
    aio = NULL;
    ck_assert(!op.active);
    ck_assert_int_eq(memcmp(buffer, content, 2 << 20), 0);
}
END_TEST

static void *read_all(void *unused)
{
    read_random_ranges(3);
    return NULL;
}

START_TEST(one_thread_may_open_an_engine_and_another_use_it)
{
    if (!start_engine(_i, (qs_aio_config){0})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    qs_aio_register(aio, buffer, ROOM, &e);
    pthread_t thread;
    ck_assert_int_eq(pthread_create(&thread, NULL, read_all, NULL), 0);
    pthread_join(thread, NULL);
}
END_TEST

START_TEST(short_interrupted_late_and_reordered_transfers_give_the_same_bytes)
{
    for (uint64_t seed = 0; seed < 8; seed++) {
        qs_aio_faults faults = {.seed = seed,
                                .short_every = 2,
                                .interrupt_every = 3,
                                .ragged = seed & 1,
                                .reorder = true,
                                .delay_ns = seed & 1 ? 10000 : 0};
        if (!start_engine(_i, (qs_aio_config){.depth = 1 + 3 * (int)seed,
                                              .chunk_bytes = 32 << 10,
                                              .seam = test_faults(&faults)}))
            return;
        ck_assert_int_eq(qs_aio_file_open(&file, path, seed & 2 ? QS_FILE_BUFFERED : 0, &e), 0);
        read_random_ranges(5);
        qs_aio_file_close(&file);
        qs_aio_close(aio);
        aio = NULL;
    }
}
END_TEST

START_TEST(short_and_reordered_writes_give_the_same_bytes)
{
    qs_aio_faults faults = {
        .seed = 1, .short_every = 2, .ragged = true, .interrupt_every = 3, .reorder = true};
    if (!start_engine(_i, (qs_aio_config){.depth = 5, .chunk_bytes = 32 << 10, .seam = test_faults(&faults)}))
        return;
    char *other = test_path(dir, "other");
    ck_assert_int_eq(qs_aio_file_open(&file, other, QS_FILE_CREATE, &e), 0);
    memcpy(buffer, content, 2 << 20);
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 2 << 20, .write = true};
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), 0);
    char *got = test_file_read(other, NULL);
    ck_assert_int_eq(memcmp(got, content, 2 << 20), 0);
    qs_free(got);
    qs_free(other);
}
END_TEST

START_TEST(a_failed_read_is_named_once_and_leaves_the_others_alone)
{
    qs_aio_faults faults = {.read_error_at = 3};
    if (!start_engine(_i, (qs_aio_config){.depth = 2, .chunk_bytes = 64 << 10, .seam = test_faults(&faults)}))
        return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    qs_aio_op a = {.file = &file, .buffer = buffer, .bytes = 1 << 20, .offset = 4096},
              b = {.file = &file, .buffer = buffer + (1 << 20), .bytes = 1 << 20};
    qs_aio_start(aio, &a);
    qs_aio_start(aio, &b);
    ck_assert_int_eq(qs_aio_finish(aio, &b, &e), 0);
    for (int again = 0; again < 2; again++) {
        ck_assert_int_eq(qs_aio_finish(aio, &a, &e), -QS_EIO);
        ck_assert_msg(strstr(e.text, path) &&
                          strstr(e.text, "reading 1048576 bytes at 4096: Input/output error"),
                      "%s", e.text);
    }
    ck_assert_int_eq(memcmp(buffer + (1 << 20), content, 1 << 20), 0);
    ck_assert_int_eq(qs_aio_run(aio, &a, &e), 0); /* the same op may be started again */
    ck_assert_int_eq(memcmp(buffer, content + 4096, 1 << 20), 0);
}
END_TEST

START_TEST(a_full_disk_is_an_error_that_says_what_to_do)
{
    qs_aio_faults faults = {.write_error_at = 2};
    if (!start_engine(_i, (qs_aio_config){.chunk_bytes = 64 << 10, .seam = test_faults(&faults)})) return;
    char *other = test_path(dir, "other");
    ck_assert_int_eq(qs_aio_file_open(&file, other, QS_FILE_CREATE, &e), 0);
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 1 << 20, .write = true};
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, "No space left on device; free some space"), "%s", e.text);
    qs_free(other);
}
END_TEST

START_TEST(a_transfer_that_never_moves_ends_in_an_error)
{
    qs_aio_faults faults = {.interrupt_every = 1};
    if (!start_engine(_i, (qs_aio_config){.seam = test_faults(&faults)})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 1 << 20};
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), -QS_EIO);
}
END_TEST

START_TEST(death_at_a_write_leaves_half_of_it)
{
    char *other = test_path(dir, "other");
    memset(buffer, 'x', 256 << 10);
    fflush(stdout);
    pid_t child = fork();
    if (!child) {
        qs_aio_faults faults = {.die_at_write = 2};
        if (!start_engine(_i,
                          (qs_aio_config){.depth = 1, .chunk_bytes = 64 << 10, .seam = test_faults(&faults)}))
            _exit(QS_AIO_FAULT_EXIT);
        qs_aio_file_open(&file, other, QS_FILE_CREATE, &e);
        qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 256 << 10, .write = true};
        qs_aio_run(aio, &op, &e);
        _exit(0);
    }
    int status;
    waitpid(child, &status, 0);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == QS_AIO_FAULT_EXIT);
    if (qs_file_exists(other)) {
        size_t bytes;
        qs_free(test_file_read(other, &bytes));
        ck_assert_uint_eq(bytes, 96 << 10);
    }
    qs_free(other);
}
END_TEST

START_TEST(registered_and_other_buffers_both_work)
{
    if (!start_engine(_i, (qs_aio_config){.chunk_bytes = 64 << 10})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    /* Ranges inside the two blocks, across their border, and outside. */
    bool first = qs_aio_register(aio, buffer, 1 << 20, &e),
         second = qs_aio_register(aio, buffer + (1 << 20), 100 << 10, &e);
    ck_assert_int_eq(first, second);
    if (!first) ck_assert_str_ne(e.text, "");
    read_and_compare(0, FILE_BYTES);
    read_and_compare(12345, 2 << 20);
}
END_TEST

START_TEST(a_block_that_cannot_be_registered_is_reported_and_the_rest_works)
{
    if (!start_engine(_i, (qs_aio_config){0})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    void *hole = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(!qs_aio_register(aio, hole, 1 << 20, &e));
    ck_assert_str_ne(e.text, "");
    qs_aio_register(aio, buffer, ROOM, &e);
    read_random_ranges(3);
    munmap(hole, 1 << 20);
}
END_TEST

static size_t cached_pages(void)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    static unsigned char resident[FILE_BYTES / 4096 + 1];
    void *map = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
    ck_assert_int_eq(mincore(map, FILE_BYTES, resident), 0);
    size_t n = 0;
    for (size_t i = 0; i < sizeof resident; i++) n += resident[i] & 1;
    munmap(map, FILE_BYTES);
    close(fd);
    return n;
}

START_TEST(buffered_reads_do_not_fill_the_page_cache)
{
    if (!start_engine(_i, (qs_aio_config){.chunk_bytes = 64 << 10})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, QS_FILE_BUFFERED, &e), 0);
    posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);
    size_t before = cached_pages();
    read_and_compare(100, 2500000);
    /* The page at the end of a read stays for the one after it. */
    size_t after = cached_pages();
    if (before <= 8)
        ck_assert_uint_le(after, 8);
    else
        printf("skip: this file system keeps its files in memory\n");
}
END_TEST

START_TEST(automatic_choice_always_finds_an_engine)
{
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){0}, &aio, &e), 0);
    ck_assert(!strcmp(qs_aio_name(aio), "io_uring") || !strcmp(qs_aio_name(aio), "pread"));
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    read_random_ranges(3);
}
END_TEST

START_TEST(a_ring_that_may_not_be_entered_is_passed_over)
{
    test_ring_fail(1, 1000, EPERM);
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.engine = QS_AIO_URING}, &aio, &e), -QS_EUNSUP);
    ck_assert_msg(strstr(e.text, "io_uring is not available"), "%s", e.text);
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){0}, &aio, &e), 0);
    ck_assert_str_eq(qs_aio_name(aio), "pread");
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    read_random_ranges(3);
}
END_TEST

/* Whichever call into the ring fails, transfers end with the cause, and so do later ones. */
START_TEST(a_ring_that_breaks_ends_its_transfers_with_the_cause)
{
    for (int call = 1; call <= 6; call++) {
        if (!start_engine(1, (qs_aio_config){.depth = 4, .chunk_bytes = 64 << 10})) return;
        ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
        qs_aio_op a = {.file = &file, .buffer = buffer, .bytes = 1 << 20}, b = a;
        b.buffer = buffer + (1 << 20);
        test_ring_fail(call, 1, EIO);
        qs_aio_start(aio, &a);
        qs_aio_start(aio, &b);
        ck_assert_int_eq(qs_aio_finish(aio, &a, &e), -QS_EIO);
        ck_assert_msg(strstr(e.text, path) && strstr(e.text, "Input/output error"), "%s", e.text);
        ck_assert_int_eq(qs_aio_finish(aio, &b, &e), -QS_EIO);
        ck_assert_int_eq(qs_aio_run(aio, &a, &e), -QS_EIO);
        qs_aio_close(aio);
        qs_aio_file_close(&file);
        aio = NULL;
    }
}
END_TEST

START_TEST(a_ring_short_of_memory_is_asked_again_for_a_while)
{
    if (!start_engine(1, (qs_aio_config){.depth = 4, .chunk_bytes = 64 << 10})) return;
    ck_assert_int_eq(qs_aio_file_open(&file, path, 0, &e), 0);
    for (int call = 1; call <= 6; call++) {
        test_ring_fail(call, 5, ENOMEM);
        read_and_compare(0, FILE_BYTES);
    }
    test_ring_fail(1, 1000000, ENOMEM);
    qs_aio_op op = {.file = &file, .buffer = buffer, .bytes = 1 << 20};
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, "Cannot allocate memory; the system is short of memory"), "%s", e.text);
}
END_TEST

START_TEST(wrong_settings_and_things_that_are_no_files_are_errors)
{
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.depth = -1}, &aio, &e), -QS_EINVAL);
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.depth = 1 << 20}, &aio, &e), -QS_EINVAL);
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.chunk_bytes = 1000}, &aio, &e), -QS_EINVAL);
    ck_assert_int_eq(qs_aio_file_open(&file, dir, 0, &e), -QS_EIO);
    qs_aio_file_close(&file);
    ck_assert_int_eq(qs_aio_file_open(&file, "/dev/null", 0, &e), -QS_EIO);
    qs_aio_file zero = {0};
    qs_aio_file_close(&zero);
    ck_assert_int_ne(fcntl(0, F_GETFD), -1);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("aio");
    TCase *t = tcase_create("aio");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, any_range_reads_back_direct_and_buffered_at_any_depth, 0, 2);
    tcase_add_loop_test(t, a_striped_file_takes_and_gives_any_range_and_its_parts_are_even, 0, 2);
    tcase_add_loop_test(t, reading_past_the_end_is_an_error_unless_allowed, 0, 2);
    tcase_add_loop_test(t, what_is_written_is_in_the_file, 0, 2);
    tcase_add_loop_test(t, writing_to_a_file_opened_for_reading_fails_and_says_so, 0, 2);
    tcase_add_loop_test(t, operations_are_served_in_order_of_start, 0, 2);
    tcase_add_loop_test(t, done_becomes_true_without_finish_and_nothing_is_allocated, 0, 2);
    tcase_add_loop_test(t, closing_waits_for_what_is_in_flight, 0, 2);
    tcase_add_loop_test(t, one_thread_may_open_an_engine_and_another_use_it, 0, 2);
    tcase_add_loop_test(t, short_interrupted_late_and_reordered_transfers_give_the_same_bytes, 0, 2);
    tcase_add_loop_test(t, short_and_reordered_writes_give_the_same_bytes, 0, 2);
    tcase_add_loop_test(t, a_failed_read_is_named_once_and_leaves_the_others_alone, 0, 2);
    tcase_add_loop_test(t, a_full_disk_is_an_error_that_says_what_to_do, 0, 2);
    tcase_add_loop_test(t, a_transfer_that_never_moves_ends_in_an_error, 0, 2);
    tcase_add_loop_test(t, death_at_a_write_leaves_half_of_it, 0, 2);
    tcase_add_loop_test(t, registered_and_other_buffers_both_work, 0, 2);
    tcase_add_loop_test(t, a_block_that_cannot_be_registered_is_reported_and_the_rest_works, 0, 2);
    tcase_add_loop_test(t, buffered_reads_do_not_fill_the_page_cache, 0, 2);
    tcase_add_test(t, automatic_choice_always_finds_an_engine);
    tcase_add_test(t, a_ring_that_may_not_be_entered_is_passed_over);
    tcase_add_test(t, a_ring_that_breaks_ends_its_transfers_with_the_cause);
    tcase_add_test(t, a_ring_short_of_memory_is_asked_again_for_a_while);
    tcase_add_test(t, wrong_settings_and_things_that_are_no_files_are_errors);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
