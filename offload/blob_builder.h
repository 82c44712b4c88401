/* blob_builder.h - how a blob comes into being when the cache lacks it: what the streamer asks of
 * quantise_on_load.h. */
#ifndef QS_OFFLOAD_BLOB_BUILDER_H
#define QS_OFFLOAD_BLOB_BUILDER_H

#include <stdint.h>

#include "src/base/error.h"

/* How far a maker came without waiting. */
typedef enum qs_made { QS_MADE_NOTHING, QS_MADE_SOME, QS_MADE_ALL } qs_made;

typedef struct qs_blob_builder {
    void *context;
    /* Fills place[blob_bytes], or what is left of it. Blocks. */
    int (*make)(void *context, int blob, void *place, qs_err *e);
    /* The two below are NULL for a maker that cannot begin early. */
    /* Blob is the next to be made: starts reading. -1: none is, and a place where one was begun is lost.
     * Waits at most for reads that nobody wants any more. */
    void (*expect)(void *context, int blob);
    /* Makes of the blob expected what need not wait. A failure is told by make. */
    qs_made (*advance)(void *context, int blob, void *place);
    /* XXH3-64 of the source bytes that the blob made last was made from, in the order of its making. NULL
     * where there are none. */
    uint64_t (*source_hash)(void *context);
} qs_blob_builder;

#endif
