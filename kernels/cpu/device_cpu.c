/* device_cpu.c - the CPU as a device: memory, copies, order.
 *
 * Everything happens when it is called, so the queues are one and events are always reached. Unified by
 * default: device memory is a page-aligned block like any other. In discrete mode (QS_CPU_DISCRETE) the
 * device keeps a list of its blocks and insists: copies go from host memory to device memory and back, and
 * operations take device memory only.
 */
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kernels/cpu/cpu.h"
#include "src/base/memory.h"

struct qs_cpu_memory {
    qs_region memory;
    qs_cpu_memory *next;
};

struct qs_event {
    int unused; /* a record is always reached: nothing to remember */
};

static bool holds(const qs_device *d, const void *p, size_t bytes)
{
    for (const qs_cpu_memory *r = ((const qs_cpu *)d)->memory; r; r = r->next) {
        const char *base = r->memory.base;
        if ((const char *)p >= base && (const char *)p + bytes <= base + r->memory.bytes) return true;
    }
    return false;
}

static int cpu_count(void) { return 1; }

/* The processor's name from /proc/cpuinfo; "cpu" where there is none. */
static void processor_name(char *out, size_t capacity)
{
    snprintf(out, capacity, "cpu");
    FILE *f = fopen("/proc/cpuinfo", "re");
    if (!f) return;
    char line[256];
    while (fgets(line, sizeof line, f)) {
        char *colon = strchr(line, ':');
        if (strncmp(line, "model name", 10) || !colon) continue;
        line[strcspn(line, "\n")] = 0;
        snprintf(out, capacity, "%s", colon + 1 + strspn(colon + 1, " "));
        break;
    }
    fclose(f);
}

