/* str() and repr() of values, as Python writes them. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "src/data/jinja/value.h"

/* The shortest digits that read back as the same number, in positional notation from 1e-4 up to below 1e16.
 */
size_t qs_jfloat_text(double real, char *text)
{
    if (isnan(real) || isinf(real))
        return (size_t)snprintf(text, 40, "%s", isnan(real) ? "nan" : real < 0 ? "-inf" : "inf");
    char digits[40];
    int precision = 0;
    do snprintf(digits, sizeof digits, "%.*e", precision, real);
    while (strtod(digits, NULL) != real && ++precision < 17);
    int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    if (real != 0 && (exponent < -4 || exponent >= 16)) {
        char *e = strchr(digits, 'e');
        return (size_t)snprintf(text, 40, "%.*se%c%02d", (int)(e - digits), digits, exponent < 0 ? '-' : '+',
                                abs(exponent));
    }
    int decimals = precision - exponent;
    return (size_t)snprintf(text, 40, "%.*f", decimals < 1 ? 1 : decimals, real);
}

static bool put_words(qs_jarena *a, qs_jbuilder *b, const char *words, int32_t mark)
{
    return qs_jput(a, b, words, strlen(words), mark);
}

static bool printable(int32_t c)
{
    if (c < 0x80) return c >= 0x20 && c != 0x7f;
    switch (utf8proc_category(c)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS:
        return false;
    default:
        return true;
    }
}

static bool put_string_repr(qs_jarena *a, qs_jbuilder *b, qs_jvalue v)
{
    const qs_jstring *s = v.string;
    int32_t mark = s->spans ? s->spans[0].mark : v.mark;
    char quote = s->bytes && memchr(s->text, '\'', s->bytes) && !memchr(s->text, '"', s->bytes) ? '"' : '\'';
    bool ok = qs_jput(a, b, &quote, 1, mark);
    for (size_t i = 0, n; i < s->bytes && ok; i += n) {
        n = qs_jcharacter_bytes(s->text + i, s->bytes - i);
        int32_t c = qs_jcodepoint(s->text + i, s->bytes - i);
        char escape[16] = {0};
        if (c == quote || c == '\\')
            snprintf(escape, sizeof escape, "\\%c", (char)c);
        else if (c == '\n' || c == '\r' || c == '\t')
            snprintf(escape, sizeof escape, "\\%c", c == '\n' ? 'n' : c == '\r' ? 'r' : 't');
        else if (!printable(c))
            snprintf(escape, sizeof escape,
                     c < 0x100     ? "\\x%02x"
                     : c < 0x10000 ? "\\u%04x"
                                   : "\\U%08x",
                     (unsigned)c);
        ok = *escape ? put_words(a, b, escape, mark) : qs_jput_part(a, b, v, i, i + n);
    }
    return ok && qs_jput(a, b, &quote, 1, mark);
}

static bool put_list(qs_jarena *a, qs_jbuilder *b, qs_jvalue v, const char *open, const char *close)
{
    bool ok = put_words(a, b, open, v.mark);
    for (size_t i = 0; i < v.list->count && ok; i++)
        ok = (!i || put_words(a, b, ", ", v.mark)) && qs_jput_repr(a, b, v.list->items[i]);
    if (v.kind == QS_JTUPLE && v.list->count == 1) ok = ok && put_words(a, b, ",", v.mark);
    return ok && put_words(a, b, close, v.mark);
}

static bool put_dict(qs_jarena *a, qs_jbuilder *b, qs_jvalue v)
{
    bool ok = put_words(a, b, "{", v.mark);
    for (size_t i = 0; i < v.dict->count && ok; i++)
        ok = (!i || put_words(a, b, ", ", v.mark)) && qs_jput_repr(a, b, v.dict->entries[i].key) &&
             put_words(a, b, ": ", v.mark) && qs_jput_repr(a, b, v.dict->entries[i].value);
    return ok && put_words(a, b, "}", v.mark);
}

bool qs_jput_repr(qs_jarena *a, qs_jbuilder *b, qs_jvalue v)
{
    char text[40];
    switch (v.kind) {
    case QS_JUNDEFINED:
        return put_words(a, b, "Undefined", v.mark);
    case QS_JNONE:
        return put_words(a, b, "None", v.mark);
    case QS_JBOOL:
        return put_words(a, b, v.boolean ? "True" : "False", v.mark);
    case QS_JINT:
        return qs_jput(a, b, text, (size_t)snprintf(text, sizeof text, "%lld", (long long)v.integer), v.mark);
    case QS_JFLOAT:
        return qs_jput(a, b, text, qs_jfloat_text(v.real, text), v.mark);
    case QS_JSTRING:
        return put_string_repr(a, b, v);
    case QS_JLIST:
        return put_list(a, b, v, "[", "]");
    case QS_JTUPLE:
        return put_list(a, b, v, "(", ")");
    case QS_JVIEW:
        return put_list(a, b, v, "dict_items([", "])");
    case QS_JDICT:
        return put_dict(a, b, v);
    default:
        return put_words(a, b, "<", v.mark) && put_words(a, b, qs_jkind_name(v), v.mark) &&
               put_words(a, b, ">", v.mark);
    }
}

bool qs_jput_str(qs_jarena *a, qs_jbuilder *b, qs_jvalue v)
{
    if (v.kind == QS_JSTRING) return qs_jput_part(a, b, v, 0, v.string->bytes);
    if (v.kind == QS_JUNDEFINED) return true;
    return qs_jput_repr(a, b, v);
}
