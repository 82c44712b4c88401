/* dynamic_map.h - the search for the nearest entry of a dynamic 8-bit map, 16 numbers at a time. */
#ifndef QS_KERNELS_CPU_DYNAMIC_MAP_H
#define QS_KERNELS_CPU_DYNAMIC_MAP_H

#include "kernels/cpu/vec.h"
#include "kernels/quant.h"

/* Codes of x under a map's above[] (quant.h): how many of them lie below x, by bisection. A NaN has code 0. */
VEC v16b qs_dynamic_codes(v16 x, const float above[255])
{
    v16i code = {0};
    for (int step = 128; step; step /= 2) code += (v16i)(x > v16_gather(above, code + (step - 1))) & step;
    return __builtin_convertvector(code, v16b);
}

/* The values of 16 codes. */
VEC v16 qs_dynamic_values(const uint8_t *codes, const float map[256])
{
    v16b c;
    memcpy(&c, codes, sizeof c);
    return v16_gather(map, __builtin_convertvector(c, v16i));
}

#endif
