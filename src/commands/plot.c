/* plot.c - `qlora-stream plot RUN/metrics.jsonl... --out curve.svg`: a run's curve, or several compared. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/report/chart.h"
#include "src/commands/commands.h"
#include "src/options/option.h"

typedef struct flags {
    char *out, *title, *field, *x_label, *y_label;
    int64_t smooth;
    bool log;
    uint8_t source[7];
} flags;

static const qs_option rows[] = {
    {.name = "out",
     .type = QS_OPT_PATH,
     .offset = offsetof(flags, out),
     .group = "Options",
     .help = "SVG file to write; default: standard output"},
    {.name = "title",
     .type = QS_OPT_STRING,
     .offset = offsetof(flags, title),
     .group = "Options",
     .help = "heading"},
    {.name = "field",
     .type = QS_OPT_STRING,
     .offset = offsetof(flags, field),
     .fallback = "loss",
     .group = "Options",
     .help = "what to draw over the steps; with loss the validation losses are drawn too"},
    {.name = "smooth",
     .type = QS_OPT_INT,
     .offset = offsetof(flags, smooth),
     .fallback = "0",
     .min = 0,
     .max = 1000000,
     .group = "Options",
     .help = "average over about N steps, the raw values pale behind it; 0: a fiftieth of the run, 1: no "
             "average"},
    {.name = "x_label",
     .type = QS_OPT_STRING,
     .offset = offsetof(flags, x_label),
     .fallback = "optimizer step",
     .group = "Options",
     .help = "what \"step\" counts"},
    {.name = "y_label",
     .type = QS_OPT_STRING,
     .offset = offsetof(flags, y_label),
     .group = "Options",
     .help = "what the field is; default: its name"},
    {.name = "log",
     .type = QS_OPT_BOOL,
     .offset = offsetof(flags, log),
     .fallback = "false",
     .group = "Options",
     .help = "logarithmic axes, every value marked: for a few measurements over sizes"},
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(flags, source)};

/* ---- reading metrics.jsonl --------------------------------------------------------------------------- */

typedef struct points {
    double *x, *y;
    int count, capacity;
} points;

static void add_point(points *p, double x, double y)
{
    if (p->count == p->capacity) {
        p->capacity = p->capacity ? 2 * p->capacity : 256;
        p->x = qs_realloc(p->x, (size_t)p->capacity * sizeof *p->x);
        p->y = qs_realloc(p->y, (size_t)p->capacity * sizeof *p->y);
    }
    p->x[p->count] = x;
    p->y[p->count++] = y;
}

/* Takes `field` of a row into p; null (a value that was not finite) leaves a gap. */
static void take(points *p, const json_t *row, const char *field)
{
    json_t *v = json_object_get(row, field);
    if (v)
        add_point(p, json_number_value(json_object_get(row, "step")),
                  json_is_number(v) ? json_number_value(v) : NAN);
}

static int read_metrics(const char *path, const char *field, points *train, points *eval, qs_err *e)
{
    char line[4096];
    int fd;
    QS_TRY(qs_file_open(path, &fd, e));
    FILE *f = fdopen(fd, "r");
    if (!f) QS_FAIL(e, QS_EIO, "%s: cannot read: %s", path, strerror(errno));
    int rc = 0;
    for (int number = 1; !rc && fgets(line, sizeof line, f); number++) {
        json_error_t error;
        json_t *row = json_loads(line, 0, &error);
        bool torn = !row && !strchr(line, '\n') && feof(f); /* the run may be writing it right now */
        if (!torn && !json_is_number(json_object_get(row, "step")))
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                            "%s:%d: expected a metrics row with a \"step\"", path, number);
        if (row && !rc) {
            take(train, row, field);
            if (!strcmp(field, "loss")) take(eval, row, "eval_loss");
        }
        json_decref(row);
    }
    fclose(f);
    if (!rc && !train->count && !eval->count) QS_FAIL(e, QS_EMISSING, "%s: no row has \"%s\"", path, field);
    return rc;
}

/* Exponential mean with a window of about n rows, corrected for its start (as Adam's moments are). */
static void smooth(const points *in, int64_t n, points *out)
{
    double keep = 1 - 2.0 / (double)(n + 1), sum = 0, weight = 0;
    for (int i = 0; i < in->count; i++) {
        if (isfinite(in->y[i])) {
            sum = keep * sum + (1 - keep) * in->y[i];
            weight = keep * weight + (1 - keep);
        }
        add_point(out, in->x[i], isfinite(in->y[i]) ? sum / weight : NAN);
    }
}

/* ---- a run's lines ----------------------------------------------------------------------------------- */

typedef struct run_curves {
    points raw, mean, eval;
    char *train_label, *eval_label;
} run_curves;

static void free_points(points *p)
{
    qs_free(p->x);
    qs_free(p->y);
}

static double last_value(const points *p)
{
    for (int i = p->count; i-- > 0;)
        if (isfinite(p->y[i])) return p->y[i];
    return NAN;
}

