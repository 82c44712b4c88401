#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/cache_manifest.h"
#include "io/cache_parts.h"
#include "io/file.h"
#include "io/file_lock.h"
#include "src/base/log.h"
#include "src/base/hash.h"
#include "src/base/memory.h"

#define SEED 1
enum {
    PATIENCE_US = 20000,
    PATIENCE = 1500
}; /* for another process that is creating the cache: half a minute */

/* ---- locks ------------------------------------------------------------------------------------------- */

static int lock_one(const char *dir, const char *name, bool alone, int *fd, qs_err *e)
{
    char *path = qs_path_join(dir, name);
    int rc = qs_lock_try(path, alone, fd, e);
    qs_free(path);
    return rc;
}

/* Marks the cache as in use, now. */
static int take_locks(qs_cache *c, qs_err *e)
{
    for (int i = 0; i < c->parts; i++) {
        if (c->lock[i] >= 0) continue;
        int held = lock_one(c->dirs[i], "lock", false, &c->lock[i], e);
        if (held > 0)
            QS_FAIL(e, QS_EIO,
                    "%s: another process is removing this cache, or an older version of this program is "
                    "filling it; wait for it or choose another "
                    "directory with --cache",
                    c->dirs[i]);
        QS_TRY(held);
        if (c->lock[i] >= 0) futimens(c->lock[i], NULL); /* on a read-only file system there is no last use */
    }
    return 0;
}

void qs_cache_end_filling(qs_cache *c)
{
    for (int i = 0; i < c->parts; i++) qs_lock_release(&c->fill[i]);
    c->fills = false;
}

int qs_cache_begin_filling(qs_cache *c, qs_err *e)
{
    int rc = 0;
    for (int i = 0; i < c->parts && !rc; i++) rc = lock_one(c->dirs[i], "fill", true, &c->fill[i], e);
    c->fills = !rc;
    if (rc) qs_cache_end_filling(c);
    return rc;
}

/* ---- journal ----------------------------------------------------------------------------------------- */

void qs_cache_apply(void *cache, const qs_cache_record *r)
{
    qs_cache *c = cache;
    if (r->blob >= (uint64_t)c->blobs || (r->bytes && r->bytes != c->bytes[r->blob])) return;
    c->present += (r->bytes != 0) - c->has[r->blob];
    c->has[r->blob] = r->bytes != 0;
    c->hash[r->blob] = r->hash;
    c->source[r->blob] = r->source;
}

/* Reads on as the one who writes, and mends what is damaged. */
int qs_cache_load_journal(qs_cache *c, bool expected, qs_err *e)
{
    int before = c->present;
    QS_TRY(qs_journal_open(&c->journal, c->dirs[0], c->seed, true, e));
    QS_TRY(qs_journal_read_on(&c->journal, qs_cache_apply, c, e));
    if (c->journal.damaged)
        qs_warn("%s: %d of its records are damaged; layers that have no other are made again",
                c->journal.path, c->journal.damaged);
    else if (expected && !c->journal.at && !before)
        qs_warn("%s: no layer of the cache is recorded as whole; all are made", c->journal.path);
    return qs_journal_repair(&c->journal, e);
}

/* ---- blobs ------------------------------------------------------------------------------------------- */

static uint64_t part_bytes(const qs_cache *c, int i)
{
    return qs_aio_stripe_bytes(c->total_bytes, i, c->parts, QS_CACHE_STRIPE_BYTES);
}

static void close_parts(qs_cache *c, int first)
{
    for (int i = first; i < first + c->parts; i++) qs_aio_file_close(&c->part[i]);
}

/* Opens what is there for reading. False when a part is missing or short. */
static bool open_for_reading(qs_cache *c)
{
    qs_err why;
    bool whole = true;
    for (int i = 0; i < c->parts && whole; i++) {
        char *path = qs_path_join(c->dirs[i], "blobs.bin");
        whole =
            !qs_aio_file_open(&c->part[i], path, QS_FILE_READ, &why) && c->part[i].bytes >= part_bytes(c, i);
        qs_free(path);
    }
    if (whole)
        qs_aio_file_stripe(&c->file, c->part, c->parts, QS_CACHE_STRIPE_BYTES);
    else
        close_parts(c, 0);
    return whole;
}

