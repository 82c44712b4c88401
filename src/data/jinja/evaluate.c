/* Expressions: attributes, subscripts, and the tree of operators (operators.c), by Python's rules. */
#include <string.h>

#include "src/data/jinja/run.h"

/* ---- attributes and subscripts ----------------------------------------------------------------------- */

static int missing(qs_jrun *r, const char *name, size_t bytes, int line, qs_jvalue *out)
{
    char *copy = qs_jarena_get(r->a, bytes + 1);
    QS_JMEMORY(r, line, copy);
    memcpy(copy, name, bytes);
    copy[bytes] = 0;
    *out = QS_JV(QS_JUNDEFINED, .name = copy);
    return 0;
}

static bool is(const char *name, size_t bytes, const char *what)
{
    return strlen(what) == bytes && memcmp(name, what, bytes) == 0;
}

static bool loop_attribute(const struct qs_jloop *l, const char *name, size_t bytes, qs_jvalue *out)
{
    int64_t at = (int64_t)l->at, count = (int64_t)l->items->count;
    if (is(name, bytes, "index"))
        *out = QS_JV_INT(at + 1);
    else if (is(name, bytes, "index0"))
        *out = QS_JV_INT(at);
    else if (is(name, bytes, "revindex"))
        *out = QS_JV_INT(count - at);
    else if (is(name, bytes, "revindex0"))
        *out = QS_JV_INT(count - at - 1);
    else if (is(name, bytes, "first"))
        *out = QS_JV_BOOL(at == 0);
    else if (is(name, bytes, "last"))
        *out = QS_JV_BOOL(at + 1 == count);
    else if (is(name, bytes, "length"))
        *out = QS_JV_INT(count);
    else if (is(name, bytes, "depth"))
        *out = QS_JV_INT(l->depth + 1);
    else if (is(name, bytes, "depth0"))
        *out = QS_JV_INT(l->depth);
    else if (is(name, bytes, "previtem"))
        *out = at ? l->items->items[at - 1] : QS_JV(QS_JUNDEFINED, .name = "loop.previtem");
    else if (is(name, bytes, "nextitem"))
        *out = at + 1 < count ? l->items->items[at + 1] : QS_JV(QS_JUNDEFINED, .name = "loop.nextitem");
    else
        return false;
    return true;
}

int qs_jattribute(qs_jrun *r, qs_jvalue of, const char *name, size_t bytes, int line, qs_jvalue *out)
{
    static const char *const changing[] = {"append", "clear",  "pop",    "popitem",    "reverse", "insert",
                                           "sort",   "extend", "remove", "setdefault", "update"};
    if (of.kind == QS_JUNDEFINED) return qs_jundefined_used(r, of, line);
    if (of.kind == QS_JLOOP && loop_attribute(of.loop, name, bytes, out)) return 0;
    if (of.kind == QS_JDICT || of.kind == QS_JLIST)
        for (size_t i = of.kind == QS_JDICT ? 1 : 0; i < sizeof changing / sizeof *changing; i++) {
            bool list_only = i == 0 || (i >= 4 && i <= 8), dict_only = i == 3 || i >= 9;
            if (is(name, bytes, changing[i]) && !(of.kind == QS_JDICT ? list_only : dict_only))
                QS_JFAIL(r->e, line, "%s() would change a value, which chat templates may not", changing[i]);
        }
    if (qs_jis_method(of, name, bytes)) {
        if (of.kind == QS_JSTRING && of.html)
            QS_JFAIL(r->e, line, "%.*s() after \"safe\" or \"escape\" is not supported", (int)bytes, name);
        struct qs_jmethod *m = qs_jarena_get(r->a, sizeof *m);
        char *copy = qs_jarena_get(r->a, bytes + 1);
        QS_JMEMORY(r, line, m && copy);
        memcpy(copy, name, bytes);
        copy[bytes] = 0;
        *m = (struct qs_jmethod){of, copy};
        *out = QS_JV(QS_JMETHOD, .method = m);
        return 0;
    }
    const qs_jvalue *v =
        of.kind == QS_JDICT || of.kind == QS_JNAMESPACE ? qs_jdict_find_text(of.dict, name, bytes) : NULL;
    if (!v) return missing(r, name, bytes, line, out);
    *out = *v;
    return 0;
}

