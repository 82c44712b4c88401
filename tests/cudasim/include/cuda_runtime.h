/* cuda_runtime.h - the part of the CUDA runtime that kernels/cuda uses, as the simulator gives it (see
 * ../cudasim.h). Names, values and meanings are the toolkit's; only what is used is here, so a new use fails
 * to compile until simulated. */
#ifndef CUDASIM_CUDA_RUNTIME_H
#define CUDASIM_CUDA_RUNTIME_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <tuple>
#include <functional>

#ifndef CUDART_VERSION
#define CUDART_VERSION 13000
#endif

/* ---- language ---------------------------------------------------------------------------------------- */

#define __global__
#define __device__
#define __host__
#define __constant__ const
#define __shared__ static /* one block runs at a time */
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))

struct dim3 {
    unsigned x, y, z;
    constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct uint2 {
    uint32_t x, y;
} __align__(8);
struct uint4 {
    uint32_t x, y, z, w;
} __align__(16);
struct float2 {
    float x, y;
} __align__(8);
struct float4 {
    float x, y, z, w;
} __align__(16);
static inline uint2 make_uint2(uint32_t x, uint32_t y) { return {x, y}; }
static inline uint4 make_uint4(uint32_t x, uint32_t y, uint32_t z, uint32_t w) { return {x, y, z, w}; }
static inline float2 make_float2(float x, float y) { return {x, y}; }

/* The running thread. */
struct cudasim_thread {
    dim3 index;
    unsigned lane;
};
extern cudasim_thread *cudasim_current;
extern dim3 cudasim_block_index, cudasim_block_dim, cudasim_grid_dim;
#define threadIdx (cudasim_current->index)
#define blockIdx cudasim_block_index
#define blockDim cudasim_block_dim
#define gridDim cudasim_grid_dim

/* ---- host side --------------------------------------------------------------------------------------- */

typedef enum cudaError {
    cudaSuccess = 0,
    cudaErrorInvalidValue = 1,
    cudaErrorMemoryAllocation = 2,
    cudaErrorNoDevice = 100,
    cudaErrorInvalidDevice = 101,
    cudaErrorNoKernelImageForDevice = 209,
    cudaErrorInvalidResourceHandle = 400,
    cudaErrorNotReady = 600,
    cudaErrorHostMemoryAlreadyRegistered = 712,
    cudaErrorHostMemoryNotRegistered = 713,
    cudaErrorNotSupported = 801
} cudaError_t;

typedef struct cudasim_stream *cudaStream_t;
typedef struct cudasim_event *cudaEvent_t;

enum cudaMemcpyKind { cudaMemcpyHostToDevice = 1, cudaMemcpyDeviceToHost = 2 };
enum { cudaEventDisableTiming = 2, cudaEventBlockingSync = 1, cudaStreamNonBlocking = 1 };
enum {
    cudaHostRegisterDefault = 0,
    cudaMemAttachGlobal = 1,
    cudaDeviceScheduleBlockingSync = 4,
    cudaInitDeviceFlagsAreValid = 1,
    cudaCpuDeviceId = -1
};
enum cudaDeviceAttr {
    cudaDevAttrMultiProcessorCount = 16,
    cudaDevAttrComputeCapabilityMajor = 75,
    cudaDevAttrComputeCapabilityMinor = 76,
    cudaDevAttrConcurrentManagedAccess = 89
};
enum cudaMemoryAdvise { cudaMemAdviseSetPreferredLocation = 3, cudaMemAdviseSetAccessedBy = 5 };
enum cudaFuncAttribute { cudaFuncAttributeMaxDynamicSharedMemorySize = 8 };
enum cudaMemLocationType {
    cudaMemLocationTypeInvalid = 0,
    cudaMemLocationTypeDevice = 1,
    cudaMemLocationTypeHost = 2
};
struct cudaMemLocation {
    cudaMemLocationType type;
    int id;
};
struct cudaDeviceProp {
    char name[256];
    size_t totalGlobalMem;
    int major, minor, multiProcessorCount;
};

extern "C" {
cudaError_t cudaGetDeviceCount(int *count);
cudaError_t cudaSetDevice(int device);
cudaError_t cudaInitDevice(int device, unsigned device_flags, unsigned flags);
cudaError_t cudaDeviceGetAttribute(int *value, cudaDeviceAttr attribute, int device);
cudaError_t cudaGetDeviceProperties(cudaDeviceProp *properties, int device);
cudaError_t cudaDeviceGetPCIBusId(char *id, int bytes, int device);
cudaError_t cudaDeviceSynchronize(void);
cudaError_t cudaGetLastError(void);
const char *cudaGetErrorString(cudaError_t error);
cudaError_t cudaMalloc(void **out, size_t bytes);
cudaError_t cudaFree(void *p);
cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes);
cudaError_t cudaMallocManaged(void **out, size_t bytes, unsigned flags);
cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned flags);
cudaError_t cudaHostUnregister(void *p);
cudaError_t cudaMemcpyAsync(void *dst, const void *src, size_t bytes, cudaMemcpyKind kind,
                            cudaStream_t stream);
