/* pager.h - records of equal size in host memory, or in a scratch file with a few frames of memory before it.
 *
 * A record is a layer's adapter masters, its gradients, its optimizer states, or one activation checkpoint.
 * With a frame for every record all of them live in memory and nothing below ever reads or writes; with
 * fewer, records come and go through the frames. The caller does the same in both cases:
 *
 *     qs_pager_begin(p, &list);                        // what will be used when: made before the run, from
 * the schedule qs_pager_at(p, tick); float *x = qs_pager_acquire(p, r, QS_PAGE_CHANGE);
 *     ...
 *     qs_pager_release(p, r, true, QS_QUEUE_COMPUTE);  // the device's copies queued there so far may still
 * be using it QS_TRY(qs_pager_check(p, e));                    // now and then: failures are sticky, like the
 * device's
 *
 * The list is the pager's foresight: it reads ahead what is used next, gives up the record that is needed
 * last, writes one as soon as it is clear that it must leave, and does not write at all what will only be
 * overwritten (QS_PAGE_NEW). A use that is listed may be left out; one that is not listed may be made, but
 * must not need what the list lets go.
 *
 * What comes back from the disk is compared with the checksum of what went there (XXH3-64): changed bits are
 * a failure, not a wrong result. The scratch file has no name, so a killed process leaves nothing. One thread
 * drives a pager. Nothing is allocated after opening.
 */
#ifndef QS_OFFLOAD_PAGER_H
#define QS_OFFLOAD_PAGER_H

#include "io/aio.h"
#include "kernels/device.h"
#include "offload/page_list.h"
#include "offload/tier.h"

/* Frames that let one record be used while the next is read and the last one written. */
enum { QS_PAGER_FRAMES = 3 };

typedef struct qs_pager qs_pager;

typedef struct qs_pager_config {
    qs_device *device; /* whose copies use the frames */
    int32_t records;
    uint64_t bytes;   /* of a record; a multiple of 4096 unless all are in memory */
    void *memory;     /* frames * bytes, 4096-aligned */
    int32_t frames;   /* `records`, or fewer: then more than are ever held at once */
    qs_aio *aio;      /* these three only with fewer frames than records */
    const char *dir;  /* of the scratch file */
    const char *what; /* "adapter masters": for messages */
} qs_pager_config;

/* QS_EIO when the scratch file cannot be made, or its bytes are not to be had. A record that was never
 * written reads as zeros. */
int qs_pager_open(const qs_pager_config *config, qs_pager **out, qs_err *e);
void qs_pager_close(qs_pager *p); /* waits for transfers and copies; NULL is fine */

/* Where the records of one kind go: the same numbers make the plan's item and, later, the pager. */
typedef struct qs_pager_spec {
    qs_item item; /* also what the pager says it holds */
    qs_pool pool;
    int32_t records, frames;
    uint64_t bytes; /* of a record */
} qs_pager_spec;

/* On disk with this many frames; otherwise, or where there are no more records than that, in memory. What the
 * disk writes or a discrete device copies is page-locked. */
qs_pager_spec qs_pager_spec_of(const qs_device *d, qs_item item, int32_t records, uint64_t bytes,
                               bool on_disk, int32_t frames);
qs_plan_item qs_pager_spec_item(const qs_pager_spec *p);
/* Takes the item from the tier. aio and dir: as in qs_pager_config. */
int qs_pager_spec_open(const qs_pager_spec *p, qs_tier *tier, qs_aio *aio, const char *dir, qs_pager **out,
                       qs_err *e);

/* Follows this list from its beginning; what the records hold stays, but for those whose first use in it is
 * NEW. NULL: every record once, in order, nothing is let go. The list must outlive its use. */
void qs_pager_begin(qs_pager *p, const qs_page_list *list);
/* It is now this tick of the list. Never goes back within a round. */
void qs_pager_at(qs_pager *p, int64_t tick);

/* The record in host memory until its release; nothing is in transit between it and the disk. Blocks for the
 * disk. Never NULL: after a failure its content is undefined. */
void *qs_pager_acquire(qs_pager *p, int32_t record, qs_page_use use);
/* changed: it is to be kept. queue: the frame belongs to the device until what is queued there by now has
 * run, and that implies the same of earlier releases of this record; QS_QUEUE_COUNT: only the host has used
 * it. */
void qs_pager_release(qs_pager *p, int32_t record, bool changed, qs_queue queue);
/* When the record is used next, counted in uses of the list from its beginning on; INT64_MAX: never. For who
 * decides by it. */
int64_t qs_pager_next_use(qs_pager *p, int32_t record);
/* Whether acquire would neither block nor find nothing. */
bool qs_pager_ready(qs_pager *p, int32_t record);
/* Blocks until the device's copies from and to an acquired record are done: before the host writes there. */
void qs_pager_wait_device(qs_pager *p, int32_t record);

/* The first failure, or 0. */
int qs_pager_check(const qs_pager *p, qs_err *e);

typedef struct qs_pager_stats {
    uint64_t read_bytes, written_bytes, wait_ns /* the host stood still for the disk */;
} qs_pager_stats;
qs_pager_stats qs_pager_stats_read(const qs_pager *p);

#endif
