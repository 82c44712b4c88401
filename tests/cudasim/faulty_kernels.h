/* faulty_kernels.h - kernels with a deliberate fault each, to show that the simulator notices. Used by
 * test_cudasim_device.c. */
#ifndef QS_TESTS_CUDASIM_FAULTY_KERNELS_H
#define QS_TESTS_CUDASIM_FAULTY_KERNELS_H

#include "kernels/device.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef enum faulty_kernel {
    FAULTY_NONE,             /* reverses 64 numbers through shared memory, as it should be */
    FAULTY_NO_BARRIER,       /* the same without the barrier between writing and reading */
    FAULTY_HALF_BARRIER,     /* half of the threads return before a barrier */
    FAULTY_HALF_SHUFFLE,     /* half of a warp takes part in a shuffle of the whole warp */
    FAULTY_NO_COPY_WAIT,     /* reads what cp.async brings without waiting for it */
    FAULTY_SHARED_OVERRUN,   /* writes past its dynamic shared memory */
    FAULTY_SHARED_TOO_LARGE, /* asks for more shared memory than it declared */
    FAULTY_SHARED_BANKS      /* ldmatrix of rows that lie in the same banks */
} faulty_kernel;

/* Queues the kernel on x: 64 floats of device memory. */
void faulty_kernel_launch(qs_device *d, faulty_kernel which, float *x);

#ifdef __cplusplus
}
#endif
#endif
