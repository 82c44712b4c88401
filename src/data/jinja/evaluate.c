/* Expressions: operators, attributes, subscripts, comparisons, by Python's rules. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/data/jinja/run.h"

enum { DEPTH_MAX = 400 };

int qs_jstep(qs_jrun *r, int line, uint64_t count)
{
    r->steps += count;
    if (r->steps > r->most_steps)
        QS_JFAIL(r->e, line, "the template takes more than %llu steps", (unsigned long long)r->most_steps);
    return 0;
}

int qs_jdeep(qs_jrun *r, int line)
{
    if (++r->depth > DEPTH_MAX) QS_JFAIL(r->e, line, "calls itself deeper than %d", DEPTH_MAX);
    return 0;
}

static void describe(const qs_jnode *n, char *text, size_t bytes)
{
    size_t used = strlen(text);
    if (used + 8 > bytes) return;
    if (n->kind == QS_JN_NAME) {
        snprintf(text + used, bytes - used, "%s", n->name);
    } else if (n->kind == QS_JN_ATTR) {
        describe(n->a, text, bytes);
        used = strlen(text);
        snprintf(text + used, bytes - used, ".%s", n->name);
    } else if (n->kind == QS_JN_ITEM && n->b->kind == QS_JN_CONST) {
        describe(n->a, text, bytes);
        used = strlen(text);
        if (n->b->value.kind == QS_JSTRING)
            snprintf(text + used, bytes - used, "['%.*s']", (int)n->b->value.string->bytes,
                     n->b->value.string->text);
        else
            snprintf(text + used, bytes - used, "[%lld]", (long long)n->b->value.integer);
    } else if (n->kind == QS_JN_FILTER && n->a) {
        describe(n->a, text, bytes);
    }
}

const char *qs_jdescribe(const qs_jnode *n, char *text, size_t bytes)
{
    text[0] = 0;
    describe(n, text, bytes);
    return text;
}

/* ---- attributes and subscripts ----------------------------------------------------------------------- */

static int undefined_used(qs_jrun *r, qs_jvalue v, int line)
{
    QS_JFAIL(r->e, line, "\"%.80s\" is not there (it is undefined)", v.name ? v.name : "a value");
}

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
    if (of.kind == QS_JUNDEFINED) return undefined_used(r, of, line);
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
    if (of.kind == QS_JUNDEFINED) return undefined_used(r, of, line);
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
    if (of.kind == QS_JUNDEFINED) return undefined_used(r, of, n->line);
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

/* ---- arithmetic -------------------------------------------------------------------------------------- */

static int integers(qs_jrun *r, char op, int64_t a, int64_t b, int line, qs_jvalue *out)
{
    int64_t v = 0;
    bool over = false;
    if (op == '/' || op == 'f' || op == '%') {
        if (!b) QS_JFAIL(r->e, line, "division by zero");
        if (op == '/') {
            *out = QS_JV(QS_JFLOAT, .real = (double)a / (double)b);
            return 0;
        }
        if (b == -1)
            over = op == 'f' && __builtin_sub_overflow((int64_t)0, a, &v);
        else {
            v = a % b;
            if (v && (v < 0) != (b < 0)) v += b;
            if (op == 'f') v = (a - v) / b;
        }
    } else if (op == 'p') {
        if (b < 0) {
            *out = QS_JV(QS_JFLOAT, .real = pow((double)a, (double)b));
            return 0;
        }
        if (b > 64 && (a > 1 || a < -1)) over = true;
        for (v = 1; b > 64; b = 2 + b % 2) {
        } /* 0, 1 and -1 */
        for (; b-- && !over;) over = __builtin_mul_overflow(v, a, &v);
    } else {
        over = op == '+'   ? __builtin_add_overflow(a, b, &v)
               : op == '-' ? __builtin_sub_overflow(a, b, &v)
                           : __builtin_mul_overflow(a, b, &v);
    }
    if (over) QS_JFAIL(r->e, line, "a number is larger than 64 bits can hold");
    *out = QS_JV_INT(v);
    return 0;
}

static int reals(qs_jrun *r, char op, double a, double b, int line, qs_jvalue *out)
{
    double v = op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : pow(a, b);
    if (op == '/' || op == 'f' || op == '%') {
        if (b == 0) QS_JFAIL(r->e, line, "division by zero");
        double rest = fmod(a, b);
        if (rest != 0 && (rest < 0) != (b < 0)) rest += b;
        v = op == '/' ? a / b : op == '%' ? rest : floor((a - rest) / b + 0.5);
    }
    *out = QS_JV(QS_JFLOAT, .real = v);
    return 0;
}

