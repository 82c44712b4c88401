/* nf4.cu - 4-bit quantisation and its second level, bit for bit what the CPU backend does (tables:
 * kernels/quant.h). */
#include "kernels/cuda/reduce.cuh"
extern "C" {
#include "kernels/quant.h"
}

/* ---- encoding ---------------------------------------------------------------------------------------- */

enum { ENCODE_WARPS = 8 };

/* One warp per block of 64: lane l has elements 2l and 2l+1, which share a byte. The largest magnitude is
 * found on the bit patterns, whose order is that of the magnitudes and has a place for NaN. */
template <class T>
static __global__ void __launch_bounds__(32 * ENCODE_WARPS)
    encode(qs_code4 table, const T *w, int64_t n, uint8_t *codes, float *absmax)
{
    int lane = threadIdx.x % 32;
    int64_t block = (int64_t)blockIdx.x * ENCODE_WARPS + threadIdx.x / 32,
            first = block * QS_QUANT_BLOCK + 2 * lane;
    if (block * QS_QUANT_BLOCK >= n) return; /* the whole warp */
    float x[2];
    for (int i = 0; i < 2; i++) x[i] = first + i < n ? qs_get(w[first + i]) : 0.0f;
    int top = max((int)(__float_as_uint(x[0]) & 0x7fffffffu), (int)(__float_as_uint(x[1]) & 0x7fffffffu));
    for (int lanes = 16; lanes; lanes >>= 1) top = max(top, __shfl_xor_sync(0xffffffffu, top, lanes));
    float largest = __uint_as_float((uint32_t)top), divisor = largest < 1e-38f ? 1e-38f : largest;
    bool full = (block + 1) * QS_QUANT_BLOCK <= n;
    float inverse = __frcp_rn(divisor);
    uint8_t code[2];
    for (int i = 0; i < 2; i++) {
        float scaled = full ? __fmul_rn(x[i], inverse) : __fdiv_rn(x[i], divisor);
        int rank = 0;
        for (int k = 0; k < 15; k++) rank += scaled > table.midpoint[k];
        /* What pads an odd tensor is a zero, and both types have 0 at rank 7. */
        code[i] = table.order[first + i < n ? rank : 7];
    }
    if (first < n) codes[first / 2] = (uint8_t)(code[0] << 4 | code[1]);
    if (lane == 0) absmax[block] = full ? largest : divisor;
}

extern "C" void qs_cuda_quantise4(qs_device *d, qs_quant_type type, const void *w, qs_dtype w_type, int64_t n,
                                  uint8_t *codes, float *absmax)
{
    unsigned grid = qs_cuda_blocks(qs_quant_blocks(n), ENCODE_WARPS);
    QS_BY_TYPE(w_type, QS_LAUNCH(d, encode<T>, grid, 32 * ENCODE_WARPS, 0, *qs_code4_of(type), (const T *)w,
                                 n, codes, absmax));
}

/* ---- the second level -------------------------------------------------------------------------------- */

/* The exponent of the lowest set bit of x != 0: x is a multiple of 2^low_bit(x). */
static __device__ int low_bit(float x)
{
    uint32_t bits = __float_as_uint(x);
    int exponent = (int)(bits >> 23 & 255), mantissa = (int)(bits & 0x7fffff);
    return exponent ? exponent - 150 + __ffs(mantissa | 1 << 23) - 1 : __ffs(mantissa) - 150;
}

/* offset = mean, summed in double in order. One block: if all values are multiples of 2^k and their sum is
 * below 2^(k+53), no partial sum in any order is ever rounded, so a parallel sum has the bits of the sum in
 * order. Weights meet that with room to spare (7 bits of mantissa when they come from bf16, 24 at most); a
 * single thread adds up what does not. */
static __global__ void __launch_bounds__(1024)
    mean_in_order(const float *absmax, int64_t blocks, float *offset)
{
    __shared__ double sums[32];
    __shared__ float lows[32];
    double sum = 0;
    int low = 1000;
    for (int64_t i = threadIdx.x; i < blocks; i += blockDim.x) {
        float x = absmax[i];
        sum += fabsf(x);
        if (x != 0) low = min(low, low_bit(x));
    }
    sum = qs_block_reduce<qs_sum>(sum, sums);
    low = -(int)qs_block_reduce<qs_max>(-(float)low, lows);
    if (threadIdx.x) return;
    if (!(sum < ldexp(1.0, low + 52))) { /* half the bound: this sum may itself have been rounded */
        sum = 0;
        for (int64_t i = 0; i < blocks; i++) sum += absmax[i];
    }
    *offset = (float)(sum / (double)blocks);
}

/* One thread block per 256 values of absmax. */
static __global__ void __launch_bounds__(QS_NESTED_BLOCK)
    encode_absmax(const qs_cuda_maps *maps, const float *absmax, int64_t blocks, uint8_t *absmax8,
                  float *nested, const float *offset)
{
    __shared__ float scratch[32];
    int64_t i = (int64_t)blockIdx.x * QS_NESTED_BLOCK + threadIdx.x;
    float x = i < blocks ? __fsub_rn(absmax[i], *offset) : 0.0f;
    float top = qs_block_reduce<qs_max>(fabsf(x), scratch);
    float inverse = top > 0 ? __frcp_rn(top) : 0; /* all equal: every code is 127, which means 0 */
    x = __fmul_rn(x, inverse);
    int code = 0;
    for (int step = 128; step; step /= 2)
        if (x > maps->above_signed[code + step - 1]) code += step;
    if (i < blocks) absmax8[i] = (uint8_t)code;
    if (threadIdx.x == 0) nested[blockIdx.x] = top;
}

