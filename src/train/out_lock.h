/* out_lock.h - one process at a time writes into OUT.
 *
 * OUT/lock is held with flock(2) for as long as the process lives and says who holds it (host and process). A
 * run that ends removes it; what a killed one left behind is not held and stops nobody.
 */
#ifndef QS_TRAIN_OUT_LOCK_H
#define QS_TRAIN_OUT_LOCK_H

#include "src/base/error.h"

typedef struct qs_out_lock {
    int fd;     /* -1: not held */
    char *path; /* owned */
} qs_out_lock;

/* Takes the lock of a folder that exists. QS_EINVAL names the holder when there is one; QS_EIO. On a file
 * system without locks everybody gets it. */
int qs_out_lock_take(const char *dir, qs_out_lock *out, qs_err *e);

/* Removes the file and lets go. Safe on a lock that is not held. */
void qs_out_lock_release(qs_out_lock *lock);

#endif
