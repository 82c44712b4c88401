#include "src/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"

enum { FOUND_TEXT = 64 };

/* The text with Python's words for numbers that JSON lacks in quotation marks; NULL when there are none. */
static char *quote_words(const char *text, size_t bytes, size_t *out_bytes)
{
    static const char *const words[] = {"NaN", "Infinity", "-Infinity"};
    char *out = NULL;
    size_t n = 0, copied = 0;
    bool in_string = false;
    for (size_t at = 0; at < bytes; at++) {
        if (in_string && text[at] == '\\')
            at++;
        else if (text[at] == '"')
            in_string = !in_string;
        for (size_t k = 0; !in_string && k < sizeof words / sizeof *words && at < bytes; k++) {
            size_t length = strlen(words[k]);
            if (bytes - at < length || memcmp(text + at, words[k], length)) continue;
            if (!out) out = qs_malloc(2 * bytes); /* each word grows by two of at least three */
            memcpy(out + n, text + copied, at - copied);
            n += at - copied;
            n += (size_t)snprintf(out + n, length + 3, "\"%s\"", words[k]);
            copied = at + length;
            at = copied - 1;
            break;
        }
    }
    if (!out) return NULL;
    memcpy(out + n, text + copied, bytes - copied);
    *out_bytes = n + bytes - copied;
    return out;
}

json_t *qs_json_load(const char *text, size_t bytes, size_t flags, json_error_t *why)
{
    size_t quoted_bytes;
    json_error_t second;
    json_t *root = json_loadb(text, bytes, flags, why);
    char *quoted = root ? NULL : quote_words(text, bytes, &quoted_bytes);
    if (quoted) root = json_loadb(quoted, quoted_bytes, flags, &second);
    qs_free(quoted);
    return root;
}

int qs_json_parse(const char *text, size_t bytes, const char *name, json_t **out, qs_err *e)
{
    json_error_t at;
    json_t *root = qs_json_load(text, bytes, JSON_REJECT_DUPLICATES, &at);
    if (!root) QS_FAIL(e, QS_EFORMAT, "%s: not valid JSON: line %d: %s", name, at.line, at.text);
    if (!json_is_object(root)) {
        json_decref(root);
        QS_FAIL(e, QS_EFORMAT, "%s: expected a JSON object, found another kind of value", name);
    }
    *out = root;
    return 0;
}

const json_t *qs_json_get(qs_json j, const char *key)
{
    const json_t *v = json_object_get(j.object, key);
    return json_is_null(v) ? NULL : v;
}

/* The value as compact JSON, cut to FOUND_TEXT. */
static void found(const json_t *v, char *text)
{
    char *whole = v ? json_dumps(v, JSON_ENCODE_ANY | JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
    snprintf(text, FOUND_TEXT, "%s", whole ? whole : "absent");
    if (whole && strlen(whole) >= FOUND_TEXT) memcpy(text + FOUND_TEXT - 4, "...", 4);
    free(whole); /* lint: allow free, jansson allocated it */
}

int qs_json_unexpected(qs_json j, const char *key, int code, const char *expected, qs_err *e)
{
    char text[FOUND_TEXT];
    found(json_object_get(j.object, key), text);
    QS_FAIL(e, code, "%s: %s%s is %s; expected %s", j.file, j.at, key, text, expected);
}

int qs_json_int(qs_json j, const char *key, int64_t min, int64_t max, int64_t *value, qs_err *e)
{
    const json_t *v = qs_json_get(j, key);
    if (!v) return 0;
    bool whole = json_is_integer(v);
    int64_t n = whole ? json_integer_value(v) : 0;
    if (json_is_real(v) && fabs(json_real_value(v)) < 0x1p53 &&
        json_real_value(v) == floor(json_real_value(v))) {
        whole = true;
        n = (int64_t)json_real_value(v);
    }
    if (!whole || n < min || n > max) {
        char expected[96];
        snprintf(expected, sizeof expected, "an integer from %lld to %lld", (long long)min, (long long)max);
        return qs_json_unexpected(j, key, QS_EFORMAT, expected, e);
    }
    *value = n;
    return 0;
}

int qs_json_int32(qs_json j, const char *key, int32_t min, int32_t max, int32_t *value, qs_err *e)
{
    int64_t n = *value;
    QS_TRY(qs_json_int(j, key, min, max, &n, e));
    *value = (int32_t)n;
    return 0;
}

int qs_json_number(qs_json j, const char *key, double min, double max, double *value, qs_err *e)
{
    const json_t *v = qs_json_get(j, key);
    if (!v) return 0;
    double n = json_number_value(v);
    if (!json_is_number(v) || !(n >= min && n <= max)) {
        char expected[96];
        snprintf(expected, sizeof expected, "a number from %g to %g", min, max);
        return qs_json_unexpected(j, key, QS_EFORMAT, expected, e);
    }
    *value = n;
    return 0;
}

int qs_json_bool(qs_json j, const char *key, bool *value, qs_err *e)
{
    const json_t *v = qs_json_get(j, key);
    if (!v) return 0;
    if (!json_is_boolean(v)) return qs_json_unexpected(j, key, QS_EFORMAT, "true or false", e);
    *value = json_is_true(v);
    return 0;
}

int qs_json_string(qs_json j, const char *key, const char **value, qs_err *e)
{
    const json_t *v = qs_json_get(j, key);
    if (!v) return 0;
    if (!json_is_string(v)) return qs_json_unexpected(j, key, QS_EFORMAT, "a string", e);
    *value = json_string_value(v);
    return 0;
}

int qs_json_object(qs_json j, const char *key, const char *at, qs_json *value, qs_err *e)
{
    const json_t *v = qs_json_get(j, key);
    *value = (qs_json){NULL, j.file, at};
    if (!v) return 0;
    if (!json_is_object(v)) return qs_json_unexpected(j, key, QS_EFORMAT, "an object", e);
    value->object = v;
    return 0;
}