extern "C" void qs_cuda_quantise_absmax(qs_device *d, const float *absmax, int64_t blocks, uint8_t *absmax8,
                                        float *nested, float *offset)
{
    QS_LAUNCH(d, mean_in_order, 1, 1024, 0, absmax, blocks, offset);
    QS_LAUNCH(d, encode_absmax, qs_cuda_blocks(blocks, QS_NESTED_BLOCK), QS_NESTED_BLOCK, 0,
              qs_cuda_of(d)->maps, absmax, blocks, absmax8, nested, offset);
}

/* ---- decoding ---------------------------------------------------------------------------------------- */

enum { DECODE_THREADS = 256, DECODE_STEPS = 4 };

struct decode_table {
    float value[16];
};

static __device__ __forceinline__ float absmax_of(const qs_qtensor &q, const float *map, int64_t block)
{
    if (q.absmax) return q.absmax[block];
    return __fadd_rn(__fmul_rn(map[q.absmax8[block]], q.nested[block / QS_NESTED_BLOCK]),
                     *q.offset); /* two roundings */
}

/* N elements at a time from N/2 bytes of codes: with N = 8, one 4-byte load makes one 16-byte store of a
 * 16-bit type. Each thread has several such steps in flight, a block's width apart, because the loads'
 * latency is what there is to hide. */
template <class T, int N>
static __global__ void __launch_bounds__(DECODE_THREADS)
    decode(decode_table table, const float *map, qs_qtensor q, T *out)
{
    __shared__ float value[16]; /* 16 banks: any mixture of codes in a warp is read without conflict */
    if (threadIdx.x < 16) value[threadIdx.x] = table.value[threadIdx.x];
    __syncthreads();
    int64_t start = ((int64_t)blockIdx.x * DECODE_STEPS * DECODE_THREADS + threadIdx.x) * N;
    qs_pack<uint8_t, N / 2> codes[DECODE_STEPS];
    float absmax[DECODE_STEPS];
#pragma unroll
    for (int s = 0; s < DECODE_STEPS; s++) {
        int64_t at = start + (int64_t)s * DECODE_THREADS * N;
        if (at + N - 1 >= q.n) break; /* what is not a whole step is left to the tail kernel */
        codes[s] = *(const qs_pack<uint8_t, N / 2> *)(q.codes + at / 2);
        absmax[s] = absmax_of(q, map, at / QS_QUANT_BLOCK);
    }
#pragma unroll
    for (int s = 0; s < DECODE_STEPS; s++) {
        int64_t at = start + (int64_t)s * DECODE_THREADS * N;
        if (at + N - 1 >= q.n) break;
        qs_pack<T, N> result;
#pragma unroll
        for (int i = 0; i < N; i++) {
            int code = i % 2 ? codes[s].v[i / 2] & 15 : codes[s].v[i / 2] >> 4;
            qs_put(&result.v[i], __fmul_rn(value[code], absmax[s]));
        }
        if (sizeof result > 16) { /* fp32: two stores */
            qs_pack<T, N / 2> *to = (qs_pack<T, N / 2> *)(out + at);
            to[0] = ((qs_pack<T, N / 2> *)&result)[0];
            to[1] = ((qs_pack<T, N / 2> *)&result)[1];
        } else {
            *(qs_pack<T, N> *)(out + at) = result;
        }
    }
}

/* Elements [first, q.n), one per thread. */
template <class T>
static __global__ void __launch_bounds__(DECODE_THREADS)
    decode_each(decode_table table, const float *map, qs_qtensor q, int64_t first, T *out)
{
    int64_t i = first + (int64_t)blockIdx.x * DECODE_THREADS + threadIdx.x;
    if (i >= q.n) return;
    int byte = q.codes[i / 2], code = i % 2 ? byte & 15 : byte >> 4;
    qs_put(out + i, __fmul_rn(table.value[code], absmax_of(q, map, i / QS_QUANT_BLOCK)));
}

template <class T> static void dequantise(qs_device *d, const qs_qtensor *q, T *out)
{
    enum { N = 8 };
    decode_table table;
    memcpy(table.value, qs_code4_of(q->type)->value, sizeof table.value);
    const float *map = qs_cuda_of(d)->maps->value_signed;
    bool aligned = (uintptr_t)q->codes % 4 == 0 && (uintptr_t)out % 16 == 0;
    int64_t whole = aligned ? q->n / N * N : 0;
    if (whole)
        QS_LAUNCH(d, (decode<T, N>), qs_cuda_blocks(whole, N * DECODE_THREADS * DECODE_STEPS), DECODE_THREADS,
                  0, table, map, *q, out);
    if (whole < q->n)
        QS_LAUNCH(d, decode_each<T>, qs_cuda_blocks(q->n - whole, DECODE_THREADS), DECODE_THREADS, 0, table,
                  map, *q, whole, out);
}

extern "C" void qs_cuda_dequantise4(qs_device *d, const qs_qtensor *q, void *out, qs_dtype out_type)
{
    QS_BY_TYPE(out_type, dequantise(d, q, (T *)out));
}
