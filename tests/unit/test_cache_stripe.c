/* A layer cache over several directories: nothing is lost over one, and whatever happens to a directory there
 * are never wrong bytes. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "io/layer_cache.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/kill_point.h"
#include "tests/support/temp_dir.h"

enum { BLOBS = 4, PARTS = 3, LARGEST = 5 << 19 };
/* Stripes of 1 MiB: the blobs begin and end inside of them, one has the border of a round in it, one is
 * smaller than a unit. */
static const uint64_t blob_bytes[BLOBS] = {3 << 19, 4096, LARGEST, 1 << 20};
static const qs_cache_key key = {.model = "tiny",
                                 .fingerprint = "0123abcd",
                                 .format = "nf4 block 64 layout 1",
                                 .blobs = BLOBS,
                                 .blob_bytes = blob_bytes};

static char *dir, *dirs[PARTS], *buffer, *want;
static qs_cache *cache;
static qs_aio *aio;
static qs_err e;

static const char *const *names(void) { return (const char *const *)dirs; }

static void open_aio(void)
{
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .depth = 1}, &aio, &e), 0);
}

static void setup(void)
{
    dir = test_dir_create();
    for (int k = 0; k < PARTS; k++) {
        char name[8];
        snprintf(name, sizeof name, "disk%d", k);
        dirs[k] = test_path(dir, name);
    }
    buffer = aligned_alloc(4096, LARGEST);
    want = aligned_alloc(4096, LARGEST);
    e = (qs_err){0};
    qs_log_set_level(QS_LOG_ERROR); /* damage is announced on purpose */
    open_aio();
}

static void close_cache(void)
{
    qs_cache_close(cache);
    cache = NULL;
}

static void teardown(void)
{
    close_cache();
    qs_aio_close(aio);
    free(buffer);
    free(want);
    for (int k = 0; k < PARTS; k++) qs_free(dirs[k]);
    test_dir_remove(dir);
}

static void content_of(int blob, char *out)
{
    uint64_t x = qs_random_u32(7, (uint64_t)blob, 0), *w = (uint64_t *)(void *)out;
    for (uint64_t i = 0; i < blob_bytes[blob] / 8; i++)
        w[i] = x = x * 6364136223846793005u + 1442695040888963407u;
}

static bool good(int blob)
{
    qs_aio_op op;
    qs_cache_read_op(cache, blob, buffer, &op);
    ck_assert_msg(!qs_aio_run(aio, &op, &e), "%s", e.text);
    if (!qs_cache_verify(cache, blob, buffer)) return false;
    content_of(blob, want);
    ck_assert_int_eq(memcmp(buffer, want, blob_bytes[blob]), 0);
    return true;
}

static int fill(void)
{
    for (int i = 0; i < BLOBS; i++) {
        qs_aio_op op;
        if (qs_cache_has(cache, i)) continue;
        content_of(i, buffer);
        qs_cache_write_op(cache, i, buffer, &op);
        QS_TRY(qs_aio_run(aio, &op, &e));
        QS_TRY(qs_cache_commit(cache, i, buffer, 7, &e));
    }
    return qs_cache_sync(cache, &e);
}

static void open_cache(void)
{
    close_cache();
    ck_assert_msg(!qs_cache_open(names(), PARTS, &key, &cache, &e), "%s", e.text);
}

static void fill_cache(void)
{
    open_cache();
    ck_assert_int_eq(fill(), 0);
    close_cache();
}

/* Opens these directories and expects a sentence with these words; then the cache in its own order is as it
 * was. */
static void refused(const char *const *with, int count, const qs_cache_key *k, int code, const char *word,
                    const char *other)
{
    close_cache();
    ck_assert_int_eq(qs_cache_open(with, count, k, &cache, &e), -code);
    ck_assert_msg(strstr(e.text, word) && strstr(e.text, other), "%s", e.text);
}

START_TEST(blobs_come_back_and_every_directory_holds_its_share)
{
    static const uint64_t share[PARTS] = {2 << 20, 2 << 20, (1 << 20) + 4096};
    fill_cache();
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    uint64_t sum = 0;
    for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
    for (int k = 0; k < PARTS; k++) {
        char *path = test_path(dirs[k], "blobs.bin"), *journal = test_path(dirs[k], "journal.bin");
        struct stat st;
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert_uint_eq((uint64_t)st.st_size, share[k]);
        ck_assert_int_eq(qs_file_exists(journal), k == 0);
        sum += (uint64_t)st.st_size;
        qs_free(path);
        qs_free(journal);
    }
    for (int i = 0; i < BLOBS; i++) sum -= blob_bytes[i];
    ck_assert_uint_eq(sum, 0);
}
END_TEST

