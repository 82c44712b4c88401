#include "src/data/row_json.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"

/* Whether text[0, n) is a number, or Python's name of one, that jansson does not take. */
static bool is_odd(const char *text, size_t n)
{
    char number[400];
    const char *digits = text + (*text == '-');
    size_t left = n - (size_t)(digits - text);
    if ((left == 8 && memcmp(digits, "Infinity", 8) == 0) || (n == 3 && memcmp(text, "NaN", 3) == 0))
        return true;
    if (!left || !isdigit((unsigned char)*digits)) return false;
    size_t whole = 0;
    while (whole < left && isdigit((unsigned char)digits[whole])) whole++;
    if (n >= sizeof number) return true;
    memcpy(number, text, n);
    number[n] = 0;
    errno = 0;
    if (whole == left) return strtoll(number, NULL, 10), errno == ERANGE;
    return isinf(strtod(number, NULL));
}

static bool in_number(char c) { return isalnum((unsigned char)c) || c == '+' || c == '-' || c == '.'; }

/* The text with such numbers written as strings; NULL when there are none. */
static char *without_odd(const char *text, size_t bytes, size_t *out_bytes)
{
    static const char begins[] = "\"\\u0001";
    char *out = NULL;
    size_t used = 0, copied = 0;
    bool string = false;
    for (size_t i = 0; i < bytes; i++) {
        if (string) {
            if (text[i] == '\\')
                i++;
            else if (text[i] == '"')
                string = false;
            continue;
        }
        if (text[i] == '"') string = true;
        if (!in_number(text[i])) continue;
        size_t n = 1;
        while (i + n < bytes && in_number(text[i + n])) n++;
        if (is_odd(text + i, n)) {
            if (!out)
                out =
                    qs_malloc(4 * bytes + 64); /* the shortest such number has 3 characters and grows by 8 */
            memcpy(out + used, text + copied, i - copied);
            used += i - copied;
            memcpy(out + used, begins, sizeof begins - 1);
            used += sizeof begins - 1;
            memcpy(out + used, text + i, n);
            used += n;
            out[used++] = '"';
            copied = i + n;
        }
        i += n - 1;
    }
    if (!out) return NULL;
    memcpy(out + used, text + copied, bytes - copied);
    *out_bytes = used + bytes - copied;
    return out;
}

json_t *qs_row_json_parse(const char *text, size_t bytes, bool *odd, json_error_t *why)
{
    *odd = false;
    json_t *v = json_loadb(text, bytes, JSON_ALLOW_NUL, why);
    if (v) return v;
    size_t n;
    char *other = without_odd(text, bytes, &n);
    if (!other) return NULL;
    *odd = true;
    v = json_loadb(other, n, JSON_ALLOW_NUL, why);
    qs_free(other);
    return v;
}

const char *qs_row_json_odd(const json_t *v)
{
    const char *key, *found = NULL;
    json_t *member;
    size_t i;
    if (json_is_string(v)) return *json_string_value(v) == 1 ? json_string_value(v) + 1 : NULL;
    json_object_foreach((json_t *)(uintptr_t)v, key,
                        member) if ((found = qs_row_json_odd(member))) return found;
    json_array_foreach((json_t *)(uintptr_t)v, i, member) if ((found = qs_row_json_odd(member))) return found;
    return NULL;
}
