/* option_yaml.c - option files: a YAML mapping, read event by event with libyaml.
 *
 * What is accepted is what option files need: scalars, lists of scalars, and for the data options lists of
 * mappings with `path` and `type`, as axolotl writes them. Everything else (anchors, nested mappings, a
 * second document) is an error with file and line, so a wrong file can neither be misread in silence nor grow
 * in memory.
 */
#include <string.h>
#include <yaml.h>

#include "src/base/memory.h"
#include "src/options/option.h"
#include "src/options/option_internal.h"

typedef struct reader {
    const qs_option_set *sets;
    int count;
    qs_option_source source;
    const char *name; /* of the file */
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    char where[512];                  /* "file:line" of the event */
    const qs_option_switch *switched; /* the last one that was true */
    int *line_of_row;                 /* where each row of each set was given, 0: nowhere yet */
    qs_err *e;
} reader;

static int fail(reader *r, const char *expected, const char *found)
{
    QS_FAIL(r->e, QS_EUSAGE, "%s: expected %s, found %s", r->where, expected, found);
}

static int next(reader *r)
{
    if (r->has_event) yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event);
    if (!r->has_event) {
        const yaml_parser_t *p = &r->parser;
        size_t line = p->problem_mark.line ? p->problem_mark.line : p->context_mark.line;
        QS_FAIL(r->e, QS_EUSAGE, "%s:%zu: not valid YAML: %s%s%s", r->name, line + 1,
                p->problem ? p->problem : "cannot be read", p->context ? " " : "",
                p->context ? p->context : "");
    }
    snprintf(r->where, sizeof r->where, "%s:%zu", r->name, r->event.start_mark.line + 1);
    switch (r->event.type) {
    case YAML_ALIAS_EVENT:
        return fail(r, "plain values", "an alias (*name), which option files do not use");
    case YAML_SCALAR_EVENT:
        if (strlen((char *)r->event.data.scalar.value) != r->event.data.scalar.length)
            return fail(r, "text", "a NUL character in it");
        return 0;
    default:
        return 0;
    }
}

static const char *event_name(const reader *r)
{
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        return "a single value";
    case YAML_SEQUENCE_START_EVENT:
        return "a list";
    case YAML_MAPPING_START_EVENT:
        return "a mapping";
    case YAML_DOCUMENT_START_EVENT:
        return "a second document";
    default:
        return "the end of the file";
    }
}

static const char *scalar(const reader *r) { return (const char *)r->event.data.scalar.value; }

static bool is_null(const reader *r)
{
    const char *s = scalar(r);
    return r->event.data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*s || !strcmp(s, "~") || !strcmp(s, "null") || !strcmp(s, "Null") || !strcmp(s, "NULL"));
}

/* A data set's type as axolotl names it: rows are told by their columns, so most need nothing; completion is
 * a text column. */
static int take_type(reader *r)
{
    static const char *const told[] = {"alpaca", "chat_template", "sharegpt", "openai", "messages",
                                       "jsonl",  "json",          "csv",      "text"};
    const qs_option_set *set;
    const qs_option *row = qs_option_find(r->sets, r->count, "text_column", &set);
    for (size_t i = 0; i < sizeof told / sizeof *told; i++)
        if (!strcmp(scalar(r), told[i])) return 0;
    if (row && !strcmp(scalar(r), "completion"))
        return qs_option_put(set, row, "text", false, r->source, r->where, r->e);
    QS_FAIL(r->e, QS_EUSAGE,
            "%s: type: \"%s\" is not known; rows are told by their columns: remove it (or completion, which "
            "trains the column text)",
            r->where, scalar(r));
}

