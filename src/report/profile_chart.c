/* profile_chart.c - the two charts of the report, as SVG inside the page; colours are the page's variables
 * (profile_report.c). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/report/chart.h"
#include "src/report/profile.h"

enum { WIDTH = 960, LEFT = 76, RIGHT = 8, COLORS = 10 };

static double ms(uint64_t ns) { return (double)ns * 1e-6; }

/* The time axis of a step: x of a moment, and a row of ticks at height y. */
typedef struct time_axis {
    uint64_t start, end;
} time_axis;

static double at(const time_axis *t, uint64_t ns)
{
    if (ns < t->start) ns = t->start;
    if (ns > t->end) ns = t->end;
    return LEFT + (double)(ns - t->start) / (double)(t->end - t->start) * (WIDTH - LEFT - RIGHT);
}

static void draw_time(FILE *f, const time_axis *t, int y)
{
    double seconds = (double)(t->end - t->start) * 1e-9, first, step;
    qs_chart_ticks(0, seconds, 8, &first, &step);
    for (int i = 0; first + i * step <= seconds * 1.0001; i++) {
        double s = first + i * step, x = LEFT + s / seconds * (WIDTH - LEFT - RIGHT);
        fprintf(f,
                "<path class=\"axis\" d=\"M%.1f %dv4\"/><text class=\"tick\" x=\"%.1f\" y=\"%d\" "
                "text-anchor=\"%s\">%g %s</text>",
                x, y, x, y + 17, x > WIDTH - 40 ? "end" : "middle", seconds < 1 ? s * 1e3 : s,
                seconds < 1 ? "ms" : "s");
    }
    fprintf(f, "<path class=\"axis\" d=\"M%d %dH%d\"/>", LEFT, y, WIDTH - RIGHT);
}

/* ---- memory over the step ---------------------------------------------------------------------------- */

typedef struct band {
    const char *tag;
    int item;
    uint64_t most, color;
} band;

static int larger_first(const void *a, const void *b)
{
    const band *x = a, *y = b;
    if (x->most != y->most) return x->most < y->most ? 1 : -1;
    return x->item - y->item;
}

/* The items of a budget, the largest first; those too thin to be seen go into one last band, whose item is
 * -1. */
static int choose_bands(const qs_profile *p, bool device, const uint64_t *bytes, uint64_t visible,
                        band *bands)
{
    const qs_plan *plan = &p->engine->plan;
    int n = 0;
    for (int i = 0; i < plan->item_count; i++) {
        if ((plan->items[i].pool == QS_POOL_DEVICE) != device || !plan->items[i].bytes) continue;
        bands[n] = (band){qs_item_name(plan->items[i].item), i, 0, 0};
        for (int32_t v = 0; v < p->schedule->count; v++) {
            uint64_t b = bytes[(size_t)v * (size_t)plan->item_count + (size_t)i];
            if (b > bands[n].most) bands[n].most = b;
        }
        n++;
    }
    qsort(bands, (size_t)n, sizeof *bands, larger_first);
    int shown = 0;
    while (shown < n && shown < COLORS - 1 && bands[shown].most >= visible) shown++;
    if (n - shown == 1) shown = n;
    for (int i = 0; i < shown; i++) bands[i].color = (uint64_t)i;
    uint64_t rest = 0;
    for (int i = shown; i < n; i++) rest += bands[i].most;
    if (shown < n) bands[shown++] = (band){"everything else", -1, rest, COLORS};
    return shown;
}

/* What lies in a band, or with `item` -1 in all that have none of their own, during visit v. */
static uint64_t band_bytes(const qs_profile *p, bool device, const uint64_t *bytes, const band *bands,
                           int count, int k, int32_t v)
{
    const qs_plan *plan = &p->engine->plan;
    const uint64_t *row = &bytes[(size_t)v * (size_t)plan->item_count];
    if (bands[k].item >= 0) return row[bands[k].item];
    uint64_t sum = 0;
    for (int i = 0; i < plan->item_count; i++) {
        bool own = (plan->items[i].pool == QS_POOL_DEVICE) != device;
        for (int j = 0; j < count && !own; j++) own = bands[j].item == i;
        if (!own) sum += row[i];
    }
    return sum;
}

static void budget_line(FILE *f, double y, const char *what, uint64_t bytes, const char *style)
{
    char text[16];
    fprintf(
        f, "<path class=\"%s\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s %s</text>",
        style, LEFT, y, WIDTH - RIGHT, WIDTH - RIGHT - 4, y - 4, what, qs_format_bytes(bytes, text));
}

