/* list.c - the commands by name. */
#include <string.h>

#include "src/base/spelling.h"
#include "src/commands/commands.h"

/* clang-format off */
const qs_command *const qs_commands[] = {
    &qs_command_train,
    &qs_command_plan,
    &qs_command_data,
    &qs_command_generate,
    &qs_command_eval,
    &qs_command_inspect,
    &qs_command_plot,
    &qs_command_synth,
    &qs_command_bench,
    &qs_command_doctor,
    &qs_command_cache,
    &qs_command_options,
    &qs_command_import_config,
    NULL,
};
/* clang-format on */

const qs_command *qs_command_find(const char *name)
{
    for (const qs_command *const *c = qs_commands; *c; c++)
        if (!strcmp((*c)->name, name)) return *c;
    return NULL;
}

const qs_command *qs_command_nearest(const char *name)
{
    const qs_command *best = NULL;
    int distance = 1000;
    for (const qs_command *const *c = qs_commands; *c; c++) {
        int d = qs_edit_distance((*c)->name, strlen((*c)->name), name);
        if (d < distance) distance = d, best = *c;
    }
    return qs_near_enough(distance, name) ? best : NULL;
}
