#include "src/commands/profile.h"

#include <string.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/memory.h"

enum { PROFILE_MAX_BYTES = 256 << 20, FORMAT = 1 };

qs_profile_totals qs_profile_total(const qs_profile *p, int step)
{
    const qs_profile_step *s = &p->steps[step];
    qs_profile_totals t = {.seconds = (double)(s->end_ns - s->start_ns) * 1e-9, .update = (double)(s->end_ns - s->swept_ns) * 1e-9};
    for (int32_t v = 0; v < p->schedule->count; v++) {
        t.disk_wait += (double)s->visits[v].disk_wait_ns * 1e-9;
        t.link_wait += (double)s->visits[v].link_wait_ns * 1e-9;
        t.make += (double)s->visits[v].make_ns * 1e-9;
    }
    t.tokens_per_second = (double)s->tokens / t.seconds;
    t.gflops = 6e-9 * (double)qs_architecture_parameters(&p->engine->architecture) * t.tokens_per_second;
    t.disk_bytes_per_second = (double)s->disk_read_bytes / t.seconds;
    return t;
}

static int write_json(json_t *root, const char *path, qs_err *e)
{
    size_t n = json_dumpb(root, NULL, 0, JSON_COMPACT);
    char *text = qs_malloc(n);
    json_dumpb(root, text, n, JSON_COMPACT);
    int rc = qs_file_replace(path, text, n, e);
    qs_free(text);
    json_decref(root);
    return rc;
}

/* ---- profile.json -------------------------------------------------------------------------------------------------------------- */

static json_t *visit_json(const qs_profile *p, int32_t v, const qs_visit_time *t, uint64_t origin)
{
    const qs_visit *visit = &p->schedule->visits[v];
    char name[32];
    qs_visit_name(visit, name);
    return json_pack("{s:s, s:i, s:I, s:I, s:I, s:I, s:I, s:I, s:I}", "name", name, "blob", visit->blob, "blob_bytes",
                     (json_int_t)(visit->blob < 0 ? 0 : p->engine->blob_bytes[visit->blob]), "start_ns",
                     (json_int_t)(t->start_ns ? t->start_ns - origin : 0), "duration_ns", (json_int_t)(t->end_ns - t->start_ns), "disk_wait_ns",
                     (json_int_t)t->disk_wait_ns, "link_wait_ns", (json_int_t)t->link_wait_ns, "make_ns", (json_int_t)t->make_ns,
                     "disk_read_bytes", (json_int_t)t->disk_read_bytes);
}

static json_t *step_json(const qs_profile *p, int step)
{
    const qs_profile_step *s = &p->steps[step];
    qs_profile_totals t = qs_profile_total(p, step);
    json_t *visits = json_array();
    for (int32_t v = 0; v < p->schedule->count; v++) json_array_append_new(visits, visit_json(p, v, &s->visits[v], p->steps[0].start_ns));
    return json_pack("{s:f, s:I, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:f, s:I, s:I, s:I, s:o}", "loss", s->loss, "tokens", (json_int_t)s->tokens,
                     "step_seconds", t.seconds, "tokens_per_second", t.tokens_per_second, "gflops_6n", t.gflops, "wait_disk_seconds", t.disk_wait,
                     "wait_link_seconds", t.link_wait, "make_seconds", t.make, "update_seconds", t.update, "disk_bytes_per_second",
                     t.disk_bytes_per_second, "disk_read_bytes", (json_int_t)s->disk_read_bytes, "disk_write_bytes",
                     (json_int_t)s->disk_write_bytes, "link_bytes", (json_int_t)s->link_bytes, "visits", visits);
}

int qs_profile_write_json(const qs_profile *p, const char *path, qs_err *e)
{
    const qs_plan *plan = &p->engine->plan;
    json_t *steps = json_array(), *items = json_array();
    for (int i = 0; i < p->count; i++) json_array_append_new(steps, step_json(p, i));
    for (int i = 0; i < plan->item_count; i++)
        json_array_append_new(items, json_pack("{s:s, s:s, s:I}", "tag", plan->items[i].tag, "pool", qs_pool_name(plan->items[i].pool), "bytes",
                                               (json_int_t)plan->items[i].bytes));
    return write_json(json_pack("{s:i, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "format", FORMAT, "model", p->model, "device",
                                p->engine->device->info.name, "parameters",
                                (json_int_t)qs_architecture_parameters(&p->engine->architecture), "vram_bytes", (json_int_t)plan->vram_bytes,
                                "vram_used", (json_int_t)plan->vram_used, "ram_bytes", (json_int_t)plan->ram_bytes, "ram_used",
                                (json_int_t)plan->ram_used, "peak_rss_bytes", (json_int_t)qs_rss_peak_bytes(), "streamed_bytes",
                                (json_int_t)plan->streamed_bytes, "items", items, "steps", steps),
                      path, e);
}

/* ---- the trace: https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU ----------------------------------- */

enum { LANE_COMPUTE = 1, LANE_DISK, LANE_LINK, LANE_UPDATE };

static void slice(json_t *events, int lane, const char *name, uint64_t start_ns, uint64_t ns)
{
    if (ns)
        json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:i, s:f, s:f}", "name", name, "ph", "X", "pid", 1, "tid", lane, "ts",
                                                (double)start_ns * 1e-3, "dur", (double)ns * 1e-3));
}

