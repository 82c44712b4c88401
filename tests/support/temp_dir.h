/* temp_dir.h - a directory of a test's own.
 *
 *     char *dir = test_dir_create();            // under $TMPDIR, else /tmp
 *     char *path = test_path(dir, "x.bin");     // freed by the caller with qs_free
 *     test_dir_remove(dir);                     // the tree and the string
 */
#ifndef QS_TESTS_TEMP_DIR_H
#define QS_TESTS_TEMP_DIR_H

#include <stddef.h>

/* Aborts when it cannot: no test can go on without. */
char *test_dir_create(void);
void test_dir_remove(char *dir);

char *test_path(const char *dir, const char *name);
/* The same, good for three more calls. */
const char *test_path_for_now(const char *dir, const char *name);

/* Writes a file of these bytes; reads one whole (qs_free). Abort on failure. */
void test_file_write(const char *path, const void *data, size_t bytes);
/* Replaces the content of a file that exists, in place and without waiting for the disk: for thousands of
 * damaged variants. */
void test_file_overwrite(const char *path, const void *data, size_t bytes);
char *test_file_read(const char *path, size_t *bytes);

#endif
