/* record_reader.h - cuts a data file into records, holding one record at a time.
 *
 * A record is the text of one JSON value, or one document of plain text. Nothing is parsed here beyond what it takes to find
 * the ends: a JSON array of a terabyte is read in the memory of its largest element.
 */
#ifndef QS_DATA_RECORD_READER_H
#define QS_DATA_RECORD_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

typedef enum qs_record_format {
    QS_RECORDS_ARRAY,  /* [ {...}, {...} ] */
    QS_RECORDS_LINES,  /* one object per line */
    QS_RECORDS_VALUES, /* objects one after another, over several lines */
    QS_RECORDS_TEXT    /* documents between lines that hold only <|endoftext|> */
} qs_record_format;

enum {
    QS_RECORD_MAX_BYTES = 64 << 20, /* a longer JSON record is an error */
    QS_DOCUMENT_CUT_BYTES = 1 << 20 /* a longer document of plain text ends at the next line */
};

typedef struct qs_record_reader qs_record_reader;

/* Opens the file and looks at its first bytes. `path` is copied. */
int qs_record_reader_open(const char *path, qs_record_reader **out, qs_err *e);
void qs_record_reader_close(qs_record_reader *r);
qs_record_format qs_record_reader_format(const qs_record_reader *r);

typedef struct qs_record {
    const char *text; /* NUL-terminated, of the reader, valid until the next call */
    size_t bytes;
    int64_t line; /* 1-based, where it begins */
} qs_record;

/* 1 and the next record, 0 at the end, or a negative error naming file and line. Blank lines and empty documents are skipped. */
int qs_record_reader_next(qs_record_reader *r, qs_record *out, qs_err *e);

/* Bytes of the file read so far, and its size. */
void qs_record_reader_progress(const qs_record_reader *r, uint64_t *done, uint64_t *of);

#endif
