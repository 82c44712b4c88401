/* option.c - rows and values: looking a name up, reading a value from text, writing it back. */
#include "src/options/option.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "src/base/memory.h"
#include "src/base/spelling.h"
#include "src/options/option_internal.h"

/* ---- lists of strings -------------------------------------------------------------------------------- */

void qs_strings_add(qs_strings *list, const char *text, size_t n)
{
    list->items = qs_realloc(list->items, (size_t)(list->count + 1) * sizeof *list->items);
    list->items[list->count++] = qs_strndup(text, n);
}

void qs_strings_clear(qs_strings *list)
{
    for (int i = 0; i < list->count; i++) qs_free(list->items[i]);
    qs_free(list->items);
    *list = (qs_strings){0};
}

/* Adds the comma-separated items of text. Commas inside brackets belong to a regular expression and do not
 * separate. */
static void add_items(qs_strings *list, const char *text)
{
    int depth = 0;
    const char *start = text;
    for (const char *p = text;; p++) {
        if (*p && strchr("([{", *p)) depth++;
        if (*p && strchr(")]}", *p) && depth) depth--;
        if (*p && (*p != ',' || depth)) continue;
        const char *end = p;
        while (start < end && isspace((unsigned char)*start)) start++;
        while (end > start && isspace((unsigned char)end[-1])) end--;
        if (end > start) qs_strings_add(list, start, (size_t)(end - start));
        if (!*p) return;
        start = p + 1;
    }
}

/* ---- names ------------------------------------------------------------------------------------------- */

/* Equal, with - and _ the same, over the first n characters of a; b ends there. */
static bool same_name(const char *a, size_t n, const char *b)
{
    for (size_t i = 0; i < n; i++) {
        char x = a[i] == '-' ? '_' : a[i], y = b[i] == '-' ? '_' : b[i];
        if (tolower((unsigned char)x) != tolower((unsigned char)y)) return false;
    }
    return b[n] == '\0';
}

bool qs_option_is_called(const qs_option *row, const char *key)
{
    if (same_name(row->name, strlen(row->name), key)) return true;
    for (const char *a = row->aliases; a && *a;) {
        size_t n = strcspn(a, " ");
        if (same_name(a, n, key)) return true;
        a += n;
        a += strspn(a, " ");
    }
    return false;
}

const qs_option *qs_option_find(const qs_option_set *sets, int count, const char *key,
                                const qs_option_set **set)
{
    for (int s = 0; s < count; s++)
        for (int r = 0; r < sets[s].table->count; r++)
            if (qs_option_is_called(&sets[s].table->rows[r], key)) {
                if (set) *set = &sets[s];
                return &sets[s].table->rows[r];
            }
    return NULL;
}

const qs_option_switch *qs_option_find_switch(const qs_option_set *sets, int count, const char *key)
{
    for (int s = 0; s < count; s++)
        for (int w = 0; w < sets[s].table->switch_count; w++) {
            const qs_option_switch *row = &sets[s].table->switches[w];
            if (same_name(row->name, strlen(row->name), key)) return row;
        }
    return NULL;
}

typedef struct nearest {
    const char *text;
    size_t length;
    int distance;
} nearest;

static void consider(nearest *best, const char *candidate, size_t n, const char *key)
{
    int d = qs_edit_distance(candidate, n, key);
    if (d < best->distance) *best = (nearest){candidate, n, d};
}

int qs_option_unknown(const qs_option_set *sets, int count, const char *key, const char *where, qs_err *e)
{
    nearest best = {.distance = 1000};
    for (int s = 0; s < count; s++) {
        const qs_option_table *t = sets[s].table;
        for (int r = 0; r < t->count; r++) {
            consider(&best, t->rows[r].name, strlen(t->rows[r].name), key);
            for (const char *a = t->rows[r].aliases; a && *a; a += strcspn(a, " "), a += strspn(a, " "))
                consider(&best, a, strcspn(a, " "), key);
        }
        for (int w = 0; w < t->switch_count; w++)
            consider(&best, t->switches[w].name, strlen(t->switches[w].name), key);
    }
    if (!best.text || !qs_near_enough(best.distance, key))
        QS_FAIL(e, QS_EUSAGE, "%s: there is no option called \"%s\"; --help lists them", where, key);
    QS_FAIL(e, QS_EUSAGE, "%s: there is no option called \"%s\"; did you mean %.*s?", where, key,
            (int)best.length, best.text);
}

/* ---- values from text -------------------------------------------------------------------------------- */

static void *value_of(const qs_option *row, const void *values)
{
    return (char *)(uintptr_t)values + row->offset;
}

bool qs_option_bool_of(const char *text, bool *out)
{
    static const char *const words[] = {"false", "no", "off", "0", "true", "yes", "on", "1"};
    for (int i = 0; i < 8; i++)
        if (!strcasecmp(text, words[i])) return *out = i >= 4, true;
    return false;
}

static bool number_of(const char *text, double *out)
{
    char *end;
    errno = 0;
    *out = strtod(text, &end);
    /* strtod also takes hexadecimal and the words nan and infinity: no option means those. */
    return end != text && !*end && isfinite(*out) && !strpbrk(text, "xXnN");
}

