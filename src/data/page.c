#include "src/data/page.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"

void qs_page_put(qs_page *p, const char *text, size_t bytes)
{
    if (p->bytes + bytes + 1 > p->capacity) {
        p->capacity = 2 * (p->bytes + bytes) + 1024;
        p->text = qs_realloc(p->text, p->capacity);
    }
    memcpy(p->text + p->bytes, text, bytes);
    p->bytes += bytes;
    p->text[p->bytes] = 0;
}

void qs_page_say(qs_page *p, const char *format, ...)
{
    char line[1024];
    va_list list;
    va_start(list, format);
    int n = vsnprintf(line, sizeof line, format, list);
    va_end(list);
    qs_page_put(p, line, n < (int)sizeof line ? (size_t)n : sizeof line - 1);
}
