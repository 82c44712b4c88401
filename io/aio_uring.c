/* The io_uring engine. The ring is made with the flags that keep completion work on the owner's thread, as
 * many as the kernel knows.
 *
 * Where the kernel makes rings but does not let them be entered (a seccomp filter), opening fails, as it does
 * where there are no rings. A ring that fails later, after some patience where memory is short, ends all its
 * requests with that error and takes no more. */
#include <errno.h>
#include <liburing.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "io/aio_engine.h"
#include "src/base/memory.h"

/* A registered buffer is 1 GiB at most, so a block takes several entries of the table. */
#define PIECE_BYTES ((size_t)1 << 30)
#define MAX_PIECES 1024
/* How often the kernel is asked again when it is short of memory, and the pause before. */
#define MEMORY_RETRIES 500
#define MEMORY_PAUSE_NS 2000000

typedef struct piece {
    char *base;
    size_t bytes;
} piece;

typedef struct uring_engine {
    struct io_uring ring;
    bool enabled;             /* it is made disabled and belongs to the thread that first submits */
    bool has_table;           /* of registered buffers */
    int broken;               /* an errno: the ring does nothing any more */
    int inside, no_memory;    /* requests taken; refusals for want of memory in a row */
    qs_aio_request **request; /* [depth] those inside */
    int pieces;
    piece piece[MAX_PIECES]; /* index = index of the registered buffer */
} uring_engine;

/* Best first; each needs a newer kernel than the next. DEFER_TASKRUN: completions are handled when we look
 * for them and never interrupt the computation; R_DISABLED: the single issuer is whoever enables the ring, so
 * that one thread may open it and another use it. */
static const unsigned flag_sets[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN |
                                         IORING_SETUP_R_DISABLED,                         /* 6.1 */
                                     IORING_SETUP_COOP_TASKRUN | IORING_SETUP_R_DISABLED, /* 5.19 */
                                     0};

/* Whether a ring can be entered, shown with one that does nothing; 0 or -errno. The real ring belongs to
 * whoever uses it first, which may be another thread. */
static int try_to_enter(void)
{
    struct io_uring ring;
    int rc = io_uring_queue_init(2, &ring, 0);
    if (rc) return rc;
    io_uring_prep_nop(io_uring_get_sqe(&ring));
    rc = io_uring_submit_and_wait(&ring, 1);
    io_uring_queue_exit(&ring);
    return rc < 0 ? rc : 0;
}

static int uring_open(int depth, void **out, qs_err *e)
{
    uring_engine *u = qs_calloc(1, sizeof *u);
    int rc = -EINVAL;
    for (size_t i = 0; i < sizeof flag_sets / sizeof *flag_sets && rc == -EINVAL; i++) {
        rc = io_uring_queue_init((unsigned)depth, &u->ring, flag_sets[i]);
        u->enabled = !(flag_sets[i] & IORING_SETUP_R_DISABLED);
    }
    int may_enter = rc ? 0 : try_to_enter();
    if (may_enter) {
        io_uring_queue_exit(&u->ring);
        rc = may_enter;
    }
    if (rc) {
        qs_free(u);
        QS_FAIL(e, QS_EUNSUP, "io_uring is not available: %s", strerror(-rc));
    }
    struct io_uring_probe *probe = io_uring_get_probe_ring(&u->ring);
    bool can_read = probe && io_uring_opcode_supported(probe, IORING_OP_READ);
    io_uring_free_probe(probe);
    if (!can_read) {
        io_uring_queue_exit(&u->ring);
        qs_free(u);
        QS_FAIL(e, QS_EUNSUP, "io_uring is not available: the kernel is older than 5.6");
    }
    u->request = qs_calloc((size_t)depth, sizeof *u->request);
    *out = u;
    return 0;
}

static void uring_close(void *engine)
{
    uring_engine *u = engine;
    io_uring_queue_exit(&u->ring);
    qs_free(u->request);
    qs_free(u);
}

static bool uring_register_block(void *engine, void *base, size_t bytes, qs_err *e)
{
    uring_engine *u = engine;
    int before = u->pieces, rc = 0;
    if (!u->has_table) rc = io_uring_register_buffers_sparse(&u->ring, MAX_PIECES);
    u->has_table |= !rc;
    for (size_t at = 0; !rc && at < bytes; at += PIECE_BYTES) {
        struct iovec v = {(char *)base + at, bytes - at < PIECE_BYTES ? bytes - at : PIECE_BYTES};
        if (u->pieces == MAX_PIECES)
            rc = -ENOSPC;
        else if ((rc = io_uring_register_buffers_update_tag(&u->ring, (unsigned)u->pieces, &v, NULL, 1)) ==
                 1) {
            u->piece[u->pieces++] = (piece){v.iov_base, v.iov_len};
            rc = 0;
        }
    }
    if (rc >= 0) return true;
    /* A part of a block is no use: give its pages back. */
    while (u->pieces > before) {
        struct iovec none = {NULL, 0};
        io_uring_register_buffers_update_tag(&u->ring, (unsigned)--u->pieces, &none, NULL, 1);
    }
    qs_err_set(e, QS_EUNSUP, __FILE__, __LINE__, "io_uring did not register a buffer of %zu bytes: %s%s",
               bytes, strerror(-rc), rc == -ENOMEM ? "; raise the limit on locked memory (ulimit -l)" : "");
    return false;
}

