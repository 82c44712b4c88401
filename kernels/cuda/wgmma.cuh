/* wgmma.cuh - the matrix instructions of sm_90a: a warpgroup (four warps) multiplies 64 rows at a time,
 * reading its right operand, and the left one where it is not in registers, from shared memory while the
 * warps go on.
 *
 * Registers are laid out as for mma.m16n8k16 (mma.cuh), warp w having rows [16 w, 16 w + 16): c[n / 8
 * tiles][4], and a[4] per 16 values of k.
 *
 * In shared memory a matrix is cut into panels of 64 columns, 128 bytes; a panel's rows follow one another,
 * and eight of them, 1024 bytes, are one swizzled block (PTX ISA, "Strides" and "Matrix descriptor" of wgmma;
 * 128-byte mode: bits 4..6 of an address are exclusive-or bits 7..9). That is qs_tile's own order for 64
 * columns.
 *
 * Order: what cp.async or a store wrote is seen after qs_wgmma_see() by the writing thread and a barrier;
 * registers that other instructions wrote after qs_wgmma_begin(). Products of one qs_wgmma_commit() are a
 * group; accumulators, operands in registers and in shared memory stay untouched until a qs_wgmma_wait() for
 * their group. It is given the accumulators that are read behind it, for the compiler knows no other reason
 * not to read them before.
 */
#ifndef QS_KERNELS_CUDA_WGMMA_CUH
#define QS_KERNELS_CUDA_WGMMA_CUH

#include "kernels/cuda/mma.cuh"

/* The right operand has N columns. */
template <int N> struct qs_columns {
};

#ifndef QS_CUDASIM

static __device__ __forceinline__ void qs_wgmma_see(void)
{
    asm volatile("fence.proxy.async.shared::cta;\n" ::: "memory");
}
static __device__ __forceinline__ void qs_wgmma_begin(void)
{
    asm volatile("wgmma.fence.sync.aligned;\n" ::: "memory");
}
static __device__ __forceinline__ void qs_wgmma_commit(void)
{
    asm volatile("wgmma.commit_group.sync.aligned;\n" ::: "memory");
}
template <int TILES> static __device__ __forceinline__ void qs_wgmma_settled(float (&c)[TILES][4])
{
#pragma unroll
    for (int n = 0; n < TILES; n++)
        asm volatile("" : "+f"(c[n][0]), "+f"(c[n][1]), "+f"(c[n][2]), "+f"(c[n][3])::"memory");
}
template <int GROUPS_LEFT, int... TILES>
static __device__ __forceinline__ void qs_wgmma_wait(float (&...c)[TILES][4])
{
    asm volatile("wgmma.wait_group.sync.aligned %0;\n" ::"n"(GROUPS_LEFT) : "memory");
    (qs_wgmma_settled(c), ...);
}

/* Everything these values are made from is computed before the next wait. Without it ptxas moves the wait up,
 * over arithmetic that was meant to overlap with the products, for it knows no order between the two; but it
 * keeps volatile loads before a wait, and this one's address depends on the values. `word`: two words of
 * shared memory that may be read. */
template <int TILES>
static __device__ __forceinline__ void qs_wgmma_before_wait(qs_shared word, const float (&c)[TILES][4])
{
    uint32_t signs = 0, unused;
#pragma unroll
    for (int n = 0; n < TILES; n++)
        signs |= __float_as_uint(c[n][0]) | __float_as_uint(c[n][1]) | __float_as_uint(c[n][2]) |
                 __float_as_uint(c[n][3]);
    asm volatile("ld.volatile.shared.u32 %0, [%1];\n"
                 : "=r"(unused)
                 : "r"(word + (signs >> 31) * 4)
                 : "memory");
}

#define QS_ACC4(c, i) "+f"((c)[i][0]), "+f"((c)[i][1]), "+f"((c)[i][2]), "+f"((c)[i][3])
#define QS_ACC16(c, i) QS_ACC4(c, i), QS_ACC4(c, i + 1), QS_ACC4(c, i + 2), QS_ACC4(c, i + 3)
#define QS_ACC_64(c) QS_ACC16(c, 0), QS_ACC16(c, 4)
#define QS_ACC_128(c) QS_ACC_64(c), QS_ACC16(c, 8), QS_ACC16(c, 12)
#define QS_LIST_32                                                                                           \
    "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27," \
    "%28,%29,%30,%31"
#define QS_LIST_64                                                                                          \
    QS_LIST_32 ",%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%" \
               "54,%55,%56,%57,%58,%59,%60,%61,%62,%63"

/* c = [c +] a b': qs_wgmma has both operands along k in shared memory, qs_wgmma_held has a in registers and
 * b's rows are k. The numbers are those of the operands behind the accumulators. */
#define QS_WGMMA(T, type, n, list, o0, o1, o2, o3, o4, o5)                                               \
    static __device__ __forceinline__ void qs_wgmma(float(*c)[4], uint64_t a, uint64_t b, bool add, T,   \
                                                    qs_columns<n>)                                       \
    {                                                                                                    \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " o2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n \
                     "k16.f32." type "." type " {" list "}, " o0 ", " o1 ", p, 1, 1, 0, 0;\n}\n"         \
                     : QS_ACC_##n(c)                                                                     \
                     : "l"(a), "l"(b), "r"((int)add));                                                   \
    }                                                                                                    \
    static __device__ __forceinline__ void qs_wgmma_held(float(*c)[4], const uint32_t a[4], uint64_t b,  \
                                                         bool add, T, qs_columns<n>)                     \
    {                                                                                                    \
        asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, " o5 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #n \
                     "k16.f32." type "." type " {" list "}, {" o0 "," o1 "," o2 "," o3 "}, " o4          \
                     ", p, 1, 1, 1;\n}\n"                                                                \
                     : QS_ACC_##n(c)                                                                     \
                     : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"((int)add));               \
    }
