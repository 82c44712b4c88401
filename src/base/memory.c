#include "src/base/memory.h"

#include <dlfcn.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static atomic_ullong live, peak, calls, blocks;

/* Small memory is needed where nothing can be undone, so its end is the program's; what is on disk is whole
 * at any instant. */
void qs_out_of_memory(size_t bytes)
{
    char what[64] = "what a library asked for";
    if (bytes) snprintf(what, sizeof what, "%zu bytes", bytes);
    fprintf(stderr,
            "qlora-stream: out of memory: the system refused %s; give less --vram or --ram, or end other "
            "programs. What was saved is whole: "
            "--resume goes on from the last checkpoint\n",
            what);
    _exit(1);
}

static void *there(void *p, size_t bytes)
{
    if (!p) qs_out_of_memory(bytes);
    return p;
}

static void library_is_out(void) { qs_out_of_memory(0); }

void qs_memory_guard_libraries(void)
{
    /* std::set_new_handler, where a library has brought C++ with it: its exceptions would end in abort(). */
    void (*(*set)(void (*)(void)))(void) =
        (void (*(*)(void (*)(void)))(void))dlsym(RTLD_DEFAULT, "_ZSt15set_new_handlerPFvvE");
    if (set) set(library_is_out);
}

bool qs_memory_is_there(size_t bytes)
{
    void *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return p != MAP_FAILED && !munmap(p, bytes);
}

void *qs_malloc_for_library(size_t bytes) { return there(malloc(bytes ? bytes : 1), bytes); }

static void *counted(void *p, size_t bytes)
{
    there(p, bytes);
    atomic_fetch_add(&calls, 1);
    unsigned long long now = atomic_fetch_add(&live, malloc_usable_size(p)) + malloc_usable_size(p);
    unsigned long long old = atomic_load(&peak);
    while (now > old && !atomic_compare_exchange_weak(&peak, &old, now)) {
    }
    return p;
}

void *qs_malloc(size_t bytes) { return counted(malloc(bytes ? bytes : 1), bytes); }

void *qs_calloc(size_t count, size_t bytes)
{
    return counted(calloc(count ? count : 1, bytes ? bytes : 1), count * bytes);
}

void *qs_realloc(void *old, size_t bytes)
{
    if (old) atomic_fetch_sub(&live, malloc_usable_size(old));
    return counted(realloc(old, bytes ? bytes : 1), bytes);
}

char *qs_strndup(const char *s, size_t n)
{
    size_t length = strnlen(s, n);
    char *copy = qs_malloc(length + 1);
    memcpy(copy, s, length);
    copy[length] = 0;
    return copy;
}

char *qs_strdup(const char *s) { return qs_strndup(s, strlen(s)); }

char *qs_printf(const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, format, args);
    va_end(args);
    QS_ASSERT(n >= 0);
    char *text = qs_malloc((size_t)n + 1);
    vsnprintf(text, (size_t)n + 1, format, again);
    va_end(again);
    return text;
}

void qs_free(void *p)
{
    if (!p) return;
    atomic_fetch_sub(&live, malloc_usable_size(p));
    free(p);
}

qs_mem_stats qs_mem_read(void)
{
    return (qs_mem_stats){.live_bytes = atomic_load(&live),
                          .peak_bytes = atomic_load(&peak),
                          .calls = atomic_load(&calls),
                          .block_bytes = atomic_load(&blocks)};
}

/* Huge pages are asked for only where they cannot add more than a little to the resident set. */
#define HUGE_PAGE_BYTES ((size_t)2 << 20)

int qs_region_map(qs_region *out, size_t bytes, const char *tag, qs_err *e)
{
    *out = (qs_region){0};
    if (!bytes) return 0;
    size_t rounded = qs_round_up(bytes, (size_t)sysconf(_SC_PAGESIZE));
    void *base =
        mmap(NULL, rounded, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED)
        QS_FAIL(e, QS_ENOMEM, "the system refused %zu bytes for %s; use smaller --vram or --ram", rounded,
                tag);
    if (rounded >= 8 * HUGE_PAGE_BYTES) madvise(base, rounded, MADV_HUGEPAGE);
    *out = (qs_region){base, rounded};
    atomic_fetch_add(&calls, 1);
    atomic_fetch_add(&blocks, rounded);
    return 0;
}

void qs_region_touch(const qs_region *block)
{
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    for (size_t at = 0; at < block->bytes; at += page) ((volatile char *)block->base)[at] = 0;
}

void qs_region_free(qs_region *block)
{
    if (!block->base) return;
    munmap(block->base, block->bytes);
    atomic_fetch_sub(&blocks, block->bytes);
    *block = (qs_region){0};
}

static uint64_t status_kib(const char *key)
{
    FILE *f = fopen("/proc/self/status", "re");
    if (!f) return 0;
    char line[256];
    unsigned long long kib = 0;
    size_t n = strlen(key);
    while (fgets(line, sizeof line, f))
        if (!strncmp(line, key, n) && line[n] == ':') {
            kib = strtoull(line + n + 1, NULL, 10);
            break;
        }
    fclose(f);
    return kib * 1024;
}

uint64_t qs_rss_bytes(void) { return status_kib("VmRSS"); }
uint64_t qs_rss_peak_bytes(void) { return status_kib("VmHWM"); }

void qs_mem_trim(void) { malloc_trim(0); }

__attribute__((weak)) void qs_memory_taken_over(void *memory, size_t bytes) {}
