/* layer_cache.h - the quantised model on disk: blobs of fixed places in one file or striped over several
 * disks, each checksummed.
 *
 * A cache directory holds
 *     manifest.json   what this cache is of: the key below, blob count and sizes; written first, atomically
 * (io/cache_manifest.h) blobs.bin       blob i at a 4096-aligned offset, sizes fixed by the manifest;
 * preallocated journal.bin     one record per finished blob, with its checksum and that of the source's bytes
 * (io/cache_journal.h) lock            shared by every process that uses the cache; its modification time is
 * that of the last use fill            held by the one process that writes A blob counts as present when its
 * record is whole, so a run killed while filling goes on at the first missing blob. Every read is checked
 * against the record's checksum: a blob that does not match, or that a shortened file lacks, is reported as
 * absent, with a warning, and made again. Data is synced when the last blob is in (qs_cache_sync), and by the
 * checksums it need not be before.
 *
 * Any number of processes may use a cache at once. The first that finds it incomplete fills it; the others
 * read what is there (qs_cache_refresh) and make the rest for themselves, and one of them goes on filling
 * when the first has ended. A complete cache is opened for reading alone; who finds damage there becomes the
 * writer if nobody else is. The bytes that are written are always the same, and whoever reads a blob half-way
 * sees the checksum fail.
 *
 * Over several directories, which are best on disks of their own, blobs.bin is striped: its 1 MiB units go to
 * the directories in turn, so that the reads of every blob keep all disks busy. Each has its manifest.json
 * (with its number), its blobs.bin and its locks; the journal is in the first. How many directories there
 * are, and in which order, is part of what the cache is. A part that is not there, or not the one it should
 * be, is an error; bytes that a part has lost are found by the checksums.
 */
#ifndef QS_IO_LAYER_CACHE_H
#define QS_IO_LAYER_CACHE_H

#include "io/aio.h"

typedef struct qs_cache qs_cache;

typedef struct qs_cache_key {
    const char *model;       /* for messages: the model directory's name */
    const char *path;        /* the model directory, for `cache list` and `cache verify`; may be NULL */
    const char *fingerprint; /* of the source (qs_source_fingerprint) */
    uint64_t dates; /* of the source's files (qs_source_dates): others than the cache was made from are only
                       worth a sentence; 0: not asked */
    const char
        *format; /* everything else that decides the bytes: "nf4 block 64 double-quant bf16 ... layout 1" */
    int blobs;
    const uint64_t *blob_bytes; /* [blobs], each a multiple of 4096 */
} qs_cache_key;

/* Opens or creates the cache in `dirs` (created with their parents). A manifest of another model, format,
 * newer version or order of directories is QS_EFORMAT naming both and saying to delete the directory or
 * choose another --cache; nothing there is touched. A cache of an older version is made again, a damaged
 * manifest or journal mended, each with a warning. A directory named twice is QS_EINVAL. Checks free space
 * for what is missing (QS_EIO). One that is being removed is refused (QS_EIO). */
int qs_cache_open(const char *const *dirs, int count, const qs_cache_key *key, qs_cache **out, qs_err *e);
void qs_cache_close(qs_cache *c);

bool qs_cache_has(const qs_cache *c, int blob);
/* Blobs present. */
int qs_cache_present(const qs_cache *c);

/* Prepare op for the whole blob (not started). Buffer 4096-aligned, blob_bytes long. */
void qs_cache_read_op(const qs_cache *c, int blob, void *buffer, qs_aio_op *op);
void qs_cache_write_op(const qs_cache *c, int blob, const void *buffer, qs_aio_op *op);

/* After a read: does the data match its record? A mismatch forgets the record and returns false. */
bool qs_cache_verify(qs_cache *c, int blob, const void *data);
/* What verify does on a mismatch, for a blob that could not be read; `why` completes "layer 3 ...". */
void qs_cache_forget(qs_cache *c, int blob, const char *why);

/* Whether this process is to write the blob that it has made: it fills the cache, or may from now on, and
 * nobody has written the blob meanwhile. */
bool qs_cache_may_write(qs_cache *c, int blob);
/* After a write has finished: appends the record for `data`, which must be what was written. `source`:
 * XXH3-64 of the bytes it was made from, 0 when unknown. */
int qs_cache_commit(qs_cache *c, int blob, const void *data, uint64_t source, qs_err *e);
/* XXH3-64 of the source's bytes that a present blob was made from; 0 when unknown. */
uint64_t qs_cache_source(const qs_cache *c, int blob);
/* Takes note of blobs that another process has finished. Costs a system call while this one waits for some,
 * nothing otherwise. */
void qs_cache_refresh(qs_cache *c);

/* While verify and commit hash a blob (a second per 10 GB or so), `between` is called every few MiB, so that
 * the owner can keep the disk busy; it must not call back into the cache. NULL: nothing is called. */
void qs_cache_while_hashing(qs_cache *c, void (*between)(void *context), void *context);

/* Makes everything durable (fdatasync of its files); when all blobs are present, ends being the one that
 * fills. */
int qs_cache_sync(qs_cache *c, qs_err *e);
/* Whether all blobs are present and some of what this process wrote is not durable. */
bool qs_cache_needs_sync(const qs_cache *c);

#endif
