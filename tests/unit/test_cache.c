/* Behaviour of io/layer_cache: what is in it is right, whatever happened to the process or the disk while it
 * was filled. */
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

enum { BLOBS = 4, RECORD = 40 };
static const uint64_t blob_bytes[BLOBS] = {8192, 4096, 16384, 8192};
static const qs_cache_key key = {.model = "tiny",
                                 .fingerprint = "0123abcd",
                                 .format = "nf4 block 64 layout 1",
                                 .blobs = BLOBS,
                                 .blob_bytes = blob_bytes};

static char *dir, *cache_dir, *buffer;
static const char *stripes[3]; /* cache_dir and others, for the tests of a striped cache */
static int stripe_count;       /* directories that open_cache opens */
static qs_cache *cache;
static qs_aio *aio;
static qs_err e;

static void open_aio(void)
{
    ck_assert_int_eq(
        qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .depth = 1, .chunk_bytes = 8192}, &aio, &e), 0);
}

static void setup(void)
{
    dir = test_dir_create();
    cache_dir = test_path(dir, "a/cache");
    stripes[0] = cache_dir;
    stripe_count = 1;
    buffer = aligned_alloc(4096, 16384);
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
    qs_free(cache_dir);
    test_dir_remove(dir);
}

static void content_of(int blob, char *out)
{
    for (uint64_t i = 0; i < blob_bytes[blob]; i++) out[i] = (char)qs_random_u32(7, (uint64_t)blob, i);
}

static int put(int blob)
{
    qs_aio_op op;
    content_of(blob, buffer);
    qs_cache_write_op(cache, blob, buffer, &op);
    QS_TRY(qs_aio_run(aio, &op, &e));
    return qs_cache_commit(cache, blob, buffer, 7, &e);
}

/* Reads a blob that the cache says it has; whether it is what was put. */
static bool good(int blob)
{
    qs_aio_op op;
    char want[16384];
    qs_cache_read_op(cache, blob, buffer, &op);
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), 0);
    if (!qs_cache_verify(cache, blob, buffer)) return false;
    content_of(blob, want);
    ck_assert_int_eq(memcmp(buffer, want, blob_bytes[blob]), 0);
    return true;
}

static void open_cache(void)
{
    close_cache();
    ck_assert_msg(!qs_cache_open(stripes, stripe_count, &key, &cache, &e), "%s", e.text);
}

/* What a run does: make what is missing, sync at the end. */
static int fill(void)
{
    for (int i = 0; i < BLOBS; i++)
        if (!qs_cache_has(cache, i)) QS_TRY(put(i));
    return qs_cache_sync(cache, &e);
}

static char *inside(const char *name) { return test_path(cache_dir, name); }

/* Changes one byte of a file of the cache. */
static void flip(const char *name, off_t at)
{
    char *path = inside(name), byte;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    ck_assert_int_eq(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    ck_assert_int_eq(pwrite(fd, &byte, 1, at), 1);
    close(fd);
    qs_free(path);
}

static uint64_t size_of(const char *name)
{
    char *path = inside(name);
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    qs_free(path);
    return (uint64_t)st.st_size;
}

START_TEST(what_was_committed_is_there_the_next_time)
{
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), 0);
    ck_assert_int_eq(put(2), 0);
    ck_assert_int_eq(put(0), 0);
    ck_assert_int_eq(qs_cache_present(cache), 2);
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), 2);
    ck_assert(qs_cache_has(cache, 0) && !qs_cache_has(cache, 1) && qs_cache_has(cache, 2) &&
              !qs_cache_has(cache, 3));
    ck_assert(good(0) && good(2));
    ck_assert_int_eq(fill(), 0);
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
    ck_assert_uint_eq(size_of("journal.bin"), BLOBS * RECORD);
}
END_TEST

START_TEST(the_file_has_its_whole_size_from_the_start)
{
    open_cache();
    ck_assert_uint_eq(size_of("blobs.bin"), 8192 + 4096 + 16384 + 8192);
}
END_TEST

START_TEST(a_write_without_a_commit_does_not_count)
{
    open_cache();
    qs_aio_op op;
    content_of(1, buffer);
    qs_cache_write_op(cache, 1, buffer, &op);
    ck_assert_int_eq(qs_aio_run(aio, &op, &e), 0);
    open_cache();
    ck_assert(!qs_cache_has(cache, 1));
}
END_TEST

