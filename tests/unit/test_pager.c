/* Behaviour of offload/pager: a record holds what was last written to it, wherever it is, and the disk is
 * used no more than it must be. */
#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/aio_fault.h"
#include "offload/pager.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/lazy_device.h"
#include "tests/support/temp_dir.h"

enum { BYTES = 8192, MOST = 12 };

static char *dir;
static qs_aio *aio;
static qs_device *device;
static bool lazy;
static qs_region memory;
static void *scratch; /* of the lazy device: one buffer */
static qs_pager *pager;
static qs_page_list list;
static qs_err e;
static int wrong;
static uint64_t draws;
static uint32_t below(uint32_t n) { return qs_random_u32(11, 4, draws++) % n; }

static void begin(int32_t records, int32_t frames, bool on_lazy, uint64_t seed, const qs_aio_faults *faults)
{
    lazy = on_lazy;
    wrong = 0;
    if (!dir) dir = test_dir_create();
    if (lazy)
        device = test_lazy_device(seed);
    else
        ck_assert_int_eq(qs_device_cpu.open(0, 0, &device, &e), 0);
    if (lazy) ck_assert_int_eq(device->api->alloc(device, BYTES, &scratch, &e), 0);
    ck_assert_int_eq(
        qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .seam = test_faults(faults)}, &aio, &e), 0);
    ck_assert_int_eq(qs_region_map(&memory, (size_t)frames * BYTES, "frames", &e), 0);
    memset(memory.base, 0xff, memory.bytes);
    qs_pager_config c = {.device = device,
                         .records = records,
                         .bytes = BYTES,
                         .memory = memory.base,
                         .frames = frames,
                         .aio = aio,
                         .dir = dir,
                         .what = "records"};
    ck_assert_msg(!qs_pager_open(&c, &pager, &e), "%s", e.text);
}

static void end(void)
{
    qs_pager_close(pager);
    qs_page_list_free(&list);
    qs_aio_close(aio);
    qs_region_free(&memory);
    if (lazy && scratch) device->api->free(device, scratch);
    qs_device_close(device);
    pager = NULL;
    aio = NULL;
    device = NULL;
    scratch = NULL;
}

static void teardown(void)
{
    end();
    if (dir) test_dir_remove(dir);
    dir = NULL;
}

/* ---- contents: a tag names a value, 0 the zeros of the beginning ------------------------------------- */

static void fill(void *p, int64_t tag)
{
    uint64_t *w = p;
    for (size_t i = 0; i < BYTES / 8; i++) w[i] = tag ? (uint64_t)tag * 0x9E3779B97F4A7C15u ^ i : 0;
}

static void check(void *p, int64_t tag)
{
    const uint64_t *w = p;
    for (size_t i = 0; i < BYTES / 8; i++)
        if (w[i] != (tag ? ((uint64_t)tag * 0x9E3779B97F4A7C15u ^ i) : 0)) {
            wrong++;
            return;
        }
}

/* One use of a record whose value is *tag; gives it a new one when the use writes. A lazy device does it some
 * time later. */
static void use(int32_t r, qs_page_use how, int64_t *tag, int64_t new_tag)
{
    void *p = qs_pager_acquire(pager, r, how);
    bool writes = how != QS_PAGE_READ;
    if (lazy) {
        if (how != QS_PAGE_NEW) {
            device->api->copy_in(device, QS_QUEUE_COMPUTE, scratch, p, BYTES);
            test_lazy_kernel(device, check, scratch, *tag);
        }
        if (writes) {
            test_lazy_kernel(device, fill, scratch, new_tag);
            device->api->copy_out(device, QS_QUEUE_COMPUTE, p, scratch, BYTES);
        }
    } else {
        if (how != QS_PAGE_NEW) check(p, *tag);
        if (writes) fill(p, new_tag);
    }
    if (writes) *tag = new_tag;
    qs_pager_release(pager, r, writes, lazy ? QS_QUEUE_COMPUTE : QS_QUEUE_COUNT);
}

/* A list with every kind of use; some ticks have two records. */
static void random_list(int32_t records, int32_t ticks)
{
    qs_page_list_free(&list);
    for (int32_t m = 0; m < ticks; m++) {
        int32_t first = (int32_t)below((uint32_t)records), uses = 1 + (int32_t)below(2);
        for (int32_t i = 0; i < uses && i < records; i++)
            qs_page_list_add(&list, m, (first + i) % records, (qs_page_use)below(3));
    }
    qs_page_list_finish(&list, records, ticks);
}

