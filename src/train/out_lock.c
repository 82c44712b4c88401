#include "src/train/out_lock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/file_lock.h"
#include "src/base/log.h"
#include "src/base/memory.h"

enum { HOLDER_BYTES = 128 };

/* "process 123 on host", as the holder wrote it. */
static void read_holder(const char *path, char *out)
{
    char *text = NULL;
    snprintf(out, HOLDER_BYTES, "unknown");
    if (qs_file_read(path, HOLDER_BYTES, &text, NULL, NULL)) return;
    text[strcspn(text, "\n")] = 0;
    if (*text) snprintf(out, HOLDER_BYTES, "%s", text);
    qs_free(text);
}

static void write_holder(int fd)
{
    char host[64] = "", text[HOLDER_BYTES];
    if (gethostname(host, sizeof host - 1)) snprintf(host, sizeof host, "this host");
    int n = snprintf(text, sizeof text, "process %ld on %s\n", (long)getpid(), host);
    if (ftruncate(fd, 0) || pwrite(fd, text, (size_t)n, 0) != n)
        qs_debug("the lock does not say who holds it");
}

int qs_out_lock_take(const char *dir, qs_out_lock *l, qs_err *e)
{
    char holder[HOLDER_BYTES] = "";
    *l = (qs_out_lock){-1, qs_path_join(dir, "lock")};
    int rc = qs_lock_try(l->path, true, &l->fd, e);
    if (!rc && l->fd < 0) rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be created", l->path);
    if (!rc) {
        write_holder(l->fd);
        return 0;
    }
    if (rc == 1) {
        read_holder(l->path, holder);
        rc = qs_err_set(
            e, QS_EINVAL, __FILE__, __LINE__,
            "%s is in use by another run (%s); wait for it to end or stop it, or choose another --out", dir,
            holder);
    }
    qs_free(l->path);
    *l = (qs_out_lock){-1, NULL};
    return rc;
}

void qs_out_lock_release(qs_out_lock *l)
{
    if (l->fd < 0) return;
    unlink(l->path); /* while it is held, so that nobody else's is removed */
    qs_lock_release(&l->fd);
    qs_free(l->path);
    *l = (qs_out_lock){-1, NULL};
}
