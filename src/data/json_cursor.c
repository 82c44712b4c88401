#include "src/data/json_cursor.h"

#include <string.h>
#include <utf8proc.h>

#include "src/base/memory.h"

void qs_cursor_start(qs_json_cursor *c, const char *file, const char *text, size_t bytes)
{
    *c = (qs_json_cursor){.file = file, .begin = text, .at = text, .end = text + bytes};
}

void qs_cursor_free(qs_json_cursor *c)
{
    qs_free(c->string);
    c->string = NULL;
}

static int fail(const qs_json_cursor *c, const char *expected, qs_err *e)
{
    if (c->at >= c->end)
        QS_FAIL(e, QS_EFORMAT,
                "%s: expected %s at byte %zu, found the end of the text (is the file truncated?)", c->file,
                expected, (size_t)(c->end - c->begin));
    QS_FAIL(e, QS_EFORMAT, "%s: expected %s at byte %zu, found byte 0x%02x", c->file, expected,
            (size_t)(c->at - c->begin), (unsigned)(unsigned char)*c->at);
}

char qs_cursor_peek(qs_json_cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\n' || *c->at == '\t' || *c->at == '\r')) c->at++;
    return c->at < c->end ? *c->at : 0;
}

int qs_cursor_enter(qs_json_cursor *c, char bracket, qs_err *e)
{
    if (qs_cursor_peek(c) != bracket) return fail(c, bracket == '{' ? "an object" : "an array", e);
    c->at++;
    c->fresh = true;
    return 0;
}

int qs_cursor_more(qs_json_cursor *c, char close, bool *more, qs_err *e)
{
    char next = qs_cursor_peek(c);
    bool fresh = c->fresh;
    c->fresh = false;
    *more = next != close;
    if (next == close) {
        c->at++;
        return 0;
    }
    if (fresh) return 0;
    if (next != ',') return fail(c, close == '}' ? "',' or '}'" : "',' or ']'", e);
    c->at++;
    return 0;
}

static void put(qs_json_cursor *c, const void *bytes, size_t n)
{
    if (c->string_bytes + n + 1 > c->string_capacity) {
        c->string_capacity = 2 * (c->string_bytes + n) + 64;
        c->string = qs_realloc(c->string, c->string_capacity);
    }
    memcpy(c->string + c->string_bytes, bytes, n);
    c->string_bytes += n;
    c->string[c->string_bytes] = 0;
}

static int hex4(qs_json_cursor *c, uint32_t *out, qs_err *e)
{
    *out = 0;
    for (int i = 0; i < 4; i++, c->at++) {
        int h = c->at < c->end ? *c->at : 0;
        int digit = h >= '0' && h <= '9'                 ? h - '0'
                    : (h | 32) >= 'a' && (h | 32) <= 'f' ? (h | 32) - 'a' + 10
                                                         : -1;
        if (digit < 0) return fail(c, "four hexadecimal digits", e);
        *out = *out << 4 | (uint32_t)digit;
    }
    return 0;
}

static int escape(qs_json_cursor *c, qs_err *e)
{
    static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
    char kind = c->at < c->end ? *c->at : 0;
    const char *known = kind ? strchr(names, kind) : NULL;
    if (known) {
        put(c, &values[known - names], 1);
        c->at++;
        return 0;
    }
    if (kind != 'u') return fail(c, "an escape sequence", e);
    c->at++;
    uint32_t code, low;
    QS_TRY(hex4(c, &code, e));
    if (code >= 0xd800 && code < 0xdc00) {
        if (c->end - c->at < 2 || c->at[0] != '\\' || c->at[1] != 'u')
            return fail(c, "the second half of a surrogate pair", e);
        c->at += 2;
        QS_TRY(hex4(c, &low, e));
        if (low < 0xdc00 || low > 0xdfff) return fail(c, "the second half of a surrogate pair", e);
        code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
    } else if (code >= 0xdc00 && code <= 0xdfff) {
        return fail(c, "the first half of a surrogate pair", e);
    }
    utf8proc_uint8_t utf8[4];
    put(c, utf8, (size_t)utf8proc_encode_char((utf8proc_int32_t)code, utf8));
    return 0;
}

int qs_cursor_string(qs_json_cursor *c, qs_err *e)
{
    if (qs_cursor_peek(c) != '"') return fail(c, "a string", e);
    c->at++;
    c->string_bytes = 0;
    put(c, "", 0);
    for (;;) {
        const char *run = c->at;
        while (c->at < c->end && *c->at != '"' && *c->at != '\\' && (unsigned char)*c->at >= 0x20) c->at++;
        put(c, run, (size_t)(c->at - run));
        if (c->at >= c->end || (unsigned char)*c->at < 0x20) return fail(c, "the end of a string", e);
        if (*c->at++ == '"') return 0;
        QS_TRY(escape(c, e));
    }
}

int qs_cursor_key(qs_json_cursor *c, qs_err *e)
{
    QS_TRY(qs_cursor_string(c, e));
    if (qs_cursor_peek(c) != ':') return fail(c, "':'", e);
    c->at++;
    return 0;
}

int qs_cursor_integer(qs_json_cursor *c, int64_t *out, qs_err *e)
{
    bool negative = qs_cursor_peek(c) == '-';
    if (negative) c->at++;
    int64_t value = 0;
    const char *first = c->at;
    while (c->at < c->end && *c->at >= '0' && *c->at <= '9' && c->at - first < 18)
        value = 10 * value + (*c->at++ - '0');
    if (c->at == first) return fail(c, "an integer", e);
    *out = negative ? -value : value;
    return 0;
}

int qs_cursor_skip(qs_json_cursor *c, qs_json_part *out, qs_err *e)
{
    if (!qs_cursor_peek(c)) return fail(c, "a value", e);
    const char *first = c->at;
    int64_t depth = 0;
    do {
        char next = qs_cursor_peek(c);
        if (next == '"') {
            for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
                if (*c->at == '\\') c->at++;
            if (c->at >= c->end) {
                c->at = c->end;
                return fail(c, "the end of a string", e);
            }
            c->at++;
        } else if (next == '{' || next == '[') {
            depth++;
            c->at++;
        } else if (next == '}' || next == ']') {
            if (!depth) return fail(c, "a value", e);
            depth--;
            c->at++;
        } else if (next == ',' || next == ':') {
            if (!depth) return fail(c, "a value", e);
            c->at++;
        } else if (!next) {
            return fail(c, "a closing bracket", e);
        } else {
            while (c->at < c->end && !strchr(",:{}[]\" \t\r\n", *c->at)) c->at++;
        }
    } while (depth);
    *out = (qs_json_part){first, (size_t)(c->at - first)};
    return 0;
}
