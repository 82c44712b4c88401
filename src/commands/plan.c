/* plan.c - `qlora-stream plan`: where everything would go, whether it fits, and how long a step would take;
 * also on a card that is not here. */
#include <stddef.h>

#include "src/base/log.h"
#include "src/commands/commands.h"
#include "src/commands/training_options.h"
#include "src/model/shapes.h"
#include "src/train/trainer.h"

typedef struct plan_options {
    char *shape, *hardware;
    int64_t layers;
    double nvme;
    uint64_t host_ram;
    uint8_t source[8];
} plan_options;

#define ROW(field, kind, ...)                                                                                \
    {                                                                                                        \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(plan_options, field), .group = "The plan", \
        __VA_ARGS__                                                                                          \
    }
static const qs_option rows[] = {
    ROW(shape, STRING, .help = "instead of --model: a known model by name, without any files (see synth)"),
    ROW(layers, INT, .fallback = "0", .max = 16384, .help = "with --shape: that many layers; 0: all"),
    ROW(hardware, STRING, .help = "plan for this card instead of --device"),
    ROW(nvme, FLOAT, .fallback = "6.8", .min = 0.01, .max = 1000,
        .help = "with --hardware: what the drive reads, GB/s; a Gen3 drive gives 3.2, Gen4 6.8, Gen5 12.5"),
    ROW(host_ram, BYTES, .fallback = "64G", .max = 1e15,
        .help = "with --hardware: the machine's memory; --ram is that less 4 GiB unless it is given"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(plan_options, source)};

static void help(FILE *f)
{
    plan_options p = {0};
    qs_option_set set = {&table, &p};
    fprintf(f, "usage: qlora-stream plan --model DIR | --shape NAME [--data FILE] [--vram 10G] [--ram 16G] "
               "[--hardware CARD] [options of train]\n\n"
               "Prints where everything goes, every pool's bytes, and how long a step will take and why; "
               "status 1 with advice when it does not\n"
               "fit. Without --data, micro-batches are taken to be per_device_train_batch_size x "
               "max_seq_length tokens.\n\nCards:");
    for (int i = 0; qs_hardware_name(i); i++) fprintf(f, " %s", qs_hardware_name(i));
    fprintf(f, "\nShapes:");
    for (int i = 0; qs_shape_name(i); i++) fprintf(f, " %s", qs_shape_name(i));
    fprintf(f, "\n\n");
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_option_clear(&set, 1);
    qs_training_options_help(f);
}

/* What the plan's own options say about the engine. */
static int settle(qs_options *o, const plan_options *p, qs_hardware *card, qs_engine *g, qs_err *e)
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

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    plan_options p = {0};
    qs_option_set more = {&table, &p};
    qs_engine engine = {0};
    qs_hardware card = {0};
    int rc = qs_options_parse(&o, argc, argv, &more, 1, e);
    qs_log_set_level(o.verbose ? QS_LOG_DEBUG : o.quiet ? QS_LOG_WARN : QS_LOG_INFO);
    if (!rc) rc = settle(&o, &p, &card, &engine, e);
    if (!rc) rc = qs_engine_prepare(&o, NULL, o.quiet ? NULL : stderr, &engine, e);
    if (!rc) qs_engine_predict(&engine, true);
    if (!rc) qs_train_print_plan(&engine, stdout);
    qs_engine_close(&engine);
    qs_hardware_free(&card);
    qs_option_clear(&more, 1);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_plan = {
    "plan", "say whether a run fits, what every byte is for, and how long a step takes", help, run};
