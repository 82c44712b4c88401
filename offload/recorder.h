/* recorder.h - what the disk, the link and the waiting host did, and when: filled by the streamer while a run
 * is profiled.
 *
 * The owner gives the arrays; nothing is allocated while recording, and what does not fit is counted as lost.
 * Without a recorder (every normal run) the streamer pays a comparison.
 *
 * Reads and writes last from their first request to the completion that was seen, as the I/O layer knows it:
 * two that are in flight together overlap. Copies of a device that copies behind the host's back end when the
 * streamer sees that they have: up to one poll late.
 */
#ifndef QS_OFFLOAD_RECORDER_H
#define QS_OFFLOAD_RECORDER_H

#include <stdint.h>

typedef enum qs_activity_kind {
    QS_ACTIVITY_READ,
    QS_ACTIVITY_WRITE,
    QS_ACTIVITY_COPY, /* in flight */
    QS_ACTIVITY_WAIT_DISK,
    QS_ACTIVITY_WAIT_LINK,
    QS_ACTIVITY_VERIFY,
    QS_ACTIVITY_MAKE, /* the host was busy with it, inside a visit */
    QS_ACTIVITY_KINDS
} qs_activity_kind;

typedef struct qs_activity {
    uint64_t start_ns, end_ns;
    int32_t blob;
    qs_activity_kind kind;
} qs_activity;

/* Bytes of blobs in the streamer's memory, filled or being filled, when a visit begins. */
typedef struct qs_usage {
    uint64_t ring, slots, homes_host, homes_device;
} qs_usage;

typedef struct qs_recorder {
    qs_activity *activities; /* [capacity] */
    int32_t count, capacity;
    int32_t lost;    /* activities for which there was no room */
    qs_usage *usage; /* [visits of the schedule] */
} qs_recorder;

/* NULL is fine, and so is nothing to record: an activity without duration. */
static inline void qs_record(qs_recorder *r, qs_activity_kind kind, int32_t blob, uint64_t start_ns,
                             uint64_t end_ns)
{
    if (!r || end_ns <= start_ns) return;
    if (r->count < r->capacity)
        r->activities[r->count++] = (qs_activity){start_ns, end_ns, blob, kind};
    else
        r->lost++;
}

#endif
