#include "src/base/dtype.h"

#include <math.h>

const char *qs_dtype_name(qs_dtype t)
{
    static const char *const names[QS_DTYPE_COUNT] = {"float32", "bfloat16", "float16", "uint8", "int32"};
    return t < QS_DTYPE_COUNT ? names[t] : "unknown";
}

float qs_f32_of_f16(uint16_t h)
{
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31, mantissa = h & 0x3ffu;
    if (exponent == 31) return qs_f32_of_bits(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        float value = (float)mantissa * 0x1p-24f; /* exact */
        return sign ? -value : value;
    }
    return qs_f32_of_bits(sign | (exponent + 112) << 23 | mantissa << 13);
}

uint16_t qs_f16_of_f32(float f)
{
    uint32_t u = qs_f32_bits(f), sign = u >> 16 & 0x8000u, magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return (uint16_t)(sign | 0x7e00u);
    if (magnitude >= 0x477ff000u) return (uint16_t)(sign | 0x7c00u); /* rounds to 65536 or more */
    if (magnitude < 0x38800000u) { /* subnormal in binary16: the sum's rounding is the one we want */
        float scaled = fabsf(f) * 0x1p24f;
        return (uint16_t)(sign | (uint32_t)(int)nearbyintf(scaled));
    }
    uint32_t rounded = magnitude + 0xfffu + (magnitude >> 13 & 1);
    return (uint16_t)(sign | (rounded - 0x38000000u) >> 13);
}

float qs_load_f32(const void *data, qs_dtype t, size_t i)
{
    if (t == QS_F32) return ((const float *)data)[i];
    uint16_t h = ((const uint16_t *)data)[i];
    return t == QS_BF16 ? qs_f32_of_bf16(h) : qs_f32_of_f16(h);
}

void qs_store_f32(void *data, qs_dtype t, size_t i, float value)
{
    if (t == QS_F32)
        ((float *)data)[i] = value;
    else
        ((uint16_t *)data)[i] = t == QS_BF16 ? qs_bf16_of_f32(value) : qs_f16_of_f32(value);
}

void qs_convert(void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type, size_t n)
{
    if (dst_type == src_type) {
        memcpy(dst, src, n * qs_dtype_bytes(src_type));
    } else {
        for (size_t i = 0; i < n; i++) qs_store_f32(dst, dst_type, i, qs_load_f32(src, src_type, i));
    }
}
