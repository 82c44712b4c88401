/* memory.cpp - device, managed and registered memory of the simulated device.
 *
 * Device memory is one reserved address range. A block takes whole pages of it, its end against a closed page
 * (an overrun faults at once), the slack on both sides filled with a pattern that is checked whenever the
 * host waits. Addresses are not used again before a reset, so a stale pointer faults. The range is open only
 * while device work runs.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <map>

#include "tests/cudasim/internal.h"

static const size_t page = 4096, range_bytes = (size_t)1 << 38, context_bytes = (size_t)32 << 20;
static const unsigned char red = 0xa5;

struct block {
    char *first_page;
    size_t pages_bytes, bytes;
};

cudasim_config cudasim_options;
cudasim_stats cudasim_counts;

static char *range, *cursor;
static std::map<const char *, block> blocks;   /* device memory, by user address */
static std::map<const char *, size_t> managed; /* cudaMallocManaged */
static std::map<const char *, size_t> pinned;  /* cudaHostRegister */
static bool is_open, has_context;

void cudasim_die(const char *format, ...)
{
    char text[512];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    fprintf(stderr, "cudasim: %s%s\n", cudasim_where(), text);
    fflush(stderr);
    signal(SIGABRT, SIG_DFL);
    abort();
}

static bool in_range(const void *p)
{
    return range && (const char *)p >= range && (const char *)p < range + range_bytes;
}

template <class M>
static bool holds(const M &map, const void *p, size_t bytes,
                  size_t (*size_of)(const typename M::mapped_type &))
{
    auto it = map.upper_bound((const char *)p);
    if (it == map.begin()) return false;
    --it;
    return (const char *)p + bytes <= it->first + size_of(it->second);
}
static size_t block_size(const block &b) { return b.bytes; }
static size_t plain_size(const size_t &n) { return n; }

const char *cudasim_describe(const void *p)
{
    if (holds(blocks, p, 1, block_size)) return "device memory";
    if (in_range(p)) return "device address outside every block (freed, or an overrun)";
    if (holds(managed, p, 1, plain_size)) return "managed memory";
    return "host memory";
}

void cudasim_check_device(const void *p, size_t bytes, const char *what)
{
    if (!bytes || holds(blocks, p, bytes, block_size) || holds(managed, p, bytes, plain_size)) return;
    cudasim_die("%s: %zu bytes at %p do not lie in one block of device memory (%s)", what, bytes, p,
                cudasim_describe(p));
}

void cudasim_check_host(const void *p, size_t bytes, const char *what)
{
    if (bytes && (in_range(p) || in_range((const char *)p + bytes - 1)))
        cudasim_die("%s: %p is a device address where host memory is expected", what, p);
}

/* Programs, heaps and stacks lie above this; pairs of small numbers, and the sanitizers' shadows, below. */
static const uintptr_t lowest_address = (uintptr_t)0x5000 << 32;

/* A mapped address outside device and managed memory is a host pointer. */
void cudasim_check_words(const char *kernel, const void *argument, size_t bytes)
{
    for (size_t at = 0; at + 8 <= bytes; at += 8) {
        uintptr_t word;
        unsigned char resident;
        memcpy(&word, (const char *)argument + at, 8);
        if (word < lowest_address || word >> 48) continue;
        const void *p = (const void *)word;
        if (in_range(p)) {
            if (!holds(blocks, p, 0, block_size))
                cudasim_die("kernel %s: an argument, at byte %zu: %p is a %s", kernel, at, p,
                            cudasim_describe(p));
            continue;
        }
        if (holds(managed, p, 0, plain_size)) continue;
        if (mincore((void *)(word & ~(page - 1)), 1, &resident) == 0)
            cudasim_die("kernel %s: an argument, at byte %zu: %p is a host pointer", kernel, at, p);
    }
}

static void protect(int how)
{
    for (auto &entry : blocks)
        if (mprotect(entry.second.first_page, entry.second.pages_bytes, how))
            cudasim_die("mprotect: %s", strerror(errno));
}
void cudasim_open_memory(void)
{
    if (!is_open) protect(PROT_READ | PROT_WRITE);
    is_open = true;
}
void cudasim_close_memory(void)
{
    cudasim_check_red_zones();
    if (is_open) protect(PROT_NONE);
    is_open = false;
}

