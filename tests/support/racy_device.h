/* racy_device.h - a device whose kernels wait for nothing: the race that tests of the ordering must see. */
#ifndef QS_TESTS_RACY_DEVICE_H
#define QS_TESTS_RACY_DEVICE_H

#include "kernels/device.h"

/* From now on the compute queue of the device passes over the events it should wait for. One device at a
 * time. */
void test_drop_compute_waits(qs_device *d);

#endif
