/* mma.cuh - the instructions of sm_80 that the attention kernels are made of, and the layout of their
 * operands.
 *
 * mma.m16n8k16 multiplies a 16x16 tile A by a 16x8 tile B into a 16x8 tile C of fp32. Of each, a lane (4 *
 * group + member) holds: A  a[0]: row group, k 2*member..+1    a[1]: row group + 8    a[2]: row group, k + 8
 * a[3]: row group + 8, k + 8 B  b[0]: k 2*member..+1, column group    b[1]: k + 8 C  c[0..1]: row group,
 * columns 2*member..+1    c[2..3]: row group + 8 So two neighbouring C tiles, rounded to 16 bits, are an A
 * tile: scores become an operand without leaving the registers.
 *
 * Shared tiles are rows of COLS 16-bit elements in chunks of 16 bytes. Chunk c of row r is stored at chunk c
 * ^ (r >> shift & mask): eight rows of one chunk column, which is what ldmatrix reads at once, then lie in
 * eight different groups of four banks. A row of 64, 128 or 256 elements starts where its predecessor did
 * (mask 7); one of 96 is 16 banks on (two rows differ already: shift 1, mask 3), one of 80 is 8 banks on
 * (four rows differ: shift 2, mask 1).
 *
 * An address within a tile is what depends on the lane, exclusive-or a constant (the chunk's part that is
 * exchanged), plus a constant (rows, and the chunk's other part). So a kernel keeps one register per pattern
 * of lanes, not one per operand.
 */
#ifndef QS_KERNELS_CUDA_MMA_CUH
#define QS_KERNELS_CUDA_MMA_CUH

#include "kernels/cuda/common.cuh"

#ifndef QS_CUDASIM

/* An address in shared memory. */
typedef uint32_t qs_shared;
static __device__ __forceinline__ qs_shared qs_shared_of(const void *p)
{
    return (uint32_t)__cvta_generic_to_shared(p);
}

static __device__ __forceinline__ void qs_mma(float c[4], const uint32_t a[4], const uint32_t b[2],
                                              __nv_bfloat16)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}
static __device__ __forceinline__ void qs_mma(float c[4], const uint32_t a[4], const uint32_t b[2], __half)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};\n"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/* Four 8x8 matrices of 16-bit elements: lane l gives the address of row l % 8 of matrix l / 8, r[i] receives
 * this lane's two elements of matrix i (row group, columns 2*member..+1; transposed: column group, rows
 * 2*member..+1). */
static __device__ __forceinline__ void qs_ldmatrix(uint32_t r[4], qs_shared row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}
static __device__ __forceinline__ void qs_ldmatrix_transposed(uint32_t r[4], qs_shared row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];\n"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(row)
                 : "memory");
}

/* 16 bytes from global to shared memory behind the program's back, zeros where !valid; they are there for
 * this thread after a wait for their group, and for the others after a barrier behind it. */
static __device__ __forceinline__ void qs_copy_async(qs_shared shared, const void *global, bool valid)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;\n" ::"r"(shared), "l"(global),
                 "r"(valid ? 16 : 0)
                 : "memory");
}
/* The same for four bytes. */
static __device__ __forceinline__ void qs_copy_async_4(qs_shared shared, const void *global, bool valid)
{
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;\n" ::"r"(shared), "l"(global),
                 "r"(valid ? 4 : 0)
                 : "memory");
}
static __device__ __forceinline__ void qs_copy_commit(void)
{
    asm volatile("cp.async.commit_group;\n" ::: "memory");
}
template <int GROUPS_LEFT> static __device__ __forceinline__ void qs_copy_wait(void)
{
    asm volatile("cp.async.wait_group %0;\n" ::"n"(GROUPS_LEFT) : "memory");
}

/* 2^x; what would be denormal is 0. */
static __device__ __forceinline__ float qs_exp2(float x)
{
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;\n" : "=f"(y) : "f"(x));
    return y;
}

#else /* the simulator executes them */

typedef uintptr_t qs_shared;
static inline qs_shared qs_shared_of(const void *p) { return (uintptr_t)p; }
static inline void qs_mma(float c[4], const uint32_t a[4], const uint32_t b[2], __nv_bfloat16)
{
    cudasim_mma_16816(c, a, b, qs_f32_of_bf16);
}
static inline void qs_mma(float c[4], const uint32_t a[4], const uint32_t b[2], __half)
{
    cudasim_mma_16816(c, a, b, qs_f32_of_f16);
}
static inline void qs_ldmatrix(uint32_t r[4], qs_shared row)
{
    cudasim_ldmatrix_x4(r, (const void *)row, false);
}
static inline void qs_ldmatrix_transposed(uint32_t r[4], qs_shared row)
{
    cudasim_ldmatrix_x4(r, (const void *)row, true);
}
static inline void qs_copy_async(qs_shared shared, const void *global, bool valid)
{
    cudasim_cp_async((void *)shared, global, 16, valid);
}
static inline void qs_copy_async_4(qs_shared shared, const void *global, bool valid)
{
    cudasim_cp_async((void *)shared, global, 4, valid);
}
static inline void qs_copy_commit(void) { cudasim_cp_async_commit(); }
template <int GROUPS_LEFT> static inline void qs_copy_wait(void) { cudasim_cp_async_wait(GROUPS_LEFT); }
static inline float qs_exp2(float x) { return exp2f(x); }

