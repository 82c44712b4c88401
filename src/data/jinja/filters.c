/* Filters on single values. Those on sequences are in list_filters.c. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/data/jinja/run.h"
#include "src/data/jinja/text.h"

static const char *const no_names[] = {NULL};

/* str(value), a text with its marks. */
static int soft(qs_jrun *r, qs_jvalue v, int line, qs_jvalue *out)
{
    qs_jbuilder b = {0};
    *out = v;
    if (v.kind == QS_JSTRING) return 0;
    QS_JMEMORY(r, line, qs_jput_str(r->a, &b, v) && qs_jstring_built(r->a, &b, out));
    return 0;
}

static int filter_default(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"default_value", "boolean", NULL};
    qs_jvalue p[2] = {QS_JV_NONE, QS_JV_BOOL(false)};
    QS_JMEMORY(r, args->line, qs_jstring_of(r->a, "", 0, 0, &p[0]));
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    *out = in.kind == QS_JUNDEFINED || (qs_jtrue(p[1]) && !qs_jtrue(in)) ? p[0] : in;
    return 0;
}

static int filter_length(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(qs_jbind(r, name, args, no_names, 0, NULL));
    switch (in.kind) {
    case QS_JUNDEFINED:
        *out = QS_JV_INT(0);
        return 0;
    case QS_JSTRING:
        *out = QS_JV_INT((int64_t)qs_jcharacters(in.string->text, in.string->bytes));
        return qs_jstep(r, args->line, in.string->bytes / 64);
    case QS_JLIST:
    case QS_JTUPLE:
    case QS_JVIEW:
        *out = QS_JV_INT((int64_t)in.list->count);
        return 0;
    case QS_JDICT:
        *out = QS_JV_INT((int64_t)in.dict->count);
        return 0;
    default:
        QS_JFAIL(r->e, args->line, "%s has no length", qs_jkind_name(in));
    }
}

static int filter_trim(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"chars", NULL};
    qs_jvalue set = QS_JV_NONE, s;
    QS_TRY(qs_jbind(r, name, args, names, 0, &set));
    QS_TRY(soft(r, in, args->line, &s));
    if (set.kind != QS_JNONE && set.kind != QS_JSTRING)
        QS_JFAIL(r->e, args->line, "trim takes a text, found %s", qs_jkind_name(set));
    QS_JMEMORY(r, args->line,
               qs_jstripped(r->a, s, set.kind == QS_JSTRING ? set.string : NULL, true, true, out));
    return 0;
}

static int filter_string(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(qs_jbind(r, name, args, no_names, 0, NULL));
    return soft(r, in, args->line, out);
}

/* Jinja's own title: after blanks, "-" and opening brackets. */
static int title(qs_jrun *r, qs_jvalue s, int line, qs_jvalue *out)
{
    const qs_jstring *t = s.string;
    qs_jbuilder b = {0};
    size_t from = 0;
    for (size_t i = 0; i <= t->bytes;) {
        size_t n = i < t->bytes ? qs_jcharacter_bytes(t->text + i, t->bytes - i) : 1;
        bool cut = i == t->bytes || qs_jis_space(qs_jcodepoint(t->text + i, t->bytes - i)) ||
                   strchr("-({[<", t->text[i]);
        if (cut) {
            qs_jvalue word;
            QS_JMEMORY(r, line,
                       qs_jstring_part(r->a, s, from, i, &word) &&
                           qs_jcased(r->a, word, QS_JCAPITALIZE, &word) && qs_jput_str(r->a, &b, word));
            if (i < t->bytes) QS_JMEMORY(r, line, qs_jput_part(r->a, &b, s, i, i + n));
            from = i + n;
        }
        i += n;
    }
    QS_JMEMORY(r, line, qs_jstring_built(r->a, &b, out));
    return 0;
}

static int filter_case(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    qs_jvalue s;
    QS_TRY(qs_jbind(r, name, args, no_names, 0, NULL));
    QS_TRY(soft(r, in, args->line, &s));
    QS_TRY(qs_jstep(r, args->line, s.string->bytes / 16));
    if (*name == 't') return title(r, s, args->line, out);
    QS_JMEMORY(r, args->line,
               qs_jcased(r->a, s,
                         *name == 'u'   ? QS_JUPPER
                         : *name == 'l' ? QS_JLOWER
                                        : QS_JCAPITALIZE,
                         out));
    return 0;
}

