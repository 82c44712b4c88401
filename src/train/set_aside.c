#include "src/train/set_aside.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/options/saved.h"

int qs_set_aside(const char *path, qs_err *e)
{
    struct stat st;
    if (lstat(path, &st) && errno == ENOENT) return 0;
    const char *slash = strrchr(path, '/'), *number = slash + 1 + strlen(QS_CHECKPOINT);
    char *aside = NULL;
    for (int n = 1; !aside || !lstat(aside, &st); n++) {
        char again[16] = "";
        if (n > 1) snprintf(again, sizeof again, ".%d", n);
        qs_free(aside);
        aside = qs_printf("%.*s/" QS_CHECKPOINT_ASIDE "%s%s", (int)(slash - path), path, number, again);
    }
    int rc = rename(path, aside)
                 ? qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be set aside as %s: %s", path, aside,
                              strerror(errno))
                 : 0;
    if (!rc) qs_info("%s now stands aside as %s", path, strrchr(aside, '/') + 1);
    qs_free(aside);
    return rc;
}
