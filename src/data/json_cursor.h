/* json_cursor.h - reads a large JSON text in place, value by value, without a tree.
 *
 * A tokenizer.json holds hundreds of thousands of strings: a tree of them takes ten times the memory of the
 * tables made from it. The cursor walks the text once and hands out one string at a time.
 *
 *     QS_TRY(qs_cursor_enter(&c, '{', e));
 *     while (qs_cursor_more(&c, '}', &more, e) == 0 && more) {
 *         QS_TRY(qs_cursor_key(&c, e));            // c.string, c.string_bytes
 *         QS_TRY(qs_cursor_skip(&c, &value, e));   // or _string, _integer, _enter
 *     }
 */
#ifndef QS_DATA_JSON_CURSOR_H
#define QS_DATA_JSON_CURSOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

/* A part of the text. */
typedef struct qs_json_part {
    const char *text; /* NULL: not there */
    size_t bytes;
} qs_json_part;

typedef struct qs_json_cursor {
    const char *file; /* for messages; borrowed */
    const char *begin, *at, *end;
    bool fresh;   /* just after an opening bracket: no comma expected */
    char *string; /* the last string, unescaped, NUL-terminated; owned, may hold NULs */
    size_t string_bytes, string_capacity;
} qs_json_cursor;

/* Starts at a text, which must outlive the cursor. */
void qs_cursor_start(qs_json_cursor *c, const char *file, const char *text, size_t bytes);
void qs_cursor_free(qs_json_cursor *c);

/* Each fails with QS_EFORMAT naming file and byte offset when the text is something else. */
int qs_cursor_enter(qs_json_cursor *c, char bracket, qs_err *e);
/* Whether another element comes; takes the comma or the closing bracket. */
int qs_cursor_more(qs_json_cursor *c, char close, bool *more, qs_err *e);
int qs_cursor_string(qs_json_cursor *c, qs_err *e);
/* A string and the colon after it. */
int qs_cursor_key(qs_json_cursor *c, qs_err *e);
int qs_cursor_integer(qs_json_cursor *c, int64_t *out, qs_err *e);
int qs_cursor_skip(qs_json_cursor *c, qs_json_part *out, qs_err *e);
/* The first byte of the next value, 0 at the end. */
char qs_cursor_peek(qs_json_cursor *c);

#endif
