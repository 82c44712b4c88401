/* main.c - dispatch; the only file that prints errors and exits.
 *
 * Exit status: 0 done, 1 it failed, 2 the command line or a config file is wrong, 130 interrupted.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/error.h"
#include "src/base/interrupt.h"
#include "src/base/memory.h"
#include "src/base/version.h"
#include "src/commands/commands.h"

static void print_help(FILE *f)
{
    fprintf(f, "qlora-stream: QLoRA fine-tuning of models larger than the memory, streamed through a fixed "
               "budget\n\n"
               "usage: qlora-stream COMMAND [options]\n\n");
    for (const qs_command *const *c = qs_commands; *c; c++)
        fprintf(f, "  %-12s %s\n", (*c)->name, (*c)->summary);
    fprintf(
        f,
        "\nqlora-stream help COMMAND tells the options of a command, qlora-stream --version the version.\n");
}

static int is_help(const char *word) { return !strcmp(word, "--help") || !strcmp(word, "-h"); }

static int run(const qs_command *command, int argc, char **argv)
{
    for (int i = 0; i < argc; i++)
        if (is_help(argv[i])) return command->help(stdout), 0;
    qs_err e = {0};
    int rc = command->run(argc, argv, &e);
    if (!rc && !fflush(stdout)) return 0;
    fprintf(stderr, "qlora-stream %s: %s\n", command->name, rc ? e.text : "cannot write to standard output");
    return rc == -QS_EUSAGE ? 2 : rc == -QS_EINTERRUPT ? 130 : 1;
}

int main(int argc, char **argv)
{
    qs_interrupt_install();
    qs_memory_guard_libraries();
    json_set_alloc_funcs(qs_malloc_for_library, free);
    if (argc < 2) return print_help(stderr), 2;
    if (!strcmp(argv[1], "--version") || !strcmp(argv[1], "-V"))
        return printf("qlora-stream %s\n", QS_VERSION) < 0;
    bool help = is_help(argv[1]) || !strcmp(argv[1], "help");
    if (help && (argc < 3 || is_help(argv[2]))) return print_help(stdout), 0;
    const char *name = argv[help ? 2 : 1];
    const qs_command *command = qs_command_find(name);
    if (command && help) return command->help(stdout), 0;
    if (command) return run(command, argc - 2, argv + 2);
    const qs_command *nearest = qs_command_nearest(name);
    fprintf(stderr, "qlora-stream: there is no command called \"%s\"", name);
    if (nearest) return fprintf(stderr, "; did you mean %s?\n", nearest->name), 2;
    fprintf(stderr, "\n\n");
    print_help(stderr);
    return 2;
}
