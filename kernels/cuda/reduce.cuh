/* reduce.cuh - sums and maxima over a warp or a block, in an order fixed by the thread numbers alone. */
#ifndef QS_KERNELS_CUDA_REDUCE_CUH
#define QS_KERNELS_CUDA_REDUCE_CUH

#include "kernels/cuda/common.cuh"

struct qs_sum {
    template <class V> static __device__ __forceinline__ V of(V a, V b) { return a + b; }
};
struct qs_max {
    static __device__ __forceinline__ float of(float a, float b) { return fmaxf(a, b); }
};

/* Every lane gets the result. The butterfly pairs the same lanes in the same order in each of them, and both
 * operations commute, so all lanes hold the same bits. */
template <class Op, class V> static __device__ __forceinline__ V qs_warp_reduce(V v)
{
    for (int lanes = 16; lanes; lanes >>= 1) v = Op::of(v, __shfl_xor_sync(0xffffffffu, v, lanes));
    return v;
}

/* Every thread gets the result. All threads of a one-dimensional block of whole warps call it. `scratch`:
 * shared memory for 32 values; it may be used again right after. */
template <class Op, class V> static __device__ __forceinline__ V qs_block_reduce(V v, V *scratch)
{
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    v = qs_warp_reduce<Op>(v);
    if (lane == 0) scratch[warp] = v;
    __syncthreads();
    V total = scratch[0];
    for (int i = 1; i < warps; i++) total = Op::of(total, scratch[i]);
    __syncthreads();
    return total;
}

#endif
