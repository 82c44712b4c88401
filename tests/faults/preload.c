/* Loaded before the program (LD_PRELOAD): counts its calls into the system by place, makes one of them go
 * wrong, ends the process at one, or notes what they change.
 *
 *     QS_FAULT_SURVEY=FILE       appends a line per place at the end:  function place calls
 *     QS_FAULT=F:PLACE:K:WHAT    call K (from 1) of function F from PLACE fails: WHAT is an errno by number,
 * "short", "delay", or "lie": it says that it was done QS_FAULT_KILL=N[h]         SIGKILL at the N-th call
 * that changes a file system; with h half of a write is done QS_FAULT_COUNT=FILE        writes how many such
 * calls there were QS_FAULT_SPACE=BYTES       so much address space and no more (RLIMIT_AS) QS_FAULT_LEAK=1
 * every write leaves 4 KiB of memory and a descriptor behind QS_FAULT_RECORD=FILE       notes every change,
 * for power_cut.c
 *
 * A place is a hash of the return addresses inside the program, so it is the same in every run of the same
 * binary. What io_uring moves is not seen:
 * --io_engine pread for that. stdio's own reads and writes are not seen either.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <link.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>
#include <unistd.h>
#include <unwind.h>

struct io_uring;
struct io_uring_params;
struct iovec;

extern void *__libc_malloc(size_t);
extern void *__libc_calloc(size_t, size_t);
extern void *__libc_realloc(void *, size_t);

int __libc_start_main(int (*)(int, char **, char **), int, char **, void (*)(void), void (*)(void),
                      void (*)(void), void *);

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

enum { FRAMES = 6, DEPTH = 30, PLACES = 8192, SHORT = -1, DELAY = -2, LIE = -3 };

static struct place {
    const char *function;
    uint32_t hash;
    int calls;
} places[PLACES];
static atomic_flag busy = ATOMIC_FLAG_INIT;
static __thread int inside;
static uintptr_t begin, end; /* the program's code */
static int ready, leaks, kill_at, kill_half, record_fd = -1;
static atomic_int changes;
static char wanted_function[32];
static uint32_t wanted_place;
static int wanted_call, what;

/* ---- where a call comes from ------------------------------------------------------------------------- */

typedef struct walk {
    uint32_t hash;
    int found, depth;
} walk;

static _Unwind_Reason_Code step(struct _Unwind_Context *context, void *user)
{
    walk *w = user;
    uintptr_t at = _Unwind_GetIP(context);
    if (at >= begin && at < end) {
        w->hash = (w->hash ^ (uint32_t)(at - begin)) * 16777619u;
        w->found++;
    }
    return w->found == FRAMES || ++w->depth == DEPTH ? _URC_END_OF_STACK : _URC_NO_REASON;
}

static int find_program(struct dl_phdr_info *info, size_t size, void *user)
{
    begin = UINTPTR_MAX;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *h = &info->dlpi_phdr[i];
        if (h->p_type != PT_LOAD) continue;
        uintptr_t at = info->dlpi_addr + h->p_vaddr;
        if (at < begin) begin = at;
        if (at + h->p_memsz > end) end = at + h->p_memsz;
    }
    return 1; /* the first is the program */
}

static void lock(void)
{
    while (atomic_flag_test_and_set(&busy)) {
    }
}
static void unlock(void) { atomic_flag_clear(&busy); }

/* Counts a call. 0, or what is to go wrong with it. */
static int look(const char *function)
{
    if (!ready || inside) return 0;
    inside++;
    walk w = {.hash = 2166136261u};
    _Unwind_Backtrace(step, &w);
    int result = 0;
    lock();
    for (uint32_t i = w.hash % PLACES;; i = (i + 1) % PLACES) {
        struct place *p = &places[i];
        if (p->function && (p->hash != w.hash || strcmp(p->function, function))) continue;
        *p = (struct place){function, w.hash, p->calls + 1};
        if (wanted_call == p->calls && w.hash == wanted_place && !strcmp(function, wanted_function))
            result = what;
        break;
    }
    unlock();
    inside--;
    if (result != DELAY) return result;
    nanosleep(&(struct timespec){0, 50000000}, NULL);
    return 0;
}

/* As return value of a call that fails. */
#define FAIL_IF(function, failed)    \
    do {                             \
        int error_ = look(function); \
        if (error_ > 0) {            \
            errno = error_;          \
            return failed;           \
        }                            \
    } while (0)

/* ---- ends -------------------------------------------------------------------------------------------- */

/* Counts a change; true when the process is to end at it. */
static int last_change(void) { return ready && !inside && atomic_fetch_add(&changes, 1) + 1 == kill_at; }
static void die(void)
{
    kill(getpid(), SIGKILL);
    for (;;) pause();
}
static void die_at_change(void)
{
    if (last_change()) die();
}

