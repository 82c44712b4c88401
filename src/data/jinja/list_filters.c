/* Filters on sequences and dicts. */
#include <stdlib.h>
#include <string.h>

#include "src/data/jinja/run.h"
#include "src/data/jinja/text.h"

static int new_list(qs_jrun *r, qs_jkind kind, int line, qs_jvalue *out)
{
    QS_JMEMORY(r, line, qs_jlist_new(r->a, kind, 0, out));
    return 0;
}

static int add(qs_jrun *r, qs_jvalue list, qs_jvalue v, int line)
{
    QS_TRY(qs_jstep(r, line, 1));
    QS_JMEMORY(r, line, qs_jlist_add(r->a, list.list, v));
    return 0;
}

/* value["a"]["b"] for "a.b", an index where a part is a number; none: the value itself. */
static int attribute_of(qs_jrun *r, qs_jvalue v, qs_jvalue path, int line, qs_jvalue *out)
{
    *out = v;
    if (path.kind == QS_JNONE) return 0;
    if (path.kind == QS_JINT) return qs_jitem(r, v, path, line, out);
    if (path.kind != QS_JSTRING)
        QS_JFAIL(r->e, line, "an attribute is a text or a number, found %s", qs_jkind_name(path));
    const char *text = path.string->text, *end = text + path.string->bytes;
    for (;;) {
        const char *dot = memchr(text, '.', (size_t)(end - text)), *to = dot ? dot : end;
        qs_jvalue key;
        bool number = to > text && to - text < 10;
        int64_t index = 0;
        for (const char *p = text; p < to; p++) {
            number = number && *p >= '0' && *p <= '9';
            index = 10 * index + (number ? *p - '0' : 0);
        }
        if (number)
            key = QS_JV_INT(index);
        else
            QS_JMEMORY(r, line, qs_jstring_of(r->a, text, (size_t)(to - text), 0, &key));
        QS_TRY(qs_jitem(r, *out, key, line, out));
        if (!dot) return 0;
        text = dot + 1;
    }
}

static int filter_first(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    qs_jlist *list;
    bool first = *name == 'f';
    if (args->count + args->named) QS_JFAIL(r->e, args->line, "%s takes no arguments", name);
    if (in.kind == QS_JGENERATOR) {
        if (!first) QS_JFAIL(r->e, args->line, "last cannot be had of a generator; put \"list\" before it");
        *out = in.list->taken < in.list->count ? in.list->items[in.list->taken++]
                                               : QS_JV(QS_JUNDEFINED, .name = "the first of nothing");
        return 0;
    }
    QS_TRY(qs_jelements(r, in, args->line, &list));
    *out = list->count ? list->items[first ? 0 : list->count - 1]
                       : QS_JV(QS_JUNDEFINED, .name = "an element of nothing");
    return 0;
}

static int filter_list(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    qs_jlist *list;
    if (args->count + args->named) QS_JFAIL(r->e, args->line, "%s takes no arguments", name);
    if (*name == 'i') { /* items */
        qs_jvalue view;
        QS_TRY(new_list(r, QS_JGENERATOR, args->line, out));
        if (in.kind == QS_JUNDEFINED) return 0;
        if (in.kind != QS_JDICT)
            QS_JFAIL(r->e, args->line, "items takes a dict, found %s", qs_jkind_name(in));
        QS_TRY(qs_jmethod_call(r, in, "items", args, &view));
        out->list = view.list;
        return 0;
    }
    QS_TRY(qs_jelements(r, in, args->line, &list));
    QS_TRY(new_list(r, QS_JLIST, args->line, out));
    out->mark = in.mark;
    for (size_t i = 0; i < list->count; i++) QS_TRY(add(r, *out, list->items[i], args->line));
    return 0;
}

static int filter_reverse(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    qs_jlist *list;
    qs_jbuilder b = {0};
    if (args->count + args->named) QS_JFAIL(r->e, args->line, "%s takes no arguments", name);
    QS_TRY(qs_jelements(r, in, args->line, &list));
    if (in.kind == QS_JSTRING) {
        for (size_t i = list->count; i-- > 0;)
            QS_JMEMORY(r, args->line, qs_jput_str(r->a, &b, list->items[i]));
        QS_JMEMORY(r, args->line, qs_jstring_built(r->a, &b, out));
        return 0;
    }
    QS_TRY(new_list(r, QS_JGENERATOR, args->line, out));
    for (size_t i = list->count; i-- > 0;) QS_TRY(add(r, *out, list->items[i], args->line));
    return 0;
}

