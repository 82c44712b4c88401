/* bench end to end on a tiny shape: three files, whole and consistent with each other; and the comparison. */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "src/commands/profile.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

static qs_err e;

static int bench(const char *dir, const char *more)
{
    test_words w = {0};
    static const char *const fixed[] = {"--layers=2", "--steps=2", "--max_seq_length=32", "--gradient_accumulation_steps=2", "--lora_r=4",
                                        "--per_device_train_batch_size=2", "--vram=64M", "--ram=96M", "--resident_layers=0", "--quiet"};
    test_words_add(&w, "--out=%s", dir);
    test_words_add(&w, "--cache=%s/cache", dir);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(&w, "%s", fixed[i]);
    test_words_add(&w, "%s", more);
    int rc = qs_command_bench.run(w.count, w.word, &e);
    test_words_free(&w);
    return rc;
}

static json_t *load(const char *dir, const char *name)
{
    char *path = test_path(dir, name);
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    ck_assert_msg(root != NULL, "%s: %s", path, why.text);
    qs_free(path);
    return root;
}

static json_int_t number(const json_t *o, const char *key) { return json_integer_value(json_object_get(o, key)); }

START_TEST(visits_lie_inside_their_step_and_add_up)
{
    char *dir = test_dir_create();
    ck_assert_msg(!bench(dir, "--shape=tiny"), "%s", e.text);
    json_t *root = load(dir, "profile.json"), *trace = load(dir, "trace.json");
    json_t *steps = json_object_get(root, "steps");
    ck_assert_uint_eq(json_array_size(steps), 2);
    json_int_t items = 0;
    for (size_t i = 0; i < json_array_size(json_object_get(root, "items")); i++) items += number(json_array_get(json_object_get(root, "items"), i), "bytes");
    ck_assert_int_le(items, number(root, "vram_used") + number(root, "ram_used"));
    size_t slices = 0;
    for (size_t k = 0; k < 2; k++) {
        json_t *step = json_array_get(steps, k), *visits = json_object_get(step, "visits");
        ck_assert_int_eq(number(step, "tokens"), 2 * 2 * 32);
        double loss = json_real_value(json_object_get(step, "loss"));
        ck_assert_msg(loss > 6 && loss < 8, "loss %g; a guess among 1024 tokens costs 6.93", loss);
        ck_assert_uint_eq(json_array_size(visits), 2 * (2 + 1) + 2); /* two layers and one head tile both ways, embed, update */
        json_int_t sum = 0, end = 0;
        for (size_t v = 0; v < json_array_size(visits); v++) {
            json_t *visit = json_array_get(visits, v);
            ck_assert_int_ge(number(visit, "start_ns"), end);
            end = number(visit, "start_ns") + number(visit, "duration_ns");
            ck_assert_int_le(number(visit, "disk_wait_ns") + number(visit, "make_ns"), number(visit, "duration_ns"));
            sum += number(visit, "duration_ns");
            slices++;
        }
        ck_assert((double)sum * 1e-9 <= json_real_value(json_object_get(step, "step_seconds")));
    }
    ck_assert_msg(json_real_value(json_object_get(json_array_get(steps, 0), "make_seconds")) > 0, "the first step makes the cache");
    ck_assert_msg(json_real_value(json_object_get(json_array_get(steps, 1), "make_seconds")) == 0, "the second finds it");
    size_t found = 0;
    json_t *events = json_object_get(trace, "traceEvents");
    for (size_t i = 0; i < json_array_size(events); i++) {
        json_t *event = json_array_get(events, i);
        found += !strcmp(json_string_value(json_object_get(event, "ph")), "X") && number(event, "tid") == 1;
    }
    ck_assert_uint_eq(found, slices);
    json_decref(root);
    json_decref(trace);

    char *path = test_path(dir, "report.html"), *page = test_file_read(path, NULL), *profile = test_path(dir, "profile.json");
    ck_assert(strstr(page, "prefers-color-scheme:dark") && strstr(page, "</html>") && strstr(page, "layer 1"));
    ck_assert_msg(!strstr(page, "http"), "the report fetches something");
    ck_assert_msg(!strstr(page, "nan") && !strstr(page, "inf<"), "the report has a number that is none");
    FILE *null = fopen("/dev/null", "w");
    ck_assert_msg(!qs_profile_compare(profile, profile, null, &e), "%s", e.text);
    ck_assert_int_eq(qs_profile_compare(profile, path, null, &e), -QS_EFORMAT);
    fclose(null);
    qs_free(path);
    qs_free(page);
    qs_free(profile);
    test_dir_remove(dir);
}
END_TEST

START_TEST(contradictions_are_refused)
{
    char *dir = test_dir_create();
    ck_assert_int_eq(bench(dir, "--quiet"), -QS_EUSAGE); /* neither model nor shape */
    ck_assert_int_eq(bench(dir, "--shape=nothing"), -QS_EUSAGE);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_WARN);
    Suite *suite = suite_create("bench");
    TCase *c = tcase_create("bench");
    tcase_add_test(c, visits_lie_inside_their_step_and_add_up);
    tcase_add_test(c, contradictions_are_refused);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