/* A mapping inside a data list: {path: FILE, type: FORMAT}. */
static int read_data_entry(reader *r, const qs_option_set *set, const qs_option *row, bool first)
{
    char start[sizeof r->where];
    memcpy(start, r->where, sizeof start);
    bool has_path = false;
    QS_TRY(next(r));
    while (r->event.type != YAML_MAPPING_END_EVENT) {
        bool path = r->event.type == YAML_SCALAR_EVENT && !strcmp(scalar(r), "path");
        bool type = r->event.type == YAML_SCALAR_EVENT && !strcmp(scalar(r), "type");
        if (!path && !type)
            return fail(r, "path: or type:", r->event.type == YAML_SCALAR_EVENT ? scalar(r) : event_name(r));
        QS_TRY(next(r));
        if (r->event.type != YAML_SCALAR_EVENT) return fail(r, "a single value", event_name(r));
        if (path) qs_option_put_item(set, row, scalar(r), !first || has_path, r->source);
        if (type) QS_TRY(take_type(r));
        has_path |= path;
        QS_TRY(next(r));
    }
    if (!has_path) QS_FAIL(r->e, QS_EUSAGE, "%s: this entry of %s has no path:", start, row->name);
    return 0;
}

static int read_list(reader *r, const qs_option_set *set, const qs_option *row)
{
    QS_TRY(next(r));
    bool first = true;
    for (; r->event.type != YAML_SEQUENCE_END_EVENT; first = false) {
        if (r->event.type == YAML_MAPPING_START_EVENT && row->type == QS_OPT_PATHS)
            QS_TRY(read_data_entry(r, set, row, first));
        else if (r->event.type == YAML_SCALAR_EVENT)
            qs_option_put_item(set, row, scalar(r), !first, r->source);
        else
            return fail(r, "single values in this list", event_name(r));
        QS_TRY(next(r));
    }
    if (first) qs_option_put_item(set, row, NULL, false, r->source);
    return 0;
}

/* {q_proj: 8, k_proj: 4} as the items q_proj=8 and k_proj=4. */
static int read_mapping(reader *r, const qs_option_set *set, const qs_option *row)
{
    bool first = true;
    QS_TRY(next(r));
    for (; r->event.type != YAML_MAPPING_END_EVENT; first = false) {
        if (r->event.type != YAML_SCALAR_EVENT) return fail(r, "a name", event_name(r));
        char *name = qs_strdup(scalar(r));
        int rc = next(r);
        if (!rc && r->event.type != YAML_SCALAR_EVENT) rc = fail(r, "a single value", event_name(r));
        if (!rc) {
            char *item = qs_printf("%s=%s", name, scalar(r));
            qs_option_put_item(set, row, item, !first, r->source);
            qs_free(item);
        }
        qs_free(name);
        QS_TRY(rc);
        QS_TRY(next(r));
    }
    if (first) qs_option_put_item(set, row, NULL, false, r->source);
    return 0;
}

/* The line an option was first given in, as a place to remember it. */
static int *line_of(reader *r, const qs_option_set *set, const qs_option *row)
{
    int at = 0;
    for (const qs_option_set *s = r->sets; s < set; s++) at += s->table->count;
    return &r->line_of_row[at + (row - set->table->rows)];
}

/* An option and a switch of it that is true say different things: compute_dtype: bf16 and fp16: true. */
static int check_both(reader *r, const qs_option_switch *sw, const qs_option_set *set, const qs_option *row,
                      const char *where)
{
    if (!sw || strchr(sw->on, '|')) return 0;
    char *value = qs_option_text(row, set->values);
    int rc = 0;
    if (strcmp(value, sw->on))
        rc = qs_err_set(r->e, QS_EUSAGE, __FILE__, __LINE__,
                        "%s: %s: %s and %s: true contradict each other; keep one", where, row->name, value,
                        sw->name);
    qs_free(value);
    return rc;
}

/* Two switches that turn the same option to different values contradict each other: bf16 and fp16. */
static int check_switch(reader *r, const qs_option_switch *sw, const char *where)
{
    bool on;
    if (!sw || !qs_option_bool_of(scalar(r), &on) || !on || !sw->on) return 0;
    const qs_option_switch *other = r->switched;
    if (other && other != sw && !strcmp(other->option, sw->option) && strcmp(other->on, sw->on))
        QS_FAIL(r->e, QS_EUSAGE, "%s: %s and %s are both true, and contradict each other; keep one (or %s)",
                where, other->name, sw->name, sw->option);
    r->switched = sw;
    const qs_option_set *set;
    const qs_option *row = qs_option_find(r->sets, r->count, sw->option, &set);
    return row && *line_of(r, set, row) ? check_both(r, sw, set, row, where) : 0;
}

