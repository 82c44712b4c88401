/* libraries.h - cuBLAS and NVML, loaded when a device is opened: a binary built with CUDA starts where
 * neither is installed. */
#ifndef QS_KERNELS_CUDA_LIBRARIES_H
#define QS_KERNELS_CUDA_LIBRARIES_H

#include <cublas_v2.h>
#include <stdbool.h>
#include <stdint.h>

extern "C" {
#include "src/base/error.h"
}

typedef struct qs_cublas_api {
    cublasStatus_t (*create)(cublasHandle_t *);
    cublasStatus_t (*destroy)(cublasHandle_t);
    cublasStatus_t (*set_stream)(cublasHandle_t, cudaStream_t);
    cublasStatus_t (*set_workspace)(cublasHandle_t, void *, size_t);
    cublasStatus_t (*set_math_mode)(cublasHandle_t, cublasMath_t);
    cublasStatus_t (*gemm_ex)(cublasHandle_t, cublasOperation_t, cublasOperation_t, int m, int n, int k,
                              const void *alpha, const void *a, cudaDataType, int lda, const void *b,
                              cudaDataType, int ldb, const void *beta, void *c, cudaDataType, int ldc,
                              cublasComputeType_t, cublasGemmAlgo_t);
} qs_cublas_api;

/* Filled by qs_cublas_load; loaded once per process and kept. */
extern qs_cublas_api qs_cublas;

/* QS_EUNSUP with the names that were tried when cuBLAS is not installed. */
int qs_cublas_load(qs_err *e);

/* The management library's handle of the device with this PCI bus id, or NULL when it cannot say. */
void *qs_nvml_device(const char *pci_bus_id);

/* Device memory in use by all processes; false when the library cannot say. Asking creates no context. */
bool qs_nvml_taken_bytes(void *device, uint64_t *taken);

/* Device memory that this process holds as the driver counts it, context included; 0 when the driver does not
 * know the process by its number here (containers with their own process numbers). */
uint64_t qs_nvml_used_bytes(void *device);

#endif
