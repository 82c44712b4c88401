/* packing.h - which samples share a packed row.
 *
 * Best-fit decreasing: samples from long to short, each into the row in which it leaves the least room
 * (Johnson et al., "Worst-case performance bounds for simple one-dimensional packing algorithms", 1974: at
 * most 11/9 of the best possible number of rows). Equal lengths go in sample order, so the result is a
 * function of the lengths alone.
 */
#ifndef QS_DATA_PACKING_H
#define QS_DATA_PACKING_H

#include <stdint.h>

typedef struct qs_packing {
    int64_t rows;
    int32_t *start;   /* [rows + 1] into samples */
    int32_t *samples; /* row r holds samples[start[r] .. start[r + 1]), ascending */
} qs_packing;

/* lengths[count], each 1 .. capacity; count < 2^31. Freed with qs_packing_free. */
void qs_packing_build(const int32_t *lengths, int64_t count, int64_t capacity, qs_packing *out);
void qs_packing_free(qs_packing *p);

#endif
