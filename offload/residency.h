/* residency.h - which weights are where, what goes, and what is begun next: decided here, moved by somebody
 * else.
 *
 * A blob is read into a *host slot* (its home in host memory, or one of the ring's) or is made there; on a
 * device with memory of its own it goes on into a *device slot*:
 *
 *     disk --fill--> host slot --copy--> device slot --> kernels
 *
 * The rules, each of which is one function of residency.c:
 *   - Visits follow the schedule. What the visits from the present one on need is begun in their order, as
 * far as slots reach.
 *   - A slot is taken over only from the blob whose next visit is farthest away (farthest.h), and only when
 * that is after the visit for which it is taken. At the turn of the palindrome this saves the loads of the
 * last few layers.
 *   - A host slot whose blob is on the device as well is spare: free for any other blob.
 *   - The first blob that the cache lacks is made ahead.
 *
 * Nothing here knows a byte or a clock. A *mover* carries out what is decided and says what has ended:
 * stream.c's moves real bytes, simulate.c's has clocks in place of transfers. So a prediction is the run's
 * own policy.
 *
 *     qs_residency_begin(r, schedule);
 *     for each visit v: QS_TRY(qs_residency_acquire(r, v, e)); ...; qs_residency_release(r, v);
 */
#ifndef QS_OFFLOAD_RESIDENCY_H
#define QS_OFFLOAD_RESIDENCY_H

#include "offload/blob_builder.h"
#include "offload/plan.h"
#include "offload/schedule.h"

typedef enum qs_slot_state { QS_SLOT_EMPTY, QS_SLOT_READING, QS_SLOT_TO_MAKE, QS_SLOT_FULL } qs_slot_state;

typedef struct qs_host_slot {
    int32_t blob; /* -1: none */
    qs_slot_state state;
    bool is_home;
    bool writing; /* being written to the cache: must not change */
    int32_t pins;
} qs_host_slot;

typedef struct qs_device_slot {
    int32_t blob; /* -1: none */
    bool is_home;
    int32_t pins;
} qs_device_slot;

/* What moves bytes. Slots are named by their index; their `blob` is set before a call and stays until the
 * next fill or copy. */
typedef struct qs_mover {
    void *context;
    bool (*cached)(void *context, int32_t blob); /* the disk has it */
    void (*fill)(void *context, int32_t host,
                 bool read); /* the slot has a new blob: begins to read it, or waits to be made */
    bool (*transferred)(void *context, int32_t host); /* its read, or its write to the cache, has ended */
    void (*wait_transferred)(void *context, int32_t host); /* blocks until then; nobody wants the data */
    int (*receive)(void *context, int32_t host, bool *good,
                   qs_err *e);                   /* waits for the read and checks it; not good: to be made */
    void (*expect)(void *context, int32_t blob); /* will be made next; -1: never mind */
    qs_made (*make_some)(void *context, int32_t host); /* what can be done without waiting */
    int (*make)(void *context, int32_t host, bool *writing,
                qs_err *e); /* the rest; begins to write it to the cache, or will make it again */
    void (*commit)(void *context, int32_t host);      /* waits for that write; from then on the disk has it */
    bool (*copying)(void *context, int32_t host);     /* the device is still reading from it */
    void (*wait_copied)(void *context, int32_t host); /* blocks until it is not */
    void (*copy)(void *context, int32_t host,
                 int32_t device); /* begins, behind the last reader of the device slot */
} qs_mover;

typedef struct qs_residency {
    const qs_mover *mover;
    const qs_schedule *schedule;
    bool in_place;      /* kernels read the host slots: there are no device slots */
    qs_host_slot *host; /* homes first, then the ring */
    qs_device_slot *device;
    int32_t host_slots, host_homes, device_slots, device_homes, blobs;
    int32_t *host_slot_of, *device_slot_of; /* [blobs] index, or -1 */
    int32_t *host_home, *device_home;       /* likewise */
    int32_t *next;    /* [blobs] visits from the list's first to the next visit of the blob: at least `at` */
    bool *loaded;     /* [blobs] read or made since its last visit */
    int32_t at;       /* the visit in progress */
    int32_t expected; /* the blob that will be made next, or -1 */
    int32_t absent, nowhere, unmade, writes; /* blobs that kernels cannot read, that are in no slot, that the
                                                disk lacks; writes in progress */
    int32_t reads, hits; /* blobs read; visits whose blob was neither read nor made since its last visit */
} qs_residency;

/* Everything is empty. Homes and slots are the plan's; homes lie in the order of their blobs. plan and mover
 * are borrowed. */
void qs_residency_open(const qs_plan *plan, bool in_place, const qs_mover *mover, qs_residency *out);
void qs_residency_close(qs_residency *r);

/* Follows this schedule from its first visit; what is in memory stays. Borrowed. */
void qs_residency_begin(qs_residency *r, const qs_schedule *schedule);

/* Has the blob of visit v where kernels read it, and holds it there until the release. Waits where it must.
 * Begins what is needed next. Visits go in order. After a failure the same visit may be tried again. */
int qs_residency_acquire(qs_residency *r, int32_t v, qs_err *e);
void qs_residency_release(qs_residency *r, int32_t v);

/* Begins what can be begun by now. */
void qs_residency_pump(qs_residency *r);
/* Only goes on with the blob that is being made ahead; pumps when it is done. Cheaper. */
void qs_residency_make_on(qs_residency *r);
/* Commits the writes to the cache that have ended. */
void qs_residency_commit_written(qs_residency *r);
/* Commits all of them, waiting. */
void qs_residency_settle(qs_residency *r);

/* The slot in which kernels read the blob, a host slot where they are read in place; -1: it is not there. */
static inline int32_t qs_residency_slot(const qs_residency *r, int32_t blob)
{
    return r->in_place ? r->host_slot_of[blob] : r->device_slot_of[blob];
}

/* The blob of a host slot. */
static inline int32_t qs_residency_blob(const qs_residency *r, int32_t host) { return r->host[host].blob; }

#endif