static int repeated(qs_jrun *r, qs_jvalue what, int64_t times, int line, qs_jvalue *out)
{
    if (times < 0) times = 0;
    if (what.kind == QS_JSTRING) {
        qs_jbuilder b = {0};
        for (int64_t i = 0; i < times && what.string->bytes; i++) {
            QS_TRY(qs_jstep(r, line, 1 + what.string->bytes / 64));
            QS_JMEMORY(r, line, qs_jput_part(r->a, &b, what, 0, what.string->bytes));
        }
        QS_JMEMORY(r, line, qs_jstring_built(r->a, &b, out));
        return 0;
    }
    QS_JMEMORY(r, line, qs_jlist_new(r->a, what.kind, 0, out));
    for (int64_t i = 0; i < times && what.list->count; i++) {
        QS_TRY(qs_jstep(r, line, what.list->count));
        for (size_t k = 0; k < what.list->count; k++)
            QS_JMEMORY(r, line, qs_jlist_add(r->a, out->list, what.list->items[k]));
    }
    return 0;
}

static int joined(qs_jrun *r, const qs_jvalue *parts, size_t count, int line, qs_jvalue *out)
{
    qs_jbuilder b = {0};
    for (size_t i = 0; i < count; i++) QS_JMEMORY(r, line, qs_jput_str(r->a, &b, parts[i]));
    QS_TRY(qs_jstep(r, line, b.bytes / 64));
    QS_JMEMORY(r, line, qs_jstring_built(r->a, &b, out));
    return 0;
}

static int binary(qs_jrun *r, const qs_jnode *n, qs_jvalue a, qs_jvalue b, qs_jvalue *out)
{
    char op = n->op;
    bool a_list = a.kind == QS_JLIST || a.kind == QS_JTUPLE,
         b_list = b.kind == QS_JLIST || b.kind == QS_JTUPLE;
    if (op == '%' && a.kind == QS_JSTRING) return qs_jpercent(r, a, b, n->line, out);
    if (qs_jis_number(a) && qs_jis_number(b)) {
        if (a.kind == QS_JFLOAT || b.kind == QS_JFLOAT)
            QS_TRY(reals(r, op, qs_jnumber(a), qs_jnumber(b), n->line, out));
        else
            QS_TRY(integers(r, op, a.kind == QS_JINT ? a.integer : a.boolean,
                            b.kind == QS_JINT ? b.integer : b.boolean, n->line, out));
        out->mark = a.mark ? a.mark : b.mark;
        return 0;
    }
    if (op == '+' && a.kind == QS_JSTRING && b.kind == QS_JSTRING) {
        bool html = a.html || b.html; /* what is not yet is escaped */
        if (html) QS_TRY(qs_jescape(r, a, n->line, &a));
        if (html) QS_TRY(qs_jescape(r, b, n->line, &b));
        QS_TRY(joined(r, (qs_jvalue[]){a, b}, 2, n->line, out));
        out->html = html;
        return 0;
    }
    if (op == '+' && a_list && a.kind == b.kind) {
        QS_JMEMORY(r, n->line, qs_jlist_new(r->a, a.kind, a.list->count + b.list->count, out));
        QS_TRY(qs_jstep(r, n->line, a.list->count + b.list->count));
        out->mark = a.mark;
        for (size_t i = 0; i < a.list->count; i++)
            QS_JMEMORY(r, n->line, qs_jlist_add(r->a, out->list, a.list->items[i]));
        for (size_t i = 0; i < b.list->count; i++)
            QS_JMEMORY(r, n->line, qs_jlist_add(r->a, out->list, b.list->items[i]));
        return 0;
    }
    if (op == '*' && (a.kind == QS_JSTRING || a_list) && (b.kind == QS_JINT || b.kind == QS_JBOOL))
        return repeated(r, a, b.kind == QS_JINT ? b.integer : b.boolean, n->line, out);
    if (op == '*' && (b.kind == QS_JSTRING || b_list) && (a.kind == QS_JINT || a.kind == QS_JBOOL))
        return repeated(r, b, a.kind == QS_JINT ? a.integer : a.boolean, n->line, out);
    if (a.kind == QS_JUNDEFINED) return undefined_used(r, a, n->line);
    if (b.kind == QS_JUNDEFINED) return undefined_used(r, b, n->line);
    char left[120], right[120];
    QS_JFAIL(r->e, n->line, "%s %s and %s %s cannot be put together by \"%s\"", qs_jkind_name(a),
             qs_jdescribe(n->a, left, sizeof left), qs_jkind_name(b), qs_jdescribe(n->b, right, sizeof right),
             op == 'f'   ? "//"
             : op == 'p' ? "**"
                         : (char[]){op, 0});
}