static void put_number(const char *path, long number)
{
    char text[32];
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666),
        n = snprintf(text, sizeof text, "%ld\n", number);
    if (fd >= 0 && write(fd, text, (size_t)n) == n) close(fd);
}

static void report(void)
{
    static atomic_flag done = ATOMIC_FLAG_INIT;
    if (!ready || atomic_flag_test_and_set(&done)) return;
    inside++;
    const char *count = getenv("QS_FAULT_COUNT"), *path = getenv("QS_FAULT_SURVEY");
    if (count) put_number(count, atomic_load(&changes));
    int fd = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666) : -1;
    for (int i = 0; fd >= 0 && i < PLACES; i++)
        if (places[i].function)
            dprintf(fd, "%s %08x %d\n", places[i].function, places[i].hash, places[i].calls);
    inside--;
}

void _exit(int status)
{
    report();
    NEXT(_exit)(status);
    for (;;) {
    }
}

__attribute__((constructor)) static void start(void)
{
    inside++;
    walk w = {0};
    dl_iterate_phdr(find_program, NULL);
    _Unwind_Backtrace(step, &w); /* loads what it needs now */
    const char *at = getenv("QS_FAULT_KILL"), *fault = getenv("QS_FAULT"),
               *record = getenv("QS_FAULT_RECORD");
    char how[16] = "";
    if (at) {
        kill_at = (int)strtol(at, NULL, 10);
        kill_half = strchr(at, 'h') != NULL;
    }
    if (fault && sscanf(fault, "%31[^:]:%x:%d:%15s", wanted_function, &wanted_place, &wanted_call, how) == 4)
        what = !strcmp(how, "short")   ? SHORT
               : !strcmp(how, "delay") ? DELAY
               : !strcmp(how, "lie")   ? LIE
                                       : (int)strtol(how, NULL, 10);
    if (record) record_fd = open(record, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    leaks = getenv("QS_FAULT_LEAK") != NULL;
    atexit(report);
    inside--;
}

/* Things go wrong from main on. Before it the constructors of libraries run, among them the CUDA runtime's,
 * which registers kernels without looking whether it got the memory. */
static int (*program_main)(int, char **, char **);
static int main_reached(int argc, char **argv, char **envp)
{
    const char *space = getenv("QS_FAULT_SPACE");
    if (space) setrlimit(RLIMIT_AS, &(struct rlimit){strtoull(space, NULL, 10), strtoull(space, NULL, 10)});
    ready = 1;
    return program_main(argc, argv, envp);
}

int __libc_start_main(int (*f)(int, char **, char **), int argc, char **argv, void (*init)(void),
                      void (*fini)(void), void (*loader_fini)(void), void *stack_end)
{
    program_main = f;
    return NEXT(__libc_start_main)(main_reached, argc, argv, init, fini, loader_fini, stack_end);
}

/* ---- the record of changes --------------------------------------------------------------------------- */

/* A line of text and, for writes, the bytes. Directories and files go by inode, so that renames do not
 * matter. */
static void note(const void *data, size_t bytes, const char *format, ...)
{
    if (record_fd < 0) return;
    char line[NAME_MAX * 2 + 128];
    va_list args;
    va_start(args, format);
    int n = vsnprintf(line, sizeof line, format, args);
    va_end(args);
    lock();
    if (NEXT(write)(record_fd, line, (size_t)n) != n ||
        (bytes && NEXT(write)(record_fd, data, bytes) != (ssize_t)bytes))
        kill(getpid(), SIGABRT);
    unlock();
}

static unsigned long inode(int fd)
{
    struct stat st;
    return fstat(fd, &st) || !(S_ISREG(st.st_mode) || S_ISDIR(st.st_mode)) ? 0 : (unsigned long)st.st_ino;
}

/* The inode of the directory that holds the last part of a path, and that part. */
static unsigned long parent(int at, const char *path, const char **name)
{
    char directory[PATH_MAX];
    const char *slash = strrchr(path, '/');
    struct stat st;
    *name = slash ? slash + 1 : path;
    snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + (slash == path) : 1,
             slash ? path : ".");
    return fstatat(at, directory, &st, 0) ? 0 : (unsigned long)st.st_ino;
}

static unsigned long inode_at(int at, const char *path)
{
    struct stat st;
    return fstatat(at, path, &st, AT_SYMLINK_NOFOLLOW) ? 0 : (unsigned long)st.st_ino;
}

/* ---- files ------------------------------------------------------------------------------------------- */

