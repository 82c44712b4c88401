/* profile_report.c - the profile as one HTML file: no scripts, no fonts, nothing fetched; light or dark as
 * the viewer prefers. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/report/profile.h"

static const char style[] =
    "<style>:root{color-scheme:light "
    "dark;--paper:#fff;--ink:#1f2328;--pale:#59636e;--line:#d9dee3;--lane:#f3f5f7;--b0:#3b82c4;--b1:#e08a3c;-"
    "-b2:#4fa66b;--b3:#9a6fc9;"
    "--b4:#d16a94;--b5:#b39a2e;--b6:#3aa6a6;--b7:#a0714f;--b8:#7d8fd6;--b9:#c65f5f;--b10:#9aa4ae;--disk:#"
    "e8590c;--link:#d1242f;--verify:#c9a400;--make:#8250df;"
    "--visit:#3b82c4;--visit2:#7db0dd;--transfer:#4fa66b;--transfer2:#6fbf8b;--seen:#d3e8da;--write:#9a6fc9;-"
    "-update:#59636e}"
    "@media(prefers-color-scheme:dark){:root{--paper:#0d1117;--ink:#e6edf3;--pale:#9198a1;--line:#2a313a;--"
    "lane:#151b23;--b0:#4493d6;--b1:#e2924d;--b2:#58b87a;--b3:#a983da;"
    "--b4:#dc7ba5;--b5:#c2aa40;--b6:#45b5b5;--b7:#b5845f;--b8:#8e9fe4;--b9:#d47070;--b10:#6e7781;--disk:#"
    "ff7b39;--link:#ff5c57;--verify:#e3c000;--make:#bc8cff;"
    "--visit:#2f6fad;--visit2:#4493d6;--transfer:#3c8a58;--transfer2:#58b87a;--seen:#1f3d2c;--write:#a983da;-"
    "-update:#9198a1}}"
    "body{background:var(--paper);color:var(--ink);font:14px/1.5 "
    "system-ui,sans-serif;max-width:1000px;margin:2em auto;padding:0 1em}"
    "h1{font-size:1.5em;overflow-wrap:anywhere}h2{font-size:1.15em;margin:2em 0 "
    ".3em}p,.key{color:var(--pale);margin:.3em 0 .6em}.wide{overflow-x:auto}"
    "table{border-collapse:collapse;width:100%}th,td{text-align:right;padding:2px 8px;border-bottom:1px "
    "solid var(--line);font-variant-numeric:tabular-nums;"
    "white-space:nowrap}th{font-weight:600;white-space:normal;vertical-align:bottom}th:first-child,td:first-"
    "child{text-align:left}"
    "svg{width:100%;height:auto;display:block}text{fill:var(--ink);font:12px "
    "system-ui,sans-serif}.tick{fill:var(--pale)}.axis{stroke:var(--pale)}"
    ".grid{stroke:var(--line)}.lane{fill:var(--lane)}.planned{stroke:var(--ink);stroke-dasharray:5 "
    "3}.budget{stroke:var(--link);stroke-width:1.5}"
    ".key span{display:inline-block;margin-right:1em}.key "
    "b{display:inline-block;width:.8em;height:.8em;margin-right:.35em;border-radius:2px}"
    ".no{color:var(--disk);font-weight:600}</style>\n";

static void escaped(FILE *f, const char *text)
{
    for (; *text; text++) {
        if (*text == '<')
            fputs("&lt;", f);
        else if (*text == '&')
            fputs("&amp;", f);
        else if (*text == '>')
            fputs("&gt;", f);
        else
            fputc(*text, f);
    }
}

static double ms(uint64_t ns) { return (double)ns * 1e-6; }

/* ---- how fast it could be ---------------------------------------------------------------------------- */

static void roofline(FILE *f, const qs_profile *p)
{
    qs_profile_totals t = qs_profile_total(p, p->count - 1);
    const qs_profile_step *s = &p->steps[p->count - 1];
    double roof = p->product_flops * 1e-9, floor = t.compute > t.disk_alone ? t.compute : t.disk_alone;
    fprintf(f, "<h2>Roofline</h2>\n<p>%.1f GFLOP/s at 6 per parameter and token", t.gflops);
    if (roof > 0)
        fprintf(f, ": %.0f %% of the %.1f GFLOP/s of this machine's best matrix product",
                100 * t.gflops / roof, roof);
    fprintf(f, ". ");
    if (p->disk_rate > 0) {
        fprintf(f,
                "The disk alone gives %.2f GB/s, so the %.2f GB of a step take it %.3f s; computing takes "
                "%.3f s. ",
                p->disk_rate * 1e-9, (double)s->disk_read_bytes * 1e-9, t.disk_alone, t.compute);
        fprintf(f, "%.0f tokens per step hide the stream, and this step has %lld. ", t.hiding_tokens,
                (long long)s->tokens);
    } else
        fprintf(f, "Nothing is streamed. ");
    if (floor > 0) fprintf(f, "The step is %.2f times its bound, the longer of both.", t.seconds / floor);
    fprintf(f, "</p>\n");
}

/* ---- tables ------------------------------------------------------------------------------------------ */

