/* cache_parts.h - a layer cache's inside, shared by what opens it (io/cache_open.c) and what uses it
 * (io/layer_cache.c). */
#ifndef QS_IO_CACHE_PARTS_H
#define QS_IO_CACHE_PARTS_H

#include <xxhash.h>

#include "io/cache_journal.h"
#include "io/layer_cache.h"

struct qs_cache {
    char **dirs; /* [parts] */
    int parts;
    int blobs, present;
    uint64_t *bytes, *offset; /* [blobs] of each blob in the file */
    uint64_t *hash, *source;  /* [blobs] XXH3-64 of those that are present, and of what they were made from */
    bool *has;                /* [blobs] */
    uint64_t total_bytes;
    uint64_t seed;     /* of the record checksums: records of another cache do not count here */
    qs_aio_file *part; /* [parts] the blobs.bin of each directory, for reading; twice as many while writing:
                          then those for writing */
    qs_aio_file file, writable; /* all of them as one */
    int *lock, *fill;           /* [parts] descriptors, or -1 */
    bool fills;                 /* this process writes */
    bool unsynced;
    bool gave_up; /* it cannot write, and has said so */
    qs_journal journal;
    XXH3_state_t *hash_state;
    void (*between)(void *context);
    void *between_context;
};

/* Of the record checksums. Another arrangement of the same blobs is another cache. */
uint64_t qs_cache_seed(const char *fingerprint, const char *format, int parts);

/* Takes over what a record says. `cache` is the qs_cache. */
void qs_cache_apply(void *cache, const qs_cache_record *r);

/* 0: this process fills the cache from now on; 1: another one does. */
int qs_cache_begin_filling(qs_cache *c, qs_err *e);
void qs_cache_end_filling(qs_cache *c);

/* Opens all parts for writing, with their sizes; then reads the journal on as the one who writes, and mends
 * what is damaged. `expected`: it should hold something. */
int qs_cache_open_for_writing(qs_cache *c, qs_err *e);
int qs_cache_load_journal(qs_cache *c, bool expected, qs_err *e);

#endif
