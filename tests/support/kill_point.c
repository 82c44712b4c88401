/* The functions here take the place of the C library's of the same names, in test programs only, and pass on
 * to them. */
#include "tests/support/kill_point.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static atomic_int left; /* calls until the end; 0: never */

void test_kill_at(int n) { atomic_store(&left, n); }

int test_child_exit(pid_t child)
{
    int status;
    if (waitpid(child, &status, 0) == child && WIFEXITED(status)) return WEXITSTATUS(status);
    fprintf(stderr, "test support: a child process crashed\n");
    abort();
}

/* True at the call that is the last. */
static int now(void)
{
    int n = atomic_load(&left);
    while (n > 0 && !atomic_compare_exchange_weak(&left, &n, n - 1)) {
    }
    return n == 1;
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t write(int fd, const void *data, size_t bytes)
{
    if (!now()) return NEXT(write)(fd, data, bytes);
    NEXT(write)(fd, data, bytes / 2);
    _exit(TEST_KILLED);
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    if (!now()) return NEXT(pwrite)(fd, data, bytes, at);
    NEXT(pwrite)(fd, data, bytes / 2 / 4096 * 4096, at); /* direct I/O takes whole units */
    _exit(TEST_KILLED);
}

int fsync(int fd)
{
    if (now()) _exit(TEST_KILLED);
    return NEXT(fsync)(fd);
}

int fdatasync(int fd)
{
    if (now()) _exit(TEST_KILLED);
    return NEXT(fdatasync)(fd);
}

int rename(const char *from, const char *to)
{
    if (now()) _exit(TEST_KILLED);
    return NEXT(rename)(from, to);
}

int ftruncate(int fd, off_t bytes)
{
    if (now()) _exit(TEST_KILLED);
    return NEXT(ftruncate)(fd, bytes);
}

int fallocate(int fd, int mode, off_t at, off_t bytes)
{
    if (now()) _exit(TEST_KILLED);
    return NEXT(fallocate)(fd, mode, at, bytes);
}