void qs_profile_draw_memory(FILE *f, const qs_profile *p, int step, bool device)
{
    enum { TOP = 18, HIGH = 220 };
    const qs_plan *plan = &p->engine->plan;
    const qs_profile_step *s = &p->steps[step];
    const int32_t visits = p->schedule->count;
    uint64_t budget = device ? plan->vram_bytes : plan->ram_bytes,
             used = device ? plan->vram_used : plan->ram_used;
    uint64_t overhead = device ? p->engine->device->info.overhead_bytes : 0;
    char text[16], text2[16];
    fprintf(f, "<h2>%s over one step</h2>\n<p>%s planned of %s; coloured is what holds something.%s</p>\n",
            device ? "Device memory (--vram)" : "Host memory (--ram)", qs_format_bytes(used, text),
            qs_format_bytes(budget, text2),
            device && overhead ? " The lowest band is the backend's own." : "");
    if (!used) return;
    uint64_t *bytes = qs_calloc((size_t)visits * (size_t)plan->item_count, sizeof *bytes);
    uint64_t *base = qs_calloc((size_t)visits, sizeof *base);
    band bands[QS_PLAN_MAX_ITEMS + 1];
    qs_profile_memory(p, step, bytes);
    int count = choose_bands(p, device, bytes, used / 100, bands);
    bool budget_fits = budget < used * 3 / 2;
    double top = (double)(budget_fits && budget > used ? budget : used) * 1.08;
    time_axis axis = {s->start_ns, s->end_ns};
    fprintf(f, "<svg viewBox=\"0 0 %d %d\">", WIDTH, TOP + HIGH + 24);
    double first, unit;
    qs_chart_ticks(0, top / (1 << 20), 4, &first, &unit);
    for (double mib = first; mib * (1 << 20) <= top; mib += unit) {
        double y = TOP + HIGH - mib * (1 << 20) / top * HIGH;
        fprintf(f,
                "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"tick\" x=\"%d\" y=\"%.1f\" "
                "text-anchor=\"end\">%s</text>",
                LEFT, y, WIDTH - RIGHT, LEFT - 6, y + 4,
                mib > 0 ? qs_format_bytes((uint64_t)(mib * (1 << 20)), text) : "0");
    }
    for (int32_t v = 0; v < visits; v++) base[v] = overhead;
    if (overhead)
        fprintf(f, "<path fill=\"var(--line)\" d=\"M%d %dh%dV%.1fH%dz\"/>", LEFT, TOP + HIGH,
                WIDTH - LEFT - RIGHT, TOP + HIGH - (double)overhead / top * HIGH, LEFT);
    for (int k = 0; k < count; k++) { /* upper edge to the right, lower edge back */
        fprintf(f, "<path fill=\"var(--b%d)\" d=\"", (int)bands[k].color);
        for (int pass = 0; pass < 2; pass++)
            for (int32_t i = 0; i < visits; i++) {
                int32_t v = pass ? visits - 1 - i : i;
                const qs_visit_time *t = &s->visits[v];
                uint64_t more = band_bytes(p, device, bytes, bands, count, k, v);
                uint64_t end =
                    v + 1 < visits && s->visits[v + 1].start_ns ? s->visits[v + 1].start_ns : s->end_ns;
                if (!t->start_ns) continue;
                double y = TOP + HIGH - (double)(base[v] + (pass ? 0 : more)) / top * HIGH;
                fprintf(f, "%c%.2f %.2fH%.2f", pass || i ? 'L' : 'M', at(&axis, pass ? end : t->start_ns), y,
                        at(&axis, pass ? t->start_ns : end));
                if (pass) base[v] += more;
            }
        fprintf(f, "z\"><title>%s: at most %s</title></path>", bands[k].tag,
                qs_format_bytes(bands[k].most, text));
    }
    budget_line(f, TOP + HIGH - (double)used / top * HIGH, "planned", used, "planned");
    if (budget_fits) budget_line(f, TOP + HIGH - (double)budget / top * HIGH, "budget", budget, "budget");
    draw_time(f, &axis, TOP + HIGH);
    fprintf(f, "</svg>\n<div class=\"key\">");
    for (int k = 0; k < count; k++)
        fprintf(f, "<span><b style=\"background:var(--b%d)\"></b>%s %s</span> ", (int)bands[k].color,
                bands[k].tag, qs_format_bytes(bands[k].most, text));
    fprintf(f, "</div>\n");
    qs_free(bytes);
    qs_free(base);
}

/* ---- one step in lanes ------------------------------------------------------------------------------- */

enum { LANE_HIGH = 26, LANE_STEP = 36 };

/* What is too short to be seen is left out: widened, a thousand waits of a microsecond would look like one
 * long wait. */
static void box(FILE *f, const time_axis *t, uint64_t start, uint64_t end, int lane, const char *color,
                const char *name)
{
    double x = at(t, start), w = at(t, end) - x;
    if (w >= .05)
        fprintf(f,
                "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"%d\" fill=\"var(--%s)\"><title>%s: %.2f "
                "ms</title></rect>",
                x, 8 + lane * LANE_STEP, w, LANE_HIGH, color, name, ms(end - start));
}

/* When a read would have ended at the rate of the disk alone; its completion may have been seen long after.
 */
