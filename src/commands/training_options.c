#include "src/commands/training_options.h"

#include "src/base/log.h"

void qs_training_options_help(FILE *f)
{
    qs_options o = {0};
    qs_option_set set = {&qs_training_options, &o};
    qs_options_defaults(&o);
    qs_option_print_help(f, &set, 1);
    qs_options_free(&o);
}

int qs_training_options_parse(qs_options *o, int argc, char **argv, qs_err *e)
{
    QS_TRY(qs_options_parse(o, argc, argv, NULL, 0, e));
    qs_log_set_level(o->verbose ? QS_LOG_DEBUG : o->quiet ? QS_LOG_WARN : QS_LOG_INFO);
    return 0;
}
