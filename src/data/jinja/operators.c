/* Operators on values: arithmetic, comparisons, membership, going through; by Python's rules. */
#include <math.h>
#include <string.h>

#include "src/data/jinja/run.h"

/* ---- arithmetic -------------------------------------------------------------------------------------- */

int qs_jintegers(qs_jrun *r, char op, int64_t a, int64_t b, int line, qs_jvalue *out)
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

int qs_jjoined(qs_jrun *r, const qs_jvalue *parts, size_t count, int line, qs_jvalue *out)
{
    qs_jbuilder b = {0};
    for (size_t i = 0; i < count; i++) QS_JMEMORY(r, line, qs_jput_str(r->a, &b, parts[i]));
    QS_TRY(qs_jstep(r, line, b.bytes / 64));
    QS_JMEMORY(r, line, qs_jstring_built(r->a, &b, out));
    return 0;
}

int qs_jbinary(qs_jrun *r, const qs_jnode *n, qs_jvalue a, qs_jvalue b, qs_jvalue *out)
{
    char op = n->op;
    bool a_list = a.kind == QS_JLIST || a.kind == QS_JTUPLE,
         b_list = b.kind == QS_JLIST || b.kind == QS_JTUPLE;
    if (op == '%' && a.kind == QS_JSTRING) return qs_jpercent(r, a, b, n->line, out);
    if (qs_jis_number(a) && qs_jis_number(b)) {
        if (a.kind == QS_JFLOAT || b.kind == QS_JFLOAT)
            QS_TRY(reals(r, op, qs_jnumber(a), qs_jnumber(b), n->line, out));
        else
            QS_TRY(qs_jintegers(r, op, a.kind == QS_JINT ? a.integer : a.boolean,
                                b.kind == QS_JINT ? b.integer : b.boolean, n->line, out));
        out->mark = a.mark ? a.mark : b.mark;
        return 0;
    }
    if (op == '+' && a.kind == QS_JSTRING && b.kind == QS_JSTRING) {
        bool html = a.html || b.html; /* what is not yet is escaped */
        if (html) QS_TRY(qs_jescape(r, a, n->line, &a));
        if (html) QS_TRY(qs_jescape(r, b, n->line, &b));
        QS_TRY(qs_jjoined(r, (qs_jvalue[]){a, b}, 2, n->line, out));
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
    if (a.kind == QS_JUNDEFINED) return qs_jundefined_used(r, a, n->line);
    if (b.kind == QS_JUNDEFINED) return qs_jundefined_used(r, b, n->line);
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
        if (a.kind == QS_JUNDEFINED) return qs_jundefined_used(r, a, line);
        if (b.kind == QS_JUNDEFINED) return qs_jundefined_used(r, b, line);
        QS_JFAIL(r->e, line, "%s and %s have no order", qs_jkind_name(a), qs_jkind_name(b));
    }
    *out = op == '<' ? order < 0 : op == '>' ? order > 0 : op == 'l' ? order <= 0 : order >= 0;
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
