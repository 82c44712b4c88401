/* cache_list.h - which caches lie in a folder, for the command that lists, verifies and prunes them.
 *
 * A layer cache is a directory with a manifest (io/layer_cache.h); a token cache is one file of
 * src/data/token_cache.h, NAME.tokens. Both say by a lock whether a process uses them and by a modification
 * time when one last did.
 */
#ifndef QS_IO_CACHE_LIST_H
#define QS_IO_CACHE_LIST_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "src/base/error.h"

typedef enum qs_cache_kind { QS_CACHE_LAYERS, QS_CACHE_TOKENS, QS_CACHE_LEFT_OVER } qs_cache_kind;

typedef struct qs_cache_entry {
    qs_cache_kind kind;
    char *path;       /* the directory, or the file */
    char *model;      /* its name; "" where nothing says it */
    char *model_path; /* its directory when the cache was made, or NULL */
    char *fingerprint, *format;
    uint64_t *blob_bytes; /* [blobs] */
    int blobs, present;   /* of a layer cache: how many there are to be, and whole */
    char **parts;         /* [part_count] the directories of a striped one, in order; of another its own */
    int part_count, part; /* part: 1-based, which of them this is */
    uint64_t bytes;       /* on the disk */
    time_t used;          /* when it was last used */
    bool in_use;          /* by a live process */
    const char *unusable; /* why this program cannot use it, or NULL */
} qs_cache_entry;

typedef struct qs_cache_list {
    qs_cache_entry *entries; /* [count] in the order of their paths */
    int count;
} qs_cache_list; /* {0} is empty */

/* Adds what is in `root`: itself, its subdirectories, and the token caches in their folders "tokens". A
 * folder that is not there has none. QS_EIO. */
int qs_cache_list_add(qs_cache_list *l, const char *root, qs_err *e);
void qs_cache_list_free(qs_cache_list *l);

/* Removes a cache with all its parts, unless a process uses it. Returns 1 when it is gone, 0 when it is in
 * use, or an error. */
int qs_cache_remove(const qs_cache_entry *c, qs_err *e);

#endif
