#include "src/base/error.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void fill(char *text, size_t capacity, const char *format, va_list args)
{
    int n = vsnprintf(text, capacity, format, args);
    if (n >= (int)capacity) memcpy(text + capacity - 4, "...", 4);
}

int qs_err_set(qs_err *e, int code, const char *file, int line, const char *format, ...)
{
    if (e) {
        /* The old text may be among the arguments (a wrapped message), so format aside first. */
        char text[QS_ERR_TEXT];
        va_list args;
        va_start(args, format);
        fill(text, sizeof text, format, args);
        va_end(args);
        memcpy(e->text, text, sizeof text);
        e->code = code;
        e->file = file;
        e->line = line;
    }
    return -code;
}

int qs_err_prefix(qs_err *e, const char *format, ...)
{
    char prefix[256], text[QS_ERR_TEXT];
    va_list args;
    va_start(args, format);
    fill(prefix, sizeof prefix, format, args);
    va_end(args);
    int n = snprintf(text, sizeof text, "%s: %s", prefix, e->text);
    if (n >= (int)sizeof text) memcpy(text + sizeof text - 4, "...", 4);
    memcpy(e->text, text, sizeof text);
    return -e->code;
}

void qs_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "qlora-stream: bug: %s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
