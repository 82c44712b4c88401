#include "io/checkpoint_identity.h"

#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "src/base/hash.h"
#include "src/base/memory.h"

enum {
    PIECE_BYTES = 64 << 10,
    IN_FLIGHT = 64,
    STRETCH_BYTES = 1 << 10,
    STRETCHES = 4,
    MOST_STRETCHES = 80000
};
#define WHOLE_BYTES ((uint64_t)64 << 20)

typedef struct sampler {
    qs_source *source;
    qs_aio *aio;
    XXH3_state_t *hash;
    qs_source_read reads[IN_FLIGHT]; /* a ring: what comes is hashed in the order in which it was asked for */
    char *buffers;                   /* [IN_FLIGHT] */
    int started, finished;
} sampler;

/* Integers go in as little-endian bytes, so that every machine finds the same. */
static void hash_u64(XXH3_state_t *h, uint64_t v)
{
    uint8_t b[8];
    for (int i = 0; i < 8; i++) b[i] = (uint8_t)(v >> 8 * i);
    XXH3_128bits_update(h, b, 8);
}

static void hash_header(XXH3_state_t *h, const qs_source_tensor *t)
{
    XXH3_128bits_update(h, t->name, strlen(t->name) + 1);
    XXH3_128bits_update(h, t->type_name, strlen(t->type_name) + 1);
    hash_u64(h, (uint64_t)t->dims);
    for (int d = 0; d < t->dims; d++) hash_u64(h, (uint64_t)t->shape[d]);
}

static int finish_one(sampler *s, qs_err *e)
{
    qs_source_read *r = &s->reads[s->finished++ % IN_FLIGHT];
    QS_TRY(qs_source_read_finish(s->source, s->aio, r, e));
    XXH3_128bits_update(s->hash, r->data, r->bytes);
    return 0;
}

static int finish_all(sampler *s, qs_err *e)
{
    while (s->finished < s->started) QS_TRY(finish_one(s, e));
    return 0;
}

static int take(sampler *s, const qs_source_tensor *t, uint64_t offset, uint64_t bytes, qs_err *e)
{
    if (s->started - s->finished == IN_FLIGHT) QS_TRY(finish_one(s, e));
    int i = s->started++ % IN_FLIGHT;
    s->reads[i] = (qs_source_read){.tensor = t,
                                   .offset = offset,
                                   .bytes = bytes,
                                   .buffer = s->buffers + (size_t)i * qs_source_buffer_bytes(PIECE_BYTES)};
    qs_source_read_start(s->source, s->aio, &s->reads[i]);
    return 0;
}

static int take_whole(sampler *s, const qs_source_tensor *t, qs_err *e)
{
    for (uint64_t at = 0; at < t->bytes; at += PIECE_BYTES)
        QS_TRY(take(s, t, at, t->bytes - at < PIECE_BYTES ? t->bytes - at : PIECE_BYTES, e));
    return 0;
}

/* `stretches` of them, evenly spread from the first bytes to the last; a single one lies in the middle. */
static int take_stretches(sampler *s, const qs_source_tensor *t, int stretches, qs_err *e)
{
    if (t->bytes <= (uint64_t)stretches * STRETCH_BYTES) return take_whole(s, t, e);
    uint64_t room = t->bytes - STRETCH_BYTES;
    if (stretches == 1) return take(s, t, room / 2 / 8 * 8, STRETCH_BYTES, e);
    for (int i = 0; i < stretches; i++) {
        uint64_t at = i == stretches - 1 ? room : room / (uint64_t)(stretches - 1) * (uint64_t)i / 8 * 8;
        QS_TRY(take(s, t, at, STRETCH_BYTES, e));
    }
    return 0;
}

static int sample(sampler *s, qs_err *e)
{
    int count = qs_source_count(s->source), stretches = count > MOST_STRETCHES / STRETCHES ? 1 : STRETCHES,
        apart = (count + MOST_STRETCHES - 1) / MOST_STRETCHES;
    uint64_t bytes = 0;
    for (int i = 0; i < count; i++) {
        hash_header(s->hash, qs_source_at(s->source, i));
        bytes += qs_source_at(s->source, i)->bytes;
    }
    for (int i = 0; i < count; i += apart) {
        const qs_source_tensor *t = qs_source_at(s->source, i);
        QS_TRY(bytes <= WHOLE_BYTES ? take_whole(s, t, e) : take_stretches(s, t, stretches, e));
    }
    return finish_all(s, e);
}

static int open_sampler(sampler *s, qs_source *source, qs_aio *a, qs_region *buffers, qs_err *e)
{
    *s = (sampler){.source = source, .aio = a, .hash = qs_hash_create()};
    *buffers = (qs_region){0};
    XXH3_128bits_reset(s->hash);
    if (!a) QS_TRY(qs_aio_open(&(qs_aio_config){.depth = IN_FLIGHT}, &s->aio, e));
    QS_TRY(
        qs_region_map(buffers, IN_FLIGHT * qs_source_buffer_bytes(PIECE_BYTES), "looking at the model", e));
    s->buffers = buffers->base;
    return 0;
}

static void close_sampler(sampler *s, qs_aio *a, qs_region *buffers)
{
    qs_err ignored;
    while (s->finished < s->started) finish_one(s, &ignored); /* after a failure: nothing may arrive later */
    if (!a) qs_aio_close(s->aio);
    qs_region_free(buffers);
    XXH3_freeState(s->hash);
}

int qs_identity_of(qs_source *source, qs_aio *a, char out[QS_IDENTITY_DIGITS + 1], qs_err *e)
{
    sampler s;
    qs_region buffers;
    int rc = open_sampler(&s, source, a, &buffers, e);
    if (!rc) rc = sample(&s, e);
    XXH128_hash_t h = XXH3_128bits_digest(s.hash);
    snprintf(out, QS_IDENTITY_DIGITS + 1, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    close_sampler(&s, a, &buffers);
    return rc;
}

int qs_identity_equal(qs_source *source, qs_aio *a, const qs_source_tensor *x, const qs_source_tensor *y,
                      bool *equal, qs_err *e)
{
    enum { MANY = 4096 };
    const qs_source_tensor *both[2] = {x, y};
    XXH128_hash_t h[2] = {{0}};
    sampler s;
    qs_region buffers;
    int rc = open_sampler(&s, source, a, &buffers, e);
    for (int i = 0; i < 2 && !rc; i++) {
        XXH3_128bits_reset(s.hash);
        rc =
            both[i]->bytes <= WHOLE_BYTES ? take_whole(&s, both[i], e) : take_stretches(&s, both[i], MANY, e);
        if (!rc) rc = finish_all(&s, e);
        h[i] = XXH3_128bits_digest(s.hash);
    }
    *equal = !rc && XXH128_isEqual(h[0], h[1]);
    close_sampler(&s, a, &buffers);
    return rc;
}

int qs_source_identify(qs_source *s, qs_aio *a, qs_err *e)
{
    char *room = qs_source_fingerprint_room(s);
    return *room ? 0 : qs_identity_of(s, a, room, e);
}