/* Opens one directory's part of the file for writing and gives it its size. *before: the size it had. */
static int open_part(qs_cache *c, int i, off_t *before, qs_err *e)
{
    const char *dir = c->dirs[i];
    char *path = qs_path_join(dir, "blobs.bin");
    qs_aio_file *file = &c->part[c->parts + i];
    int rc = qs_aio_file_open(file, path, QS_FILE_CREATE, e);
    qs_free(path);
    QS_TRY(rc);
    struct stat st;
    uint64_t missing_bytes, free_bytes, bytes = part_bytes(c, i);
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
        QS_FAIL(e, QS_EIO,
                "%s: the cache needs %.2f GB more, but its file system has %.2f GB free; free some space or "
                "choose another "
                "directory with --cache",
                dir, (double)missing_bytes * 1e-9, (double)free_bytes * 1e-9);
    if (error)
        QS_FAIL(e, QS_EIO, "%s: cannot be given its size of %llu bytes: %s", file->path,
                (unsigned long long)bytes, strerror(error));
    file->bytes = bytes;
    return 0;
}

/* Opens all parts for writing, or none of them keeps space that it did not have before. */
int qs_cache_open_for_writing(qs_cache *c, qs_err *e)
{
    off_t *before = qs_calloc((size_t)c->parts, sizeof *before);
    qs_aio_file *parts = c->part + c->parts;
    int rc = 0, opened = 0;
    while (!rc && opened < c->parts) {
        rc = open_part(c, opened, &before[opened], e);
        opened += !rc;
    }
    while (rc && opened-- > 0)
        if (parts[opened].bytes > (uint64_t)before[opened] && ftruncate(parts[opened].fd, before[opened]))
            qs_warn("%s: keeps the space that was set aside for the cache: %s", parts[opened].path,
                    strerror(errno));
    qs_free(before);
    if (rc)
        close_parts(c, c->parts);
    else
        qs_aio_file_stripe(&c->writable, parts, c->parts, QS_CACHE_STRIPE_BYTES);
    return rc;
}

/* ---- opening ----------------------------------------------------------------------------------------- */

/* No directory twice, whatever it is called. */
static int check_distinct(const qs_cache *c, qs_err *e)
{
    struct stat a, b;
    for (int i = 0; i < c->parts; i++)
        for (int k = 0; k < i; k++)
            if (!strcmp(c->dirs[i], c->dirs[k]) || (!stat(c->dirs[i], &a) && !stat(c->dirs[k], &b) &&
                                                    a.st_dev == b.st_dev && a.st_ino == b.st_ino))
                QS_FAIL(
                    e, QS_EINVAL,
                    "--cache names the same directory twice, as %s and %s; name each disk's directory once",
                    c->dirs[k], c->dirs[i]);
    return 0;
}

static void count_record(void *count, const qs_cache_record *r) { *(int *)count += 1; }

/* Whether the journal that is there, if any, has records of this very cache. */
static bool is_known(const qs_cache *c)
{
    qs_journal j = {.fd = -1};
    qs_err why;
    int blobs = 0;
    bool known = !qs_journal_open(&j, c->dirs[0], c->seed, false, &why) &&
                 !qs_journal_read_on(&j, count_record, &blobs, &why) && blobs > 0;
    qs_journal_close(&j);
    return known;
}

static int check_manifests(qs_cache *c, const qs_cache_key *key, qs_cache_manifests *m, qs_err *e)
{
    return qs_cache_manifests_check(c->dirs, c->parts, key, is_known(c), m, e);
}

/* Opens what another process has made so far, for reading. False when there is too little to open yet, or
 * with `complete` when a blob is missing. */
static bool open_made(qs_cache *c, bool complete)
{
    qs_err why;
    bool open = !qs_journal_open(&c->journal, c->dirs[0], c->seed, false, &why) &&
                !qs_journal_read_on(&c->journal, qs_cache_apply, c, &why) &&
                (!complete || c->present == c->blobs) && open_for_reading(c);
    if (open) return true;
    qs_journal_close(&c->journal);
    memset(c->has, 0, (size_t)c->blobs * sizeof *c->has);
    c->present = 0;
    return false;
}

/* As the one who fills: writes or mends manifests, files and journal. */
static int make_ready(qs_cache *c, const qs_cache_key *key, qs_err *e)
{
    qs_cache_manifests m;
    QS_TRY(check_manifests(c, key, &m, e)); /* whoever filled before may have written them */
    if (m.damaged) qs_warn("%s: the cache's manifest is damaged or missing and is written again", c->dirs[0]);
    if (m.old) {
        qs_warn("%s: holds a cache of an older version, which knew a model by the dates of its files alone; "
                "it is made again",
                c->dirs[0]);
        QS_TRY(qs_journal_open(&c->journal, c->dirs[0], c->seed, true, e));
        if (ftruncate(c->journal.fd, 0))
            QS_FAIL(e, QS_EIO, "%s: cannot be emptied: %s", c->journal.path, strerror(errno));
    }
    if (m.good < c->parts) QS_TRY(qs_cache_manifests_write(c->dirs, c->parts, key, false, e));
    QS_TRY(qs_cache_open_for_writing(c, e));
    if (!c->file.path && !open_for_reading(c))
        QS_FAIL(e, QS_EIO, "%s/blobs.bin: cannot be opened for reading", c->dirs[0]);
    QS_TRY(qs_cache_load_journal(c, m.good + m.damaged > 0, e));
    for (int i = 0; m.good < c->parts && i < c->parts; i++) QS_TRY(qs_dir_sync(c->dirs[i], e));
    return 0;
}