static int open_at(int at, const char *path, int flags, mode_t mode)
{
    int changing = (flags & (O_CREAT | O_TRUNC)) != 0,
        there = changing && !faccessat(at, path, F_OK, AT_SYMLINK_NOFOLLOW);
    FAIL_IF(changing ? "create" : "open", -1);
    if (changing) die_at_change();
    int fd = NEXT(openat)(at, path, flags, mode);
    if (fd >= 0 && changing && record_fd >= 0) {
        const char *name;
        unsigned long dir = parent(at, path, &name);
        if (!there)
            note(NULL, 0, "create %lu %lu %s\n", dir, inode(fd), name);
        else if (flags & O_TRUNC)
            note(NULL, 0, "size %lu 0\n", inode(fd));
    }
    return fd;
}

static mode_t mode_of(int flags, va_list args)
{
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(args, int) : 0;
}

int open(const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_at(AT_FDCWD, path, flags, mode);
}

int openat(int at, const char *path, int flags, ...)
{
    va_list args;
    va_start(args, flags);
    mode_t mode = mode_of(flags, args);
    va_end(args);
    return open_at(at, path, flags, mode);
}

FILE *fopen(const char *path, const char *mode)
{
    FAIL_IF("fopen", NULL);
    return NEXT(fopen)(path, mode);
}

static int note_temporary(int fd, const char *path)
{
    const char *name;
    if (fd < 0 || record_fd < 0) return fd;
    unsigned long dir = parent(AT_FDCWD, path, &name);
    note(NULL, 0, "create %lu %lu %s\n", dir, inode(fd), name);
    return fd;
}

int mkostemp(char *path, int flags)
{
    FAIL_IF("mkostemp", -1);
    die_at_change();
    return note_temporary(NEXT(mkostemp)(path, flags), path);
}

int mkostemps(char *path, int suffix, int flags)
{
    FAIL_IF("mkostemps", -1);
    die_at_change();
    return note_temporary(NEXT(mkostemps)(path, suffix, flags), path);
}

ssize_t read(int fd, void *data, size_t bytes)
{
    int fault = look("read");
    if (fault > 0) return errno = fault, -1;
    return NEXT(read)(fd, data, fault == SHORT && bytes > 1 ? bytes / 2 : bytes);
}

ssize_t pread(int fd, void *data, size_t bytes, off_t at)
{
    int fault = look("pread");
    if (fault > 0) return errno = fault, -1;
    return NEXT(pread)(fd, data, fault == SHORT && bytes > 1 ? bytes / 2 : bytes, at);
}

ssize_t write(int fd, const void *data, size_t bytes)
{
    int fault = look("write");
    if (fault > 0) return errno = fault, -1;
    if (fault == LIE) return (ssize_t)bytes;
    if (fault == SHORT && bytes > 1) bytes /= 2;
    if (leaks && fd > STDERR_FILENO) {
        void *lost = __libc_malloc(4096);
        if (lost) memset(lost, 1, 4096);
        if (dup(fd) < 0) leaks = 0;
    }
    unsigned long file = fd > STDERR_FILENO && !inside ? inode(fd) : 0;
    int last = file && last_change();
    if (last && kill_half) bytes /= 2;
    off_t at = file ? lseek(fd, 0, fcntl(fd, F_GETFL) & O_APPEND ? SEEK_END : SEEK_CUR) : 0;
    ssize_t n = last && !kill_half ? 0 : NEXT(write)(fd, data, bytes);
    if (last) die();
    if (file && n > 0) note(data, (size_t)n, "write %lu %lld %zd\n", file, (long long)at, n);
    return n;
}

ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at)
{
    int fault = look("pwrite");
    if (fault > 0) return errno = fault, -1;
    if (fault == SHORT && bytes > 1) bytes /= 2;
    int last = last_change();
    if (last && kill_half) bytes = bytes / 2 / 4096 * 4096; /* direct I/O takes whole units */
    ssize_t n = last && !kill_half ? 0 : NEXT(pwrite)(fd, data, bytes, at);
    if (last) die();
    if (n > 0) note(data, (size_t)n, "write %lu %lld %zd\n", inode(fd), (long long)at, n);
    return n;
}

