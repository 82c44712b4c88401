/* common.cuh - what the files of the CUDA backend share: the device behind a qs_device, launches, error
 * notes.
 *
 * Each file here has the same shape: kernels first, then the entry functions that ops_cuda.cu puts in the
 * table. Nothing here includes a CUDA header that the simulator (tests/cudasim) does not stand in for, and
 * kernels are started with QS_LAUNCH only, so the same sources build with nvcc and with the host compiler.
 *
 * Floating point: files are built without fused multiply-add contraction and without fast-math, so an
 * expression rounds as it does on the CPU; where a fused step is wanted it is written fmaf().
 */
#ifndef QS_KERNELS_CUDA_COMMON_CUH
#define QS_KERNELS_CUDA_COMMON_CUH

#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <cuda_runtime.h>

#define _Noreturn __attribute__((noreturn)) /* the C keyword in base/error.h */
extern "C" {
#include "kernels/cuda/ops_cuda.h"
#include "kernels/ops.h"
#include "src/base/random.h"
}

/* The dynamic 8-bit maps of kernels/quant.h in device memory. */
typedef struct qs_cuda_maps {
    float value_signed[256], value_unsigned[256], above_signed[255], above_unsigned[255];
} qs_cuda_maps;

typedef struct qs_cuda_device {
    qs_device base;
    int ordinal;
    int card_arch; /* the card's compute capability, 10 * major + minor: 80 for sm_80 */
    int code_arch; /* what the program's code that runs there was compiled for; at most card_arch */
    cudaStream_t streams[QS_QUEUE_COUNT];
    cublasHandle_t blas;
    void *blas_workspace;  /* device memory, QS_CUDA_BLAS_WORKSPACE_BYTES */
    double *partials;      /* device memory, QS_CUDA_PARTIALS doubles: first stage of a two-stage sum */
    qs_cuda_maps *maps;    /* device memory */
    void *nvml_device;     /* or NULL: the driver is asked instead */
    uint64_t taken_before; /* device memory that other processes held before this one had a context */
    uint64_t used_peak_bytes;
    qs_err first; /* the first failure of queued work; code 0: none */
} qs_cuda_device;

enum { QS_CUDA_BLAS_WORKSPACE_BYTES = 32 << 20, QS_CUDA_PARTIALS = 256 };

static inline qs_cuda_device *qs_cuda_of(qs_device *d) { return (qs_cuda_device *)d; }
static inline cudaStream_t qs_cuda_stream(qs_device *d) { return qs_cuda_of(d)->streams[QS_QUEUE_COMPUTE]; }

/* False after a failure: queued calls then do nothing. Makes the device current for the calling thread. */
bool qs_cuda_ready(qs_device *d);
/* Keeps the first failure of queued work; cudaSuccess is fine. */
void qs_cuda_note(qs_device *d, cudaError_t error, const char *what);
void qs_cuda_note_blas(qs_device *d, cublasStatus_t status, const char *what);

/* QS_LAUNCH(device, kernel, grid, block, dynamic shared bytes, arguments...): on the compute queue. A kernel
 * name with a comma in it goes into parentheses. */
#ifndef QS_CUDA_START /* the simulator brings its own */
#define QS_CUDA_START(kernel, grid, block, shared_bytes, stream, ...) \
    (kernel)<<<(grid), (block), (shared_bytes), (stream)>>>(__VA_ARGS__)
#define QS_DYNAMIC_SHARED(name) extern __shared__ __align__(1024) unsigned char name[]
#endif
#define QS_LAUNCH(d, kernel, grid, block, shared_bytes, ...)                              \
    do {                                                                                  \
        if (!qs_cuda_ready(d)) break;                                                     \
        QS_CUDA_START(kernel, grid, block, shared_bytes, qs_cuda_stream(d), __VA_ARGS__); \
        qs_cuda_note(d, cudaGetLastError(), #kernel);                                     \
    } while (0)

/* Launches a kernel that may need more than the default 48 KiB of shared memory. */
#define QS_LAUNCH_LARGE(d, kernel, grid, block, shared_bytes, ...)                                          \
    do {                                                                                                    \
        if (!qs_cuda_ready(d)) break;                                                                       \
        qs_cuda_note(                                                                                       \
            d,                                                                                              \
            cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, (int)(shared_bytes)), \
            "cudaFuncSetAttribute");                                                                        \
        QS_LAUNCH(d, kernel, grid, block, shared_bytes, __VA_ARGS__);                                       \
    } while (0)

/* Blocks of `threads` that cover n elements. */
static inline unsigned qs_cuda_blocks(int64_t n, int64_t threads)
{
    return (unsigned)((n + threads - 1) / threads);
}

/* Threads of a block for n pieces of work: whole warps, `most` at the most. Depends on shapes alone, as the
 * order of sums must. */
static inline unsigned qs_cuda_threads(int64_t n, int64_t most)
{
    return (unsigned)(n >= most ? most : (n + 31) / 32 * 32);
}

/* ---- elements: storage types to fp32 and back, one rounding ------------------------------------------ */

static __device__ __forceinline__ float qs_get(float v) { return v; }
static __device__ __forceinline__ float qs_get(__nv_bfloat16 v) { return __bfloat162float(v); }
static __device__ __forceinline__ float qs_get(__half v) { return __half2float(v); }

static __device__ __forceinline__ void qs_put(float *p, float v) { *p = v; }
static __device__ __forceinline__ void qs_put(__nv_bfloat16 *p, float v) { *p = __float2bfloat16_rn(v); }
static __device__ __forceinline__ void qs_put(__half *p, float v) { *p = __float2half_rn(v); }

/* Rounds v to T and back. */
template <class T> static __device__ __forceinline__ float qs_rounded(float v)
{
    T t;
    qs_put(&t, v);
    return qs_get(t);
}

/* N neighbours, moved as one access of up to 16 bytes. */
template <class T, int N> struct __align__(sizeof(T) * N) qs_pack { T v[N]; };

/* Element i of an array whose type is known at run time only. */
static __device__ __forceinline__ float qs_get_as(const void *p, qs_dtype type, int64_t i)
{
    if (type == QS_F32) return ((const float *)p)[i];
    return type == QS_BF16 ? qs_get(((const __nv_bfloat16 *)p)[i]) : qs_get(((const __half *)p)[i]);
}

/* Runs the statement with T bound to the element type. */
#define QS_BY_TYPE(type, ...)          \
    do {                               \
        if ((type) == QS_BF16) {       \
            typedef __nv_bfloat16 T;   \
            __VA_ARGS__;               \
        } else if ((type) == QS_F16) { \
            typedef __half T;          \
            __VA_ARGS__;               \
        } else {                       \
            typedef float T;           \
            __VA_ARGS__;               \
        }                              \
    } while (0)

/* A matrix as kernels see it. */
template <class T> struct qs_view {
    T *data;
    int64_t stride;
    __device__ __forceinline__ T *row(int64_t i) const { return data + i * stride; }
};
template <class T> static inline qs_view<T> qs_view_of(qs_mat m) { return {(T *)m.data, m.stride}; }

/* Whether rows of m can be moved `count` elements at a time: aligned start, aligned stride, whole rows. */
static inline bool qs_cuda_packs(const qs_mat *m, int64_t count)
{
    size_t bytes = (size_t)count * qs_dtype_bytes(m->type);
    return (uintptr_t)m->data % bytes == 0 && m->stride % count == 0 && m->cols % count == 0;
}

#endif
