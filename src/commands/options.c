/* options.c - `qlora-stream options`: what a command line comes to, as YAML; or the reference page of all options. */
#include <stddef.h>

#include "src/base/memory.h"
#include "src/commands/commands.h"
#include "src/options/options.h"

typedef struct flags {
    bool markdown;
    uint8_t source[1];
} flags;

static const qs_option rows[] = {{.name = "markdown", .type = QS_OPT_BOOL, .offset = offsetof(flags, markdown), .fallback = "false",
                                  .group = "This command", .help = "print the reference page, docs/options.md, instead"}};
static const qs_option_table table = {.rows = rows, .count = 1, .sources_offset = offsetof(flags, source)};

static const char page[] =
    "# Options\n\n"
    "Printed from the option table by `make docs`; edit `src/options/table.c` instead.\n\n"
    "Every option is a flag of `train` and `plan` (`--learning-rate 1e-4`, `--learning_rate=1e-4`) and a key of a `--config` file\n"
    "(`learning_rate: 1e-4`). The command line wins over `--config`, that over `--preset`, that over the default. Booleans take\n"
    "`--packing` and `--no-packing`; lists take commas or a repeated flag, and lists in YAML. Sizes: `10G` and `10GiB` are 10 * 2^30\n"
    "bytes, `10GB` is 10^10. `qlora-stream options [options]` prints what a command line comes to.\n\n"
    "Presets (`configs/`): `qlora-paper`, `torchtune`, `axolotl`, `unsloth`, each with the values of the recipe it is named after.\n\n";

static void help(FILE *f)
{
    qs_options o = {0};
    fprintf(f, "usage: qlora-stream options [--markdown] [training options]\n\n"
               "Prints the options in effect as YAML, ready for --config: defaults, preset, config file and command line together.\n");
    qs_option_print_help(f, &(qs_option_set){&table, &(flags){0}}, 1);
    qs_option_print_help(f, &(qs_option_set){&qs_training_options, &o}, 1);
}

static int run(int argc, char **argv, qs_err *e)
{
    flags own = {0};
    qs_options o = {0};
    qs_option_set set = {&qs_training_options, &o};
    int rc = qs_options_parse(&o, argc, argv, &(qs_option_set){&table, &own}, 1, e);
    if (!rc && own.markdown) {
        fputs(page, stdout);
        qs_option_print_markdown(stdout, &set, 1);
    } else if (!rc) {
        char *yaml = qs_option_to_yaml(&set, 1);
        fputs(yaml, stdout);
        qs_free(yaml);
    }
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_options = {"options", "print the options in effect, or all of them", help, run};
