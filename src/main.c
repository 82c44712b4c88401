/* main.c - dispatch; the only file that prints errors and exits.
 *
 * Exit status: 0 done, 1 it failed, 2 the command line or a config file is wrong, 130 interrupted.
 */
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "src/base/error.h"
#include "src/base/interrupt.h"
#include "src/commands/commands.h"

static const qs_command *const commands[] = {
    &qs_command_train,
    &qs_command_plan,
    &qs_command_generate,
    &qs_command_inspect,
    &qs_command_plot,
    &qs_command_synth,
    &qs_command_bench,
    &qs_command_options,
};

static void print_help(FILE *f)
{
    fprintf(f, "qlora-stream: QLoRA fine-tuning of models larger than the memory, streamed through a fixed budget\n\n"
               "usage: qlora-stream COMMAND [options]\n\n");
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) fprintf(f, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
    fprintf(f, "\nqlora-stream COMMAND --help tells the options of a command.\n");
}

static int is_help(const char *word) { return !strcmp(word, "--help") || !strcmp(word, "-h"); }

static const qs_command *find(const char *name)
{
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (!strcmp(commands[i]->name, name)) return commands[i];
    return NULL;
}

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

static void on_interrupt(int number)
{
    static const char text[] = "\nstopping after this step; once more to stop at once\n";
    (void)number;
    if (qs_interrupt_request() > 1) _exit(130);
    if (write(STDERR_FILENO, text, sizeof text - 1) < 0) return;
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_handler = on_interrupt, .sa_flags = SA_RESTART};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    if (argc < 2) return print_help(stderr), 2;
    if (is_help(argv[1]) || !strcmp(argv[1], "help")) return print_help(stdout), 0;
    const qs_command *command = find(argv[1]);
    if (command) return run(command, argc - 2, argv + 2);
    fprintf(stderr, "qlora-stream: there is no command called \"%s\"\n\n", argv[1]);
    print_help(stderr);
    return 2;
}
