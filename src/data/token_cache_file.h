/* token_cache_file.h - the cache file's layout, shared by its writer and its reader.
 *
 *     header (zero-padded to QS_TOKEN_CACHE_TOKENS_AT) | tokens (uint32) | padding to 8 | samples (qs_sample)
 * | audit text, NUL
 */
#ifndef QS_DATA_TOKEN_CACHE_FILE_H
#define QS_DATA_TOKEN_CACHE_FILE_H

#include <xxhash.h>

#include "src/data/token_cache.h"

enum { QS_TOKEN_CACHE_VERSION = 3, QS_TOKEN_CACHE_TOKENS_AT = 4096 };
#define QS_TOKEN_CACHE_MAGIC "QSTOKENS"

typedef struct qs_token_cache_header {
    char magic[8];
    uint32_t version, header_bytes;
    uint64_t key[2];
    uint64_t token_count, sample_count, target_count, longest;
    uint64_t samples_at, audit_at, file_bytes; /* offsets */
    int64_t max_id;                            /* the largest id, and where it was first seen */
    uint32_t max_id_row, max_id_file;
    uint64_t content_hash; /* XXH3 of the file from QS_TOKEN_CACHE_TOKENS_AT on */
    uint64_t header_hash;  /* XXH3 of the header before this field */
} qs_token_cache_header;

static inline uint64_t qs_token_cache_header_hash(const qs_token_cache_header *h)
{
    return XXH3_64bits(h, offsetof(qs_token_cache_header, header_hash));
}

/* Makes the file at `path`: reads the data, writes tokens, index and audit. */
int qs_token_cache_build(const qs_data_options *o, const char *path, const uint64_t key[2],
                         int (*progress)(void *, uint64_t done, uint64_t of), void *user, qs_err *e);

#endif
