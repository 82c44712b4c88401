#include "src/base/terminal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

bool qs_terminal(FILE *f)
{
    const char *term = getenv("TERM");
    return isatty(fileno(f)) && term && strcmp(term, "dumb") != 0;
}

bool qs_terminal_color(FILE *f, bool no_color)
{
    const char *asked = getenv("NO_COLOR");
    return qs_terminal(f) && !no_color && !(asked && *asked);
}

int qs_terminal_columns(FILE *f)
{
    struct winsize w;
    return !ioctl(fileno(f), TIOCGWINSZ, &w) && w.ws_col > 1 ? w.ws_col : 80;
}