START_TEST(a_flipped_bit_anywhere_in_a_blob_is_found_and_the_blob_made_again)
{
    static const off_t places[] = {0, 8191, 8192 + 4096 + 8000, 8192 + 4096 + 16384 + 8191};
    static const int blobs[] = {0, 0, 2, 3};
    open_cache();
    ck_assert_int_eq(fill(), 0);
    for (int k = 0; k < 4; k++) {
        flip("blobs.bin", places[k]);
        open_cache();
        for (int i = 0; i < BLOBS; i++) ck_assert_int_eq(good(i), i != blobs[k]);
        ck_assert(!qs_cache_has(cache, blobs[k]));
        ck_assert_int_eq(qs_cache_present(cache), BLOBS - 1);
        open_cache();
        ck_assert(!qs_cache_has(cache, blobs[k])); /* the journal knows as well */
        ck_assert_int_eq(fill(), 0);
        open_cache();
        for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
    }
}
END_TEST

START_TEST(a_journal_cut_at_any_byte_keeps_its_whole_records)
{
    char *path = inside("journal.bin");
    open_cache();
    ck_assert_int_eq(fill(), 0);
    close_cache();
    for (off_t cut = BLOBS * RECORD; cut >= 0; cut--) {
        ck_assert_int_eq(truncate(path, cut), 0);
        open_cache();
        ck_assert_int_eq(qs_cache_present(cache), cut / RECORD);
        for (int i = 0; i < cut / RECORD; i++) ck_assert(good(i));
        if (cut % 8 == 5) { /* going on after a torn record */
            ck_assert_int_eq(fill(), 0);
            open_cache();
            ck_assert_int_eq(qs_cache_present(cache), BLOBS);
        }
        close_cache();
    }
    qs_free(path);
}
END_TEST

START_TEST(a_damaged_record_is_blanked_and_the_others_count)
{
    for (int at = 0; at < RECORD; at++) {
        open_cache();
        ck_assert_int_eq(fill(), 0);
        close_cache();
        flip("journal.bin", RECORD + at);
        for (int again = 0; again < 2; again++) {
            open_cache();
            ck_assert_int_eq(qs_cache_present(cache), BLOBS - 1);
            ck_assert(!qs_cache_has(cache, 1));
        }
        ck_assert_int_eq(fill(), 0);
        close_cache();
        char *path = inside("journal.bin");
        unlink(path);
        qs_free(path);
    }
}
END_TEST

START_TEST(zeros_and_noise_in_the_journal_are_passed_over)
{
    open_cache();
    ck_assert_int_eq(put(0), 0);
    close_cache();
    char *path = inside("journal.bin"), noise[10 * RECORD + 7] = {0};
    for (size_t i = 5 * RECORD; i < sizeof noise; i++) noise[i] = (char)qs_random_u32(1, 2, i);
    int fd = open(path, O_WRONLY | O_APPEND | O_CLOEXEC);
    ck_assert_int_eq(write(fd, noise, sizeof noise), sizeof noise);
    close(fd);
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), 1);
    ck_assert_int_eq(fill(), 0);
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    qs_free(path);
}
END_TEST

START_TEST(records_of_another_cache_do_not_count)
{
    qs_cache_key other = key;
    other.fingerprint = "ffff";
    char *other_dir = test_path(dir, "other"), *from = test_path(dir, "other/journal.bin"),
         *to = inside("journal.bin");
    open_cache();
    ck_assert_int_eq(fill(), 0);
    close_cache();
    ck_assert_int_eq(qs_cache_open((const char *const *)&other_dir, 1, &other, &cache, &e), 0);
    close_cache();
    ck_assert_int_eq(rename(to, from), 0);
    ck_assert_int_eq(qs_cache_open((const char *const *)&other_dir, 1, &other, &cache, &e), 0);
    ck_assert_int_eq(qs_cache_present(cache), 0);
    qs_free(other_dir);
    qs_free(from);
    qs_free(to);
}
END_TEST

