/* option_text.c - values as text: one value, and the whole table as YAML that reads back to the same values.
 */
#include <ctype.h>
#include <inttypes.h>
#include <string.h>
#include <strings.h>

#include "src/base/memory.h"
#include "src/base/number.h"
#include "src/options/option.h"

/* Text that grows; `text` is always a string once something was added. */
typedef struct builder {
    char *text;
    size_t used;
} builder;

static void add(builder *b, const char *text, size_t n)
{
    b->text = qs_realloc(b->text, b->used + n + 1);
    memcpy(b->text + b->used, text, n);
    b->text[b->used += n] = '\0';
}

static void add_text(builder *b, const char *text) { add(b, text, strlen(text)); }

/* A scalar that needs no quotes in any YAML version: a plain word that is neither a number nor one of the
 * words YAML gives a meaning to. Everything else is quoted. */
static bool is_plain(const char *s)
{
    static const char *const taken[] = {"true", "false", "yes", "no", "on", "off", "null", "y", "n"};
    if (!isalpha((unsigned char)*s))
        return *s == '/' &&
               !s[strspn(s, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")];
    for (size_t i = 0; i < sizeof taken / sizeof *taken; i++)
        if (!strcasecmp(s, taken[i])) return false;
    return !s[strspn(s, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")];
}

static void add_scalar(builder *b, const char *s)
{
    if (is_plain(s)) return add_text(b, s);
    add_text(b, "\"");
    for (; *s; s++) {
        char escape[8];
        if (*s == '"' || *s == '\\')
            snprintf(escape, sizeof escape, "\\%c", *s);
        else if ((unsigned char)*s < 0x20 || *s == 0x7f)
            snprintf(escape, sizeof escape, "\\x%02X", (unsigned char)*s);
        else
            snprintf(escape, sizeof escape, "%c", *s);
        add_text(b, escape);
    }
    add_text(b, "\"");
}

/* YAML 1.1 readers take 1e-05 for a word unless there is a point in front of the exponent. */
static void add_double(builder *b, double v)
{
    char text[QS_NUMBER_TEXT];
    qs_number_text(v, text);
    const char *exponent = strchr(text, 'e');
    if (!exponent || strchr(text, '.')) return add_text(b, text);
    add(b, text, (size_t)(exponent - text));
    add_text(b, ".0");
    add_text(b, exponent);
}

static void add_bytes(builder *b, uint64_t bytes)
{
    static const char units[] = "TGMK";
    char text[40];
    for (int i = 0; i < 4; i++) {
        int shift = 10 * (4 - i);
        if (!bytes || bytes & ((UINT64_C(1) << shift) - 1)) continue;
        snprintf(text, sizeof text, "%" PRIu64 "%c", bytes >> shift, units[i]);
        return add_text(b, text);
    }
    if (!bytes) return add_text(b, "auto");
    snprintf(text, sizeof text, "%" PRIu64, bytes);
    add_text(b, text);
}

static void add_value(builder *b, const qs_option *row, const void *values)
{
    const void *value = (const char *)values + row->offset;
    char text[40];
    switch (row->type) {
    case QS_OPT_STRING:
    case QS_OPT_PATH:
    case QS_OPT_FLAGPATH: {
        const char *s = *(char *const *)value;
        if (s)
            add_scalar(b, s);
        else
            add_text(b, "null");
        return;
    }
    case QS_OPT_LIST:
    case QS_OPT_PATHS:
    case QS_OPT_TEXTS: {
        const qs_strings *list = value;
        add_text(b, "[");
        for (int i = 0; i < list->count; i++) {
            if (i) add_text(b, ", ");
            add_scalar(b, list->items[i]);
        }
        return add_text(b, "]");
    }
    case QS_OPT_INT:
        snprintf(text, sizeof text, "%" PRId64, *(const int64_t *)value);
        return add_text(b, text);
    case QS_OPT_FLOAT:
        return add_double(b, *(const double *)value);
    case QS_OPT_BYTES:
        return add_bytes(b, *(const uint64_t *)value);
    case QS_OPT_BOOL:
        return add_text(b, *(const bool *)value ? "true" : "false");
    case QS_OPT_ENUM:
        for (const qs_option_name *n = row->names; n->name; n++)
            if (n->value == *(const int *)value) return add_text(b, n->name);
        QS_ASSERT(!"an enum value has no name");
    }
}

char *qs_option_text(const qs_option *row, const void *values)
{
    builder b = {0};
    add_value(&b, row, values);
    return b.text;
}

char *qs_option_to_yaml(const qs_option_set *sets, int count)
{
    builder b = {0};
    for (int s = 0; s < count; s++) {
        const char *group = "";
        for (int r = 0; r < sets[s].table->count; r++) {
            const qs_option *row = &sets[s].table->rows[r];
            if (strcmp(group, row->group)) {
                add_text(&b, b.used ? "\n# " : "# ");
                add_text(&b, group = row->group);
                add_text(&b, "\n");
            }
            add_text(&b, row->name);
            add_text(&b, ": ");
            add_value(&b, row, sets[s].values);
            add_text(&b, "\n");
        }
    }
    return b.text;
}