static void check_zone(const block &b, const char *from, const char *to, const char *user)
{
    for (const char *p = from; p < to; p++)
        if ((unsigned char)*p != red)
            cudasim_die("byte %td of a block of %zu bytes at %p was written", p - user, b.bytes,
                        (const void *)user);
}
void cudasim_check_red_zones(void)
{
    if (!is_open) return;
    for (auto &entry : blocks) {
        const block &b = entry.second;
        check_zone(b, b.first_page, entry.first, entry.first);
        check_zone(b, entry.first + b.bytes, b.first_page + b.pages_bytes, entry.first);
    }
}

/* ---- faults: say who did it before dying ------------------------------------------------------------- */

static void on_fault(int number, siginfo_t *info, void *)
{
    const void *p = info->si_addr;
    if (in_range(p) && !cudasim_current)
        fprintf(stderr, "cudasim: the host touched %s at %p\n", cudasim_describe(p), p);
    else if (cudasim_current)
        fprintf(stderr, "cudasim: %stouched %p: %s\n", cudasim_where(), p, cudasim_describe(p));
    fflush(stderr);
    signal(number, SIG_DFL); /* the instruction faults again and ends the process */
}

static void watch_faults(void)
{
    static char stack[64 << 10];
    stack_t alternate = {};
    alternate.ss_sp = stack;
    alternate.ss_size = sizeof stack;
    sigaltstack(&alternate, NULL);
    struct sigaction action = {};
    action.sa_sigaction = on_fault;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, NULL);
}

