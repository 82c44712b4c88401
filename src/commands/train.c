/* train.c - `qlora-stream train`: fine-tune a model. */
#include "src/commands/commands.h"
#include "src/commands/training_options.h"
#include "src/train/trainer.h"

static void help(FILE *f)
{
    fprintf(
        f,
        "usage: qlora-stream train --model DIR --data FILE --out DIR [--vram 10G] [--ram 16G] [options]\n\n"
        "Fine-tunes the model with QLoRA, streaming its layers, inside both memory budgets.\n"
        "Ctrl-C finishes the step, saves and exits with status 130; a second one exits at once.\n\n");
    qs_training_options_help(f);
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    int rc = qs_training_options_parse(&o, argc, argv, e);
    if (!rc) rc = qs_options_check_train(&o, e);
    if (!rc) rc = qs_options_find_model(&o, e);
    if (!rc) rc = qs_train(&o, e);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_train = {"train", "fine-tune a model", help, run};
