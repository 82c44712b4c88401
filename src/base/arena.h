/* arena.h - carves a block into named parts, in order, once.
 *
 * The same code sizes and carves: an arena without a base only counts, so a plan is made by running the
 * carving code against a counting arena, and a run by running it again against real memory. Hence used ==
 * planned.
 *
 *     qs_arena a = {0};                       // counting
 *     build(&a);  size = a.used;              // how much it takes
 *     a = (qs_arena){.base = p, .capacity = size};
 *     build(&a);  QS_ASSERT(a.used == size);  // the same parts, for real
 */
#ifndef QS_BASE_ARENA_H
#define QS_BASE_ARENA_H

#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

#define QS_ARENA_ALIGN 64

typedef struct qs_arena {
    char *base;      /* NULL: count only */
    size_t capacity; /* bytes at base; unused when counting */
    size_t used;
} qs_arena;

/* The next `bytes` bytes at a multiple of `align` (a power of two; base must be as aligned). Returns NULL
 * when counting. Running out is a bug: sizes come from a counting pass. bytes 0 takes nothing and returns
 * NULL. */
static inline void *qs_arena_take(qs_arena *a, size_t bytes, size_t align)
{
    if (!bytes) return NULL;
    a->used = (a->used + align - 1) & ~(align - 1);
    void *p = a->base ? a->base + a->used : NULL;
    a->used += bytes;
    if (a->base) QS_ASSERT(a->used <= a->capacity);
    return p;
}

#endif
