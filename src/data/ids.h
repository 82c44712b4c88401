/* ids.h - token ids in a row. */
#ifndef QS_DATA_IDS_H
#define QS_DATA_IDS_H

#include <stddef.h>
#include <stdint.h>

/* A growing array of token ids; {0} is an empty one. */
typedef struct qs_ids {
    int32_t *data;
    size_t count, capacity;
} qs_ids;

void qs_ids_push(qs_ids *ids, int32_t id);
/* Room for `extra` more ids without another allocation. */
void qs_ids_reserve(qs_ids *ids, size_t extra);
void qs_ids_free(qs_ids *ids);

#endif