static int filter_replace(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"old", "new", "count", NULL};
    qs_jvalue p[3] = {QS_JV_NONE, QS_JV_NONE, QS_JV_NONE}, s;
    QS_TRY(qs_jbind(r, name, args, names, 2, p));
    QS_TRY(soft(r, in, args->line, &s));
    QS_TRY(soft(r, p[0], args->line, &p[0]));
    QS_TRY(soft(r, p[1], args->line, &p[1]));
    QS_TRY(qs_jstep(r, args->line, s.string->bytes / 16));
    QS_JMEMORY(r, args->line,
               qs_jreplaced(r->a, s, p[0], p[1], p[2].kind == QS_JINT ? p[2].integer : -1, out));
    return 0;
}

static int filter_indent(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    enum { WIDEST = 1000 };
    static const char *const names[] = {"width", "first", "blank", NULL};
    qs_jvalue p[3] = {QS_JV_INT(4), QS_JV_BOOL(false), QS_JV_BOOL(false)}, lines, whole;
    qs_jbuilder b = {0}, margin = {0}, text = {0};
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    if (in.kind != QS_JSTRING) QS_JFAIL(r->e, args->line, "indent takes a text, found %s", qs_jkind_name(in));
    if (p[0].kind == QS_JSTRING)
        QS_JMEMORY(r, args->line, qs_jput_str(r->a, &margin, p[0]));
    else if (p[0].kind != QS_JINT || p[0].integer > WIDEST)
        QS_JFAIL(r->e, args->line, "indent takes a width up to %d", WIDEST);
    for (int64_t i = 0; p[0].kind == QS_JINT && i < p[0].integer; i++)
        QS_JMEMORY(r, args->line, qs_jput(r->a, &margin, " ", 1, 0));
    QS_JMEMORY(r, args->line,
               qs_jput_str(r->a, &text, in) && qs_jput(r->a, &text, "\n", 1, 0) &&
                   qs_jstring_built(r->a, &text, &whole));
    QS_JMEMORY(r, args->line, qs_jlines(r->a, whole, false, &lines));
    for (size_t i = 0; i < lines.list->count; i++) {
        qs_jvalue l = lines.list->items[i];
        QS_TRY(qs_jstep(r, args->line, 1));
        bool indented = i ? qs_jtrue(p[2]) || l.string->bytes : qs_jtrue(p[1]);
        if (i) QS_JMEMORY(r, args->line, qs_jput(r->a, &b, "\n", 1, 0));
        if (indented) QS_JMEMORY(r, args->line, qs_jput(r->a, &b, margin.text, margin.bytes, 0));
        QS_JMEMORY(r, args->line, qs_jput_str(r->a, &b, l));
    }
    QS_JMEMORY(r, args->line, qs_jstring_built(r->a, &b, out));
    return 0;
}

int qs_jescape(qs_jrun *r, qs_jvalue text, int line, qs_jvalue *out)
{
    static const struct {
        char c;
        const char *text;
    } escapes[] = {{'&', "&amp;"}, {'<', "&lt;"}, {'>', "&gt;"}, {'\'', "&#39;"}, {'"', "&#34;"}};
    qs_jbuilder b = {0};
    const qs_jstring *s = text.string;
    *out = text;
    if (text.html) return 0;
    QS_TRY(qs_jstep(r, line, s->bytes / 16));
    for (size_t i = 0; i < s->bytes; i++) {
        const char *escape = NULL;
        for (size_t k = 0; k < sizeof escapes / sizeof *escapes; k++)
            if (s->text[i] == escapes[k].c) escape = escapes[k].text;
        QS_JMEMORY(r, line,
                   escape ? qs_jput(r->a, &b, escape, strlen(escape), s->spans ? QS_JMARK_OTHER : text.mark)
                          : qs_jput_part(r->a, &b, text, i, i + 1));
    }
    QS_JMEMORY(r, line, qs_jstring_built(r->a, &b, out));
    out->html = true;
    return 0;
}

static int filter_escape(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(qs_jbind(r, name, args, no_names, 0, NULL));
    QS_TRY(soft(r, in, args->line, &in));
    return qs_jescape(r, in, args->line, out);
}

static int filter_safe(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(qs_jbind(r, name, args, no_names, 0, NULL));
    QS_TRY(soft(r, in, args->line, out));
    out->html = true;
    return 0;
}

