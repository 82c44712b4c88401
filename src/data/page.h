/* page.h - a text that grows; {0} is an empty one.
 */
#ifndef QS_DATA_PAGE_H
#define QS_DATA_PAGE_H

#include <stddef.h>

typedef struct qs_page {
    char *text; /* NUL-terminated once something was put; freed with qs_free */
    size_t bytes, capacity;
} qs_page;

void qs_page_put(qs_page *p, const char *text, size_t bytes);
/* At most 1 KiB at a time. */
void qs_page_say(qs_page *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
