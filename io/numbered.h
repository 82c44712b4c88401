/* numbered.h - the folders of a directory that are called PREFIX and a number: checkpoint-0, checkpoint-250,
 * ...
 */
#ifndef QS_IO_NUMBERED_H
#define QS_IO_NUMBERED_H

#include <stdint.h>

#include "src/base/error.h"

/* Their numbers, ascending, into *numbers (freed with qs_free; NULL when there are none). Only real
 * directories count, whose name is the prefix and a decimal number without leading zeros: a file, a link or
 * another spelling of that name is somebody else's. A directory that is not there has none; one that cannot
 * be listed is QS_EIO. */
int qs_numbered_list(const char *dir, const char *prefix, int64_t **numbers, int *count, qs_err *e);

/* DIR/PREFIX<number>; freed with qs_free. */
char *qs_numbered_path(const char *dir, const char *prefix, int64_t number);

#endif
