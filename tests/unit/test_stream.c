/* Behaviour of offload/stream: at every visit the right weights are on the device, whatever the devices,
 * rings, homes, disks and accidents. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/support/aio_fault.h"
#include "io/file.h"
#include "io/file_lock.h"
#include "src/base/log.h"
#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/lazy_device.h"
#include "tests/support/stream_rig.h"
#include "tests/support/temp_dir.h"

static char *dir, *cache_dir; /* the cache of the rig that is open */
static stream_rig r;
static qs_schedule train, evaluate;

static void setup(void) { dir = test_dir_create(); }
static void teardown(void)
{
    if (r.stream) rig_close(&r);
    qs_schedule_free(&train);
    qs_schedule_free(&evaluate);
    test_dir_remove(dir);
}

static void follow(const qs_schedule *s)
{
    ck_assert_msg(!rig_follow(&r, s), "%s", r.e.text);
    ck_assert_int_eq(r.wrong, 0);
}

static void open_in(char *where)
{
    cache_dir = where;
    rig_open(&r, where);
}

/* Closes and opens again: the cache stays, memory is forgotten. */
static void reopen(void)
{
    rig_close(&r);
    rig_open(&r, cache_dir);
}

static void fill_cache(const qs_schedule *s)
{
    follow(s);
    ck_assert_msg(!qs_stream_settle(r.stream, &r.e), "%s", r.e.text);
    reopen();
}

/* ---- the right bytes --------------------------------------------------------------------------------- */

/* First touch, then cached, train and evaluation interleaved; then all of it again from the cache. */
static void several_steps(void)
{
    const qs_schedule *order[] = {&train, &train, &evaluate, &evaluate, &train};
    for (int i = 0; i < 5; i++) follow(order[i]);
    for (int b = 0; b < r.config.blobs; b++) ck_assert_int_eq(r.made[b], 1);
    ck_assert_msg(!qs_stream_settle(r.stream, &r.e), "%s", r.e.text);
    ck_assert_int_eq(qs_cache_present(r.cache), r.config.blobs);
    reopen();
    for (int i = 0; i < 5; i++) follow(order[i]);
    ck_assert_int_eq(rig_total_made(&r), 0);
}

START_TEST(every_visit_sees_its_weights)
{
    static const int rings[] = {2, 3, 5}, homes[] = {0, 3, 8, -1};
    qs_schedule_evaluate(6, 2, 3, 1, &evaluate);
    for (int order = 0; order < 2; order++) {
        qs_schedule_train(6, 2, 3, order, 1 + 2 * order, &train);
        for (int device = 0; device < RIG_DEVICES; device++)
            for (int i = 0; i < 3; i++)
                for (int k = 0; k < 4; k++) {
                    char *sub = test_path(dir, "cache");
                    r.config = (rig_config){.blobs = 8,
                                            .ring = rings[i],
                                            .most_homes = homes[k],
                                            .device = (rig_device)device,
                                            .seed = (uint64_t)i,
                                            .engine = QS_AIO_PREAD,
                                            .sizes = {12288, 4096, 20480, 12288, 8192, 12288, 4096, 4096}};
                    if (k == 2) r.config.device_room = 36864; /* some on the device, some on the host */
                    open_in(sub);
                    several_steps();
                    rig_close(&r);
                    test_dir_remove(sub);
                }
        qs_schedule_free(&train);
    }
}
END_TEST

START_TEST(io_uring_and_threads_bring_the_same)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    qs_schedule_evaluate(6, 2, 1, 1, &evaluate);
    for (int engine = QS_AIO_URING; engine <= QS_AIO_PREAD; engine++) {
        qs_aio *probe;
        qs_err e = {0};
        if (qs_aio_open(&(qs_aio_config){.engine = (qs_aio_engine)engine}, &probe, &e)) {
            printf("skip: %s\n", e.text);
            continue;
        }
        qs_aio_close(probe);
        char *sub = test_path(dir, "cache");
        r.config = (rig_config){.blobs = 8, .ring = 3, .most_homes = 2, .engine = (qs_aio_engine)engine};
        open_in(sub);
        several_steps();
        rig_close(&r);
        test_dir_remove(sub);
    }
}
END_TEST

