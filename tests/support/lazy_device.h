/* lazy_device.h - a discrete device whose queues run in random legal order, to catch what only events may
 * order.
 *
 * Nothing happens when it is queued. Some time later, or when the host waits, one queue after another, chosen
 * by the seed, does its next piece: a copy, a fill, a kernel. A queue stops at an event that has not been
 * reached. So a copy may run long after a later kernel of another queue, unless an event forbids it; what a
 * run gets right under many seeds does not lean on luck. Device memory is a block of its own, and copies must
 * go between it and the host.
 *
 *     qs_device *d = test_lazy_device(seed);
 *     ...d->api->copy_in(d, QS_QUEUE_IN, p, host, n); d->api->event_record(d, done, QS_QUEUE_IN);
 *     d->api->event_wait(d, done, QS_QUEUE_COMPUTE);
 *     test_lazy_kernel(d, check, argument, 7);       // runs check(argument, 7) in its turn on
 * QS_QUEUE_COMPUTE qs_device_close(d);                            // runs what is left
 */
#ifndef QS_TESTS_LAZY_DEVICE_H
#define QS_TESTS_LAZY_DEVICE_H

#include "kernels/device.h"

qs_device *test_lazy_device(uint64_t seed);

/* Queues a call on QS_QUEUE_COMPUTE: p and n are the kernel's own. */
void test_lazy_kernel(qs_device *d, void (*kernel)(void *p, int64_t n), void *p, int64_t n);

/* Pieces of work that ran out of the order in which they were queued: 0 would mean that the device was not
 * lazy. */
uint64_t test_lazy_reordered(const qs_device *d);

#endif
