#include "src/data/jinja/lexer.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "src/data/jinja/value.h"

enum { NESTING_MAX = 200 };

typedef struct lexer {
    qs_jarena *a;
    const char *at, *end;
    int line;
    bool line_starting; /* what was taken last ended in a newline, or nothing was */
    char closing[NESTING_MAX];
    int nesting;
    qs_jtokens *out;
    qs_err *e;
} lexer;

static int add(lexer *x, qs_jtoken t)
{
    qs_jtokens *o = x->out;
    if (o->count == o->capacity) {
        size_t want = 2 * o->capacity + 64;
        qs_jtoken *more = qs_jarena_grow(x->a, o->tokens, o->capacity * sizeof *more, want * sizeof *more);
        if (!more) QS_JFAIL_MEMORY(x->e, x->line);
        o->tokens = more;
        o->capacity = want;
    }
    o->tokens[o->count++] = t;
    return 0;
}

/* A copy of [from, from + bytes), NUL-terminated. */
static char *copy(lexer *x, const char *from, size_t bytes)
{
    char *text = qs_jarena_get(x->a, bytes + 1);
    if (!text) return NULL;
    memcpy(text, from, bytes);
    text[bytes] = 0;
    return text;
}

static int add_text(lexer *x, qs_jtoken_kind kind, const char *from, size_t bytes)
{
    char *text = copy(x, from, bytes);
    if (!text) QS_JFAIL_MEMORY(x->e, x->line);
    return add(x, (qs_jtoken){.kind = kind, .line = x->line, .text = text, .bytes = bytes});
}

static void count_lines(lexer *x, const char *from, const char *to)
{
    for (; from < to; from++) x->line += *from == '\n';
}

/* The start of the blanks that end at `to`. */
static const char *before_blanks(const char *from, const char *to)
{
    while (to > from) {
        const char *p = to - 1;
        while (p > from && ((unsigned char)*p & 0xc0) == 0x80) p--;
        if (!qs_jis_space(qs_jcodepoint(p, (size_t)(to - p)))) break;
        to = p;
    }
    return to;
}

static const char *after_blanks(const char *from, const char *to)
{
    while (from < to && qs_jis_space(qs_jcodepoint(from, (size_t)(to - from))))
        from += qs_jcharacter_bytes(from, (size_t)(to - from));
    return from;
}

/* Text up to a tag, its end trimmed as the tag's sign ('-', '+' or 0) and kind ask for. */
static int add_data(lexer *x, const char *from, const char *tag, char sign, bool variable)
{
    const char *to = tag;
    if (sign == '-') {
        to = before_blanks(from, tag);
    } else if (sign != '+' && !variable) {
        const char *line = tag;
        while (line > from && line[-1] != '\n') line--;
        if ((line > from || x->line_starting) && before_blanks(line, tag) == line) to = line;
    }
    if (to > from) QS_TRY(add_text(x, QS_JTOKEN_TEXT, from, (size_t)(to - from)));
    count_lines(x, from, tag);
    return 0;
}

/* Goes on after the end of a tag: past the blanks that "-" takes, or the newline that follows a block. */
static void go_past(lexer *x, const char *to, bool all_blanks, bool newline)
{
    const char *from = x->at;
    if (all_blanks)
        to = after_blanks(to, x->end);
    else if (newline && to < x->end && *to == '\n')
        to++;
    count_lines(x, from, to);
    x->at = to;
    x->line_starting = to > from && to[-1] == '\n';
}

static bool starts(const lexer *x, const char *text)
{
    size_t n = strlen(text);
    return (size_t)(x->end - x->at) >= n && memcmp(x->at, text, n) == 0;
}

/* ---- inside tags ------------------------------------------------------------------------------------- */

static int hex_digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
}

/* The escape after a backslash at p; writes its character at *out. Returns where it ends, NULL for what
 * Python refuses. */
static const char *unescape(const char *p, const char *end, char **out)
{
    static const char names[] = "\\'\"abfnrtv", values[] = "\\'\"\a\b\f\n\r\t\v";
    const char *known = *p ? strchr(names, *p) : NULL;
    if (known) {
        *(*out)++ = values[known - names];
        return p + 1;
    }
    if (*p == '\n') return p + 1;
    long code = 0;
    if (*p >= '0' && *p <= '7') {
        for (int n = 0; n < 3 && p < end && *p >= '0' && *p <= '7'; n++) code = 8 * code + (*p++ - '0');
    } else if (*p == 'x' || *p == 'u' || *p == 'U') {
        int digits = *p == 'x' ? 2 : *p == 'u' ? 4 : 8;
        for (p++; digits; digits--, p++) {
            if (p >= end || hex_digit(*p) < 0) return NULL;
            code = 16 * code + hex_digit(*p);
        }
    } else if (*p == 'N') {
        return NULL;
    } else {
        *(*out)++ = '\\';
        return p; /* an unknown escape stays as it is */
    }
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) return NULL;
    *out += utf8proc_encode_char((utf8proc_int32_t)code, (utf8proc_uint8_t *)*out);
    return p;
}