START_TEST(without_a_cache_blobs_are_made_again)
{
    qs_schedule_train(5, 1, 2, 0, 1, &train);
    for (int device = 0; device < RIG_DEVICES; device++) {
        r.config = (rig_config){
            .blobs = 6, .ring = 2, .most_homes = 2, .device = (rig_device)device, .no_cache = true};
        open_in(dir);
        follow(&train);
        follow(&train);
        for (int b = 0; b < 6; b++)
            if (r.plan.home[b] != QS_HOME_DISK) ck_assert_int_eq(r.made[b], 1);
        ck_assert_int_gt(rig_total_made(&r), 6);
        rig_close(&r);
    }
}
END_TEST

/* Only the two events order copies and kernels: without the first the lazy device must catch the streamer. */
START_TEST(a_missing_wait_for_the_copy_is_caught)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    int caught = 0;
    uint64_t reordered = 0;
    for (uint64_t seed = 0; seed < 20; seed++) {
        r.config = (rig_config){
            .blobs = 8, .ring = 3, .device = RIG_LAZY, .seed = seed, .no_cache = true, .racy = true};
        open_in(dir);
        ck_assert_int_eq(rig_follow(&r, &train), 0);
        caught += r.wrong > 0;
        reordered += test_lazy_reordered(r.device);
        rig_close(&r);
    }
    ck_assert_int_eq(caught, 20);
    ck_assert_uint_gt(reordered, 0);
}
END_TEST

/* ---- what it costs ----------------------------------------------------------------------------------- */

/* Of S streamed blobs in a ring of R, the last R at each turn are still there: 2 (S - R) reads a step, and
 * every other visit is a hit. */
START_TEST(the_last_layers_are_not_read_again_at_a_turn)
{
    enum { LAYERS = 14, TILES = 2, BLOBS = LAYERS + TILES, STEPS = 12 };
    qs_schedule_train(LAYERS, TILES, 2, 0, 1, &train);
    for (int homes = 0; homes <= 12; homes += 4)
        for (int ring = 2; ring <= 5; ring++)
            for (int device = 0; device < RIG_DEVICES; device++) {
                r.config = (rig_config){.blobs = BLOBS,
                                        .ring = ring,
                                        .most_homes = homes,
                                        .device = (rig_device)device,
                                        .engine = QS_AIO_PREAD};
                open_in(dir);
                follow(&train);
                follow(&train);
                qs_stream_stats a = qs_stream_stats_read(r.stream);
                for (int i = 0; i < STEPS; i++) follow(&train);
                qs_stream_stats b = qs_stream_stats_read(r.stream);
                int streamed = BLOBS - homes, visits = STEPS * 2 * BLOBS,
                    most = STEPS * 2 * (streamed > ring ? streamed - ring : 0);
                int reads = (int)(b.reads - a.reads), hits = (int)(b.hits - a.hits);
                if (device == RIG_UNIFIED) {
                    ck_assert_int_eq(reads, most);
                    ck_assert_int_eq(reads + hits, visits); /* nothing was read in vain */
                } else { /* places and slots together hold more; how far reads are ahead when we look depends
                            on the disk */
                    ck_assert_int_le(reads, most + 2 * ring);
                    ck_assert_int_le(abs(reads + hits - visits), 2 * ring);
                }
                ck_assert_uint_eq(b.disk_read_bytes - a.disk_read_bytes, (uint64_t)reads * r.config.sizes[0]);
                ck_assert_uint_eq(b.disk_write_bytes - a.disk_write_bytes, 0);
                ck_assert_uint_eq(b.make_ns - a.make_ns, 0);
                if (device == RIG_UNIFIED) ck_assert_uint_eq(b.link_bytes, 0);
                rig_close(&r);
            }
}
END_TEST

