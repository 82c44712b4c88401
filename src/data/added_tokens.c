#include "src/data/added_tokens.h"

#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "src/base/memory.h"

/* A copy of bytes that may hold NULs, with one more at its end. */
static char *copy_of(const char *text, size_t bytes)
{
    char *copy = qs_malloc(bytes + 1);
    memcpy(copy, text, bytes);
    copy[bytes] = 0;
    return copy;
}

void qs_added_tokens_add(qs_added_tokens *a, const qs_added_token *token)
{
    qs_added_token *t = NULL;
    for (int32_t i = 0; i < a->count; i++)
        if (a->tokens[i].id == token->id) t = &a->tokens[i];
    if (t) {
        qs_free(t->content);
        qs_free(t->pattern);
    } else {
        if (a->count == a->capacity) {
            a->capacity = 2 * a->capacity + 16;
            a->tokens = qs_realloc(a->tokens, (size_t)a->capacity * sizeof *a->tokens);
        }
        t = &a->tokens[a->count++];
    }
    *t = *token;
    t->content = copy_of(token->content, token->bytes);
    t->pattern = NULL;
}

void qs_added_tokens_free(qs_added_tokens *a)
{
    for (int32_t i = 0; i < a->count; i++) {
        qs_free(a->tokens[i].content);
        qs_free(a->tokens[i].pattern);
    }
    qs_free(a->tokens);
    qs_free(a->by_byte);
    *a = (qs_added_tokens){0};
}

static int first_byte(const qs_added_token *t)
{
    return t->pattern_bytes ? (unsigned char)t->pattern[0] : 256;
}

static int compare(const void *x, const void *y, void *tokens)
{
    const qs_added_token *a = (qs_added_token *)tokens + *(const int32_t *)x,
                         *b = (qs_added_token *)tokens + *(const int32_t *)y;
    if (first_byte(a) != first_byte(b)) return first_byte(a) - first_byte(b);
    if (a->pattern_bytes != b->pattern_bytes) return a->pattern_bytes < b->pattern_bytes ? 1 : -1;
    return a->id < b->id ? -1 : a->id > b->id;
}

void qs_added_tokens_index(qs_added_tokens *a)
{
    a->by_byte = qs_realloc(a->by_byte, ((size_t)a->count + 1) * sizeof *a->by_byte);
    a->normalized = a->raw = 0;
    for (int32_t i = 0; i < a->count; i++) {
        qs_added_token *t = &a->tokens[i];
        if (!t->pattern) {
            t->pattern = copy_of(t->content, t->bytes);
            t->pattern_bytes = t->bytes;
        }
        *(t->normalized ? &a->normalized : &a->raw) += 1;
        a->by_byte[i] = i;
    }
    qsort_r(a->by_byte, (size_t)a->count, sizeof *a->by_byte, compare, a->tokens);
    int32_t k = 0;
    for (int c = 0; c < 257; c++) {
        while (k < a->count && first_byte(&a->tokens[a->by_byte[k]]) < c) k++;
        a->first[c] = k;
    }
}

const qs_added_token *qs_added_tokens_by_id(const qs_added_tokens *a, int32_t id)
{
    for (int32_t i = 0; i < a->count; i++)
        if (a->tokens[i].id == id) return &a->tokens[i];
    return NULL;
}

const qs_added_token *qs_added_tokens_by_content(const qs_added_tokens *a, const char *content)
{
    size_t bytes = strlen(content);
    for (int32_t i = 0; i < a->count; i++)
        if (a->tokens[i].bytes == bytes && memcmp(a->tokens[i].content, content, bytes) == 0)
            return &a->tokens[i];
    return NULL;
}

/* The code point before or after a place of valid UTF-8; -1 at the ends. */
static utf8proc_int32_t code_before(const char *text, size_t at)
{
    size_t i = at;
    if (!i) return -1;
    while (--i && ((unsigned char)text[i] & 0xc0) == 0x80) {
    }
    utf8proc_int32_t code = -1;
    utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(at - i), &code);
    return code;
}

static utf8proc_int32_t code_after(const char *text, size_t bytes, size_t at, size_t *length)
{
    utf8proc_int32_t code = -1;
    utf8proc_ssize_t n =
        utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(bytes - at), &code);
    *length = n > 0 ? (size_t)n : 0;
    return code;
}

/* \w of Unicode's UTS 18: letters, marks, digits, letter-like symbols, connectors, and the two joiners. */
static bool is_word(utf8proc_int32_t code)
{
    if (code < 0) return false;
    utf8proc_category_t c = utf8proc_category(code);
    bool circled = (code >= 0x24b6 && code <= 0x24e9) || (code >= 0x1f130 && code <= 0x1f149) ||
                   (code >= 0x1f150 && code <= 0x1f169) || (code >= 0x1f170 && code <= 0x1f189);
    return (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_NL) || c == UTF8PROC_CATEGORY_PC || circled ||
           code == 0x200c || code == 0x200d;
}

static bool is_white(utf8proc_int32_t code)
{
    if (code < 0) return false;
    utf8proc_category_t c = utf8proc_category(code);
    return (code >= 9 && code <= 13) || code == 0x85 ||
           (c >= UTF8PROC_CATEGORY_ZS && c <= UTF8PROC_CATEGORY_ZP);
}

static bool inside_parsed_range(const qs_parse_range *ranges, size_t count, size_t start, size_t end)
{
    size_t begin = 0;
    for (size_t i = 0; i < count; begin = ranges[i++].end)
        if (ranges[i].parse_special && start >= begin && end <= ranges[i].end) return true;
    return false;
}

bool qs_added_tokens_find(const qs_added_tokens *a, bool normalized, const char *text, size_t bytes,
                          size_t from, const qs_parse_range *ranges, size_t count, qs_added_match *out)
{
    if (!(normalized ? a->normalized : a->raw)) return false;
    for (size_t at = from; at < bytes; at++) {
        int c = (unsigned char)text[at];
        for (int32_t k = a->first[c]; k < a->first[c + 1]; k++) {
            const qs_added_token *t = &a->tokens[a->by_byte[k]];
            size_t end = at + t->pattern_bytes, step;
            if (t->normalized != normalized || end > bytes ||
                memcmp(text + at, t->pattern, t->pattern_bytes) != 0)
                continue;
            if (t->special && !inside_parsed_range(ranges, count, at, end)) continue;
            if (t->single_word &&
                (is_word(code_before(text, at)) || is_word(code_after(text, bytes, end, &step))))
                continue;
            *out = (qs_added_match){t->id, at, end};
            if (t->lstrip)
                while (out->start > from && is_white(code_before(text, out->start)))
                    while (((unsigned char)text[--out->start] & 0xc0) == 0x80) {
                    }
            if (t->rstrip)
                while (out->end < bytes && is_white(code_after(text, bytes, out->end, &step)))
                    out->end += step;
            return true;
        }
    }
    return false;
}
