/* tier.h - the pools of a plan, for real: one block per pool, mapped once, handed out by item.
 *
 * Every item of the plan becomes a region at a 4096-aligned place of its pool's block. A region is given out
 * once; at the end of set-up qs_tier_check asserts that each was, in full: used == planned, pool by pool.
 */
#ifndef QS_OFFLOAD_TIER_H
#define QS_OFFLOAD_TIER_H

#include "kernels/device.h"
#include "offload/plan.h"
#include "src/base/arena.h"
#include "src/base/memory.h"

typedef struct qs_tier {
    qs_device *device;
    const qs_plan *plan;
    qs_region pinned, host;
    void *device_base, *managed_base;
    uint64_t device_bytes;
    bool registered;             /* the pinned block is page-locked for the device */
    char *at[QS_PLAN_MAX_ITEMS]; /* where item i begins */
    bool taken[QS_PLAN_MAX_ITEMS];
} qs_tier;

/* Bytes that an item occupies: rounded up to whole pages, so that items of a plan state them so. */
static inline uint64_t qs_tier_round(uint64_t bytes) { return (bytes + 4095) / 4096 * 4096; }

/* Maps and touches the pools of the plan; every item's bytes must be a multiple of 4096. The plan must
 * outlive the tier. QS_ENOMEM when the system refuses. */
int qs_tier_open(qs_device *d, const qs_plan *plan, qs_tier *out, qs_err *e);
void qs_tier_close(qs_tier *t);

/* The region of an item in `pool`; NULL when the plan has none. Taking twice is a bug. */
void *qs_tier_take(qs_tier *t, qs_item item, qs_pool pool);

/* The same as an arena over the whole region. */
qs_arena qs_tier_arena(qs_tier *t, qs_item item, qs_pool pool);

/* Asserts that every item was taken. */
void qs_tier_check(const qs_tier *t);

#endif