START_TEST(a_resident_model_is_read_once)
{
    qs_schedule_train(6, 2, 2, 0, 1, &train);
    for (int device = 0; device < RIG_DEVICES; device++) {
        r.config = (rig_config){
            .blobs = 8, .ring = 3, .most_homes = -1, .device = (rig_device)device, .engine = QS_AIO_PREAD};
        open_in(dir);
        if (device == 0) fill_cache(&train);
        for (int i = 0; i < 4; i++) follow(&train);
        qs_stream_stats s = qs_stream_stats_read(r.stream);
        ck_assert_uint_eq(s.reads, 8);
        ck_assert_uint_eq(s.hits, 4 * 16 - 8);
        ck_assert_uint_eq(s.link_bytes, device == RIG_UNIFIED ? 0 : 8 * r.config.sizes[0]);
        rig_close(&r);
    }
}
END_TEST

/* While a visit computes, reads for as many later ones are under way as there is room for: places, and slots
 * too on a discrete device. */
START_TEST(reads_run_ahead_as_far_as_there_is_room)
{
    qs_schedule_train(20, 2, 1, 0, 1, &train);
    for (int device = 0; device < 2; device++)
        for (int ring = 2; ring <= 5; ring++) {
            r.config =
                (rig_config){.blobs = 22, .ring = ring, .device = (rig_device)device, .engine = QS_AIO_PREAD};
            open_in(dir);
            if (!device && ring == 2) fill_cache(&train);
            qs_stream_begin(r.stream, &train);
            for (int32_t v = 0; v < 8; v++) {
                const void *weights;
                ck_assert_int_eq(qs_stream_acquire(r.stream, v, &weights, &r.e), 0);
                int room = device == RIG_UNIFIED ? ring : 2 * ring, begun = v ? v - 1 + room : ring;
                for (int i = 0; i < 2000 && (int)qs_stream_stats_read(r.stream).reads < begun;
                     i++) { /* the disk takes its time */
                    qs_stream_poll(r.stream);
                    usleep(1000);
                }
                ck_assert_int_ge((int)qs_stream_stats_read(r.stream).reads, begun);
                qs_stream_release(r.stream, v);
            }
            rig_close(&r);
        }
}
END_TEST

START_TEST(a_recorder_gets_every_read_and_copy_and_what_memory_holds)
{
    static qs_activity activities[512];
    qs_usage usage[64] = {{0}};
    qs_recorder recorder = {.activities = activities, .capacity = 512, .usage = usage};
    r.config = (rig_config){
        .blobs = 8, .ring = 3, .most_homes = 2, .device = (rig_device)_i, .seed = 3, .recorder = &recorder};
    qs_schedule_train(7, 1, 1, 0, 1, &train);
    uint64_t begin = qs_now_ns();
    open_in(dir);
    uint64_t blob = r.config.sizes[0], ring = (uint64_t)r.plan.ring_slots * blob,
             slots = (uint64_t)r.plan.device_slots * blob;
    for (int round = 0; round < 3; round++) follow(&train);
    qs_stream_stats stats = qs_stream_stats_read(r.stream);
    for (int32_t v = 0; v < train.count; v++) {
        ck_assert(usage[v].ring <= ring && usage[v].slots <= slots &&
                  usage[v].homes_host + usage[v].homes_device <= 2 * blob);
        if (train.visits[v].blob >= 0)
            ck_assert_uint_ge(usage[v].ring + usage[v].slots + usage[v].homes_host + usage[v].homes_device,
                              blob);
    }
    ck_assert_uint_eq(usage[train.count - 1].homes_host + usage[train.count - 1].homes_device, 2 * blob);
    rig_close(&r);
    uint64_t end = qs_now_ns(), count[QS_ACTIVITY_KINDS] = {0};
    for (int32_t i = 0; i < recorder.count; i++) {
        const qs_activity *a = &activities[i];
        count[a->kind]++;
        ck_assert(a->start_ns >= begin && a->start_ns < a->end_ns && a->end_ns <= end && a->blob >= 0 &&
                  a->blob < 8);
    }
    ck_assert_int_eq(recorder.lost, 0);
    ck_assert_uint_eq(count[QS_ACTIVITY_READ], stats.reads);
    ck_assert_uint_ge(count[QS_ACTIVITY_MAKE], 8); /* in several parts */
    ck_assert_uint_eq(count[QS_ACTIVITY_WRITE], 8);
    ck_assert_uint_le(count[QS_ACTIVITY_COPY], stats.link_bytes / blob);
    ck_assert((count[QS_ACTIVITY_COPY] > 0) == (_i != RIG_UNIFIED));
    if (_i == RIG_DISCRETE) ck_assert_uint_eq(count[QS_ACTIVITY_COPY], stats.link_bytes / blob);
}
END_TEST

