#include "io/file_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

/* Whether fd is still the file that path names. */
static bool is_current(int fd, const char *path)
{
    struct stat held, named;
    return !fstat(fd, &held) && !stat(path, &named) && held.st_dev == named.st_dev &&
           held.st_ino == named.st_ino;
}

int qs_lock_try(const char *path, bool alone, int *fd, qs_err *e)
{
    for (;;) {
        *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (*fd < 0 && (errno == EROFS || errno == EACCES)) {
            *fd = open(path, O_RDONLY | O_CLOEXEC);
            if (*fd < 0 && !alone) return 0;
        }
        if (*fd < 0) QS_FAIL(e, QS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
        int held = flock(*fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) && errno == EWOULDBLOCK;
        if (held || is_current(*fd, path)) {
            if (held) qs_lock_release(fd);
            return held;
        }
        qs_lock_release(fd);
    }
}

void qs_lock_release(int *fd)
{
    if (*fd >= 0) close(*fd);
    *fd = -1;
}
