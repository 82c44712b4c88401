/* faulty_kernels.cpp - see faulty_kernels.h. */
#include "kernels/cuda/mma.cuh"
#include "tests/cudasim/faulty_kernels.h"

enum { N = 64 };

static __global__ void faulty(faulty_kernel which, float *x)
{
    QS_DYNAMIC_SHARED(shared);
    float *s = (float *)shared;
    int i = threadIdx.x;
    if (which == FAULTY_HALF_BARRIER && i >= N / 2) return;
    if (which == FAULTY_HALF_SHUFFLE && i % 32 >= 16) return;
    if (which == FAULTY_HALF_SHUFFLE) x[i] = __shfl_xor_sync(0xffffffffu, x[i], 1);
    if (which == FAULTY_SHARED_OVERRUN) s[N + i] = x[i];
    if (which == FAULTY_NO_COPY_WAIT) {
        if (i % 4 == 0) qs_copy_async(qs_shared_of(s + i), x + i, true);
        qs_copy_commit();
    } else {
        s[i] = x[i];
    }
    if (which != FAULTY_NO_BARRIER) __syncthreads();
    uint32_t matrices[4];
    if (which == FAULTY_SHARED_BANKS) qs_ldmatrix(matrices, qs_shared_of(s + i % 2 * 32));
    x[i] = s[N - 1 - i];
}

void faulty_kernel_launch(qs_device *d, faulty_kernel which, float *x)
{
    QS_LAUNCH(d, faulty, 1, N, which == FAULTY_SHARED_TOO_LARGE ? 64 << 10 : N * sizeof(float), which, x);
}
