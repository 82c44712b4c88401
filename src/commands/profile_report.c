/* profile_report.c - the profile as one HTML file: no scripts, no fonts, nothing fetched; light or dark as the viewer prefers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "src/commands/profile.h"

enum { WIDTH = 960, COLORS = 6 };

static const char style[] =
    "<style>:root{color-scheme:light dark;--paper:#fff;--ink:#1f2328;--pale:#59636e;--line:#d9dee3;--c0:#0969da;--c1:#1a7f37;--c2:#8250df;"
    "--c3:#bf3989;--c4:#7d6a00;--c5:#57606a;--disk:#cf5f00;--link:#d1242f;--make:#8250df;--visit:#0969da;--update:#1a7f37}"
    "@media(prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--pale:#9198a1;--line:#2a313a;--c0:#58a6ff;--c1:#56d364;--c2:#bc8cff;"
    "--c3:#f778ba;--c4:#d4b106;--c5:#8b949e;--disk:#f0883e;--link:#ff7b72;--make:#bc8cff;--visit:#1f6feb;--update:#56d364}}"
    "body{background:var(--paper);color:var(--ink);font:14px/1.5 system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}"
    "h1{font-size:1.5em}h2{font-size:1.15em;margin-top:2em}p,.key{color:var(--pale)}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:right;padding:2px 8px;border-bottom:1px solid var(--line);font-variant-numeric:tabular-nums}"
    "th:first-child,td:first-child{text-align:left}svg{width:100%;height:auto;display:block}text{fill:var(--ink);font:12px system-ui,sans-serif}"
    ".key b{display:inline-block;width:.8em;height:.8em;margin:0 .3em 0 1em}</style>\n";

static void escaped(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '<') fputs("&lt;", f);
        else if (*text == '&') fputs("&amp;", f);
        else if (*text == '>') fputs("&gt;", f);
        else fputc(*text, f);
    }
}

static double ms(uint64_t ns) { return (double)ns * 1e-6; }

/* ---- memory ------------------------------------------------------------------------------------------------------------------ */

/* One budget: its items stacked from the left, its end marked. */
static void budget_bar(FILE *f, const qs_plan *p, bool device, uint64_t overhead, const char *flag)
{
    uint64_t budget = device ? p->vram_bytes : p->ram_bytes, used = device ? p->vram_used : p->ram_used;
    char a[16], b[16];
    fprintf(f, "<h2>%s: %s of %s</h2>\n<svg viewBox=\"0 0 %d 34\">", flag, qs_format_bytes(used, a), qs_format_bytes(budget, b), WIDTH + 4);
    double scale = WIDTH / (double)(budget ? budget : 1), x = 0;
    if (device && overhead) {
        fprintf(f, "<rect x=\"0\" y=\"4\" width=\"%.2f\" height=\"26\" fill=\"var(--line)\"><title>context and libraries</title></rect>", (double)overhead * scale);
        x = (double)overhead * scale;
    }
    int shown = 0;
    for (int i = 0; i < p->item_count; i++) {
        if ((p->items[i].pool == QS_POOL_DEVICE) != device || !p->items[i].bytes) continue;
        double w = (double)p->items[i].bytes * scale;
        fprintf(f, "<rect x=\"%.2f\" y=\"4\" width=\"%.2f\" height=\"26\" fill=\"var(--c%d)\" stroke=\"var(--paper)\" stroke-width=\".5\"><title>%s: %s</title></rect>",
                x, w, shown++ % COLORS, p->items[i].tag, qs_format_bytes(p->items[i].bytes, a));
        x += w;
    }
    fprintf(f, "<path d=\"M%d 0V34M0 30.5H%d\" stroke=\"var(--ink)\" stroke-width=\"1\"/></svg>\n<div class=\"key\">", WIDTH, WIDTH);
    shown = 0;
    for (int i = 0; i < p->item_count; i++)
        if ((p->items[i].pool == QS_POOL_DEVICE) == device && p->items[i].bytes)
            fprintf(f, "<span><b style=\"background:var(--c%d)\"></b>%s %s</span> ", shown++ % COLORS, p->items[i].tag,
                    qs_format_bytes(p->items[i].bytes, a));
    fprintf(f, "</div>\n");
}

/* ---- one step in time ------------------------------------------------------------------------------------------------------------ */

/* What is too short to be seen is left out: widened, a thousand waits of a microsecond would look like one long wait. */
static void box(FILE *f, double x, double w, int y, const char *color, const char *name, uint64_t ns)
{
    if (w >= .05)
        fprintf(f, "<rect x=\"%.2f\" y=\"%d\" width=\"%.2f\" height=\"22\" fill=\"var(--%s)\"><title>%s: %.2f ms</title></rect>", x, y, w, color, name,
                ms(ns));
}

