/* attention_sm90.cuh - what the attention kernels for sm_90a's warpgroup instructions share. A block is two
 * warpgroups of 64 rows each; tiles of the others go by in a ring of stages, whose copies all threads start.
 */
#ifndef QS_KERNELS_CUDA_ATTENTION_SM90_CUH
#define QS_KERNELS_CUDA_ATTENTION_SM90_CUH

#include "kernels/cuda/attention_rows.cuh"
#include "kernels/cuda/wgmma.cuh"

/* Device code of these kernels is empty for other targets, where they are never started. */
#if !defined(__CUDA_ARCH__) || defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define QS_HAS_SM90 1
#else
#define QS_HAS_SM90 0
#endif

enum { QS_SM90_THREADS = 256, QS_SM90_ROWS = 128 };

/* Waits until at most GROUPS_LEFT groups of this thread's copies are under way; what all threads copied
 * before may then be multiplied. */
template <int GROUPS_LEFT> static __device__ __forceinline__ void qs_sm90_arrive(void)
{
    qs_copy_wait<GROUPS_LEFT>();
    qs_wgmma_see();
    __syncthreads();
}

/* From TILES tiles of accumulators the left operands, one for each 16 values of k. */
template <class T, int TILES>
static __device__ __forceinline__ void qs_operands_of(uint32_t (*a)[4], const float (*p)[4])
{
#pragma unroll
    for (int n = 0; n < TILES; n += 2) qs_operand_of<T>(a[n / 2], p + n);
}

#define QS_SM90_BY_HEAD(type, head_dim, launch, ...)                                            \
    do {                                                                                        \
        bool bf16_ = (type) == QS_BF16;                                                         \
        if ((head_dim) == 64)                                                                   \
            bf16_ ? launch<__nv_bfloat16, 64>(__VA_ARGS__) : launch<__half, 64>(__VA_ARGS__);   \
        else                                                                                    \
            bf16_ ? launch<__nv_bfloat16, 128>(__VA_ARGS__) : launch<__half, 128>(__VA_ARGS__); \
    } while (0)

#endif