static bool integer_of(const char *text, int64_t *out)
{
    char *end;
    double d;
    errno = 0;
    *out = strtoll(text, &end, 10);
    if (end != text && !*end) return !errno;
    if (!number_of(text, &d) || d != rint(d) || fabs(d) > 0x1p53)
        return false; /* 1e4 is a whole number too */
    *out = (int64_t)d;
    return true;
}

static bool bytes_of(const char *text, uint64_t *out)
{
    static const char units[] = "KMGT";
    if (!strcasecmp(text, "auto")) return *out = 0, true;
    char *end, number[64];
    double scale = 1;
    size_t n = strspn(text, "0123456789.");
    if (!n || n >= sizeof number) return false;
    memcpy(number, text, n);
    number[n] = '\0';
    double d = strtod(number, &end);
    if (*end) return false;
    const char *unit = text + n;
    while (*unit == ' ') unit++;
    const char *u = *unit ? strchr(units, toupper((unsigned char)*unit)) : NULL;
    if (u) {
        bool decimal = !strcasecmp(unit + 1, "B");
        if (!decimal && unit[1] && strcasecmp(unit + 1, "iB")) return false;
        for (const char *k = units; k <= u; k++) scale *= decimal ? 1000 : 1024;
    } else if (*unit && strcasecmp(unit, "B")) {
        return false;
    }
    if (d * scale >= 0x1p63) return false;
    *out = (uint64_t)(d * scale);
    return true;
}

static void describe_range(const qs_option *row, const char *what, char *out, size_t capacity)
{
    int low_digits = row->min == rint(row->min) ? 17 : 6, high_digits = row->max == rint(row->max) ? 17 : 6;
    if (row->max < QS_OPTION_MANY)
        snprintf(out, capacity, "%s from %.*g to %.*g", what, low_digits, row->min, high_digits, row->max);
    else
        snprintf(out, capacity, "%s of at least %.*g", what, low_digits, row->min);
}

void qs_option_expectation(const qs_option *row, char *out, size_t capacity)
{
    switch (row->type) {
    case QS_OPT_STRING:
        snprintf(out, capacity, "text");
        break;
    case QS_OPT_PATH:
        snprintf(out, capacity, "a path");
        break;
    case QS_OPT_FLAGPATH:
        snprintf(out, capacity, "true, false or a path");
        break;
    case QS_OPT_LIST:
        snprintf(out, capacity, "a list");
        break;
    case QS_OPT_PATHS:
        snprintf(out, capacity, "a list of paths");
        break;
    case QS_OPT_TEXTS:
        snprintf(out, capacity, "a text");
        break;
    case QS_OPT_INT: {
        describe_range(row, "a whole number", out, capacity);
        for (const qs_option_name *n = row->names; n && n->name; n++) {
            size_t used = strlen(out);
            snprintf(out + used, capacity - used, ", or %s", n->name);
        }
        break;
    }
    case QS_OPT_FLOAT:
        describe_range(row, "a number", out, capacity);
        break;
    case QS_OPT_BYTES:
        snprintf(out, capacity, "auto, or a size of at least 1M such as 10G or 512M");
        break;
    case QS_OPT_BOOL:
        snprintf(out, capacity, "true or false");
        break;
    case QS_OPT_ENUM: {
        size_t used = (size_t)snprintf(out, capacity, "one of");
        for (const qs_option_name *n = row->names; n->name && used < capacity; n++)
            if (n == row->names || n[-1].value != n->value) /* the canonical spelling only */
                used += (size_t)snprintf(out + used, capacity - used, "%s %s", n == row->names ? "" : ",",
                                         n->name);
        break;
    }
    }
}

static int reject(const qs_option *row, const char *text, const char *where, qs_err *e)
{
    char expected[400];
    qs_option_expectation(row, expected, sizeof expected);
    QS_FAIL(e, QS_EUSAGE, "%s: %s expects %s, found \"%s\"", where, row->name, expected, text);
}

static void replace_string(void *value, const char *text)
{
    char **slot = value;
    char *copy = text ? qs_strdup(text) : NULL; /* before the old one goes: text may be it */
    qs_free(*slot);
    *slot = copy;
}