static void lanes(FILE *f, const qs_profile *p, int step)
{
    static const char *const names[] = {"visits", "first touch", "disk wait", "link wait", "update"};
    const qs_profile_step *s = &p->steps[step];
    const double left = 80, scale = (WIDTH - left) / (double)(s->end_ns - s->start_ns);
    fprintf(f, "<h2>Step %d: %.3f s</h2>\n<svg viewBox=\"0 0 %d 160\">", step + 1, (double)(s->end_ns - s->start_ns) * 1e-9, WIDTH + 4);
    for (int i = 0; i < 5; i++)
        fprintf(f, "<text x=\"0\" y=\"%d\">%s</text><path d=\"M%g %dH%d\" stroke=\"var(--line)\"/>", 26 + 30 * i, names[i], left, 34 + 30 * i, WIDTH);
    for (int32_t v = 0; v < p->schedule->count; v++) {
        const qs_visit_time *t = &s->visits[v];
        char name[32];
        if (!t->start_ns) continue;
        qs_visit_name(&p->schedule->visits[v], name);
        double x = left + (double)(t->start_ns - s->start_ns) * scale;
        box(f, x, (double)(t->end_ns - t->start_ns) * scale, 10, v & 1 ? "visit" : "c5", name, t->end_ns - t->start_ns);
        box(f, x, (double)t->make_ns * scale, 40, "make", name, t->make_ns);
        box(f, x, (double)t->disk_wait_ns * scale, 70, "disk", name, t->disk_wait_ns);
        box(f, x + (double)t->disk_wait_ns * scale, (double)t->link_wait_ns * scale, 100, "link", name, t->link_wait_ns);
    }
    box(f, left + (double)(s->swept_ns - s->start_ns) * scale, (double)(s->end_ns - s->swept_ns) * scale, 130, "update", "update",
        s->end_ns - s->swept_ns);
    fprintf(f, "</svg>\n");
}

/* ---- tables ---------------------------------------------------------------------------------------------------------------------- */

static void step_table(FILE *f, const qs_profile *p)
{
    fprintf(f, "<h2>Steps</h2>\n<table><tr><th>step<th>seconds<th>tokens/s<th>GFLOP/s at 6N<th>disk wait s<th>link wait s<th>first touch s<th>update "
               "s<th>disk GB/s<th>loss\n");
    for (int i = 0; i < p->count; i++) {
        qs_profile_totals t = qs_profile_total(p, i);
        fprintf(f, "<tr><td>%d<td>%.3f<td>%.1f<td>%.1f<td>%.3f<td>%.3f<td>%.3f<td>%.3f<td>%.3f<td>%.4f\n", i + 1, t.seconds, t.tokens_per_second,
                t.gflops, t.disk_wait, t.link_wait, t.make, t.update, t.disk_bytes_per_second * 1e-9, p->steps[i].loss);
    }
    fprintf(f, "</table>\n");
}

/* A row per blob: its visits of one step together. */
static void blob_table(FILE *f, const qs_profile *p, const qs_profile_step *s)
{
    static const char *const homes[] = {"disk", "RAM", "device"};
    const qs_layout *l = &p->engine->layout;
    fprintf(f, "<h2>Layers and head tiles, last step</h2>\n<table><tr><th>weights<th>bytes<th>home<th>visits ms<th>disk wait ms<th>link wait ms<th>first touch "
               "ms<th>hidden\n");
    for (int32_t b = 0; b < qs_layout_blobs(l); b++) {
        uint64_t total = 0, disk = 0, link = 0, make = 0;
        char bytes[16];
        for (int32_t v = 0; v < p->schedule->count; v++) {
            const qs_visit_time *t = &s->visits[v];
            if (p->schedule->visits[v].blob != b) continue;
            total += t->end_ns - t->start_ns;
            disk += t->disk_wait_ns;
            link += t->link_wait_ns;
            make += t->make_ns;
        }
        fprintf(f, "<tr><td>%s %d<td>%s<td>%s<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td>%s\n", b < l->layers ? "layer" : "head tile",
                b < l->layers ? b : b - l->layers, qs_format_bytes(p->engine->blob_bytes[b], bytes), homes[p->engine->plan.home[b]], ms(total), ms(disk),
                ms(link), ms(make), (disk + link) * 100 <= total ? "yes" : "no");
    }
    fprintf(f, "</table>\n<p>Hidden: waits of at most 1 %% of the visits' time.</p>\n");
}

static void write_page(FILE *f, const qs_profile *p)
{
    const qs_engine *g = p->engine;
    qs_profile_totals t = qs_profile_total(p, p->count - 1);
    fprintf(f, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>Memory profile</title>\n%s<h1>", style);
    escaped(f, p->model);
    fprintf(f, "</h1>\n<p>%s, %d layers, %.2f billion parameters, on ", g->architecture.class_name, g->architecture.layers,
            (double)qs_architecture_parameters(&g->architecture) * 1e-9);
    escaped(f, g->device->info.name);
    fprintf(f, ". Last step: %.1f tokens/s, %.1f GFLOP/s (6 per parameter and token), %.2f GB/s from disk, %.1f %% of the time waiting for the disk.</p>\n",
            t.tokens_per_second, t.gflops, t.disk_bytes_per_second * 1e-9, 100 * t.disk_wait / t.seconds);
    budget_bar(f, &g->plan, true, g->device->info.overhead_bytes, "--vram");
    budget_bar(f, &g->plan, false, 0, "--ram");
    lanes(f, p, p->count - 1);
    step_table(f, p);
    blob_table(f, p, &p->steps[p->count - 1]);
    fprintf(f, "</html>\n");
}

int qs_profile_write_report(const qs_profile *p, const char *path, qs_err *e)
{
    FILE *f = fopen(path, "w");
    if (!f) QS_FAIL(e, QS_EIO, "%s: cannot be written: %s", path, strerror(errno));
    write_page(f, p);
    bool failed = ferror(f);
    failed |= fclose(f) != 0;
    if (failed) QS_FAIL(e, QS_EIO, "%s: cannot be written: is the disk full?", path);
    return 0;
}
