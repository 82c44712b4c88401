#include "src/base/random.h"

uint64_t qs_random_permute(uint64_t seed, uint64_t stream, uint64_t n, uint64_t index)
{
    int half_bits = 1;
    while (half_bits < 32 && (uint64_t)1 << 2 * half_bits < n) half_bits++;
    uint32_t mask = half_bits == 32 ? 0xffffffffu : ((uint32_t)1 << half_bits) - 1;
    do { /* leave the range, walk on along the cycle until back in it: at most 4 expected rounds */
        uint32_t left = (uint32_t)(index >> half_bits) & mask, right = (uint32_t)index & mask;
        for (uint32_t round = 0; round < 6; round++) {
            uint32_t f = qs_philox((uint32_t)seed, (uint32_t)(seed >> 32), right, round, (uint32_t)stream,
                                   (uint32_t)(stream >> 32) ^ 0x70657200u)
                             .v[0];
            uint32_t next = (left ^ f) & mask;
            left = right;
            right = next;
        }
        index = (uint64_t)left << half_bits | right;
    } while (index >= n);
    return index;
}
