/* cudasim.h - a CUDA device in software, for tests: kernels really execute, streams run in random legal
 * orders.
 *
 * The CUDA sources are compiled by the host compiler against include/ (stand-ins of the toolkit's headers)
 * and linked with this folder instead of the toolkit. What a program may rely on is what the simulator
 * guarantees, and nothing more:
 *
 *   streams   Nothing runs when it is queued. Whenever the host waits, queued work is taken one item at a
 * time from a random stream whose head may run (chosen by the seed), until what the host waits for is done.
 * So work that only luck orders will be seen in the wrong order under some seed. kernels   Every thread is a
 * fiber; blocks and threads run in an order chosen by the seed and change over at barriers and warp
 * exchanges. Dynamic shared memory starts poisoned. cp.async lands when it is waited for, not before. memory
 * Device memory is its own address range of a fixed capacity, closed to the host except while device work
 *             runs. New memory is poison (0xFF: NaN), freed memory is closed, red zones stand at both ends of
 * a block. checks    Whatever would be undefined on hardware (a barrier not reached by all, a host pointer in
 * a kernel's arguments, a copy outside its block, an overrun) prints one line "cudasim: ..." and aborts, so
 * that a test fails.
 *
 * One simulated device, one host thread at a time: not thread safe.
 */
#ifndef QS_TESTS_CUDASIM_CUDASIM_H
#define QS_TESTS_CUDASIM_CUDASIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct cudasim_config {
    uint64_t seed;             /* chooses every order */
    size_t capacity_bytes;     /* of device memory, context included; 0: 1 GiB */
    int arch;                  /* of the card: 75, 80, 86, 90, ...; 0: 80 */
    int code_arch;             /* what the code that runs there was compiled for; 0: that card */
    bool no_managed;           /* concurrent managed access is not supported */
    bool no_device;            /* as on a machine without a driver */
    bool no_kernel_image;      /* kernels were not compiled for it */
    bool no_nvml;              /* the management library cannot be loaded */
    bool no_nvml_processes;    /* it does not know this process, as in a container */
    size_t others_bytes;       /* of device memory, held by other processes */
    size_t pinned_limit_bytes; /* host registration beyond it is refused; 0: no limit */
    int drop_wait; /* the n-th cudaStreamWaitEvent (from 1) is ignored; 0: none. To show that a race is
                      caught. */
} cudasim_config;

typedef struct cudasim_stats {
    uint64_t kernels, copies_in, copies_out, gemms, waits; /* executed; waits: issued */
    uint64_t copied_in_bytes, copied_out_bytes;
    uint64_t prefetched_in_bytes, prefetched_out_bytes; /* managed memory, to the device and back */
    size_t device_bytes, peak_device_bytes;             /* allocated, context excluded */
    size_t pinned_bytes, managed_bytes;
    int blocks; /* live device allocations */
} cudasim_stats;

/* Starts a new device. Everything of the old one must have been freed; what is left is reported as a leak and
 * aborts. */
void cudasim_reset(const cudasim_config *config);

cudasim_stats cudasim_read(void);

/* Device memory as the host sees it through this call: a debugger's view for tests; waits for nothing. */
void cudasim_peek(void *host, const void *device, size_t bytes);
void cudasim_poke(void *device, const void *host, size_t bytes);

#ifdef __cplusplus
}
#endif
#endif
