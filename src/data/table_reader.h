/* table_reader.h - rows of a CSV or TSV file (RFC 4180): fields in quotes may hold separators, line ends and
 * doubled quotes.
 */
#ifndef QS_DATA_TABLE_READER_H
#define QS_DATA_TABLE_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/data/byte_cursor.h"

typedef struct qs_field {
    const char *text; /* NUL-terminated; may hold NULs inside */
    size_t bytes;
} qs_field;

enum { QS_TABLE_MAX_FIELDS = 4096, QS_TABLE_ROW_MAX_BYTES = 64 << 20 };

/* One row; {0} is an empty one, reused from row to row. */
typedef struct qs_table_row {
    qs_field *fields; /* [count] */
    size_t count, capacity;
    char *text;
    size_t bytes, text_capacity;
    size_t *ends; /* [capacity] of the fields in text */
    int64_t line; /* where it begins */
} qs_table_row;

void qs_table_row_free(qs_table_row *row);

/* The separator of a header line: the one of , ; and tab that stands most often outside quotes. */
char qs_table_separator(const char *line, size_t bytes);

/* Reads the next row that is not blank: 1, 0 at the end, or a negative error with file and line (QS_EFORMAT:
 * a quote that does not end, text after a closing quote, a row too long). After text behind a quote the rest
 * of the line is skipped, so that reading can go on. */
int qs_table_next(qs_byte_cursor *c, const char *path, char separator, qs_table_row *row, qs_err *e);

#endif
