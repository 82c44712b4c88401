/* The filter tojson as transformers has it: json.dumps, with ensure_ascii off unless asked for; and the date
 * of strftime_now. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/data/jinja/run.h"

typedef struct writer {
    qs_jrun *r;
    qs_jbuilder b;
    int line;
    bool ascii, sorted;
    const char *indent; /* NULL: everything on one line */
    size_t indent_bytes;
    const qs_jstring *item, *key; /* separators */
} writer;

static int put(writer *w, const char *text, size_t bytes, int32_t mark)
{
    QS_JMEMORY(w->r, w->line, qs_jput(w->r->a, &w->b, text, bytes, mark));
    return 0;
}

static int put_string(writer *w, qs_jvalue v)
{
    const qs_jstring *s = v.string;
    int32_t mark = s->spans ? s->spans[0].mark : v.mark;
    QS_TRY(put(w, "\"", 1, mark));
    for (size_t i = 0, n; i < s->bytes; i += n) {
        static const char plain[] = "\"\\\n\r\t\f\b", letters[] = "\"\\nrtfb";
        int32_t c = qs_jcodepoint(s->text + i, s->bytes - i);
        n = qs_jcharacter_bytes(s->text + i, s->bytes - i);
        const char *known = c && c < 0x80 ? strchr(plain, c) : NULL;
        char escape[16] = {0};
        if (known)
            snprintf(escape, sizeof escape, "\\%c", letters[known - plain]);
        else if (c < 0x20 || (w->ascii && c >= 0x7f && c < 0x10000 && c != 0x7f))
            snprintf(escape, sizeof escape, "\\u%04x", (unsigned)c);
        else if (w->ascii && c >= 0x10000)
            snprintf(escape, sizeof escape, "\\u%04x\\u%04x", 0xd800 + (((unsigned)c - 0x10000) >> 10),
                     0xdc00 + (((unsigned)c - 0x10000) & 0x3ff));
        if (*escape) {
            QS_TRY(put(w, escape, strlen(escape), mark));
            continue;
        }
        size_t end = i + n; /* a run of characters that stand for themselves */
        while (end < s->bytes && (unsigned char)s->text[end] >= 0x20 && s->text[end] != '"' &&
               s->text[end] != '\\' && !(w->ascii && (unsigned char)s->text[end] >= 0x80))
            end++;
        QS_JMEMORY(w->r, w->line, qs_jput_part(w->r->a, &w->b, v, i, end));
        n = end - i;
    }
    return put(w, "\"", 1, mark);
}

static int put_scalar(writer *w, qs_jvalue v)
{
    char text[40];
    size_t n;
    switch (v.kind) {
    case QS_JNONE:
        return put(w, "null", 4, v.mark);
    case QS_JBOOL:
        return v.boolean ? put(w, "true", 4, v.mark) : put(w, "false", 5, v.mark);
    case QS_JINT:
        return put(w, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v.integer), v.mark);
    default:
        n = qs_jfloat_text(v.real, text);
        if (isnan(v.real) || isinf(v.real))
            n = (size_t)snprintf(text, sizeof text, "%s",
                                 isnan(v.real) ? "NaN"
                                 : v.real < 0  ? "-Infinity"
                                               : "Infinity");
        return put(w, text, n, v.mark);
    }
}

static int new_line(writer *w, int depth, int32_t mark)
{
    if (!w->indent) return 0;
    QS_TRY(put(w, "\n", 1, mark));
    for (int i = 0; i < depth; i++) QS_TRY(put(w, w->indent, w->indent_bytes, mark));
    return 0;
}

static int put_value(writer *w, qs_jvalue v, int depth);

/* The entries of a dict, by key where that is asked for. */
static int ordered(writer *w, const qs_jdict *d, qs_jentry **out)
{
    qs_jentry *list = *out = qs_jarena_get(w->r->a, (d->count + 1) * sizeof *list);
    QS_JMEMORY(w->r, w->line, list);
    for (size_t i = 0; i < d->count; i++) {
        size_t at = i;
        int order = 0;
        for (; w->sorted && at; at--) {
            if (!qs_jorder(list[at - 1].key, d->entries[i].key, &order))
                QS_JFAIL(w->r->e, w->line, "tojson cannot sort keys of several kinds");
            if (order <= 0) break;
            list[at] = list[at - 1];
        }
        QS_TRY(qs_jstep(w->r, w->line, i - at));
        list[at] = d->entries[i];
    }
    return 0;
}

static int put_dict(writer *w, qs_jvalue v, int depth)
{
    qs_jentry *entries;
    QS_TRY(put(w, "{", 1, v.mark));
    QS_TRY(ordered(w, v.dict, &entries));
    for (size_t i = 0; i < v.dict->count; i++) {
        qs_jvalue key = entries[i].key;
        if (i) QS_TRY(put(w, w->item->text, w->item->bytes, v.mark));
        QS_TRY(new_line(w, depth + 1, v.mark));
        if (key.kind == QS_JSTRING) {
            QS_TRY(put_string(w, key));
        } else if (key.kind == QS_JNONE || qs_jis_number(key)) {
            QS_TRY(put(w, "\"", 1, v.mark));
            QS_TRY(put_scalar(w, key));
            QS_TRY(put(w, "\"", 1, v.mark));
        } else {
            QS_JFAIL(w->r->e, w->line, "tojson cannot write %s as a key", qs_jkind_name(key));
        }
        QS_TRY(put(w, w->key->text, w->key->bytes, v.mark));
        QS_TRY(put_value(w, entries[i].value, depth + 1));
    }
    if (v.dict->count) QS_TRY(new_line(w, depth, v.mark));
    return put(w, "}", 1, v.mark);
}

