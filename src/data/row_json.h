/* row_json.h - the JSON text of a row as Python writes it: NaN, Infinity, integers of any length and numbers
 * beyond a double are taken.
 *
 * Such a number has no place in a json_t: it becomes a string that begins with \1, so that a column that
 * nothing uses does not matter, and one that is used can be refused by name.
 */
#ifndef QS_DATA_ROW_JSON_H
#define QS_DATA_ROW_JSON_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

/* NULL with *why where the text is no JSON. *odd: numbers were replaced. Freed with json_decref. */
json_t *qs_row_json_parse(const char *text, size_t bytes, bool *odd, json_error_t *why);

/* The first replaced number in a value ("NaN", "184467..."), or NULL. */
const char *qs_row_json_odd(const json_t *v);

#endif