#define SYNC(name)                                       \
    int name(int fd)                                     \
    {                                                    \
        FAIL_IF(#name, -1);                              \
        die_at_change();                                 \
        int rc = NEXT(name)(fd);                         \
        if (!rc) note(NULL, 0, "sync %lu\n", inode(fd)); \
        return rc;                                       \
    }
SYNC(fsync)
SYNC(fdatasync)

int ftruncate(int fd, off_t bytes)
{
    FAIL_IF("ftruncate", -1);
    die_at_change();
    int rc = NEXT(ftruncate)(fd, bytes);
    if (!rc) note(NULL, 0, "size %lu %lld\n", inode(fd), (long long)bytes);
    return rc;
}

int fallocate(int fd, int mode, off_t at, off_t bytes)
{
    FAIL_IF("fallocate", -1);
    die_at_change();
    int rc = NEXT(fallocate)(fd, mode, at, bytes);
    if (!rc) note(NULL, 0, "grow %lu %lld\n", inode(fd), (long long)(at + bytes));
    return rc;
}

int rename(const char *from, const char *to)
{
    const char *a, *b;
    FAIL_IF("rename", -1);
    die_at_change();
    int rc = NEXT(rename)(from, to);
    if (rc || record_fd < 0) return rc;
    unsigned long x = parent(AT_FDCWD, from, &a), y = parent(AT_FDCWD, to, &b);
    note(NULL, 0, "rename %lu %lu %s %s\n", x, y, a, b);
    return rc;
}

static int removed(int rc, int at, const char *path)
{
    const char *name;
    if (rc || record_fd < 0) return rc;
    unsigned long dir = parent(at, path, &name);
    note(NULL, 0, "remove %lu %s\n", dir, name);
    return rc;
}

int unlink(const char *path)
{
    FAIL_IF("unlink", -1);
    die_at_change();
    return removed(NEXT(unlink)(path), AT_FDCWD, path);
}

int unlinkat(int at, const char *path, int flags)
{
    FAIL_IF("unlinkat", -1);
    die_at_change();
    return removed(NEXT(unlinkat)(at, path, flags), at, path);
}

int rmdir(const char *path)
{
    FAIL_IF("rmdir", -1);
    die_at_change();
    return removed(NEXT(rmdir)(path), AT_FDCWD, path);
}

int mkdir(const char *path, mode_t mode)
{
    const char *name;
    FAIL_IF("mkdir", -1);
    die_at_change();
    int rc = NEXT(mkdir)(path, mode);
    if (rc || record_fd < 0) return rc;
    unsigned long dir = parent(AT_FDCWD, path, &name);
    note(NULL, 0, "create %lu %lu %s\n", dir, inode_at(AT_FDCWD, path), name);
    return rc;
}

DIR *opendir(const char *path)
{
    FAIL_IF("opendir", NULL);
    return NEXT(opendir)(path);
}

DIR *fdopendir(int fd)
{
    FAIL_IF("fdopendir", NULL);
    return NEXT(fdopendir)(fd);
}

struct dirent *readdir(DIR *d)
{
    FAIL_IF("readdir", NULL);
    return NEXT(readdir)(d);
}

int flock(int fd, int operation)
{
    FAIL_IF("flock", -1);
    return NEXT(flock)(fd, operation);
}

int statvfs(const char *path, struct statvfs *out)
{
    FAIL_IF("statvfs", -1);
    return NEXT(statvfs)(path, out);
}

/* ---- memory ------------------------------------------------------------------------------------------ */

void *malloc(size_t bytes)
{
    FAIL_IF("malloc", NULL);
    return __libc_malloc(bytes);
}

void *calloc(size_t count, size_t bytes)
{
    FAIL_IF("calloc", NULL);
    return __libc_calloc(count, bytes);
}

void *realloc(void *old, size_t bytes)
{
    FAIL_IF("realloc", NULL);
    return __libc_realloc(old, bytes);
}

/* The program's own; libraries that cannot bear a refusal are tried with little address space. */
void *mmap(void *at, size_t bytes, int protection, int flags, int fd, off_t offset)
{
    uintptr_t caller = (uintptr_t)__builtin_return_address(0);
    if (caller >= begin && caller < end) FAIL_IF("mmap", MAP_FAILED);
    return NEXT(mmap)(at, bytes, protection, flags, fd, offset);
}

/* ---- io_uring: liburing's functions, which return -errno --------------------------------------------- */

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags);
int io_uring_submit(struct io_uring *ring);
int io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int io_uring_submit_and_get_events(struct io_uring *ring);
int io_uring_register_buffers_sparse(struct io_uring *ring, unsigned count);
int io_uring_register_buffers_update_tag(struct io_uring *ring, unsigned at, const struct iovec *v,
                                         const uint64_t *tags, unsigned count);

#define RING(name, declaration, ...)                           \
    int name declaration                                       \
    {                                                          \
        int error_ = look(#name);                              \
        return error_ > 0 ? -error_ : NEXT(name)(__VA_ARGS__); \
    }
RING(io_uring_queue_init, (unsigned entries, struct io_uring *ring, unsigned flags), entries, ring, flags)
RING(io_uring_submit, (struct io_uring * ring), ring)
RING(io_uring_submit_and_wait, (struct io_uring * ring, unsigned count), ring, count)
RING(io_uring_submit_and_get_events, (struct io_uring * ring), ring)
RING(io_uring_register_buffers_sparse, (struct io_uring * ring, unsigned count), ring, count)
RING(io_uring_register_buffers_update_tag,
     (struct io_uring * ring, unsigned at, const struct iovec *v, const uint64_t *tags, unsigned count), ring,
     at, v, tags, count)
