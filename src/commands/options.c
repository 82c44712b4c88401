/* options.c - `qlora-stream options`: what a command line comes to, as YAML; or all options for people, man
 * and shells. */
#include <stddef.h>

#include "src/base/memory.h"
#include "src/base/version.h"
#include "src/commands/commands.h"
#include "src/options/option_shell.h"
#include "src/options/options.h"

typedef enum form { AS_YAML, AS_MARKDOWN, AS_MAN, AS_BASH, AS_ZSH, AS_FISH } form;

typedef struct flags {
    form as;
    uint8_t source[1];
} flags;

static const qs_option_name forms[] = {{"yaml", AS_YAML}, {"markdown", AS_MARKDOWN}, {"man", AS_MAN},
                                       {"bash", AS_BASH}, {"zsh", AS_ZSH},           {"fish", AS_FISH},
                                       {NULL, 0}};
static const qs_option rows[] = {{.name = "as",
                                  .type = QS_OPT_ENUM,
                                  .offset = offsetof(flags, as),
                                  .fallback = "yaml",
                                  .names = forms,
                                  .group = "This command",
                                  .help = "yaml: the options in effect; markdown: docs/options.md; man: the "
                                          "manual page; bash, zsh, fish: completions"}};
static const qs_option_table table = {.rows = rows, .count = 1, .sources_offset = offsetof(flags, source)};

static const char page[] =
    "# Options\n\n"
    "Printed from the option table by `make docs`; edit `src/options/table.c` instead.\n\n"
    "Every option is a flag of `train` and `plan` (`--learning-rate 1e-4`, `--learning_rate=1e-4`) and a key "
    "of a `--config` file\n"
    "(`learning_rate: 1e-4`). The command line wins over `--config`, that over `--preset`, that over the "
    "default. Booleans take\n"
    "`--packing` and `--no-packing`; lists take commas or a repeated flag, and lists in YAML. Sizes: `10G` "
    "and `10GiB` are 10 * 2^30\n"
    "bytes, `10GB` is 10^10. `qlora-stream options [options]` prints what a command line comes to.\n\n"
    "Presets (`configs/`): `qlora-paper`, `torchtune`, `axolotl`, `unsloth`, each with the values of the "
    "recipe it is named after.\n\n";

static void help(FILE *f)
{
    qs_options o = {0};
    fprintf(f, "usage: qlora-stream options [--as FORM] [training options]\n\n"
               "Prints the options in effect as YAML, ready for --config: defaults, preset, config file and "
               "command line together.\n");
    qs_option_print_help(f, &(qs_option_set){&table, &(flags){0}}, 1);
    qs_option_print_help(f, &(qs_option_set){&qs_training_options, &o}, 1);
}

static void print_yaml(const qs_option_set *set)
{
    char *yaml = qs_option_to_yaml(set, 1);
    fputs(yaml, stdout);
    qs_free(yaml);
}

static void print_markdown(const qs_option_set *set)
{
    fputs(page, stdout);
    qs_option_print_markdown(stdout, set, 1);
}

static void print_as(form as, const qs_option_set *set)
{
    enum { MOST = 64 };
    static void (*const printers[])(FILE *, const qs_shell_program *) = {[AS_MAN] = qs_shell_print_man,
                                                                         [AS_BASH] = qs_shell_print_bash,
                                                                         [AS_ZSH] = qs_shell_print_zsh,
                                                                         [AS_FISH] = qs_shell_print_fish};
    if (as == AS_YAML) print_yaml(set);
    if (as == AS_MARKDOWN) print_markdown(set);
    if (!printers[as]) return;
    qs_shell_command commands[MOST];
    int n = 0;
    for (; n < MOST && qs_commands[n]; n++)
        commands[n] = (qs_shell_command){qs_commands[n]->name, qs_commands[n]->summary};
    printers[as](stdout, &(qs_shell_program){QS_VERSION, commands, n, set->table});
}

static int run(int argc, char **argv, qs_err *e)
{
    flags own = {0};
    qs_options o = {0};
    qs_option_set set = {&qs_training_options, &o};
    int rc = qs_options_parse(&o, argc, argv, &(qs_option_set){&table, &own}, 1, e);
    if (!rc) print_as(own.as, &set);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_options = {
    "options", "print the options in effect, the reference page, the manual page, completions", help, run};
