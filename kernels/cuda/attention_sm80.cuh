/* attention_sm80.cuh - building blocks of the attention kernels on sm_80's tensor cores: products of tiles.
 */
#ifndef QS_KERNELS_CUDA_ATTENTION_SM80_CUH
#define QS_KERNELS_CUDA_ATTENTION_SM80_CUH

#include "kernels/cuda/attention_rows.cuh"

/* Device code of these kernels is empty below sm_80, where they are never started. */
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 800
#define QS_HAS_SM80 1
#else
#define QS_HAS_SM80 0
#endif

/* Sixteen rows of a tile, the left operand of products along HD: HELD in registers, which every later product
 * then has for nothing, or read from the tile each time. */
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
        if (HELD)
            memcpy(a, held[HELD ? k / 16 : 0], sizeof held[0]);
        else
            qs_load_a(a, tile, row, k);
    }
};

/* c[COLUMNS / 8 tiles] += the part of a product that 16 values of k make: `left` times rows [row, row +
 * COLUMNS) of the tile, transposed. */
template <class T, int HD, int COLUMNS>
static __device__ __forceinline__ void qs_product_step(float (*c)[4], const uint32_t left[4],
                                                       qs_tile<T, HD> right, int row, int k)
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
static __device__ __forceinline__ void qs_product(float (*c)[4], const qs_rows16<T, HD, HELD> &a,
                                                  qs_tile<T, HD> b, int row)
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
static __device__ __forceinline__ void
qs_products(float (*c)[4], const qs_rows16<T, HD, HELD> &a, qs_tile<T, HD> b, float (*c2)[4],
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

/* out[WIDTH / 8 tiles] += P rows: P is 16 x DEPTH in accumulators, rounded to T here; of the tile `rows`,
 * DEPTH rows from `row` on and columns [column, column + WIDTH) are taken. */
template <class T, int HD, int DEPTH, int WIDTH>
static __device__ __forceinline__ void qs_product_rows(float (*out)[4], const float (*p)[4],
                                                       qs_tile<T, HD> rows, int row, int column)
{
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) {
        uint32_t left[4];
        qs_operand_of<T>(left, p + k / 8);
#pragma unroll
        for (int n = 0; n < WIDTH; n += 16) {
            uint32_t right[4];
            qs_load_b_rows(right, rows, row + k, column + n);
            qs_mma(out[n / 8], left, right, T());
            qs_mma(out[n / 8 + 1], left, right + 2, T());
        }
    }
}

/* Calls launch<T, head size>(...) for a head size that attention.cu sends here. */
#define QS_BY_HEAD(type, head_dim, launch, ...)                                                 \
    do {                                                                                        \
        bool bf16_ = (type) == QS_BF16;                                                         \
        switch (head_dim) {                                                                     \
        case 64:                                                                                \
            bf16_ ? launch<__nv_bfloat16, 64>(__VA_ARGS__) : launch<__half, 64>(__VA_ARGS__);   \
            break;                                                                              \
        case 80:                                                                                \
            bf16_ ? launch<__nv_bfloat16, 80>(__VA_ARGS__) : launch<__half, 80>(__VA_ARGS__);   \
            break;                                                                              \
        case 96:                                                                                \
            bf16_ ? launch<__nv_bfloat16, 96>(__VA_ARGS__) : launch<__half, 96>(__VA_ARGS__);   \
            break;                                                                              \
        case 128:                                                                               \
            bf16_ ? launch<__nv_bfloat16, 128>(__VA_ARGS__) : launch<__half, 128>(__VA_ARGS__); \
            break;                                                                              \
        case 256:                                                                               \
            bf16_ ? launch<__nv_bfloat16, 256>(__VA_ARGS__) : launch<__half, 256>(__VA_ARGS__); \
            break;                                                                              \
        }                                                                                       \
    } while (0)

#endif
