#include "src/train/out_lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"

enum { HOLDER_BYTES = 128 };

/* "host process 123", as the holder wrote it. */
static void read_holder(int fd, char *out)
{
    ssize_t n = pread(fd, out, HOLDER_BYTES - 1, 0);
    out[n > 0 ? n : 0] = 0;
    out[strcspn(out, "\n")] = 0;
    if (!*out) snprintf(out, HOLDER_BYTES, "unknown");
}

static void write_holder(int fd)
{
    char host[64] = "", text[HOLDER_BYTES];
    if (gethostname(host, sizeof host - 1)) snprintf(host, sizeof host, "this host");
    int n = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n) qs_debug("the lock does not say who holds it");
}

/* Whether `path` is still the file that is open: the last holder may have removed it between our open and our lock. */
static bool still_there(int fd, const char *path)
{
    struct stat ours, there;
    return !fstat(fd, &ours) && !stat(path, &there) && ours.st_dev == there.st_dev && ours.st_ino == there.st_ino;
}

static int lock_open_file(qs_out_lock *l, const char *dir, qs_err *e)
{
    char holder[HOLDER_BYTES];
    while (flock(l->fd, LOCK_EX | LOCK_NB)) {
        if (errno == EINTR) continue;
        if (errno != EWOULDBLOCK) {
            qs_warn("%s cannot be locked on this file system (%s): see to it that no other process trains there", dir, strerror(errno));
            return 0;
        }
        read_holder(l->fd, holder);
        QS_FAIL(e, QS_EINVAL, "%s is in use by another run (%s); wait for it to end or stop it, or choose another --out", dir, holder);
    }
    return 0;
}

int qs_out_lock_take(const char *dir, qs_out_lock *l, qs_err *e)
{
    *l = (qs_out_lock){-1, qs_path_join(dir, "lock")};
    int rc = 0;
    do {
        if (l->fd >= 0) close(l->fd);
        l->fd = open(l->path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0666);
        if (l->fd < 0) rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be created: %s", l->path, strerror(errno));
        if (!rc) rc = lock_open_file(l, dir, e);
    } while (!rc && !still_there(l->fd, l->path));
    if (!rc) {
        write_holder(l->fd);
        return 0;
    }
    if (l->fd >= 0) close(l->fd);
    qs_free(l->path);
    *l = (qs_out_lock){-1, NULL};
    return rc;
}

void qs_out_lock_release(qs_out_lock *l)
{
    if (l->fd < 0) return;
    unlink(l->path); /* while it is held, so that nobody else's is removed */
    close(l->fd);
    qs_free(l->path);
    *l = (qs_out_lock){-1, NULL};
}
