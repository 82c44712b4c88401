/* cache_manifest.h - what a directory of a layer cache says it holds; read and written by io/layer_cache.c alone.
 *
 * A cache in one directory has a manifest of version 1. One over several has a manifest of version 2 in each: the same, and in "stripe" the unit, which part this is,
 * and where all of them were when the cache was made (for messages: a disk may be mounted elsewhere).
 */
#ifndef QS_IO_CACHE_MANIFEST_H
#define QS_IO_CACHE_MANIFEST_H

#include "io/layer_cache.h"

#define QS_CACHE_STRIPE_BYTES ((uint64_t)1 << 20)

/* Reads the manifest of every directory and compares it with what is wanted; touches nothing. *complete: all are there; otherwise none of the directories holds data.
 * QS_EFORMAT: another model, form, version, arrangement, or a part that is missing. */
int qs_cache_manifests_check(char *const *dirs, int count, const qs_cache_key *key, bool *complete, qs_err *e);

/* Writes those that are missing, each atomically. */
int qs_cache_manifests_write(char *const *dirs, int count, const qs_cache_key *key, qs_err *e);

#endif