static int filter_join(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"d", "attribute", NULL};
    qs_jvalue p[2] = {QS_JV_NONE, QS_JV_NONE}, v;
    qs_jlist *list;
    qs_jbuilder b = {0};
    QS_JMEMORY(r, args->line, qs_jstring_of(r->a, "", 0, 0, &p[0]));
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    QS_TRY(qs_jelements(r, in, args->line, &list));
    for (size_t i = 0; i < list->count; i++) {
        QS_TRY(qs_jstep(r, args->line, 1));
        QS_TRY(attribute_of(r, list->items[i], p[1], args->line, &v));
        QS_JMEMORY(r, args->line, (!i || qs_jput_str(r->a, &b, p[0])) && qs_jput_str(r->a, &b, v));
    }
    QS_JMEMORY(r, args->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

/* What follows a filter's or test's name among the arguments. */
static qs_jargs rest(const qs_jargs *args, size_t skip)
{
    qs_jargs more = *args;
    if (skip) more.items += skip; /* without any, items is NULL */
    more.count -= skip;
    return more;
}

static int text_argument(qs_jrun *r, const char *what, const qs_jargs *args, size_t at, char *text,
                         size_t bytes)
{
    if (args->count <= at || args->items[at].kind != QS_JSTRING || args->items[at].string->bytes >= bytes)
        QS_JFAIL(r->e, args->line, "%s needs a name as argument %zu", what, at + 1);
    memcpy(text, args->items[at].string->text, args->items[at].string->bytes);
    text[args->items[at].string->bytes] = 0;
    return 0;
}

static int filter_map(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"attribute", "default", NULL};
    qs_jvalue p[2] = {QS_JV_NONE, QS_JV(QS_JUNDEFINED)}, v;
    qs_jlist *list;
    char filter[40] = {0};
    QS_TRY(new_list(r, QS_JGENERATOR, args->line, out));
    if (args->count)
        QS_TRY(text_argument(r, name, args, 0, filter, sizeof filter));
    else
        QS_TRY(qs_jbind(r, name, args, names, 1, p));
    if (!qs_jtrue(in)) return 0; /* none, too */
    QS_TRY(qs_jelements(r, in, args->line, &list));
    for (size_t i = 0; i < list->count; i++) {
        qs_jargs more = rest(args, args->count ? 1 : 0);
        if (*filter)
            QS_TRY(qs_jfilter(r, filter, list->items[i], &more, &v));
        else
            QS_TRY(attribute_of(r, list->items[i], p[0], args->line, &v));
        if (!*filter && v.kind == QS_JUNDEFINED && p[1].kind != QS_JUNDEFINED) v = p[1];
        QS_TRY(add(r, *out, v, args->line));
    }
    return 0;
}

/* select, reject, selectattr, rejectattr. */
static int filter_select(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    bool reject = *name == 'r', by_attribute = strlen(name) > 6;
    size_t at = by_attribute ? 1 : 0;
    char test[40] = {0};
    qs_jlist *list;
    qs_jvalue v;
    QS_TRY(new_list(r, QS_JGENERATOR, args->line, out));
    if (by_attribute && !args->count) QS_JFAIL(r->e, args->line, "%s needs the name of an attribute", name);
    if (args->count > at) QS_TRY(text_argument(r, name, args, at, test, sizeof test));
    if (!qs_jtrue(in)) return 0; /* none, too */
    QS_TRY(qs_jelements(r, in, args->line, &list));
    for (size_t i = 0; i < list->count; i++) {
        bool holds;
        QS_TRY(attribute_of(r, list->items[i], by_attribute ? args->items[0] : QS_JV_NONE, args->line, &v));
        holds = qs_jtrue(v);
        qs_jargs more = rest(args, *test ? at + 1 : at);
        if (*test) QS_TRY(qs_jtest(r, test, v, &more, &holds));
        if (holds != reject) QS_TRY(add(r, *out, list->items[i], args->line));
        QS_TRY(qs_jstep(r, args->line, 1));
    }
    return 0;
}