int qs_jitem(qs_jrun *r, qs_jvalue of, qs_jvalue key, int line, qs_jvalue *out)
{
    if (of.kind == QS_JUNDEFINED) return qs_jundefined_used(r, of, line);
    if (of.kind == QS_JDICT) {
        const qs_jvalue *v = qs_jdict_find(of.dict, key);
        if (v) {
            *out = *v;
            return 0;
        }
    }
    if (key.kind == QS_JSTRING) return qs_jattribute(r, of, key.string->text, key.string->bytes, line, out);
    bool list = of.kind == QS_JLIST || of.kind == QS_JTUPLE;
    *out = QS_JV(QS_JUNDEFINED, .name = "an element");
    if ((key.kind != QS_JINT && key.kind != QS_JBOOL) || (!list && of.kind != QS_JSTRING)) return 0;
    int64_t i = key.kind == QS_JINT ? key.integer : key.boolean;
    const qs_jstring *s = of.string;
    int64_t count = (int64_t)(list ? of.list->count : qs_jcharacters(s->text, s->bytes));
    if (i < 0) i += count;
    if (i < 0 || i >= count) return 0;
    if (list) {
        *out = of.list->items[i];
        return 0;
    }
    size_t from = qs_jcharacter_at(s->text, s->bytes, (size_t)i);
    QS_JMEMORY(
        r, line,
        qs_jstring_part(r->a, of, from, from + qs_jcharacter_bytes(s->text + from, s->bytes - from), out));
    return 0;
}

/* Python's slice.indices. */
static int slice_range(qs_jrun *r, const qs_jnode *n, int64_t count, int64_t *start, int64_t *stop,
                       int64_t *step)
{
    const qs_jnode *parts[3] = {n->a, n->b, n->c};
    int64_t values[3] = {0};
    bool given[3] = {false};
    for (int i = 0; i < 3; i++) {
        qs_jvalue v;
        if (!parts[i]) continue;
        QS_TRY(qs_jevaluate(r, parts[i], &v));
        if (v.kind == QS_JNONE) continue;
        if (v.kind != QS_JINT && v.kind != QS_JBOOL)
            QS_JFAIL(r->e, n->line, "a slice needs integers, found %s", qs_jkind_name(v));
        values[i] = v.kind == QS_JINT ? v.integer : v.boolean;
        given[i] = true;
    }
    *step = given[2] ? values[2] : 1;
    if (!*step) QS_JFAIL(r->e, n->line, "a slice has the step 0");
    if (*step < -count - 1) *step = -count - 1;
    if (*step > count + 1) *step = count + 1;
    int64_t low = *step < 0 ? -1 : 0, high = *step < 0 ? count - 1 : count;
    for (int i = 0; i < 2; i++) {
        int64_t v = values[i];
        if (!given[i])
            v = (*step < 0) == (i == 0) ? high : low;
        else if (v < 0)
            v = v < -count ? low : v + count;
        if (v > high) v = high;
        if (v < low) v = low;
        *(i ? stop : start) = v;
    }
    return 0;
}

