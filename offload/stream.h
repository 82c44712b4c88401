/* stream.h - the streamer: has each visit's weights on the device when the visit begins.
 *
 * It moves what offload/residency.h decides: a blob passes through a host slot, filled by a checksummed read
 * of the layer cache or, on first touch, by the maker, whose result is written to the cache while the visit
 * computes. On a discrete device it goes on through a device slot:
 *
 *     disk --aio--> host slot --QS_QUEUE_IN--> device slot --QS_QUEUE_COMPUTE--> kernels
 *            cache            event `ready`                 event `freed`
 *
 * Ordering between copies and kernels is made of these two events alone.
 * The host waits for the disk, never for the device, except when every host slot is still being copied from.
 * On a discrete device a host slot is free again as soon as its blob is on the device, so reads run ahead by
 * both kinds together. What is written to the cache is committed as the walk goes, so that a run killed at
 * any time finds it.
 *
 *     qs_stream_begin(s, schedule);
 *     for each visit v: QS_TRY(qs_stream_acquire(s, v, &weights, e));  ...queue kernels...
 * qs_stream_release(s, v);
 *
 * One thread drives it. Nothing is allocated after opening.
 */
#ifndef QS_OFFLOAD_STREAM_H
#define QS_OFFLOAD_STREAM_H

#include "io/layer_cache.h"
#include "kernels/device.h"
#include "offload/blob_builder.h"
#include "offload/plan.h"
#include "offload/recorder.h"
#include "offload/schedule.h"
#include "offload/tier.h"

typedef struct qs_stream qs_stream;

typedef struct qs_stream_config {
    qs_device *device;
    qs_aio *aio;
    qs_cache *cache; /* NULL: every blob without a home is made at each visit (tests) */
    qs_blob_builder maker;
    const qs_plan *plan;
    const uint64_t *blob_bytes;
    qs_tier *tier;         /* the plan's weights and ring are taken from it */
    qs_recorder *recorder; /* NULL, or where to note what happens */
} qs_stream_config;

int qs_stream_open(const qs_stream_config *config, qs_stream **out, qs_err *e);
/* Waits for copies and for cache writes in flight. */
void qs_stream_close(qs_stream *s);

/* Follows this schedule from its first visit; what is in memory stays. The schedule must outlive its use. */
void qs_stream_begin(qs_stream *s, const qs_schedule *schedule);

/* The weights of visit v as a device pointer: valid for work queued on QS_QUEUE_COMPUTE until the release.
 * Visits go in order. Blocks for the disk and for the maker. Starts what is needed next. *out is NULL for a
 * visit without weights. */
int qs_stream_acquire(qs_stream *s, int32_t v, const void **out, qs_err *e);
void qs_stream_release(qs_stream *s, int32_t v);

/* Keeps the disk busy during a long visit: reaps completions and submits what waits. Cheap; call it between
 * operations. */
void qs_stream_poll(qs_stream *s);

/* Waits until every cache write has been committed; makes the cache durable. A cache that has become whole is
 * made so by the next begin, or the close, as well. */
int qs_stream_settle(qs_stream *s, qs_err *e);

typedef struct qs_stream_stats {
    uint64_t disk_wait_ns; /* the host stood still for the disk */
    uint64_t link_wait_ns; /* the host stood still because all host slots were being copied from */
    uint64_t make_ns;      /* quantise on load: reading and quantising */
    uint64_t verify_ns;    /* checksums */
    uint64_t disk_read_bytes, disk_write_bytes, link_bytes;
    uint64_t reads, hits; /* blobs read; visits whose blob was neither read nor made since its last visit */
} qs_stream_stats;
qs_stream_stats qs_stream_stats_read(const qs_stream *s);

#endif
