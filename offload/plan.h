/* plan.h - the placement: from sizes and budgets to pools, pure and exact.
 *
 * The model states what it needs as items (what for, which pool, bytes) and as blobs (weights that the
 * streamer moves). The plan adds the streaming ring, decides which blobs live where, and says whether it all
 * fits. It allocates nothing that outlives it and touches no device: `qlora-stream plan` prints it, a run
 * maps exactly these bytes (offload/tier.h) and asserts that what was used is what was planned.
 *
 * Blobs with a home stay in memory for the whole run; the others pass through the ring. Homes are spread
 * evenly over the list of blobs, never a prefix: while a resident layer computes, the link works ahead for
 * the next streamed one. Placement never changes a bit of the result.
 */
#ifndef QS_OFFLOAD_PLAN_H
#define QS_OFFLOAD_PLAN_H

#include <stdbool.h>
#include <stdint.h>

#include "offload/items.h"
#include "src/base/error.h"

typedef enum qs_pool {
    QS_POOL_DEVICE,  /* counted against --vram */
    QS_POOL_PINNED,  /* host memory the disk writes and the device reads; counted against --ram */
    QS_POOL_HOST,    /* counted against --ram */
    QS_POOL_MANAGED, /* memory of one address that lives on the host and visits the device; counted against
                        --ram */
    QS_POOL_COUNT
} qs_pool;

const char *qs_pool_name(qs_pool p);

typedef enum qs_home { QS_HOME_DISK, QS_HOME_HOST, QS_HOME_DEVICE } qs_home;

enum { QS_PLAN_MAX_ITEMS = 48, QS_PLAN_RING_SLOTS = 3, QS_PLAN_MIN_SLOTS = 2 };

typedef struct qs_plan_item {
    qs_item item;
    qs_pool pool;
    uint64_t bytes;
} qs_plan_item;

typedef struct qs_plan_input {
    uint64_t vram_bytes, ram_bytes;
    uint64_t device_overhead_bytes; /* context and library workspaces, part of --vram */
    bool shared_memory;        /* device and host memory are one: no device ring, homes are used in place */
    const qs_plan_item *items; /* fixed needs */
    int item_count;
    int blobs;
    const uint64_t *blob_bytes; /* each a multiple of 4096 */
    const qs_plan_item
        *wish;      /* NULL, or one more item that is taken when there is room for it (before homes) */
    int ring_slots; /* 0: QS_PLAN_RING_SLOTS; else at least QS_PLAN_MIN_SLOTS, and the most there are: fewer
                       when room is short */
    int most_homes; /* upper bound of blobs with a home, for tests and measurements; -1: no bound */
} qs_plan_input;

typedef struct qs_plan {
    qs_plan_item items[QS_PLAN_MAX_ITEMS]; /* the input's, then "streaming ring", "device slots", "resident
                                              weights" per pool */
    int item_count;
    uint64_t pool_bytes[QS_POOL_COUNT];
    uint64_t vram_bytes, ram_bytes; /* the budgets */
    uint64_t vram_used, ram_used;   /* <= the budgets; overhead included */
    bool wish_granted;
    int blobs;
    uint8_t *home; /* [blobs] qs_home */
    int homes_device, homes_host;
    uint64_t streamed_bytes;      /* of blobs without a home: read from disk twice per step */
    int ring_slots, device_slots; /* shared memory: 0 when everything is resident. Discrete: device homes are
                                     loaded through the ring */
    uint64_t slot_bytes;          /* the largest blob; 0 without a ring */
} qs_plan;

/* Fills *out (freed with qs_plan_free), or QS_EBUDGET: one sentence with the flag, what it gives, what is
 * needed by tag, and the smallest flag that works. More budget never means fewer homes beside an equal ring.
 */
int qs_plan_make(const qs_plan_input *in, qs_plan *out, qs_err *e);
void qs_plan_free(qs_plan *p);

/* The smallest budgets with which qs_plan_make succeeds: *vram_bytes whatever the RAM, *ram_bytes with this
 * --vram (or *vram_bytes if that is more). Usually the smallest ring and nothing resident; a model smaller
 * than that ring, resident. */
void qs_plan_minimum(const qs_plan_input *in, uint64_t *vram_bytes, uint64_t *ram_bytes);

/* "1.50 GiB" into text[16]. */
const char *qs_format_bytes(uint64_t bytes, char text[16]);

#endif
