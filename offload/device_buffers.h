/* device_buffers.h - which records a discrete device's few buffers hold: pure decisions. The activation store
 * carries them out with copies; the prediction (src/step/fetches.h) counts them.
 */
#ifndef QS_OFFLOAD_DEVICE_BUFFERS_H
#define QS_OFFLOAD_DEVICE_BUFFERS_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/farthest.h"

enum { QS_DEVICE_BUFFERS_MAX = 8 };

typedef struct qs_device_buffers {
    int32_t count;
    int32_t record[QS_DEVICE_BUFFERS_MAX]; /* -1: empty */
    int32_t pins[QS_DEVICE_BUFFERS_MAX];
} qs_device_buffers;

static inline void qs_device_buffers_clear(qs_device_buffers *b, int32_t count)
{
    *b = (qs_device_buffers){.count = count};
    for (int32_t i = 0; i < count; i++) b->record[i] = -1;
}

/* The buffer that holds it; -1: none. */
static inline int32_t qs_device_buffers_find(const qs_device_buffers *b, int32_t record)
{
    for (int32_t i = 0; i < b->count; i++)
        if (b->record[i] == record) return i;
    return -1;
}

/* Of the buffers that nobody holds the one whose record is used last, now given to `record`; -1: all are
 * held. next_use: when a record is used next, INT64_MAX: never. */
static inline int32_t qs_device_buffers_take(qs_device_buffers *b, int32_t record,
                                             int64_t (*next_use)(void *context, int32_t record),
                                             void *context)
{
    qs_farthest go = {-1, -1};
    for (int32_t i = 0; i < b->count; i++) {
        if (b->pins[i]) continue;
        int64_t use = b->record[i] < 0 ? INT64_MAX : next_use(context, b->record[i]);
        if (qs_is_farther(&go, use)) go = (qs_farthest){i, use};
    }
    if (go.index >= 0) b->record[go.index] = record;
    return (int32_t)go.index;
}

/* Whether one may be fetched into ahead of its use: another stays free for who needs it at once. */
static inline bool qs_device_buffers_spare(const qs_device_buffers *b)
{
    int32_t held = 0;
    for (int32_t i = 0; i < b->count; i++) held += b->pins[i] > 0;
    return held + 2 <= b->count;
}

#endif