static uint64_t end_at_disk_rate(const qs_profile *p, const qs_activity *a)
{
    if (a->kind != QS_ACTIVITY_READ || p->disk_rate <= 0) return a->end_ns;
    uint64_t end = a->start_ns + (uint64_t)((double)p->engine->blob_bytes[a->blob] / p->disk_rate * 1e9);
    return end < a->end_ns ? end : a->end_ns;
}

static void draw_transfers(FILE *f, const qs_profile *p, int step, bool disk, const time_axis *axis)
{
    uint64_t until = 0;
    int32_t layers = p->engine->layout.layers;
    for (int k = 0; k <= step; k++) {
        const qs_profile_step *s = &p->steps[k];
        qs_activity *lane = qs_calloc((size_t)s->recorder.count + 1, sizeof *lane);
        int n = qs_profile_lane(s, disk, &until, lane);
        for (int i = 0; k == step && i < n; i++) {
            const qs_activity *a = &lane[i];
            char name[40];
            snprintf(name, sizeof name, "%s %s %d",
                     !disk                         ? "copy"
                     : a->kind == QS_ACTIVITY_READ ? "read"
                                                   : "write",
                     a->blob < layers ? "layer" : "head tile", a->blob < layers ? a->blob : a->blob - layers);
            uint64_t sure = end_at_disk_rate(p, a);
            box(f, axis, a->start_ns, sure, disk ? 0 : 1,
                a->kind == QS_ACTIVITY_WRITE ? "write"
                : i & 1                      ? "transfer"
                                             : "transfer2",
                name);
            box(f, axis, sure, a->end_ns, disk ? 0 : 1, "seen", name);
        }
        qs_free(lane);
    }
}

void qs_profile_draw_lanes(FILE *f, const qs_profile *p, int step)
{
    static const char *const names[] = {"disk", "link", "compute", "update"};
    static const char *const colors[QS_ACTIVITY_KINDS] = {[QS_ACTIVITY_WAIT_DISK] = "disk",
                                                          [QS_ACTIVITY_WAIT_LINK] = "link",
                                                          [QS_ACTIVITY_VERIFY] = "verify",
                                                          [QS_ACTIVITY_MAKE] = "make"};
    static const char *const what[QS_ACTIVITY_KINDS] = {[QS_ACTIVITY_WAIT_DISK] = "waiting for the disk",
                                                        [QS_ACTIVITY_WAIT_LINK] = "waiting for the link",
                                                        [QS_ACTIVITY_VERIFY] = "checksum",
                                                        [QS_ACTIVITY_MAKE] = "quantise on load"};
    const qs_profile_step *s = &p->steps[step];
    time_axis axis = {s->start_ns, s->end_ns};
    int bottom = 8 + 4 * LANE_STEP;
    fprintf(f, "<h2>Step %d in lanes: %.3f s</h2>\n<svg viewBox=\"0 0 %d %d\">", step + 1,
            (double)(s->end_ns - s->start_ns) * 1e-9, WIDTH, bottom + 24);
    for (int i = 0; i < 4; i++)
        fprintf(f,
                "<text x=\"0\" y=\"%d\">%s</text><rect class=\"lane\" x=\"%d\" y=\"%d\" width=\"%d\" "
                "height=\"%d\"/>",
                26 + LANE_STEP * i, names[i], LEFT, 8 + LANE_STEP * i, WIDTH - LEFT - RIGHT, LANE_HIGH);
    draw_transfers(f, p, step, true, &axis);
    draw_transfers(f, p, step, false, &axis);
    for (int32_t v = 0; v < p->schedule->count; v++) {
        char name[32];
        qs_visit_name(&p->schedule->visits[v], name);
        if (s->visits[v].start_ns)
            box(f, &axis, s->visits[v].start_ns, s->visits[v].end_ns, 2, v & 1 ? "visit" : "visit2", name);
    }
    for (int32_t i = 0; i < s->recorder.count; i++) {
        const qs_activity *a = &s->recorder.activities[i];
        if (colors[a->kind]) box(f, &axis, a->start_ns, a->end_ns, 2, colors[a->kind], what[a->kind]);
    }
    box(f, &axis, s->swept_ns, s->end_ns, 3, "update", "update");
    draw_time(f, &axis, bottom);
    fprintf(f, "</svg>\n<div class=\"key\"><span><b style=\"background:var(--transfer)\"></b>read or "
               "copy</span> <span><b style=\"background:var(--seen)\"></b>read, its end not yet seen</span> "
               "<span><b style=\"background:var(--write)\"></b>cache write"
               "</span> <span><b style=\"background:var(--visit)\"></b>visits, one after another</span> "
               "<span><b style=\"background:var(--update)\"></b>update</span> ");
    for (int k = 0; k < QS_ACTIVITY_KINDS; k++)
        if (colors[k])
            fprintf(f, "<span><b style=\"background:var(--%s)\"></b>%s</span> ", colors[k], what[k]);
    fprintf(f, "</div>\n<p>Completions are seen between operations: a read is pale from where it would have "
               "ended at the disk's own rate.</p>\n");
}