START_TEST(nothing_is_allocated_after_opening)
{
    qs_schedule_train(6, 2, 2, 0, 1, &train);
    for (int device = 0; device < RIG_DEVICES; device++) {
        r.config = (rig_config){.blobs = 8, .ring = 3, .most_homes = 2, .device = (rig_device)device};
        open_in(dir);
        uint64_t before = qs_mem_read().calls;
        for (int i = 0; i < 3; i++) follow(&train);
        ck_assert_uint_eq(qs_mem_read().calls, before);
        rig_close(&r);
    }
}
END_TEST

/* ---- quantise on load -------------------------------------------------------------------------------- */

START_TEST(the_maker_hears_of_a_blob_before_the_visit_ahead_of_it_ends)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    for (int device = 0; device < 2; device++) {
        r.config = (rig_config){.blobs = 8, .ring = 2, .device = (rig_device)device};
        char *sub = test_path(dir, "cache");
        open_in(sub);
        qs_stream_begin(r.stream, &train);
        for (int32_t v = 0; v < 9; v++) {
            int next = train.visits[v + 1].blob;
            ck_assert_int_eq(rig_visit(&r, v, &train), 0);
            if (v < 8) ck_assert_int_eq(r.expected[next], 1);
            if (v < 8) ck_assert_int_eq(r.made[next], 0);
        }
        for (int b = 0; b < 8; b++) ck_assert_int_eq(r.expected[b], 1);
        rig_close(&r);
        test_dir_remove(sub);
    }
}
END_TEST

/* Blobs with a home are never taken over, so nothing but the walk itself would commit them: a killed run must
 * find them. */
START_TEST(homes_are_committed_during_the_sweep)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    r.config = (rig_config){.blobs = 8, .ring = 2, .most_homes = -1};
    open_in(dir);
    qs_stream_begin(r.stream, &train);
    for (int32_t v = 0; v <= 4; v++) ck_assert_int_eq(rig_visit(&r, v, &train), 0);
    for (int i = 0; i < 2000 && qs_cache_present(r.cache) < 4; i++) {
        qs_stream_poll(r.stream);
        usleep(1000);
    }
    ck_assert_int_ge(qs_cache_present(r.cache),
                     4); /* on a slow disk what is made ahead is there by then as well */
}
END_TEST

START_TEST(a_run_killed_during_the_quantise_on_load_goes_on_with_what_is_missing)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    for (int homes = -1; homes <= 0; homes++)
        for (int killed_at = 1; killed_at <= 24; killed_at += 4) { /* of 8 blobs of 3 requests */
            char *sub = test_path(dir, "cache");
            pid_t child = fork();
            if (!child) {
                qs_aio_faults faults = {.die_at_write = killed_at};
                r.config = (rig_config){
                    .blobs = 8, .ring = 3, .most_homes = homes, .engine = QS_AIO_PREAD, .faults = &faults};
                open_in(sub);
                rig_follow(&r, &train);
                qs_stream_settle(r.stream, &r.e);
                _exit(1);
            }
            int status;
            ck_assert_int_eq(waitpid(child, &status, 0), child);
            ck_assert_int_eq(WEXITSTATUS(status), QS_AIO_FAULT_EXIT);

            r.config = (rig_config){.blobs = 8, .ring = 3, .most_homes = homes, .engine = QS_AIO_PREAD};
            open_in(sub);
            int present = qs_cache_present(r.cache);
            ck_assert_int_ge(present, killed_at / 3 - 4); /* what was in flight is lost, and no more */
            ck_assert_int_lt(present, 8);
            follow(&train);
            ck_assert_int_eq(rig_total_made(&r), 8 - present);
            ck_assert_int_eq(qs_stream_settle(r.stream, &r.e), 0);
            reopen();
            follow(&train);
            ck_assert_int_eq(rig_total_made(&r), 0);
            rig_close(&r);
            test_dir_remove(sub);
        }
}
END_TEST

