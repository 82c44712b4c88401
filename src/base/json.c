#include "src/base/json.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FOUND_TEXT = 64 };

int qs_json_parse(const char *text, size_t bytes, const char *name, json_t **out, qs_err *e)
{
    json_error_t at;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &at);
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
    if (json_is_real(v) && fabs(json_real_value(v)) < 0x1p53 && json_real_value(v) == floor(json_real_value(v))) {
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
