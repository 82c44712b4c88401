/* layer_cache.h - the quantised model on disk: blobs of fixed places in one file or striped over several disks, each checksummed.
 *
 * A cache directory holds
 *     manifest.json   what this cache is of: the key below, blob count and sizes; written first, atomically
 *     blobs.bin       blob i at a 4096-aligned offset, sizes fixed by the manifest; preallocated
 *     journal.bin     one 32-byte record per finished blob: u64 little-endian index, length, XXH3-64 of the blob, XXH3-64 of these 24 bytes
 *                     seeded with the key; a record of length 0 takes back the ones before it
 *     lock            flock: exclusive while a process fills the cache, shared once it is complete
 * A blob counts as present when its record is whole; a record torn by a kill is ignored, so a run killed while filling goes on at the first
 * missing blob. Every read is checked against the record's checksum: a blob that does not match is reported as absent, with a warning, and made
 * again. Data is synced when the last blob is in (qs_cache_sync), and by the checksums it need not be before. A process that finds damage in
 * a complete cache may make the blob again while others read it: the bytes are the same, and whoever reads it half-way sees the checksum fail.
 *
 * Over several directories, which are best on disks of their own, blobs.bin is striped: its 1 MiB units go to the directories in turn, so that the reads of every blob keep
 * all disks busy. Each has its manifest.json (with its number), its blobs.bin and its lock; the journal is in the first. How many directories there are, and in which order, is
 * part of what the cache is. A part that is not there, or not the one it should be, is an error; bytes that a part has lost are found by the checksums.
 */
#ifndef QS_IO_LAYER_CACHE_H
#define QS_IO_LAYER_CACHE_H

#include "io/aio.h"

typedef struct qs_cache qs_cache;

typedef struct qs_cache_key {
    const char *model;       /* for messages: the model directory's name */
    const char *fingerprint; /* of the source (qs_source_fingerprint) */
    const char *format;      /* everything else that decides the bytes: "nf4 block 64 double-quant bf16 ... layout 1" */
    int blobs;
    const uint64_t *blob_bytes; /* [blobs], each a multiple of 4096 */
} qs_cache_key;

/* Opens or creates the cache in `dirs` (created with their parents). A manifest of another model, format, version or order of directories is QS_EFORMAT naming both
 * and saying to delete the directory or choose another --cache; nothing there is touched. A directory named twice is QS_EINVAL. Checks free space for what is missing
 * (QS_EIO). A directory that another live process is filling is refused (QS_EIO). */
int qs_cache_open(const char *const *dirs, int count, const qs_cache_key *key, qs_cache **out, qs_err *e);
void qs_cache_close(qs_cache *c);

bool qs_cache_has(const qs_cache *c, int blob);
/* Blobs present. */
int qs_cache_present(const qs_cache *c);

/* Prepare op for the whole blob (not started). Buffer 4096-aligned, blob_bytes long. */
void qs_cache_read_op(const qs_cache *c, int blob, void *buffer, qs_aio_op *op);
void qs_cache_write_op(const qs_cache *c, int blob, const void *buffer, qs_aio_op *op);

/* After a read: does the data match its record? A mismatch forgets the record (in memory and in the journal) and returns false. */
bool qs_cache_verify(qs_cache *c, int blob, const void *data);

/* After a write has finished: appends the record for `data`, which must be what was written. */
int qs_cache_commit(qs_cache *c, int blob, const void *data, qs_err *e);

/* While verify and commit hash a blob (a second per 10 GB or so), `between` is called every few MiB, so that the owner can keep the disk busy; it must not call back
 * into the cache. NULL: nothing is called. */
void qs_cache_while_hashing(qs_cache *c, void (*between)(void *context), void *context);

/* Makes everything durable (fdatasync of its files); when all blobs are present, other processes may open the cache from here on. */
int qs_cache_sync(qs_cache *c, qs_err *e);

#endif
