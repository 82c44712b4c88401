/* Behaviour of src/train/verdict and src/base/duration: what a plan means in hours, bytes and kilowatt-hours.
 */
#include <check.h>
#include <string.h>

#include "src/base/duration.h"
#include "src/train/verdict.h"

static qs_options o;
static qs_hardware card;
static qs_engine g;
static qs_err e;

static void plan(const char *const *words, int count, const char *shape, const char *name)
{
    ck_assert_msg(!qs_options_parse(&o, count, (char **)(uintptr_t)words, NULL, 0, &e), "%s", e.text);
    g.shape = shape;
    if (name) {
        ck_assert_msg(!qs_hardware_find(name, &card, &e), "%s", e.text);
        g.hardware = &card;
        g.host = (qs_hardware_host){.nvme_gbs = 6.8};
    }
    ck_assert_msg(!qs_engine_prepare(&o, NULL, NULL, &g, &e), "%s", e.text);
}

static void teardown(void)
{
    qs_engine_close(&g);
    qs_hardware_free(&card);
    qs_options_free(&o);
}

START_TEST(durations_read_as_people_say_them)
{
    static const struct {
        double seconds;
        const char *text;
    } cases[] = {{0, "0s"},        {59.4, "59s"},     {59.6, "1m00s"}, {3599, "59m59s"}, {7500, "2h05m"},
                 {86400, "1d00h"}, {1.9e6, "21d23h"}, {-1, "-"},       {2e9, "-"}};
    char text[16];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        ck_assert_str_eq(qs_format_duration(cases[i].seconds, text), cases[i].text);
}
END_TEST

START_TEST(the_whole_run_is_all_steps_and_its_energy_is_the_boards)
{
    const char *words[] = {"--vram=20G", "--ram=60G", "--max_steps=100", "--checkpoints_on=disk"};
    plan(words, 4, "llama-3-8b", "rtx4090");
    qs_engine_predict(&g, false);
    qs_verdict v = qs_verdict_of(&g);
    double rest = 99 * g.prediction.step_seconds, blobs = 0;
    ck_assert_int_eq(v.steps, 100);
    ck_assert_double_eq_tol(v.seconds, g.prediction.first_step_seconds + rest, 1e-6 * v.seconds);
    ck_assert_double_eq_tol(v.kwh, 450 * v.seconds / 3.6e6, 1e-9);
    for (int b = 0; b < g.plan.blobs; b++) blobs += (double)g.blob_bytes[b];
    ck_assert_uint_gt(g.prediction.disk_write_bytes, 0);
    ck_assert_double_eq_tol(v.written_bytes, blobs + 100 * (double)g.prediction.disk_write_bytes, 1);
}
END_TEST

START_TEST(what_is_not_known_is_not_said)
{
    const char *words[] = {"--vram=64M", "--ram=64M", "--device=cpu", "--max_seq_length=64"};
    char *text;
    size_t bytes;
    plan(words, 4, "tiny", NULL);
    qs_verdict v = qs_verdict_of(&g); /* nothing was measured */
    ck_assert_int_eq(v.steps, 0);
    ck_assert_double_eq(v.seconds, 0);
    ck_assert_double_eq(v.step_seconds, 0);
    FILE *f = open_memstream(&text, &bytes);
    qs_verdict_print(&g, &v, f);
    fclose(f);
    ck_assert_ptr_nonnull(strstr(text, "fits: "));
    ck_assert_ptr_nonnull(strstr(text, "not known"));
    ck_assert_ptr_null(strstr(text, "kWh"));
    json_t *j = qs_verdict_json(&g, &v);
    ck_assert(json_is_true(json_object_get(j, "fits")) && json_is_null(json_object_get(j, "seconds")));
    ck_assert_int_eq(json_integer_value(json_object_get(json_object_get(j, "vram"), "budget_bytes")),
                     64 << 20);
    json_decref(j);
    free(text);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("verdict");
    TCase *t = tcase_create("verdict");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, durations_read_as_people_say_them);
    tcase_add_test(t, the_whole_run_is_all_steps_and_its_energy_is_the_boards);
    tcase_add_test(t, what_is_not_known_is_not_said);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