/* Every file of the directory in one string, to see that nothing was touched. */
static char *snapshot(void)
{
    char *all = qs_strdup("");
    static const char *const names[] = {"manifest.json", "blobs.bin", "journal.bin"};
    for (int i = 0; i < 3; i++) {
        char *path = inside(names[i]), *more;
        struct stat st;
        if (stat(path, &st))
            more = qs_printf("%s%s -\n", all, names[i]);
        else
            more = qs_printf("%s%s %lld %lld.%09ld\n", all, names[i], (long long)st.st_size,
                             (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
        qs_free(path);
        qs_free(all);
        all = more;
    }
    return all;
}

static void refused(const qs_cache_key *k, const char *why, const char *and_why)
{
    char *before = snapshot(), *lock = inside("lock");
    close_cache();
    unlink(lock);
    ck_assert_int_eq(qs_cache_open(stripes, stripe_count, k, &cache, &e), -QS_EFORMAT);
    ck_assert_ptr_null(cache);
    ck_assert_msg(strstr(e.text, cache_dir) && strstr(e.text, why) && strstr(e.text, and_why) &&
                      strstr(e.text, "--cache"),
                  "%s", e.text);
    char *after = snapshot();
    ck_assert_str_eq(after, before);
    ck_assert(!qs_file_exists(lock)); /* not even that is made */
    qs_free(lock);
    qs_free(before);
    qs_free(after);
}

START_TEST(a_cache_of_another_model_form_or_version_is_refused_untouched)
{
    open_cache();
    ck_assert_int_eq(put(0), 0);
    close_cache();
    static const uint64_t longer[BLOBS] = {8192, 4096, 16384, 12288};
    qs_cache_key weights = key, form = key, sizes = key, fewer = key, renamed = key;
    weights.model = "huge";
    weights.fingerprint = "ffff";
    form.format = "nf4 block 128";
    sizes.blob_bytes = longer;
    fewer.blobs = BLOBS - 1;
    refused(&weights, "tiny", "huge");
    refused(&form, "nf4 block 64 layout 1", "nf4 block 128");
    refused(&sizes, "sizes", "");
    refused(&fewer, "sizes", "");
    renamed.model = "the same weights elsewhere";
    ck_assert_int_eq(qs_cache_open(stripes, stripe_count, &renamed, &cache, &e), 0);
    ck_assert_int_eq(qs_cache_present(cache), 1);
    close_cache();

    char *path = inside("manifest.json");
    static const char *const texts[] = {"{\"version\":2}", "{\"version\":4}", "{}", "[]"}, *const words[] = {
                                                                                               "version 2",
                                                                                               "version 4",
                                                                                               "version 0",
                                                                                               "version 0"};
    for (int i = 0; i < 4; i++) {
        test_file_write(path, texts[i], strlen(texts[i]));
        refused(&key, words[i], "");
    }
    qs_free(path);
}
END_TEST

START_TEST(a_damaged_or_missing_manifest_is_mended_when_the_journal_is_of_this_model)
{
    static const char *const texts[] = {"{", "", "\xff", NULL};
    char *path = inside("manifest.json"), *journal = inside("journal.bin");
    open_cache();
    ck_assert_int_eq(put(0), 0);
    close_cache();
    for (int i = 0; i < 4; i++) {
        if (texts[i])
            test_file_write(path, texts[i], strlen(texts[i]));
        else
            unlink(path);
        open_cache();
        ck_assert_int_eq(qs_cache_present(cache), 1);
        ck_assert(good(0));
        open_cache();
        ck_assert_int_eq(qs_cache_present(cache), 1);
        close_cache();
    }
    unlink(journal); /* now nothing says whose the blobs are */
    unlink(path);
    refused(&key, "damaged or missing", "");
    test_file_write(path, "{", 1);
    refused(&key, "damaged or missing", "");
    qs_free(journal);
    qs_free(path);
}
END_TEST

/* As the versions before 3 wrote it: two blobs of a model that was known by the dates of its files. */
START_TEST(a_cache_of_an_older_version_is_made_again_and_said)
{
    static const char manifest[] = "{\n \"version\": 1,\n \"model\": \"tiny\",\n \"fingerprint\": "
                                   "\"89abcdef\",\n \"format\": \"nf4 block 64 layout 1\",\n"
                                   " \"blob_bytes\": [\n  8192,\n  4096,\n  16384,\n  8192\n ]\n}";
    static const uint8_t journal[] = {
        0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x20, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0xcf, 0xd8, 0x93, 0x91, 0x93, 0xad, 0x87, 0xd7, 0x2b, 0x55, 0x89, 0x0d, 0xce, 0x3c, 0x2c, 0xb3,
        0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x10, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
        0x39, 0x31, 0x9a, 0xfa, 0x05, 0x11, 0x66, 0x6e, 0xf5, 0x9a, 0x37, 0x78, 0xf2, 0x58, 0xd3, 0x33};
    char *paths[] = {inside("manifest.json"), inside("journal.bin"), inside("blobs.bin")},
         *blobs = qs_calloc(1, 36864);
    qs_cache_key form = key;
    form.format = "nf4 block 128";
    ck_assert_int_eq(qs_dir_create(cache_dir, &e), 0);
    test_file_write(paths[0], manifest, sizeof manifest - 1);
    test_file_write(paths[1], journal, sizeof journal);
    test_file_write(paths[2], blobs, 36864);
    refused(&form, "nf4 block 64 layout 1", "nf4 block 128"); /* of another model for certain */
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), 0);
    ck_assert_uint_eq(size_of("journal.bin"), 0);
    ck_assert_int_eq(fill(), 0);
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    qs_free(blobs);
    for (int i = 0; i < 3; i++) qs_free(paths[i]);
}
END_TEST