/* Walks the list; what only reads or changes is left out now and then. */
static void walk_list(int64_t *tags, int64_t *last_tag)
{
    qs_pager_begin(pager, &list);
    for (int32_t i = 0; i < list.count; i++) {
        if (list.entries[i].use != QS_PAGE_NEW && !below(5)) continue;
        qs_pager_at(pager, list.entries[i].tick);
        use(list.entries[i].record, list.entries[i].use, &tags[list.entries[i].record], ++*last_tag);
    }
}

static void check_all(int32_t records, int64_t *tags)
{
    qs_pager_begin(pager, NULL);
    for (int32_t r = 0; r < records; r++) {
        qs_pager_at(pager, r);
        use(r, QS_PAGE_READ, &tags[r], 0);
    }
    if (lazy) device->api->queue_sync(device, QS_QUEUE_COMPUTE);
    ck_assert_int_eq(wrong, 0);
    ck_assert_msg(!qs_pager_check(pager, &e), "%s", e.text);
}

START_TEST(a_record_holds_what_was_last_written)
{
    for (uint64_t seed = 0; seed < 120; seed++) {
        int32_t records = 3 + (int32_t)below(MOST - 2), frames = 2 + (int32_t)below((uint32_t)records - 1);
        bool on_lazy = below(2), rough = below(2);
        begin(records, frames, on_lazy, seed,
              rough ? &(qs_aio_faults){.seed = seed, .short_every = 3, .interrupt_every = 5, .reorder = true}
                    : NULL);
        int64_t tags[MOST] = {0}, tag = 0;
        for (int round = 0; round < 4; round++) {
            /* What a list lets go is not read through another one: each begins with writing everything. */
            qs_pager_begin(pager, NULL);
            for (int32_t r = 0; r < records; r++) use(r, QS_PAGE_NEW, &tags[r], ++tag);
            check_all(records, tags);
            random_list(records, 1 + (int32_t)below(40));
            walk_list(tags, &tag);
        }
        ck_assert_msg(!qs_pager_check(pager, &e), "%s", e.text);
        if (lazy) device->api->queue_sync(device, QS_QUEUE_COMPUTE);
        ck_assert_int_eq(wrong, 0);
        end();
    }
}
END_TEST

START_TEST(any_order_is_right_when_nothing_is_let_go)
{
    for (uint64_t seed = 0; seed < 40; seed++) {
        int32_t records = 2 + (int32_t)below(MOST - 1), frames = 2 + (int32_t)below((uint32_t)records - 1);
        int64_t tags[MOST] = {0};
        begin(records, frames, below(2), seed, NULL);
        for (int i = 1; i < 200; i++) {
            int32_t r = (int32_t)below((uint32_t)records);
            use(r, (qs_page_use)below(3), &tags[r], i);
        }
        check_all(records, tags);
        end();
    }
}
END_TEST

START_TEST(what_was_never_written_reads_as_zeros)
{
    for (int32_t frames = 3; frames <= 5; frames += 2) {
        int64_t tags[MOST] = {0};
        begin(5, frames, false, 0, NULL);
        check_all(5, tags);
        ck_assert_uint_eq(qs_pager_stats_read(pager).read_bytes, 0);
        end();
    }
}
END_TEST

START_TEST(with_a_frame_for_each_there_is_no_disk)
{
    begin(4, 4, false, 0, NULL);
    int64_t tags[MOST] = {0}, tag = 0;
    for (int round = 0; round < 3; round++)
        for (int32_t r = 0; r < 4; r++) use(r, QS_PAGE_CHANGE, &tags[r], ++tag);
    check_all(4, tags);
    qs_aio_stats s = qs_aio_stats_read(aio);
    ck_assert_uint_eq(s.read_bytes + s.write_bytes, 0);
    ck_assert_ptr_eq(qs_pager_acquire(pager, 2, QS_PAGE_READ),
                     (char *)memory.base + 2 * BYTES); /* each at its place */
    qs_pager_release(pager, 2, false, QS_QUEUE_COUNT);
}
END_TEST

/* Written going up, read and changed coming down, then let go: what activation checkpoints do. The last ones
 * never leave memory, and nothing is written twice. */
