#include "io/aio.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "io/aio_engine.h"
#include "src/base/clock.h"
#include "src/base/log.h"
#include "src/base/memory.h"

/* Times in a row that one request may come back with EINTR or EAGAIN, or without having moved a whole unit.
 */
#define MAX_RETRIES 1000
/* A read that met the end of the file, in op.error. */
#define ERROR_END_OF_FILE (-ENODATA)

struct qs_aio {
    const qs_aio_engine_table *table;
    void *engine;
    const char *name;
    size_t chunk_bytes;
    qs_aio_request *requests, *idle; /* all of them; those not in flight, linked by next */
    int in_flight;
    qs_aio_op *head, **tail; /* ops with bytes that no request has been made for; only the head can have
                                requests in flight */
    qs_aio_stats stats;
};

int qs_aio_open(const qs_aio_config *config, qs_aio **out, qs_err *e)
{
    int depth = config->depth ? config->depth : 32;
    size_t chunk_bytes = config->chunk_bytes ? config->chunk_bytes : (size_t)1 << 20;
    if (depth < 1 || depth > 4096) QS_FAIL(e, QS_EINVAL, "I/O depth %d is outside 1..4096", depth);
    if (chunk_bytes % 4096 || chunk_bytes > (size_t)1 << 30)
        QS_FAIL(e, QS_EINVAL, "I/O chunk of %zu bytes is not a multiple of 4096 up to 1 GiB", chunk_bytes);

    const qs_aio_engine_table *table =
        config->engine == QS_AIO_PREAD ? &qs_aio_engine_pread : &qs_aio_engine_uring;
    void *engine;
    int rc = table->open(depth, &engine, e);
    if (rc == -QS_EUNSUP && config->engine == QS_AIO_AUTO) {
        qs_info("%s; reading and writing with threads instead", e ? e->text : "io_uring is not available");
        table = &qs_aio_engine_pread;
        rc = table->open(depth, &engine, e);
    }
    QS_TRY(rc);

    qs_aio *a = qs_calloc(1, sizeof *a);
    *a = (qs_aio){
        .table = table, .engine = engine, .name = table->name, .chunk_bytes = chunk_bytes, .tail = &a->head};
    if (config->seam) {
        a->engine = config->seam->around(config->seam, table, engine, depth);
        a->table = config->seam->table;
    }
    a->requests = qs_calloc((size_t)depth, sizeof *a->requests);
    for (int i = 0; i < depth; i++) {
        a->requests[i].next = a->idle;
        a->idle = &a->requests[i];
    }
    *out = a;
    return 0;
}

const char *qs_aio_name(const qs_aio *a) { return a->name; }

bool qs_aio_register(qs_aio *a, void *base, size_t bytes, qs_err *e)
{
    return a->table->register_block(a->engine, base, bytes, e);
}

qs_aio_stats qs_aio_stats_read(const qs_aio *a) { return a->stats; }

/* Takes the head off the queue of ops that still have bytes to ask for. */
static void pop(qs_aio *a)
{
    a->head = a->head->next;
    if (!a->head) a->tail = &a->head;
}

/* Asks for no more of op than is in flight already. */
static void stop(qs_aio *a, qs_aio_op *op)
{
    if (op->queued_bytes < op->bytes) {
        QS_ASSERT(a->head == op);
        pop(a);
    }
    op->queued_bytes = op->bytes;
}

/* The plain file that holds the byte at *offset, which becomes the offset there; *run: bytes that follow it
 * without a border. */
static const qs_aio_file *locate(const qs_aio_file *f, uint64_t *offset, uint64_t *run)
{
    *run = UINT64_MAX;
    if (!f->parts) return f;
    uint64_t number = *offset / f->unit, within = *offset % f->unit;
    *offset = number / (uint64_t)f->part_count * f->unit + within;
    *run = f->unit - within;
    return &f->parts[number % (uint64_t)f->part_count];
}

/* Turns queued ops into requests while there are idle ones, in order. */
static void pump(qs_aio *a)
{
    while (a->idle && a->head) {
        qs_aio_op *op = a->head;
        qs_aio_request *r = a->idle;
        a->idle = r->next;
        uint64_t left = op->bytes - op->queued_bytes, offset = op->offset + op->queued_bytes, run;
        const qs_aio_file *file = locate(op->file, &offset, &run);
        if (left > run) left = run;
        uint32_t bytes = (uint32_t)(left < a->chunk_bytes ? left : a->chunk_bytes);
        *r = (qs_aio_request){.file = file,
                              .buffer = (char *)op->buffer + op->queued_bytes,
                              .offset = offset,
                              .bytes = bytes,
                              .left = bytes,
                              .write = op->write,
                              .op = op};
        if (!op->queued_bytes) op->start_ns = qs_now_ns();
        op->queued_bytes += bytes;
        op->pending++;
        a->in_flight++;
        if (op->queued_bytes == op->bytes) pop(a);
        a->table->queue(a->engine, r);
    }
    a->table->submit(a->engine);
}

/* What a buffered read brought into the page cache is not read again. Dropping starts over at the beginning
 * of the op, because pages are dropped in groups that two requests may share; the last page is left to the
 * read that follows. */
