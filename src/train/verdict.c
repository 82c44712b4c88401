#include "src/train/verdict.h"

#include <inttypes.h>
#include <math.h>

#include "src/base/duration.h"
#include "src/step/visit.h"

/* What makers promise of a 1 TB consumer drive (data sheets of 2022 to 2025). */
#define DRIVE_LIFE_BYTES 600e12

qs_verdict qs_verdict_of(const qs_engine *g)
{
    const qs_prediction *p = &g->prediction;
    qs_verdict v = {.steps = qs_engine_total_steps(g)};
    double cache = 0, steps = v.steps ? (double)v.steps : 1;
    for (int b = 0; b < g->plan.blobs; b++) cache += (double)g->blob_bytes[b];
    v.written_bytes = cache + steps * (double)qs_visit_written_bytes(&g->sweep_config, &g->update_config);
    if (!p->known) return v;
    v.step_seconds = p->step_seconds;
    v.tokens_per_second = p->tokens / p->step_seconds;
    v.read_bytes = steps * (double)p->sim.steady.disk_read_bytes;
    if (!v.steps) return v;
    v.seconds = p->first_step_seconds + (double)(v.steps - 1) * p->step_seconds;
    if (g->hardware) v.kwh = g->hardware->watts * v.seconds / 3.6e6;
    return v;
}

/* "1.2 TB", in decimal units as drives are sold. */
static const char *decimal(double bytes, char text[16])
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB", "EB"};
    int u = 0;
    for (; bytes >= 999.5 && u < 6; u++) bytes /= 1000;
    snprintf(text, 16, bytes < 9.95 ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return text;
}

static void print_time(const qs_engine *g, const qs_verdict *v, FILE *f)
{
    char step[16], all[16];
    const qs_prediction *p = &g->prediction;
    qs_format_duration(v->step_seconds, step);
    if (v->step_seconds < 10) snprintf(step, sizeof step, "%.2gs", v->step_seconds);
    if (!v->step_seconds) {
        fprintf(f, "  how long it takes is not known: `qlora-stream plan` measures this machine\n");
        return;
    }
    if (v->steps)
        fprintf(f, "  %" PRId64 " steps take about %s", v->steps, qs_format_duration(v->seconds, all));
    else
        fprintf(f, "  a million tokens take about %s", qs_format_duration(1e6 / v->tokens_per_second, all));
    fprintf(f, ": %.4g tokens/s, %s per step of %.0f tokens; %s binds\n", v->tokens_per_second, step,
            p->tokens, qs_sim_resource_name(p->sim.critical));
}

static void print_wear(const qs_verdict *v, FILE *f)
{
    char read[16], written[16];
    double share = 100 * v->written_bytes / DRIVE_LIFE_BYTES;
    fprintf(f, "  %s: %s written, ", v->steps ? "disk" : "disk, in one step",
            decimal(v->written_bytes, written));
    if (share < 0.01)
        fprintf(f, "under 0.01%%");
    else
        fprintf(f, "%.2g%%", share);
    fprintf(f, " of what a 1 TB drive is rated for (600 TB)");
    if (v->read_bytes > 0) fprintf(f, "; %s read", decimal(v->read_bytes, read));
    fprintf(f, "\n");
}

/* "70.6 billion" */
static const char *in_words(double n, char text[32])
{
    static const char *const words[] = {"", " thousand", " million", " billion", " trillion"};
    int w = 0;
    for (; n >= 999.5 && w < 4; w++) n /= 1000;
    snprintf(text, 32, n < 99.95 && w ? "%.1f%s" : "%.0f%s", n, words[w]);
    return text;
}

void qs_verdict_print(const qs_engine *g, const qs_verdict *v, FILE *f)
{
    char parameters[32];
    fprintf(f, "fits: %s, %s parameters, on %s\n", g->architecture.class_name,
            in_words((double)qs_architecture_parameters(&g->architecture), parameters), g->device->info.name);
    print_time(g, v, f);
    print_wear(v, f);
    if (v->kwh > 0) fprintf(f, "  energy: %.2g kWh at the card's %.0f W\n", v->kwh, g->hardware->watts);
}

/* ---- JSON --------------------------------------------------------------------------------------------- */

static json_t *pool(uint64_t budget, uint64_t used, uint64_t smallest)
{
    return json_pack("{s:I, s:I, s:I}", "budget_bytes", (json_int_t)budget, "used_bytes", (json_int_t)used,
                     "smallest_bytes", (json_int_t)smallest);
}

static json_t *known(double x) { return x > 0 ? json_real(x) : json_null(); }

json_t *qs_verdict_json(const qs_engine *g, const qs_verdict *v)
{
    const qs_plan *p = &g->plan;
    const qs_prediction *predicted = &g->prediction;
    uint64_t vram, ram;
    qs_placement_minimum(&g->job, &vram, &ram);
    json_t *items = json_array();
    for (int i = 0; i < p->item_count; i++)
        json_array_append_new(items, json_pack("{s:s, s:s, s:I}", "item", qs_item_name(p->items[i].item),
                                               "pool", qs_pool_name(p->items[i].pool), "bytes",
                                               (json_int_t)p->items[i].bytes));
    json_t *o = json_pack(
        "{s:b, s:s, s:I, s:s, s:s, s:o, s:o, s:o}", "fits", 1, "model", g->architecture.class_name,
        "parameters", (json_int_t)qs_architecture_parameters(&g->architecture), "device",
        g->device->info.name, "compute_dtype", qs_dtype_name(g->sweep_config.type), "vram",
        pool(p->vram_bytes, p->vram_used, vram), "ram", pool(p->ram_bytes, p->ram_used, ram), "items", items);
    QS_ASSERT(o);
    json_object_set_new(o, "steps", v->steps ? json_integer(v->steps) : json_null());
    json_object_set_new(o, "seconds", known(v->seconds));
    json_object_set_new(o, "step_seconds", known(v->step_seconds));
    json_object_set_new(o, "first_step_seconds", known(predicted->first_step_seconds));
    json_object_set_new(o, "tokens_per_step", known(predicted->tokens));
    json_object_set_new(o, "tokens_per_second", known(v->tokens_per_second));
    json_object_set_new(o, "binds",
                        predicted->known ? json_string(qs_sim_resource_name(predicted->sim.critical))
                                         : json_null());
    json_object_set_new(o, "read_bytes", json_real(v->read_bytes));
    json_object_set_new(o, "written_bytes", json_real(v->written_bytes));
    json_object_set_new(o, "kwh", known(v->kwh));
    return o;
}
