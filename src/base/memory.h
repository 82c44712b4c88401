/* memory.h - where every byte of host memory comes from.
 *
 * Two kinds. Small, short-lived memory (parsers, tables, options) comes from qs_malloc and friends, which
 * count live bytes, their peak and the number of calls: a test pins that count inside a training step to
 * zero. Everything large is one block per pool (qs_region), mapped once at the start from the plan and carved
 * by base/arena.h; a block is zero-filled, page-aligned, and touched before use so that a shortage shows at
 * once.
 */
#ifndef QS_BASE_MEMORY_H
#define QS_BASE_MEMORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

typedef struct qs_mem_stats {
    uint64_t live_bytes, peak_bytes; /* of qs_malloc memory */
    uint64_t calls;                  /* allocations ever made, blocks included */
    uint64_t block_bytes;            /* mapped in blocks now */
} qs_mem_stats;

/* Like malloc/calloc/realloc/strdup, but never return NULL: running out of memory for small things ends the
 * process with a sentence and status 1. Sizes multiply with overflow checks. Free with qs_free only;
 * qs_free(NULL) is fine. Thread safe. */
void *qs_malloc(size_t bytes);
void *qs_calloc(size_t count, size_t bytes);
void *qs_realloc(void *old, size_t bytes);
char *qs_strdup(const char *s);
char *qs_strndup(const char *s, size_t n);
char *qs_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
void qs_free(void *p);
/* Ends the process so, for a shortage met elsewhere; bytes 0: unknown. */
_Noreturn void qs_out_of_memory(size_t bytes);
/* C++ libraries that run out of memory end the process in the same way, instead of aborting. Once, at the
 * start. */
void qs_memory_guard_libraries(void);
/* Whether the system would give so much more now: asked before a library that cannot bear a refusal. */
bool qs_memory_is_there(size_t bytes);

/* For libraries that take an allocator: the same without counting. Free with free(). */
void *qs_malloc_for_library(size_t bytes);

/* The counters as they are now. Thread safe. */
qs_mem_stats qs_mem_read(void);

typedef struct qs_region {
    void *base;
    size_t bytes; /* rounded up to whole pages */
} qs_region;

/* Maps bytes of zeroed anonymous memory, asking for huge pages, without touching it. `tag` names the block in
 * the error (QS_ENOMEM). bytes 0 gives an empty block with base NULL. Free with qs_region_free. */
int qs_region_map(qs_region *out, size_t bytes, const char *tag, qs_err *e);

/* Touches every page, so that the memory is really there. */
void qs_region_touch(const qs_region *block);

/* Unmaps; safe on an empty or already freed block. */
void qs_region_free(qs_region *block);

/* The process's resident set now and at its peak, in bytes (/proc/self/status VmRSS, VmHWM); 0 when unknown.
 */
uint64_t qs_rss_bytes(void);
uint64_t qs_rss_peak_bytes(void);

/* Gives free heap pages back to the system, after a phase that used many small blocks. */
void qs_mem_trim(void);

static inline size_t qs_round_up(size_t n, size_t multiple)
{
    return (n + multiple - 1) / multiple * multiple;
}

/* Says that whoever had this memory has it no more: what is in it may be overwritten at once. Nothing
 * happens; a test program has its own (tests/support/poison.c), which overwrites it, so that a use after
 * release shows. */
void qs_memory_taken_over(void *memory, size_t bytes);

#endif
