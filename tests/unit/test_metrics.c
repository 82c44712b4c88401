/* Behaviour of src/train/metrics: rows, resume, torn files, full disks. */
#include <check.h>
#include <glob.h>
#include <jansson.h>
#include <math.h>
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/metrics.h"
#include "tests/support/temp_dir.h"

static char *dir, *path;
static qs_err e;

static void setup(void)
{
    qs_log_set_level(QS_LOG_ERROR);
    dir = test_dir_create();
    path = test_path(dir, "metrics.jsonl");
}
static void teardown(void)
{
    qs_free(path);
    test_dir_remove(dir);
}

static qs_metrics *opened(int64_t last_step)
{
    qs_metrics *m = NULL;
    int rc = qs_metrics_open(dir, &(qs_metrics_begin){.last_step = last_step}, &m, &e);
    ck_assert_msg(rc == 0, "%s", e.text);
    return m;
}

static void write_steps(qs_metrics *m, int64_t first, int64_t last)
{
    for (int64_t s = first; s <= last; s++) {
        qs_step_metrics row = {.step = s, .loss = 1.0 / (double)s, .tokens = 100 * s, .learning_rate = 1e-5};
        qs_metrics_step(m, &row);
        if (s % 4 == 0) qs_metrics_eval(m, &(qs_eval_metrics){.step = s, .eval_loss = 0.5});
    }
}

/* A whole run of nine steps. */
static void write_steps_of(bool tensorboard)
{
    qs_metrics *m = NULL;
    ck_assert_int_eq(qs_metrics_open(dir, &(qs_metrics_begin){.tensorboard = tensorboard}, &m, &e), 0);
    write_steps(m, 1, 9);
    qs_metrics_sync(m);
    qs_metrics_close(m);
}

static char *content(void)
{
    char *text;
    ck_assert_int_eq(qs_file_read(path, 1 << 20, &text, NULL, &e), 0);
    return text;
}

/* Takes the checksums out of rows. */
static void unsealed(char *text)
{
    for (char *at; (at = strstr(text, ",\"checksum\":\""));)
        memmove(at, strchr(at, '}'), strlen(strchr(at, '}')) + 1);
}

START_TEST(a_row_is_one_json_object_with_every_field)
{
    qs_metrics *m = opened(0);
    qs_step_metrics row = {.step = 3,
                           .loss = 0.1,
                           .learning_rate = 2e-4,
                           .grad_norm = NAN,
                           .tokens = 32768,
                           .tokens_per_second = 9412.5,
                           .step_seconds = 3.5,
                           .wait_disk_seconds = 0.25,
                           .wait_link_seconds = 0.125,
                           .compute_seconds = 3.1,
                           .disk_read_bytes = UINT64_C(1) << 40,
                           .disk_write_bytes = 5,
                           .link_bytes = 6,
                           .device_peak_bytes = 7,
                           .host_peak_bytes = 8,
                           .predicted_step_seconds = 3.4};
    qs_metrics_step(m, &row);
    qs_metrics_eval(m, &(qs_eval_metrics){3, 2.0, 77, 1.5});
    qs_metrics_sync(m);
    qs_metrics_close(m);
    char *text = content();
    unsealed(text);
    ck_assert_str_eq(
        text,
        "{\"step\":3,\"loss\":0.1,\"learning_rate\":0.0002,\"grad_norm\":null,\"tokens\":32768,"
        "\"tokens_per_second\":9412.5,\"step_seconds\":3.5,\"wait_disk_seconds\":0.25,\"wait_link_seconds\":"
        "0.125,"
        "\"compute_seconds\":3.1,\"disk_read_bytes\":1099511627776,\"disk_write_bytes\":5,\"link_bytes\":6,"
        "\"device_peak_bytes\":7,\"host_peak_bytes\":8,\"predicted_step_seconds\":3.4}\n"
        "{\"step\":3,\"eval_loss\":2,\"eval_perplexity\":7.38905609893065,\"eval_tokens\":77,\"eval_"
        "seconds\":1.5}\n");
    qs_free(text);
}
END_TEST

