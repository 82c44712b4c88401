/* op_replay.h - runs an operation that was noted down (meta_device.h) on a real device, on memory of no
 * meaning, to see how long it takes. */
#ifndef QS_KERNELS_OP_REPLAY_H
#define QS_KERNELS_OP_REPLAY_H

#include "kernels/meta_device.h"

/* Device memory that `call` needs with n rows or elements in place of its own, operands and workspace
 * together. */
size_t qs_op_replay_bytes(qs_device *d, const qs_op_call *call, int64_t n);

/* Queues it. memory: device memory of at least that size, 4096-aligned, holding finite numbers (any bytes
 * below 0x7f will do). With ATTENTION a document has as many tokens as there are rows. */
void qs_op_replay(qs_device *d, const qs_op_call *call, int64_t n, void *memory, size_t bytes);

#endif
