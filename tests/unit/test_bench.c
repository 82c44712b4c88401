/* bench end to end on a tiny shape: three files, whole and consistent with each other; and the comparison. */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "src/report/profile.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

static qs_err e;

static int bench(const char *dir, const char *more, const char *last)
{
    test_words w = {0};
    static const char *const fixed[] = {"--layers=4",
                                        "--steps=2",
                                        "--max_seq_length=32",
                                        "--gradient_accumulation_steps=2",
                                        "--lora_r=4",
                                        "--per_device_train_batch_size=2",
                                        "--vram=64M",
                                        "--ram=96M",
                                        "--resident_layers=0",
                                        "--stream_slots=3",
                                        "--quiet"};
    test_words_add(&w, "--out=%s", dir);
    test_words_add(&w, "--cache=%s/cache", dir);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(&w, "%s", fixed[i]);
    test_words_add(&w, "%s", more);
    if (last) test_words_add(&w, "%s", last);
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

static json_int_t number(const json_t *o, const char *key)
{
    return json_integer_value(json_object_get(o, key));
}

static double real(const json_t *o, const char *key) { return json_number_value(json_object_get(o, key)); }
static const char *text(const json_t *o, const char *key)
{
    return json_string_value(json_object_get(o, key));
}

static bool begins(const json_t *event, const char *with)
{
    return !strncmp(text(event, "name"), with, strlen(with));
}

/* The bytes that the plan has under a tag in all pools. */
static json_int_t planned(const json_t *items, const char *tag)
{
    json_int_t sum = 0;
    for (size_t i = 0; i < json_array_size(items); i++)
        if (!strcmp(text(json_array_get(items, i), "tag"), tag))
            sum += number(json_array_get(items, i), "bytes");
    return sum;
}

/* Slices of a lane follow one another or nest, as viewers ask; counters never exceed the plan; every transfer
 * is there. */
static void check_trace(const json_t *events, const json_t *items, size_t visits)
{
    size_t found = 0, reads = 0, writes = 0, counters = 0;
    for (size_t i = 0; i < json_array_size(events); i++) {
        const json_t *event = json_array_get(events, i), *value;
        const char *tag, *phase = text(event, "ph");
        ck_assert_int_eq(number(event, "pid"), 1);
        if (!strcmp(phase, "C")) {
            counters++;
            json_object_foreach((json_t *)json_object_get(event, "args"), tag, value) ck_assert_msg(
                json_integer_value(value) >= 0 && json_integer_value(value) <= planned(items, tag), "%s",
                tag);
        }
        if (strcmp(phase, "X")) continue;
        double start = real(event, "ts"), end = start + real(event, "dur");
        ck_assert(start >= 0 && end > start);
        for (size_t k = 0; k < i; k++) {
            const json_t *other = json_array_get(events, k);
            if (strcmp(text(other, "ph"), "X") || number(other, "tid") != number(event, "tid")) continue;
            double from = real(other, "ts"), to = from + real(other, "dur");
            bool apart = end <= from + 1e-3 || start >= to - 1e-3,
                 inside = start >= from - 1e-3 && end <= to + 1e-3, around = from >= start && to <= end;
            ck_assert_msg(apart || inside || around, "\"%s\" and \"%s\" cross", text(event, "name"),
                          text(other, "name"));
        }
        reads += begins(event, "read ");
        writes += begins(event, "write ");
        found += number(event, "tid") == 3 && !begins(event, "wait ") && !begins(event, "checksum ") &&
                 !begins(event, "quantise on load ");
    }
    ck_assert_uint_eq(found, visits);
    ck_assert_msg(writes > 0 && writes <= 5, "%zu writes of five blobs",
                  writes); /* those that ended at one moment are one after another, without time */
    ck_assert_uint_ge(reads, 1);
    ck_assert_uint_ge(counters, visits);
}

/* No visit has the optimizer's records to wait for. */
START_TEST(what_the_update_waits_for_is_part_of_the_step_s_waits)
{
    char *dir = test_dir_create();
    ck_assert_msg(!bench(dir, "--shape=tiny", "--adapters_on=disk"), "%s", e.text);
    json_t *root = load(dir, "profile.json"), *steps = json_object_get(root, "steps");
    double waits = 0, of_visits = 0;
    for (size_t k = 0; k < json_array_size(steps); k++) {
        const json_t *step = json_array_get(steps, k), *visits = json_object_get(step, "visits");
        waits += real(step, "wait_disk_seconds");
        for (size_t v = 0; v < json_array_size(visits); v++)
            of_visits += (double)number(json_array_get(visits, v), "disk_wait_ns") * 1e-9;
        ck_assert_double_ge(real(step, "update_seconds"), 0);
    }
    ck_assert_double_gt(waits, of_visits + 1e-7);
    json_decref(root);
    test_dir_remove(dir);
}
END_TEST

START_TEST(visits_lie_inside_their_step_and_add_up)
{
    char *dir = test_dir_create();
    ck_assert_msg(!bench(dir, "--shape=tiny", NULL), "%s", e.text);
    json_t *root = load(dir, "profile.json"), *trace = load(dir, "trace.json");
    json_t *steps = json_object_get(root, "steps");
    ck_assert_uint_eq(json_array_size(steps), 2);
    json_int_t items = 0;
    for (size_t i = 0; i < json_array_size(json_object_get(root, "items")); i++)
        items += number(json_array_get(json_object_get(root, "items"), i), "bytes");
    ck_assert_int_le(items, number(root, "vram_used") + number(root, "ram_used"));
    size_t slices = 0;
    for (size_t k = 0; k < 2; k++) {
        json_t *step = json_array_get(steps, k), *visits = json_object_get(step, "visits");
        ck_assert_int_eq(number(step, "tokens"), 2 * 2 * 32);
        double loss = json_real_value(json_object_get(step, "loss"));
        ck_assert_msg(loss > 6 && loss < 8, "loss %g; a guess among 1024 tokens costs 6.93", loss);
        ck_assert_uint_eq(json_array_size(visits),
                          2 * (4 + 1) + 2); /* four layers and one head tile both ways, embed, update */
        json_int_t sum = 0, end = 0;
        for (size_t v = 0; v < json_array_size(visits); v++) {
            json_t *visit = json_array_get(visits, v);
            ck_assert_int_ge(number(visit, "start_ns"), end);
            end = number(visit, "start_ns") + number(visit, "duration_ns");
            json_int_t parts = number(visit, "disk_wait_ns") + number(visit, "link_wait_ns") +
                               number(visit, "make_ns") + number(visit, "verify_ns") +
                               number(visit, "compute_ns");
            ck_assert_int_eq(parts, number(visit, "duration_ns"));
            sum += number(visit, "duration_ns");
            slices++;
        }
        ck_assert_int_eq(number(step, "lost_activities"), 0);
        ck_assert_msg(real(step, "predicted_step_seconds") > 0 &&
                          number(json_array_get(visits, 1), "predicted_ns") > 0,
                      "bench measures, so it predicts");
        ck_assert((double)sum * 1e-9 <= json_real_value(json_object_get(step, "step_seconds")));
    }
    ck_assert_msg(json_real_value(json_object_get(json_array_get(steps, 0), "make_seconds")) > 0,
                  "the first step makes the cache");
    ck_assert_msg(json_real_value(json_object_get(json_array_get(steps, 1), "make_seconds")) == 0,
                  "the second finds it");
    json_t *items_of_plan = json_object_get(root, "items");
    check_trace(json_object_get(trace, "traceEvents"), items_of_plan, slices);
    json_decref(root);
    json_decref(trace);

    char *path = test_path(dir, "report.html"), *page = test_file_read(path, NULL),
         *profile = test_path(dir, "profile.json");
    ck_assert(strstr(page, "prefers-color-scheme:dark") && strstr(page, "</html>") &&
              strstr(page, "layer 1"));
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

START_TEST(transfers_in_flight_together_follow_one_another_in_a_lane)
{
    qs_activity noted[] = {{100, 300, 0, QS_ACTIVITY_READ},      {110, 200, 1, QS_ACTIVITY_WRITE},
                           {90, 400, 2, QS_ACTIVITY_COPY},       {120, 300, 3, QS_ACTIVITY_READ},
                           {130, 140, 4, QS_ACTIVITY_WAIT_DISK}, {500, 600, 5, QS_ACTIVITY_READ}};
    static const uint64_t want[4][3] = {{150, 200, 1},
                                        {200, 300, 0},
                                        {300, 300, 3},
                                        {500, 600, 5}}; /* the disk's, the one before having ended at 150 */
    qs_profile_step s = {.recorder = {.activities = noted, .count = 6}};
    qs_activity lane[6];
    uint64_t until = 150;
    ck_assert_int_eq(qs_profile_lane(&s, true, &until, lane), 4);
    ck_assert_uint_eq(until, 600);
    if (lane[1].blob == 3) lane[1].blob = 0, lane[2].blob = 3; /* of equal ends either may be first */
    for (int i = 0; i < 4; i++)
        ck_assert(lane[i].start_ns == want[i][0] && lane[i].end_ns == want[i][1] &&
                  lane[i].blob == (int32_t)want[i][2]);
    ck_assert_int_eq(qs_profile_lane(&s, false, &until, lane), 1);
    ck_assert_int_eq(lane[0].blob, 2);
}
END_TEST

START_TEST(contradictions_are_refused)
{
    char *dir = test_dir_create();
    ck_assert_int_eq(bench(dir, "--quiet", NULL), -QS_EUSAGE); /* neither model nor shape */
    ck_assert_int_eq(bench(dir, "--shape=nothing", NULL), -QS_EUSAGE);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_WARN);
    Suite *suite = suite_create("bench");
    TCase *c = tcase_create("bench");
    tcase_add_test(c, visits_lie_inside_their_step_and_add_up);
    tcase_add_test(c, what_the_update_waits_for_is_part_of_the_step_s_waits);
    tcase_add_test(c, transfers_in_flight_together_follow_one_another_in_a_lane);
    tcase_add_test(c, contradictions_are_refused);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
