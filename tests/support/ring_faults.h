/* ring_faults.h - makes calls that enter an io_uring fail, in test programs.
 *
 *     test_ring_fail(3, 1, EIO);      // the third call from now fails with EIO, and that once
 */
#ifndef QS_TESTS_RING_FAULTS_H
#define QS_TESTS_RING_FAULTS_H

/* Calls number `first` to first + count - 1 from now fail with `error` and submit nothing; count 0: none do.
 */
void test_ring_fail(int first, int count, int error);

#endif