static int put_list(writer *w, qs_jvalue v, int depth)
{
    QS_TRY(put(w, "[", 1, v.mark));
    for (size_t i = 0; i < v.list->count; i++) {
        if (i) QS_TRY(put(w, w->item->text, w->item->bytes, v.mark));
        QS_TRY(new_line(w, depth + 1, v.mark));
        QS_TRY(put_value(w, v.list->items[i], depth + 1));
    }
    if (v.list->count) QS_TRY(new_line(w, depth, v.mark));
    return put(w, "]", 1, v.mark);
}

static int put_value(writer *w, qs_jvalue v, int depth)
{
    QS_TRY(qs_jstep(w->r, w->line, 1 + (v.kind == QS_JSTRING ? v.string->bytes / 16 : 0)));
    switch (v.kind) {
    case QS_JSTRING:
        return put_string(w, v);
    case QS_JDICT:
        return put_dict(w, v, depth);
    case QS_JLIST:
    case QS_JTUPLE:
        return put_list(w, v, depth);
    case QS_JNONE:
    case QS_JBOOL:
    case QS_JINT:
    case QS_JFLOAT:
        return put_scalar(w, v);
    case QS_JUNDEFINED:
        QS_JFAIL(w->r->e, w->line, "tojson cannot write \"%.80s\", which is not there",
                 v.name ? v.name : "a value");
    default:
        QS_JFAIL(w->r->e, w->line, "tojson cannot write %s", qs_jkind_name(v));
    }
}

int qs_jtojson(qs_jrun *r, qs_jvalue v, const qs_jargs *args, qs_jvalue *out)
{
    enum { DEEPEST = 64 };
    static const char *const names[] = {"ensure_ascii", "indent", "separators", "sort_keys", NULL};
    static const qs_jstring comma = {.text = ",", .bytes = 1}, comma_space = {.text = ", ", .bytes = 2},
                            colon = {.text = ": ", .bytes = 2};
    qs_jvalue p[4] = {QS_JV_BOOL(false), QS_JV_NONE, QS_JV_NONE, QS_JV_BOOL(false)};
    char spaces[DEEPEST + 1];
    QS_TRY(qs_jbind(r, "tojson", args, names, 0, p));
    writer w = {.r = r,
                .line = args->line,
                .ascii = qs_jtrue(p[0]),
                .sorted = qs_jtrue(p[3]),
                .item = &comma_space,
                .key = &colon};
    memset(spaces, ' ', sizeof spaces);
    if (p[1].kind == QS_JINT || p[1].kind == QS_JBOOL) {
        int64_t n = p[1].kind == QS_JINT ? p[1].integer : p[1].boolean;
        if (n > DEEPEST)
            QS_JFAIL(r->e, args->line, "tojson indents by at most %d, found %lld", DEEPEST, (long long)n);
        w.indent = spaces;
        w.indent_bytes = n > 0 ? (size_t)n : 0;
    } else if (p[1].kind == QS_JSTRING) {
        w.indent = p[1].string->text;
        w.indent_bytes = p[1].string->bytes;
    } else if (p[1].kind != QS_JNONE) {
        QS_JFAIL(r->e, args->line, "tojson indents by a number or a text, found %s", qs_jkind_name(p[1]));
    }
    if (w.indent) w.item = &comma;
    if (p[2].kind != QS_JNONE) {
        bool pair = (p[2].kind == QS_JTUPLE || p[2].kind == QS_JLIST) && p[2].list->count == 2 &&
                    p[2].list->items[0].kind == QS_JSTRING && p[2].list->items[1].kind == QS_JSTRING;
        if (!pair) QS_JFAIL(r->e, args->line, "tojson takes two texts as separators");
        w.item = p[2].list->items[0].string;
        w.key = p[2].list->items[1].string;
    }
    QS_TRY(put_value(&w, v, 0));
    QS_JMEMORY(r, args->line, qs_jstring_built(r->a, &w.b, out));
    return 0;
}

int qs_jstrftime(qs_jrun *r, qs_jvalue format, int line, qs_jvalue *out)
{
    enum { LONGEST = 200 };
    char pattern[LONGEST + 2], text[4 * LONGEST];
    if (format.kind != QS_JSTRING || format.string->bytes > LONGEST)
        QS_JFAIL(r->e, line, "strftime_now() takes a format of at most %d bytes", LONGEST);
    size_t n = 0;
    for (size_t i = 0; i < format.string->bytes; i++) { /* a date without a time zone */
        const char *c = format.string->text + i;
        bool zone = *c == '%' && i + 1 < format.string->bytes && (c[1] == 'z' || c[1] == 'Z');
        if (*c == '%' && i + 1 < format.string->bytes && !zone) pattern[n++] = *c, i++, c++;
        if (zone)
            i++;
        else
            pattern[n++] = *c;
    }
    pattern[n++] = '.'; /* so that nothing is not an error */
    pattern[n] = 0;
    size_t bytes = strftime(text, sizeof text, pattern, &r->date);
    if (!bytes) QS_JFAIL(r->e, line, "strftime_now() cannot write its format");
    char *copy = qs_jarena_get(r->a, bytes);
    QS_JMEMORY(r, line, copy);
    memcpy(copy, text, bytes);
    QS_JMEMORY(r, line, qs_jstring_of(r->a, copy, bytes - 1, 0, out));
    return 0;
}
