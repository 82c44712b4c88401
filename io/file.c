#include "io/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "src/base/memory.h"

#define TEMPORARY_TAIL ".XXXXXX.tmp"

int qs_file_open(const char *path, int *fd, qs_err *e)
{
    struct stat st;
    *fd = open(path,
               O_RDONLY | O_CLOEXEC |
                   O_NONBLOCK); /* NONBLOCK: opening a pipe must not hang; it means nothing for plain files */
    if (*fd < 0)
        QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    if (!fstat(*fd, &st) && S_ISREG(st.st_mode)) return 0;
    close(*fd);
    *fd = -1;
    QS_FAIL(e, QS_EIO, "%s: is not a plain file but a directory, pipe or device; give a plain file", path);
}

int qs_file_read(const char *path, size_t max_bytes, char **out, size_t *bytes, qs_err *e)
{
    int fd;
    QS_TRY(qs_file_open(path, &fd, e));
    struct stat st;
    size_t capacity = 4096, used = 0;
    if (!fstat(fd, &st) && st.st_size > 0 && (uint64_t)st.st_size <= max_bytes)
        capacity = (size_t)st.st_size + 2;
    char *text = qs_malloc(capacity);
    ssize_t n;
    /* One byte more than allowed is asked for, so that a file that is too long shows; the size is only a hint
     * (/proc). */
    while ((n = read(fd, text + used, capacity - 1 - used)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        used += (size_t)n;
        if (used > max_bytes) break;
        if (used + 1 == capacity) text = qs_realloc(text, capacity *= 2);
    }
    int error = errno;
    close(fd);
    if (n < 0) {
        qs_free(text);
        QS_FAIL(e, QS_EIO, "%s: cannot be read: %s", path, strerror(error));
    }
    if (used > max_bytes) {
        qs_free(text);
        QS_FAIL(e, QS_EFORMAT, "%s: is larger than the %zu bytes that such a file can have", path, max_bytes);
    }
    text[used] = 0;
    *out = text;
    if (bytes) *bytes = used;
    return 0;
}

char *qs_path_parent(const char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    while (n && path[n - 1] != '/') n--;
    while (n > 1 && path[n - 1] == '/') n--;
    return n ? qs_strndup(path, n) : qs_strdup(".");
}

/* "NAME.XXXXXX.tmp" of this NAME, a plain file that no live process is writing. */
static bool is_left_over(int parent, const char *entry, const char *name)
{
    struct stat st;
    size_t n = strlen(name);
    if (strncmp(entry, name, n) || entry[n] != '.' || strlen(entry) != n + sizeof TEMPORARY_TAIL - 1 ||
        strcmp(entry + n + 7, ".tmp"))
        return false;
    if (fstatat(parent, entry, &st, AT_SYMLINK_NOFOLLOW) || !S_ISREG(st.st_mode)) return false;
    int fd = openat(parent, entry, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool left = fd >= 0 && !flock(fd, LOCK_EX | LOCK_NB);
    if (fd >= 0) close(fd);
    return left;
}

/* What killed processes left. A failure here is nobody's trouble. */
static void remove_left_overs(const char *path)
{
    char *directory = qs_path_parent(path);
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    DIR *d = opendir(directory);
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (is_left_over(dirfd(d), entry->d_name, name)) unlinkat(dirfd(d), entry->d_name, 0);
    if (d) closedir(d);
    qs_free(directory);
}

int qs_file_begin(const char *path, qs_file_writer *out, qs_err *e)
{
    remove_left_overs(path);
    *out = (qs_file_writer){.path = qs_strdup(path), .temporary = qs_printf("%s" TEMPORARY_TAIL, path)};
    mode_t mask = umask(0);
    umask(mask);
    out->fd = mkostemps(out->temporary, sizeof ".tmp" - 1, O_CLOEXEC);
    if (out->fd >= 0) {
        flock(out->fd, LOCK_EX | LOCK_NB);
        fchmod(out->fd, 0666 & ~mask);
        return 0;
    }
    qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be created: %s", out->temporary, strerror(errno));
    qs_free(out->path);
    qs_free(out->temporary);
    *out = (qs_file_writer){.fd = -1};
    return -QS_EIO;
}

int qs_file_append(qs_file_writer *w, const void *data, size_t bytes, qs_err *e)
{
    for (const char *at = data; bytes;) {
        ssize_t n = write(w->fd, at, bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) QS_FAIL(e, QS_EIO, "%s: cannot be written: %s", w->temporary, strerror(errno));
        at += n;
        bytes -= (size_t)n;
    }
    return 0;
}

int qs_file_commit(qs_file_writer *w, qs_err *e)
{
    if (fsync(w->fd)) QS_FAIL(e, QS_EIO, "%s: cannot be synced to disk: %s", w->temporary, strerror(errno));
    if (rename(w->temporary, w->path))
        QS_FAIL(e, QS_EIO, "%s: cannot be renamed to %s: %s", w->temporary, w->path, strerror(errno));
    char *directory = qs_path_parent(w->path);
    int rc = qs_dir_sync(directory, e);
    qs_free(directory);
    if (rc) return rc;
    close(w->fd);
    w->fd = -1; /* nothing is left for abort to remove */
    qs_file_abort(w);
    return 0;
}

void qs_file_abort(qs_file_writer *w)
{
    if (w->fd >= 0) {
        close(w->fd);
        unlink(w->temporary);
    }
    qs_free(w->path);
    qs_free(w->temporary);
    *w = (qs_file_writer){.fd = -1};
}

int qs_file_replace(const char *path, const void *data, size_t bytes, qs_err *e)
{
    qs_file_writer w;
    QS_TRY(qs_file_begin(path, &w, e));
    int rc = qs_file_append(&w, data, bytes, e);
    if (!rc) rc = qs_file_commit(&w, e);
    if (rc) qs_file_abort(&w);
    return rc;
}

bool qs_file_exists(const char *path) { return access(path, F_OK) == 0; }

int qs_dir_create(const char *path, qs_err *e)
{
    char *partial = qs_strdup(path), *at = partial;
    int rc = 0;
    for (bool more = true; more && !rc; at++) {
        at = strchrnul(at + (at == partial && *at == '/'), '/');
        more = *at != 0;
        *at = 0;
        struct stat st;
        if (mkdir(partial, 0777)) {
            int error = errno;
            /* Not only EEXIST: a parent may exist on a read-only file system, or under one that we may not
             * write. */
            if (!stat(partial, &st)) error = S_ISDIR(st.st_mode) ? 0 : ENOTDIR;
            if (error)
                rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be created as a directory: %s",
                                partial, strerror(error));
        } else {
            char *parent = qs_path_parent(partial);
            if (!access(parent, R_OK))
                rc = qs_dir_sync(parent, e); /* one that may only be passed through cannot be opened */
            qs_free(parent);
        }
        if (more) *at = '/';
    }
    qs_free(partial);
    return rc;
}

int qs_dir_sync(const char *path, qs_err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) QS_FAIL(e, QS_EIO, "%s: cannot be opened as a directory: %s", path, strerror(errno));
    /* Some file systems cannot sync directories and say EINVAL; there is nothing more to do on them. */
    int error = fsync(fd) && errno != EINVAL ? errno : 0;
    close(fd);
    if (error) QS_FAIL(e, QS_EIO, "%s: cannot be synced to disk: %s", path, strerror(error));
    return 0;
}

