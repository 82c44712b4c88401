#include "src/options/yaml_flat.h"

#include <string.h>
#include <yaml.h>

#include "src/base/memory.h"

typedef struct walker {
    yaml_document_t *document;
    const char *name;
    qs_yaml_flat *out;
    bool merged;
    int steps; /* nodes looked at, through aliases too: a bomb of aliases ends here */
    qs_err *e;
} walker;

const qs_yaml_entry *qs_yaml_find(const qs_yaml_flat *f, const char *path)
{
    for (int i = 0; i < f->count; i++)
        if (strcmp(f->entries[i].path, path) == 0) return &f->entries[i];
    return NULL;
}

void qs_yaml_flat_free(qs_yaml_flat *f)
{
    for (int i = 0; i < f->count; i++) {
        qs_free(f->entries[i].path);
        qs_free(f->entries[i].value);
    }
    qs_free(f->entries);
    *f = (qs_yaml_flat){0};
}

static bool is_null(const yaml_node_t *n)
{
    const char *s = (const char *)n->data.scalar.value;
    return n->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
           (!*s || !strcmp(s, "~") || !strcmp(s, "null") || !strcmp(s, "Null") || !strcmp(s, "NULL"));
}

/* Adds an entry, or leaves the one that is there: the first of a mapping's own keys and of merged ones
 * counts. value is taken over. */
static void add(walker *w, const char *path, char *value, bool null, bool list, int line)
{
    qs_yaml_entry *there = (qs_yaml_entry *)(uintptr_t)qs_yaml_find(w->out, path);
    if (there) {
        if (there->merged && !w->merged) {
            qs_free(there->value);
            *there = (qs_yaml_entry){there->path, value, null, list, false, line};
        } else {
            qs_free(value);
        }
        return;
    }
    qs_yaml_flat *f = w->out;
    f->entries = qs_realloc(f->entries, (size_t)(f->count + 1) * sizeof *f->entries);
    f->entries[f->count++] = (qs_yaml_entry){qs_strdup(path), value, null, list, w->merged, line};
}

static int line_of(const yaml_node_t *n) { return (int)n->start_mark.line + 1; }

static int walk(walker *w, int node, const char *path, int depth);

static int check(walker *w, const yaml_node_t *n, int depth)
{
    if (depth > QS_YAML_MAX_DEPTH || ++w->steps > QS_YAML_MAX_ENTRIES || w->out->count >= QS_YAML_MAX_ENTRIES)
        QS_FAIL(w->e, QS_EUSAGE,
                "%s:%d: is nested deeper than %d or holds more than %d values; is it a configuration?",
                w->name, line_of(n), QS_YAML_MAX_DEPTH, QS_YAML_MAX_ENTRIES);
    return 0;
}

/* A list of single values as one text, or NULL when there is anything else in it. */
static char *joined(walker *w, const yaml_node_t *n)
{
    char *text = qs_strdup("");
    for (const yaml_node_item_t *i = n->data.sequence.items.start; i < n->data.sequence.items.top; i++) {
        const yaml_node_t *item = yaml_document_get_node(w->document, *i);
        if (item->type != YAML_SCALAR_NODE) {
            qs_free(text);
            return NULL;
        }
        char *longer = qs_printf("%s%s%s", text, i > n->data.sequence.items.start ? "," : "",
                                 (char *)item->data.scalar.value);
        qs_free(text);
        text = longer;
    }
    return text;
}

static int walk_sequence(walker *w, const yaml_node_t *n, const char *path, int depth)
{
    char *text = joined(w, n);
    if (text) {
        add(w, path, text, false, true, line_of(n));
        return 0;
    }
    int number = 0, rc = 0;
    for (const yaml_node_item_t *i = n->data.sequence.items.start; !rc && i < n->data.sequence.items.top;
         i++) {
        char *below = qs_printf("%s[%d]", path, number++);
        rc = walk(w, *i, below, depth + 1);
        qs_free(below);
    }
    return rc;
}

