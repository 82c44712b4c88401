/* activation_store.h - activation checkpoints: one [rows, hidden] matrix per (level, micro-batch), kept on
 * the host between visits.
 *
 * Level 0 is the embedding's output, level l + 1 the output of layer l. In the backward pass the gradient
 * with respect to a level takes the place of the level itself, so no other store is needed. On the host they
 * are records of a pager: all in memory, or in a scratch file with some frames of memory before it. Where
 * memory is shared a checkpoint is used where it lies. On a discrete one it passes through a few buffers in
 * device memory: written back on QS_QUEUE_OUT behind the next kernels, fetched ahead on QS_QUEUE_IN, ordered
 * by events alone; what is still in a buffer is not fetched.
 *
 *     x = qs_activation_store_get(s, l, mb);          // device pointer, ready for QS_QUEUE_COMPUTE
 *     y = qs_activation_store_new(s, l + 1, mb);      // to be overwritten
 *     ...queue kernels: y = f(x)...
 *     qs_activation_store_put(s, l, mb, false);       // unchanged
 *     qs_activation_store_put(s, l + 1, mb, true);    // changed: stored
 */
#ifndef QS_OFFLOAD_ACTIVATION_STORE_H
#define QS_OFFLOAD_ACTIVATION_STORE_H

#include "offload/pager.h"

typedef struct qs_activation_store qs_activation_store;

typedef struct qs_activation_store_config {
    qs_device *device;
    int32_t levels, micro_batches; /* of a sweep */
    uint64_t bytes;                /* of one checkpoint at its largest, a multiple of 4096 */
    qs_pager
        *host; /* levels * micro_batches records of `bytes`; borrowed. Whoever owns it says what tick it is */
    void *device_memory; /* discrete: buffers * bytes */
    int32_t buffers;     /* discrete: at least QS_ACTIVATION_BUFFERS */
} qs_activation_store_config;

enum { QS_ACTIVATION_BUFFERS = 4 };

void qs_activation_store_open(const qs_activation_store_config *config, qs_activation_store **out);
void qs_activation_store_close(qs_activation_store *s); /* waits for copies in flight; NULL is fine */

/* Record of the pager that holds a checkpoint. */
static inline int32_t qs_activation_store_record(const qs_activation_store_config *c, int32_t level,
                                                 int32_t micro_batch)
{
    return level * c->micro_batches + micro_batch;
}

/* Bytes that the checkpoints of a sweep really take (rows of this micro-batch); set before its first use in
 * it. */
void qs_activation_store_set_bytes(qs_activation_store *s, int32_t micro_batch, uint64_t bytes);

/* Fetches a checkpoint; valid until its put. Blocks for the disk when it is there. */
void *qs_activation_store_get(qs_activation_store *s, int32_t level, int32_t micro_batch);
/* Starts fetching one that will be got soon, if it is in host memory; a hint. */
void qs_activation_store_expect(qs_activation_store *s, int32_t level, int32_t micro_batch);
/* A buffer to overwrite. */
void *qs_activation_store_new(qs_activation_store *s, int32_t level, int32_t micro_batch);
/* Ends the use begun by get or new. */
void qs_activation_store_put(qs_activation_store *s, int32_t level, int32_t micro_batch, bool changed);

/* For host producers (embedding rows): where the whole checkpoint is to be written, once copies of an earlier
 * sweep from there are done, and "it was written". */
void *qs_activation_store_host(qs_activation_store *s, int32_t level, int32_t micro_batch);
void qs_activation_store_host_written(qs_activation_store *s, int32_t level, int32_t micro_batch);

/* Bytes copied over the link so far. */
uint64_t qs_activation_store_link_bytes(const qs_activation_store *s);

#endif
