/* commands.h - the subcommands of the program, one file each.
 *
 * To add one: a file src/commands/NAME.c with a `const qs_command qs_command_NAME`, a line here, a line in
 * list.c.
 */
#ifndef QS_COMMANDS_COMMANDS_H
#define QS_COMMANDS_COMMANDS_H

#include <stdio.h>

#include "src/base/error.h"

typedef struct qs_command {
    const char *name;
    const char *summary; /* one line for `qlora-stream --help` */
    /* Prints what `qlora-stream NAME --help` shows. */
    void (*help)(FILE *f);
    /* Does the work; argv[0, argc) is what follows the command's name. Results go to stdout. */
    int (*run)(int argc, char **argv, qs_err *e);
} qs_command;

/* All of them, in the order in which --help lists them; NULL ends the list. */
extern const qs_command *const qs_commands[];

/* The command called `name`, or NULL. */
const qs_command *qs_command_find(const char *name);
/* The command whose name is nearest to a mistyped one, or NULL when none is near. */
const qs_command *qs_command_nearest(const char *name);

extern const qs_command qs_command_train;
extern const qs_command qs_command_plan;
extern const qs_command qs_command_generate;
extern const qs_command qs_command_eval;
extern const qs_command qs_command_inspect;
extern const qs_command qs_command_synth;
extern const qs_command qs_command_bench;
extern const qs_command qs_command_options;
extern const qs_command qs_command_plot;
extern const qs_command qs_command_doctor;
extern const qs_command qs_command_data;
extern const qs_command qs_command_import_config;
extern const qs_command qs_command_cache;

#endif
