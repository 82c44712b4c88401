#include "src/commands/planned.h"

#include <stddef.h>

#include "src/base/log.h"

#define ROW(field, kind, ...)                                                              \
    {                                                                                      \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(qs_plan_options, field), \
        .group = "The plan", __VA_ARGS__                                                   \
    }
static const qs_option rows[] = {
    ROW(shape, STRING, .help = "instead of --model: a known model by name, without any files (see synth)"),
    ROW(layers, INT, .fallback = "0", .max = 16384, .help = "with --shape: that many layers; 0: all"),
    ROW(hardware, STRING, .help = "plan for this card instead of --device"),
    ROW(nvme, FLOAT, .fallback = "6.8", .min = 0.01, .max = 1000,
        .help = "with --hardware: what the drive reads, GB/s; a Gen3 drive gives 3.2, Gen4 6.8, Gen5 12.5"),
    ROW(host_ram, BYTES, .fallback = "64G", .max = 1e15,
        .help = "with --hardware: the machine's memory; --ram is that less 4 GiB unless it is given"),
    ROW(changes, BOOL, .fallback = "true",
        .help =
            "try what would make it faster: more memory, another drive, more tokens per step, other cards"),
    ROW(json, BOOL, .fallback = "false", .help = "print everything as JSON"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(qs_plan_options, source)};

void qs_planned_options_help(FILE *f)
{
    qs_plan_options p = {0};
    qs_option_set set = {&table, &p};
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_option_clear(&set, 1);
}

/* What the plan's own options say about the engine. */
static int settle(qs_options *o, const qs_plan_options *p, qs_hardware *card, qs_engine *g, qs_err *e)
{
    const uint64_t for_the_system = UINT64_C(4) << 30;
    if (p->shape && o->model)
        QS_FAIL(e, QS_EUSAGE, "--shape and --model are both given; --shape needs no model directory");
    g->shape = p->shape;
    g->shape_layers = (int32_t)p->layers;
    if (!p->shape) QS_TRY(qs_options_check_plan(o, e));
    QS_TRY(qs_options_find_model(o, e));
    if (!p->hardware) return 0;
    QS_TRY(qs_hardware_find(p->hardware, card, e));
    g->hardware = card;
    g->host = (qs_hardware_host){.nvme_gbs = p->nvme};
    if (!o->ram) o->ram = p->host_ram > 2 * for_the_system ? p->host_ram - for_the_system : p->host_ram / 2;
    return 0;
}

int qs_planned_make(int argc, char **argv, bool measure, qs_planned *out, qs_err *e)
{
    *out = (qs_planned){0};
    qs_option_set more = {&table, &out->p};
    QS_TRY(qs_options_parse(&out->o, argc, argv, &more, 1, e));
    if (measure) qs_log_set_level(out->o.verbose ? QS_LOG_DEBUG : out->o.quiet ? QS_LOG_WARN : QS_LOG_INFO);
    QS_TRY(settle(&out->o, &out->p, &out->card, &out->engine, e));
    QS_TRY(qs_engine_prepare(&out->o, NULL, measure && !out->o.quiet ? stderr : NULL, &out->engine, e));
    qs_engine_predict(&out->engine, measure);
    return 0;
}

void qs_planned_free(qs_planned *p)
{
    qs_engine_close(&p->engine);
    qs_hardware_free(&p->card);
    qs_option_clear(&(qs_option_set){&table, &p->p}, 1);
    qs_options_free(&p->o);
}