START_TEST(a_resumed_file_is_that_of_a_run_never_stopped)
{
    const qs_eval_metrics before = {.eval_loss = 3};
    qs_metrics *m = opened(0);
    qs_metrics_eval(m, &before);
    write_steps(m, 1, 10);
    qs_metrics_close(m);
    char *straight = content();

    for (int64_t checkpoint = 0; checkpoint <= 9; checkpoint++) { /* killed at 10, back to a checkpoint */
        m = opened(checkpoint);
        if (checkpoint == 0) qs_metrics_eval(m, &before);
        write_steps(m, checkpoint + 1, 10);
        qs_metrics_close(m);
        char *resumed = content();
        ck_assert_str_eq(resumed, straight);
        qs_free(resumed);
    }
    qs_free(straight);
}
END_TEST

START_TEST(a_torn_last_row_is_cut_off)
{
    qs_metrics *m = opened(0);
    write_steps(m, 1, 3);
    qs_metrics_close(m);
    char *whole = content();
    for (size_t cut = 1; cut < 40; cut++) {
        char *torn = qs_printf("%s{\"step\":4,\"loss\":0.25,\"learning_rate\":0.0002", whole);
        ck_assert_int_eq(qs_file_replace(path, torn, strlen(torn) - cut, &e), 0);
        qs_free(torn);
        m = opened(100);
        write_steps(m, 4, 4);
        qs_metrics_close(m);
        char *text = content();
        ck_assert_msg(!strncmp(text, whole, strlen(whole)) &&
                          !strncmp(text + strlen(whole), "{\"step\":4,", 10),
                      "%s", text);
        qs_free(text);
    }
    qs_free(whole);
}
END_TEST

static int files_like(const char *pattern_text)
{
    glob_t found;
    char *pattern = test_path(dir, pattern_text);
    int n = glob(pattern, 0, NULL, &found) ? 0 : (int)found.gl_pathc;
    if (n) globfree(&found);
    qs_free(pattern);
    return n;
}

START_TEST(a_file_of_something_else_is_kept_aside_and_stops_nothing)
{
    static const char *const strange[] = {"hello\n", "[1]\n{\"step\":1}\n", "{\"loss\":1}\n",
                                          "{\"step\":\"1\"}\n"};
    for (int i = 0; i < 4; i++) {
        char name[40];
        ck_assert_int_eq(qs_file_replace(path, strange[i], strlen(strange[i]), &e), 0);
        qs_metrics *m = opened(i == 1);
        write_steps(m, 2, 2);
        qs_metrics_close(m);
        snprintf(name, sizeof name, "metrics.damaged-%d.jsonl", i + 1);
        char *aside = test_path(dir, name), *kept = test_file_read(aside, NULL), *text = content();
        ck_assert_str_eq(kept, strange[i]);
        ck_assert_int_eq(!strncmp(text, "{\"step\":1}\n", 11), i == 1);
        qs_free(aside);
        qs_free(kept);
        qs_free(text);
    }
}
END_TEST

/* Whichever bit of a row is altered, the row goes and the others stay. */
START_TEST(an_altered_row_is_found_by_its_checksum)
{
    qs_metrics *m = opened(0);
    write_steps(m, 1, 3);
    qs_metrics_close(m);
    char *whole = content(), *second = strchr(whole, '\n') + 1, *third = strchr(second, '\n') + 1;
    char *rest = qs_printf("%.*s%s", (int)(second - whole), whole, third);
    for (char *at = second; at < third; at += 7) {
        *at ^= 2;
        ck_assert_int_eq(qs_file_replace(path, whole, strlen(whole), &e), 0);
        *at ^= 2;
        qs_metrics_close(opened(3));
        char *text = content();
        ck_assert_str_eq(text, rest);
        qs_free(text);
    }
    ck_assert_int_gt(files_like("metrics.damaged-*.jsonl"), 10);
    qs_free(whole);
    qs_free(rest);
}
END_TEST

START_TEST(a_validation_that_is_made_again_is_there_once)
{
    qs_metrics *m = opened(0);
    write_steps(m, 1, 4);
    qs_metrics_close(m);
    char *whole = content();
    ck_assert_int_eq(
        qs_metrics_open(dir, &(qs_metrics_begin){.last_step = 4, .validate_again = true}, &m, &e), 0);
    qs_metrics_eval(m, &(qs_eval_metrics){.step = 4, .eval_loss = 0.5});
    qs_metrics_close(m);
    char *again = content();
    ck_assert_str_eq(again, whole);
    qs_free(whole);
    qs_free(again);
}
END_TEST

START_TEST(a_directory_that_is_not_there_is_named)
{
    qs_metrics *m = NULL;
    ck_assert_int_eq(qs_metrics_open("/nonexistent", &(qs_metrics_begin){0}, &m, &e), -QS_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, "/nonexistent/metrics.jsonl"));
}
END_TEST

