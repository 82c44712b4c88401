/* dynamic_map.h - the search for the nearest entry of a dynamic 8-bit map, a register at a time. */
#ifndef QS_KERNELS_CPU_DYNAMIC_MAP_H
#define QS_KERNELS_CPU_DYNAMIC_MAP_H

#include "kernels/cpu/vec.h"
#include "kernels/quant.h"

/* Codes of x under a map's above[] (quant.h): how many of them lie below x, by bisection. A NaN has code 0.
 */
VEC vb qs_dynamic_codes(vf x, const float above[255])
{
    vi code = {0};
    for (int step = 128; step; step /= 2) code += (vi)(x > vec_gather(above, code + (step - 1))) & step;
    return vec_bytes(code);
}

/* The values of VW codes. */
VEC vf qs_dynamic_values(const uint8_t *codes, const float map[256])
{
    return vec_gather(map, vec_of_bytes(codes));
}

#endif
