#include "src/base/duration.h"

#include <math.h>
#include <stdio.h>

const char *qs_format_duration(double seconds, char text[16])
{
    enum { SIZE = 16 };
    long long s = isfinite(seconds) && seconds >= 0 && seconds <= 1e9 ? (long long)(seconds + 0.5) : -1;
    if (s < 0)
        snprintf(text, SIZE, "-");
    else if (s < 60)
        snprintf(text, SIZE, "%llds", s);
    else if (s < 3600)
        snprintf(text, SIZE, "%lldm%02llds", s / 60, s % 60);
    else if (s < 86400)
        snprintf(text, SIZE, "%lldh%02lldm", s / 3600, s / 60 % 60);
    else
        snprintf(text, SIZE, "%lldd%02lldh", s / 86400, s / 3600 % 24);
    return text;
}
