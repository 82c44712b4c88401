/* attention_sm80.cuh - building blocks of the tensor core attention kernels: scores, masks, operands from registers. */
#ifndef QS_KERNELS_CUDA_ATTENTION_SM80_CUH
#define QS_KERNELS_CUDA_ATTENTION_SM80_CUH

#include "kernels/cuda/attention.cuh"
#include "kernels/cuda/mma.cuh"

/* Device code of these kernels is empty below sm_80, where they are never started. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define QS_HAS_SM80 1
#else
#define QS_HAS_SM80 0
#endif

#define QS_LOG2E 1.4426950408889634f
#define QS_LN2 0.6931471805599453f

/* c[COLUMNS / 8 tiles] += A B', both from shared tiles along HD: 16 rows of `a` from a_row, COLUMNS rows of `b`. */
template <class T, int HD, int COLUMNS>
static __device__ __forceinline__ void qs_product(float (*c)[4], qs_tile<T, HD> a, int a_row, qs_tile<T, HD> b)
{
#pragma unroll
    for (int k = 0; k < HD; k += 16) {
        uint32_t left[4];
        qs_load_a(left, a, a_row, k);
#pragma unroll
        for (int n = 0; n < COLUMNS; n += 16) {
            uint32_t right[4];
            qs_load_b(right, b, n, k);
            qs_mma(c[n / 8], left, right, T());
            qs_mma(c[n / 8 + 1], left, right + 2, T());
        }
    }
}

/* out[WIDTH / 8 tiles] += P rows: P is 16 x DEPTH in accumulators, rounded to T here; `rows` is DEPTH x HD, of which columns
 * [column, column + WIDTH) are taken. */
template <class T, int HD, int DEPTH, int WIDTH>
static __device__ __forceinline__ void qs_product_rows(float (*out)[4], const float (*p)[4], qs_tile<T, HD> rows, int column)
{
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        const float *low = p[k / 8], *high = p[k / 8 + 1];
        uint32_t left[4] = {qs_pair(low[0], low[1], T()), qs_pair(low[2], low[3], T()), qs_pair(high[0], high[1], T()), qs_pair(high[2], high[3], T())};
#pragma unroll
        for (int n = 0; n < WIDTH; n += 16) {
            uint32_t right[4];
            qs_load_b_rows(right, rows, k, column + n);
            qs_mma(out[n / 8], left, right, T());
            qs_mma(out[n / 8 + 1], left, right + 2, T());
        }
    }
}

/* Writes 16 rows of accumulators, times a factor per row half, as T: rows row, row + 8 of this lane, where below `limit`. */
template <class T, int WIDTH>
static __device__ __forceinline__ void qs_store_rows(const float (*c)[4], qs_view<T> to, int column, int row, int limit, float first, float second)
{
    int member = threadIdx.x % 4;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float factor = half ? second : first;
        if (row + 8 * half >= limit) continue;
        T *out = to.row(row + 8 * half) + column + 2 * member;
#pragma unroll
        for (int n = 0; n < WIDTH / 8; n++) {
            uint32_t pair = qs_pair(c[n][2 * half] * factor, c[n][2 * half + 1] * factor, T());
            *(uint32_t *)(out + 8 * n) = pair;
        }
    }
}

/* Calls launch<T, head size>(...) for a head size that attention.cu sends here. */
#define QS_BY_HEAD(type, head_dim, launch, ...)                                                               \
    do {                                                                                                      \
        bool bf16_ = (type) == QS_BF16;                                                                       \
        switch (head_dim) {                                                                                   \
        case 64: bf16_ ? launch<__nv_bfloat16, 64>(__VA_ARGS__) : launch<__half, 64>(__VA_ARGS__); break;     \
        case 80: bf16_ ? launch<__nv_bfloat16, 80>(__VA_ARGS__) : launch<__half, 80>(__VA_ARGS__); break;     \
        case 96: bf16_ ? launch<__nv_bfloat16, 96>(__VA_ARGS__) : launch<__half, 96>(__VA_ARGS__); break;     \
        case 128: bf16_ ? launch<__nv_bfloat16, 128>(__VA_ARGS__) : launch<__half, 128>(__VA_ARGS__); break;  \
        case 256: bf16_ ? launch<__nv_bfloat16, 256>(__VA_ARGS__) : launch<__half, 256>(__VA_ARGS__); break;  \
        }                                                                                                     \
    } while (0)

#endif
