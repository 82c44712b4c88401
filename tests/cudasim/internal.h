/* internal.h - what the simulator's files share. */
#ifndef QS_TESTS_CUDASIM_INTERNAL_H
#define QS_TESTS_CUDASIM_INTERNAL_H

#include <cuda_runtime.h>
#include "tests/cudasim/cudasim.h"

extern cudasim_config cudasim_options;
extern cudasim_stats cudasim_counts;

/* One line on stderr that names the kernel and the thread when there is one, then abort. */
[[noreturn]] void cudasim_die(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* The next random number of the seed's sequence; below(n) is in [0, n). */
uint32_t cudasim_random(void);
static inline uint32_t cudasim_below(uint32_t n) { return (uint32_t)((uint64_t)cudasim_random() * n >> 32); }

/* memory.cpp: [p, p + bytes) must lie in one live device (or managed) block; a host range must touch none. */
void cudasim_check_device(const void *p, size_t bytes, const char *what);
void cudasim_check_host(const void *p, size_t bytes, const char *what);
void cudasim_check_red_zones(void);
void cudasim_open_memory(void); /* device memory becomes accessible: device work is about to run */
void cudasim_close_memory(void);
void cudasim_memory_reset(void);
void cudasim_make_context(void);             /* device memory is taken for it from here on */
size_t cudasim_taken_bytes(bool ours_only);  /* of device memory, by this process or by all */
const char *cudasim_describe(const void *p); /* what kind of address it is, for messages */

/* fibers.cpp */
void cudasim_run_kernel(const char *name, dim3 grid, dim3 block, size_t shared_bytes,
                        const std::function<void()> &body);
const char *cudasim_where(void); /* "kernel k, block (..), thread (..)" or "" */

/* mma.cpp: forgets copies nobody waited for, at the end of a block. */
void cudasim_cp_async_reset(void);

/* wgmma.cpp: from here on products see these bytes of shared memory; the end of a block. */
void cudasim_wgmma_see(const void *shared, size_t bytes);
void cudasim_wgmma_reset(void);

/* streams.cpp */
void cudasim_enqueue(cudaStream_t stream, std::function<void()> work);
void cudasim_streams_reset(void);
cudaError_t cudasim_fail(cudaError_t error); /* notes the error for cudaGetLastError and returns it */

#endif
