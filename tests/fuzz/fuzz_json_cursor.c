/* The reader of large JSON texts, value by value. */
#include "src/data/json_cursor.h"
#include "tests/fuzz/fuzz.h"

/* Walks a value: every member of objects and arrays down to `depth`, deeper ones skipped. */
static int walk(qs_json_cursor *c, int depth, qs_err *e)
{
    bool more;
    qs_json_part part;
    int64_t n;
    char first = qs_cursor_peek(c), close = first == '{' ? '}' : ']';
    if (first == '"') return qs_cursor_string(c, e);
    if (first >= '0' && first <= '9') return qs_cursor_integer(c, &n, e);
    if (depth == 0 || (first != '{' && first != '[')) return qs_cursor_skip(c, &part, e);
    QS_TRY(qs_cursor_enter(c, first, e));
    for (;;) {
        QS_TRY(qs_cursor_more(c, close, &more, e));
        if (!more) return 0;
        if (first == '{') QS_TRY(qs_cursor_key(c, e));
        QS_TRY(walk(c, depth - 1, e));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_json_cursor c;
    qs_err e = {0};
    fuzz_watch(size);
    qs_cursor_start(&c, "x.json", (const char *)data, size);
    walk(&c, 8, &e);
    qs_cursor_free(&c);
    return 0;
}
