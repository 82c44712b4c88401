/* lexer.h - a template's source as tokens: text between tags, and the words inside them.
 *
 * Whitespace is taken away as jinja2 does with trim_blocks and lstrip_blocks, which is how transformers reads
 * chat templates: the newline after a block tag or comment, blanks before one on its line, and what "-" asks
 * for. One newline at the end of the source is dropped.
 */
#ifndef QS_DATA_JINJA_LEXER_H
#define QS_DATA_JINJA_LEXER_H

#include "src/base/error.h"
#include "src/data/jinja/arena.h"

typedef enum qs_jtoken_kind {
    QS_JTOKEN_END,
    QS_JTOKEN_TEXT,        /* between tags */
    QS_JTOKEN_BLOCK_BEGIN, /* {% */
    QS_JTOKEN_BLOCK_END,
    QS_JTOKEN_VARIABLE_BEGIN, /* {{ */
    QS_JTOKEN_VARIABLE_END,
    QS_JTOKEN_NAME,
    QS_JTOKEN_STRING, /* its text is unescaped */
    QS_JTOKEN_INTEGER,
    QS_JTOKEN_FLOAT,
    QS_JTOKEN_OPERATOR
} qs_jtoken_kind;

typedef struct qs_jtoken {
    qs_jtoken_kind kind;
    int line;
    const char *text; /* NUL-terminated */
    size_t bytes;
    long long integer;
    double real;
} qs_jtoken;

typedef struct qs_jtokens {
    qs_jtoken *tokens; /* the last one is QS_JTOKEN_END */
    size_t count, capacity;
} qs_jtokens;

/* Texts belong to the arena. QS_EFORMAT: "chat template line N: ...". */
int qs_jlex(qs_jarena *a, const char *source, size_t bytes, qs_jtokens *out, qs_err *e);

#define QS_JFAIL(e, line, format, ...) \
    QS_FAIL(e, QS_EFORMAT, "chat template line %d: " format, line, ##__VA_ARGS__)
/* What is said when a template wants more memory than there is for it. */
#define QS_JFAIL_MEMORY(e, line) QS_JFAIL(e, line, "needs more memory than a template may have")

#endif
