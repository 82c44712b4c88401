/* aio.h - the I/O seam: asynchronous reads and writes of large ranges.
 *
 * An engine (io_uring, a pread thread pool, or the fault injector of the tests) moves bytes; this layer
 * splits large ranges into requests of chunk_bytes, keeps `depth` of them in flight, and deals once with
 * short reads, EINTR, EAGAIN and end of file.
 *
 *     qs_aio_op op = {.file = &f, .buffer = p, .bytes = n, .offset = at};
 *     qs_aio_start(aio, &op);               // queued; op and buffer must live until it is reaped
 *     ...compute...
 *     QS_TRY(qs_aio_finish(aio, &op, e));   // blocks until done; a failure names the file and the range
 *
 * Up to depth * chunk_bytes move unattended; requests beyond that are made inside start, done and finish, so
 * a caller that computes for long calls done now and then, or asks for a depth that covers what should arrive
 * meanwhile.
 *
 * One thread owns a qs_aio, from its first transfer on; another may have opened it. Files opened for direct
 * I/O need offset, bytes and buffer aligned to file.align (a power of two, 4096 at most); the last range of a
 * file may be longer than what is left of it only when `allow_eof` is set.
 */
#ifndef QS_IO_AIO_H
#define QS_IO_AIO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

typedef struct qs_aio qs_aio;

/* An open file. direct: the page cache is bypassed (O_DIRECT); otherwise what was read is dropped from it
 * again. */
typedef struct qs_aio_file {
    int fd;
    bool direct;
    uint32_t align;            /* required of offsets, lengths and buffers; 1 when not direct */
    uint64_t bytes;            /* size at opening */
    char *path;                /* for messages; owned */
    struct qs_aio_file *parts; /* of a striped file (borrowed), else NULL */
    int part_count;
    uint64_t unit;
} qs_aio_file;

enum { QS_FILE_READ = 0, QS_FILE_WRITE = 1, QS_FILE_CREATE = 2 | QS_FILE_WRITE, QS_FILE_BUFFERED = 4 };

/* Opens path, which must be a plain file. QS_EMISSING, QS_EIO. Direct unless QS_FILE_BUFFERED is set or the
 * file system refuses; the alignment comes from statx(STATX_DIOALIGN), else 4096. QS_FILE_CREATE creates
 * (never truncates). Close with qs_aio_file_close (safe on a zeroed struct). */
int qs_aio_file_open(qs_aio_file *out, const char *path, int flags, qs_err *e);

/* A file of `bytes` bytes in dir (created) for the life of this process: it has no name, so it is gone when
 * it is closed, however the process ends. Its place on the disk is reserved. QS_EIO with what is missing when
 * there is none; `what` says in that sentence what the file is for. Opened for reading and writing, direct
 * where it can be. */
int qs_aio_file_scratch(qs_aio_file *out, const char *dir, const char *what, uint64_t bytes, qs_err *e);
void qs_aio_file_close(qs_aio_file *f);

/* One file made of several, on disks that then work at once: unit k, of `unit` bytes (a multiple of 4096), is
 * unit k / count of part k % count. Requests end at the borders of units, and a failure names the part. Of
 * one part, that part itself. The parts must outlive *out, which owns nothing and is not closed. */
void qs_aio_file_stripe(qs_aio_file *out, qs_aio_file *parts, int count, uint64_t unit);
/* Bytes that part `part` of `count` holds of a striped file of `bytes` bytes. */
uint64_t qs_aio_stripe_bytes(uint64_t bytes, int part, int count, uint64_t unit);

/* One transfer. Fill the first block; the second belongs to the engine. */
typedef struct qs_aio_op {
    const qs_aio_file *file;
    void *buffer;
    uint64_t bytes, offset;
    bool write;
    bool allow_eof; /* reading past the end is not an error: done_bytes says how much came */

    uint64_t done_bytes; /* transferred */
    uint64_t queued_bytes;
    int pending;               /* requests in flight */
    int error;                 /* first -errno; -ENODATA: the file ended */
    const qs_aio_file *failed; /* where: the file, or its part */
    uint64_t start_ns, end_ns; /* first request made, last completion seen */
    bool active;
    struct qs_aio_op *next;
} qs_aio_op;

typedef enum qs_aio_engine { QS_AIO_AUTO, QS_AIO_URING, QS_AIO_PREAD } qs_aio_engine;

typedef struct qs_aio_config {
    qs_aio_engine
        engine; /* AUTO: io_uring, or pread with a message when a ring is refused (containers often do) */
    int depth;  /* requests in flight, at most 4096; 0: 32 */
    size_t chunk_bytes;             /* of one request, a multiple of 4096, at most 1 GiB; 0: 1 MiB */
    const struct qs_aio_seam *seam; /* NULL; tests stand between here (io/aio_engine.h) */
} qs_aio_config;

/* Opens an engine. QS_AIO_URING where rings are refused is QS_EUNSUP. Closing waits for what is in flight. */
int qs_aio_open(const qs_aio_config *config, qs_aio **out, qs_err *e);
void qs_aio_close(qs_aio *a);

/* "io_uring" or "pread". */
const char *qs_aio_name(const qs_aio *a);

/* Registers a block (anonymous memory) with the ring, so that transfers inside it skip page pinning. Refused
 * (lock limit) is not an error: returns false and leaves a reason in *e. May be called for several blocks
 * before the first transfer. */
bool qs_aio_register(qs_aio *a, void *base, size_t bytes, qs_err *e);

/* Queues op; never blocks on the disk. Ops are served in the order of their start. */
void qs_aio_start(qs_aio *a, qs_aio_op *op);

/* True once op has ended (well or badly); reaps completions without blocking. */
bool qs_aio_done(qs_aio *a, qs_aio_op *op);

/* Blocks until op has ended. 0, or QS_EIO: "FILE: reading N bytes at OFFSET: <why>; <what to do>". A second
 * call returns the same. */
int qs_aio_finish(qs_aio *a, qs_aio_op *op, qs_err *e);

/* start + finish. */
int qs_aio_run(qs_aio *a, qs_aio_op *op, qs_err *e);

/* Bytes moved and nanoseconds the caller was blocked in finish, since opening. */
typedef struct qs_aio_stats {
    uint64_t read_bytes, write_bytes, wait_ns;
} qs_aio_stats;
qs_aio_stats qs_aio_stats_read(const qs_aio *a);

#endif