static int slice(qs_jrun *r, qs_jvalue of, const qs_jnode *n, qs_jvalue *out)
{
    int64_t start = 0, stop = 0, step = 1;
    if (of.kind == QS_JUNDEFINED) return qs_jundefined_used(r, of, n->line);
    bool list = of.kind == QS_JLIST || of.kind == QS_JTUPLE;
    if (!list && of.kind != QS_JSTRING) QS_JFAIL(r->e, n->line, "%s cannot be sliced", qs_jkind_name(of));
    const qs_jstring *s = of.string;
    int64_t count = (int64_t)(list ? of.list->count : qs_jcharacters(s->text, s->bytes));
    QS_TRY(slice_range(r, n, count, &start, &stop, &step));
    QS_TRY(qs_jstep(r, n->line, (uint64_t)count / 16));
    if (list) {
        QS_JMEMORY(r, n->line, qs_jlist_new(r->a, of.kind, 0, out));
        out->mark = of.mark;
        for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step)
            QS_JMEMORY(r, n->line, qs_jlist_add(r->a, out->list, of.list->items[i]));
        return 0;
    }
    if (step == 1) {
        size_t from = qs_jcharacter_at(s->text, s->bytes, (size_t)start);
        size_t to = stop > start
                        ? from + qs_jcharacter_at(s->text + from, s->bytes - from, (size_t)(stop - start))
                        : from;
        QS_JMEMORY(r, n->line, qs_jstring_part(r->a, of, from, to, out));
        return 0;
    }
    qs_jbuilder b = {0};
    for (int64_t i = start; step > 0 ? i < stop : i > stop; i += step) {
        size_t at = qs_jcharacter_at(s->text, s->bytes, (size_t)i);
        QS_TRY(qs_jstep(r, n->line, at / 64 + 1));
        QS_JMEMORY(r, n->line,
                   qs_jput_part(r->a, &b, of, at, at + qs_jcharacter_bytes(s->text + at, s->bytes - at)));
    }
    QS_JMEMORY(r, n->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

/* ---- the tree ---------------------------------------------------------------------------------------- */

static int comparison(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    qs_jvalue left, right;
    bool holds = true;
    QS_TRY(qs_jevaluate(r, n->a, &left));
    for (size_t i = 0; i < n->count && holds; i++) {
        QS_TRY(qs_jevaluate(r, n->items[i], &right));
        QS_TRY(qs_jcompare(r, n->ops[i], left, right, n->line, &holds));
        left = right;
    }
    *out = QS_JV_BOOL(holds);
    return 0;
}

static int name(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    static const char *const functions[] = {"raise_exception", "strftime_now", "range", "namespace", "dict",
                                            "joiner",          "cycler",       "lipsum"};
    for (const qs_jscope *s = r->scope; s; s = s->parent)
        for (size_t i = 0; i < s->count; i++)
            if (s->names[i].name == n->name) {
                *out = s->names[i].value;
                return 0;
            }
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (strcmp(n->name, functions[i]) == 0) {
            *out = QS_JV(QS_JFUNCTION, .name = functions[i]);
            return 0;
        }
    *out = QS_JV(QS_JUNDEFINED, .name = n->name);
    return 0;
}

static int container(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    qs_jvalue key, v;
    if (n->kind != QS_JN_DICT) {
        QS_JMEMORY(r, n->line,
                   qs_jlist_new(r->a, n->kind == QS_JN_LIST ? QS_JLIST : QS_JTUPLE, n->count, out));
        for (size_t i = 0; i < n->count; i++) {
            QS_TRY(qs_jevaluate(r, n->items[i], &v));
            QS_JMEMORY(r, n->line, qs_jlist_add(r->a, out->list, v));
        }
        return 0;
    }
    QS_JMEMORY(r, n->line, qs_jdict_new(r->a, QS_JDICT, out));
    for (size_t i = 0; i < n->count; i += 2) {
        QS_TRY(qs_jevaluate(r, n->items[i], &key));
        QS_TRY(qs_jevaluate(r, n->items[i + 1], &v));
        if (key.kind > QS_JSTRING && key.kind != QS_JTUPLE)
            QS_JFAIL(r->e, n->line, "%s cannot be the key of a dict", qs_jkind_name(key));
        QS_JMEMORY(r, n->line, qs_jdict_set(r->a, out->dict, key, v));
    }
    return 0;
}

static int sign(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    qs_jvalue v;
    QS_TRY(qs_jevaluate(r, n->a, &v));
    if (v.kind == QS_JUNDEFINED) return qs_jundefined_used(r, v, n->line);
    if (!qs_jis_number(v)) QS_JFAIL(r->e, n->line, "%s has no sign", qs_jkind_name(v));
    if (v.kind == QS_JBOOL) v = QS_JV_INT(v.boolean);
    *out = v;
    if (n->kind == QS_JN_POS) return 0;
    if (v.kind == QS_JFLOAT)
        out->real = -v.real;
    else
        return qs_jintegers(r, '-', 0, v.integer, n->line, out);
    return 0;
}

static int concat(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    qs_jvalue parts, v;
    QS_JMEMORY(r, n->line, qs_jlist_new(r->a, QS_JLIST, n->count, &parts));
    for (size_t i = 0; i < n->count; i++) {
        QS_TRY(qs_jevaluate(r, n->items[i], &v));
        QS_JMEMORY(r, n->line, qs_jlist_add(r->a, parts.list, v));
    }
    return qs_jjoined(r, parts.list->items, n->count, n->line, out);
}

static int evaluate(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    qs_jvalue a, b;
    qs_jargs args;
    bool holds;
    switch (n->kind) {
    case QS_JN_CONST:
        *out = n->value;
        return 0;
    case QS_JN_NAME:
        return name(r, n, out);
    case QS_JN_LIST:
    case QS_JN_TUPLE:
    case QS_JN_DICT:
        return container(r, n, out);
    case QS_JN_ATTR:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        return qs_jattribute(r, a, n->name, strlen(n->name), n->line, out);
    case QS_JN_ITEM:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        if (n->b->kind == QS_JN_SLICE) return slice(r, a, n->b, out);
        QS_TRY(qs_jevaluate(r, n->b, &b));
        return qs_jitem(r, a, b, n->line, out);
    case QS_JN_CALL:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        QS_TRY(qs_jarguments(r, n, &args));
        return qs_jcall(r, a, &args, out);
    case QS_JN_FILTER:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        QS_TRY(qs_jarguments(r, n, &args));
        return qs_jfilter(r, n->name, a, &args, out);
    case QS_JN_TEST:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        QS_TRY(qs_jarguments(r, n, &args));
        QS_TRY(qs_jtest(r, n->name, a, &args, &holds));
        *out = QS_JV_BOOL(holds);
        return 0;
    case QS_JN_NOT:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        *out = QS_JV_BOOL(!qs_jtrue(a));
        return 0;
    case QS_JN_NEG:
    case QS_JN_POS:
        return sign(r, n, out);
    case QS_JN_BINARY:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        QS_TRY(qs_jevaluate(r, n->b, &b));
        return qs_jbinary(r, n, a, b, out);
    case QS_JN_CONCAT:
        return concat(r, n, out);
    case QS_JN_COMPARE:
        return comparison(r, n, out);
    case QS_JN_AND:
    case QS_JN_OR:
        QS_TRY(qs_jevaluate(r, n->a, out));
        if (qs_jtrue(*out) == (n->kind == QS_JN_AND)) return qs_jevaluate(r, n->b, out);
        return 0;
    case QS_JN_COND:
        QS_TRY(qs_jevaluate(r, n->a, &a));
        if (qs_jtrue(a)) return qs_jevaluate(r, n->b, out);
        if (n->c) return qs_jevaluate(r, n->c, out);
        *out = QS_JV(QS_JUNDEFINED, .name = "the else part of an \"if\" without one");
        return 0;
    default:
        QS_JFAIL(r->e, n->line, "an expression was expected");
    }
}

int qs_jevaluate(qs_jrun *r, const qs_jnode *n, qs_jvalue *out)
{
    QS_TRY(qs_jstep(r, n->line, 1));
    QS_TRY(qs_jdeep(r, n->line));
    QS_TRY(evaluate(r, n, out));
    r->depth--;
    return 0;
}
