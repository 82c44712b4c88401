#include "src/commands/training_options.h"

void qs_training_options_help(FILE *f)
{
    qs_options o = {0};
    qs_option_set set = {&qs_training_options, &o};
    qs_options_defaults(&o);
    qs_option_print_help(f, &set, 1);
    qs_options_free(&o);
}
