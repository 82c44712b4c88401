/* file.h - small whole files: read at once, replaced atomically; and the few directory calls that the program
 * needs.
 *
 * A replaced file is written beside its place as PATH.XXXXXX.tmp, synced, renamed over PATH, and the
 * directory is synced: whoever looks, also after a power cut, finds either the old bytes or the new ones. Of
 * two processes that replace the same path at once the last one counts. What a killed process left of such a
 * file is removed by the next that replaces it; the writer's lock on it (io/file_lock.h) tells it from one in
 * the making.
 *
 *     qs_file_writer w;
 *     QS_TRY(qs_file_begin(path, &w, e));
 *     if ((rc = qs_file_append(&w, p, n, e)) || (rc = qs_file_commit(&w, e))) qs_file_abort(&w);
 */
#ifndef QS_IO_FILE_H
#define QS_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

/* Opens a plain file for reading; anything else (a pipe, which would block, or an endless device) is QS_EIO
 * at once. QS_EMISSING. Close with close(2). */
int qs_file_open(const char *path, int *fd, qs_err *e);

/* The whole file, NUL-terminated (the NUL is not counted in *bytes, which may be NULL). More than max_bytes
 * is QS_EFORMAT, no such file QS_EMISSING. Freed with qs_free. */
int qs_file_read(const char *path, size_t max_bytes, char **out, size_t *bytes, qs_err *e);

/* Replaces path by these bytes, or leaves it as it was. */
int qs_file_replace(const char *path, const void *data, size_t bytes, qs_err *e);

/* The same for content that comes in parts. Nothing is seen at `path` before commit returns 0. */
typedef struct qs_file_writer {
    int fd;
    char *path, *temporary; /* owned */
} qs_file_writer;

int qs_file_begin(const char *path, qs_file_writer *out, qs_err *e);
int qs_file_append(qs_file_writer *w, const void *data, size_t bytes, qs_err *e);
/* Publishes the file and ends the writer. On failure the writer is still open: abort it. */
int qs_file_commit(qs_file_writer *w, qs_err *e);
/* Removes what was written and ends the writer; path is as it was. Safe on a writer that has ended. */
void qs_file_abort(qs_file_writer *w);

bool qs_file_exists(const char *path);
/* Creates a directory and its parents, and makes each new one durable; existing is fine. */
int qs_dir_create(const char *path, qs_err *e);
/* fsync of a directory, after a rename in it. */
int qs_dir_sync(const char *path, qs_err *e);
/* Removes a directory tree; absent is fine. Only plain files, links and directories; never follows links. */
int qs_dir_remove(const char *path, qs_err *e);
/* Free bytes, for an ordinary user, of the file system that holds path, or will hold it: the nearest parent
 * that exists counts. */
int qs_dir_free_bytes(const char *path, uint64_t *out, qs_err *e);

/* Whether two paths lead to the same file or directory. */
bool qs_same_file(const char *a, const char *b);
/* Whether path is an entry of dir, however either is written. Both must exist. */
bool qs_path_lies_in(const char *path, const char *dir);

/* The directory part of path: "." when there is none. Freed with qs_free. */
char *qs_path_parent(const char *path);

/* dir + "/" + name; freed with qs_free. */
char *qs_path_join(const char *dir, const char *name);

#endif