START_TEST(a_damaged_manifest_never_opens_another_cache)
{
    open_cache();
    ck_assert_int_eq(put(0), 0);
    close_cache();
    char *path = inside("manifest.json");
    size_t n;
    char *text = test_file_read(path, &n), *damaged = qs_malloc(n);
    for (uint64_t trial = 0; trial < 2000; trial++) {
        memcpy(damaged, text, n);
        damaged[qs_random_u32(2, trial, 0) % n] = (char)qs_random_u32(2, trial, 1);
        test_file_overwrite(path, damaged, trial % 2 ? n : qs_random_u32(2, trial, 9) % n);
        if (!qs_cache_open(stripes, stripe_count, &key, &cache, &e))
            ck_assert_int_eq(qs_cache_present(cache), 1);
        close_cache();
    }
    qs_free(text);
    qs_free(damaged);
    qs_free(path);
}
END_TEST

START_TEST(one_process_fills_a_cache_and_the_others_read_what_is_there)
{
    qs_cache *second = NULL;
    open_cache();
    ck_assert_int_eq(put(0), 0);
    ck_assert_msg(!qs_cache_open(stripes, stripe_count, &key, &second, &e), "%s", e.text);
    ck_assert_int_eq(qs_cache_present(second), 1);
    ck_assert(!qs_cache_may_write(second, 1));
    ck_assert_int_eq(put(2), 0);
    ck_assert(!qs_cache_has(second, 2));
    qs_cache_refresh(second);
    ck_assert(qs_cache_has(second, 2) && !qs_cache_has(second, 1));

    close_cache(); /* the one that fills ends: another goes on */
    cache = second;
    ck_assert(!qs_cache_may_write(cache, 2));
    ck_assert(qs_cache_may_write(cache, 1));
    ck_assert(!qs_cache_needs_sync(cache));
    ck_assert_int_eq(fill(), 0);
    for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
}
END_TEST

START_TEST(a_complete_cache_is_read_by_any_number_and_not_touched)
{
    qs_cache *second = NULL, *third = NULL;
    open_cache();
    ck_assert_int_eq(fill(), 0);
    ck_assert_msg(!qs_cache_open(stripes, stripe_count, &key, &second, &e), "%s", e.text);
    char *before = snapshot();
    close_cache();
    ck_assert_msg(!qs_cache_open(stripes, stripe_count, &key, &third, &e), "%s", e.text);
    cache = third;
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
    ck_assert(!qs_cache_needs_sync(cache));
    qs_cache_close(second);
    char *after = snapshot();
    ck_assert_str_eq(after, before);
    qs_free(before);
    qs_free(after);
}
END_TEST

START_TEST(who_finds_damage_in_a_complete_cache_mends_it_while_others_read)
{
    qs_cache *other = NULL;
    open_cache();
    ck_assert_int_eq(fill(), 0);
    ck_assert_int_eq(qs_cache_open(stripes, stripe_count, &key, &other, &e), 0);
    flip("blobs.bin", 8192 + 5);
    open_cache();
    ck_assert(!good(1));
    ck_assert(qs_cache_may_write(cache, 1));
    ck_assert_int_eq(put(1), 0);
    ck_assert(qs_cache_needs_sync(cache));
    ck_assert_int_eq(qs_cache_sync(cache, &e), 0);
    close_cache();
    cache = other;
    for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
}
END_TEST

