/* record_reader.h - cuts a data file into records, holding one record at a time.
 *
 * A record is the text of one JSON value, one row of a table, or one document of plain text. Nothing is
 * parsed here beyond what it takes to find the ends: a JSON array of a terabyte is read in the memory of its
 * largest element. Packed files and UTF-16: byte_source.h.
 *
 * An object whose key "data", "rows", "examples", "train", ... holds an array of objects is read as that
 * array.
 */
#ifndef QS_DATA_RECORD_READER_H
#define QS_DATA_RECORD_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/data/table_reader.h"

typedef enum qs_record_format {
    QS_RECORDS_ARRAY,  /* [ {...}, {...} ] */
    QS_RECORDS_LINES,  /* one object per line */
    QS_RECORDS_VALUES, /* objects one after another, over several lines */
    QS_RECORDS_TABLE,  /* CSV or TSV, with a header */
    QS_RECORDS_TEXT    /* documents between lines that hold only <|endoftext|> */
} qs_record_format;

enum {
    QS_RECORD_MAX_BYTES = 64 << 20, /* a longer JSON record is an error */
    QS_DOCUMENT_CUT_BYTES = 1 << 20 /* a longer document of plain text ends at the next line */
};

typedef struct qs_record_reader qs_record_reader;

/* Opens the file and looks at its first bytes. `path` is copied. What is no data file (a web page, a Git LFS
 * pointer, Parquet) is named. */
int qs_record_reader_open(const char *path, qs_record_reader **out, qs_err *e);
void qs_record_reader_close(qs_record_reader *r);
qs_record_format qs_record_reader_format(const qs_record_reader *r);

typedef struct qs_record {
    const char
        *text; /* NUL-terminated, of the reader, valid until the next call; NULL for a row of a table */
    size_t bytes;
    const qs_field *names, *fields; /* [field_count] of a table's row: the header's and its own */
    size_t field_count;
    int64_t line; /* 1-based, where it begins */
} qs_record;

/* 1 and the next record, 0 at the end, or a negative error naming file and line. Blank lines and empty
 * documents are skipped. */
int qs_record_reader_next(qs_record_reader *r, qs_record *out, qs_err *e);

/* After an error: whether the next call goes on behind the bad record (lines and tables), or the file is lost
 * from there. */
bool qs_record_reader_goes_on(const qs_record_reader *r);

/* Bytes of the file read so far, and its size. */
void qs_record_reader_progress(const qs_record_reader *r, uint64_t *done, uint64_t *of);

#endif
