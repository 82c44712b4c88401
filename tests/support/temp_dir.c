#include "tests/support/temp_dir.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/memory.h"

static void must(int rc, const qs_err *e)
{
    if (!rc) return;
    fprintf(stderr, "test support: %s\n", e->text);
    abort();
}

char *test_dir_create(void)
{
    const char *base = getenv("TMPDIR");
    char *dir = qs_printf("%s/qs-test-XXXXXX", base && *base ? base : "/tmp");
    if (!mkdtemp(dir)) {
        perror(dir);
        abort();
    }
    return dir;
}

void test_dir_remove(char *dir)
{
    qs_err e = {0};
    must(qs_dir_remove(dir, &e), &e);
    qs_free(dir);
}

char *test_path(const char *dir, const char *name) { return qs_path_join(dir, name); }

const char *test_path_for_now(const char *dir, const char *name)
{
    static char paths[4][4096];
    static int turn;
    char *path = paths[turn++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

void test_file_write(const char *path, const void *data, size_t bytes)
{
    qs_err e = {0};
    must(qs_file_replace(path, data, bytes, &e), &e);
}

void test_file_overwrite(const char *path, const void *data, size_t bytes)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || pwrite(fd, data, bytes, 0) != (ssize_t)bytes || ftruncate(fd, (off_t)bytes)) {
        perror(path);
        abort();
    }
    close(fd);
}

char *test_file_read(const char *path, size_t *bytes)
{
    qs_err e = {0};
    char *text = NULL;
    must(qs_file_read(path, (size_t)1 << 40, &text, bytes, &e), &e);
    return text;
}