static void describe(qs_device_info *info, const qs_cpu_table *table, unsigned flags)
{
    char processor[80], bf16[96];
    processor_name(processor, sizeof processor);
    info->threads = omp_get_max_threads();
    snprintf(info->name, sizeof info->name, "cpu (%s, %d thread%s, %s)", processor, info->threads,
             info->threads == 1 ? "" : "s", table->isa);
    snprintf(info->isa, sizeof info->isa, "%s", table->isa);
    snprintf(info->kernels, sizeof info->kernels, "%s", table->kernels);
    snprintf(info->kernels_bf16, sizeof info->kernels_bf16, "%s", table->kernels);
    info->bf16 = table->bf16_kernels(bf16);
    if (info->bf16) snprintf(info->kernels_bf16, sizeof info->kernels_bf16, "%s %s", table->kernels, bf16);
    info->shared_memory = info->host_computes = !(flags & QS_CPU_DISCRETE);
    info->host_memory = true;
    info->available_bytes = info->total_bytes =
        (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

/* ---- which table devices get from here on ------------------------------------------------------------ */

static const qs_cpu_table *selected;

int qs_cpu_select(const char *isa, bool portable_bits, qs_err *e)
{
    const char *forced = getenv("QS_CPU_ISA");
    bool by_option = strcmp(isa, "auto") != 0;
    return qs_cpu_table_choose(by_option || !forced || !*forced ? isa : forced, portable_bits, &selected, e);
}

void qs_cpu_set_threads(int threads)
{
    static int by_default; /* what OpenMP would take */
    if (!by_default) by_default = omp_get_max_threads();
    omp_set_num_threads(threads > 0 ? threads : by_default);
}

static int cpu_open(int ordinal, unsigned flags, qs_device **out, qs_err *e)
{
    *out = NULL;
    if (ordinal != 0) QS_FAIL(e, QS_EINVAL, "device cpu:%d: there is one cpu device", ordinal);
    if (!selected) QS_TRY(qs_cpu_select("auto", false, e));
    qs_cpu *d = qs_calloc(1, sizeof *d);
    d->base.api = &qs_device_cpu;
    d->table = selected;
    d->base.ops = &selected->ops;
    describe(&d->base.info, selected, flags);
    if (flags & QS_CPU_DISCRETE) d->base.holds = holds;
#ifdef QS_ONEDNN
    int rc = d->base.info.bf16 ? qs_cpu_gemm_cache_create(&d->gemm, e) : 0;
    if (rc) {
        qs_free(d);
        return rc;
    }
#endif
    *out = &d->base;
    return 0;
}

static int cpu_alloc(qs_device *d, size_t bytes, void **out, qs_err *e)
{
    qs_cpu *cpu = (qs_cpu *)d;
    *out = NULL;
    qs_cpu_memory *r = qs_calloc(1, sizeof *r);
    int rc = qs_region_map(&r->memory, bytes ? bytes : 1, "device memory", e);
    if (rc) {
        qs_free(r);
        return rc;
    }
    r->next = cpu->memory;
    cpu->memory = r;
    *out = r->memory.base;
    return 0;
}

static void cpu_free(qs_device *d, void *p)
{
    if (!p) return;
    for (qs_cpu_memory **at = &((qs_cpu *)d)->memory; *at; at = &(*at)->next) {
        if ((*at)->memory.base != p) continue;
        qs_cpu_memory *r = *at;
        *at = r->next;
        qs_region_free(&r->memory);
        qs_free(r);
        return;
    }
    QS_ASSERT(!"memory of this device");
}

static void cpu_close(qs_device *d)
{
    qs_cpu *cpu = (qs_cpu *)d;
    while (cpu->memory) cpu_free(d, cpu->memory->memory.base);
#ifdef QS_ONEDNN
    qs_cpu_gemm_cache_free(cpu->gemm);
#endif
    qs_free(cpu);
}

static int cpu_host_register(qs_device *d, void *p, size_t bytes, qs_err *e) { return 0; }
static void cpu_host_unregister(qs_device *d, void *p) {}

static int cpu_managed_alloc(qs_device *d, size_t bytes, void **out, qs_err *e)
{
    *out = NULL;
    QS_FAIL(e, QS_EUNSUP,
            "the cpu device has no managed memory; paged optimizer states are for CUDA devices");
}
static void cpu_managed_free(qs_device *d, void *p) { QS_ASSERT(!p); }
static void cpu_managed_prefetch(qs_device *d, qs_queue q, void *p, size_t bytes, bool to_device)
{
    QS_ASSERT(!"managed memory on a cpu");
}

/* A copy between the two sides of a discrete device; of shared memory, any two blocks. */
static void copy(qs_device *d, void *to, const void *from, size_t bytes, const void *device_side,
                 const void *host_side)
{
    if (!bytes) return;
    if (d->holds) QS_ASSERT(d->holds(d, device_side, bytes) && !d->holds(d, host_side, 1));
    memmove(to, from, bytes);
}

static void cpu_copy_in(qs_device *d, qs_queue q, void *device, const void *host, size_t bytes)
{
    copy(d, device, host, bytes, device, host);
}
static void cpu_copy_out(qs_device *d, qs_queue q, void *host, const void *device, size_t bytes)
{
    copy(d, host, device, bytes, device, host);
}
static void cpu_fill(qs_device *d, qs_queue q, void *device, int byte, size_t bytes)
{
    if (d->holds && bytes) QS_ASSERT(d->holds(d, device, bytes));
    memset(device, byte, bytes);
}

static qs_event *cpu_event_create(qs_device *d) { return qs_calloc(1, sizeof(qs_event)); }
static void cpu_event_free(qs_device *d, qs_event *event) { qs_free(event); }
static void cpu_event_record(qs_device *d, qs_event *event, qs_queue q) {}
static void cpu_event_wait(qs_device *d, qs_event *event, qs_queue q) {}
static bool cpu_event_done(qs_device *d, qs_event *event) { return true; }
static void cpu_event_sync(qs_device *d, qs_event *event) {}
static void cpu_queue_sync(qs_device *d, qs_queue q) {}

static uint64_t cpu_used_bytes(qs_device *d)
{
    uint64_t sum = 0;
    for (const qs_cpu_memory *r = ((qs_cpu *)d)->memory; r; r = r->next) sum += r->memory.bytes;
    return sum;
}

static int cpu_check(qs_device *d, qs_err *e)
{
    const qs_err *failure = &((qs_cpu *)d)->failure;
    if (!failure->code) return 0;
    if (e) *e = *failure;
    return -failure->code;
}

const qs_device_api qs_device_cpu = {
    .name = "cpu",
    .count = cpu_count,
    .open = cpu_open,
    .close = cpu_close,
    .alloc = cpu_alloc,
    .free = cpu_free,
    .host_register = cpu_host_register,
    .host_unregister = cpu_host_unregister,
    .managed_alloc = cpu_managed_alloc,
    .managed_free = cpu_managed_free,
    .managed_prefetch = cpu_managed_prefetch,
    .copy_in = cpu_copy_in,
    .copy_out = cpu_copy_out,
    .fill = cpu_fill,
    .event_create = cpu_event_create,
    .event_free = cpu_event_free,
    .event_record = cpu_event_record,
    .event_wait = cpu_event_wait,
    .event_done = cpu_event_done,
    .event_sync = cpu_event_sync,
    .queue_sync = cpu_queue_sync,
    .used_bytes = cpu_used_bytes,
    .check = cpu_check,
};