/* "runs/a/metrics.jsonl" is called a, other files by their name. */
static char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    if (!slash || strcmp(slash + 1, "metrics.jsonl")) return qs_strdup(slash ? slash + 1 : path);
    const char *start = slash;
    while (start > path && start[-1] != '/') start--;
    return qs_strndup(start, (size_t)(slash - start));
}

static int read_run(const char *path, const flags *o, bool alone, run_curves *r, qs_err *e)
{
    QS_TRY(read_metrics(path, o->field, &r->raw, &r->eval, e));
    int64_t window = o->smooth ? o->smooth : r->raw.count / 50;
    if (window > 1) smooth(&r->raw, window, &r->mean);
    char *name = alone ? qs_strdup(o->field) : name_of(path);
    const char *what = strcmp(o->field, "loss") ? "" : alone ? "training " : "";
    r->train_label = qs_printf("%s%s %.4g%s", what, name, last_value(window > 1 ? &r->mean : &r->raw),
                               window > 1 ? " (smoothed)" : "");
    r->eval_label = qs_printf("%s%s %.4g", alone ? "validation loss" : name, alone ? "" : " validation",
                              last_value(&r->eval));
    qs_free(name);
    return 0;
}

static int add_series(const run_curves *r, int number, bool alone, bool dots, qs_chart_series *s)
{
    int n = 0, color = alone ? 0 : number;
    bool smoothed = r->mean.count > 0;
    const points *line = smoothed ? &r->mean : &r->raw;
    if (smoothed) s[n++] = (qs_chart_series){NULL, r->raw.x, r->raw.y, r->raw.count, color, true, false};
    if (line->count)
        s[n++] = (qs_chart_series){r->train_label, line->x, line->y, line->count, color, false, dots};
    if (r->eval.count)
        s[n++] = (qs_chart_series){r->eval_label,     r->eval.x, r->eval.y, r->eval.count,
                                   alone ? 1 : color, false,     true};
    return n;
}

/* Through a file beside it, so that a failure leaves an older chart as it was. */
static int write_chart(const qs_chart *c, const char *path, qs_err *e)
{
    if (!path) return qs_chart_write_svg(stdout, c), 0;
    char *partial = qs_printf("%s.tmp", path);
    FILE *f = fopen(partial, "w");
    bool failed = !f;
    if (f) {
        qs_chart_write_svg(f, c);
        failed = fclose(f) != 0;
    }
    if (!failed) failed = rename(partial, path) != 0;
    int why = errno;
    if (failed) remove(partial);
    qs_free(partial);
    if (failed) QS_FAIL(e, QS_EIO, "%s: cannot write the chart: %s", path, strerror(why));
    return 0;
}

static int draw(const qs_strings *files, const flags *o, qs_err *e)
{
    bool alone = files->count == 1;
    run_curves *runs = qs_calloc((size_t)files->count, sizeof *runs);
    qs_chart_series *series = qs_calloc((size_t)files->count * 3, sizeof *series);
    int rc = 0, count = 0;
    for (int i = 0; !rc && i < files->count; i++) {
        rc = read_run(files->items[i], o, alone, &runs[i], e);
        if (!rc) count += add_series(&runs[i], i, alone, o->log, series + count);
    }
    if (!rc) {
        bool loss = !strcmp(o->field, "loss");
        const char *y = o->y_label ? o->y_label : loss ? "loss (nats per token)" : o->field;
        qs_chart c = {o->title ? o->title : o->field, o->x_label, y, series, count, o->log};
        rc = write_chart(&c, o->out, e);
    }
    for (int i = 0; i < files->count; i++) {
        free_points(&runs[i].raw);
        free_points(&runs[i].mean);
        free_points(&runs[i].eval);
        qs_free(runs[i].train_label);
        qs_free(runs[i].eval_label);
    }
    qs_free(runs);
    qs_free(series);
    return rc;
}

static void help(FILE *f)
{
    fprintf(f, "usage: qlora-stream plot RUN/metrics.jsonl... [--out curve.svg]\n\n"
               "Draws training and validation loss over the optimizer steps as an SVG; several files are "
               "drawn into one chart.\n");
    qs_option_print_help(f, &(qs_option_set){&table, &(flags){0}}, 1);
}

static int run(int argc, char **argv, qs_err *e)
{
    flags o = {0};
    qs_strings files = {0};
    qs_option_set set = {&table, &o};
    qs_option_defaults(&set, 1);
    int rc = qs_option_read_args(&set, 1, argc, argv, &files, e);
    if (!rc && !files.count)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__, "expected a metrics.jsonl file to draw");
    if (!rc) rc = draw(&files, &o, e);
    qs_strings_clear(&files);
    qs_option_clear(&set, 1);
    return rc;
}

const qs_command qs_command_plot = {"plot", "draw the loss of runs as an SVG chart", help, run};
