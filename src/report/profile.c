#include "src/report/profile.h"

#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/memory.h"

enum { PROFILE_MAX_BYTES = 256 << 20, FORMAT = 1 };

qs_profile_split qs_profile_visit(const qs_profile *p, int step, int32_t v)
{
    const qs_profile_step *s = &p->steps[step];
    const qs_visit_time *t = &s->visits[v];
    qs_profile_split out = {.disk_wait = t->disk_wait_ns, .link_wait = t->link_wait_ns, .make = t->make_ns};
    for (int32_t i = 0; i < s->recorder.count; i++) {
        const qs_activity *a = &s->recorder.activities[i];
        if (a->kind == QS_ACTIVITY_VERIFY && a->start_ns >= t->start_ns && a->end_ns <= t->end_ns)
            out.verify += a->end_ns - a->start_ns;
    }
    uint64_t other = out.disk_wait + out.link_wait + out.make + out.verify, all = t->end_ns - t->start_ns;
    out.compute = all > other ? all - other : 0;
    return out;
}

static int by_end(const void *a, const void *b)
{
    const qs_activity *x = a, *y = b;
    return x->end_ns < y->end_ns ? -1 : x->end_ns > y->end_ns;
}

int qs_profile_lane(const qs_profile_step *s, bool disk, uint64_t *until, qs_activity *out)
{
    int n = 0;
    for (int32_t i = 0; i < s->recorder.count; i++) {
        qs_activity_kind kind = s->recorder.activities[i].kind;
        if (disk ? kind == QS_ACTIVITY_READ || kind == QS_ACTIVITY_WRITE : kind == QS_ACTIVITY_COPY)
            out[n++] = s->recorder.activities[i];
    }
    qsort(out, (size_t)n, sizeof *out, by_end);
    for (int i = 0; i < n; i++) {
        if (out[i].start_ns < *until) out[i].start_ns = *until;
        if (out[i].end_ns < out[i].start_ns) out[i].end_ns = out[i].start_ns;
        *until = out[i].end_ns;
    }
    return n;
}

/* Seconds in which a step's lane was busy. */
static double lane_seconds(const qs_profile *p, int step, bool disk)
{
    uint64_t until = 0, busy = 0;
    for (int k = 0; k <= step; k++) {
        const qs_profile_step *s = &p->steps[k];
        qs_activity *lane = qs_calloc((size_t)s->recorder.count + 1, sizeof *lane);
        int n = qs_profile_lane(s, disk, &until, lane);
        for (int i = 0; k == step && i < n; i++) busy += lane[i].end_ns - lane[i].start_ns;
        qs_free(lane);
    }
    return (double)busy * 1e-9;
}

qs_profile_totals qs_profile_total(const qs_profile *p, int step)
{
    const qs_profile_step *s = &p->steps[step];
    qs_profile_totals t = {.seconds = (double)(s->end_ns - s->start_ns) * 1e-9,
                           .disk_wait = (double)s->update_disk_wait_ns * 1e-9};
    t.update = (double)(s->end_ns - s->swept_ns) * 1e-9 - t.disk_wait;
    for (int32_t v = 0; v < p->schedule->count; v++) {
        qs_profile_split split = qs_profile_visit(p, step, v);
        t.disk_wait += (double)split.disk_wait * 1e-9;
        t.link_wait += (double)split.link_wait * 1e-9;
        t.make += (double)split.make * 1e-9;
        t.verify += (double)split.verify * 1e-9;
        t.compute += (double)split.compute * 1e-9;
    }
    t.tokens_per_second = (double)s->tokens / t.seconds;
    t.gflops = 6e-9 * (double)qs_architecture_parameters(&p->engine->architecture) * t.tokens_per_second;
    t.disk_bytes_per_second = (double)s->disk_read_bytes / t.seconds;
    t.disk_busy = lane_seconds(p, step, true);
    t.link_busy = lane_seconds(p, step, false);
    t.disk_alone = p->disk_rate > 0 ? (double)s->disk_read_bytes / p->disk_rate : 0;
    t.hiding_tokens = t.compute > 0 ? t.disk_alone / t.compute * (double)s->tokens : 0;
    return t;
}

int qs_profile_write_root(json_t *root, const char *path, qs_err *e)
{
    size_t n = json_dumpb(root, NULL, 0, JSON_COMPACT);
    char *text = qs_malloc(n);
    json_dumpb(root, text, n, JSON_COMPACT);
    int rc = qs_file_replace(path, text, n, e);
    qs_free(text);
    json_decref(root);
    return rc;
}

/* ---- profile.json ------------------------------------------------------------------------------------ */

static void add(json_t *o, const char *key, json_t *value) { json_object_set_new(o, key, value); }
static json_t *integer(uint64_t v) { return json_integer((json_int_t)v); }

static json_t *visit_json(const qs_profile *p, int step, int32_t v)
{
    const qs_visit_time *t = &p->steps[step].visits[v];
    const qs_visit *visit = &p->schedule->visits[v];
    qs_profile_split split = qs_profile_visit(p, step, v);
    char name[32];
    qs_visit_name(visit, name);
    json_t *o = json_object();
    add(o, "name", json_string(name));
    add(o, "blob", json_integer(visit->blob));
    add(o, "blob_bytes", integer(visit->blob < 0 ? 0 : p->engine->blob_bytes[visit->blob]));
    add(o, "start_ns", integer(t->start_ns ? t->start_ns - p->steps[0].start_ns : 0));
    add(o, "duration_ns", integer(t->end_ns - t->start_ns));
    add(o, "disk_wait_ns", integer(split.disk_wait));
    add(o, "link_wait_ns", integer(split.link_wait));
    add(o, "make_ns", integer(split.make));
    add(o, "verify_ns", integer(split.verify));
    add(o, "compute_ns", integer(split.compute));
    add(o, "disk_read_bytes", integer(t->disk_read_bytes));
    if (p->prediction) add(o, "predicted_ns", integer((uint64_t)(qs_profile_predicted(p, v) * 1e9)));
    return o;
}

