/* device.h - the device seam: where compute happens and how bytes get there.
 *
 * A backend is two const tables: this one (memory, copies, ordering) and kernels/ops.h (the maths). `cpu` is
 * always built and is the reference; `cuda` is built when nvcc is found. Nothing above kernels/cuda/ sees a
 * CUDA type.
 *
 * Model of execution. A device has three in-order queues. Operations of ops.h run on QS_QUEUE_COMPUTE;
 * weights and checkpoints travel to the device on QS_QUEUE_IN and back on QS_QUEUE_OUT. Queues run
 * concurrently: the only order between two of them is an event recorded on one and waited for on the other.
 * Calls return at once (the CPU backend has finished the work by then); the host waits only in event_sync and
 * queue_sync.
 *
 * Errors of queued work are sticky, as on the hardware: calls after the first failure do nothing, and
 * qs_device_check reports it. So the block reads like maths and the sweep checks once per visit.
 *
 * A device of `shared_memory` computes on host memory directly: host pointers are device pointers, and
 * nothing is copied. The CPU backend does, unless opened with QS_CPU_DISCRETE, in which case it insists on
 * copies, so that every copy of the streamer can be tested where there is no card.
 */
#ifndef QS_KERNELS_DEVICE_H
#define QS_KERNELS_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/dtype.h"
#include "src/base/error.h"

typedef struct qs_device qs_device;
typedef struct qs_event
    qs_event; /* created by the backend, reusable: recording again replaces the old record */
struct qs_ops;

typedef enum qs_queue { QS_QUEUE_COMPUTE, QS_QUEUE_IN, QS_QUEUE_OUT, QS_QUEUE_COUNT } qs_queue;

typedef struct qs_device_info {
    char name[128];   /* "cpu (AMD EPYC, 2 threads, avx512_bf16)" or "NVIDIA GeForce RTX 3080" */
    char isa[16];     /* the cpu backend's instruction set: "v3" */
    char kernels[32]; /* what decides the bits of a run in fp32 and fp16 beside its data and options: "fma-1"
                       */
    char kernels_bf16[128]; /* the same in bf16, where pairs or a library may multiply: qs_device_kernels */
    bool shared_memory;     /* host pointers are device pointers: nothing is copied */
    bool host_computes;     /* operations run on the calling host and are over when their call returns */
    bool host_memory;       /* device memory is taken from the host's: both budgets are of one memory */
    bool f16;               /* fp16 matrix products are faster than fp32 ones */
    bool bf16;              /* bf16 matrix products at full speed */
    bool managed;           /* managed memory with concurrent access and prefetch */
    int threads;            /* worker threads (cpu) or multiprocessors (cuda); part of the numeric identity */
    uint64_t total_bytes;   /* of the device's memory */
    uint64_t available_bytes; /* of it, what other processes left when the device was opened */
    uint64_t overhead_bytes;  /* what the backend itself takes of it (CUDA context, library workspaces),
                                 counted in --vram */
} qs_device_info;

/* One backend. Every entry is required. `e` is never NULL. */
typedef struct qs_device_api {
    const char *name; /* "cpu", "cuda" */

    /* Number of usable devices; 0 when the driver or the card is missing. Never fails. */
    int (*count)(void);
    /* Opens device `ordinal`. Sets (*out)->api, ->ops and ->info. Closed with close. */
    int (*open)(int ordinal, unsigned flags, qs_device **out, qs_err *e);
    void (*close)(qs_device *d);

    /* Device memory, 256-byte aligned, contents undefined. The run calls it once, with the planned size. */
    int (*alloc)(qs_device *d, size_t bytes, void **out, qs_err *e);
    void (*free)(qs_device *d, void *p);

    /* Makes a host block copyable at full speed (page-locked). A refusal is not fatal: copies then are
     * slower. */
    int (*host_register)(qs_device *d, void *p, size_t bytes, qs_err *e);
    void (*host_unregister)(qs_device *d, void *p);

    /* Unified memory for paged optimizer states: preferred location host. prefetch moves [p, p+bytes) to the
     * device (to_device) or back, in queue order. Where info.managed is false, managed_alloc fails with
     * QS_EUNSUP. */
    int (*managed_alloc)(qs_device *d, size_t bytes, void **out, qs_err *e);
    void (*managed_free)(qs_device *d, void *p);
    void (*managed_prefetch)(qs_device *d, qs_queue q, void *p, size_t bytes, bool to_device);

    /* Queued copies. The memory must stay until an event recorded after them has been reached. */
    void (*copy_in)(qs_device *d, qs_queue q, void *device, const void *host, size_t bytes);
    void (*copy_out)(qs_device *d, qs_queue q, void *host, const void *device, size_t bytes);
    void (*fill)(qs_device *d, qs_queue q, void *device, int byte, size_t bytes);

    qs_event *(*event_create)(qs_device *d);
    void (*event_free)(qs_device *d, qs_event *event);
    void (*event_record)(qs_device *d, qs_event *event, qs_queue q); /* q's work so far */
    void (*event_wait)(qs_device *d, qs_event *event,
                       qs_queue q); /* q goes on only after the record; never recorded: no wait */
    bool (*event_done)(qs_device *d, qs_event *event); /* without blocking */
    void (*event_sync)(qs_device *d, qs_event *event); /* the host blocks */
    void (*queue_sync)(qs_device *d, qs_queue q);      /* the host blocks */

    /* Bytes of device memory this process holds as the driver counts them, and at the peak; 0 when unknown.
     */
    uint64_t (*used_bytes)(qs_device *d);

    /* The first failure of queued work, or 0. */
    int (*check)(qs_device *d, qs_err *e);
} qs_device_api;

