#include "tests/fuzz/fuzz.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"

static char dir[64];

static void remove_dir(void)
{
    qs_err e = {0};
    qs_dir_remove(dir, &e);
}

const char *fuzz_dir(void)
{
    if (dir[0]) return dir;
    snprintf(dir, sizeof dir, "%s/qs-fuzz-XXXXXX", access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
    if (!mkdtemp(dir)) {
        perror(dir);
        abort();
    }
    atexit(remove_dir);
    return dir;
}

const char *fuzz_subdir(const char *name)
{
    enum { MANY = 8 };
    static char paths[MANY][128];
    static int next;
    char *path = paths[next++ % MANY];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_dir(), name);
    mkdir(path, 0777);
    return path;
}

const char *fuzz_put(const char *name, const void *data, size_t bytes)
{
    enum { MANY = 16 };
    static char paths[MANY][256];
    static int next;
    char *path = paths[next++ % MANY];
    snprintf(path, sizeof paths[0], "%s/%s", fuzz_dir(), name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0 || (bytes && write(fd, data, bytes) != (ssize_t)bytes)) {
        perror(path);
        abort();
    }
    close(fd);
    return path;
}

void fuzz_remove(const char *name)
{
    char path[256];
    snprintf(path, sizeof path, "%s/%s", fuzz_dir(), name);
    unlink(path);
}

int fuzz_split(const uint8_t *data, size_t size, fuzz_part *parts, int max)
{
    static const char border[] = "\n%%%%\n";
    enum { BORDER = sizeof border - 1 };
    int count = 0;
    memset(parts, 0, (size_t)max * sizeof *parts);
    for (const uint8_t *end = data + size; count < max; count++) {
        const uint8_t *next =
            count + 1 < max && data < end ? memmem(data, (size_t)(end - data), border, BORDER) : NULL;
        parts[count] = (fuzz_part){data, (size_t)((next ? next : end) - data)};
        if (!next) return count + 1;
        data = next + BORDER;
    }
    return count;
}

char *fuzz_text(const uint8_t *data, size_t size)
{
    char *text = malloc(size + 1);
    if (size) memcpy(text, data, size);
    text[size] = 0;
    return text;
}

/* ---- what an input allocates ------------------------------------------------------------------------- */

/* The sanitizers' interface; absent in a plain program. */
__attribute__((weak)) int __sanitizer_install_malloc_and_free_hooks(void (*on_malloc)(const volatile void *,
                                                                                      size_t),
                                                                    void (*on_free)(const volatile void *));
__attribute__((weak)) size_t __sanitizer_get_allocated_size(const volatile void *p);

static atomic_llong live;
static long long limit = INT64_MAX;

static void on_malloc(const volatile void *p, size_t bytes)
{
    long long now = atomic_fetch_add(&live, (long long)bytes) + (long long)bytes;
    if (now <= limit) return;
    fprintf(stderr, "fuzz: %lld live bytes where %lld are allowed for an input of this size\n", now, limit);
    limit = INT64_MAX;
    abort();
}

static void on_free(const volatile void *p)
{
    if (p) atomic_fetch_sub(&live, (long long)__sanitizer_get_allocated_size(p));
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    qs_log_set_level(QS_LOG_ERROR);
    if (__sanitizer_install_malloc_and_free_hooks)
        __sanitizer_install_malloc_and_free_hooks(on_malloc, on_free);
    return 0;
}

void fuzz_watch(size_t size)
{
    limit = atomic_load(&live) + (long long)(QS_FUZZ_BASE + QS_FUZZ_FACTOR * size);
}
