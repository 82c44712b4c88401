#include "io/layer_cache.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"

#define VERSION 1
#define MANIFEST_MAX_BYTES ((size_t)64 << 20)
#define RECORD_BYTES 32
#define HASH_PIECE_BYTES ((uint64_t)4 << 20)

struct qs_cache {
    char *dir;
    int blobs, present;
    uint64_t *bytes, *offset; /* [blobs] of each blob in blobs.bin */
    uint64_t *hash;           /* [blobs] XXH3-64 of those that are present */
    bool *has;                /* [blobs] */
    uint64_t total_bytes;
    uint64_t seed; /* of the record checksums: records of another cache do not count here */
    qs_aio_file file;
    int journal, lock; /* descriptors, or -1 */
    XXH3_state_t *hash_state;
    void (*between)(void *context);
    void *between_context;
};

/* ---- manifest ---- */

static json_t *manifest_json(const qs_cache_key *key)
{
    json_t *sizes = json_array();
    for (int i = 0; i < key->blobs; i++) json_array_append_new(sizes, json_integer((json_int_t)key->blob_bytes[i]));
    return json_pack("{s:i, s:s, s:s, s:s, s:o}", "version", VERSION, "model", key->model, "fingerprint", key->fingerprint, "format",
                     key->format, "blob_bytes", sizes);
}

/* The value of a text member, or "nothing". */
static const char *text_of(const json_t *manifest, const char *name)
{
    const char *s = json_string_value(json_object_get(manifest, name));
    return s ? s : "nothing";
}

/* Whether the manifest that is there describes what this run needs. */
static int compare(const char *dir, const json_t *there, const json_t *wanted, qs_err *e)
{
    static const char *const advice = "delete the directory or choose another one with --cache";
    json_int_t version = json_integer_value(json_object_get(there, "version"));
    if (version != VERSION)
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache of version %lld where this program makes version %d; %s", dir, (long long)version, VERSION,
                advice);
    if (!json_equal(json_object_get(there, "fingerprint"), json_object_get(wanted, "fingerprint")))
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache of other weights (%s, %s) than this run's (%s, %s); %s", dir, text_of(there, "model"),
                text_of(there, "fingerprint"), text_of(wanted, "model"), text_of(wanted, "fingerprint"), advice);
    if (!json_equal(json_object_get(there, "format"), json_object_get(wanted, "format")))
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache in the form \"%s\" where this run needs \"%s\"; %s", dir, text_of(there, "format"),
                text_of(wanted, "format"), advice);
    if (!json_equal(json_object_get(there, "blob_bytes"), json_object_get(wanted, "blob_bytes")))
        QS_FAIL(e, QS_EFORMAT, "%s: holds a cache whose layers have other sizes than this run's; %s", dir, advice);
    return 0;
}

/* Compares the manifest with what is wanted. *exists says whether there is one; without it there must be no cache files either. */
static int check_manifest(const char *dir, const json_t *wanted, bool *exists, qs_err *e)
{
    char *path = qs_path_join(dir, "manifest.json"), *text = NULL;
    size_t bytes;
    int rc = qs_file_read(path, MANIFEST_MAX_BYTES, &text, &bytes, e);
    *exists = !rc;
    if (rc == -QS_EMISSING) {
        char *blobs = qs_path_join(dir, "blobs.bin"), *journal = qs_path_join(dir, "journal.bin");
        rc = 0;
        if (qs_file_exists(blobs) || qs_file_exists(journal))
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                            "%s: is missing, but there are cache files beside it; delete them or choose another directory with --cache", path);
        qs_free(blobs);
        qs_free(journal);
    } else if (!rc) {
        json_error_t why;
        json_t *there = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
        rc = there ? compare(dir, there, wanted, e)
                   : qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s: is damaged (%s); delete the directory or choose another one with --cache",
                                path, why.text);
        json_decref(there);
    }
    qs_free(text);
    qs_free(path);
    return rc;
}

static int write_manifest(const char *dir, const json_t *wanted, qs_err *e)
{
    char *path = qs_path_join(dir, "manifest.json"), *text = json_dumps(wanted, JSON_INDENT(1));
    int rc = qs_file_replace(path, text, strlen(text), e);
    free(text); /* lint: allow free, jansson allocated it */
    qs_free(path);
    return rc;
}

/* ---- lock ---- */

static int open_beside(const qs_cache *c, const char *name, int flags, int *fd, qs_err *e)
{
    char *path = qs_path_join(c->dir, name);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | flags, 0666);
    int rc = 0;
    if (*fd < 0) rc = qs_err_set(e, QS_EIO, __FILE__, __LINE__, "%s: cannot be opened: %s", path, strerror(errno));
    qs_free(path);
    return rc;
}

