/* Behaviour of `plot` and of the chart beneath it: well-formed SVG, sensible ticks, gaps, thinning, bad
 * input. */
#include <check.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/report/chart.h"
#include "src/commands/commands.h"
#include "tests/support/temp_dir.h"

static char *dir, *metrics, *svg_path;
static qs_err e;

static void setup(void)
{
    dir = test_dir_create();
    metrics = test_path(dir, "metrics.jsonl");
    svg_path = test_path(dir, "curve.svg");
}
static void teardown(void)
{
    qs_free(metrics);
    qs_free(svg_path);
    test_dir_remove(dir);
}

static void write_rows(const char *text)
{
    ck_assert_int_eq(qs_file_replace(metrics, text, strlen(text), &e), 0);
}

/* Runs the command on the metrics file (twice when `twice`), with more flags; the SVG is read back. */
static int plot(const char *flag, const char *value, bool twice, char **svg)
{
    char out[] = "--out", *argv[6] = {metrics, metrics};
    int argc = twice ? 2 : 1;
    argv[argc++] = out;
    argv[argc++] = svg_path;
    if (flag) argv[argc++] = (char *)(uintptr_t)flag;
    if (value) argv[argc++] = (char *)(uintptr_t)value;
    int rc = qs_command_plot.run(argc, argv, &e);
    if (!rc && svg) ck_assert_int_eq(qs_file_read(svg_path, 1 << 22, svg, NULL, &e), 0);
    return rc;
}

static int occurrences(const char *text, const char *what)
{
    int n = 0;
    for (const char *p = text; (p = strstr(p, what)); p++) n++;
    return n;
}

/* Every element that is opened is closed, in order: enough of XML to catch a broken writer. */
static void check_well_formed(const char *svg)
{
    char open[16][16];
    int depth = 0;
    for (const char *p = svg; (p = strchr(p, '<')); p++) {
        const char *end = strchr(p, '>');
        ck_assert_ptr_nonnull(end);
        size_t n = strcspn(p + 1 + (p[1] == '/'), " />\n");
        ck_assert_uint_lt(n, 16);
        if (p[1] == '/') {
            ck_assert_int_gt(depth--, 0);
            ck_assert_msg(!strncmp(open[depth], p + 2, n) && !open[depth][n], "%.20s closes %s", p,
                          open[depth]);
        } else if (end[-1] != '/') {
            ck_assert_int_lt(depth, 16);
            snprintf(open[depth++], 16, "%.*s", (int)n, p + 1);
        }
    }
    ck_assert_int_eq(depth, 0);
}

START_TEST(a_run_gives_a_line_and_a_dot_per_validation)
{
    char *svg = NULL;
    write_rows("{\"step\":1,\"loss\":3.0}\n{\"step\":2,\"loss\":2.0}\n{\"step\":2,\"eval_loss\":2.5}\n"
               "{\"step\":3,\"loss\":1.5}\n{\"step\":4,\"loss\":1.25}\n{\"step\":4,\"eval_loss\":1.75}\n{"
               "\"step\":5,\"lo"); /* being written */
    ck_assert_msg(!plot("--title", "a <b> & c", false, &svg), "%s", e.text);
    check_well_formed(svg);
    ck_assert_int_eq(occurrences(svg, "<title>a &lt;b&gt; &amp; c</title>"), 1);
    ck_assert_int_eq(occurrences(svg, "<circle"), 3); /* two points and the legend */
    ck_assert_ptr_nonnull(strstr(svg, ">training loss 1.25</text>"));
    ck_assert_ptr_nonnull(strstr(svg, ">validation loss 1.75</text>"));
    /* steps 1 and 4 are the ends of the plot's width */
    ck_assert_ptr_nonnull(strstr(svg, "d=\"M64.0 "));
    ck_assert_ptr_nonnull(strstr(svg, "L836.0 "));
    qs_free(svg);
}
END_TEST