cudaError_t cudaMemsetAsync(void *p, int byte, size_t bytes, cudaStream_t stream);
cudaError_t cudaStreamCreateWithFlags(cudaStream_t *out, unsigned flags);
cudaError_t cudaStreamDestroy(cudaStream_t stream);
cudaError_t cudaStreamSynchronize(cudaStream_t stream);
cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags);
cudaError_t cudaEventCreateWithFlags(cudaEvent_t *out, unsigned flags);
cudaError_t cudaEventDestroy(cudaEvent_t event);
cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream);
cudaError_t cudaEventQuery(cudaEvent_t event);
cudaError_t cudaEventSynchronize(cudaEvent_t event);
}
#if CUDART_VERSION >= 13000
cudaError_t cudaMemAdvise(const void *p, size_t bytes, cudaMemoryAdvise advice, cudaMemLocation location);
cudaError_t cudaMemPrefetchAsync(const void *p, size_t bytes, cudaMemLocation location, unsigned flags,
                                 cudaStream_t stream);
#else
cudaError_t cudaMemAdvise(const void *p, size_t bytes, cudaMemoryAdvise advice, int device);
cudaError_t cudaMemPrefetchAsync(const void *p, size_t bytes, int device, cudaStream_t stream);
#endif

cudaError_t cudasim_set_shared_limit(const void *kernel, int bytes);
template <class... P> cudaError_t cudaFuncSetAttribute(void (*kernel)(P...), cudaFuncAttribute, int bytes)
{
    return cudasim_set_shared_limit((const void *)kernel, bytes);
}

/* Queues a launch: QS_LAUNCH of kernels/cuda/common.cuh comes here. */
void cudasim_launch(const char *name, const void *kernel, dim3 grid, dim3 block, size_t shared_bytes,
                    cudaStream_t stream, size_t argument_bytes, std::function<void()> body);

/* Aborts when an aligned word of the argument is the address of host memory. Numbers are not looked at. */
void cudasim_check_words(const char *kernel, const void *argument, size_t bytes);
template <class A> void cudasim_check_argument(const char *kernel, A a)
{
    bool look = std::is_pointer<A>::value;
#if __has_builtin(__builtin_clear_padding) /* what is left in the gaps of a structure can look like anything \
                                            */
    __builtin_clear_padding(&a);
    look = look || std::is_class<A>::value;
#endif
    if (look) cudasim_check_words(kernel, &a, sizeof a);
}

