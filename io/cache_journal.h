/* cache_journal.h - which blobs of a layer cache are whole: a file of 40-byte records that only grows; read
 * and written by io/layer_cache.c.
 *
 * A record is u64 little-endian blob, length, XXH3-64 of the blob, XXH3-64 of the source bytes that it was
 * made from (0: unknown), XXH3-64 of these 32 bytes seeded with the cache's key. A record of length 0 takes
 * back the ones before it. Records of another cache, torn by a power cut or damaged do not decode; the
 * process that writes blanks them. One process writes; others may read on meanwhile.
 */
#ifndef QS_IO_CACHE_JOURNAL_H
#define QS_IO_CACHE_JOURNAL_H

#include <stdbool.h>
#include <stdint.h>

#include "src/base/error.h"

#define QS_CACHE_JOURNAL_NAME "journal.bin"

typedef struct qs_cache_record {
    uint64_t blob, bytes, hash, source;
} qs_cache_record;

typedef struct qs_journal {
    int fd; /* -1: not open */
    char *path;
    uint64_t seed;
    uint64_t at; /* bytes read or written so far: whole records */
    int damaged; /* records among them that did not decode */
} qs_journal;

/* Opens dir's journal: for writing (then it is created) or for reading. With `writes` on an open one, goes on
 * at the same place for writing. QS_EIO, QS_EMISSING. */
int qs_journal_open(qs_journal *j, const char *dir, uint64_t seed, bool writes, qs_err *e);
void qs_journal_close(qs_journal *j);

/* Calls take for each whole record from where the last call ended. */
int qs_journal_read_on(qs_journal *j, void (*take)(void *context, const qs_cache_record *r), void *context,
                       qs_err *e);

/* For the writer, who has read all: cuts off a torn tail, so that the next record does not lie askew, and
 * blanks `damaged` records. */
int qs_journal_repair(qs_journal *j, qs_err *e);

/* Appends one record with a single write, which a kill does not divide. What a full disk took of it is cut
 * off again. */
int qs_journal_append(qs_journal *j, const qs_cache_record *r, qs_err *e);

#endif
