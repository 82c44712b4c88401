#include "io/layer_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "io/cache_manifest.h"
#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"

#define SEED 1
#define RECORD_BYTES 32
#define HASH_PIECE_BYTES ((uint64_t)4 << 20)

struct qs_cache {
    char **dirs; /* [parts] */
    int parts;
    int blobs, present;
    uint64_t *bytes, *offset; /* [blobs] of each blob in the file */
    uint64_t *hash;           /* [blobs] XXH3-64 of those that are present */
    bool *has;                /* [blobs] */
    uint64_t total_bytes;
    uint64_t seed; /* of the record checksums: records of another cache do not count here */
    qs_aio_file *part;  /* [parts] the blobs.bin of each directory */
    qs_aio_file file;   /* all of them as one */
    int *lock, journal; /* [parts]; descriptors, or -1 */
    XXH3_state_t *hash_state;
    void (*between)(void *context);
    void *between_context;
};

/* ---- lock ---- */

static int open_beside(const char *dir, const char *name, int flags, int *fd, qs_err *e)
{
    char *path = qs_path_join(dir, name);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0666);
    int rc = 0;
    if (*fd < 0) rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be opened: %s", path, strerror(errno));
    qs_free(path);
    return rc;
}

/* One process fills a cache; once it is complete, any number may read it. *alone: no other process has any of it open. */
static int take_locks(qs_cache *c, bool *alone, qs_err *e)
{
    *alone = true;
    for (int i = 0; i < c->parts; i++) {
        QS_TRY(open_beside(c->dirs[i], "lock", 0, &c->lock[i], e));
        bool first = !flock(c->lock[i], LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK; /* a file system without locks: nobody else is known */
        if (!first && flock(c->lock[i], LOCK_SH | LOCK_NB))
            QS_FAIL(e, QS_EIO, "%s: another process is filling this cache; wait for it or choose another directory with --cache", c->dirs[i]);
        *alone &= first;
    }
    return 0;
}

/* Lets other processes read what is complete. */
static void share(qs_cache *c)
{
    for (int i = 0; i < c->parts && c->present == c->blobs; i++) flock(c->lock[i], LOCK_SH);
}

/* ---- journal ---- */

typedef struct record { uint64_t blob, bytes, hash; } record; /* bytes 0: the blob is forgotten */

static void encode(const qs_cache *c, const record *r, uint8_t out[RECORD_BYTES])
{
    const uint64_t v[3] = {r->blob, r->bytes, r->hash};
    for (int i = 0; i < 24; i++) out[i] = (uint8_t)(v[i / 8] >> 8 * (i % 8));
    uint64_t sum = XXH3_64bits_withSeed(out, 24, c->seed);
    for (int i = 0; i < 8; i++) out[24 + i] = (uint8_t)(sum >> 8 * i);
}

/* False when the bytes are not a whole record of this cache. */
static bool decode(const qs_cache *c, const uint8_t in[RECORD_BYTES], record *r)
{
    uint64_t v[3] = {0};
    for (int i = 23; i >= 0; i--) v[i / 8] = v[i / 8] << 8 | in[i];
    *r = (record){v[0], v[1], v[2]};
    uint8_t again[RECORD_BYTES];
    encode(c, r, again);
    return !memcmp(in, again, RECORD_BYTES) && r->blob < (uint64_t)c->blobs && (!r->bytes || r->bytes == c->bytes[r->blob]);
}

static void apply(qs_cache *c, const record *r)
{
    c->present += (r->bytes != 0) - c->has[r->blob];
    c->has[r->blob] = r->bytes != 0;
    c->hash[r->blob] = r->hash;
}

/* Appends one record with a single write, which a kill does not divide. What a full disk took of it is cut off again. */
static int append(qs_cache *c, const record *r, qs_err *e)
{
    uint8_t bytes[RECORD_BYTES];
    encode(c, r, bytes);
    off_t end = lseek(c->journal, 0, SEEK_END);
    ssize_t n = write(c->journal, bytes, RECORD_BYTES);
    if (n != RECORD_BYTES) {
        int error = n < 0 ? errno : ENOSPC;
        if (n > 0 && ftruncate(c->journal, end)) error = errno;
        QS_FAIL(e, QS_EIO, "%s/journal.bin: cannot be written: %s", c->dirs[0], strerror(error));
    }
    apply(c, r);
    return 0;
}

/* Applies every whole record. Torn ones (a power cut) are passed over, a torn tail is cut off so that the next record does not lie askew. */
static int load_journal(qs_cache *c, bool alone, qs_err *e)
{
    QS_TRY(open_beside(c->dirs[0], "journal.bin", O_APPEND, &c->journal, e));
    uint8_t block[128 * RECORD_BYTES];
    off_t at = 0;
    ssize_t n;
    while ((n = pread(c->journal, block, sizeof block, at)) >= RECORD_BYTES) {
        for (ssize_t i = 0; i + RECORD_BYTES <= n; i += RECORD_BYTES) {
            record r;
            if (decode(c, block + i, &r)) apply(c, &r);
        }
        at += n / RECORD_BYTES * RECORD_BYTES;
    }
    if (n < 0 || (n > 0 && alone && ftruncate(c->journal, at)))
        QS_FAIL(e, QS_EIO, "%s/journal.bin: cannot be read: %s", c->dirs[0], strerror(errno));
    return 0;
}

/* ---- blobs ---- */

/* Opens one directory's part of the file and gives it its size. *before: the size it had. */
static int open_part(qs_cache *c, int i, off_t *before, qs_err *e)
{
    const char *dir = c->dirs[i];
    char *path = qs_path_join(dir, "blobs.bin");
    int rc = qs_aio_file_open(&c->part[i], path, QS_FILE_CREATE, e);
    qs_free(path);
    QS_TRY(rc);
    qs_aio_file *file = &c->part[i];
    struct stat st;
    uint64_t missing_bytes, free_bytes, bytes = qs_aio_stripe_bytes(c->total_bytes, i, c->parts, QS_CACHE_STRIPE_BYTES);
    if (fstat(file->fd, &st)) QS_FAIL(e, QS_EIO, "%s: cannot be examined: %s", file->path, strerror(errno));
    *before = st.st_size;
    if ((uint64_t)st.st_size >= bytes) return 0;

    missing_bytes = bytes - (uint64_t)st.st_size;
    QS_TRY(qs_dir_free_bytes(dir, &free_bytes, e));
    int error = free_bytes < missing_bytes ? ENOSPC : 0;
    if (!error && fallocate(file->fd, 0, 0, (off_t)bytes)) error = errno;
    if (error == EOPNOTSUPP && !ftruncate(file->fd, (off_t)bytes)) error = 0;
    if (error && ftruncate(file->fd, st.st_size)) error = errno; /* gives back what was had of it */
    if (error == ENOSPC)
        QS_FAIL(e, QS_EIO, "%s: the cache needs %.2f GB more, but its file system has %.2f GB free; free some space or choose another "
                "directory with --cache", dir, (double)missing_bytes * 1e-9, (double)free_bytes * 1e-9);
    if (error) QS_FAIL(e, QS_EIO, "%s: cannot be given its size of %llu bytes: %s", file->path, (unsigned long long)bytes, strerror(error));
    file->bytes = bytes;
    return 0;
}

/* All parts, or none of them keeps space that it did not have before. */
static int open_blobs(qs_cache *c, qs_err *e)
{
    off_t *before = qs_calloc((size_t)c->parts, sizeof *before);
    int rc = 0, opened = 0;
    while (!rc && opened < c->parts) {
        rc = open_part(c, opened, &before[opened], e);
        opened += !rc;
    }
    while (rc && opened-- > 0)
        if (c->part[opened].bytes > (uint64_t)before[opened] && ftruncate(c->part[opened].fd, before[opened]))
            qs_warn("%s: keeps the space that was set aside for the cache: %s", c->part[opened].path, strerror(errno));
    qs_free(before);
    if (!rc) qs_aio_file_stripe(&c->file, c->part, c->parts, QS_CACHE_STRIPE_BYTES);
    return rc;
}

/* ---- the whole ---- */

/* No directory twice, whatever it is called. */
static int check_distinct(const qs_cache *c, qs_err *e)
{
    struct stat a, b;
    for (int i = 0; i < c->parts; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(c->dirs[i], c->dirs[k]) ||
                (!stat(c->dirs[i], &a) && !stat(c->dirs[k], &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino))
                QS_FAIL(e, QS_EINVAL, "--cache names the same directory twice, as %s and %s; name each disk's directory once", c->dirs[k], c->dirs[i]);
    return 0;
}

static int open_in(qs_cache *c, const qs_cache_key *key, qs_err *e)
{
    bool complete, alone = false;
    QS_TRY(check_distinct(c, e));
    QS_TRY(qs_cache_manifests_check(c->dirs, c->parts, key, &complete, e)); /* before anything is touched */
    for (int i = 0; i < c->parts; i++) QS_TRY(qs_dir_create(c->dirs[i], e));
    QS_TRY(check_distinct(c, e)); /* names that led nowhere until now */
    QS_TRY(take_locks(c, &alone, e));
    bool made = !complete;
    if (made) QS_TRY(qs_cache_manifests_check(c->dirs, c->parts, key, &complete, e)); /* whoever had the lock may have written them */
    if (!complete) QS_TRY(qs_cache_manifests_write(c->dirs, c->parts, key, e));
    QS_TRY(open_blobs(c, e));
    QS_TRY(load_journal(c, alone, e));
    for (int i = 0; made && i < c->parts; i++) QS_TRY(qs_dir_sync(c->dirs[i], e));
    share(c);
    return 0;
}

/* Of the record checksums. Another arrangement of the same blobs is another cache. */
static uint64_t seed_of(const qs_cache_key *key, int parts)
{
    uint64_t seed = XXH3_64bits(key->fingerprint, strlen(key->fingerprint)) ^ XXH3_64bits_withSeed(key->format, strlen(key->format), SEED);
    const uint64_t stripes[2] = {(uint64_t)parts, QS_CACHE_STRIPE_BYTES};
    return parts > 1 ? XXH3_64bits_withSeed(stripes, sizeof stripes, seed) : seed;
}

int qs_cache_open(const char *const *dirs, int count, const qs_cache_key *key, qs_cache **out, qs_err *e)
{
    size_t n = (size_t)key->blobs;
    QS_ASSERT(count > 0);
    qs_cache *c = qs_calloc(1, sizeof *c);
    *c = (qs_cache){.parts = count, .blobs = key->blobs, .journal = -1};
    c->hash_state = XXH3_createState();
    QS_ASSERT(c->hash_state);
    c->dirs = qs_calloc((size_t)count, sizeof *c->dirs);
    c->part = qs_calloc((size_t)count, sizeof *c->part);
    c->lock = qs_calloc((size_t)count, sizeof *c->lock);
    for (int i = 0; i < count; i++) {
        c->dirs[i] = qs_strdup(dirs[i]);
        c->lock[i] = -1;
    }
    c->bytes = qs_calloc(n, sizeof *c->bytes);
    c->offset = qs_calloc(n, sizeof *c->offset);
    c->hash = qs_calloc(n, sizeof *c->hash);
    c->has = qs_calloc(n, sizeof *c->has);
    for (int i = 0; i < key->blobs; i++) {
        QS_ASSERT(key->blob_bytes[i] && key->blob_bytes[i] % 4096 == 0);
        c->bytes[i] = key->blob_bytes[i];
        c->offset[i] = c->total_bytes;
        c->total_bytes += key->blob_bytes[i];
    }
    c->seed = seed_of(key, count);
    int rc = open_in(c, key, e);
    if (rc) {
        qs_cache_close(c);
        c = NULL;
    }
    *out = c;
    return rc;
}

void qs_cache_close(qs_cache *c)
{
    if (!c) return;
    if (c->journal >= 0) close(c->journal);
    for (int i = 0; i < c->parts; i++) {
        qs_aio_file_close(&c->part[i]);
        if (c->lock[i] >= 0) close(c->lock[i]); /* and with it the lock */
        qs_free(c->dirs[i]);
    }
    XXH3_freeState(c->hash_state);
    qs_free(c->has);
    qs_free(c->hash);
    qs_free(c->offset);
    qs_free(c->bytes);
    qs_free(c->lock);
    qs_free(c->part);
    qs_free(c->dirs);
    qs_free(c);
}

bool qs_cache_has(const qs_cache *c, int blob)
{
    QS_ASSERT(blob >= 0 && blob < c->blobs);
    return c->has[blob];
}

int qs_cache_present(const qs_cache *c) { return c->present; }

void qs_cache_read_op(const qs_cache *c, int blob, void *buffer, qs_aio_op *op)
{
    QS_ASSERT(blob >= 0 && blob < c->blobs);
    *op = (qs_aio_op){.file = &c->file, .buffer = buffer, .bytes = c->bytes[blob], .offset = c->offset[blob]};
}

void qs_cache_write_op(const qs_cache *c, int blob, const void *buffer, qs_aio_op *op)
{
    qs_cache_read_op(c, blob, (void *)buffer, op); /* a write only reads it */
    op->write = true;
}

void qs_cache_while_hashing(qs_cache *c, void (*between)(void *context), void *context)
{
    c->between = between;
    c->between_context = context;
}

/* XXH3-64 of a blob, a few MiB at a time. */
static uint64_t hash_blob(const qs_cache *c, const void *data, uint64_t bytes)
{
    XXH3_64bits_reset(c->hash_state);
    for (uint64_t at = 0; at < bytes; at += HASH_PIECE_BYTES) {
        XXH3_64bits_update(c->hash_state, (const char *)data + at, bytes - at < HASH_PIECE_BYTES ? bytes - at : HASH_PIECE_BYTES);
        if (c->between) c->between(c->between_context);
    }
    return XXH3_64bits_digest(c->hash_state);
}

bool qs_cache_verify(qs_cache *c, int blob, const void *data)
{
    if (!qs_cache_has(c, blob)) return false;
    if (hash_blob(c, data, c->bytes[blob]) == c->hash[blob]) return true;
    qs_warn("%s: layer %d does not match its checksum and is made again", c->file.path, blob);
    const record forget = {.blob = (uint64_t)blob};
    qs_err e;
    if (append(c, &forget, &e)) { /* the next run then finds the same damage; this one only needs its memory */
        qs_warn("%s", e.text);
        apply(c, &forget);
    }
    return false;
}

int qs_cache_commit(qs_cache *c, int blob, const void *data, qs_err *e)
{
    QS_ASSERT(blob >= 0 && blob < c->blobs);
    return append(c, &(record){(uint64_t)blob, c->bytes[blob], hash_blob(c, data, c->bytes[blob])}, e);
}

int qs_cache_sync(qs_cache *c, qs_err *e)
{
    for (int i = 0; i < c->parts; i++)
        if (fdatasync(c->part[i].fd)) QS_FAIL(e, QS_EIO, "%s: cannot be synced to disk: %s", c->part[i].path, strerror(errno));
    if (fdatasync(c->journal)) QS_FAIL(e, QS_EIO, "%s/journal.bin: cannot be synced to disk: %s", c->dirs[0], strerror(errno));
    share(c);
    return 0;
}