/* ---- accidents --------------------------------------------------------------------------------------- */

/* Under an open cache, where reads then meet the end of the file, and before it is opened. */
START_TEST(a_cache_file_that_is_cut_heals)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    for (int open = 0; open < 2; open++)
        for (int homes = -1; homes <= 0; homes++) {
            char *sub = test_path(dir, "cache"), *blobs = test_path(dir, "cache/blobs.bin");
            r.config = (rig_config){.blobs = 8, .ring = 3, .most_homes = homes};
            open_in(sub);
            follow(&train);
            ck_assert_int_eq(qs_stream_settle(r.stream, &r.e), 0);
            rig_close(&r);
            if (open) open_in(sub);
            ck_assert_int_eq(truncate(blobs, 4096), 0);
            if (!open) open_in(sub);
            qs_log_set_level(QS_LOG_ERROR);
            follow(&train);
            qs_log_set_level(QS_LOG_INFO);
            ck_assert_int_ge(rig_total_made(&r), 7);
            ck_assert_int_eq(qs_stream_settle(r.stream, &r.e), 0);
            reopen();
            follow(&train);
            ck_assert_int_eq(rig_total_made(&r), 0);
            rig_close(&r);
            test_dir_remove(sub);
            qs_free(blobs);
        }
}
END_TEST

/* What other processes wait for: nobody calls settle in a run that begins with a validation, or ends after
 * one sweep. */
START_TEST(a_cache_that_has_become_whole_is_synced_by_the_next_sweep_or_the_end)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    for (int close = 0; close < 2; close++) {
        char *sub = test_path(dir, "cache");
        r.config = (rig_config){.blobs = 8, .ring = 3, .most_homes = 0};
        open_in(sub);
        follow(&train);
        if (close) rig_close(&r);
        for (int i = 0; i < 2000 && !close && qs_cache_present(r.cache) < 8; i++) {
            qs_stream_poll(r.stream);
            usleep(1000);
        }
        if (!close) follow(&train);
        char *fill = test_path(dir, "cache/fill");
        int fd;
        ck_assert_int_eq(qs_lock_try(fill, true, &fd, &r.e), 0); /* nobody fills it any more */
        qs_lock_release(&fd);
        qs_free(fill);
        if (!close) rig_close(&r);
        test_dir_remove(sub);
    }
}
END_TEST

START_TEST(a_damaged_blob_is_made_again)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    for (int device = 0; device < RIG_DEVICES; device++)
        for (int homes = -1; homes <= 0; homes++) {
            char *sub = test_path(dir, "cache");
            r.config = (rig_config){.blobs = 8, .ring = 3, .most_homes = homes, .device = (rig_device)device};
            open_in(sub);
            follow(&train);
            ck_assert_int_eq(qs_stream_settle(r.stream, &r.e), 0);
            rig_close(&r);
            for (int b = 0; b < 8; b += 3) rig_corrupt(&r, sub, b);
            open_in(sub);
            qs_log_set_level(QS_LOG_ERROR);
            follow(&train);
            follow(&train);
            qs_log_set_level(QS_LOG_INFO);
            for (int b = 0; b < 8; b++) ck_assert_int_eq(r.made[b], b % 3 == 0);
            ck_assert_int_eq(qs_stream_settle(r.stream, &r.e), 0);
            reopen();
            follow(&train);
            ck_assert_int_eq(rig_total_made(&r), 0);
            rig_close(&r);
            test_dir_remove(sub);
        }
}
END_TEST