START_TEST(processes_that_meet_a_cold_cache_all_fill_it_together)
{
    enum { PROCESSES = 5 };
    pid_t child[PROCESSES];
    qs_aio_close(aio);
    for (int i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i]) continue;
        open_aio();
        if (qs_cache_open(stripes, stripe_count, &key, &cache, &e)) _exit(2);
        for (int b = 0; b < BLOBS; b++) {
            qs_cache_refresh(cache);
            if (!qs_cache_has(cache, b) && qs_cache_may_write(cache, b) && put(b)) _exit(3);
            usleep(2000);
        }
        for (int b = 0; b < BLOBS; b++)
            if (qs_cache_has(cache, b) && !good(b)) _exit(4);
        _exit(qs_cache_sync(cache, &e) ? 5 : 0);
    }
    for (int i = 0; i < PROCESSES; i++) ck_assert_int_eq(test_child_exit(child[i]), 0);
    open_aio();
    open_cache();
    ck_assert_int_eq(qs_cache_present(cache), BLOBS);
    for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
    ck_assert_uint_eq(size_of("journal.bin"), BLOBS * RECORD);
}
END_TEST

START_TEST(a_cache_larger_than_the_disk_is_refused_with_both_sizes)
{
    uint64_t huge[BLOBS] = {8192, 4096, (uint64_t)1 << 50, 8192};
    qs_cache_key k = key;
    k.blob_bytes = huge;
    ck_assert_int_eq(qs_cache_open(stripes, stripe_count, &k, &cache, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, "needs 1125899.") && strstr(e.text, "GB free"), "%s", e.text);
    ck_assert_uint_eq(size_of("blobs.bin"), 0);
}
END_TEST

/* Exit status of a process that opens and fills the cache, and is killed at its n-th change to the disk. The
 * engine's threads do not live through a fork, so each side has its own. */
static int run_until(int n)
{
    qs_aio_close(aio);
    pid_t child = fork();
    open_aio();
    if (!child) {
        test_kill_at(n);
        _exit(qs_cache_open(stripes, stripe_count, &key, &cache, &e) || fill() ? 1 : 0);
    }
    int status = test_child_exit(child);
    ck_assert(status == 0 || status == TEST_KILLED);
    return status;
}

/* Kills a run at every change that it makes to the disk, one after another. */
START_TEST(a_run_killed_at_any_write_goes_on_where_it_was)
{
    int last = 0;
    for (int n = 1; n < 1000; n++) {
        ck_assert_int_eq(qs_dir_remove(cache_dir, &e), 0);
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
            ck_assert_int_ge(n, 2 * BLOBS + 4);
            return;
        }
    }
    ck_abort_msg("the run never ended");
}
END_TEST

/* The same, but each run goes on from what the killed one before it left. */
START_TEST(a_run_killed_again_and_again_still_ends)
{
    for (int round = 0; round < 1000; round++) {
        int status = run_until(3 + round % 5);
        if (status) continue;
        open_cache();
        for (int i = 0; i < BLOBS; i++) ck_assert(good(i));
        return;
    }
    ck_abort_msg("the runs never ended");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("cache");
    TCase *t = tcase_create("cache");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_was_committed_is_there_the_next_time);
    tcase_add_test(t, the_file_has_its_whole_size_from_the_start);
    tcase_add_test(t, a_write_without_a_commit_does_not_count);
    tcase_add_test(t, a_flipped_bit_anywhere_in_a_blob_is_found_and_the_blob_made_again);
    tcase_add_test(t, a_journal_cut_at_any_byte_keeps_its_whole_records);
    tcase_add_test(t, a_damaged_record_is_blanked_and_the_others_count);
    tcase_add_test(t, zeros_and_noise_in_the_journal_are_passed_over);
    tcase_add_test(t, records_of_another_cache_do_not_count);
    tcase_add_test(t, a_cache_of_another_model_form_or_version_is_refused_untouched);
    tcase_add_test(t, a_damaged_or_missing_manifest_is_mended_when_the_journal_is_of_this_model);
    tcase_add_test(t, a_cache_of_an_older_version_is_made_again_and_said);
    tcase_add_test(t, a_damaged_manifest_never_opens_another_cache);
    tcase_add_test(t, one_process_fills_a_cache_and_the_others_read_what_is_there);
    tcase_add_test(t, a_complete_cache_is_read_by_any_number_and_not_touched);
    tcase_add_test(t, who_finds_damage_in_a_complete_cache_mends_it_while_others_read);
    tcase_add_test(t, processes_that_meet_a_cold_cache_all_fill_it_together);
    tcase_add_test(t, a_cache_larger_than_the_disk_is_refused_with_both_sizes);
    tcase_add_test(t, a_run_killed_at_any_write_goes_on_where_it_was);
    tcase_add_test(t, a_run_killed_again_and_again_still_ends);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
