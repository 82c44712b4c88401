/* columns.h - what the columns of a row mean: which kind of row they make, which are used, and which must not
 * be passed over.
 *
 * A column that other trainers give a meaning to and that is not honoured here is refused by name; anything
 * else is named once as not used. Null means absent everywhere.
 */
#ifndef QS_DATA_COLUMNS_H
#define QS_DATA_COLUMNS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "src/base/error.h"

typedef enum qs_row_kind {
    QS_ROW_ALPACA,     /* instruction, input, output (system, history) */
    QS_ROW_MESSAGES,   /* OpenAI, ShareGPT, and prompts and completions of messages */
    QS_ROW_COMPLETION, /* prompt, completion */
    QS_ROW_TEXT,
    QS_ROW_TOKENS
} qs_row_kind;

/* Names of columns that nothing uses: the first that were met, each once. */
enum { QS_UNUSED_MAX = 48 };
typedef struct qs_unused {
    char *names[QS_UNUSED_MAX]; /* owned */
    int count;
    bool more; /* there were others */
} qs_unused;

void qs_unused_note(qs_unused *u, const char *before, const char *name);
void qs_unused_free(qs_unused *u);

/* Columns to treat as if they were not there, "a,b", and the kind of row that a configuration asks for. */
typedef struct qs_column_choice {
    const char *ignore; /* comma-separated; NULL: none */
    const char *text;   /* this column is the text, trained whole, whatever else there is; NULL: none */
} qs_column_choice;

/* Removes nulls and ignored columns. */
void qs_columns_clean(json_t *row, const qs_column_choice *choice);

/* The kind of a row; false when its columns are of no kind. */
bool qs_columns_classify(const json_t *row, const qs_column_choice *choice, qs_row_kind *kind);

/* Looks at every column of a row of this kind: QS_EFORMAT names the first that cannot be honoured and says
 * why; those that are not used are noted. odd: some numbers have no place in JSON (row_json.h); in a used
 * column they are an error. */
int qs_columns_check(const json_t *row, const qs_column_choice *choice, qs_row_kind kind, bool odd,
                     qs_unused *unused, qs_err *e);

/* Whether a value says nothing: null, "", [], {}. */
bool qs_column_is_empty(const json_t *v);

/* "a string", "a list", ...: for messages. */
const char *qs_json_type_name(const json_t *v);

/* Names of the columns, ", " between, cut to fit. */
void qs_columns_list(const json_t *row, char *text, size_t bytes);

/* true, false, 1, 0, "1", "0", ... of a mask: 1 or 0; -1 when it is neither (a fraction, a word). */
int qs_mask_value(const json_t *v);

#endif