START_TEST(slow_short_interrupted_and_reordered_transfers_change_nothing)
{
    qs_schedule_train(6, 2, 2, 0, 1, &train);
    qs_schedule_evaluate(6, 2, 2, 1, &evaluate);
    for (int device = 0; device < RIG_DEVICES; device++) {
        char *sub = test_path(dir, "cache");
        qs_aio_faults faults = {.seed = (uint64_t)device,
                                .short_every = 3,
                                .interrupt_every = 4,
                                .delay_ns = 200000,
                                .reorder = true};
        r.config = (rig_config){.blobs = 8,
                                .ring = 3,
                                .most_homes = 2,
                                .device = (rig_device)device,
                                .faults = &faults,
                                .engine = QS_AIO_PREAD};
        open_in(sub);
        several_steps();
        rig_close(&r);
        test_dir_remove(sub);
    }
}
END_TEST

/* Whenever the n-th read fails: one clear error, the same when asked again, and a clean end. */
START_TEST(a_failed_read_is_told_at_acquire)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    r.config = (rig_config){.blobs = 8, .ring = 3, .engine = QS_AIO_PREAD};
    open_in(dir);
    fill_cache(&train);
    rig_close(&r);
    for (int device = 0; device < RIG_DEVICES; device++)
        for (int n = 1; n < 30; n += 5) {
            qs_aio_faults faults = {.read_error_at = n};
            r.config = (rig_config){.blobs = 8,
                                    .ring = 3,
                                    .device = (rig_device)device,
                                    .faults = &faults,
                                    .engine = QS_AIO_PREAD};
            open_in(dir);
            qs_stream_begin(r.stream, &train);
            int rc = 0;
            int32_t v = 0;
            while (v < train.count && !(rc = rig_visit(&r, v, &train))) v++;
            ck_assert_int_eq(rc, -QS_EIO);
            ck_assert_msg(strstr(r.e.text, "blobs.bin") && strstr(r.e.text, "reading"), "%s", r.e.text);
            const void *weights;
            ck_assert_int_eq(qs_stream_acquire(r.stream, v, &weights, &r.e), -QS_EIO);
            ck_assert_ptr_null(weights);
            rig_close(&r);
        }
}
END_TEST

START_TEST(a_blob_that_cannot_be_made_is_told_at_acquire)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    for (int device = 0; device < RIG_DEVICES; device++) {
        char *sub = test_path(dir, "cache");
        r.config = (rig_config){.blobs = 8, .ring = 3, .device = (rig_device)device};
        open_in(sub);
        r.fail_to_make = 1 + 4;
        ck_assert_int_eq(rig_follow(&r, &train), -QS_EIO);
        ck_assert_str_eq(r.e.text, "blob 4 cannot be made");
        r.fail_to_make = 0;
        follow(&train); /* and it goes on when the cause is gone */
        rig_close(&r);
        test_dir_remove(sub);
    }
}
END_TEST

START_TEST(a_cache_that_cannot_be_written_is_an_error)
{
    qs_schedule_train(6, 2, 1, 0, 1, &train);
    for (int device = 0; device < RIG_DEVICES; device++)
        for (int n = 1; n <= 24; n += 8) {
            char *sub = test_path(dir, "cache");
            qs_aio_faults faults = {.write_error_at = n};
            r.config = (rig_config){.blobs = 8,
                                    .ring = 2,
                                    .device = (rig_device)device,
                                    .faults = &faults,
                                    .engine = QS_AIO_PREAD};
            open_in(sub);
            int rc = rig_follow(&r, &train);
            if (!rc) rc = qs_stream_settle(r.stream, &r.e);
            ck_assert_int_eq(rc, -QS_EIO);
            ck_assert_msg(strstr(r.e.text, "No space left") && strstr(r.e.text, "free some space"), "%s",
                          r.e.text);
            ck_assert_int_eq(r.wrong, 0);
            rig_close(&r);
            test_dir_remove(sub);
        }
}
END_TEST

/* A step that is given up leaves reads under way for blobs that the next schedule wants last: its own must
 * find a place. */
