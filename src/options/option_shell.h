/* option_shell.h - the option table for shells and for man: completions and the manual page, both printed,
 * never written by hand. */
#ifndef QS_OPTIONS_OPTION_SHELL_H
#define QS_OPTIONS_OPTION_SHELL_H

#include "src/options/option.h"

/* A command of the program and its line in --help. */
typedef struct qs_shell_command {
    const char *name, *summary;
} qs_shell_command;

/* The program: its commands, and the options that its commands take. */
typedef struct qs_shell_program {
    const char *version;
    const qs_shell_command *commands;
    int command_count;
    const qs_option_table *options;
} qs_shell_program;

/* Completion of commands, options and the words an option takes; file names everywhere else. */
void qs_shell_print_bash(FILE *f, const qs_shell_program *p);
void qs_shell_print_zsh(FILE *f, const qs_shell_program *p);
void qs_shell_print_fish(FILE *f, const qs_shell_program *p);

/* qlora-stream(1) in troff. */
void qs_shell_print_man(FILE *f, const qs_shell_program *p);

#endif