/* A number written in a text, blanks around it; false for anything else. */
static bool read_number(const qs_jstring *s, bool integer, double *real, int64_t *whole)
{
    char text[64], *end;
    size_t n = 0, from = 0, to = s->bytes;
    while (from < to && qs_jis_space((unsigned char)s->text[from])) from++;
    while (to > from && qs_jis_space((unsigned char)s->text[to - 1])) to--;
    if (from == to || to - from >= sizeof text) return false;
    for (size_t i = from; i < to; i++) {
        if (!strchr("+-0123456789.eE_", s->text[i]) || !s->text[i]) return false;
        if (s->text[i] != '_') text[n++] = s->text[i];
    }
    text[n] = 0;
    if (integer)
        *whole = strtoll(text, &end, 10);
    else
        *real = strtod(text, &end);
    return n && end == text + n;
}

static int filter_int(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"default", "base", NULL};
    qs_jvalue p[2] = {QS_JV_INT(0), QS_JV_INT(10)};
    double real = in.kind == QS_JFLOAT ? in.real : 0;
    int64_t whole = 0;
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    if (p[1].kind != QS_JINT || p[1].integer != 10)
        QS_JFAIL(r->e, args->line, "int with another base than 10 is not supported");
    if (in.kind == QS_JINT || in.kind == QS_JBOOL)
        *out = QS_JV_INT(in.kind == QS_JINT ? in.integer : in.boolean);
    else if (in.kind == QS_JSTRING && read_number(in.string, true, NULL, &whole))
        *out = QS_JV_INT(whole);
    else if ((in.kind == QS_JFLOAT ||
              (in.kind == QS_JSTRING && read_number(in.string, false, &real, NULL))) &&
             fabs(real) < 9e18)
        *out = QS_JV_INT((int64_t)real);
    else
        *out = p[0];
    out->mark = in.mark;
    return 0;
}

static int filter_float(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"default", NULL};
    qs_jvalue otherwise = QS_JV(QS_JFLOAT, .real = 0);
    double real = 0;
    QS_TRY(qs_jbind(r, name, args, names, 0, &otherwise));
    if (qs_jis_number(in))
        *out = QS_JV(QS_JFLOAT, .real = qs_jnumber(in));
    else if (in.kind == QS_JSTRING && read_number(in.string, false, &real, NULL))
        *out = QS_JV(QS_JFLOAT, .real = real);
    else
        *out = otherwise;
    out->mark = in.mark;
    return 0;
}

static int filter_abs(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    QS_TRY(qs_jbind(r, name, args, no_names, 0, NULL));
    if (!qs_jis_number(in)) QS_JFAIL(r->e, args->line, "abs takes a number, found %s", qs_jkind_name(in));
    if (in.kind == QS_JINT && in.integer == INT64_MIN)
        QS_JFAIL(r->e, args->line, "a number is larger than 64 bits can hold");
    *out = in.kind == QS_JFLOAT ? QS_JV(QS_JFLOAT, .real = fabs(in.real))
                                : QS_JV_INT(in.kind == QS_JINT ? llabs(in.integer) : in.boolean);
    return 0;
}

static int filter_round(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const char *const names[] = {"precision", "method", NULL};
    qs_jvalue p[2] = {QS_JV_INT(0), QS_JV_NONE};
    QS_TRY(qs_jbind(r, name, args, names, 0, p));
    if (!qs_jis_number(in)) QS_JFAIL(r->e, args->line, "round takes a number, found %s", qs_jkind_name(in));
    if (p[0].kind != QS_JINT || p[0].integer < 0 || p[0].integer > 15)
        QS_JFAIL(r->e, args->line, "round takes a precision of 0 to 15");
    bool common = p[1].kind == QS_JNONE || qs_jequals_text(p[1], "common");
    if (!common && !qs_jequals_text(p[1], "ceil") && !qs_jequals_text(p[1], "floor"))
        QS_JFAIL(r->e, args->line, "round knows common, ceil and floor");
    if (common && in.kind != QS_JFLOAT) {
        *out = QS_JV_INT(in.kind == QS_JINT ? in.integer : in.boolean);
        return 0;
    }
    char text[400];
    double v = qs_jnumber(in), power = pow(10, (double)p[0].integer);
    snprintf(text, sizeof text, "%.*f", (int)p[0].integer, v);
    v = common                          ? strtod(text, NULL)
        : qs_jequals_text(p[1], "ceil") ? ceil(v * power) / power
                                        : floor(v * power) / power;
    *out = QS_JV(QS_JFLOAT, .real = v);
    return 0;
}

static int filter_format(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    qs_jvalue values, s;
    if (args->named) QS_JFAIL(r->e, args->line, "%s with named values is not supported", name);
    QS_JMEMORY(r, args->line, qs_jlist_new(r->a, QS_JTUPLE, args->count, &values));
    for (size_t i = 0; i < args->count; i++)
        QS_JMEMORY(r, args->line, qs_jlist_add(r->a, values.list, args->items[i]));
    QS_TRY(soft(r, in, args->line, &s));
    return qs_jpercent(r, s, values, args->line, out);
}

