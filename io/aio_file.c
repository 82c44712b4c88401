/* Opening files for aio: direct where the file system can, with the alignment that it asks for. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/aio.h"
#include "io/file.h"
#include "src/base/memory.h"

/* Buffers and places are aligned to this much at most; it suits every file system that does not say what it
 * needs. */
#define MAX_ALIGN 4096

/* Bytes to which direct I/O on fd must be aligned, or 0 when it cannot be had with MAX_ALIGN. */
static uint32_t direct_align(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx sx;
    if (!statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &sx) && (sx.stx_mask & STATX_DIOALIGN)) {
        uint32_t align =
            sx.stx_dio_mem_align > sx.stx_dio_offset_align ? sx.stx_dio_mem_align : sx.stx_dio_offset_align;
        return sx.stx_dio_offset_align && align <= MAX_ALIGN ? align : 0;
    }
#endif
    return MAX_ALIGN;
}

/* Adds O_DIRECT to an open descriptor; false where the file system refuses. */
static bool make_direct(int fd)
{
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && !fcntl(fd, F_SETFL, flags | O_DIRECT);
}

/* Direct where that is wanted and can be had. */
static void settle_mode(qs_aio_file *f, bool direct)
{
    uint32_t align = direct ? direct_align(f->fd) : 0;
    if (align && make_direct(f->fd)) {
        f->direct = true;
        f->align = align;
        return;
    }
    /* Only what is asked for enters the page cache, so that it can be dropped again when it has been read. */
    posix_fadvise(f->fd, 0, 0, POSIX_FADV_RANDOM);
}

int qs_aio_file_open(qs_aio_file *out, const char *path, int flags, qs_err *e)
{
    *out = (qs_aio_file){.fd = -1};
    int how = (flags & QS_FILE_WRITE ? O_RDWR : O_RDONLY) |
              ((flags & QS_FILE_CREATE) == QS_FILE_CREATE ? O_CREAT : 0) | O_CLOEXEC;
    int fd = open(path, how | O_NONBLOCK,
                  0666); /* NONBLOCK: opening a pipe must not hang; it means nothing for plain files */
    if (fd < 0)
        QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "%s: cannot be opened: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) || !S_ISREG(st.st_mode)) {
        close(fd);
        QS_FAIL(e, QS_EIO, "%s: is not a plain file", path);
    }
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    *out = (qs_aio_file){.fd = fd, .align = 1, .bytes = (uint64_t)st.st_size, .path = qs_strdup(path)};
    settle_mode(out, !(flags & QS_FILE_BUFFERED));
    return 0;
}

/* Reserves the whole length, so that a disk that is too small shows now. 0 or an errno. */
static int reserve(int fd, uint64_t bytes)
{
    if (!fallocate(fd, 0, 0, (off_t)bytes)) return 0;
    if (errno != EOPNOTSUPP && errno != ENOSYS) return errno;
    return ftruncate(fd, (off_t)bytes) ? errno : 0; /* a file system that cannot reserve */
}

int qs_aio_file_scratch(qs_aio_file *out, const char *dir, const char *what, uint64_t bytes, qs_err *e)
{
    *out = (qs_aio_file){.fd = -1};
    QS_TRY(qs_dir_create(dir, e));
    char *path = qs_path_join(dir, "scratch-XXXXXX");
    int fd = mkostemp(path, O_CLOEXEC), error = fd < 0 ? errno : 0;
    if (fd >= 0) unlink(path);
    if (!error) error = reserve(fd, bytes);
    if (error) {
        uint64_t left = 0;
        qs_err ignored = {0};
        qs_dir_free_bytes(dir, &left, &ignored);
        if (fd >= 0) close(fd);
        qs_free(path);
        QS_FAIL(e, QS_EIO,
                "%s: no room for %s, %llu MiB, of which %llu are free: %s; free some space, choose another "
                "--cache, or give more --ram",
                dir, what, (unsigned long long)((bytes + (1 << 20) - 1) >> 20),
                (unsigned long long)(left >> 20), strerror(error));
    }
    *out = (qs_aio_file){.fd = fd, .align = 1, .bytes = bytes, .path = path};
    settle_mode(out, true);
    return 0;
}

void qs_aio_file_close(qs_aio_file *f)
{
    if (f->path) close(f->fd); /* a zeroed struct has no path, and its fd 0 is not ours */
    qs_free(f->path);
    *f = (qs_aio_file){.fd = -1};
}

void qs_aio_file_stripe(qs_aio_file *out, qs_aio_file *parts, int count, uint64_t unit)
{
    *out = parts[0];
    if (count == 1) return;
    QS_ASSERT(unit && unit % MAX_ALIGN == 0);
    *out = (qs_aio_file){.fd = -1,
                         .direct = true,
                         .align = 1,
                         .path = parts[0].path,
                         .parts = parts,
                         .part_count = count,
                         .unit = unit};
    for (int i = 0; i < count; i++) {
        out->direct = out->direct && parts[i].direct;
        if (parts[i].align > out->align) out->align = parts[i].align;
        out->bytes += parts[i].bytes;
    }
}

uint64_t qs_aio_stripe_bytes(uint64_t bytes, int part, int count, uint64_t unit)
{
    uint64_t round = unit * (uint64_t)count, rest = bytes % round, before = unit * (uint64_t)part;
    if (count == 1) return bytes;
    return bytes / round * unit + (rest <= before ? 0 : rest - before < unit ? rest - before : unit);
}