static void lane(json_t *events, int number, const char *name)
{
    json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:i, s:{s:s}}", "name", "thread_name", "ph", "M", "pid", 1, "tid", number, "args",
                                            "name", name));
}

/* Pools are mapped whole before the first step, so each counter is level. */
static void pool_counters(json_t *events, const qs_profile *p, double at_us)
{
    for (int k = 0; k < QS_POOL_COUNT; k++)
        json_array_append_new(events, json_pack("{s:s, s:s, s:i, s:f, s:{s:I}}", "name", qs_pool_name((qs_pool)k), "ph", "C", "pid", 1, "ts", at_us,
                                                "args", "bytes", (json_int_t)p->engine->plan.pool_bytes[k]));
}

int qs_profile_write_trace(const qs_profile *p, const char *path, qs_err *e)
{
    json_t *events = json_array();
    uint64_t origin = p->steps[0].start_ns;
    lane(events, LANE_COMPUTE, "visits");
    lane(events, LANE_DISK, "waiting for the disk");
    lane(events, LANE_LINK, "waiting for the link");
    lane(events, LANE_UPDATE, "update");
    pool_counters(events, p, 0);
    for (int i = 0; i < p->count; i++) {
        const qs_profile_step *s = &p->steps[i];
        for (int32_t v = 0; v < p->schedule->count; v++) {
            const qs_visit_time *t = &s->visits[v];
            char name[32];
            if (!t->start_ns) continue;
            qs_visit_name(&p->schedule->visits[v], name);
            slice(events, LANE_COMPUTE, name, t->start_ns - origin, t->end_ns - t->start_ns);
            slice(events, LANE_DISK, name, t->start_ns - origin, t->disk_wait_ns);
            slice(events, LANE_LINK, name, t->start_ns - origin + t->disk_wait_ns, t->link_wait_ns);
        }
        slice(events, LANE_UPDATE, "update", s->swept_ns - origin, s->end_ns - s->swept_ns);
    }
    pool_counters(events, p, (double)(p->steps[p->count - 1].end_ns - origin) * 1e-3);
    return write_json(json_pack("{s:o, s:s}", "traceEvents", events, "displayTimeUnit", "ms"), path, e);
}

/* ---- tables --------------------------------------------------------------------------------------------------------------------- */

void qs_profile_print(const qs_profile *p, FILE *f)
{
    fprintf(f, "%5s %9s %10s %10s %11s %11s %9s %10s %9s\n", "step", "seconds", "tokens/s", "GFLOP/s", "disk wait s", "link wait s", "make s",
            "disk GB/s", "loss");
    for (int i = 0; i < p->count; i++) {
        qs_profile_totals t = qs_profile_total(p, i);
        fprintf(f, "%5d %9.3f %10.1f %10.1f %11.3f %11.3f %9.3f %10.3f %9.4f\n", i + 1, t.seconds, t.tokens_per_second, t.gflops, t.disk_wait,
                t.link_wait, t.make, t.disk_bytes_per_second * 1e-9, p->steps[i].loss);
    }
}

static int load(const char *path, json_t **out, const json_t **last, qs_err *e)
{
    char *text;
    size_t bytes;
    QS_TRY(qs_file_read(path, PROFILE_MAX_BYTES, &text, &bytes, e));
    int rc = qs_json_parse(text, bytes, path, out, e);
    qs_free(text);
    QS_TRY(rc);
    const json_t *steps = json_object_get(*out, "steps");
    if (!json_array_size(steps)) QS_FAIL(e, QS_EFORMAT, "%s: has no steps; expected a profile.json written by bench", path);
    *last = json_array_get(steps, json_array_size(steps) - 1);
    return 0;
}

static void compare_line(FILE *f, const char *key, const json_t *a, const json_t *b)
{
    double x = json_number_value(json_object_get(a, key)), y = json_number_value(json_object_get(b, key));
    fprintf(f, "  %-24s %14.6g %14.6g", key, x, y);
    if (x > 0) fprintf(f, " %9.3f\n", y / x);
    else fprintf(f, " %9s\n", "-");
}

int qs_profile_compare(const char *first, const char *second, FILE *f, qs_err *e)
{
    static const char *const of_run[] = {"parameters", "vram_used", "ram_used", "peak_rss_bytes", "streamed_bytes"};
    static const char *const of_step[] = {"tokens", "step_seconds", "tokens_per_second", "gflops_6n", "wait_disk_seconds", "wait_link_seconds",
                                          "make_seconds", "update_seconds", "disk_read_bytes", "link_bytes", "loss"};
    json_t *a = NULL, *b = NULL;
    const json_t *x, *y;
    int rc = load(first, &a, &x, e);
    if (!rc) rc = load(second, &b, &y, e);
    if (!rc) {
        fprintf(f, "a: %s\nb: %s\n  %-24s %14s %14s %9s\n", first, second, "", "a", "b", "b / a");
        for (size_t i = 0; i < sizeof of_run / sizeof *of_run; i++) compare_line(f, of_run[i], a, b);
        for (size_t i = 0; i < sizeof of_step / sizeof *of_step; i++) compare_line(f, of_step[i], x, y);
    }
    json_decref(a);
    json_decref(b);
    return rc;
}
