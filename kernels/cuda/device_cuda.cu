/* device_cuda.cu - the CUDA device: memory, three streams, events, page-locked and managed memory, sticky
 * errors.
 *
 * Opening a device creates the context, cuBLAS with a workspace of its own (the library would otherwise
 * allocate one behind the budget's back), and runs one small product of each type so that what the libraries
 * load lazily is loaded; what the process holds then is info.overhead_bytes. Nothing is allocated afterwards
 * but what alloc is asked for.
 *
 * Failures of queued work are kept in qs_cuda_device.first; every later queued call returns at once, check()
 * reports it.
 */
#include <stdio.h>

#include "kernels/cuda/common.cuh"
#include "kernels/cuda/libraries.h"
extern "C" {
#include "kernels/quant.h"
#include "src/base/memory.h"
}

/* Kernels that a run meets later than open load their code then: reserved in overhead_bytes beside what was
 * measured. */
enum { LATE_MODULES_BYTES = 24 << 20 };

/* Assumed of the context where nothing can be asked before it exists. */
enum { CONTEXT_BYTES = 512 << 20 };

#define CUDA_TRY(e, call)                                                             \
    do {                                                                              \
        cudaError_t error_ = (call);                                                  \
        if (error_) {                                                                 \
            cudaGetLastError();                                                       \
            QS_FAIL(e, QS_ECUDA, "%s failed: %s", #call, cudaGetErrorString(error_)); \
        }                                                                             \
    } while (0)

bool qs_cuda_ready(qs_device *d)
{
    qs_cuda_device *c = qs_cuda_of(d);
    if (c->first.code) return false;
    qs_cuda_note(d, cudaSetDevice(c->ordinal), "cudaSetDevice");
    return !c->first.code;
}

void qs_cuda_note(qs_device *d, cudaError_t error, const char *what)
{
    qs_cuda_device *c = qs_cuda_of(d);
    const char *hint = error == cudaErrorNoKernelImageForDevice
                           ? "; build with the card's compute capability in CUDA_ARCHS"
                           : "";
    if (error && !c->first.code)
        qs_err_set(&c->first, QS_ECUDA, __FILE__, __LINE__, "%s: %s failed: %s%s", d->info.name, what,
                   cudaGetErrorString(error), hint);
}

void qs_cuda_note_blas(qs_device *d, cublasStatus_t status, const char *what)
{
    qs_cuda_device *c = qs_cuda_of(d);
    if (status && !c->first.code)
        qs_err_set(&c->first, QS_ECUDA, __FILE__, __LINE__, "%s: %s failed with cuBLAS status %d",
                   d->info.name, what, (int)status);
}

/* ---- memory ------------------------------------------------------------------------------------------ */

/* Device memory that all processes hold. */
static uint64_t taken_bytes(const qs_cuda_device *c)
{
    size_t free_bytes = 0, total_bytes = 0;
    uint64_t taken = 0;
    if (c->nvml_device && qs_nvml_taken_bytes(c->nvml_device, &taken)) return taken;
    if (cudaSetDevice(c->ordinal) == cudaSuccess && cudaMemGetInfo(&free_bytes, &total_bytes) == cudaSuccess)
        taken = total_bytes - free_bytes;
    return taken;
}

static uint64_t device_used_bytes(qs_device *d)
{
    qs_cuda_device *c = qs_cuda_of(d);
    uint64_t used = c->nvml_device ? qs_nvml_used_bytes(c->nvml_device) : 0;
    if (!used) { /* in a container the driver may not say whose memory it is */
        uint64_t taken = taken_bytes(c);
        used = taken > c->taken_before ? taken - c->taken_before : 0;
    }
    if (used > c->used_peak_bytes) c->used_peak_bytes = used;
    return c->used_peak_bytes;
}

static int device_alloc(qs_device *d, size_t bytes, void **out, qs_err *e)
{
    size_t free_bytes = 0, total_bytes = 0;
    CUDA_TRY(e, cudaSetDevice(qs_cuda_of(d)->ordinal));
    cudaError_t error = cudaMalloc(out, bytes);
    if (!error) {
        device_used_bytes(d);
        return 0;
    }
    cudaGetLastError();
    cudaMemGetInfo(&free_bytes, &total_bytes);
    QS_FAIL(e, QS_ENOMEM,
            "%s refused %zu bytes of device memory (%s): %zu of its %zu bytes are free; lower --vram or end "
            "what else uses the card",
            d->info.name, bytes, cudaGetErrorString(error), free_bytes, total_bytes);
}

static void device_free(qs_device *d, void *p)
{
    cudaSetDevice(qs_cuda_of(d)->ordinal);
    cudaFree(p);
}

static int device_host_register(qs_device *d, void *p, size_t bytes, qs_err *e)
{
    CUDA_TRY(e, cudaSetDevice(qs_cuda_of(d)->ordinal));
    cudaError_t error = cudaHostRegister(p, bytes, cudaHostRegisterDefault);
    if (!error) return 0;
    cudaGetLastError(); /* a refusal stays in the runtime until it is asked for */
    QS_FAIL(e, error == cudaErrorMemoryAllocation ? QS_ENOMEM : QS_ECUDA,
            "%zu bytes of host memory cannot be page-locked (%s): copies will be slower; raise the limit on "
            "locked memory (ulimit -l) or lower --ram",
            bytes, cudaGetErrorString(error));
}

static void device_host_unregister(qs_device *d, void *p)
{
    cudaSetDevice(qs_cuda_of(d)->ordinal);
    cudaHostUnregister(p);
}

/* CUDA 13 names places by a structure, 12 by a device number. */
#if CUDART_VERSION >= 13000
static cudaMemLocation place(int ordinal, bool device)
{
    cudaMemLocation l = {};
    l.type = device ? cudaMemLocationTypeDevice : cudaMemLocationTypeHost;
    l.id = device ? ordinal : 0;
    return l;
}
static cudaError_t prefetch(const void *p, size_t bytes, int ordinal, bool device, cudaStream_t stream)
{
    return cudaMemPrefetchAsync(p, bytes, place(ordinal, device), 0, stream);
}
#else
static int place(int ordinal, bool device) { return device ? ordinal : cudaCpuDeviceId; }
static cudaError_t prefetch(const void *p, size_t bytes, int ordinal, bool device, cudaStream_t stream)
{
    return cudaMemPrefetchAsync(p, bytes, place(ordinal, device), stream);
}
#endif

static int device_managed_alloc(qs_device *d, size_t bytes, void **out, qs_err *e)
{
    int ordinal = qs_cuda_of(d)->ordinal;
    if (!d->info.managed)
        QS_FAIL(e, QS_EUNSUP, "%s does not share managed memory with a running host", d->info.name);
    CUDA_TRY(e, cudaSetDevice(ordinal));
    CUDA_TRY(e, cudaMallocManaged(out, bytes, cudaMemAttachGlobal));
    cudaError_t error = cudaMemAdvise(*out, bytes, cudaMemAdviseSetPreferredLocation, place(ordinal, false));
    if (!error) error = cudaMemAdvise(*out, bytes, cudaMemAdviseSetAccessedBy, place(ordinal, true));
    if (!error) return 0;
    cudaGetLastError();
    cudaFree(*out);
    QS_FAIL(e, QS_ECUDA, "%s refused the advice on %zu bytes of managed memory: %s", d->info.name, bytes,
            cudaGetErrorString(error));
}

static void device_managed_prefetch(qs_device *d, qs_queue q, void *p, size_t bytes, bool to_device)
{
    qs_cuda_device *c = qs_cuda_of(d);
    if (qs_cuda_ready(d))
        qs_cuda_note(d, prefetch(p, bytes, c->ordinal, to_device, c->streams[q]),
                     "prefetch of managed memory");
}

/* ---- copies, events ---------------------------------------------------------------------------------- */

static void device_copy_in(qs_device *d, qs_queue q, void *device, const void *host, size_t bytes)
{
    if (qs_cuda_ready(d))
        qs_cuda_note(d,
                     cudaMemcpyAsync(device, host, bytes, cudaMemcpyHostToDevice, qs_cuda_of(d)->streams[q]),
                     "copy to the device");
}
static void device_copy_out(qs_device *d, qs_queue q, void *host, const void *device, size_t bytes)
{
    if (qs_cuda_ready(d))
        qs_cuda_note(d,
                     cudaMemcpyAsync(host, device, bytes, cudaMemcpyDeviceToHost, qs_cuda_of(d)->streams[q]),
                     "copy from the device");
}
static void device_fill(qs_device *d, qs_queue q, void *device, int byte, size_t bytes)
{
    if (qs_cuda_ready(d))
        qs_cuda_note(d, cudaMemsetAsync(device, byte, bytes, qs_cuda_of(d)->streams[q]), "fill");
}

/* A qs_event is a cudaEvent_t. Timing off: such events are cheaper, and time is measured by the profiler
 * elsewhere. */
static cudaEvent_t cuda_event(qs_event *event) { return (cudaEvent_t)event; }

static qs_event *device_event_create(qs_device *d)
{
    cudaEvent_t event = NULL;
    if (qs_cuda_ready(d))
        qs_cuda_note(d, cudaEventCreateWithFlags(&event, cudaEventDisableTiming | cudaEventBlockingSync),
                     "cudaEventCreate");
    return (qs_event *)event;
}
static void device_event_free(qs_device *d, qs_event *event)
{
    if (event) cudaEventDestroy(cuda_event(event));
}
static void device_event_record(qs_device *d, qs_event *event, qs_queue q)
{
    if (qs_cuda_ready(d))
        qs_cuda_note(d, cudaEventRecord(cuda_event(event), qs_cuda_of(d)->streams[q]), "cudaEventRecord");
}
static void device_event_wait(qs_device *d, qs_event *event, qs_queue q)
{
    if (qs_cuda_ready(d))
        qs_cuda_note(d, cudaStreamWaitEvent(qs_cuda_of(d)->streams[q], cuda_event(event), 0),
                     "cudaStreamWaitEvent");
}
static bool device_event_done(qs_device *d, qs_event *event)
{
    if (!qs_cuda_ready(d)) return true; /* nobody should wait for work that will not come */
    cudaError_t error = cudaEventQuery(cuda_event(event));
    if (error == cudaErrorNotReady) {
        cudaGetLastError(); /* where the runtime keeps it, the next launch would be blamed for it */
        return false;
    }
    qs_cuda_note(d, error, "cudaEventQuery");
    return true;
}
static void device_event_sync(qs_device *d, qs_event *event)
{
    if (qs_cuda_ready(d)) qs_cuda_note(d, cudaEventSynchronize(cuda_event(event)), "work before an event");
}
static void device_queue_sync(qs_device *d, qs_queue q)
{
    static const char *const names[QS_QUEUE_COUNT] = {"queued computation", "copies to the device",
                                                      "copies from the device"};
    if (qs_cuda_ready(d)) qs_cuda_note(d, cudaStreamSynchronize(qs_cuda_of(d)->streams[q]), names[q]);
}

static int device_check(qs_device *d, qs_err *e)
{
    qs_cuda_device *c = qs_cuda_of(d);
    if (!c->first.code) return 0;
    *e = c->first;
    return -c->first.code;
}

/* ---- open, close ------------------------------------------------------------------------------------- */

static int device_count(void)
{
    int count = 0;
    if (cudaGetDeviceCount(&count) != cudaSuccess) {
        cudaGetLastError();
        return 0;
    }
    return count;
}

static void device_close(qs_device *d)
{
    qs_cuda_device *c = qs_cuda_of(d);
    cudaSetDevice(c->ordinal);
    if (c->blas) qs_cublas.destroy(c->blas); /* while its stream exists */
    for (int q = 0; q < QS_QUEUE_COUNT; q++)
        if (c->streams[q]) cudaStreamDestroy(c->streams[q]);
    cudaFree(c->blas_workspace);
    cudaFree(c->partials);
    cudaFree(c->maps);
    qs_free(c);
}

static int upload_maps(qs_cuda_device *c, qs_err *e)
{
    static const size_t values = sizeof qs_dynamic_signed, above = sizeof qs_dynamic_signed_above;
    qs_device *d = &c->base;
    CUDA_TRY(e, cudaMalloc((void **)&c->maps, sizeof *c->maps));
    device_copy_in(d, QS_QUEUE_COMPUTE, c->maps->value_signed, qs_dynamic_signed, values);
    device_copy_in(d, QS_QUEUE_COMPUTE, c->maps->value_unsigned, qs_dynamic_unsigned, values);
    device_copy_in(d, QS_QUEUE_COMPUTE, c->maps->above_signed, qs_dynamic_signed_above, above);
    device_copy_in(d, QS_QUEUE_COMPUTE, c->maps->above_unsigned, qs_dynamic_unsigned_above, above);
    return 0;
}

static __global__ void compiled_for(int *arch)
{
#ifdef __CUDA_ARCH__
    *arch = __CUDA_ARCH__ / 10;
#elif defined(QS_CUDASIM)
    *arch = cudasim_code_arch();
#endif
}

/* Which of the program's code the card runs. Code for an earlier card runs on later ones as well, but holds
 * less: for sm_75 no tensor core attention. Fails where there is none for it. */
static void find_code(qs_cuda_device *c)
{
    qs_device *d = &c->base;
    QS_LAUNCH(d, compiled_for, 1, 1, 0, (int *)c->blas_workspace);
    device_copy_out(d, QS_QUEUE_COMPUTE, &c->code_arch, c->blas_workspace, sizeof c->code_arch);
    device_queue_sync(d, QS_QUEUE_COMPUTE);
}

/* One product per compute type, so that cuBLAS loads what it loads now and not within the budgeted run. */
static void warm_up(qs_device *d)
{
    device_fill(d, QS_QUEUE_COMPUTE, qs_cuda_of(d)->blas_workspace, 0, QS_CUDA_BLAS_WORKSPACE_BYTES);
    for (int type = QS_F32; type <= QS_F16; type++) {
        qs_gemm g = {};
        if (type == QS_BF16 && !d->info.bf16) continue;
        g.a = g.b = g.c = qs_mat_of(qs_cuda_of(d)->blas_workspace, (qs_dtype)type, 64, 64);
        g.b.data = (char *)g.a.data + (1 << 20);
        g.c.data = (char *)g.a.data + (2 << 20);
        g.alpha = 1;
        qs_cuda_gemm(d, &g);
    }
}

/* The context, and what others held before it. */
static int make_context(qs_cuda_device *c, qs_err *e)
{
    char bus_id[32] = "";
    size_t free_bytes = 0, total_bytes = 0;
    if (cudaDeviceGetPCIBusId(bus_id, sizeof bus_id, c->ordinal) == cudaSuccess)
        c->nvml_device = qs_nvml_device(bus_id);
    cudaGetLastError();
    bool known = c->nvml_device && qs_nvml_taken_bytes(c->nvml_device, &c->taken_before);
    /* Waiting blocks: the cores belong to the I/O threads. */
    CUDA_TRY(e, cudaInitDevice(c->ordinal, cudaDeviceScheduleBlockingSync, cudaInitDeviceFlagsAreValid));
    CUDA_TRY(e, cudaSetDevice(c->ordinal));
    CUDA_TRY(e, cudaMemGetInfo(&free_bytes, &total_bytes));
    uint64_t taken = total_bytes - free_bytes;
    if (!known && taken > CONTEXT_BYTES) c->taken_before = taken - CONTEXT_BYTES;
    c->base.info.total_bytes = total_bytes;
    return 0;
}

static int open_parts(qs_cuda_device *c, qs_err *e)
{
    qs_device *d = &c->base;
    cudaDeviceProp properties;
    int managed = 0;
    size_t free_bytes = 0, total_bytes = 0;
    QS_TRY(make_context(c, e));
    CUDA_TRY(e, cudaGetDeviceProperties(&properties, c->ordinal));
    CUDA_TRY(e, cudaDeviceGetAttribute(&managed, cudaDevAttrConcurrentManagedAccess, c->ordinal));
    c->card_arch = 10 * properties.major + properties.minor;
    if (c->card_arch < 75)
        QS_FAIL(e, QS_EUNSUP, "%s has compute capability %d.%d; 7.5 is the least", properties.name,
                properties.major, properties.minor);
    snprintf(d->info.name, sizeof d->info.name, "%.120s", properties.name);
    d->info.bf16 = c->card_arch >= 80;
    d->info.f16 = true;
    d->info.managed = managed != 0;
    d->info.threads = properties.multiProcessorCount;
    QS_TRY(qs_cublas_load(e));
    for (int q = 0; q < QS_QUEUE_COUNT; q++)
        CUDA_TRY(e, cudaStreamCreateWithFlags(&c->streams[q], cudaStreamNonBlocking));
    CUDA_TRY(e, cudaMalloc(&c->blas_workspace, QS_CUDA_BLAS_WORKSPACE_BYTES));
    CUDA_TRY(e, cudaMalloc((void **)&c->partials, QS_CUDA_PARTIALS * sizeof *c->partials));
    QS_TRY(upload_maps(c, e));
    if (qs_cublas.create(&c->blas)) QS_FAIL(e, QS_ECUDA, "%s: cuBLAS cannot be initialised", d->info.name);
    qs_cuda_note_blas(d, qs_cublas.set_stream(c->blas, c->streams[QS_QUEUE_COMPUTE]), "cublasSetStream");
    qs_cuda_note_blas(d, qs_cublas.set_workspace(c->blas, c->blas_workspace, QS_CUDA_BLAS_WORKSPACE_BYTES),
                      "cublasSetWorkspace");
    qs_cuda_note_blas(d, qs_cublas.set_math_mode(c->blas, CUBLAS_MATH_DISALLOW_REDUCED_PRECISION_REDUCTION),
                      "cublasSetMathMode");
    find_code(c);
    snprintf(d->info.kernels, sizeof d->info.kernels, "cuda-1 sm_%d", c->code_arch);
    snprintf(d->info.kernels_bf16, sizeof d->info.kernels_bf16, "%s", d->info.kernels);
    warm_up(d);
    device_queue_sync(d, QS_QUEUE_COMPUTE);
    CUDA_TRY(e, cudaMemGetInfo(&free_bytes, &total_bytes));
    d->info.available_bytes = free_bytes + device_used_bytes(d);
    if (d->info.available_bytes > total_bytes) d->info.available_bytes = total_bytes;
    d->info.overhead_bytes = device_used_bytes(d) + LATE_MODULES_BYTES;
    return device_check(d, e);
}

extern "C" const qs_device_api qs_device_cuda_api;

static int device_open(int ordinal, unsigned flags, qs_device **out, qs_err *e)
{
    int count = 0;
    cudaError_t error = cudaGetDeviceCount(&count);
    if (error) {
        cudaGetLastError();
        QS_FAIL(e, QS_EUNSUP, "no GPU can be used on this machine (%s); use --device cpu",
                cudaGetErrorString(error));
    }
    if (ordinal < 0 || ordinal >= count)
        QS_FAIL(e, QS_EUNSUP, "there is no CUDA device %d: the driver reports %d", ordinal, count);
    qs_cuda_device *c = (qs_cuda_device *)qs_calloc(1, sizeof *c);
    c->base.api = &qs_device_cuda_api;
    c->base.ops = &qs_ops_cuda;
    c->ordinal = ordinal;
    int rc = open_parts(c, e);
    if (rc) {
        device_close(&c->base);
        return rc;
    }
    *out = &c->base;
    return 0;
}

extern "C" const qs_device_api qs_device_cuda_api = {
    "cuda",
    device_count,
    device_open,
    device_close,
    device_alloc,
    device_free,
    device_host_register,
    device_host_unregister,
    device_managed_alloc,
    device_free,
    device_managed_prefetch,
    device_copy_in,
    device_copy_out,
    device_fill,
    device_event_create,
    device_event_free,
    device_event_record,
    device_event_wait,
    device_event_done,
    device_event_sync,
    device_queue_sync,
    device_used_bytes,
    device_check,
};