/* One process fills a cache; once it is complete, any number may read it. *alone: no other process has it open. */
static int take_lock(qs_cache *c, bool *alone, qs_err *e)
{
    QS_TRY(open_beside(c, "lock", 0, &c->lock, e));
    *alone = !flock(c->lock, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK; /* a file system without locks: nobody else is known */
    if (!*alone && flock(c->lock, LOCK_SH | LOCK_NB))
        QS_FAIL(e, QS_EIO, "%s: another process is filling this cache; wait for it or choose another directory with --cache", c->dir);
    return 0;
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
        QS_FAIL(e, QS_EIO, "%s/journal.bin: cannot be written: %s", c->dir, strerror(error));
    }
    apply(c, r);
    return 0;
}

/* Applies every whole record. Torn ones (a power cut) are passed over, a torn tail is cut off so that the next record does not lie askew. */
static int load_journal(qs_cache *c, bool alone, qs_err *e)
{
    QS_TRY(open_beside(c, "journal.bin", O_APPEND, &c->journal, e));
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
        QS_FAIL(e, QS_EIO, "%s/journal.bin: cannot be read: %s", c->dir, strerror(errno));
    return 0;
}

/* ---- blobs ---- */

static int open_blobs(qs_cache *c, qs_err *e)
{
    char *path = qs_path_join(c->dir, "blobs.bin");
    int rc = qs_aio_file_open(&c->file, path, QS_FILE_CREATE, e);
    qs_free(path);
    QS_TRY(rc);
    struct stat st;
    uint64_t missing_bytes, free_bytes;
    if (fstat(c->file.fd, &st)) QS_FAIL(e, QS_EIO, "%s: cannot be examined: %s", c->file.path, strerror(errno));
    if ((uint64_t)st.st_size >= c->total_bytes) return 0;

    missing_bytes = c->total_bytes - (uint64_t)st.st_size;
    QS_TRY(qs_dir_free_bytes(c->dir, &free_bytes, e));
    int error = free_bytes < missing_bytes ? ENOSPC : 0;
    if (!error && fallocate(c->file.fd, 0, 0, (off_t)c->total_bytes)) error = errno;
    if (error == EOPNOTSUPP && !ftruncate(c->file.fd, (off_t)c->total_bytes)) error = 0;
    if (error && ftruncate(c->file.fd, st.st_size)) error = errno; /* gives back what was had of it */
    if (error == ENOSPC)
        QS_FAIL(e, QS_EIO, "%s: the cache needs %.2f GB more, but its file system has %.2f GB free; free some space or choose another "
                "directory with --cache", c->dir, (double)missing_bytes * 1e-9, (double)free_bytes * 1e-9);
    if (error) QS_FAIL(e, QS_EIO, "%s: cannot be given its size of %llu bytes: %s", c->file.path, (unsigned long long)c->total_bytes, strerror(error));
    c->file.bytes = c->total_bytes;
    return 0;
}

/* ---- the whole ---- */

static int open_in(qs_cache *c, const qs_cache_key *key, qs_err *e)
{
    json_t *wanted = manifest_json(key);
    if (!wanted) QS_FAIL(e, QS_EINVAL, "%s: the model's name is not UTF-8", c->dir);
    bool exists, alone = false;
    int rc = check_manifest(c->dir, wanted, &exists, e); /* before anything is touched */
    if (!rc) rc = qs_dir_create(c->dir, e);
    if (!rc) rc = take_lock(c, &alone, e);
    if (!rc && !exists) rc = check_manifest(c->dir, wanted, &exists, e); /* whoever had the lock may have written one */
    if (!rc && !exists) rc = write_manifest(c->dir, wanted, e);
    json_decref(wanted);
    if (!rc) rc = open_blobs(c, e);
    if (!rc) rc = load_journal(c, alone, e);
    if (!rc && !exists) rc = qs_dir_sync(c->dir, e);
    if (!rc && c->present == c->blobs) flock(c->lock, LOCK_SH);
    return rc;
}

int qs_cache_open(const char *dir, const qs_cache_key *key, qs_cache **out, qs_err *e)
{
    size_t n = (size_t)key->blobs;
    qs_cache *c = qs_calloc(1, sizeof *c);
    *c = (qs_cache){.dir = qs_strdup(dir), .blobs = key->blobs, .journal = -1, .lock = -1};
    c->hash_state = XXH3_createState();
    QS_ASSERT(c->hash_state);
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
    c->seed = XXH3_64bits(key->fingerprint, strlen(key->fingerprint)) ^ XXH3_64bits_withSeed(key->format, strlen(key->format), VERSION);
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
    qs_aio_file_close(&c->file);
    if (c->journal >= 0) close(c->journal);
    if (c->lock >= 0) close(c->lock); /* and with it the lock */
    XXH3_freeState(c->hash_state);
    qs_free(c->has);
    qs_free(c->hash);
    qs_free(c->offset);
    qs_free(c->bytes);
    qs_free(c->dir);
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
    if (fdatasync(c->file.fd)) QS_FAIL(e, QS_EIO, "%s: cannot be synced to disk: %s", c->file.path, strerror(errno));
    if (fdatasync(c->journal)) QS_FAIL(e, QS_EIO, "%s/journal.bin: cannot be synced to disk: %s", c->dir, strerror(errno));
    if (c->present == c->blobs) flock(c->lock, LOCK_SH); /* other runs may read it now */
    return 0;
}
