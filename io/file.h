/* file.h - small whole files: read at once, replaced atomically.
 */
#ifndef QS_IO_FILE_H
#define QS_IO_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

/* The whole file, NUL-terminated (the NUL is not counted in *bytes, which may be NULL). More than max_bytes is QS_EFORMAT. Freed with qs_free. */
int qs_file_read(const char *path, size_t max_bytes, char **out, size_t *bytes, qs_err *e);

/* Replaces path by these bytes, or leaves it as it was: writes path.tmp, syncs it, renames, syncs the directory. */
int qs_file_replace(const char *path, const void *data, size_t bytes, qs_err *e);

bool qs_file_exists(const char *path);
/* Creates a directory and its parents; existing is fine. */
int qs_dir_create(const char *path, qs_err *e);
/* fsync of a directory, after a rename in it. */
int qs_dir_sync(const char *path, qs_err *e);
/* Removes a directory tree. Only plain files, links and directories; never follows links. */
int qs_dir_remove(const char *path, qs_err *e);
/* Free bytes of the file system that holds path. */
int qs_dir_free_bytes(const char *path, uint64_t *out, qs_err *e);

/* dir + "/" + name; freed with qs_free. */
char *qs_path_join(const char *dir, const char *name);

#endif
