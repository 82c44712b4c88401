/* arena.h - memory of one template or of one rendering: handed out in order, given back all at once.
 *
 * Nothing in it is freed by itself. It never holds more than its limit: a template that wants more is
 * refused.
 */
#ifndef QS_DATA_JINJA_ARENA_H
#define QS_DATA_JINJA_ARENA_H

#include <stddef.h>

typedef struct qs_jchunk {
    struct qs_jchunk *before;
    size_t bytes, used;
    _Alignas(16) char data[];
} qs_jchunk;

typedef struct qs_jarena {
    qs_jchunk *last;
    size_t total, limit; /* bytes of all chunks; what they may come to */
} qs_jarena;             /* {.limit = n} is an empty one */

/* Aligned to 16 bytes, not cleared. NULL when the limit is reached. */
void *qs_jarena_get(qs_jarena *a, size_t bytes);
/* Makes a block of `old` bytes one of `bytes`, in place where it was the last one. NULL when the limit is
 * reached. */
void *qs_jarena_grow(qs_jarena *a, void *block, size_t old, size_t bytes);
void qs_jarena_free(qs_jarena *a);

/* Everything got after a mark is given back by going back to it. */
typedef struct qs_jarena_mark {
    qs_jchunk *last;
    size_t used;
} qs_jarena_mark;

qs_jarena_mark qs_jarena_here(const qs_jarena *a);
void qs_jarena_back(qs_jarena *a, qs_jarena_mark mark);

#endif