START_TEST(a_value_that_was_not_finite_leaves_a_gap)
{
    char *svg = NULL;
    write_rows("{\"step\":1,\"loss\":3}\n{\"step\":2,\"loss\":2}\n{\"step\":3,\"loss\":null}\n{\"step\":4,"
               "\"loss\":1}\n{\"step\":5,\"loss\":1}\n");
    ck_assert_int_eq(plot(NULL, NULL, false, &svg), 0);
    const char *line = strstr(svg, "class=\"line s0\"");
    ck_assert_ptr_nonnull(line);
    char path[400];
    snprintf(path, sizeof path, "%.*s", (int)strcspn(line, "/"), line);
    ck_assert_int_eq(occurrences(path, "M"), 2);
    ck_assert_ptr_null(strstr(svg, "nan"));
    qs_free(svg);
}
END_TEST

START_TEST(a_long_run_is_thinned_but_keeps_its_extremes)
{
    char *rows = qs_malloc(4 << 20), *svg = NULL, *to = rows;
    for (int i = 1; i <= 50000; i++)
        to += sprintf(to, "{\"step\":%d,\"loss\":%g}\n", i, i == 30000 ? 9.0 : 1.0 + 0.001 * (i % 7));
    write_rows(rows);
    ck_assert_int_eq(plot("--smooth", "1", false, &svg), 0);
    check_well_formed(svg);
    ck_assert_uint_lt(strlen(svg), 100000);
    ck_assert_ptr_nonnull(
        strstr(svg, ">8</text>")); /* the axis reaches up to the spike, and so does the line: */
    double highest = 1e9;
    for (const char *p = strstr(svg, "class=\"line s0\""); (p = strpbrk(p, "L\"")) && *(p + 1) != '/'; p++) {
        double x, y;
        if (*p == 'L' && sscanf(p + 1, "%lf %lf", &x, &y) == 2 && y < highest) highest = y;
    }
    ck_assert_double_lt(highest, 110);
    qs_free(rows);
    qs_free(svg);
}
END_TEST

START_TEST(smoothing_averages_and_keeps_the_raw_values_behind)
{
    char rows[20000] = "", *svg = NULL;
    for (int i = 1; i <= 200; i++)
        sprintf(rows + strlen(rows), "{\"step\":%d,\"loss\":%d}\n", i, 1 + 2 * (i % 2));
    write_rows(rows);
    ck_assert_int_eq(plot("--smooth", "50", false, &svg), 0);
    ck_assert_int_eq(occurrences(svg, "faint\" d="), 1);
    const char *label = strstr(svg, ">training loss ");
    ck_assert_ptr_nonnull(label);
    ck_assert_double_eq_tol(strtod(label + 15, NULL), 2, 0.05); /* the mean of 1 and 3 */
    qs_free(svg);
    write_rows("{\"step\":1,\"loss\":2}\n{\"step\":2,\"loss\":2}\n");
    ck_assert_int_eq(plot("--smooth", "50", false, &svg), 0);
    ck_assert_ptr_nonnull(strstr(svg, ">training loss 2 (smoothed)<")); /* right from the start */
    qs_free(svg);
}
END_TEST

START_TEST(several_runs_are_named_and_other_fields_drawn)
{
    char *svg = NULL;
    write_rows("{\"step\":1,\"loss\":3,\"grad_norm\":0.5}\n{\"step\":2,\"loss\":2,\"grad_norm\":0.25}\n{"
               "\"step\":2,\"eval_loss\":2}\n");
    ck_assert_int_eq(plot("--field", "grad_norm", true, &svg), 0);
    check_well_formed(svg);
    ck_assert_int_eq(occurrences(svg, "<circle"), 0);
    ck_assert_int_eq(occurrences(svg, strrchr(dir, '/') + 1),
                     2); /* two entries, called by the run's directory */
    qs_free(svg);
}
END_TEST