void cudasim_memory_reset(void)
{
    if (!blocks.empty() || !managed.empty() || !pinned.empty())
        cudasim_die("%zu device blocks, %zu managed blocks and %zu registrations were never freed",
                    blocks.size(), managed.size(), pinned.size());
    if (!range) {
        void *p = mmap(NULL, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (p == MAP_FAILED) cudasim_die("cannot reserve the device's address range: %s", strerror(errno));
        range = (char *)p;
        watch_faults();
    }
    cursor = range;
    is_open = has_context = false;
}

void cudasim_make_context(void) { has_context = true; }
size_t cudasim_taken_bytes(bool ours_only)
{
    return cudasim_counts.device_bytes + (has_context ? context_bytes : 0) +
           (ours_only ? 0 : cudasim_options.others_bytes);
}

/* ---- the runtime's calls ----------------------------------------------------------------------------- */

cudaError_t cudaMalloc(void **out, size_t bytes)
{
    cudasim_make_context();
    if (cudasim_taken_bytes(false) + bytes > cudasim_options.capacity_bytes)
        return cudasim_fail(cudaErrorMemoryAllocation);
    size_t padded = (bytes + 255) & ~(size_t)255;
    size_t pages_bytes = (padded + page - 1) & ~(page - 1);
    if (cursor + pages_bytes + 2 * page > range + range_bytes)
        cudasim_die("the address range is used up: reset more often");
    block b = {cursor + page, pages_bytes, bytes};
    char *user = b.first_page + pages_bytes - padded;
    cursor += pages_bytes + page; /* the page in between stays closed */
    mprotect(b.first_page, pages_bytes, PROT_READ | PROT_WRITE);
    madvise(b.first_page, pages_bytes, MADV_HUGEPAGE); /* poisoning 4 KiB at a time is mostly page faults */
    memset(b.first_page, red, pages_bytes);
    memset(user, 0xff, bytes);
    if (!is_open) mprotect(b.first_page, pages_bytes, PROT_NONE);
    blocks[user] = b;
    cudasim_counts.blocks++;
    cudasim_counts.device_bytes += bytes;
    if (cudasim_counts.device_bytes > cudasim_counts.peak_device_bytes)
        cudasim_counts.peak_device_bytes = cudasim_counts.device_bytes;
    *out = user;
    return cudaSuccess;
}

cudaError_t cudaFree(void *p)
{
    if (!p) return cudaSuccess;
    cudaDeviceSynchronize(); /* as the hardware does */
    auto m = managed.find((char *)p);
    if (m != managed.end()) {
        munmap(p, m->second);
        cudasim_counts.managed_bytes -= m->second;
        managed.erase(m);
        return cudaSuccess;
    }
    auto it = blocks.find((char *)p);
    if (it == blocks.end())
        cudasim_die("cudaFree: %p is not the start of a block (%s)", p, cudasim_describe(p));
    cudasim_counts.blocks--;
    cudasim_counts.device_bytes -= it->second.bytes;
    madvise(it->second.first_page, it->second.pages_bytes, MADV_DONTNEED);
    mprotect(it->second.first_page, it->second.pages_bytes, PROT_NONE);
    blocks.erase(it);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    cudasim_make_context();
    *total_bytes = cudasim_options.capacity_bytes;
    *free_bytes = cudasim_options.capacity_bytes - cudasim_taken_bytes(false);
    return cudaSuccess;
}

cudaError_t cudaMallocManaged(void **out, size_t bytes, unsigned)
{
    if (!bytes) return cudasim_fail(cudaErrorInvalidValue);
    size_t rounded = (bytes + page - 1) & ~(page - 1);
    void *p = mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return cudasim_fail(cudaErrorMemoryAllocation);
    managed[(char *)p] = rounded;
    cudasim_counts.managed_bytes += rounded;
    *out = p;
    return cudaSuccess;
}

static cudaError_t advise(const void *p, size_t bytes)
{
    return cudasim_options.no_managed || !holds(managed, p, bytes, plain_size)
               ? cudasim_fail(cudaErrorInvalidValue)
               : cudaSuccess;
}
static cudaError_t prefetch(const void *p, size_t bytes, bool to_device, cudaStream_t stream)
{
    if (advise(p, bytes)) return cudaErrorInvalidValue;
    cudasim_enqueue(stream, [=] {
        (to_device ? cudasim_counts.prefetched_in_bytes : cudasim_counts.prefetched_out_bytes) += bytes;
    });
    return cudaSuccess;
}
#if CUDART_VERSION >= 13000
cudaError_t cudaMemAdvise(const void *p, size_t bytes, cudaMemoryAdvise, cudaMemLocation)
{
    return advise(p, bytes);
}
cudaError_t cudaMemPrefetchAsync(const void *p, size_t bytes, cudaMemLocation location, unsigned,
                                 cudaStream_t stream)
{
    return prefetch(p, bytes, location.type == cudaMemLocationTypeDevice, stream);
}
#else
cudaError_t cudaMemAdvise(const void *p, size_t bytes, cudaMemoryAdvise, int) { return advise(p, bytes); }
cudaError_t cudaMemPrefetchAsync(const void *p, size_t bytes, int device, cudaStream_t stream)
{
    return prefetch(p, bytes, device != cudaCpuDeviceId, stream);
}
#endif

cudaError_t cudaHostRegister(void *p, size_t bytes, unsigned)
{
    size_t limit = cudasim_options.pinned_limit_bytes;
    if (!bytes || in_range(p)) return cudasim_fail(cudaErrorInvalidValue);
    auto next = pinned.lower_bound((char *)p + bytes);
    if (next != pinned.begin() && (--next, next->first + next->second > (char *)p))
        return cudasim_fail(cudaErrorHostMemoryAlreadyRegistered);
    if (limit && cudasim_counts.pinned_bytes + bytes > limit) return cudasim_fail(cudaErrorMemoryAllocation);
    pinned[(char *)p] = bytes;
    cudasim_counts.pinned_bytes += bytes;
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *p)
{
    auto it = pinned.find((char *)p);
    if (it == pinned.end()) return cudasim_fail(cudaErrorHostMemoryNotRegistered);
    cudaDeviceSynchronize();
    cudasim_counts.pinned_bytes -= it->second;
    pinned.erase(it);
    return cudaSuccess;
}

/* ---- the tests' view --------------------------------------------------------------------------------- */

cudasim_stats cudasim_read(void) { return cudasim_counts; }

static void debugger_copy(void *dst, const void *src, size_t bytes)
{
    bool was_open = is_open;
    cudasim_open_memory();
    memcpy(dst, src, bytes);
    if (!was_open) cudasim_close_memory();
}
void cudasim_peek(void *host, const void *device, size_t bytes)
{
    cudasim_check_device(device, bytes, "cudasim_peek");
    debugger_copy(host, device, bytes);
}
void cudasim_poke(void *device, const void *host, size_t bytes)
{
    cudasim_check_device(device, bytes, "cudasim_poke");
    debugger_copy(device, host, bytes);
}