/* One `key: value`; the key is the current event. Leaves the value's last event. */
static int read_pair(reader *r)
{
    if (r->event.type != YAML_SCALAR_EVENT) return fail(r, "an option's name", event_name(r));
    char key[128], key_where[sizeof r->where];
    snprintf(key, sizeof key, "%s", scalar(r));
    memcpy(key_where, r->where, sizeof key_where);
    int line = (int)r->event.start_mark.line + 1;

    const qs_option_set *set = NULL;
    const qs_option *row = qs_option_find(r->sets, r->count, key, &set);
    if (!row && !qs_option_find_switch(r->sets, r->count, key))
        return qs_option_unknown(r->sets, r->count, key, key_where, r->e);
    if (row) {
        int *given = line_of(r, set, row);
        if (*given)
            QS_FAIL(r->e, QS_EUSAGE, "%s: %s is given twice; it is also in line %d", key_where, row->name,
                    *given);
        *given = line;
    }
    QS_TRY(next(r));
    if (r->event.type == YAML_SEQUENCE_START_EVENT && row && qs_option_is_list(row))
        return read_list(r, set, row);
    if (r->event.type == YAML_MAPPING_START_EVENT && row && row->pairs) return read_mapping(r, set, row);
    if (r->event.type != YAML_SCALAR_EVENT) {
        char expected[600], what[400] = "true or false";
        if (row) qs_option_expectation(row, what, sizeof what);
        snprintf(expected, sizeof expected, "%s for %s", what, key);
        return fail(r, expected, event_name(r));
    }
    if (is_null(r) && (!row || !row->null)) return 0; /* `key:` alone, ~ and null leave an option as it is */
    if (is_null(r)) return qs_option_assign(r->sets, r->count, key, row->null, r->source, key_where, r->e);
    QS_TRY(check_switch(r, row ? NULL : qs_option_find_switch(r->sets, r->count, key), key_where));
    QS_TRY(qs_option_assign(r->sets, r->count, key, scalar(r), r->source, key_where, r->e));
    bool switched = row && r->switched && !strcmp(r->switched->option, row->name);
    return switched ? check_both(r, r->switched, set, row, key_where) : 0;
}

static int read_document(reader *r)
{
    QS_TRY(next(r)); /* stream start */
    QS_TRY(next(r));
    if (r->event.type == YAML_STREAM_END_EVENT) return 0; /* nothing but comments */
    QS_TRY(next(r));
    if (r->event.type == YAML_SCALAR_EVENT && is_null(r)) return 0;
    if (r->event.type != YAML_MAPPING_START_EVENT) return fail(r, "option: value lines", event_name(r));
    QS_TRY(next(r));
    while (r->event.type != YAML_MAPPING_END_EVENT) {
        QS_TRY(read_pair(r));
        QS_TRY(next(r));
    }
    QS_TRY(next(r)); /* document end */
    QS_TRY(next(r));
    if (r->event.type != YAML_STREAM_END_EVENT) return fail(r, "one document", event_name(r));
    return 0;
}

int qs_option_read_yaml(const qs_option_set *sets, int count, const char *name, const char *text,
                        size_t bytes, qs_option_source source, qs_err *e)
{
    reader r = {.sets = sets, .count = count, .source = source, .name = name, .e = e};
    int rows = 0;
    for (int s = 0; s < count; s++) rows += sets[s].table->count;
    if (!yaml_parser_initialize(&r.parser)) QS_FAIL(e, QS_ENOMEM, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, bytes);
    r.line_of_row = qs_calloc((size_t)rows, sizeof *r.line_of_row);
    int rc = read_document(&r);
    if (r.has_event) yaml_event_delete(&r.event);
    yaml_parser_delete(&r.parser);
    qs_free(r.line_of_row);
    return rc;
}
