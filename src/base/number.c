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