static int lex_string(lexer *x)
{
    char quote = *x->at;
    const char *p = x->at + 1;
    while (p < x->end && *p != quote) p += *p == '\\' && p + 1 < x->end ? 2 : 1;
    if (p >= x->end) QS_JFAIL(x->e, x->line, "a text that begins with %c has no end", quote);
    char *text = qs_jarena_get(x->a, (size_t)(p - x->at) + 1), *out = text;
    if (!text) QS_JFAIL_MEMORY(x->e, x->line);
    for (const char *q = x->at + 1; q < p;) {
        if (*q != '\\') {
            *out++ = *q++;
            continue;
        }
        if (!(q = unescape(q + 1, p, &out)))
            QS_JFAIL(x->e, x->line, "a text holds an escape that is not understood");
    }
    *out = 0;
    QS_TRY(add(
        x,
        (qs_jtoken){.kind = QS_JTOKEN_STRING, .line = x->line, .text = text, .bytes = (size_t)(out - text)}));
    count_lines(x, x->at, p);
    x->at = p + 1;
    return 0;
}

static bool digit_at(const lexer *x, const char *p) { return p < x->end && *p >= '0' && *p <= '9'; }

/* Digits, single underscores between them. */
static const char *digits_end(const lexer *x, const char *p)
{
    while (digit_at(x, p) || (p < x->end && *p == '_' && digit_at(x, p + 1))) p++;
    return p;
}

static int lex_number(lexer *x)
{
    const char *p = digits_end(x, x->at), *whole = p;
    bool after_dot = x->at[-1] == '.'; /* "x.0.y": indices, not a fraction */
    if (!after_dot && p < x->end && *p == '.' && digit_at(x, p + 1)) p = digits_end(x, p + 1);
    if (!after_dot && p < x->end && (*p | 32) == 'e') {
        const char *q = p + 1;
        if (q < x->end && (*q == '+' || *q == '-')) q++;
        if (digit_at(x, q)) p = digits_end(x, q);
    }
    int base = 10;
    if (p == whole && *x->at == '0' && p == x->at + 1 && p < x->end && strchr("xXoObB", *p)) {
        base = (*p | 32) == 'x' ? 16 : (*p | 32) == 'o' ? 8 : 2;
        for (p++; p < x->end && (hex_digit(*p) >= 0 || *p == '_');) p++;
    }
    char text[64];
    size_t n = 0;
    for (const char *q = base == 10 ? x->at : x->at + 2; q < p; q++) {
        if (*q == '_') continue;
        if (n + 1 >= sizeof text) QS_JFAIL(x->e, x->line, "a number is too long");
        text[n++] = *q;
    }
    text[n] = 0;
    qs_jtoken t = {
        .kind = base == 10 && p > whole ? QS_JTOKEN_FLOAT : QS_JTOKEN_INTEGER, .line = x->line, .text = ""};
    char *rest;
    errno = 0;
    if (t.kind == QS_JTOKEN_FLOAT)
        t.real = strtod(text, &rest);
    else
        t.integer = strtoll(text, &rest, base);
    if (*rest || !n || (errno && t.kind == QS_JTOKEN_INTEGER))
        QS_JFAIL(x->e, x->line, "a number is too large, or none: %.40s", text);
    x->at = p;
    return add(x, t);
}

static bool name_byte(char c, bool first)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' || (unsigned char)c >= 0x80 ||
           (!first && c >= '0' && c <= '9');
}

static int lex_operator(lexer *x)
{
    static const char *const two[] = {"==", "!=", "<=", ">=", "//", "**"};
    size_t n = 1;
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (starts(x, two[i])) n = 2;
    if (n == 1 && (!*x->at || !strchr("+-*/%~[](){}<>=.:|,;", *x->at)))
        QS_JFAIL(x->e, x->line, "unexpected character '%.1s'", x->at);
    char c = *x->at;
    if (c == '(' || c == '[' || c == '{') {
        if (x->nesting == NESTING_MAX)
            QS_JFAIL(x->e, x->line, "brackets are nested deeper than %d", NESTING_MAX);
        x->closing[x->nesting++] = c == '(' ? ')' : c == '[' ? ']' : '}';
    } else if (c == ')' || c == ']' || c == '}') {
        if (!x->nesting || x->closing[--x->nesting] != c) QS_JFAIL(x->e, x->line, "unexpected '%c'", c);
    }
    QS_TRY(add_text(x, QS_JTOKEN_OPERATOR, x->at, n));
    x->at += n;
    return 0;
}