static json_t *step_json(const qs_profile *p, int step)
{
    const qs_profile_step *s = &p->steps[step];
    qs_profile_totals t = qs_profile_total(p, step);
    json_t *visits = json_array(), *o = json_object();
    for (int32_t v = 0; v < p->schedule->count; v++) json_array_append_new(visits, visit_json(p, step, v));
    add(o, "loss", json_real(s->loss));
    add(o, "tokens", json_integer(s->tokens));
    add(o, "step_seconds", json_real(t.seconds));
    if (p->prediction) add(o, "predicted_step_seconds", json_real(p->prediction->step_seconds));
    add(o, "tokens_per_second", json_real(t.tokens_per_second));
    add(o, "gflops_6n", json_real(t.gflops));
    add(o, "compute_seconds", json_real(t.compute));
    add(o, "wait_disk_seconds", json_real(t.disk_wait));
    add(o, "wait_link_seconds", json_real(t.link_wait));
    add(o, "verify_seconds", json_real(t.verify));
    add(o, "make_seconds", json_real(t.make));
    add(o, "update_seconds", json_real(t.update));
    add(o, "disk_busy_seconds", json_real(t.disk_busy));
    add(o, "link_busy_seconds", json_real(t.link_busy));
    add(o, "disk_bytes_per_second", json_real(t.disk_bytes_per_second));
    add(o, "disk_alone_seconds", json_real(t.disk_alone));
    add(o, "hiding_tokens", json_real(t.hiding_tokens));
    add(o, "disk_read_bytes", integer(s->disk_read_bytes));
    add(o, "disk_write_bytes", integer(s->disk_write_bytes));
    add(o, "link_bytes", integer(s->link_bytes));
    add(o, "lost_activities", json_integer(s->recorder.lost));
    add(o, "visits", visits);
    return o;
}

int qs_profile_write_json(const qs_profile *p, const char *path, qs_err *e)
{
    const qs_plan *plan = &p->engine->plan;
    json_t *steps = json_array(), *items = json_array();
    for (int i = 0; i < p->count; i++) json_array_append_new(steps, step_json(p, i));
    for (int i = 0; i < plan->item_count; i++)
        json_array_append_new(items, json_pack("{s:s, s:s, s:I}", "tag", qs_item_name(plan->items[i].item),
                                               "pool", qs_pool_name(plan->items[i].pool), "bytes",
                                               (json_int_t)plan->items[i].bytes));
    return qs_profile_write_root(
        json_pack("{s:i, s:s, s:s, s:I, s:f, s:f, s:I, s:I, s:I, s:I, s:I, s:I, s:I, s:o, s:o}", "format",
                  FORMAT, "model", p->model, "device", p->engine->device->info.name, "parameters",
                  (json_int_t)qs_architecture_parameters(&p->engine->architecture), "product_gflops",
                  p->product_flops * 1e-9, "disk_rate", p->disk_rate, "vram_bytes",
                  (json_int_t)plan->vram_bytes, "vram_used", (json_int_t)plan->vram_used, "ram_bytes",
                  (json_int_t)plan->ram_bytes, "ram_used", (json_int_t)plan->ram_used, "peak_rss_bytes",
                  (json_int_t)p->peak_rss_bytes, "device_peak_bytes", (json_int_t)p->device_peak_bytes,
                  "streamed_bytes", (json_int_t)plan->streamed_bytes, "items", items, "steps", steps),
        path, e);
}

/* ---- tables ------------------------------------------------------------------------------------------ */

void qs_profile_print(const qs_profile *p, FILE *f)
{
    fprintf(f, "%5s %9s %10s %10s %11s %11s %9s %10s %9s\n", "step", "seconds", "tokens/s", "GFLOP/s",
            "disk wait s", "link wait s", "make s", "disk GB/s", "loss");
    for (int i = 0; i < p->count; i++) {
        qs_profile_totals t = qs_profile_total(p, i);
        fprintf(f, "%5d %9.3f %10.1f %10.1f %11.3f %11.3f %9.3f %10.3f %9.4f\n", i + 1, t.seconds,
                t.tokens_per_second, t.gflops, t.disk_wait, t.link_wait, t.make,
                t.disk_bytes_per_second * 1e-9, p->steps[i].loss);
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
    if (!json_array_size(steps))
        QS_FAIL(e, QS_EFORMAT, "%s: has no steps; expected a profile.json written by bench", path);
    *last = json_array_get(steps, json_array_size(steps) - 1);
    return 0;
}

static void compare_line(FILE *f, const char *key, const json_t *a, const json_t *b)
{
    double x = json_number_value(json_object_get(a, key)), y = json_number_value(json_object_get(b, key));
    fprintf(f, "  %-24s %14.6g %14.6g", key, x, y);
    if (x > 0)
        fprintf(f, " %9.3f\n", y / x);
    else
        fprintf(f, " %9s\n", "-");
}

int qs_profile_compare(const char *first, const char *second, FILE *f, qs_err *e)
{
    static const char *const of_run[] = {"parameters",     "vram_used",         "ram_used",
                                         "peak_rss_bytes", "device_peak_bytes", "streamed_bytes"};
    static const char *const of_step[] = {"tokens",
                                          "step_seconds",
                                          "tokens_per_second",
                                          "gflops_6n",
                                          "wait_disk_seconds",
                                          "wait_link_seconds",
                                          "make_seconds",
                                          "update_seconds",
                                          "disk_read_bytes",
                                          "link_bytes",
                                          "loss"};
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
