#include "src/data/jinja/arena.h"

#include <string.h>

#include "src/base/memory.h"

enum { FIRST_CHUNK = 32 << 10, LARGEST_STEP = 4 << 20 };

static size_t rounded(size_t bytes) { return qs_round_up(bytes ? bytes : 1, 16); }

void *qs_jarena_get(qs_jarena *a, size_t bytes)
{
    size_t n = rounded(bytes);
    qs_jchunk *c = a->last;
    if (n < bytes || n > a->limit) return NULL;
    if (!c || c->bytes - c->used < n) {
        size_t size = c ? 2 * c->bytes : FIRST_CHUNK;
        if (size > LARGEST_STEP) size = LARGEST_STEP;
        if (size < n) size = n;
        if (a->total + size > a->limit) size = n;
        if (a->total + size > a->limit) return NULL;
        qs_jchunk *more = qs_malloc(sizeof *more + size);
        more->before = c;
        more->bytes = size;
        more->used = 0;
        a->total += size;
        a->last = c = more;
    }
    void *block = c->data + c->used;
    c->used += n;
    return block;
}

void *qs_jarena_grow(qs_jarena *a, void *block, size_t old, size_t bytes)
{
    qs_jchunk *c = a->last;
    size_t had = rounded(old), want = rounded(bytes);
    if (block && bytes <= had) return block;
    if (block && c && (char *)block + had == c->data + c->used && want >= bytes &&
        c->bytes - c->used >= want - had) {
        c->used += want - had;
        return block;
    }
    void *moved = qs_jarena_get(a, bytes);
    if (moved && old) memcpy(moved, block, old);
    return moved;
}

void qs_jarena_free(qs_jarena *a) { qs_jarena_back(a, (qs_jarena_mark){0}); }

qs_jarena_mark qs_jarena_here(const qs_jarena *a)
{
    return (qs_jarena_mark){a->last, a->last ? a->last->used : 0};
}

void qs_jarena_back(qs_jarena *a, qs_jarena_mark mark)
{
    while (a->last && a->last != mark.last) {
        qs_jchunk *gone = a->last;
        a->last = gone->before;
        a->total -= gone->bytes;
        qs_free(gone);
    }
    if (a->last) a->last->used = mark.used;
}
