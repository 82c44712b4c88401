/* cache_manifest.h - what a directory of a layer cache says it holds; read and written by io/layer_cache.c
 * and io/cache_list.c.
 *
 * manifest.json, version 3: "model" and "path" (for people), "fingerprint", "format", "blob_bytes", "dates"
 * (of the source's files), in a cache over several directories "stripe" with the unit, which part this is and
 * where all of them were when it was made (a disk may be mounted elsewhere), and "xxh3" over all of it.
 * Versions 1 and 2 knew a model by its files' dates.
 */
#ifndef QS_IO_CACHE_MANIFEST_H
#define QS_IO_CACHE_MANIFEST_H

#include <jansson.h>

#include "io/layer_cache.h"

#define QS_CACHE_STRIPE_BYTES ((uint64_t)1 << 20)
#define QS_CACHE_MANIFEST_NAME "manifest.json"
enum { QS_CACHE_MANIFEST_VERSION = 3 };

/* What the manifests of all directories say together. */
typedef struct qs_cache_manifests {
    int good;    /* describe this cache */
    int missing; /* are not there, and neither is a blob */
    int damaged; /* cannot be read, or are missing beside blobs */
    int old;     /* of an older version, of layers of the same sizes */
    bool dated;  /* a good one was made from files of other sizes or dates */
} qs_cache_manifests;

/* Compares every directory's manifest with what is wanted; touches nothing. `known`: the journal has records
 * of this very cache, so a damaged manifest cannot be another's. QS_EFORMAT: another model, form, version,
 * arrangement, a part that is missing, or damage where nothing tells whose it was. */
int qs_cache_manifests_check(char *const *dirs, int count, const qs_cache_key *key, bool known,
                             qs_cache_manifests *out, qs_err *e);

/* Writes those that are not good, each atomically; with `all`, every one. */
int qs_cache_manifests_write(char *const *dirs, int count, const qs_cache_key *key, bool all, qs_err *e);

/* The manifest of a directory for those who want to look: an object to json_decref, whose sum is right where
 * it has one; or QS_EMISSING, QS_EIO, QS_EFORMAT. */
int qs_cache_manifest_read(const char *dir, json_t **out, qs_err *e);

#endif
