/* checkpoint_identity.h - which model a checkpoint is, by its content alone.
 *
 * The identity is XXH3-128 over every tensor in name order: name, type, shape and bytes sampled at fixed
 * places. File names, dates, the cut into shards and the order in the files do not count, so a model that was
 * copied, touched or cut otherwise stays the same model.
 *
 * A model of up to 64 MiB is taken whole. Of a larger one each tensor gives four stretches of 1 KiB: its
 * first, its last and two between, or all of it when that is no more. So that looking takes a second or two
 * whatever the checkpoint, at most 80,000 stretches are taken: with more tensors only the middle of each, and
 * with more than 80,000 tensors the middles of so many, evenly spread over the names. All bytes are compared
 * by `cache verify` (io/layer_cache.h).
 */
#ifndef QS_IO_CHECKPOINT_IDENTITY_H
#define QS_IO_CHECKPOINT_IDENTITY_H

#include "io/checkpoint_source.h"

enum { QS_IDENTITY_DIGITS = 32 };

/* Finds out, once, which model the source is: then qs_source_fingerprint tells. Blocks for a second or two.
 * `a` and errors as below. */
int qs_source_identify(qs_source *s, qs_aio *a, qs_err *e);

/* The identity in hex, NUL-terminated. Blocks; reads through `a`, or through an engine of its own when that
 * is NULL. QS_EIO. */
int qs_identity_of(qs_source *s, qs_aio *a, char out[QS_IDENTITY_DIGITS + 1], qs_err *e);

/* Whether two tensors of one type and shape hold the same bytes; sampled as above, so that a difference in a
 * few rows of a large one may be missed. QS_EIO. */
int qs_identity_equal(qs_source *s, qs_aio *a, const qs_source_tensor *x, const qs_source_tensor *y,
                      bool *equal, qs_err *e);

#endif