/* Fills the cache, or joins the process that does. */
static int fill_or_join(qs_cache *c, const qs_cache_key *key, qs_err *e)
{
    for (int i = 0; i < PATIENCE; i++) {
        int held = qs_cache_begin_filling(c, e);
        if (!held) return make_ready(c, key, e);
        QS_TRY(held < 0 ? held : 0);
        qs_cache_manifests m;
        QS_TRY(check_manifests(c, key, &m, e));
        if (m.good == c->parts && open_made(c, false)) {
            qs_info("another process is filling the cache %s: its layers are used as they come", c->dirs[0]);
            return 0;
        }
        usleep(PATIENCE_US);
    }
    QS_FAIL(e, QS_EIO,
            "%s: another process is creating this cache and does not get on; end it or choose another "
            "directory with --cache",
            c->dirs[0]);
}

static int open_in(qs_cache *c, const qs_cache_key *key, qs_err *e)
{
    qs_cache_manifests m;
    QS_TRY(check_distinct(c, e));
    QS_TRY(check_manifests(c, key, &m, e)); /* before anything is touched */
    if (m.dated)
        qs_info("%s was made from files of other dates or places; their sampled content is the same, and "
                "`qlora-stream cache verify` compares all of it",
                c->dirs[0]);
    if (m.good == c->parts) {
        QS_TRY(take_locks(c, e));
        if (open_made(c, true)) return 0;
    }
    for (int i = 0; i < c->parts; i++) QS_TRY(qs_dir_create(c->dirs[i], e));
    QS_TRY(check_distinct(c, e)); /* names that led nowhere until now */
    QS_TRY(take_locks(c, e));
    return fill_or_join(c, key, e);
}

uint64_t qs_cache_seed(const char *fingerprint, const char *format, int parts)
{
    uint64_t seed =
        XXH3_64bits(fingerprint, strlen(fingerprint)) ^ XXH3_64bits_withSeed(format, strlen(format), SEED);
    const uint64_t stripes[2] = {(uint64_t)parts, QS_CACHE_STRIPE_BYTES};
    return parts > 1 ? XXH3_64bits_withSeed(stripes, sizeof stripes, seed) : seed;
}

int qs_cache_open(const char *const *dirs, int count, const qs_cache_key *key, qs_cache **out, qs_err *e)
{
    size_t n = (size_t)key->blobs;
    QS_ASSERT(count > 0);
    qs_cache *c = qs_calloc(1, sizeof *c);
    *c = (qs_cache){.parts = count, .blobs = key->blobs, .journal = {.fd = -1}};
    c->hash_state = qs_hash_create();
    c->dirs = qs_calloc((size_t)count, sizeof *c->dirs);
    c->part = qs_calloc(2 * (size_t)count, sizeof *c->part);
    c->lock = qs_calloc(2 * (size_t)count, sizeof *c->lock);
    c->fill = c->lock + count;
    for (int i = 0; i < count; i++) {
        c->dirs[i] = qs_strdup(dirs[i]);
        c->lock[i] = c->fill[i] = -1;
    }
    c->bytes = qs_calloc(n, sizeof *c->bytes);
    c->offset = qs_calloc(n, sizeof *c->offset);
    c->hash = qs_calloc(n, sizeof *c->hash);
    c->source = qs_calloc(n, sizeof *c->source);
    c->has = qs_calloc(n, sizeof *c->has);
    for (int i = 0; i < key->blobs; i++) {
        QS_ASSERT(key->blob_bytes[i] && key->blob_bytes[i] % 4096 == 0);
        c->bytes[i] = key->blob_bytes[i];
        c->offset[i] = c->total_bytes;
        c->total_bytes += key->blob_bytes[i];
    }
    c->seed = qs_cache_seed(key->fingerprint, key->format, count);
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
    qs_journal_close(&c->journal);
    close_parts(c, 0);
    close_parts(c, c->parts);
    qs_cache_end_filling(c);
    for (int i = 0; i < c->parts; i++) {
        qs_lock_release(&c->lock[i]);
        qs_free(c->dirs[i]);
    }
    XXH3_freeState(c->hash_state);
    qs_free(c->has);
    qs_free(c->source);
    qs_free(c->hash);
    qs_free(c->offset);
    qs_free(c->bytes);
    qs_free(c->lock);
    qs_free(c->part);
    qs_free(c->dirs);
    qs_free(c);
}