QS_WGMMA(__nv_bfloat16, "bf16", 64, QS_LIST_32, "%32", "%33", "%34", "%35", "%36", "%37")
QS_WGMMA(__nv_bfloat16, "bf16", 128, QS_LIST_64, "%64", "%65", "%66", "%67", "%68", "%69")
QS_WGMMA(__half, "f16", 64, QS_LIST_32, "%32", "%33", "%34", "%35", "%36", "%37")
QS_WGMMA(__half, "f16", 128, QS_LIST_64, "%64", "%65", "%66", "%67", "%68", "%69")

static __device__ __forceinline__ uint64_t qs_shared_number(qs_shared at) { return at; }

#else /* the simulator executes them */

static inline void qs_wgmma_see(void) { cudasim_proxy_fence(); }
static inline void qs_wgmma_begin(void) {}
static inline void qs_wgmma_commit(void) { cudasim_wgmma_commit(); }
template <int GROUPS_LEFT, int... TILES> static inline void qs_wgmma_wait(float (&...c)[TILES][4])
{
    cudasim_wgmma_wait(GROUPS_LEFT);
}
template <int TILES> static inline void qs_wgmma_before_wait(qs_shared word, const float (&c)[TILES][4]) {}
static inline float (*qs_widening(__nv_bfloat16))(uint16_t) { return qs_f32_of_bf16; }
static inline float (*qs_widening(__half))(uint16_t) { return qs_f32_of_f16; }
template <class T, int N>
static inline void qs_wgmma(float (*c)[4], uint64_t a, uint64_t b, bool add, T t, qs_columns<N>)
{
    cudasim_wgmma(c, N, NULL, a, b, add, qs_widening(t));
}
template <class T, int N>
static inline void qs_wgmma_held(float (*c)[4], const uint32_t a[4], uint64_t b, bool add, T t, qs_columns<N>)
{
    cudasim_wgmma(c, N, a, 0, b, add, qs_widening(t));
}
static inline uint64_t qs_shared_number(qs_shared at) { return at - qs_shared_of(cudasim_dynamic_shared()); }

#endif

/* ROWS rows of COLS elements in shared memory, in panels; `at` is a multiple of 1024. */
template <class T, int ROWS, int COLS> struct qs_panels {
    enum { PANEL = ROWS * 128, BYTES = COLS / 64 * PANEL };
    qs_shared at;

    /* Rows [row, ..) and columns [k, k + 16), for a product along the columns. row: a multiple of 8. */
    __device__ __forceinline__ uint64_t along(int row, int k) const
    {
        return descriptor(at + k / 64 * PANEL + row * 128 + k % 64 * 2, 16);
    }

    /* Rows [k, k + 16) and all columns, for a product along the rows. */
    __device__ __forceinline__ uint64_t across(int k) const { return descriptor(at + k * 128, PANEL); }

  private:
    /* In units of 16 bytes: where it begins, from panel to panel, from eight rows to the next eight; then the
     * mode. */
    static __device__ __forceinline__ uint64_t descriptor(qs_shared begin, uint32_t panel)
    {
        return (qs_shared_number(begin) & 0x3ffff) >> 4 | (uint64_t)(panel >> 4) << 16 |
               (uint64_t)(1024 >> 4) << 32 | (uint64_t)1 << 62;
    }
};

/* Starts the copy of rows [first, first + ROWS) of a head, as qs_tile_load does. */
template <int THREADS, class T, int ROWS, int COLS>
static __device__ __forceinline__ void qs_panels_load(qs_panels<T, ROWS, COLS> to, const T *source,
                                                      int64_t stride, int first, int limit)
{
#pragma unroll
    for (int c = 0; c < COLS; c += 64)
        qs_tile_load<ROWS, THREADS>(qs_tile<T, 64>{to.at + c / 64 * qs_panels<T, ROWS, COLS>::PANEL},
                                    source + c, stride, first, limit);
}

/* c[N / 8 tiles] = 64 rows of a, from `row` on, times all N rows of b transposed: one group. */
template <class T, int ROWS, int N, int COLS>
static __device__ __forceinline__ void qs_wgmma_product(float (*c)[4], qs_panels<T, ROWS, COLS> a, int row,
                                                        qs_panels<T, N, COLS> b)
{
#pragma unroll
    for (int k = 0; k < COLS; k += 16)
        qs_wgmma(c, a.along(row, k), b.along(0, k), k > 0, T(), qs_columns<N>());
    qs_wgmma_commit();
}

/* c[N / 8 tiles] += p b, p being 64 x DEPTH in registers: one group. */
template <class T, int DEPTH, int N>
static __device__ __forceinline__ void qs_wgmma_product_held(float (*c)[4], const uint32_t (*p)[4],
                                                             qs_panels<T, DEPTH, N> b)
{
#pragma unroll
    for (int k = 0; k < DEPTH; k += 16) qs_wgmma_held(c, p[k / 16], b.across(k), true, T(), qs_columns<N>());
    qs_wgmma_commit();
}

#endif
