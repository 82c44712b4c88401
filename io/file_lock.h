/* file_lock.h - locks that processes of this program hold on files, so that one writes and others wait or
 * read, and nobody removes what is in use.
 *
 * flock on a file that exists for this alone: the kernel lets go of it however its holder ends. On a file
 * system without locks everybody gets them.
 */
#ifndef QS_IO_FILE_LOCK_H
#define QS_IO_FILE_LOCK_H

#include <stdbool.h>

#include "src/base/error.h"

/* Locks `path`, which is created when it is missing, for this process alone or shared with others; never
 * waits. Returns 0 with *fd to close at the end (-1: nothing to lock there, as on a read-only file system
 * where no such file is), 1 when another process holds it otherwise, or QS_EIO. A file that is removed or
 * replaced meanwhile does not count: the lock is on what `path` names afterwards. */
int qs_lock_try(const char *path, bool alone, int *fd, qs_err *e);

/* Closes *fd, and with it the lock; -1 is fine. */
void qs_lock_release(int *fd);

#endif
