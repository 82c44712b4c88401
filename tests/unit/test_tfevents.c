/* Behaviour of io/tfevents: byte for byte what TensorBoard's own writer makes. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <string.h>

#include "io/tfevents.h"
#include "src/base/memory.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_tfevents *events;
static qs_err e;

static void setup(void)
{
    dir = test_dir_create();
    e = (qs_err){0};
}
static void teardown(void)
{
    qs_tfevents_close(events);
    test_dir_remove(dir);
}

/* The path of the only event file of dir; freed with qs_free. */
static char *only_file(void)
{
    char *path = NULL;
    DIR *d = opendir(dir);
    for (struct dirent *f; (f = readdir(d));)
        if (strstr(f->d_name, "tfevents")) {
            ck_assert_ptr_null(path);
            path = test_path(dir, f->d_name);
        }
    closedir(d);
    ck_assert_ptr_nonnull(path);
    return path;
}

static char *hex_of(const char *path)
{
    size_t n;
    char *bytes = test_file_read(path, &n), *hex = qs_malloc(2 * n + 1);
    for (size_t i = 0; i < n; i++) sprintf(hex + 2 * i, "%02x", (uint8_t)bytes[i]);
    qs_free(bytes);
    return hex;
}

/* Both records as tensorboard 2.x wrote them. */
#define VERSION_RECORD "1800000000000000a37f4b2209000000000000f03f1a0d627261696e2e4576656e743a3286bf577a"
#define LOSS_RECORD "1a00000000000000129bd82d09000000000000f03f10072a0d0a0b0a046c6f7373150000204087ccc43d"

START_TEST(records_are_those_of_tensorboard)
{
    ck_assert_int_eq(qs_tfevents_open(dir, 0, 1.0, &events, &e), 0);
    ck_assert_int_eq(qs_tfevents_write(events, 1.0, 7, &(qs_tfevents_scalar){"loss", 2.5f}, 1, &e), 0);
    ck_assert_int_eq(qs_tfevents_sync(events, &e), 0);
    char *path = only_file(), *hex = hex_of(path);
    ck_assert_str_eq(hex, VERSION_RECORD LOSS_RECORD);
    ck_assert(strstr(path, "/events.out.tfevents.0000000001."));
    qs_free(hex);
    qs_free(path);
}
END_TEST

START_TEST(several_scalars_share_an_event)
{
    ck_assert_int_eq(qs_tfevents_open(dir, 0, 1.0, &events, &e), 0);
    ck_assert_int_eq(
        qs_tfevents_write(events, 1.0, 300, (qs_tfevents_scalar[]){{"a", 1.0f}, {"bc", -2.0f}}, 2, &e), 0);
    char *path = only_file(), *hex = hex_of(path);
    /* length 35; after the checksum: time, step 300 = ac 02, summary of 21 bytes: a value of 8, a value of 9
     */
    const char *record = hex + strlen(VERSION_RECORD);
    ck_assert_int_eq(strncmp(record, "2300000000000000", 16), 0);
    ck_assert_int_eq(
        strncmp(record + 24, "09000000000000f03f10ac022a150a080a0161150000803f0a090a02626315000000c0", 70),
        0);
    qs_free(hex);
    qs_free(path);
}
END_TEST

START_TEST(a_resumed_run_takes_back_the_steps_after_its_checkpoint)
{
    ck_assert_int_eq(qs_tfevents_open(dir, 41, 1.0, &events, &e), 0);
    char *path = only_file(), *hex = hex_of(path);
    const char *record = hex + strlen(VERSION_RECORD);
    ck_assert_int_eq(strncmp(record, "0f00000000000000", 16), 0);
    ck_assert_int_eq(strncmp(record + 24, "09000000000000f03f102a3a020801", 30), 0);
    ck_assert_uint_eq(strlen(record), 2 * (8 + 4 + 15 + 4));
    qs_free(hex);
    qs_free(path);
}
END_TEST

START_TEST(the_largest_event_fits_and_nothing_is_allocated)
{
    char tag[QS_TFEVENTS_MAX_TAG_BYTES + 1];
    memset(tag, 't', sizeof tag - 1);
    tag[sizeof tag - 1] = 0;
    qs_tfevents_scalar scalars[QS_TFEVENTS_MAX_SCALARS];
    for (int i = 0; i < QS_TFEVENTS_MAX_SCALARS; i++) scalars[i] = (qs_tfevents_scalar){tag, (float)i};
    ck_assert_int_eq(qs_tfevents_open(dir, 0, 1.7e9, &events, &e), 0);
    uint64_t calls = qs_mem_read().calls;
    ck_assert_int_eq(qs_tfevents_write(events, 1.7e9, INT64_MAX, scalars, QS_TFEVENTS_MAX_SCALARS, &e), 0);
    ck_assert_uint_eq(qs_mem_read().calls, calls);
}
END_TEST

START_TEST(two_runs_in_one_second_have_two_files)
{
    qs_tfevents *second;
    ck_assert_int_eq(qs_tfevents_open(dir, 0, 1.0, &events, &e), 0);
    ck_assert_int_eq(qs_tfevents_open(dir, 0, 1.0, &second, &e), 0);
    qs_tfevents_close(second);
}
END_TEST

START_TEST(a_directory_that_is_missing_is_named)
{
    char *none = test_path(dir, "none");
    ck_assert_int_eq(qs_tfevents_open(none, 0, 1.0, &events, &e), -QS_EIO);
    ck_assert_ptr_null(events);
    ck_assert(strstr(e.text, none));
    qs_free(none);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("tfevents");
    TCase *t = tcase_create("tfevents");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, records_are_those_of_tensorboard);
    tcase_add_test(t, several_scalars_share_an_event);
    tcase_add_test(t, a_resumed_run_takes_back_the_steps_after_its_checkpoint);
    tcase_add_test(t, the_largest_event_fits_and_nothing_is_allocated);
    tcase_add_test(t, two_runs_in_one_second_have_two_files);
    tcase_add_test(t, a_directory_that_is_missing_is_named);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
