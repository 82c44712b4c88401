/* dtype.h - element types and exact conversions between them (IEEE 754 binary32, binary16, bfloat16). */
#ifndef QS_BASE_DTYPE_H
#define QS_BASE_DTYPE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef enum qs_dtype { QS_F32, QS_BF16, QS_F16, QS_U8, QS_I32, QS_DTYPE_COUNT } qs_dtype;

/* Bytes of one element. */
static inline size_t qs_dtype_bytes(qs_dtype t)
{
    return t == QS_U8 ? 1 : t == QS_BF16 || t == QS_F16 ? 2 : 4;
}

/* "float32", "bfloat16", "float16", "uint8", "int32". */
const char *qs_dtype_name(qs_dtype t);

static inline uint32_t qs_f32_bits(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float qs_f32_of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}

static inline float qs_f32_of_bf16(uint16_t h) { return qs_f32_of_bits((uint32_t)h << 16); }

/* Round to nearest even; NaN stays a (quiet) NaN. */
static inline uint16_t qs_bf16_of_f32(float f)
{
    uint32_t u = qs_f32_bits(f);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

/* Round to nearest even, with subnormals; overflow gives infinity. */
float qs_f32_of_f16(uint16_t h);
uint16_t qs_f16_of_f32(float f);

/* Element i of an array of type t (F32, BF16 or F16) as float, and back with one rounding. */
float qs_load_f32(const void *data, qs_dtype t, size_t i);
void qs_store_f32(void *data, qs_dtype t, size_t i, float value);

/* Converts n elements between F32, BF16 and F16; same types copy. The arrays must not overlap. */
void qs_convert(void *dst, qs_dtype dst_type, const void *src, qs_dtype src_type, size_t n);

#endif
