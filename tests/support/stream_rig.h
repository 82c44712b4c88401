/* stream_rig.h - a streamer with everything around it: device, plan, tiers, cache in a directory, I/O engine,
 * and a maker whose blobs are known.
 *
 *     stream_rig r = {.config = {.blobs = 8, .ring = 3, .most_homes = 2, .device = RIG_LAZY, .seed = 1}};
 *     rig_open(&r, dir);
 *     rig_follow(&r, &schedule);   // all visits, every byte checked on the device; 0 or the failure in r.e
 *     rig_close(&r);
 */
#ifndef QS_TESTS_STREAM_RIG_H
#define QS_TESTS_STREAM_RIG_H

#include "offload/stream.h"

enum { RIG_MOST_BLOBS = 400 };

typedef enum rig_device { RIG_UNIFIED, RIG_DISCRETE, RIG_LAZY, RIG_DEVICES } rig_device;

typedef struct rig_config {
    int blobs, ring, most_homes;
    uint64_t sizes[RIG_MOST_BLOBS]; /* [0] 0: three pages each */
    uint64_t device_room;           /* --vram beyond the ring; 0: plenty */
    rig_device device;
    uint64_t seed; /* of the lazy device */
    qs_aio_engine engine;
    const struct qs_aio_faults *faults;
    qs_recorder *recorder;
    bool no_cache, racy; /* racy: kernels do not wait for copies */
    const qs_plan *like; /* NULL, or a plan whose homes, places and slots are taken, for the sizes above */
} rig_config;

typedef struct stream_rig {
    rig_config config;
    qs_device *device;
    qs_plan plan;
    qs_tier tier;
    qs_aio *aio;
    qs_cache *cache;
    qs_stream *stream;
    qs_err e;
    int made[RIG_MOST_BLOBS], expected[RIG_MOST_BLOBS]; /* calls of the maker */
    int next, begun; /* the blob that the maker expects, has begun to make */
    void *begun_at;
    uint64_t begun_bytes;
    int fail_to_make; /* blob + 1 whose making fails */
    int wrong;        /* blobs that were not what they should be */
} stream_rig;

/* Aborts the test on failure; leaves the directory's cache as it is. */
void rig_open(stream_rig *r, const char *dir);
void rig_close(stream_rig *r);

/* The bytes that blob b must have. */
void rig_fill(int blob, void *place, uint64_t bytes);
bool rig_is(int blob, const void *place, uint64_t bytes);

/* One visit: acquire, check at both ends of it, release. */
int rig_visit(stream_rig *r, int32_t v, const qs_schedule *s);
int rig_follow(stream_rig *r, const qs_schedule *s);
/* The same, but everything that was started has arrived and was seen to before a visit ends: no race with the
 * disk. As in a run nobody looks during the update. */
int rig_follow_at_leisure(stream_rig *r, const qs_schedule *s);

int rig_total_made(const stream_rig *r);

/* Flips a byte of blob b in the cache file of dir. */
void rig_corrupt(const stream_rig *r, const char *dir, int blob);

#endif
