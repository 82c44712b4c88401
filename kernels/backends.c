/* backends.c - which backends this build has, and choosing one by name. The only file that asks about
 * QS_CUDA. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/device.h"
#include "src/base/log.h"

#ifdef QS_CUDA
extern const qs_device_api qs_device_cuda_api;
const qs_device_api *qs_device_cuda(void) { return &qs_device_cuda_api; }
#else
const qs_device_api *qs_device_cuda(void) { return NULL; }
#endif

static int open_cuda(const char *name, int ordinal, qs_device **out, qs_err *e)
{
    const qs_device_api *cuda = qs_device_cuda();
    if (!cuda)
        QS_FAIL(e, QS_EUNSUP,
                "device %s: this program was built without CUDA; build it where nvcc is found, or use "
                "--device cpu",
                name);
    int count = cuda->count();
    if (count && ordinal >= count)
        QS_FAIL(e, QS_EINVAL, "device %s: this machine has %d GPU%s, numbered from 0", name, count,
                count == 1 ? "" : "s");
    return cuda->open(ordinal, 0, out, e); /* which knows why, where there is none */
}

/* Nobody should wonder why a machine with a card is slow. */
static int open_best(qs_device **out, qs_err *e)
{
    const qs_device_api *cuda = qs_device_cuda();
    qs_err why = {0};
    if (cuda && cuda->count() > 0) return cuda->open(0, 0, out, e);
    if (!access("/dev/nvidia0", F_OK) && open_cuda("auto", 0, out, &why))
        qs_warn("the CPU is used: %s", why.text);
    return *out ? 0 : qs_device_cpu.open(0, 0, out, e);
}

int qs_device_open(const char *name, qs_device **out, qs_err *e)
{
    *out = NULL;
    if (!strcmp(name, "auto")) return open_best(out, e);
    if (!strcmp(name, "cpu")) return qs_device_cpu.open(0, 0, out, e);
    if (!strcmp(name, "cpu:discrete")) return qs_device_cpu.open(0, QS_CPU_DISCRETE, out, e);
    if (!strcmp(name, "cuda")) return open_cuda(name, 0, out, e);
    if (!strncmp(name, "cuda:", 5) && name[5] >= '0' && name[5] <= '9') {
        char *end;
        long ordinal = strtol(name + 5, &end, 10);
        if (!*end && ordinal < 1024) return open_cuda(name, (int)ordinal, out, e);
    }
    QS_FAIL(e, QS_EINVAL, "device %s: expected auto, cpu, cuda or cuda:N", name);
}

const char *qs_device_kernels(const qs_device *d, qs_dtype compute)
{
    return compute == QS_BF16 ? d->info.kernels_bf16 : d->info.kernels;
}

void qs_device_close(qs_device *d)
{
    if (d) d->api->close(d);
}

void qs_device_set_workspace(qs_device *d, void *p, size_t bytes)
{
    QS_ASSERT(((uintptr_t)p & 255) == 0 && (p || !bytes));
    d->workspace = p;
    d->workspace_bytes = bytes;
}

__attribute__((weak)) void qs_device_taken_over(qs_device *d, qs_queue q, void *memory, size_t bytes) {}
