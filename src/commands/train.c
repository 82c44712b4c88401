/* train.c - `qlora-stream train`: fine-tune a model. */
#include <stddef.h>

#include "src/base/log.h"
#include "src/commands/commands.h"
#include "src/commands/training_options.h"
#include "src/train/trainer.h"

typedef struct train_options {
    bool dry_run;
    uint8_t source[1];
} train_options;

static const qs_option rows[] = {
    {.name = "dry_run",
     .type = QS_OPT_BOOL,
     .offset = offsetof(train_options, dry_run),
     .group = "Before training",
     .fallback = "false",
     .help = "check everything, print what the run will take, and leave OUT as it is"},
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(train_options, source)};

static void help(FILE *f)
{
    fprintf(
        f,
        "usage: qlora-stream train --model DIR --data FILE --out DIR [--vram 10G] [--ram 16G] [options]\n\n"
        "Fine-tunes the model with QLoRA, streaming its layers, inside both memory budgets.\n"
        "Ctrl-C finishes the step, saves and exits with status 130; a second one exits at once.\n\n");
    train_options t = {0};
    qs_option_set set = {&table, &t};
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_training_options_help(f);
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    train_options t = {0};
    qs_option_set more = {&table, &t};
    int rc = qs_options_parse(&o, argc, argv, &more, 1, e);
    qs_log_set_level(o.verbose ? QS_LOG_DEBUG : o.quiet ? QS_LOG_WARN : QS_LOG_INFO);
    if (!rc) rc = qs_options_check_train(&o, e);
    if (!rc) rc = qs_options_find_model(&o, e);
    if (!rc) rc = t.dry_run ? qs_train_dry_run(&o, stdout, e) : qs_train(&o, e);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_train = {"train", "fine-tune a model", help, run};
