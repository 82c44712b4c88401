#include "src/data/ids.h"

#include "src/base/memory.h"

void qs_ids_reserve(qs_ids *ids, size_t extra)
{
    if (ids->count + extra <= ids->capacity) return;
    ids->capacity = 2 * ids->count + extra + 64;
    ids->data = qs_realloc(ids->data, ids->capacity * sizeof *ids->data);
}

void qs_ids_push(qs_ids *ids, int32_t id)
{
    qs_ids_reserve(ids, 1);
    ids->data[ids->count++] = id;
}

void qs_ids_free(qs_ids *ids)
{
    qs_free(ids->data);
    *ids = (qs_ids){0};
}