START_TEST(a_new_schedule_may_begin_at_any_time)
{
    qs_schedule_train(12, 2, 1, 0, 1, &train);
    qs_schedule_evaluate(12, 2, 1, 1, &evaluate);
    r.config = (rig_config){.blobs = 14, .ring = 2, .engine = QS_AIO_PREAD};
    open_in(dir);
    fill_cache(&train);
    rig_close(&r);
    qs_aio_faults faults = {.delay_ns = 1000000};
    for (int device = 0; device < RIG_DEVICES; device++) {
        r.config = (rig_config){
            .blobs = 14, .ring = 2, .device = (rig_device)device, .engine = QS_AIO_PREAD, .faults = &faults};
        open_in(dir);
        for (int32_t stop = 1; stop < train.count; stop += 3) {
            qs_stream_begin(r.stream, &train);
            for (int32_t v = 0; v < stop; v++) ck_assert_int_eq(rig_visit(&r, v, &train), 0);
            if (stop % 2) follow(&evaluate);
        }
        follow(&train);
        rig_close(&r);
    }
}
END_TEST

/* Blobs 0 to 3 are cached. Blob 4 is begun ahead, loses its place to one that is read, and gets it again:
 * what it had there is gone. */
START_TEST(a_blob_whose_place_was_taken_over_half_made_is_made_anew)
{
    enum { BLOBS = 6, CACHED = 4 };
    qs_schedule_train(BLOBS - 1, 1, 1, 0, 1, &train);
    r.config = (rig_config){.blobs = BLOBS, .ring = 2, .device = (rig_device)_i};
    for (int b = 0; b < BLOBS; b++)
        r.config.sizes[b] = b < CACHED ? 4096 : 400 * 4096; /* these take many looks at the disk */
    open_in(dir);
    for (int round = 0; round < 40; round++) {
        qs_stream_begin(r.stream, &train);
        for (int32_t v = 0; v <= CACHED; v++) ck_assert_int_eq(rig_visit(&r, v, &train), 0);
        ck_assert_int_eq(r.made[CACHED], 0);
    }
    ck_assert_int_gt(r.expected[CACHED], 10);
    follow(&train);
    ck_assert_msg(!qs_stream_settle(r.stream, &r.e), "%s", r.e.text);
    reopen();
    follow(&train);
    ck_assert_int_eq(rig_total_made(&r), 0); /* and so it is in the cache */
}
END_TEST

/* ---- at random --------------------------------------------------------------------------------------- */

static uint64_t case_seed;
static uint32_t draw_at;
static uint32_t below(uint32_t n) { return qs_random_u32(case_seed, 1, draw_at++) % n; }

/* Visits in order; now and then some are left out, as in a short step, or the rest. */
static void random_walk(const qs_schedule *s)
{
    bool skips = !below(4), ends = !below(8);
    qs_stream_begin(r.stream, s);
    for (int32_t v = 0; v < s->count; v++) {
        if (skips && !below(3)) continue;
        if (ends && !below(10)) break;
        ck_assert_msg(!rig_visit(&r, v, s), "%s", r.e.text);
        for (uint32_t n = below(3); n; n--) qs_stream_poll(r.stream);
    }
}

