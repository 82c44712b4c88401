/* json.h - reading small JSON documents that may be hostile: parsed whole by jansson, then taken apart by
 * checked getters.
 *
 *     json_t *root;
 *     QS_TRY(qs_json_parse(text, bytes, path, &root, e));         // an object; duplicate keys are refused
 *     qs_json j = {root, path, ""};
 *     int64_t heads = 32;                                         // stays when the key is absent or null
 *     rc = qs_json_int(j, "num_attention_heads", 1, 4096, &heads, e);
 *     ...
 *     json_decref(root);
 *
 * Every getter leaves *value alone when the key is absent or null. A wrong type or range is QS_EFORMAT: the
 * sentence names the document, the key, what was found and what was expected. Strings and objects are
 * borrowed from the document.
 */
#ifndef QS_BASE_JSON_H
#define QS_BASE_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"

/* An object being read. */
typedef struct qs_json {
    const json_t *object;
    const char *file; /* how errors call the document */
    const char *at;   /* path of this object in it: "" or "rope_scaling." */
} qs_json;

/* As jansson's json_loadb; where that fails, the bare words NaN, Infinity and -Infinity, which Python writes
 * into JSON, are read as strings of the same name: harmless where nobody reads them, and named by the getters
 * below where somebody does. */
json_t *qs_json_load(const char *text, size_t bytes, size_t flags, json_error_t *why);

/* Parses text[0, bytes), which must be one object. `name` is how errors call it. QS_EFORMAT with the line for
 * what is not JSON (truncated, numbers too big, duplicate keys, too deep). Free with json_decref. */
int qs_json_parse(const char *text, size_t bytes, const char *name, json_t **out, qs_err *e);

/* The value of `key`, or NULL when it is absent or null. */
const json_t *qs_json_get(qs_json j, const char *key);

/* An integer in [min, max]; a real without fraction counts as one. */
int qs_json_int(qs_json j, const char *key, int64_t min, int64_t max, int64_t *value, qs_err *e);
/* The same into an int32_t. */
int qs_json_int32(qs_json j, const char *key, int32_t min, int32_t max, int32_t *value, qs_err *e);
/* A number, integer or real, in [min, max]. */
int qs_json_number(qs_json j, const char *key, double min, double max, double *value, qs_err *e);
int qs_json_bool(qs_json j, const char *key, bool *value, qs_err *e);
int qs_json_string(qs_json j, const char *key, const char **value, qs_err *e);
/* A member that is an object. `at` is its path, "rope_scaling."; absent or null gives value->object NULL. */
int qs_json_object(qs_json j, const char *key, const char *at, qs_json *value, qs_err *e);

/* Fails with "FILE: KEY is FOUND; expected EXPECTED" (QS_EFORMAT), or with another code. */
int qs_json_unexpected(qs_json j, const char *key, int code, const char *expected, qs_err *e);

#endif
