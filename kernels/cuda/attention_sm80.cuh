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

/* Sixteen rows of a tile, the left operand of products along HD: HELD in registers, which every later product then has for nothing, or read from the tile
 * each time. */
template <class T, int HD, bool HELD> struct qs_rows16 {
    uint32_t held[HELD ? HD / 16 : 1][4];
    qs_tile<T, HD> tile;
    int row;

    __device__ __forceinline__ qs_rows16(qs_tile<T, HD> of, int first) : tile(of), row(first)
    {
#pragma unroll
        for (int k = 0; HELD && k < HD; k += 16) qs_load_a(held[k / 16], tile, row, k);
    }
    __device__ __forceinline__ void get(uint32_t a[4], int k) const
    {
        if (HELD) memcpy(a, held[HELD ? k / 16 : 0], sizeof held[0]);
        else qs_load_a(a, tile, row, k);
    }
};

/* c[COLUMNS / 8 tiles] += the part of a product that 16 values of k make: `left` times rows [row, row + COLUMNS) of the tile, transposed. */
template <class T, int HD, int COLUMNS>
static __device__ __forceinline__ void qs_product_step(float (*c)[4], const uint32_t left[4], qs_tile<T, HD> right, int row, int k)
{
#pragma unroll
    for (int n = 0; n < COLUMNS; n += 16) {
        uint32_t b[4];
        qs_load_b(b, right, row + n, k);
        qs_mma(c[n / 8], left, b, T());
        qs_mma(c[n / 8 + 1], left, b + 2, T());
    }
}

/* c = A B', along HD. */
template <class T, int HD, int COLUMNS, bool HELD>
static __device__ __forceinline__ void qs_product(float (*c)[4], const qs_rows16<T, HD, HELD> &a, qs_tile<T, HD> b, int row)
{
#pragma unroll
    for (int k = 0; k < HD; k += 16) {
        uint32_t left[4];
        a.get(left, k);
        qs_product_step<T, HD, COLUMNS>(c, left, b, row, k);
    }
}

/* Two of them in turn, so that no multiplication waits for the one before it. */
template <class T, int HD, int COLUMNS, bool HELD>
static __device__ __forceinline__ void qs_products(float (*c)[4], const qs_rows16<T, HD, HELD> &a, qs_tile<T, HD> b, float (*c2)[4],
                                                   const qs_rows16<T, HD, HELD> &a2, qs_tile<T, HD> b2, int row)
{
#pragma unroll
    for (int k = 0; k < HD; k += 16) {
        uint32_t left[4], left2[4];
        a.get(left, k);
        a2.get(left2, k);
        qs_product_step<T, HD, COLUMNS>(c, left, b, row, k);
        qs_product_step<T, HD, COLUMNS>(c2, left2, b2, row, k);
    }
}

/* out[WIDTH / 8 tiles] += P rows: P is 16 x DEPTH in accumulators, rounded to T here; of the tile `rows`, DEPTH rows from `row` on and columns
 * [column, column + WIDTH) are taken. */
template <class T, int HD, int DEPTH, int WIDTH>
static __device__ __forceinline__ void qs_product_rows(float (*out)[4], const float (*p)[4], qs_tile<T, HD> rows, int row, int column)
{
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        const float *low = p[k / 8], *high = p[k / 8 + 1];
        uint32_t left[4] = {qs_pair(low[0], low[1], T()), qs_pair(low[2], low[3], T()), qs_pair(high[0], high[1], T()), qs_pair(high[2], high[3], T())};
#pragma unroll
        for (int n = 0; n < WIDTH; n += 16) {
            uint32_t right[4];
            qs_load_b_rows(right, rows, row + k, column + n);
            qs_mma(out[n / 8], left, right, T());
            qs_mma(out[n / 8 + 1], left, right + 2, T());
        }
    }
}

/* Scores of 16 queries with TILES * 8 keys from `key` on: hides what a query must not see. `first`, `query`: of this lane's two rows, the first key and, of the upper one, the
 * number. */
template <int TILES> static __device__ __forceinline__ void qs_mask_scores(float (*s)[4], int key, const int first[2], int query)
{
    int member = threadIdx.x % 4;
#pragma unroll
    for (int n = 0; n < TILES; n++)
#pragma unroll
        for (int e = 0; e < 4; e++) {
            int j = key + 8 * n + 2 * member + e % 2, half = e / 2;
            bool hidden = (j < first[half]) | (j > query + 8 * half);
            s[n][e] = hidden ? -INFINITY : s[n][e];
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
