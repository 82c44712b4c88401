/* embedding.h - gathers embedding rows on the host, from a table in RAM or straight from the checkpoint.
 *
 * The table is frozen and never on the device. Without room for it in RAM, the distinct tokens of a
 * micro-batch are read row by row, many reads in flight; either way the result is the same bits.
 */
#ifndef QS_MODEL_EMBEDDING_H
#define QS_MODEL_EMBEDDING_H

#include "src/base/arena.h"
#include "src/model/architecture.h"

typedef struct qs_embedding qs_embedding;

/* Host bytes that opening carves: buffers for micro-batches of up to max_tokens. The table itself is a
 * separate item (qs_embedding_table_bytes). */
uint64_t qs_embedding_bytes(const qs_architecture *a, const qs_source *s, int32_t max_tokens);
uint64_t qs_embedding_table_bytes(const qs_architecture *a, const qs_source *s);

/* table: NULL, or qs_embedding_table_bytes of memory that is filled now (blocks for the read). Everything is
 * borrowed. */
int qs_embedding_open(const qs_architecture *a, qs_source *s, qs_aio *aio, int32_t max_tokens,
                      qs_arena *memory, void *table, qs_embedding **out, qs_err *e);
void qs_embedding_close(qs_embedding *m);

/* out[tokens, hidden] of out_type = the rows of ids. Host memory. Blocks. Ids are within the vocabulary
 * (checked by the data audit). */
int qs_embedding_gather(qs_embedding *m, const int32_t *ids, int32_t tokens, void *out, qs_dtype out_type,
                        qs_err *e);

#endif