/* The registered buffer that holds the whole range, or -1. */
static int find_piece(const uring_engine *u, const char *buffer, size_t bytes)
{
    for (int i = 0; i < u->pieces; i++)
        if (buffer >= u->piece[i].base && buffer + bytes <= u->piece[i].base + u->piece[i].bytes) return i;
    return -1;
}

static void uring_queue(void *engine, qs_aio_request *r)
{
    uring_engine *u = engine;
    r->place = u->inside;
    u->request[u->inside++] = r;
    if (u->broken) return; /* reap ends it */
    struct io_uring_sqe *sqe = io_uring_get_sqe(&u->ring);
    QS_ASSERT(sqe); /* the ring has an entry for every request there is */
    int fd = r->file->fd, index = find_piece(u, r->buffer, r->bytes);
    if (index >= 0 && r->write)
        io_uring_prep_write_fixed(sqe, fd, r->buffer, r->bytes, r->offset, index);
    else if (index >= 0)
        io_uring_prep_read_fixed(sqe, fd, r->buffer, r->bytes, r->offset, index);
    else if (r->write)
        io_uring_prep_write(sqe, fd, r->buffer, r->bytes, r->offset);
    else
        io_uring_prep_read(sqe, fd, r->buffer, r->bytes, r->offset);
    io_uring_sqe_set_data(sqe, r);
}

/* Takes note of what a call that entered the ring returned. Interrupted or busy: what is left is submitted
 * with the next call. Short of memory: the same, for a second or so. Anything else, and the ring is of no
 * more use. */
static void check(uring_engine *u, int rc)
{
    if (rc >= 0) u->no_memory = 0;
    if (rc >= 0 || rc == -EAGAIN || rc == -EBUSY || rc == -EINTR) return;
    if (rc == -ENOMEM && ++u->no_memory < MEMORY_RETRIES) {
        nanosleep(&(struct timespec){0, MEMORY_PAUSE_NS}, NULL);
        return;
    }
    u->broken = -rc;
}

static void uring_submit(void *engine)
{
    uring_engine *u = engine;
    if (u->broken || !io_uring_sq_ready(&u->ring)) return;
    /* The call itself: io_uring_enable_rings is missing in the shared library of liburing 2.3. */
    if (!u->enabled) {
        int rc = (int)syscall(__NR_io_uring_register, u->ring.ring_fd, IORING_REGISTER_ENABLE_RINGS, NULL, 0);
        check(u, rc ? -errno : 0);
        u->enabled = !rc;
    }
    if (u->enabled) check(u, io_uring_submit(&u->ring));
}

static void leave(uring_engine *u, qs_aio_request *r, qs_aio_request ***tail)
{
    qs_aio_request *last = u->request[--u->inside];
    u->request[r->place] = last;
    last->place = r->place;
    r->next = NULL;
    **tail = r;
    *tail = &r->next;
}

static qs_aio_request *uring_reap(void *engine, bool wait)
{
    uring_engine *u = engine;
    qs_aio_request *ended = NULL, **tail = &ended;
    do {
        if (!u->enabled) uring_submit(u);
        /* Completions that the kernel holds back (DEFER_TASKRUN) appear only in a call that asks for events.
         */
        if (!u->broken && u->enabled && !io_uring_cq_ready(&u->ring))
            check(u, wait ? io_uring_submit_and_wait(&u->ring, 1) : io_uring_submit_and_get_events(&u->ring));
        struct io_uring_cqe *cqe;
        unsigned head, count = 0;
        io_uring_for_each_cqe(&u->ring, head, cqe)
        {
            qs_aio_request *r = io_uring_cqe_get_data(cqe);
            r->result = cqe->res;
            leave(u, r, &tail);
            count++;
        }
        io_uring_cq_advance(&u->ring, count);
        while (u->broken && u->inside) {
            qs_aio_request *r = u->request[0];
            r->result = -u->broken;
            leave(u, r, &tail);
        }
    } while (wait && !ended);
    return ended;
}

const qs_aio_engine_table qs_aio_engine_uring = {.name = "io_uring",
                                                 .open = uring_open,
                                                 .close = uring_close,
                                                 .register_block = uring_register_block,
                                                 .queue = uring_queue,
                                                 .submit = uring_submit,
                                                 .reap = uring_reap};
