#include "io/cache_journal.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "io/file.h"
#include "src/base/memory.h"

enum { RECORD_BYTES = 40, SUMMED_BYTES = 32 };
#define BLANK UINT64_MAX /* in place of a blob: the record says nothing */

int qs_journal_open(qs_journal *j, const char *dir, uint64_t seed, bool writes, qs_err *e)
{
    if (!j->path) *j = (qs_journal){.fd = -1, .path = qs_path_join(dir, QS_CACHE_JOURNAL_NAME), .seed = seed};
    int fd = open(j->path, writes ? O_RDWR | O_CREAT | O_CLOEXEC : O_RDONLY | O_CLOEXEC, 0666);
    if (fd < 0)
        QS_FAIL(e, errno == ENOENT ? QS_EMISSING : QS_EIO, "%s: cannot be opened: %s", j->path,
                strerror(errno));
    if (j->fd >= 0) close(j->fd);
    j->fd = fd;
    return 0;
}

void qs_journal_close(qs_journal *j)
{
    if (j->path && j->fd >= 0) close(j->fd);
    qs_free(j->path);
    *j = (qs_journal){.fd = -1};
}

static void encode(const qs_journal *j, const qs_cache_record *r, uint8_t out[RECORD_BYTES])
{
    const uint64_t v[4] = {r->blob, r->bytes, r->hash, r->source};
    for (int i = 0; i < SUMMED_BYTES; i++) out[i] = (uint8_t)(v[i / 8] >> 8 * (i % 8));
    uint64_t sum = XXH3_64bits_withSeed(out, SUMMED_BYTES, j->seed);
    for (int i = 0; i < 8; i++) out[SUMMED_BYTES + i] = (uint8_t)(sum >> 8 * i);
}

/* False when the bytes are not a whole record of this cache. */
static bool decode(const qs_journal *j, const uint8_t in[RECORD_BYTES], qs_cache_record *r)
{
    uint64_t v[4] = {0};
    for (int i = SUMMED_BYTES - 1; i >= 0; i--) v[i / 8] = v[i / 8] << 8 | in[i];
    *r = (qs_cache_record){v[0], v[1], v[2], v[3]};
    uint8_t again[RECORD_BYTES];
    encode(j, r, again);
    return !memcmp(in, again, RECORD_BYTES);
}

int qs_journal_read_on(qs_journal *j, void (*take)(void *context, const qs_cache_record *r), void *context,
                       qs_err *e)
{
    uint8_t block[128 * RECORD_BYTES];
    ssize_t n;
    while ((n = pread(j->fd, block, sizeof block, (off_t)j->at)) >= RECORD_BYTES) {
        for (ssize_t i = 0; i + RECORD_BYTES <= n; i += RECORD_BYTES, j->at += RECORD_BYTES) {
            qs_cache_record r;
            bool whole = decode(j, block + i, &r);
            j->damaged += !whole;
            if (whole && r.blob != BLANK) take(context, &r);
        }
    }
    if (n < 0) QS_FAIL(e, QS_EIO, "%s: cannot be read: %s", j->path, strerror(errno));
    return 0;
}

/* Overwrites each record that does not decode. */
static bool blank_damaged(const qs_journal *j)
{
    const qs_cache_record blank = {.blob = BLANK};
    uint8_t bytes[RECORD_BYTES];
    for (uint64_t at = 0; at < j->at; at += RECORD_BYTES) {
        qs_cache_record r;
        if (pread(j->fd, bytes, RECORD_BYTES, (off_t)at) != RECORD_BYTES) return false;
        if (decode(j, bytes, &r)) continue;
        encode(j, &blank, bytes);
        if (pwrite(j->fd, bytes, RECORD_BYTES, (off_t)at) != RECORD_BYTES) return false;
    }
    return true;
}

int qs_journal_repair(qs_journal *j, qs_err *e)
{
    struct stat st;
    bool done = !fstat(j->fd, &st) && ((uint64_t)st.st_size == j->at || !ftruncate(j->fd, (off_t)j->at));
    if (done && j->damaged) done = blank_damaged(j);
    if (!done) QS_FAIL(e, QS_EIO, "%s: cannot be mended: %s", j->path, strerror(errno));
    j->damaged = 0;
    return 0;
}

int qs_journal_append(qs_journal *j, const qs_cache_record *r, qs_err *e)
{
    uint8_t bytes[RECORD_BYTES];
    encode(j, r, bytes);
    ssize_t n = lseek(j->fd, (off_t)j->at, SEEK_SET) < 0 ? -1 : write(j->fd, bytes, RECORD_BYTES);
    if (n != RECORD_BYTES) {
        int error = n < 0 ? errno : ENOSPC;
        if (n > 0 && ftruncate(j->fd, (off_t)j->at)) error = errno;
        QS_FAIL(e, QS_EIO, "%s: cannot be written: %s", j->path, strerror(error));
    }
    j->at += RECORD_BYTES;
    return 0;
}
