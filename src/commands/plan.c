/* plan.c - `qlora-stream plan`: where everything would go, and whether it fits. */
#include "src/commands/commands.h"
#include "src/commands/training_options.h"
#include "src/train/trainer.h"

static void help(FILE *f)
{
    fprintf(f, "usage: qlora-stream plan --model DIR [--data FILE] [--vram 10G] [--ram 16G] [options of train]\n\n"
               "Prints where everything goes and every pool's bytes; status 1 with advice when it does not fit.\n"
               "Without --data, micro-batches are taken to be per_device_train_batch_size x max_seq_length tokens.\n\n");
    qs_training_options_help(f);
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    qs_engine engine = {0};
    int rc = qs_training_options_parse(&o, argc, argv, e);
    if (!rc) rc = qs_options_check_plan(&o, e);
    if (!rc) rc = qs_engine_prepare(&o, NULL, o.quiet ? NULL : stderr, &engine, e);
    if (!rc) qs_train_print_plan(&engine, stdout);
    qs_engine_close(&engine);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_plan = {"plan", "say whether a run fits, and what every byte is for", help, run};
