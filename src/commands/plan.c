/* plan.c - `qlora-stream plan`: where everything would go, whether it fits, and how long a step would take;
 * also on a card that is not here. */
#include "src/commands/commands.h"
#include "src/commands/plan_changes.h"
#include "src/commands/training_options.h"
#include "src/model/shapes.h"
#include "src/train/trainer.h"
#include "src/train/verdict.h"

static void help(FILE *f)
{
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
    qs_planned_options_help(f);
    qs_training_options_help(f);
}

static void print(const qs_planned *p, const qs_plan_changes *changes)
{
    qs_verdict v = qs_verdict_of(&p->engine);
    if (!p->p.json) {
        qs_verdict_print(&p->engine, &v, stdout);
        qs_plan_changes_print(changes, stdout);
        printf("\n");
        qs_train_print_plan(&p->engine, stdout);
        return;
    }
    json_t *o = qs_verdict_json(&p->engine, &v);
    qs_plan_changes_json(changes, o);
    json_dumpf(o, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(6));
    printf("\n");
    json_decref(o);
}

/* That a plan does not fit is an answer, and a program reads it like others. */
static void print_refusal(const qs_err *e)
{
    json_t *o = json_pack("{s:b, s:s}", "fits", 0, "why", e->text);
    json_dumpf(o, stdout, JSON_INDENT(2));
    printf("\n");
    json_decref(o);
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_planned p;
    int rc = qs_planned_make(argc, argv, true, &p, e);
    if (!rc) {
        qs_plan_changes changes = {0};
        if (p.p.changes) qs_plan_try_changes(argc, argv, &p, &changes);
        print(&p, &changes);
    } else if (rc == -QS_EBUDGET && p.p.json) {
        print_refusal(e);
    }
    qs_planned_free(&p);
    return rc;
}

const qs_command qs_command_plan = {
    "plan", "say whether a run fits, what every byte is for, and how long a step takes", help, run};