/* Each level holds one descriptor open; deeper trees than this are not ours. */
#define REMOVE_MAX_DEPTH 64

static int remove_entries(int fd, const char *path, int depth, qs_err *e);

static int remove_entry(int parent, const char *name, const char *path, int depth, qs_err *e)
{
    struct stat st;
    if (fstatat(parent, name, &st, AT_SYMLINK_NOFOLLOW))
        QS_FAIL(e, QS_EIO, "%s/%s: cannot be removed: %s", path, name, strerror(errno));
    if (S_ISREG(st.st_mode) || S_ISLNK(st.st_mode)) {
        if (unlinkat(parent, name, 0))
            QS_FAIL(e, QS_EIO, "%s/%s: cannot be removed: %s", path, name, strerror(errno));
        return 0;
    }
    if (!S_ISDIR(st.st_mode))
        QS_FAIL(e, QS_EINVAL, "%s/%s: is neither a plain file nor a directory; remove it by hand", path,
                name);
    if (depth == REMOVE_MAX_DEPTH) QS_FAIL(e, QS_EINVAL, "%s: is nested too deeply; remove it by hand", path);
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) QS_FAIL(e, QS_EIO, "%s/%s: cannot be opened: %s", path, name, strerror(errno));
    char *below = qs_path_join(path, name);
    int rc = remove_entries(fd, below, depth + 1, e);
    qs_free(below);
    QS_TRY(rc);
    if (unlinkat(parent, name, AT_REMOVEDIR))
        QS_FAIL(e, QS_EIO, "%s/%s: cannot be removed: %s", path, name, strerror(errno));
    return 0;
}

/* Empties the directory open as fd, and closes fd. */
static int remove_entries(int fd, const char *path, int depth, qs_err *e)
{
    DIR *dir = fdopendir(fd);
    if (!dir) {
        qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be listed: %s", path, strerror(errno));
        close(fd);
        return -QS_EIO;
    }
    int rc = 0;
    for (struct dirent *d; !rc && (d = readdir(dir));)
        if (strcmp(d->d_name, ".") && strcmp(d->d_name, ".."))
            rc = remove_entry(dirfd(dir), d->d_name, path, depth, e);
    closedir(dir);
    return rc;
}

int qs_dir_remove(const char *path, qs_err *e)
{
    int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return 0;
    if (fd < 0) QS_FAIL(e, QS_EIO, "%s: cannot be opened as a directory: %s", path, strerror(errno));
    QS_TRY(remove_entries(fd, path, 0, e));
    if (rmdir(path)) QS_FAIL(e, QS_EIO, "%s: cannot be removed: %s", path, strerror(errno));
    return 0;
}

int qs_dir_free_bytes(const char *path, uint64_t *out, qs_err *e)
{
    struct statvfs fs;
    char *at = qs_strdup(path);
    int rc;
    while ((rc = statvfs(at, &fs)) && errno == ENOENT && strcmp(at, ".") && strcmp(at, "/")) {
        char *up = qs_path_parent(at);
        qs_free(at);
        at = up;
    }
    qs_free(at);
    if (rc)
        QS_FAIL(e, QS_EIO, "%s: its file system cannot be asked for free space: %s", path, strerror(errno));
    *out = (uint64_t)fs.f_bavail * fs.f_frsize;
    return 0;
}

bool qs_same_file(const char *a, const char *b)
{
    struct stat x, y;
    return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

bool qs_path_lies_in(const char *path, const char *dir)
{
    char *parent = qs_path_parent(path);
    bool inside = qs_same_file(parent, dir);
    qs_free(parent);
    return inside;
}

char *qs_path_join(const char *dir, const char *name) { return qs_printf("%s/%s", dir, name); }
