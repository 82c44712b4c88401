/* token_rows.h - rows that were tokenised elsewhere: ids with the masks and positions that other trainers
 * write beside them.
 */
#ifndef QS_DATA_TOKEN_ROWS_H
#define QS_DATA_TOKEN_ROWS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

/* One row. {0} is an empty one, reused from row to row. */
typedef struct qs_token_row {
    int32_t *ids, *labels; /* [count] without padding; labels: the id, or -100 */
    int32_t *documents;    /* [document_count + 1] where each begins; the last entry is count */
    size_t count, document_count, capacity;
    bool masked; /* labels say something: otherwise everything is trained */
} qs_token_row;

/* Reads input_ids, labels, attention_mask (0 at the ends: padding, left out), completion_mask and
 * assistant_masks (0: not trained), position_ids (a 0 begins a new document). QS_EFORMAT names the column and
 * the place. */
int qs_token_row_read(qs_token_row *t, json_t *row, qs_err *e);
void qs_token_row_free(qs_token_row *t);

#endif