START_TEST(a_full_disk_loses_no_row_and_stops_nothing)
{
    qs_metrics *m = opened(0);
    write_steps(m, 1, 2);
    char *before = content();
    signal(SIGXFSZ,
           SIG_IGN); /* a file size limit stands for the full disk: the write comes back short, then fails */
    struct rlimit limit = {strlen(before) + 50, RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &limit), 0);
    write_steps(m, 3, 50);
    qs_metrics_sync(m);
    ck_assert_int_eq(qs_metrics_missing(m), 48 + 12);
    char *after = content();
    ck_assert_str_eq(after, before); /* whole rows only */
    limit.rlim_cur = RLIM_INFINITY;
    setrlimit(RLIMIT_FSIZE, &limit);
    write_steps(m, 51, 51); /* space again: goes on as if nothing had been */
    ck_assert_int_eq(qs_metrics_missing(m), 0);
    qs_metrics_close(m);
    qs_free(after);
    after = content();
    char *at = after;
    for (int step = 1; step <= 51; step++) {
        char row[32];
        snprintf(row, sizeof row, "{\"step\":%d,\"loss\"", step);
        at = strstr(at, row);
        ck_assert_ptr_nonnull(at);
    }
    qs_free(before);
    qs_free(after);
}
END_TEST

/* Counts `tag` in all event files of the directory. */
static int tags_in_events(const char *tag, int *files)
{
    glob_t found;
    char *pattern = test_path(dir, "events.out.tfevents.*");
    int n = 0;
    *files = 0;
    if (!glob(pattern, 0, NULL, &found)) {
        for (size_t i = 0; i < found.gl_pathc; i++, ++*files) {
            char *text;
            size_t bytes;
            ck_assert_int_eq(qs_file_read(found.gl_pathv[i], 1 << 20, &text, &bytes, &e), 0);
            for (char *p = text; (p = memmem(p, bytes - (size_t)(p - text), tag, strlen(tag))); p++) n++;
            qs_free(text);
        }
        globfree(&found);
    }
    qs_free(pattern);
    return n;
}

START_TEST(tensorboard_gets_the_same_rows_and_one_file_per_process)
{
    int files;
    write_steps_of(false);
    ck_assert_int_eq(tags_in_events("train/loss", &files), 0);
    ck_assert_int_eq(files, 0);
    write_steps_of(true);
    ck_assert_int_eq(tags_in_events("train/loss", &files), 9);
    ck_assert_int_eq(files, 1);
    ck_assert_int_eq(tags_in_events("eval/perplexity", &files), 2);
    qs_metrics *m = NULL; /* resumed: a file of its own, which tells TensorBoard where it goes on */
    ck_assert_int_eq(qs_metrics_open(dir, &(qs_metrics_begin){.last_step = 5, .tensorboard = true}, &m, &e),
                     0);
    write_steps(m, 6, 9);
    qs_metrics_close(m);
    ck_assert_int_eq(tags_in_events("train/loss", &files), 13);
    ck_assert_int_eq(files, 2);
}
END_TEST

START_TEST(a_step_allocates_nothing)
{
    qs_metrics *m = NULL;
    ck_assert_int_eq(qs_metrics_open(dir, &(qs_metrics_begin){.tensorboard = true}, &m, &e), 0);
    write_steps(m, 1, 1);
    uint64_t calls = qs_mem_read().calls;
    write_steps(m, 2, 9);
    ck_assert_uint_eq(qs_mem_read().calls, calls);
    qs_metrics_close(m);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("metrics");
    TCase *t = tcase_create("metrics");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_row_is_one_json_object_with_every_field);
    tcase_add_test(t, a_resumed_file_is_that_of_a_run_never_stopped);
    tcase_add_test(t, a_torn_last_row_is_cut_off);
    tcase_add_test(t, a_file_of_something_else_is_kept_aside_and_stops_nothing);
    tcase_add_test(t, an_altered_row_is_found_by_its_checksum);
    tcase_add_test(t, a_validation_that_is_made_again_is_there_once);
    tcase_add_test(t, a_directory_that_is_not_there_is_named);
    tcase_add_test(t, a_full_disk_loses_no_row_and_stops_nothing);
    tcase_add_test(t, tensorboard_gets_the_same_rows_and_one_file_per_process);
    tcase_add_test(t, a_step_allocates_nothing);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