/* %s %r %d %i %f %.3f %x %% */
int qs_jpercent(qs_jrun *r, qs_jvalue format, qs_jvalue values, int line, qs_jvalue *out)
{
    const qs_jstring *s = format.string;
    qs_jlist single = {.items = &values, .count = 1},
             *list = values.kind == QS_JTUPLE ? values.list : &single;
    qs_jbuilder b = {0};
    size_t next = 0;
    for (size_t i = 0; i < s->bytes;) {
        const char *p = memchr(s->text + i, '%', s->bytes - i);
        size_t to = p ? (size_t)(p - s->text) : s->bytes;
        QS_JMEMORY(r, line, qs_jput_part(r->a, &b, format, i, to));
        if (!p) break;
        i = to + 1;
        int precision = -1;
        if (i + 1 < s->bytes && s->text[i] == '.' && s->text[i + 1] >= '0' && s->text[i + 1] <= '9') {
            precision = s->text[i + 1] - '0';
            i += 2;
        }
        char kind = i < s->bytes ? s->text[i++] : 0, text[400];
        if (kind == '%') {
            QS_JMEMORY(r, line, qs_jput_part(r->a, &b, format, to, to + 1));
            continue;
        }
        if (!kind || !strchr("srdifx", kind))
            QS_JFAIL(r->e, line, "the format %%%c is not supported", kind ? kind : ' ');
        if (next == list->count) QS_JFAIL(r->e, line, "a format has more places than values");
        qs_jvalue v = list->items[next++];
        if (kind == 's' || kind == 'r') {
            QS_JMEMORY(r, line, kind == 's' ? qs_jput_str(r->a, &b, v) : qs_jput_repr(r->a, &b, v));
            continue;
        }
        if (!qs_jis_number(v) || (kind == 'x' && v.kind != QS_JINT))
            QS_JFAIL(r->e, line, "the format %%%c needs a number, found %s", kind, qs_jkind_name(v));
        if (kind == 'f')
            snprintf(text, sizeof text, "%.*f", precision < 0 ? 6 : precision, qs_jnumber(v));
        else
            snprintf(text, sizeof text, kind == 'x' ? "%llx" : "%lld",
                     (long long)(v.kind == QS_JFLOAT ? (int64_t)v.real
                                 : v.kind == QS_JINT ? v.integer
                                                     : v.boolean));
        QS_JMEMORY(r, line, qs_jput(r->a, &b, text, strlen(text), v.mark));
    }
    if (next < list->count && !(values.kind == QS_JDICT && !next))
        QS_JFAIL(r->e, line, "a format has fewer places than values");
    QS_JMEMORY(r, line, qs_jstring_built(r->a, &b, out));
    return 0;
}

static int filter_tojson(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    return qs_jtojson(r, in, args, out);
}

int qs_jfilter(qs_jrun *r, const char *name, qs_jvalue in, const qs_jargs *args, qs_jvalue *out)
{
    static const struct {
        const char *name;
        int (*call)(qs_jrun *, const char *, qs_jvalue, const qs_jargs *, qs_jvalue *);
        bool html; /* takes a text from `safe` */
    } filters[] = {{"trim", filter_trim, false},      {"tojson", filter_tojson, true},
                   {"length", filter_length, true},   {"count", filter_length, true},
                   {"default", filter_default, true}, {"d", filter_default, true},
                   {"string", filter_string, true},   {"upper", filter_case, false},
                   {"lower", filter_case, false},     {"capitalize", filter_case, false},
                   {"title", filter_case, false},     {"replace", filter_replace, false},
                   {"indent", filter_indent, false},  {"safe", filter_safe, true},
                   {"escape", filter_escape, true},   {"e", filter_escape, true},
                   {"int", filter_int, false},        {"float", filter_float, false},
                   {"abs", filter_abs, false},        {"round", filter_round, false},
                   {"format", filter_format, false}};
    bool found = false;
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strcmp(name, filters[i].name) == 0) {
            if (in.kind == QS_JSTRING && in.html && !filters[i].html)
                QS_JFAIL(r->e, args->line, "%s after \"safe\" or \"escape\" is not supported", name);
            return filters[i].call(r, name, in, args, out);
        }
    QS_TRY(qs_jlist_filter(r, name, in, args, out, &found));
    if (!found) QS_JFAIL(r->e, args->line, "the filter \"%.40s\" is not supported", name);
    return 0;
}