START_TEST(bad_metrics_are_answered_with_file_and_line)
{
    ck_assert_int_eq(plot(NULL, NULL, false, NULL), -QS_EMISSING);
    write_rows("{\"step\":1,\"loss\":3}\nnonsense\n");
    ck_assert_int_eq(plot(NULL, NULL, false, NULL), -QS_EFORMAT);
    ck_assert_ptr_nonnull(strstr(e.text, "metrics.jsonl:2: expected a metrics row"));
    write_rows("{\"step\":1,\"loss\":3}\n");
    ck_assert_int_eq(plot("--field", "lss", false, NULL), -QS_EMISSING);
    ck_assert_ptr_nonnull(strstr(e.text, "no row has \"lss\""));
    write_rows("");
    ck_assert_int_eq(plot(NULL, NULL, false, NULL), -QS_EMISSING);
    char *argv[] = {svg_path};
    ck_assert_int_eq(qs_command_plot.run(0, argv, &e), -QS_EUSAGE);
}
END_TEST

START_TEST(flat_and_single_values_still_make_a_chart)
{
    char *svg = NULL;
    write_rows("{\"step\":7,\"loss\":0}\n");
    ck_assert_int_eq(plot(NULL, NULL, false, &svg), 0);
    check_well_formed(svg);
    ck_assert(!strstr(svg, "nan") && !strstr(svg, "inf"));
    qs_free(svg);
}
END_TEST

START_TEST(logarithmic_axes_mark_powers_and_leave_out_what_has_no_logarithm)
{
    char *svg;
    write_rows("{\"step\":64,\"loss\":0.5}\n{\"step\":512,\"loss\":0}\n{\"step\":1024,\"loss\":8}\n{\"step\":"
               "8192,\"loss\":64}\n");
    ck_assert_msg(!plot("--log", NULL, false, &svg), "%s", e.text);
    check_well_formed(svg);
    ck_assert(strstr(svg, ">64<") && strstr(svg, ">128<") && strstr(svg, ">8192<") && strstr(svg, ">0.5<") &&
              strstr(svg, ">50<"));
    ck_assert_msg(!strstr(svg, ">100<") && !strstr(svg, "nan") && !strstr(svg, "inf"), "%s", svg);
    ck_assert_int_eq(occurrences(svg, "<circle"), 3 + 1); /* the points, and the legend's */
    qs_free(svg);
}
END_TEST

START_TEST(ticks_are_round_and_few)
{
    for (double low = -3; low < 4; low += 0.7)
        for (double span = 1e-6; span < 1e7; span *= 3.7) {
            double first, step;
            qs_chart_ticks(low, low + span, 7, &first, &step);
            double unit = step / pow(10, floor(log10(step) + 1e-9));
            ck_assert_msg(fabs(unit - 1) < 1e-6 || fabs(unit - 2) < 1e-6 || fabs(unit - 5) < 1e-6, "%g",
                          step);
            ck_assert_double_le(span / step, 7.0001);
            ck_assert_double_ge(span / step, 2.4);
            ck_assert_double_ge(first, low - 1e-6 * span);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("plot");
    TCase *t = tcase_create("plot");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_run_gives_a_line_and_a_dot_per_validation);
    tcase_add_test(t, a_value_that_was_not_finite_leaves_a_gap);
    tcase_add_test(t, a_long_run_is_thinned_but_keeps_its_extremes);
    tcase_add_test(t, smoothing_averages_and_keeps_the_raw_values_behind);
    tcase_add_test(t, several_runs_are_named_and_other_fields_drawn);
    tcase_add_test(t, bad_metrics_are_answered_with_file_and_line);
    tcase_add_test(t, flat_and_single_values_still_make_a_chart);
    tcase_add_test(t, logarithmic_axes_mark_powers_and_leave_out_what_has_no_logarithm);
    tcase_add_test(t, ticks_are_round_and_few);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