/* ---- order ------------------------------------------------------------------------------------------- */

/* What elements are compared by: an attribute, in lower case unless case matters. */
static int sort_key(qs_jrun *r, qs_jvalue v, qs_jvalue attribute, bool case_sensitive, int line,
                    qs_jvalue *out)
{
    QS_TRY(attribute_of(r, v, attribute, line, out));
    if (out->kind == QS_JSTRING && !case_sensitive)
        QS_JMEMORY(r, line, qs_jcased(r->a, *out, QS_JLOWER, out));
    return 0;
}

/* Sorts elements by keys, both in place, equal ones as they were. */
static int sort_by(qs_jrun *r, qs_jvalue *items, qs_jvalue *keys, size_t count, bool reverse, int line)
{
    qs_jvalue *to = qs_jarena_get(r->a, (2 * count + 1) * sizeof *to), *to_keys = to + count;
    QS_JMEMORY(r, line, to);
    for (size_t width = 1; width < count; width *= 2) {
        for (size_t from = 0; from < count; from += 2 * width) {
            size_t mid = from + width < count ? from + width : count,
                   end = from + 2 * width < count ? from + 2 * width : count;
            for (size_t i = from, k = mid, n = from; n < end; n++) {
                int order = 0;
                QS_TRY(qs_jstep(r, line, 1));
                if (i < mid && k < end && !qs_jorder(keys[i], keys[k], &order))
                    QS_JFAIL(r->e, line, "%s and %s have no order", qs_jkind_name(keys[i]),
                             qs_jkind_name(keys[k]));
                bool first = k == end || (i < mid && (reverse ? order >= 0 : order <= 0));
                to_keys[n] = keys[first ? i : k];
                to[n] = items[first ? i++ : k++];
            }
        }
        memcpy(items, to, count * sizeof *to);
        memcpy(keys, to_keys, count * sizeof *to);
    }
    return 0;
}

static int filter_sort(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"reverse", "case_sensitive", "attribute", NULL};
    qs_jvalue p[3] = {QS_JV_BOOL(false), QS_JV_BOOL(false), QS_JV_NONE}, keys, key;
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    if (p[2].kind == QS_JSTRING && memchr(p[2].string->text, ',', p[2].string->bytes))
        QS_JFAIL(r->e, args->line, "sort by several attributes is not supported");
    QS_TRY(filter_list(r, "list", in, &(qs_jargs){.line = args->line}, out));
    QS_TRY(new_list(r, QS_JLIST, args->line, &keys));
    for (size_t i = 0; i < out->list->count; i++) {
        QS_TRY(sort_key(r, out->list->items[i], p[2], qs_jtrue(p[1]), args->line, &key));
        QS_TRY(add(r, keys, key, args->line));
    }
    return sort_by(r, out->list->items, keys.list->items, out->list->count, qs_jtrue(p[0]), args->line);
}

static int filter_dictsort(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"case_sensitive", "by", "reverse", NULL};
    qs_jvalue p[3] = {QS_JV_BOOL(false), QS_JV_NONE, QS_JV_BOOL(false)}, keys, key, pairs;
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    if (in.kind != QS_JDICT) QS_JFAIL(r->e, args->line, "dictsort takes a dict, found %s", qs_jkind_name(in));
    bool by_value = qs_jequals_text(p[1], "value");
    if (p[1].kind != QS_JNONE && !by_value && !qs_jequals_text(p[1], "key"))
        QS_JFAIL(r->e, args->line, "dictsort sorts by \"key\" or \"value\"");
    QS_TRY(qs_jmethod_call(r, in, "items", &(qs_jargs){.line = args->line}, &pairs));
    QS_TRY(filter_list(r, "list", pairs, &(qs_jargs){.line = args->line}, out));
    QS_TRY(new_list(r, QS_JLIST, args->line, &keys));
    for (size_t i = 0; i < out->list->count; i++) {
        QS_TRY(sort_key(r, out->list->items[i].list->items[by_value], QS_JV_NONE, qs_jtrue(p[0]), args->line,
                        &key));
        QS_TRY(add(r, keys, key, args->line));
    }
    return sort_by(r, out->list->items, keys.list->items, out->list->count, qs_jtrue(p[2]), args->line);
}

