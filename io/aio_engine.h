/* aio_engine.h - what an engine is to io/aio.c; nobody else includes this.
 *
 * An engine moves one request at a time from queue() to reap() and knows nothing of operations: splitting,
 * order, short transfers, interrupted calls and end of file are dealt with in io/aio.c. At most `depth`
 * requests are inside an engine. All calls come from the one thread that owns the qs_aio.
 */
#ifndef QS_IO_AIO_ENGINE_H
#define QS_IO_AIO_ENGINE_H

#include "io/aio.h"

typedef struct qs_aio_request {
    /* For the engine: move `bytes` between buffer and the file at offset, and set result to the count moved,
     * or -errno. */
    const qs_aio_file *file;
    char *buffer;
    uint64_t offset;
    uint32_t bytes;
    bool write;
    int64_t result;
    struct qs_aio_request *next; /* the engine's while it has the request; links what reap returns */
    int place;                   /* the engine's while it has the request */

    /* For aio.c. */
    qs_aio_op *op;
    uint32_t left; /* bytes of the request that are still to come; an engine may be asked for them in several
                      goes */
    int retries;
} qs_aio_request;

typedef struct qs_aio_engine_table {
    const char *name;
    /* Makes an engine for up to depth requests. QS_EUNSUP when this system has no such thing. */
    int (*open)(int depth, void **out, qs_err *e);
    /* Nothing is inside when it is closed. */
    void (*close)(void *engine);
    /* Required; see qs_aio_register. */
    bool (*register_block)(void *engine, void *base, size_t bytes, qs_err *e);
    /* Takes a request; it may lie here until submit. Never blocks on the disk. */
    void (*queue)(void *engine, qs_aio_request *r);
    /* Sets everything queued in motion. */
    void (*submit)(void *engine);
    /* Requests that have ended, well or badly (an engine that breaks ends all it has with an error), linked
     * by next; NULL when there is none and !wait. With wait, at least one must be inside. */
    qs_aio_request *(*reap)(void *engine, bool wait);
} qs_aio_engine_table;

extern const qs_aio_engine_table qs_aio_engine_uring, qs_aio_engine_pread;

/* Where tests put an engine of theirs around the one that was opened, and own it. */
typedef struct qs_aio_seam {
    const qs_aio_engine_table *table; /* the outer engine's */
    void *(*around)(const struct qs_aio_seam *seam, const qs_aio_engine_table *inner_table, void *inner,
                    int depth);
    const void *what; /* for `around` */
} qs_aio_seam;

#endif