/* ---- comparisons ------------------------------------------------------------------------------------- */

int qs_jcontains(qs_jrun *r, qs_jvalue in, qs_jvalue what, int line, bool *out)
{
    *out = false;
    if (in.kind == QS_JSTRING) {
        if (what.kind != QS_JSTRING)
            QS_JFAIL(r->e, line, "\"in\" looks for a text in a text, found %s", qs_jkind_name(what));
        QS_TRY(qs_jstep(r, line, in.string->bytes / 64));
        *out = memmem(in.string->text, in.string->bytes, what.string->text, what.string->bytes) != NULL;
        return 0;
    }
    if (in.kind == QS_JDICT) {
        QS_TRY(qs_jstep(r, line, in.dict->count / 4));
        *out = qs_jdict_find(in.dict, what) != NULL;
        return 0;
    }
    qs_jlist *list;
    QS_TRY(qs_jelements(r, in, line, &list));
    for (size_t i = 0; i < list->count && !*out; i++) {
        QS_TRY(qs_jstep(r, line, qs_jweight(list->items[i])));
        *out = qs_jequal(list->items[i], what);
    }
    return 0;
}

int qs_jcompare(qs_jrun *r, char op, qs_jvalue a, qs_jvalue b, int line, bool *out)
{
    int order;
    if (op == 'i' || op == 'n') {
        QS_TRY(qs_jcontains(r, b, a, line, out));
        *out ^= op == 'n';
        return 0;
    }
    QS_TRY(qs_jstep(r, line, qs_jweight(a)));
    if (op == '=' || op == '!') {
        *out = qs_jequal(a, b) == (op == '=');
        return 0;
    }
    if (!qs_jorder(a, b, &order)) {
        if (a.kind == QS_JUNDEFINED) return undefined_used(r, a, line);
        if (b.kind == QS_JUNDEFINED) return undefined_used(r, b, line);
        QS_JFAIL(r->e, line, "%s and %s have no order", qs_jkind_name(a), qs_jkind_name(b));
    }
    *out = op == '<' ? order < 0 : op == '>' ? order > 0 : op == 'l' ? order <= 0 : order >= 0;
    return 0;
}

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

int qs_jelements(qs_jrun *r, qs_jvalue v, int line, qs_jlist **out)
{
    qs_jvalue list;
    if (v.kind == QS_JLIST || v.kind == QS_JTUPLE || v.kind == QS_JVIEW) {
        *out = v.list;
        return 0;
    }
    QS_JMEMORY(r, line, qs_jlist_new(r->a, QS_JLIST, 0, &list));
    *out = list.list;
    switch (v.kind) {
    case QS_JUNDEFINED:
        return 0;
    case QS_JGENERATOR:
        for (; v.list->taken < v.list->count; v.list->taken++)
            QS_JMEMORY(r, line, qs_jlist_add(r->a, list.list, v.list->items[v.list->taken]));
        return 0;
    case QS_JDICT:
        for (size_t i = 0; i < v.dict->count; i++)
            QS_JMEMORY(r, line, qs_jlist_add(r->a, list.list, v.dict->entries[i].key));
        return 0;
    case QS_JSTRING:
        QS_TRY(qs_jstep(r, line, v.string->bytes));
        for (size_t i = 0, n; i < v.string->bytes; i += n) {
            qs_jvalue c;
            n = qs_jcharacter_bytes(v.string->text + i, v.string->bytes - i);
            QS_JMEMORY(r, line, qs_jstring_part(r->a, v, i, i + n, &c) && qs_jlist_add(r->a, list.list, c));
        }
        return 0;
    default:
        QS_JFAIL(r->e, line, "%s cannot be gone through", qs_jkind_name(v));
    }
}

/* ---- the tree ---------------------------------------------------------------------------------------- */

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
    if (v.kind == QS_JUNDEFINED) return undefined_used(r, v, n->line);
    if (!qs_jis_number(v)) QS_JFAIL(r->e, n->line, "%s has no sign", qs_jkind_name(v));
    if (v.kind == QS_JBOOL) v = QS_JV_INT(v.boolean);
    *out = v;
    if (n->kind == QS_JN_POS) return 0;
    if (v.kind == QS_JFLOAT)
        out->real = -v.real;
    else
        return integers(r, '-', 0, v.integer, n->line, out);
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
    return joined(r, parts.list->items, n->count, n->line, out);
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
        return binary(r, n, a, b, out);
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
