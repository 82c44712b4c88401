/* hash.h - the state of a checksum (XXH3) that is made piece by piece. */
#ifndef QS_BASE_HASH_H
#define QS_BASE_HASH_H

#include <xxhash.h>

#include "src/base/memory.h"

/* Never NULL; see qs_malloc. Free with XXH3_freeState. */
static inline XXH3_state_t *qs_hash_create(void)
{
    XXH3_state_t *state = XXH3_createState();
    if (!state) qs_out_of_memory(0);
    return state;
}

#endif
