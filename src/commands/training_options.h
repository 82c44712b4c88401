/* training_options.h - what commands that take the training options share. */
#ifndef QS_COMMANDS_TRAINING_OPTIONS_H
#define QS_COMMANDS_TRAINING_OPTIONS_H

#include <stdio.h>

#include "src/options/options.h"

/* The table of training options with their defaults. */
void qs_training_options_help(FILE *f);

/* Parses them into *o (zeroed by the caller, freed by it in any case) and sets the log level. */
int qs_training_options_parse(qs_options *o, int argc, char **argv, qs_err *e);

#endif
