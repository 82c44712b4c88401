/* yaml_flat.h - a YAML document as a flat list: one entry a value, under its path. Anchors, aliases and merge
 * keys (<<) are resolved.
 *
 *     lora: {r: 8}                "lora.r"              "8"
 *     modules: [a, b]             "modules"             "a,b"    (a list of single values is one entry)
 *     datasets: [{path: x}]       "datasets[0].path"    "x"
 */
#ifndef QS_OPTIONS_YAML_FLAT_H
#define QS_OPTIONS_YAML_FLAT_H

#include <stdbool.h>
#include <stddef.h>

#include "src/base/error.h"

typedef struct qs_yaml_entry {
    char *path, *value; /* value: "" for null, and for an empty list or mapping */
    bool null, list;
    bool merged; /* came through a merge key: an own key of the mapping wins */
    int line;
} qs_yaml_entry;

typedef struct qs_yaml_flat {
    qs_yaml_entry *entries; /* [count] in the order of the file */
    int count;
} qs_yaml_flat;

enum { QS_YAML_MAX_ENTRIES = 4000, QS_YAML_MAX_DEPTH = 24 };

/* QS_EUSAGE with name:line for what is no YAML, holds more than one document, no mapping, or more than that.
 * Free in any case. */
int qs_yaml_flatten(const char *name, const char *text, size_t bytes, qs_yaml_flat *out, qs_err *e);
void qs_yaml_flat_free(qs_yaml_flat *f);

/* The entry of a path, or NULL. */
const qs_yaml_entry *qs_yaml_find(const qs_yaml_flat *f, const char *path);

#endif