START_TEST(another_number_or_order_of_directories_is_refused_and_says_which_it_was)
{
    const char *swapped[] = {dirs[1], dirs[0], dirs[2]}, *other = test_path(dir, "elsewhere");
    const char *replaced[] = {dirs[0], dirs[1], other}, *more[] = {dirs[0], dirs[1], dirs[2], other};
    fill_cache();
    refused(swapped, PARTS, &key, QS_EFORMAT, "part 2 of a cache over 3 directories", dirs[2]);
    refused(names(), 2, &key, QS_EFORMAT, "part 1 of a cache over 3 directories", "part 1 of 2");
    refused(names(), 1, &key, QS_EFORMAT, "part 1 of a cache over 3 directories", dirs[1]);
    refused(names() + 1, 1, &key, QS_EFORMAT, "part 2 of a cache over 3 directories", dirs[0]);
    refused(more, 4, &key, QS_EFORMAT, "part 1 of a cache over 3 directories", "part 1 of 4");
    refused(replaced, PARTS, &key, QS_EFORMAT, "part 3 of the cache", "mount");
    ck_assert(!qs_file_exists(other));
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    close_cache();
    ck_assert_int_eq(qs_cache_open(&other, 1, &key, &cache, &e),
                     0); /* a whole cache, then made one of several */
    refused(replaced, PARTS, &key, QS_EFORMAT, "whole cache", "part 3 of 3");
    qs_free((char *)other);
}
END_TEST

START_TEST(a_directory_named_twice_is_refused_whatever_it_is_called)
{
    char *dotted = qs_printf("%s/./disk0", dir);
    const char *same[] = {dirs[0], dirs[0]}, *alias[] = {dirs[0], dotted};
    refused(same, 2, &key, QS_EINVAL, "twice", dirs[0]);
    ck_assert(!qs_file_exists(dirs[0]));
    refused(alias, 2, &key, QS_EINVAL, "twice", dotted);
    fill_cache();
    refused(alias, 2, &key, QS_EINVAL, "twice", dotted);
    qs_free(dotted);
}
END_TEST

START_TEST(a_part_of_another_model_is_refused_and_a_missing_one_too)
{
    qs_cache_key other = key;
    other.fingerprint = "ffff";
    other.model = "huge";
    char *other_dirs[PARTS], *lost = test_path(dir, "lost");
    for (int k = 0; k < PARTS; k++) other_dirs[k] = qs_printf("%s/other%d", dir, k);
    ck_assert_int_eq(qs_cache_open((const char *const *)other_dirs, PARTS, &other, &cache, &e), 0);
    fill_cache();
    const char *mixed[] = {dirs[0], other_dirs[1], dirs[2]};
    refused(mixed, PARTS, &key, QS_EFORMAT, "huge", other_dirs[1]);
    for (int k = 0; k < PARTS; k++) {
        ck_assert_int_eq(rename(dirs[k], lost), 0);
        refused(names(), PARTS, &key, QS_EFORMAT, "missing here", dirs[k]);
        ck_assert(!qs_file_exists(dirs[k]));
        ck_assert_int_eq(rename(lost, dirs[k]), 0);
    }
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
    for (int k = 0; k < PARTS; k++) qs_free(other_dirs[k]);
    qs_free(lost);
}
END_TEST

START_TEST(a_part_that_lost_its_bytes_is_made_again_and_only_there)
{
    for (int k = 0; k < PARTS; k++) {
        char *path = test_path(dirs[k], "blobs.bin");
        fill_cache();
        ck_assert_int_eq(k == 1 ? unlink(path) : truncate(path, k == 0 ? 1 << 20 : 4096), 0);
        open_cache();
        int bad = 0;
        for (int i = 0; i < BLOBS; i++) bad += !good(i);
        ck_assert_int_ge(bad, 1);
        ck_assert_int_eq(qs_cache_present(cache), BLOBS - bad);
        if (k == 0) ck_assert(qs_cache_has(cache, 0)); /* its units are whole */
        ck_assert_int_eq(fill(), 0);
        open_cache();
        for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
        close_cache();
        qs_free(path);
    }
}
END_TEST

