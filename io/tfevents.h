/* tfevents.h - TensorBoard event files with scalars.
 *
 * A file is a list of records, each: u64 length, masked CRC-32C of it, a serialised tensorflow.Event, masked
 * CRC-32C of that (all little-endian). The few fields that scalars need are encoded here by hand; nothing is
 * allocated after opening.
 *
 *     qs_tfevents_open("out", 0, now, &t, e);
 *     qs_tfevents_write(t, now, step, (qs_tfevents_scalar[]){{"train/loss", 2.5f}, {"train/grad_norm",
 * 0.7f}}, 2, e);
 *
 * Format: tensorboard/summary/writer/record_writer.py and tensorboard/compat/proto/{event,summary}.proto.
 */
#ifndef QS_IO_TFEVENTS_H
#define QS_IO_TFEVENTS_H

#include <stdint.h>

#include "src/base/error.h"

enum { QS_TFEVENTS_MAX_SCALARS = 32, QS_TFEVENTS_MAX_TAG_BYTES = 100 };

typedef struct qs_tfevents qs_tfevents;
typedef struct qs_tfevents_scalar {
    const char *tag;
    float value;
} qs_tfevents_scalar;

/* Begins dir/events.out.tfevents.<seconds>.<host>.<pid>.<n>, a new file for each run, as TensorBoard expects.
 * A run that goes on after last_step (0: a new one) says so in it, and TensorBoard drops what the earlier
 * files of dir have beyond that step. wall_seconds: since 1970. QS_EIO. */
int qs_tfevents_open(const char *dir, int64_t last_step, double wall_seconds, qs_tfevents **out, qs_err *e);
void qs_tfevents_close(qs_tfevents *t); /* NULL is fine */

/* Appends one event with these scalars, in one write(2). At most QS_TFEVENTS_MAX_SCALARS, tags at most
 * QS_TFEVENTS_MAX_TAG_BYTES. QS_EIO. */
int qs_tfevents_write(qs_tfevents *t, double wall_seconds, int64_t step, const qs_tfevents_scalar *scalars,
                      int count, qs_err *e);

/* Makes what was written durable. Blocks on the disk. */
int qs_tfevents_sync(qs_tfevents *t, qs_err *e);

#endif