/* What every backend's device begins with. */
struct qs_device {
    const qs_device_api *api;
    const struct qs_ops *ops;
    qs_device_info info;
    void *workspace; /* scratch of the operations, in device memory: qs_device_set_workspace */
    size_t workspace_bytes;
    /* Whether [p, p + bytes) may be given to an operation. NULL: not known. Asserted by ops.c, so that a
     * forgotten copy shows in the cpu backend's discrete mode. */
    bool (*holds)(const qs_device *d, const void *p, size_t bytes);
    /* Called by ops.c after every long operation (products, attention, 4-bit weights into dense ones), so
     * that a host that computes can see to its disk meanwhile. NULL: nobody wants to. It may call operations
     * that are not long. */
    void (*on_op_end)(void *context);
    void *on_op_end_context;
};

/* The name of the kernels that decide the bits of a run in this compute type: part of its numeric identity.
 * Runs on devices with equal names (and equal thread counts) give equal bits. */
const char *qs_device_kernels(const qs_device *d, qs_dtype compute);

/* The instruction set of cpu devices that are opened from here on: "auto" (the best of this processor, or
 * what the environment variable QS_CPU_ISA says), "v2", "v3", "v4", "v4_bf16"; on aarch64 "neon" and
 * "neon_bf16". portable_bits: "auto" takes the best one whose bits are those of every processor with a fused
 * multiply-add, and one that is not such a one is refused. QS_EINVAL for an unknown name, QS_EUNSUP for what
 * this processor does not have. Without a call: "auto". */
int qs_cpu_select(const char *isa, bool portable_bits, qs_err *e);

/* Worker threads of CPU devices that are opened from here on; 0: as many as there are processors, or as
 * OpenMP's variables say. */
void qs_cpu_set_threads(int threads);

enum {
    QS_CPU_DISCRETE = 1
}; /* flag of the cpu backend's open: stand for a card: memory of its own, and a host that does not compute */

/* The CPU backend, always there. The CUDA backend or NULL when it is not built in (kernels/backends.c). */
extern const qs_device_api qs_device_cpu;
const qs_device_api *qs_device_cuda(void);

/* Opens by name: "auto" (a GPU when there is one, else the CPU), "cpu", "cuda", "cuda:N"; "cpu:discrete" for
 * tests and measurements of the copies. QS_EINVAL for another word, QS_EUNSUP when CUDA is asked for and
 * there is none (says whether the build or the machine lacks it). */
int qs_device_open(const char *name, qs_device **out, qs_err *e);
void qs_device_close(qs_device *d); /* NULL is fine */

/* Gives the operations their scratch memory (device memory, 256-byte aligned): at least the maximum of the
 * qs_op_*_workspace_bytes of what will be called. Kept until replaced; owned by the caller. */
void qs_device_set_workspace(qs_device *d, void *p, size_t bytes);

/* As qs_memory_taken_over (src/base/memory.h), for device memory: from what is queued on q by now. */
void qs_device_taken_over(qs_device *d, qs_queue q, void *memory, size_t bytes);

#endif