/* The words of a tag up to its end. */
static int lex_tag(lexer *x, bool variable)
{
    const char *close = variable ? "}}" : "%}";
    int first_line = x->line;
    while (x->at < x->end) {
        if (!x->nesting) {
            bool minus = *x->at == '-', plus = *x->at == '+' && !variable;
            const char *p = x->at + (minus || plus);
            if ((size_t)(x->end - p) >= 2 && memcmp(p, close, 2) == 0) {
                QS_TRY(add(x, (qs_jtoken){variable ? QS_JTOKEN_VARIABLE_END : QS_JTOKEN_BLOCK_END, x->line,
                                          "", 0, 0, 0}));
                go_past(x, p + 2, minus, !variable && !plus);
                return 0;
            }
        }
        const char *p = after_blanks(x->at, x->end);
        if (p > x->at) {
            count_lines(x, x->at, p);
            x->at = p;
        } else if (digit_at(x, x->at)) {
            QS_TRY(lex_number(x));
        } else if (name_byte(*x->at, true)) {
            while (p < x->end && name_byte(*p, false)) p++;
            QS_TRY(add_text(x, QS_JTOKEN_NAME, x->at, (size_t)(p - x->at)));
            x->at = p;
        } else if (*x->at == '\'' || *x->at == '"') {
            QS_TRY(lex_string(x));
        } else {
            QS_TRY(lex_operator(x));
        }
    }
    QS_JFAIL(x->e, first_line, "a tag that begins here has no end; expected %s", close);
}

/* ---- between tags ------------------------------------------------------------------------------------ */

static int lex_comment(lexer *x)
{
    const char *p = x->at;
    while (x->end - p >= 2 && !(p[0] == '#' && p[1] == '}')) p++;
    if (x->end - p < 2) QS_JFAIL(x->e, x->line, "a comment that begins here has no end; expected #}");
    char sign = p > x->at ? p[-1] : 0;
    go_past(x, p + 2, sign == '-', sign != '+');
    return 0;
}

/* Whether x->at is "raw %}" after the opening of a block; goes past it then. */
static bool take_raw_begin(lexer *x)
{
    const char *p = after_blanks(x->at, x->end);
    if (x->end - p < 3 || memcmp(p, "raw", 3) != 0) return false;
    p = after_blanks(p + 3, x->end);
    bool minus = p < x->end && *p == '-';
    p += minus;
    if (x->end - p < 2 || memcmp(p, "%}", 2) != 0) return false;
    go_past(x, p + 2, minus, false);
    return true;
}

static int lex_raw(lexer *x)
{
    int first_line = x->line;
    for (const char *p = x->at; x->end - p >= 2; p++) {
        if (p[0] != '{' || p[1] != '%') continue;
        char sign = x->end - p > 2 && (p[2] == '-' || p[2] == '+') ? p[2] : 0;
        const char *q = after_blanks(p + 2 + (sign != 0), x->end);
        if (x->end - q < 6 || memcmp(q, "endraw", 6) != 0) continue;
        q = after_blanks(q + 6, x->end);
        char end_sign = q < x->end && (*q == '-' || *q == '+') ? *q : 0;
        q += end_sign != 0;
        if (x->end - q < 2 || memcmp(q, "%}", 2) != 0) continue;
        QS_TRY(add_data(x, x->at, p, sign, false));
        x->at = p;
        go_past(x, q + 2, end_sign == '-', end_sign != '+');
        return 0;
    }
    QS_JFAIL(x->e, first_line, "{%% raw %%} has no {%% endraw %%}");
}

static int lex_all(lexer *x)
{
    while (x->at < x->end) {
        const char *p = x->at;
        while (x->end - p >= 2 && !(p[0] == '{' && (p[1] == '{' || p[1] == '%' || p[1] == '#'))) p++;
        if (x->end - p < 2) return add_text(x, QS_JTOKEN_TEXT, x->at, (size_t)(x->end - x->at));
        char kind = p[1], sign = x->end - p > 2 && (p[2] == '-' || p[2] == '+') ? p[2] : 0;
        QS_TRY(add_data(x, x->at, p, sign, kind == '{'));
        x->at = p + 2 + (sign != 0);
        x->line_starting = false;
        if (kind == '#') {
            QS_TRY(lex_comment(x));
        } else if (kind == '%' && take_raw_begin(x)) {
            QS_TRY(lex_raw(x));
        } else {
            QS_TRY(add(x, (qs_jtoken){kind == '{' ? QS_JTOKEN_VARIABLE_BEGIN : QS_JTOKEN_BLOCK_BEGIN, x->line,
                                      "", 0, 0, 0}));
            QS_TRY(lex_tag(x, kind == '{'));
        }
    }
    return 0;
}

int qs_jlex(qs_jarena *a, const char *source, size_t bytes, qs_jtokens *out, qs_err *e)
{
    /* One kind of newline; a zero before the text, so that a look at the byte before is never outside. */
    char *text = qs_jarena_get(a, bytes + 2);
    if (!text) QS_JFAIL_MEMORY(e, 1);
    size_t n = 1;
    text[0] = 0;
    for (size_t i = 0; i < bytes; i++) {
        if (source[i] == '\r' && i + 1 < bytes && source[i + 1] == '\n') continue;
        text[n++] = source[i] == '\r' ? '\n' : source[i];
    }
    if (n > 1 && text[n - 1] == '\n') n--;
    text[n] = 0;
    lexer x = {.a = a, .at = text + 1, .end = text + n, .line = 1, .line_starting = true, .out = out, .e = e};
    QS_TRY(lex_all(&x));
    return add(&x, (qs_jtoken){.kind = QS_JTOKEN_END, .line = x.line, .text = ""});
}
