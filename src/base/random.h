/* random.h - counter-based random numbers: value i of a stream is a pure function of (key, counter).
 *
 * Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011). Nothing is ever
 * advanced, so the same dropout mask comes out of a forward pass, its recomputation, and a run that was
 * stopped and resumed.
 */
#ifndef QS_BASE_RANDOM_H
#define QS_BASE_RANDOM_H

#include <stdint.h>

#ifdef __CUDACC__ /* the CUDA kernels draw the same numbers */
#define QS_RANDOM_INLINE static __host__ __device__ inline
#else
#define QS_RANDOM_INLINE static inline
#endif

typedef struct qs_philox_block {
    uint32_t v[4];
} qs_philox_block;

/* The four 32-bit words of counter (c0..c3) under key (k0, k1). */
QS_RANDOM_INLINE qs_philox_block qs_philox(uint32_t k0, uint32_t k1, uint32_t c0, uint32_t c1, uint32_t c2,
                                           uint32_t c3)
{
    for (int round = 0; round < 10; round++) {
        uint64_t p0 = (uint64_t)0xD2511F53u * c0, p1 = (uint64_t)0xCD9E8D57u * c2;
        uint32_t n0 = (uint32_t)(p1 >> 32) ^ c1 ^ k0, n2 = (uint32_t)(p0 >> 32) ^ c3 ^ k1;
        c1 = (uint32_t)p1;
        c3 = (uint32_t)p0;
        c0 = n0;
        c2 = n2;
        k0 += 0x9E3779B9u;
        k1 += 0xBB67AE85u;
    }
    return (qs_philox_block){{c0, c1, c2, c3}};
}

/* Uniform in [0, 1) with 24 bits, from a 32-bit word. */
QS_RANDOM_INLINE float qs_uniform_f32(uint32_t word) { return (float)(word >> 8) * 0x1p-24f; }

/* Elements [4 block, 4 block + 4) of stream `stream` under a 64-bit seed. */
QS_RANDOM_INLINE qs_philox_block qs_random_block(uint64_t seed, uint64_t stream, uint64_t block)
{
    return qs_philox((uint32_t)seed, (uint32_t)(seed >> 32), (uint32_t)block, (uint32_t)(block >> 32),
                     (uint32_t)stream, (uint32_t)(stream >> 32));
}

/* Element `index` of stream `stream` under a 64-bit seed: 32 random bits. */
QS_RANDOM_INLINE uint32_t qs_random_u32(uint64_t seed, uint64_t stream, uint64_t index)
{
    return qs_random_block(seed, stream, index >> 2).v[index & 3];
}

/* A bijection of [0, n) chosen by (seed, stream): where element `index` goes. O(1) memory and expected time,
 * so a shuffled data order can be entered anywhere. Cycle-walking Feistel network over the next even power of
 * two; n >= 1. */
uint64_t qs_random_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t index);

#endif
