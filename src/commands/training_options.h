/* training_options.h - what commands that take the training options share. */
#ifndef QS_COMMANDS_TRAINING_OPTIONS_H
#define QS_COMMANDS_TRAINING_OPTIONS_H

#include <stdio.h>

#include "src/options/options.h"

/* The table of training options with their defaults. */
void qs_training_options_help(FILE *f);

#endif
