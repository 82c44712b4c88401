#include "io/numbered.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "src/base/memory.h"

enum { MAX_DIGITS = 18 };

static bool number_of(const char *text, int64_t *out)
{
    size_t digits = strspn(text, "0123456789");
    if (!digits || digits > MAX_DIGITS || text[digits] || (text[0] == '0' && digits > 1)) return false;
    *out = strtoll(text, NULL, 10);
    return true;
}

static int ascending(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

int qs_numbered_list(const char *dir, const char *prefix, int64_t **numbers, int *count, qs_err *e)
{
    *numbers = NULL;
    *count = 0;
    DIR *d = opendir(dir);
    if (!d && errno == ENOENT) return 0;
    if (!d) QS_FAIL(e, QS_EIO, "%s: cannot be listed: %s", dir, strerror(errno));
    struct dirent *entry;
    for (errno = 0; (entry = readdir(d)); errno = 0) {
        int64_t number;
        struct stat st;
        if (strncmp(entry->d_name, prefix, strlen(prefix)) ||
            !number_of(entry->d_name + strlen(prefix), &number))
            continue;
        if (fstatat(dirfd(d), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) || !S_ISDIR(st.st_mode)) continue;
        *numbers = qs_realloc(*numbers, (size_t)(*count + 1) * sizeof **numbers);
        (*numbers)[(*count)++] = number;
    }
    int error = errno;
    closedir(d);
    if (error) {
        qs_free(*numbers);
        *numbers = NULL;
        *count = 0;
        QS_FAIL(e, QS_EIO, "%s: cannot be listed: %s", dir, strerror(error));
    }
    if (*count) qsort(*numbers, (size_t)*count, sizeof **numbers, ascending);
    return 0;
}

char *qs_numbered_path(const char *dir, const char *prefix, int64_t number)
{
    return qs_printf("%s/%s%" PRId64, dir, prefix, number);
}