static void step_table(FILE *f, const qs_profile *p)
{
    fprintf(f,
            "<h2>Steps</h2>\n<div class=\"wide\"><table><tr><th>step<th>seconds%s<th>tokens/s<th>GFLOP/s at "
            "6N<th>compute s<th>disk wait s<th>link wait s<th>checksums s<th>first "
            "touch s<th>update s<th>disk GB/s<th>loss\n",
            p->prediction ? "<th>predicted" : "");
    for (int i = 0; i < p->count; i++) {
        qs_profile_totals t = qs_profile_total(p, i);
        fprintf(f, "<tr><td>%d<td>%.3f", i + 1, t.seconds);
        if (p->prediction) fprintf(f, "<td>%.3f", p->prediction->step_seconds);
        fprintf(f, "<td>%.1f<td>%.1f<td>%.3f<td>%.3f<td>%.3f<td>%.3f<td>%.3f<td>%.3f<td>%.3f<td>%.4f\n",
                t.tokens_per_second, t.gflops, t.compute, t.disk_wait, t.link_wait, t.verify, t.make,
                t.update, t.disk_bytes_per_second * 1e-9, p->steps[i].loss);
    }
    fprintf(f, "</table></div>\n");
}

typedef struct blob_times {
    uint64_t visits, read, copy;
    qs_profile_split split;
    double predicted_ms;
} blob_times;

/* [blobs]: the last step's visits and transfers of each. */
static void sum_blobs(const qs_profile *p, blob_times *out)
{
    const int step = p->count - 1;
    const qs_profile_step *s = &p->steps[step];
    for (int32_t v = 0; v < p->schedule->count; v++) {
        int32_t b = p->schedule->visits[v].blob;
        if (b < 0) continue;
        qs_profile_split split = qs_profile_visit(p, step, v);
        out[b].visits += s->visits[v].end_ns - s->visits[v].start_ns;
        out[b].split.disk_wait += split.disk_wait;
        out[b].split.link_wait += split.link_wait;
        out[b].split.compute += split.compute;
        if (p->prediction) out[b].predicted_ms += qs_profile_predicted(p, v) * 1e3;
    }
    for (int lane = 0; lane < 2; lane++) {
        uint64_t until = 0;
        for (int k = 0; k <= step; k++) {
            qs_activity *a = qs_calloc((size_t)p->steps[k].recorder.count + 1, sizeof *a);
            int n = qs_profile_lane(&p->steps[k], !lane, &until, a);
            for (int i = 0; k == step && i < n; i++)
                if (a[i].kind != QS_ACTIVITY_WRITE)
                    *(lane ? &out[a[i].blob].copy : &out[a[i].blob].read) += a[i].end_ns - a[i].start_ns;
            qs_free(a);
        }
    }
}

/* A row per blob: its visits of one step together. */
static void blob_table(FILE *f, const qs_profile *p)
{
    static const char *const homes[] = {"disk", "RAM", "device"};
    const qs_layout *l = &p->engine->layout;
    blob_times *times = qs_calloc((size_t)qs_layout_blobs(l), sizeof *times);
    sum_blobs(p, times);
    fprintf(f,
            "<h2>Layers and head tiles, last step</h2>\n<p>Both visits of each together, in ms; reads from "
            "their start until their completion was seen. Hidden: waits of at most 1 %% of its "
            "visits.</p>\n<div class=\"wide\"><table><tr><th>weights"
            "<th>bytes<th>home<th>read<th>copy<th>compute<th>disk wait<th>link wait<th>visits%s<th>hidden\n",
            p->prediction ? "<th>predicted" : "");
    for (int32_t b = 0; b < qs_layout_blobs(l); b++) {
        const blob_times *t = &times[b];
        char bytes[16];
        fprintf(f, "<tr><td>%s %d<td>%s<td>%s<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td>%.2f<td>%.2f",
                b < l->layers ? "layer" : "head tile", b < l->layers ? b : b - l->layers,
                qs_format_bytes(p->engine->blob_bytes[b], bytes), homes[p->engine->plan.home[b]], ms(t->read),
                ms(t->copy), ms(t->split.compute), ms(t->split.disk_wait), ms(t->split.link_wait),
                ms(t->visits));
        if (p->prediction) fprintf(f, "<td>%.2f", t->predicted_ms);
        fprintf(f, "%s\n",
                (t->split.disk_wait + t->split.link_wait) * 100 <= t->visits ? "<td>yes"
                                                                             : "<td class=\"no\">no");
    }
    fprintf(f, "</table></div>\n");
    qs_free(times);
}

static void write_page(FILE *f, const qs_profile *p)
{
    const qs_engine *g = p->engine;
    qs_profile_totals t = qs_profile_total(p, p->count - 1);
    fprintf(f,
            "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" "
            "content=\"width=device-width\"><title>Memory profile</title>\n%s<h1>",
            style);
    escaped(f, p->model);
    fprintf(f, "</h1>\n<p>%s, %d layers, %.2f billion parameters, on ", g->architecture.class_name,
            g->architecture.layers, (double)qs_architecture_parameters(&g->architecture) * 1e-9);
    escaped(f, g->device->info.name);
    fprintf(f, ". Last step: %.3f s", t.seconds);
    if (p->prediction) fprintf(f, ", predicted %.3f s", p->prediction->step_seconds);
    fprintf(f, "; %.1f tokens/s, %.2f GB/s from disk, %.1f %% of the time waiting for it.</p>\n",
            t.tokens_per_second, t.disk_bytes_per_second * 1e-9, 100 * t.disk_wait / t.seconds);
    qs_profile_draw_memory(f, p, p->count - 1, true);
    qs_profile_draw_memory(f, p, p->count - 1, false);
    qs_profile_draw_lanes(f, p, p->count - 1);
    roofline(f, p);
    step_table(f, p);
    blob_table(f, p);
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
