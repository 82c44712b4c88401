/* inspect.h - `qlora-stream inspect DIR`: what a model or an adapter directory holds. */
#ifndef QS_COMMANDS_INSPECT_H
#define QS_COMMANDS_INSPECT_H

#include "src/base/error.h"

/* Prints, on stdout, the architecture of a model directory, its parameters by part with their bytes in 16 bits and in 4, what
 * an adapter with the given --lora_r, --target_modules ... would train, and the weights found; config.json alone is enough.
 * Weights that are there are checked against it. Of an adapter directory: r, alpha, targets and size.
 * argv[0, argc) follows the command's name. QS_EUSAGE, or what reading the files gives. */
int qs_command_inspect(int argc, char **argv, qs_err *e);

#endif
