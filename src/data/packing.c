#include "src/data/packing.h"

#include <stddef.h>
#include <string.h>

#include "src/base/error.h"
#include "src/base/memory.h"

/* Rows that are still open, by the room left in them: a list per room, and a bitmap of the lists that are not
 * empty. */
typedef struct open_rows {
    int32_t *head; /* [capacity + 1] a row, -1: none */
    int32_t *link; /* [rows] next row with the same room */
    uint64_t *bits;
    int64_t capacity;
} open_rows;

static void put(open_rows *o, int64_t room, int32_t row)
{
    o->link[row] = o->head[room];
    o->head[room] = row;
    o->bits[room / 64] |= (uint64_t)1 << room % 64;
}

/* Takes a row with the least room that is at least `length`, or -1. */
static int32_t take(open_rows *o, int64_t length, int64_t *room)
{
    int64_t word = length / 64, words = o->capacity / 64 + 1;
    uint64_t bits = o->bits[word] & ~(uint64_t)0 << length % 64;
    while (!bits && ++word < words) bits = o->bits[word];
    if (!bits) return -1;
    *room = 64 * word + __builtin_ctzll(bits);
    int32_t row = o->head[*room];
    o->head[*room] = o->link[row];
    if (o->head[*room] < 0) o->bits[word] &= ~((uint64_t)1 << *room % 64);
    return row;
}

/* Sample numbers from long to short, equal lengths ascending: a counting sort. */
static void sort_by_length(const int32_t *lengths, int64_t count, int64_t capacity, int32_t *sorted)
{
    int64_t *at = qs_calloc((size_t)capacity + 2, sizeof *at);
    for (int64_t i = 0; i < count; i++) at[capacity - lengths[i] + 1]++;
    for (int64_t k = 0; k < capacity; k++) at[k + 1] += at[k];
    for (int64_t i = 0; i < count; i++) sorted[at[capacity - lengths[i]]++] = (int32_t)i;
    qs_free(at);
}

void qs_packing_build(const int32_t *lengths, int64_t count, int64_t capacity, qs_packing *out)
{
    size_t n = (size_t)count;
    int32_t *sorted = qs_malloc(n * sizeof *sorted), *row_of = qs_malloc(n * sizeof *row_of);
    open_rows open = {qs_malloc(((size_t)capacity + 1) * sizeof(int32_t)), qs_malloc(n * sizeof(int32_t)),
                      qs_calloc((size_t)capacity / 64 + 1, sizeof(uint64_t)), capacity};
    memset(open.head, 0xff, ((size_t)capacity + 1) * sizeof(int32_t));
    for (int64_t i = 0; i < count; i++) QS_ASSERT(lengths[i] >= 1 && lengths[i] <= capacity);
    sort_by_length(lengths, count, capacity, sorted);

    int64_t rows = 0;
    for (int64_t k = 0; k < count; k++) {
        int32_t length = lengths[sorted[k]];
        int64_t room = capacity;
        int32_t row = take(&open, length, &room);
        if (row < 0) row = (int32_t)rows++;
        row_of[sorted[k]] = row;
        if (room > length) put(&open, room - length, row);
    }
    qs_free(open.head);
    qs_free(open.link);
    qs_free(open.bits);
    qs_free(sorted);

    /* Samples by row, ascending in each: another counting sort. start[r] first counts, then points to the
     * end, then the start. */
    *out = (qs_packing){rows, qs_calloc((size_t)rows + 1, sizeof(int32_t)), qs_malloc(n * sizeof(int32_t))};
    for (int64_t i = 0; i < count; i++) out->start[row_of[i]]++;
    for (int64_t r = 1; r <= rows; r++) out->start[r] += out->start[r - 1];
    for (int64_t i = count - 1; i >= 0; i--) out->samples[--out->start[row_of[i]]] = (int32_t)i;
    qs_free(row_of);
}

void qs_packing_free(qs_packing *p)
{
    qs_free(p->start);
    qs_free(p->samples);
    *p = (qs_packing){0};
}
