/* byte_cursor.h - the bytes of a source one by one, with the line they are in; shared by the readers of
 * records and tables.
 */
#ifndef QS_DATA_BYTE_CURSOR_H
#define QS_DATA_BYTE_CURSOR_H

#include <stdint.h>

#include "src/data/byte_source.h"

enum { QS_CURSOR_END = -1 };

typedef struct qs_byte_cursor {
    qs_byte_source *source;
    const char *at, *end;
    int64_t line; /* of the next byte, 1-based */
    int failed;   /* what the source returned when it failed; then every byte is QS_CURSOR_END */
    qs_err error; /* and why */
} qs_byte_cursor;

/* Fetches the next stretch; false at the end or after a failure. */
static inline int qs_byte_cursor_fill(qs_byte_cursor *c)
{
    size_t n = 0;
    if (!c->failed) c->failed = qs_byte_source_next(c->source, &c->at, &n, &c->error);
    if (c->failed) n = 0;
    c->end = n ? c->at + n : c->at;
    return n > 0;
}

static inline int qs_byte_cursor_peek(qs_byte_cursor *c)
{
    if (c->at == c->end && !qs_byte_cursor_fill(c)) return QS_CURSOR_END;
    return (unsigned char)*c->at;
}

static inline int qs_byte_cursor_next(qs_byte_cursor *c)
{
    if (c->at == c->end && !qs_byte_cursor_fill(c)) return QS_CURSOR_END;
    if (*c->at == '\n') c->line++;
    return (unsigned char)*c->at++;
}

/* What went wrong with the source, or 0: asked where a reader meets the end. */
static inline int qs_byte_cursor_check(const qs_byte_cursor *c, qs_err *e)
{
    if (c->failed && e) *e = c->error;
    return c->failed;
}

#endif
