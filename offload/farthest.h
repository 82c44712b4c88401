/* farthest.h - who goes when room is needed: of those that may go, the one whose next use is farthest away.
 *
 *     qs_farthest go = {.index = -1, .use = need};      // only what is used after `need` may go
 *     for each candidate i: if (qs_is_farther(&go, use_of(i)) && may_go(i)) go = (qs_farthest){i, use_of(i)};
 *
 * With a list of uses that is known this is the best there is (Belady 1966). Streamer, pager and activation
 * store decide by it. The first of equals goes.
 */
#ifndef QS_OFFLOAD_FARTHEST_H
#define QS_OFFLOAD_FARTHEST_H

#include <stdbool.h>
#include <stdint.h>

typedef struct qs_farthest {
    int32_t index; /* -1: none yet */
    int64_t use;   /* in the unit of the caller's list */
} qs_farthest;

static inline bool qs_is_farther(const qs_farthest *so_far, int64_t use) { return use > so_far->use; }

#endif
