/* cuda_bf16.h - bfloat16 as the simulator gives it: a storage type and its conversions. */
#ifndef CUDASIM_CUDA_BF16_H
#define CUDASIM_CUDA_BF16_H

extern "C" {
#include "src/base/dtype.h"
}

struct __nv_bfloat16 {
    uint16_t bits;
};
struct __nv_bfloat162 {
    __nv_bfloat16 x, y;
} __attribute__((aligned(4)));

static inline float __bfloat162float(__nv_bfloat16 v) { return qs_f32_of_bf16(v.bits); }
static inline __nv_bfloat16 __float2bfloat16_rn(float f) { return {qs_bf16_of_f32(f)}; }
static inline __nv_bfloat162 __floats2bfloat162_rn(float x, float y)
{
    return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}

#endif