/* What a merge key brings: a mapping, or a list of them; the first wins. */
static int merge(walker *w, int node, const char *path, int depth)
{
    const yaml_node_t *n = yaml_document_get_node(w->document, node);
    bool before = w->merged;
    int rc = 0;
    w->merged = true;
    if (n->type == YAML_MAPPING_NODE)
        rc = walk(w, node, path, depth + 1);
    else if (n->type == YAML_SEQUENCE_NODE)
        for (const yaml_node_item_t *i = n->data.sequence.items.start; !rc && i < n->data.sequence.items.top;
             i++)
            rc = merge(w, *i, path, depth + 1);
    else
        rc = qs_err_set(w->e, QS_EUSAGE, __FILE__, __LINE__, "%s:%d: << expects a mapping", w->name,
                        line_of(n));
    w->merged = before;
    return rc;
}

static int walk_mapping(walker *w, const yaml_node_t *n, const char *path, int depth)
{
    if (n->data.mapping.pairs.start == n->data.mapping.pairs.top && *path)
        add(w, path, qs_strdup(""), true, false, line_of(n));
    for (const yaml_node_pair_t *p = n->data.mapping.pairs.start; p < n->data.mapping.pairs.top; p++) {
        const yaml_node_t *key = yaml_document_get_node(w->document, p->key);
        if (key->type != YAML_SCALAR_NODE)
            QS_FAIL(w->e, QS_EUSAGE, "%s:%d: expected a name as key", w->name, line_of(key));
        const char *name = (const char *)key->data.scalar.value;
        if (strcmp(name, "<<") == 0) {
            QS_TRY(merge(w, p->value, path, depth));
            continue;
        }
        char *below = *path ? qs_printf("%s.%s", path, name) : qs_strdup(name);
        int rc = walk(w, p->value, below, depth + 1);
        qs_free(below);
        if (rc) return rc;
    }
    return 0;
}

static int walk(walker *w, int node, const char *path, int depth)
{
    const yaml_node_t *n = yaml_document_get_node(w->document, node);
    QS_TRY(check(w, n, depth));
    if (n->type == YAML_MAPPING_NODE) return walk_mapping(w, n, path, depth);
    if (n->type == YAML_SEQUENCE_NODE) return walk_sequence(w, n, path, depth);
    bool null = is_null(n);
    add(w, path, qs_strdup(null ? "" : (char *)n->data.scalar.value), null, false, line_of(n));
    return 0;
}

static int fail_to_parse(const char *name, const yaml_parser_t *p, qs_err *e)
{
    size_t line = p->problem_mark.line ? p->problem_mark.line : p->context_mark.line;
    QS_FAIL(e, QS_EUSAGE, "%s:%zu: not valid YAML: %s%s%s", name, line + 1,
            p->problem ? p->problem : "cannot be read", p->context ? " " : "", p->context ? p->context : "");
}

int qs_yaml_flatten(const char *name, const char *text, size_t bytes, qs_yaml_flat *out, qs_err *e)
{
    yaml_parser_t parser;
    yaml_document_t document, second;
    *out = (qs_yaml_flat){0};
    if (!yaml_parser_initialize(&parser)) QS_FAIL(e, QS_ENOMEM, "%s: no memory to read it", name);
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    int rc = 0;
    if (!yaml_parser_load(&parser, &document)) {
        rc = fail_to_parse(name, &parser, e);
        yaml_parser_delete(&parser);
        return rc;
    }
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (root && root->type != YAML_MAPPING_NODE)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__, "%s:%d: expected option: value lines", name,
                        line_of(root));
    else if (root) {
        walker w = {&document, name, out, .e = e};
        rc = walk(&w, 1, "", 0);
        if (!rc && !yaml_parser_load(&parser, &second))
            rc = fail_to_parse(name, &parser, e);
        else if (!rc) {
            if (yaml_document_get_root_node(&second))
                rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__,
                                "%s: expected one document, found a second document", name);
            yaml_document_delete(&second);
        }
    }
    yaml_document_delete(&document);
    yaml_parser_delete(&parser);
    return rc;
}
