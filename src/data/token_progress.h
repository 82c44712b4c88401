/* token_progress.h - a line that says how far tokenising has come, where it takes longer than two seconds.
 */
#ifndef QS_DATA_TOKEN_PROGRESS_H
#define QS_DATA_TOKEN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

typedef struct qs_token_progress {
    FILE *out;            /* NULL: says nothing */
    uint64_t begun, last; /* qs_now_ns, 0 before the first call */
    bool shown;
} qs_token_progress;

/* For qs_token_cache_open; user is a qs_token_progress. On a terminal one line is written over, elsewhere one
 * comes every ten seconds. Returns 1 when the person has asked to stop. */
int qs_token_progress_show(void *user, uint64_t done, uint64_t of);

#endif
