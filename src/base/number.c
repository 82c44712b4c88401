#include "src/base/number.h"

#include <stdio.h>
#include <stdlib.h>

const char *qs_number_text(double v, char out[QS_NUMBER_TEXT])
{
    for (int digits = 1; digits <= 17; digits++) { /* 17 always suffice for an IEEE double */
        snprintf(out, QS_NUMBER_TEXT, "%.*g", digits, v);
        if (strtod(out, NULL) == v) break;
    }
    return out;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

double qs_median(double *v, int n)
{
    qsort(v, (size_t)n, sizeof *v, ascending);
    return v[n / 2];
}