/* Reads text into the value of row. Lists are appended to. */
static int read_value(const qs_option *row, void *value, const char *text, const char *where, qs_err *e)
{
    bool yes;
    switch (row->type) {
    case QS_OPT_PATH:
        if (!*text) return reject(row, text, where, e);
        /* fall through */
    case QS_OPT_STRING:
        replace_string(value, text);
        return 0;
    case QS_OPT_FLAGPATH:
        if (!*text) return reject(row, text, where, e);
        if (qs_option_bool_of(text, &yes)) text = yes ? "latest" : NULL;
        replace_string(value, text);
        return 0;
    case QS_OPT_LIST:
    case QS_OPT_PATHS:
        add_items(value, text);
        return 0;
    case QS_OPT_TEXTS:
        qs_strings_add(value, text, strlen(text));
        return 0;
    case QS_OPT_BOOL:
        if (!qs_option_bool_of(text, value)) return reject(row, text, where, e);
        return 0;
    case QS_OPT_INT: {
        int64_t v;
        for (const qs_option_name *n = row->names; n && n->name; n++)
            if (same_name(n->name, strlen(n->name), text)) return *(int64_t *)value = n->value, 0;
        if (!integer_of(text, &v) || (double)v < row->min || (double)v > row->max)
            return reject(row, text, where, e);
        *(int64_t *)value = v;
        return 0;
    }
    case QS_OPT_FLOAT: {
        double v;
        if (!number_of(text, &v) || v < row->min || v > row->max) return reject(row, text, where, e);
        *(double *)value = v;
        return 0;
    }
    case QS_OPT_BYTES: {
        uint64_t v;
        if (!bytes_of(text, &v) || (v && v < 1 << 20)) return reject(row, text, where, e);
        *(uint64_t *)value = v;
        return 0;
    }
    case QS_OPT_ENUM:
        for (const qs_option_name *n = row->names; n->name; n++)
            if (same_name(n->name, strlen(n->name), text)) return *(int *)value = n->value, 0;
        return reject(row, text, where, e);
    }
    return 0;
}

static uint8_t *source_of(const qs_option_set *set, const qs_option *row)
{
    return (uint8_t *)set->values + set->table->sources_offset + (row - set->table->rows);
}

int qs_option_put(const qs_option_set *set, const qs_option *row, const char *text, bool append,
                  qs_option_source source, const char *where, qs_err *e)
{
    void *value = value_of(row, set->values);
    if (qs_option_is_list(row) && !append) qs_strings_clear(value);
    QS_TRY(read_value(row, value, text, where, e));
    *source_of(set, row) = (uint8_t)source;
    return 0;
}

void qs_option_put_item(const qs_option_set *set, const qs_option *row, const char *text, bool append,
                        qs_option_source source)
{
    qs_strings *list = value_of(row, set->values);
    if (!append) qs_strings_clear(list);
    if (text) qs_strings_add(list, text, strlen(text));
    *source_of(set, row) = (uint8_t)source;
}

/* Whether text is one of the words of "a|b|c". */
static bool among(const char *text, const char *words)
{
    for (const char *w = words; *w;) {
        size_t n = strcspn(w, "|");
        if (strlen(text) == n && !strncmp(text, w, n)) return true;
        w += n + (w[n] == '|');
    }
    return false;
}

static int assign_switch(const qs_option_set *sets, int count, const qs_option_switch *sw, const char *text,
                         qs_option_source source, const char *where, qs_err *e)
{
    bool yes;
    if (!strcasecmp(text, "auto")) return 0; /* as other tools write it: left to the option itself */
    if (!qs_option_bool_of(text, &yes))
        QS_FAIL(e, QS_EUSAGE, "%s: %s expects true or false, found \"%s\"", where, sw->name, text);
    const char *words = yes ? sw->on : sw->off;
    if (!words) return 0;
    const qs_option_set *set;
    const qs_option *row = qs_option_find(sets, count, sw->option, &set);
    QS_ASSERT(row);
    char *now = qs_option_text(row, set->values), *first = qs_strndup(words, strcspn(words, "|"));
    int rc = among(now, words) ? 0 : qs_option_put(set, row, first, false, source, where, e);
    qs_free(now);
    qs_free(first);
    return rc;
}

int qs_option_assign(const qs_option_set *sets, int count, const char *key, const char *text,
                     qs_option_source source, const char *where, qs_err *e)
{
    const qs_option_set *set;
    const qs_option *row = qs_option_find(sets, count, key, &set);
    if (row) return qs_option_put(set, row, text, false, source, where, e);
    const qs_option_switch *sw = qs_option_find_switch(sets, count, key);
    if (sw) return assign_switch(sets, count, sw, text, source, where, e);
    return qs_option_unknown(sets, count, key, where, e);
}

void qs_option_defaults(const qs_option_set *sets, int count)
{
    for (int s = 0; s < count; s++)
        for (int r = 0; r < sets[s].table->count; r++) {
            const qs_option *row = &sets[s].table->rows[r];
            qs_err e = {0};
            int rc = row->fallback
                         ? qs_option_put(&sets[s], row, row->fallback, false, QS_FROM_DEFAULT, "default", &e)
                         : 0;
            if (rc) fprintf(stderr, "%s\n", e.text);
            QS_ASSERT(!rc);
        }
}

void qs_option_clear(const qs_option_set *sets, int count)
{
    for (int s = 0; s < count; s++)
        for (int r = 0; r < sets[s].table->count; r++) {
            const qs_option *row = &sets[s].table->rows[r];
            void *value = value_of(row, sets[s].values);
            if (qs_option_is_list(row)) qs_strings_clear(value);
            if (row->type == QS_OPT_STRING || row->type == QS_OPT_PATH || row->type == QS_OPT_FLAGPATH)
                replace_string(value, NULL);
        }
}

qs_option_source qs_option_where(const qs_option_set *set, const qs_option *row)
{
    return (qs_option_source)*source_of(set, row);
}