/* max and min: the first of the largest, or smallest. */
static int filter_extreme(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"case_sensitive", "attribute", NULL};
    qs_jvalue p[2] = {QS_JV_BOOL(false), QS_JV_NONE}, key, best = QS_JV_NONE;
    qs_jlist *list;
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    QS_TRY(qs_jelements(r, in, args->line, &list));
    *out = QS_JV(QS_JUNDEFINED, .name = "an element of nothing");
    for (size_t i = 0; i < list->count; i++) {
        int order = 0;
        QS_TRY(sort_key(r, list->items[i], p[1], qs_jtrue(p[0]), args->line, &key));
        if (i && !qs_jorder(key, best, &order))
            QS_JFAIL(r->e, args->line, "%s and %s have no order", qs_jkind_name(key), qs_jkind_name(best));
        if (i && (name[1] == 'a' ? order <= 0 : order >= 0)) continue;
        best = key;
        *out = list->items[i];
    }
    return 0;
}

static int filter_unique(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"case_sensitive", "attribute", NULL};
    qs_jvalue p[2] = {QS_JV_BOOL(false), QS_JV_NONE}, key, seen;
    qs_jlist *list;
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    QS_TRY(qs_jelements(r, in, args->line, &list));
    QS_TRY(new_list(r, QS_JGENERATOR, args->line, out));
    QS_TRY(new_list(r, QS_JLIST, args->line, &seen));
    for (size_t i = 0; i < list->count; i++) {
        bool known;
        QS_TRY(sort_key(r, list->items[i], p[1], qs_jtrue(p[0]), args->line, &key));
        QS_TRY(qs_jcontains(r, seen, key, args->line, &known));
        if (known) continue;
        QS_TRY(add(r, seen, key, args->line));
        QS_TRY(add(r, *out, list->items[i], args->line));
    }
    return 0;
}

static int filter_sum(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"attribute", "start", NULL};
    qs_jvalue p[2] = {QS_JV_NONE, QS_JV_INT(0)}, v;
    qs_jlist *list;
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    QS_TRY(qs_jelements(r, in, args->line, &list));
    *out = p[1];
    for (size_t i = 0; i < list->count; i++) {
        QS_TRY(attribute_of(r, list->items[i], p[0], args->line, &v));
        qs_jnode left = {.kind = QS_JN_CONST, .line = args->line, .value = *out},
                 right = {.kind = QS_JN_CONST, .line = args->line, .value = v};
        qs_jnode sum = {.kind = QS_JN_BINARY, .op = '+', .line = args->line, .a = &left, .b = &right};
        QS_TRY(qs_jevaluate(r, &sum, out));
    }
    return 0;
}

static int filter_attr(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    char text[80];
    QS_TRY(text_argument(r, name, args, 0, text, sizeof text));
    if (in.kind == QS_JDICT && !qs_jis_method(in, text, strlen(text))) {
        *out = QS_JV(QS_JUNDEFINED, .name = "an attribute"); /* keys are no attributes */
        return 0;
    }
    return qs_jattribute(r, in, text, strlen(text), args->line, out);
}

int qs_jlist_filter(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out,
                    bool *found)
{
    static const struct {
        const char *name;
        int (*call)(qs_jrun *, const char *, qs_jvalue, const qs_jargs *, qs_jvalue *);
    } filters[] = {{"first", filter_first},       {"last", filter_first},        {"list", filter_list},
                   {"items", filter_list},        {"reverse", filter_reverse},   {"join", filter_join},
                   {"map", filter_map},           {"select", filter_select},     {"reject", filter_select},
                   {"selectattr", filter_select}, {"rejectattr", filter_select}, {"sort", filter_sort},
                   {"dictsort", filter_dictsort}, {"max", filter_extreme},       {"min", filter_extreme},
                   {"unique", filter_unique},     {"sum", filter_sum},           {"attr", filter_attr}};
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if ((*found = strcmp(name, filters[i].name) == 0)) return filters[i].call(r, name, in, args, out);
    return 0;
}