template <class... P, class... A>
void cudasim_start(const char *name, dim3 grid, dim3 block, size_t shared_bytes, cudaStream_t stream,
                   void (*kernel)(P...), A... a)
{
    (cudasim_check_argument(name, a), ...);
    std::tuple<P...> arguments(static_cast<P>(a)...);
    cudasim_launch(name, (const void *)kernel, grid, block, shared_bytes, stream, sizeof arguments,
                   [kernel, arguments] { std::apply(kernel, arguments); });
}
#define QS_CUDA_START(kernel, grid, block, shared_bytes, stream, ...) \
    cudasim_start(#kernel, grid, block, shared_bytes, stream, kernel, __VA_ARGS__)

/* What the code was compiled for, as __CUDA_ARCH__ / 10 says in device code. */
int cudasim_code_arch(void);

unsigned char *cudasim_dynamic_shared(void);
#define QS_DYNAMIC_SHARED(name) unsigned char *name = cudasim_dynamic_shared()

/* ---- device side ------------------------------------------------------------------------------------- */

/* Every lane of `mask` gives one argument block; when the last has come, `act` sees them all (NULL for lanes
 * outside). */
typedef void cudasim_warp_act(void **lanes, unsigned count);
void cudasim_warp_collective(unsigned mask, const char *what, cudasim_warp_act *act, void *argument);
void cudasim_barrier(void);

static inline void __syncthreads() { cudasim_barrier(); }
void __syncwarp(unsigned mask = 0xffffffffu);

struct cudasim_exchange {
    uint64_t value, result;
    int source; /* lane to read */
};
void cudasim_exchange_act(void **lanes, unsigned count);

template <class T> static inline T cudasim_shuffle(unsigned mask, T value, int source, const char *what)
{
    static_assert(sizeof(T) <= 8, "shuffles move up to 8 bytes");
    cudasim_exchange x = {0, 0, source};
    memcpy(&x.value, &value, sizeof value);
    cudasim_warp_collective(mask, what, cudasim_exchange_act, &x);
    memcpy(&value, &x.result, sizeof value);
    return value;
}
template <class T> static inline T __shfl_sync(unsigned mask, T value, int lane, int width = 32)
{
    int self = (int)cudasim_current->lane;
    return cudasim_shuffle(mask, value, (self & ~(width - 1)) | (lane & (width - 1)), "__shfl_sync");
}
template <class T> static inline T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32)
{
    int self = (int)cudasim_current->lane, from = self ^ lanes;
    return cudasim_shuffle(mask, value, (from & ~(width - 1)) == (self & ~(width - 1)) ? from : self,
                           "__shfl_xor_sync");
}

static inline int atomicOr(int *p, int v)
{
    int old = *p;
    *p |= v;
    return old;
}

template <class T> static inline T __ldg(const T *p) { return *p; }

static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline float __frcp_rn(float a) { return 1.0f / a; }
static inline float __fsqrt_rn(float a) { return sqrtf(a); }
static inline float rsqrtf(float a) { return (float)(1.0 / sqrt((double)a)); }
static inline uint32_t __float_as_uint(float f)
{
    uint32_t u;
    memcpy(&u, &f, 4);
    return u;
}
static inline float __uint_as_float(uint32_t u)
{
    float f;
    memcpy(&f, &u, 4);
    return f;
}
static inline uint64_t __double_as_longlong(double f)
{
    uint64_t u;
    memcpy(&u, &f, 8);
    return u;
}
template <class T> static inline T cudasim_min(T a, T b) { return b < a ? b : a; }
template <class T> static inline T cudasim_max(T a, T b) { return a < b ? b : a; }
static inline int min(int a, int b) { return cudasim_min(a, b); }
static inline int max(int a, int b) { return cudasim_max(a, b); }
static inline int64_t min(int64_t a, int64_t b) { return cudasim_min(a, b); }
static inline int64_t max(int64_t a, int64_t b) { return cudasim_max(a, b); }
static inline int __ffs(int v) { return __builtin_ffs(v); }

/* The wrappers of kernels/cuda/mma.cuh. Register layouts are those of the PTX manual for m16n8k16 and
 * ldmatrix. */
void cudasim_mma_16816(float c[4], const uint32_t a[4], const uint32_t b[2], float (*widen)(uint16_t));
void cudasim_ldmatrix_x4(uint32_t r[4], const void *row, bool transpose);
void cudasim_cp_async(void *shared, const void *global, size_t bytes, bool valid);
void cudasim_cp_async_commit(void);
void cudasim_cp_async_wait(int groups_left);

/* The wrappers of kernels/cuda/wgmma.cuh: the left operand is a, or a matrix in shared memory where that is
 * NULL. */
void cudasim_wgmma(float (*c)[4], int columns, const uint32_t *a, uint64_t a_matrix, uint64_t b_matrix,
                   bool add, float (*widen)(uint16_t));
void cudasim_wgmma_commit(void);
void cudasim_wgmma_wait(int groups_left);
void cudasim_proxy_fence(void); /* what this thread's cp.async brought is seen by wgmma */

#endif
