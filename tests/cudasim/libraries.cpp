/* libraries.cpp - what kernels/cuda loads at run time: cuBLAS, computed plainly, and the management library.
 *
 * cuBLAS is column-major: element (i, j) of op(A) is A[i + j * lda], or A[j + i * lda] transposed. Sums run
 * over k in order, in fp32. It also insists on what the real one only hints at: a workspace set after the
 * last cublasSetStream, without which it would allocate memory of its own.
 */
#include <cublas_v2.h>
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#include <unistd.h>

#include <vector>

#include "tests/cudasim/internal.h"

struct cudasim_blas {
    cudaStream_t stream;
    void *workspace;
    size_t workspace_bytes;
};

static cublasStatus_t blas_create(cublasHandle_t *out)
{
    *out = new cudasim_blas{};
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t blas_destroy(cublasHandle_t h)
{
    if (h->stream) cudaStreamSynchronize(h->stream); /* dies when it is no more */
    delete h;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t blas_set_stream(cublasHandle_t h, cudaStream_t stream)
{
    h->stream = stream;
    h->workspace = NULL;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t blas_set_workspace(cublasHandle_t h, void *p, size_t bytes)
{
    cudasim_check_device(p, bytes, "cublasSetWorkspace");
    if ((uintptr_t)p % 256) return CUBLAS_STATUS_INVALID_VALUE;
    h->workspace = p;
    h->workspace_bytes = bytes;
    return CUBLAS_STATUS_SUCCESS;
}
static cublasStatus_t blas_set_math_mode(cublasHandle_t, cublasMath_t) { return CUBLAS_STATUS_SUCCESS; }

static float widened(const void *p, cudaDataType type, size_t i)
{
    return qs_load_f32(p, type == CUDA_R_32F ? QS_F32 : type == CUDA_R_16BF ? QS_BF16 : QS_F16, i);
}
static size_t element_bytes(cudaDataType type) { return type == CUDA_R_32F ? 4 : 2; }

struct gemm {
    bool ta, tb;
    int m, n, k, lda, ldb, ldc;
    float alpha, beta;
    const void *a, *b;
    void *c;
    cudaDataType a_type, b_type, c_type;
};

static void run_gemm(const gemm &g)
{
    std::vector<float> a((size_t)g.m * (size_t)g.k), sums((size_t)g.m);
    for (int l = 0; l < g.k; l++)
        for (int i = 0; i < g.m; i++)
            a[(size_t)l * (size_t)g.m + (size_t)i] =
                widened(g.a, g.a_type,
                        g.ta ? (size_t)l + (size_t)i * (size_t)g.lda : (size_t)i + (size_t)l * (size_t)g.lda);
    for (int j = 0; j < g.n; j++) {
        std::fill(sums.begin(), sums.end(), 0.0f);
        for (int l = 0; l < g.k; l++) {
            float b =
                widened(g.b, g.b_type,
                        g.tb ? (size_t)j + (size_t)l * (size_t)g.ldb : (size_t)l + (size_t)j * (size_t)g.ldb);
            const float *column = &a[(size_t)l * (size_t)g.m];
            for (int i = 0; i < g.m; i++) sums[(size_t)i] += column[i] * b;
        }
        for (int i = 0; i < g.m; i++) {
            size_t at = (size_t)i + (size_t)j * (size_t)g.ldc;
            float v = g.alpha * sums[(size_t)i];
            if (g.beta != 0) v += g.beta * widened(g.c, g.c_type, at);
            qs_store_f32(g.c,
                         g.c_type == CUDA_R_32F    ? QS_F32
                         : g.c_type == CUDA_R_16BF ? QS_BF16
                                                   : QS_F16,
                         at, v);
        }
    }
    cudasim_counts.gemms++;
}

static void check_matrix(const void *p, int rows, int columns, int ld, cudaDataType type, const char *what)
{
    if (ld < rows) cudasim_die("%s: leading dimension %d below %d rows", what, ld, rows);
    cudasim_check_device(p, ((size_t)ld * (size_t)(columns - 1) + (size_t)rows) * element_bytes(type), what);
}

static cublasStatus_t blas_gemm_ex(cublasHandle_t h, cublasOperation_t ta, cublasOperation_t tb, int m, int n,
                                   int k, const void *alpha, const void *a, cudaDataType a_type, int lda,
                                   const void *b, cudaDataType b_type, int ldb, const void *beta, void *c,
                                   cudaDataType c_type, int ldc, cublasComputeType_t, cublasGemmAlgo_t)
{
    if (!h->workspace) cudasim_die("cublasGemmEx: no workspace since the last cublasSetStream");
    check_matrix(a, ta ? k : m, ta ? m : k, lda, a_type, "cublasGemmEx, A");
    check_matrix(b, tb ? n : k, tb ? k : n, ldb, b_type, "cublasGemmEx, B");
    check_matrix(c, m, n, ldc, c_type, "cublasGemmEx, C");
    gemm g = {
        ta != 0, tb != 0, m, n,      k,      lda,   ldb, ldc, *(const float *)alpha, *(const float *)beta,
        a,       b,       c, a_type, b_type, c_type};
    cudasim_enqueue(h->stream, [=] { run_gemm(g); });
    return CUBLAS_STATUS_SUCCESS;
}

/* ---- NVML -------------------------------------------------------------------------------------------- */

struct process_info { /* nvmlProcessInfo_t, version 3 */
    unsigned pid;
    unsigned long long used_bytes;
    unsigned instance, compute_instance;
};

static int nvml_init(void) { return 0; }
static int nvml_shutdown(void) { return 0; }
static int nvml_handle(const char *, void **out)
{
    *out = &cudasim_options;
    return 0;
}
static int nvml_processes(void *, unsigned *count, process_info *out)
{
    if (*count < 2) return 7; /* insufficient size */
    out[0] = {1, cudasim_options.others_bytes, 0, 0};
    out[1] = {(unsigned)getpid(), cudasim_taken_bytes(true), 0, 0};
    *count = cudasim_options.no_nvml_processes ? 1 : 2;
    return 0;
}
static int nvml_memory(void *, unsigned long long out[3])
{
    out[0] = cudasim_options.capacity_bytes;
    out[2] = cudasim_taken_bytes(false);
    out[1] = out[0] - out[2];
    return 0;
}

/* ---- the loader -------------------------------------------------------------------------------------- */

extern "C" void *cudasim_dlopen(const char *name, int)
{
    static char blas, management;
    if (strstr(name, "libcublas.so")) return &blas;
    if (strstr(name, "libnvidia-ml.so") && !cudasim_options.no_nvml) return &management;
    return NULL;
}
extern "C" void *cudasim_dlsym(void *, const char *symbol)
{
    static const struct {
        const char *name;
        void *address;
    } table[] = {
        {"cublasCreate_v2", (void *)blas_create},
        {"cublasDestroy_v2", (void *)blas_destroy},
        {"cublasSetStream_v2", (void *)blas_set_stream},
        {"cublasSetWorkspace_v2", (void *)blas_set_workspace},
        {"cublasSetMathMode", (void *)blas_set_math_mode},
        {"cublasGemmEx", (void *)blas_gemm_ex},
        {"nvmlInit_v2", (void *)nvml_init},
        {"nvmlShutdown", (void *)nvml_shutdown},
        {"nvmlDeviceGetHandleByPciBusId_v2", (void *)nvml_handle},
        {"nvmlDeviceGetComputeRunningProcesses_v3", (void *)nvml_processes},
        {"nvmlDeviceGetMemoryInfo", (void *)nvml_memory},
    };
    for (auto &entry : table)
        if (!strcmp(entry.name, symbol)) return entry.address;
    return NULL;
}
extern "C" int cudasim_dlclose(void *) { return 0; }