static void drop_cached(const qs_aio_request *r, uint64_t bytes)
{
    if (r->file->direct || r->write) return;
    const qs_aio_file *whole = r->op->file;
    uint64_t begin = whole->parts ? r->op->offset / (whole->unit * (uint64_t)whole->part_count) * whole->unit
                                  : r->op->offset & ~4095ull;
    posix_fadvise(r->file->fd, (off_t)begin, (off_t)(r->offset + bytes - begin), POSIX_FADV_DONTNEED);
}

/* The first error of an op is the one that is told. */
static void fail(qs_aio_request *r, int error)
{
    if (r->op->error) return;
    r->op->error = error;
    r->op->failed = r->file;
}

static bool at_end(const qs_aio_request *r, uint64_t offset)
{
    struct stat st;
    return !r->write && !fstat(r->file->fd, &st) && offset >= (uint64_t)st.st_size;
}

/* Accounts for what a request has moved. True when it has ended, false when the rest must be asked for again.
 */
static bool advance(qs_aio *a, qs_aio_request *r)
{
    qs_aio_op *op = r->op;
    int64_t n = r->result;
    if ((n == -EINTR || n == -EAGAIN) && ++r->retries < MAX_RETRIES) return false;
    if (n < 0 || (n == 0 && r->write)) {
        fail(r, n < 0 ? (int)n : -EIO);
        stop(a, op);
        return true;
    }
    QS_ASSERT(n <= r->left);
    bool end = n == 0 || (n < r->left && at_end(r, r->offset + (uint64_t)n));
    /* A direct transfer can only go on from an aligned place, so part of a unit is moved again. */
    if (!end && n < r->left) n -= n % r->file->align;
    drop_cached(r, (uint64_t)n);
    op->done_bytes += (uint64_t)n;
    *(r->write ? &a->stats.write_bytes : &a->stats.read_bytes) += (uint64_t)n;
    r->buffer += n;
    r->offset += (uint64_t)n;
    r->left -= (uint32_t)n;
    if (end) {
        if (!op->allow_eof) fail(r, ERROR_END_OF_FILE);
        stop(a, op);
        return true;
    }
    if (n)
        r->retries = 0;
    else if (++r->retries == MAX_RETRIES) {
        fail(r, -EIO);
        stop(a, op);
        return true;
    }
    return !r->left;
}

/* Handles what has ended, waiting for at least one if asked to, and keeps the engine fed. */
static void reap(qs_aio *a, bool wait)
{
    if (!a->in_flight) return;
    for (qs_aio_request *r = a->table->reap(a->engine, wait), *next; r; r = next) {
        next = r->next;
        if (!advance(a, r)) {
            r->bytes = r->left;
            a->table->queue(a->engine, r);
            continue;
        }
        qs_aio_op *op = r->op;
        op->pending--;
        a->in_flight--;
        r->next = a->idle;
        a->idle = r;
        if (op->pending || op->queued_bytes < op->bytes) continue;
        op->active = false;
        op->end_ns = qs_now_ns();
    }
    pump(a);
}

void qs_aio_close(qs_aio *a)
{
    if (!a) return;
    while (a->in_flight) reap(a, true);
    a->table->close(a->engine);
    qs_free(a->requests);
    qs_free(a);
}

void qs_aio_start(qs_aio *a, qs_aio_op *op)
{
    uint32_t align = op->file->align;
    QS_ASSERT(op->offset % align == 0 && op->bytes % align == 0 && (uintptr_t)op->buffer % align == 0);
    QS_ASSERT(!op->active);
    op->done_bytes = op->queued_bytes = 0;
    op->pending = op->error = 0;
    op->next = NULL;
    op->active = op->bytes > 0;
    if (!op->active) return;
    *a->tail = op;
    a->tail = &op->next;
    pump(a);
}

bool qs_aio_done(qs_aio *a, qs_aio_op *op)
{
    if (op->active) reap(a, false);
    return !op->active;
}

static const char *advice(int error)
{
    switch (error) {
    case ENOSPC:
    case EDQUOT:
        return "free some space or choose another directory";
    case EIO:
        return "the disk or its connection is failing; see the kernel log";
    case -ERROR_END_OF_FILE:
        return "it is truncated; make or download it again";
    case EINVAL:
        return "the file system refuses direct I/O of this form; copy the file to another one";
    case EBADF:
        return "it was opened for reading only";
    case ENOMEM:
        return "the system is short of memory; give less --vram or --ram, or try --io_engine pread";
    case EPERM:
    case EACCES:
        return "the system does not permit this way of reading; try --io_engine pread";
    default:
        return "check the file system";
    }
}

int qs_aio_finish(qs_aio *a, qs_aio_op *op, qs_err *e)
{
    if (op->active) {
        uint64_t begin = qs_now_ns();
        while (op->active) reap(a, true);
        a->stats.wait_ns += qs_now_ns() - begin;
    }
    if (!op->error) return 0;
    QS_FAIL(e, QS_EIO, "%s: %s %llu bytes at %llu%s: %s; %s", op->failed->path,
            op->write ? "writing" : "reading", (unsigned long long)op->bytes, (unsigned long long)op->offset,
            op->file->parts ? " of the striped file" : "",
            op->error == ERROR_END_OF_FILE ? "the file ends before that" : strerror(-op->error),
            advice(-op->error));
}

int qs_aio_run(qs_aio *a, qs_aio_op *op, qs_err *e)
{
    qs_aio_start(a, op);
    return qs_aio_finish(a, op, e);
}