START_TEST(what_turns_back_soon_is_not_written)
{
    enum { N = 12, FRAMES = 5 };
    begin(N, FRAMES, false, 0, NULL);
    for (int32_t r = 0; r < N; r++) qs_page_list_add(&list, r, r, QS_PAGE_NEW);
    for (int32_t r = N - 1; r >= 0; r--) {
        int64_t m = 2 * N - 1 - r;
        if (r + 1 < N) qs_page_list_add(&list, m, r + 1, QS_PAGE_READ);
        qs_page_list_add(&list, m, r, QS_PAGE_CHANGE);
    }
    qs_page_list_finish(&list, N, 2 * N);
    int64_t tags[MOST] = {0}, tag = 0;
    for (int step = 0; step < 3; step++) {
        qs_pager_begin(pager, &list);
        for (int32_t i = 0; i < list.count; i++) {
            qs_pager_at(pager, list.entries[i].tick);
            use(list.entries[i].record, list.entries[i].use, &tags[list.entries[i].record], ++tag);
        }
    }
    ck_assert_int_eq(wrong, 0);
    qs_pager_stats s = qs_pager_stats_read(pager);
    ck_assert_uint_le(s.written_bytes, (uint64_t)3 * (N - (FRAMES - 1)) * BYTES);
    ck_assert_uint_le(s.read_bytes, s.written_bytes);
}
END_TEST

START_TEST(a_failure_stays_until_it_is_heard)
{
    for (int writing = 0; writing < 2; writing++) {
        qs_aio_faults f = {.read_error_at = writing ? 0 : 2, .write_error_at = writing ? 3 : 0};
        begin(8, 3, false, 0, &f);
        int64_t tags[MOST] = {0};
        for (int round = 0; round < 2; round++)
            for (int32_t r = 0; r < 8; r++) use(r, QS_PAGE_CHANGE, &tags[r], r + 1);
        ck_assert_int_eq(qs_pager_check(pager, &e), -QS_EIO);
        ck_assert_msg(strstr(e.text, writing ? "writing" : "reading") != NULL, "%s", e.text);
        ck_assert_int_eq(qs_pager_check(pager, NULL), -QS_EIO);
        end();
    }
}
END_TEST

/* Whichever read brings it. */
START_TEST(a_flipped_bit_is_found)
{
    for (int read = 1; read <= 8; read++) {
        const qs_aio_faults faults = {.flip_read_at = read, .seed = (uint64_t)read};
        begin(6, 3, false, 0, &faults);
        int rc = 0;
        for (int pass = 0; pass < 4; pass++)
            for (int32_t r = 0; r < 6; r++) {
                fill(qs_pager_acquire(pager, r, QS_PAGE_CHANGE), r + 1);
                qs_pager_release(pager, r, true, QS_QUEUE_COUNT);
            }
        rc = qs_pager_check(pager, &e);
        ck_assert_int_eq(rc, -QS_EIO);
        ck_assert_msg(strstr(e.text, "the records at") && strstr(e.text, "are not what was written there"),
                      "%s", e.text);
        end();
    }
}
END_TEST

START_TEST(the_scratch_file_has_no_name)
{
    begin(6, 2, false, 0, NULL);
    int64_t tags[MOST] = {0};
    for (int32_t r = 0; r < 6; r++) use(r, QS_PAGE_NEW, &tags[r], r + 1);
    DIR *d = opendir(dir);
    int names = 0;
    while (readdir(d)) names++;
    closedir(d);
    ck_assert_int_eq(names, 2); /* . and .. */
}
END_TEST

START_TEST(a_disk_that_is_too_small_is_named_at_once)
{
    qs_aio_file f;
    dir = test_dir_create();
    ck_assert_int_eq(qs_aio_file_scratch(&f, dir, "adapter masters", UINT64_C(1) << 60, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, "no room for adapter masters") && strstr(e.text, "are free"), "%s", e.text);
}
END_TEST

START_TEST(nothing_is_allocated_in_use)
{
    begin(9, 3, false, 0, NULL);
    int64_t tags[MOST] = {0}, tag = 0;
    random_list(9, 30);
    for (int32_t r = 0; r < 9; r++) use(r, QS_PAGE_NEW, &tags[r], ++tag);
    uint64_t before = qs_mem_read().calls;
    walk_list(tags, &tag);
    ck_assert_uint_eq(qs_mem_read().calls, before);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("pager");
    TCase *t = tcase_create("pager");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, a_record_holds_what_was_last_written);
    tcase_add_test(t, any_order_is_right_when_nothing_is_let_go);
    tcase_add_test(t, what_was_never_written_reads_as_zeros);
    tcase_add_test(t, with_a_frame_for_each_there_is_no_disk);
    tcase_add_test(t, what_turns_back_soon_is_not_written);
    tcase_add_test(t, a_failure_stays_until_it_is_heard);
    tcase_add_test(t, a_flipped_bit_is_found);
    tcase_add_test(t, the_scratch_file_has_no_name);
    tcase_add_test(t, a_disk_that_is_too_small_is_named_at_once);
    tcase_add_test(t, nothing_is_allocated_in_use);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