#endif

/* Two values, rounded, as the halves of one register: `low` has the lower index. */
static __device__ __forceinline__ uint32_t qs_pair(float low, float high, __nv_bfloat16)
{
    __nv_bfloat162 v = __floats2bfloat162_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}
static __device__ __forceinline__ uint32_t qs_pair(float low, float high, __half)
{
    __half2 v = __floats2half2_rn(low, high);
    uint32_t bits;
    memcpy(&bits, &v, 4);
    return bits;
}

/* A tile of rows of COLS elements in shared memory, swizzled as above; `at` is a multiple of 128. */
template <class T, int COLS> struct qs_tile {
    enum {
        CHUNKS = COLS / 8,
        MASK = CHUNKS % 8 == 0   ? 7
               : CHUNKS % 4 == 0 ? 3
                                 : 1,
        SHIFT = MASK == 7   ? 0
                : MASK == 3 ? 1
                            : 2,
        EXCHANGED = 16 * MASK + 15
    };
    qs_shared at;

    __device__ __forceinline__ qs_shared chunk(int row, int c) const
    {
        return at + (row * CHUNKS + (c ^ (row >> SHIFT & MASK))) * 16;
    }

    /* chunk(lane_row + row, lane_chunk + column / 8), for lane_row < 16 and lane_chunk < 2 of this lane and
     * multiples of 16 that the compiler knows. */
    __device__ __forceinline__ qs_shared chunk_of_lane(int lane_row, int lane_chunk, int row,
                                                       int column) const
    {
        return (chunk(lane_row, lane_chunk) ^ (2 * column & EXCHANGED)) +
               (row * CHUNKS * 16 + (2 * column & ~EXCHANGED));
    }
};

/* Starts the copy of rows [first, first + ROWS) of a head, a row being COLS elements at source + row *
 * stride; rows from `limit` on become zeros. Called by all THREADS threads of the block. */
template <int ROWS, int THREADS, class T, int COLS>
static __device__ __forceinline__ void qs_tile_load(qs_tile<T, COLS> tile, const T *source, int64_t stride,
                                                    int first, int limit)
{
    const int chunks = qs_tile<T, COLS>::CHUNKS, steps = (ROWS * chunks + THREADS - 1) / THREADS;
    if constexpr (THREADS % chunks == 0) { /* a thread keeps its chunk column */
        const int down = THREADS / chunks;
        int row = (int)threadIdx.x / chunks, c = (int)threadIdx.x % chunks;
        const T *from = source + (int64_t)(first + row) * stride + c * 8; /* not read beyond the limit */
#pragma unroll
        for (int step = 0; step < steps; step++, from += down * stride)
            if (ROWS % down == 0 || row + step * down < ROWS)
                qs_copy_async(tile.chunk(row + step * down, c), from, first + row + step * down < limit);
    } else {
#pragma unroll
        for (int step = 0; step < steps; step++) {
            int i = step * THREADS + (int)threadIdx.x, row = i / chunks, c = i % chunks;
            if (ROWS * chunks % THREADS == 0 || i < ROWS * chunks)
                qs_copy_async(tile.chunk(row, c), source + (int64_t)(first + row) * stride + c * 8,
                              first + row < limit);
        }
    }
}

/* The A operand at (row, k) of a tile: 16 rows, 16 columns. */
template <class T, int COLS>
static __device__ __forceinline__ void qs_load_a(uint32_t a[4], qs_tile<T, COLS> tile, int row, int k)
{
    int lane = threadIdx.x % 32;
    qs_ldmatrix(a, tile.chunk_of_lane(lane % 16, lane / 16, row, k));
}

/* Two B operands from a tile whose rows are the columns of B (B = tile transposed): columns [row, row + 16),
 * 16 values of k. b[0..1] is for the first eight columns, b[2..3] for the others. */
template <class T, int COLS>
static __device__ __forceinline__ void qs_load_b(uint32_t b[4], qs_tile<T, COLS> tile, int row, int k)
{
    int lane = threadIdx.x % 32;
    qs_ldmatrix(b, tile.chunk_of_lane(lane % 8 + lane / 16 * 8, lane / 8 % 2, row, k));
}

/* Two B operands from a tile whose rows are k: 16 values of k, columns [column, column + 16). */
template <class T, int COLS>
static __device__ __forceinline__ void qs_load_b_rows(uint32_t b[4], qs_tile<T, COLS> tile, int k, int column)
{
    int lane = threadIdx.x % 32;
    qs_ldmatrix_transposed(b, tile.chunk_of_lane(lane % 16, lane / 16, k, column));
}

#endif
