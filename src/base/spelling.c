#include "src/base/spelling.h"

#include <ctype.h>
#include <string.h>

enum { LONGEST = 40 };

static bool same(char a, char b)
{
    if (a == '-') a = '_';
    if (b == '-') b = '_';
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static int least(int a, int b) { return a < b ? a : b; }

int qs_edit_distance(const char *a, size_t n, const char *b)
{
    int d[LONGEST + 1][LONGEST + 1];
    size_t m = strlen(b);
    if (n > LONGEST || m > LONGEST) return LONGEST;
    for (size_t i = 0; i <= n; i++) d[i][0] = (int)i;
    for (size_t j = 0; j <= m; j++) d[0][j] = (int)j;
    for (size_t i = 1; i <= n; i++)
        for (size_t j = 1; j <= m; j++) {
            d[i][j] = least(d[i - 1][j - 1] + !same(a[i - 1], b[j - 1]), least(d[i - 1][j], d[i][j - 1]) + 1);
            bool turned = i > 1 && j > 1 && same(a[i - 1], b[j - 2]) && same(a[i - 2], b[j - 1]);
            if (turned) d[i][j] = least(d[i][j], d[i - 2][j - 2] + 1);
        }
    return d[n][m];
}

bool qs_near_enough(int distance, const char *word) { return distance <= 1 + (int)strlen(word) / 2; }
