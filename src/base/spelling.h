/* spelling.h - how far a mistyped name is from a right one. */
#ifndef QS_BASE_SPELLING_H
#define QS_BASE_SPELLING_H

#include <stdbool.h>
#include <stddef.h>

/* Edit distance with transpositions (optimal string alignment) between a[0, n) and b. - and _ are the same,
 * and so are small and capital letters. 40 where either is longer than that. */
int qs_edit_distance(const char *a, size_t n, const char *b);

/* Whether a suggestion at this distance helps whoever typed `word`: further away than half the word it would
 * only puzzle. */
bool qs_near_enough(int distance, const char *word);

#endif