static void random_case(uint64_t seed)
{
    case_seed = seed;
    draw_at = 0;
    int32_t layers = 1 + (int32_t)below(7), tiles = 1 + (int32_t)below(3), k = 1 + (int32_t)below(3);
    qs_aio_faults faults = {.seed = seed, .reorder = below(2), .delay_ns = below(2) ? below(100000) : 0};
    if (below(2)) faults.short_every = 2 + (int)below(4);
    if (below(2)) faults.interrupt_every = 2 + (int)below(4);
    rig_config c = {.blobs = layers + tiles,
                    .ring = 2 + (int)below(4),
                    .device = (rig_device)below(RIG_DEVICES),
                    .seed = seed,
                    .engine = below(2) ? QS_AIO_AUTO : QS_AIO_PREAD,
                    .no_cache = !below(8)};
    c.most_homes = (int)below((uint32_t)c.blobs + 2) - 1;
    if (below(2)) c.faults = &faults;
    for (int b = 0; b < c.blobs; b++) c.sizes[b] = (1 + below(6)) * 4096;
    if (below(2)) c.device_room = 4096 * (1 + below(40));
    qs_schedule_train(layers, tiles, k, (int32_t)below((uint32_t)layers), 1 + (int32_t)below((uint32_t)k),
                      &train);
    qs_schedule_evaluate(layers, tiles, k, 1, &evaluate);

    char *sub = test_path(dir, "cache");
    r.config = c;
    for (int session = 0; session < 2; session++) {
        open_in(sub);
        for (uint32_t walks = 1 + below(4); walks; walks--) random_walk(below(3) ? &train : &evaluate);
        for (int b = 0; b < c.blobs; b++)
            if (!c.no_cache || r.plan.home[b] != QS_HOME_DISK) ck_assert_int_le(r.made[b], 1);
        if (below(2)) ck_assert_msg(!qs_stream_settle(r.stream, &r.e), "%s", r.e.text);
        qs_stream_close(r.stream); /* so that lazy kernels have looked */
        r.stream = NULL;
        ck_assert_int_eq(r.wrong, 0);
        rig_close(&r);
        for (int b = 0; b < c.blobs && !session && !c.no_cache; b++)
            if (!below(6)) rig_corrupt(&r, sub, b); /* present or not */
    }
    qs_schedule_free(&train);
    qs_schedule_free(&evaluate);
    test_dir_remove(sub);
}

/* QS_STREAM_CASES: how many (150); QS_STREAM_SEED: from where. */
START_TEST(random_schedules_sizes_and_disks_bring_the_right_bytes)
{
    const char *cases = getenv("QS_STREAM_CASES"), *first = getenv("QS_STREAM_SEED");
    uint64_t n = cases ? strtoull(cases, NULL, 10) : 150, from = first ? strtoull(first, NULL, 10) : 0;
    qs_log_set_level(QS_LOG_ERROR);
    for (uint64_t seed = from; seed < from + n; seed++) random_case(seed);
    qs_log_set_level(QS_LOG_INFO);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("stream");
    TCase *t = tcase_create("stream");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_visit_sees_its_weights);
    tcase_add_test(t, io_uring_and_threads_bring_the_same);
    tcase_add_test(t, without_a_cache_blobs_are_made_again);
    tcase_add_test(t, a_missing_wait_for_the_copy_is_caught);
    tcase_add_test(t, the_last_layers_are_not_read_again_at_a_turn);
    tcase_add_test(t, a_resident_model_is_read_once);
    tcase_add_test(t, reads_run_ahead_as_far_as_there_is_room);
    tcase_add_loop_test(t, a_recorder_gets_every_read_and_copy_and_what_memory_holds, 0, RIG_DEVICES);
    tcase_add_test(t, nothing_is_allocated_after_opening);
    tcase_add_test(t, the_maker_hears_of_a_blob_before_the_visit_ahead_of_it_ends);
    tcase_add_test(t, homes_are_committed_during_the_sweep);
    tcase_add_test(t, a_run_killed_during_the_quantise_on_load_goes_on_with_what_is_missing);
    tcase_add_test(t, a_cache_file_that_is_cut_heals);
    tcase_add_test(t, a_cache_that_has_become_whole_is_synced_by_the_next_sweep_or_the_end);
    tcase_add_test(t, a_damaged_blob_is_made_again);
    tcase_add_test(t, slow_short_interrupted_and_reordered_transfers_change_nothing);
    tcase_add_test(t, a_failed_read_is_told_at_acquire);
    tcase_add_test(t, a_blob_that_cannot_be_made_is_told_at_acquire);
    tcase_add_test(t, a_cache_that_cannot_be_written_is_an_error);
    tcase_add_test(t, a_new_schedule_may_begin_at_any_time);
    tcase_add_loop_test(t, a_blob_whose_place_was_taken_over_half_made_is_made_anew, 0, RIG_DEVICES);
    tcase_add_test(t, random_schedules_sizes_and_disks_bring_the_right_bytes);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