START_TEST(the_first_directory_of_another_arrangement_brings_no_records)
{
    char *pair[2] = {qs_printf("%s/pair0", dir), qs_printf("%s/pair1", dir)},
         *from = test_path(dirs[0], "journal.bin"), *to = test_path(pair[0], "journal.bin");
    fill_cache();
    ck_assert_int_eq(qs_cache_open((const char *const *)pair, 2, &key, &cache, &e), 0);
    close_cache();
    ck_assert_int_eq(rename(from, to), 0);
    ck_assert_int_eq(qs_cache_open((const char *const *)pair, 2, &key, &cache, &e), 0);
    ck_assert_int_eq(qs_cache_present(cache), 0);
    qs_free(pair[0]);
    qs_free(pair[1]);
    qs_free(from);
    qs_free(to);
}
END_TEST

START_TEST(two_processes_do_not_fill_one_part)
{
    qs_cache *second = NULL;
    char *other = test_path(dir, "other"), *rest[2] = {test_path(dir, "rest1"), test_path(dir, "rest2")};
    const char *own[] = {other, rest[0], rest[1]},
               *shared[] = {other, dirs[1], dirs[2]}; /* equal caches: their parts may stand for each other */
    ck_assert_int_eq(qs_cache_open(own, PARTS, &key, &second, &e), 0);
    qs_cache_close(second);
    open_cache();
    ck_assert_int_eq(qs_cache_open(names(), PARTS, &key, &second, &e), 0);
    ck_assert(!qs_cache_may_write(second, 0));
    qs_cache_close(second);
    ck_assert_int_eq(qs_cache_open(shared, PARTS, &key, &second, &e), 0);
    ck_assert(!qs_cache_may_write(second, 0));
    qs_cache_close(second);
    ck_assert_int_eq(fill(), 0);
    ck_assert_msg(!qs_cache_open(names(), PARTS, &key, &second, &e), "%s", e.text);
    ck_assert_int_eq(qs_cache_present(second), BLOBS);
    qs_cache_close(second);
    qs_free(other);
    qs_free(rest[0]);
    qs_free(rest[1]);
}
END_TEST

START_TEST(a_disk_without_room_gives_back_what_the_others_had_set_aside)
{
    uint64_t huge[BLOBS] = {8192, 4096, (uint64_t)1 << 50, 8192};
    qs_cache_key k = key;
    k.blob_bytes = huge;
    refused(names(), PARTS, &k, QS_EIO, "GB free", dirs[0]);
    for (int i = 0; i < PARTS; i++) {
        char *path = test_path(dirs[i], "blobs.bin");
        struct stat st;
        ck_assert(stat(path, &st) || st.st_size == 0);
        qs_free(path);
    }
}
END_TEST

/* Exit status of a process that opens and fills the cache, and is killed at its n-th change to the disk. */
static int run_until(int n)
{
    qs_aio_close(aio);
    pid_t child = fork();
    open_aio();
    if (!child) {
        test_kill_at(n);
        _exit(qs_cache_open(names(), PARTS, &key, &cache, &e) || fill() ? 1 : 0);
    }
    int status = test_child_exit(child);
    ck_assert(status == 0 || status == TEST_KILLED);
    return status;
}

START_TEST(a_run_killed_at_any_write_goes_on_where_it_was)
{
    int last = 0;
    for (int n = 1; n < 1000; n++) {
        for (int k = 0; k < PARTS; k++) ck_assert_int_eq(qs_dir_remove(dirs[k], &e), 0);
        int status = run_until(n);
        open_cache();
        int present = qs_cache_present(cache);
        ck_assert_int_ge(present, last);
        last = present;
        for (int i = 0; i < present; i++) ck_assert(qs_cache_has(cache, i) && good(i));
        ck_assert_int_eq(fill(), 0);
        open_cache();
        for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
        close_cache();
        if (status == 0) {
            ck_assert_int_ge(n, 2 * BLOBS + 4 * PARTS);
            return;
        }
    }
    ck_abort_msg("the run never ended");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cache_stripe");
    TCase *t = tcase_create("cache_stripe");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, blobs_come_back_and_every_directory_holds_its_share);
    tcase_add_test(t, another_number_or_order_of_directories_is_refused_and_says_which_it_was);
    tcase_add_test(t, a_directory_named_twice_is_refused_whatever_it_is_called);
    tcase_add_test(t, a_part_of_another_model_is_refused_and_a_missing_one_too);
    tcase_add_test(t, a_part_that_lost_its_bytes_is_made_again_and_only_there);
    tcase_add_test(t, the_first_directory_of_another_arrangement_brings_no_records);
    tcase_add_test(t, two_processes_do_not_fill_one_part);
    tcase_add_test(t, a_disk_without_room_gives_back_what_the_others_had_set_aside);
    tcase_add_test(t, a_run_killed_at_any_write_goes_on_where_it_was);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
