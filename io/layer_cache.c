#include "io/layer_cache.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "io/cache_parts.h"
#include "src/base/log.h"

#define HASH_PIECE_BYTES ((uint64_t)4 << 20)

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
    QS_ASSERT(c->fills);
    qs_cache_read_op(c, blob, (void *)buffer, op); /* a write only reads it */
    op->file = &c->writable;
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
        XXH3_64bits_update(c->hash_state, (const char *)data + at,
                           bytes - at < HASH_PIECE_BYTES ? bytes - at : HASH_PIECE_BYTES);
        if (c->between) c->between(c->between_context);
    }
    return XXH3_64bits_digest(c->hash_state);
}

void qs_cache_forget(qs_cache *c, int blob, const char *why)
{
    const qs_cache_record gone = {.blob = (uint64_t)blob};
    qs_err e;
    qs_warn("%s: layer %d %s and is made again", c->file.path, blob, why);
    if (qs_cache_may_write(c, blob) || c->fills) {
        c->unsynced = true;
        if (qs_journal_append(&c->journal, &gone, &e))
            qs_warn("%s",
                    e.text); /* the next run then finds the same damage; this one only needs its memory */
    }
    qs_cache_apply(c, &gone);
}

bool qs_cache_verify(qs_cache *c, int blob, const void *data)
{
    if (!qs_cache_has(c, blob)) return false;
    if (hash_blob(c, data, c->bytes[blob]) == c->hash[blob]) return true;
    qs_cache_forget(c, blob, "does not match its checksum");
    return false;
}

bool qs_cache_may_write(qs_cache *c, int blob)
{
    qs_err e = {0};
    if (!c->fills) {
        if (c->gave_up || qs_cache_begin_filling(c, &e))
            return false; /* another process does, or nobody may */
        int rc = c->writable.path ? 0 : qs_cache_open_for_writing(c, &e);
        if (!rc) rc = qs_cache_load_journal(c, false, &e);
        if (rc) {
            qs_warn("what the cache lacks is not kept: %s", e.text);
            qs_cache_end_filling(c);
            c->gave_up = true;
            return false;
        }
    }
    return !c->has[blob];
}

int qs_cache_commit(qs_cache *c, int blob, const void *data, uint64_t source, qs_err *e)
{
    QS_ASSERT(blob >= 0 && blob < c->blobs && c->fills);
    const qs_cache_record r = {(uint64_t)blob, c->bytes[blob], hash_blob(c, data, c->bytes[blob]), source};
    QS_TRY(qs_journal_append(&c->journal, &r, e));
    qs_cache_apply(c, &r);
    c->unsynced = true;
    return 0;
}

uint64_t qs_cache_source(const qs_cache *c, int blob) { return qs_cache_has(c, blob) ? c->source[blob] : 0; }

void qs_cache_refresh(qs_cache *c)
{
    qs_err ignored;
    if (!c->fills && c->present < c->blobs) qs_journal_read_on(&c->journal, qs_cache_apply, c, &ignored);
}

bool qs_cache_needs_sync(const qs_cache *c) { return c->fills && c->present == c->blobs; }

int qs_cache_sync(qs_cache *c, qs_err *e)
{
    if (c->unsynced) {
        for (int i = c->parts; i < 2 * c->parts; i++)
            if (fdatasync(c->part[i].fd))
                QS_FAIL(e, QS_EIO, "%s: cannot be synced to disk: %s", c->part[i].path, strerror(errno));
        if (fdatasync(c->journal.fd))
            QS_FAIL(e, QS_EIO, "%s: cannot be synced to disk: %s", c->journal.path, strerror(errno));
        c->unsynced = false;
    }
    if (qs_cache_needs_sync(c)) qs_cache_end_filling(c);
    return 0;
}
