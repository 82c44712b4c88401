/* libraries.cu - finds cuBLAS and the management library at run time. */
#define _Noreturn __attribute__((noreturn))
#include "kernels/cuda/libraries.h"

#include <dlfcn.h>
#include <unistd.h>

qs_cublas_api qs_cublas;

/* The runtime's own major version first: a process should not hold two. */
static const char *const blas_names[] = {
#if CUDART_VERSION >= 13000
    "libcublas.so.13", "/usr/local/cuda/lib64/libcublas.so.13",
#endif
    "libcublas.so.12", "/usr/local/cuda/lib64/libcublas.so.12"};

int qs_cublas_load(qs_err *e)
{
    if (qs_cublas.create) return 0;
    void *library = NULL;
    for (size_t i = 0; i < sizeof blas_names / sizeof *blas_names && !library; i++)
        library = dlopen(blas_names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        QS_FAIL(
            e, QS_EUNSUP,
            "%s cannot be loaded: install cuBLAS of the CUDA Toolkit, or add its folder to LD_LIBRARY_PATH",
            blas_names[0]);
    struct {
        const char *name;
        void **to;
    } symbols[] = {
        {"cublasCreate_v2", (void **)&qs_cublas.create},
        {"cublasDestroy_v2", (void **)&qs_cublas.destroy},
        {"cublasSetStream_v2", (void **)&qs_cublas.set_stream},
        {"cublasSetWorkspace_v2", (void **)&qs_cublas.set_workspace},
        {"cublasSetMathMode", (void **)&qs_cublas.set_math_mode},
        {"cublasGemmEx", (void **)&qs_cublas.gemm_ex},
    };
    for (size_t i = 0; i < sizeof symbols / sizeof *symbols; i++) {
        *symbols[i].to = dlsym(library, symbols[i].name);
        if (*symbols[i].to) continue;
        qs_cublas.create = NULL;
        dlclose(library);
        QS_FAIL(e, QS_EUNSUP, "cuBLAS has no %s: a version of the CUDA Toolkit from 12.4 on is needed",
                symbols[i].name);
    }
    return 0;
}

/* ---- NVML. Its header is not part of every toolkit installation; these are its version 3 declarations.  */

typedef struct nvml_process {
    unsigned pid;
    unsigned long long used_bytes; /* ~0: not available */
    unsigned instance, compute_instance;
} nvml_process;

typedef struct nvml_memory {
    unsigned long long total_bytes, free_bytes, used_bytes;
} nvml_memory; /* version 1 */

static struct {
    int (*init)(void);
    int (*handle)(const char *, void **);
    int (*processes)(void *, unsigned *, nvml_process *);
    int (*memory)(void *, nvml_memory *);
} nvml;

enum { MOST_PROCESSES = 256 };

void *qs_nvml_device(const char *pci_bus_id)
{
    void *device = NULL;
    void *library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!library) return NULL;
    nvml.init = (int (*)(void))dlsym(library, "nvmlInit_v2");
    nvml.handle = (int (*)(const char *, void **))dlsym(library, "nvmlDeviceGetHandleByPciBusId_v2");
    nvml.processes = (int (*)(void *, unsigned *, nvml_process *))dlsym(
        library, "nvmlDeviceGetComputeRunningProcesses_v3");
    nvml.memory = (int (*)(void *, nvml_memory *))dlsym(library, "nvmlDeviceGetMemoryInfo");
    if (!nvml.init || !nvml.handle || !nvml.processes || !nvml.memory || nvml.init()) return NULL;
    return nvml.handle(pci_bus_id, &device) ? NULL : device;
}

bool qs_nvml_taken_bytes(void *device, uint64_t *taken)
{
    nvml_memory m;
    if (nvml.memory(device, &m)) return false;
    *taken = m.used_bytes;
    return true;
}

uint64_t qs_nvml_used_bytes(void *device)
{
    nvml_process processes[MOST_PROCESSES];
    unsigned count = MOST_PROCESSES;
    if (nvml.processes(device, &count, processes)) return 0;
    for (unsigned i = 0; i < count; i++)
        if (processes[i].pid == (unsigned)getpid() && processes[i].used_bytes != ~0ull)
            return processes[i].used_bytes;
    return 0;
}
