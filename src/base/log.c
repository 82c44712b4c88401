#include "src/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

static qs_log_level shown = QS_LOG_INFO;

void qs_log_set_level(qs_log_level level) { shown = level; }

void qs_log(qs_log_level level, const char *format, ...)
{
    static const char *const prefix[] = {"error: ", "warning: ", "", "debug: "};
    if (level > shown) return;
    char line[2048];
    int n = snprintf(line, sizeof line, "%s", prefix[level]);
    va_list args;
    va_start(args, format);
    int m = vsnprintf(line + n, sizeof line - (size_t)n - 1, format, args);
    va_end(args);
    n = m < 0 ? n : n + m;
    if (n > (int)sizeof line - 2) n = (int)sizeof line - 2;
    line[n++] = '\n';
    fwrite(line, 1, (size_t)n, stderr);
}
