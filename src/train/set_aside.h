/* set_aside.h - a checkpoint's folder under another name, so that nothing is lost where a new one will stand.
 */
#ifndef QS_TRAIN_SET_ASIDE_H
#define QS_TRAIN_SET_ASIDE_H

#include "src/base/error.h"

#define QS_CHECKPOINT_ASIDE "set-aside-checkpoint-"

/* Renames whatever stands at the path of a checkpoint (DIR/checkpoint-N), to a name that is free. Nothing
 * there: fine. QS_EIO. */
int qs_set_aside(const char *path, qs_err *e);

#endif
