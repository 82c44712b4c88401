/* cuda_fp16.h - binary16 as the simulator gives it: a storage type and its conversions. */
#ifndef CUDASIM_CUDA_FP16_H
#define CUDASIM_CUDA_FP16_H

extern "C" {
#include "src/base/dtype.h"
}

struct __half {
    uint16_t bits;
};
struct __half2 {
    __half x, y;
} __attribute__((aligned(4)));

static inline float __half2float(__half v) { return qs_f32_of_f16(v.bits); }
static inline __half __float2half_rn(float f) { return {qs_f16_of_f32(f)}; }
static inline __half2 __floats2half2_rn(float x, float y) { return {__float2half_rn(x), __float2half_rn(y)}; }

#endif
