/* kill_point.h - ends the process in the middle of its n-th change to a file system.
 *
 *     for (int n = 1;; n++) {
 *         pid_t child = fork();
 *         if (!child) {
 *             test_kill_at(n);
 *             ...what must survive being killed...
 *             _exit(0);                            // fewer than n changes: the last round
 *         }
 *         if (test_child_exit(child) == 0) break;
 *         ...look at what is left...
 *     }
 *
 * Counted are write, pwrite, fsync, fdatasync, rename, ftruncate and fallocate of the whole program, also
 * those of other threads (io_uring's are not: use QS_AIO_PREAD). At the n-th call a write leaves half its
 * bytes, and anything else is not done at all.
 */
#ifndef QS_TESTS_KILL_POINT_H
#define QS_TESTS_KILL_POINT_H

#include <sys/types.h>

enum { TEST_KILLED = 87 }; /* exit status */

/* Counts from here; n 0 disarms. */
void test_kill_at(int n);

/* Waits for the child and returns its exit status; aborts when a signal ended it. */
int test_child_exit(pid_t child);

#endif
