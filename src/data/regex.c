#include "src/data/regex.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>
#include <string.h>

#include "src/base/memory.h"

struct qs_regex {
    pcre2_code *code;
    pcre2_match_data *data;
    pcre2_match_context *context;
    pcre2_jit_stack *stack;
};

/* Growing pattern text. */
typedef struct pattern_text {
    char *data;
    size_t bytes, capacity;
} pattern_text;

static void put(pattern_text *t, const char *s, size_t n)
{
    if (t->bytes + n > t->capacity) {
        t->capacity = 2 * (t->bytes + n) + 64;
        t->data = qs_realloc(t->data, t->capacity);
    }
    memcpy(t->data + t->bytes, s, n);
    t->bytes += n;
}

static void puts_to(pattern_text *t, const char *s) { put(t, s, strlen(s)); }

#define SPACE "\\t-\\r\\x{85}\\p{Z}"
#define WORD "\\p{L}\\p{M}\\p{N}\\p{Pc}"

/* Rewrites one escape, p[0] being the backslash; returns its length, 0 when it means something else to
 * Oniguruma. */
static size_t put_escape(pattern_text *t, const char *p, bool in_class)
{
    char kind = p[1];
    const char *set = kind == 's' || kind == 'S' ? SPACE : WORD;
    if (strchr("hHRXKGQECNOyYgk", kind)) return 0;
    if (!strchr("sSwW", kind)) {
        put(t, p, 2);
        return 2;
    }
    bool negated = kind == 'S' || kind == 'W';
    if (in_class && negated) return 0;
    if (!in_class) puts_to(t, negated ? "[^" : "[");
    puts_to(t, set);
    if (!in_class) puts_to(t, "]");
    return 2;
}

/* Oniguruma to PCRE2. Returns NULL, or what cannot be translated. */
static const char *translate(const char *p, size_t bytes, pattern_text *t)
{
    bool in_class = false;
    size_t class_start = 0;
    for (size_t i = 0; i < bytes;) {
        if (!p[i]) return "a NUL";
        if (p[i] == '\\') {
            if (i + 1 >= bytes || !p[i + 1]) return "a backslash at the end";
            size_t n = put_escape(t, p + i, in_class);
            if (!n) return "an escape that only Oniguruma has, or a negated one in a class";
            i += n;
            continue;
        }
        if (in_class && p[i] == '[') return "a character class within a class";
        if (in_class && p[i] == '&' && i + 1 < bytes && p[i + 1] == '&')
            return "an intersection (&&) of classes";
        if (!in_class && p[i] == '[') {
            in_class = true;
            class_start = i + 1 + (i + 1 < bytes && p[i + 1] == '^');
        } else if (in_class && p[i] == ']' && i > class_start) {
            in_class = false;
        } else if (!in_class && p[i] == '(' && bytes - i > 2 && p[i + 1] == '?' && strchr("mxs", p[i + 2])) {
            return "an option group other than (?i:...)";
        }
        put(t, p + i++, 1);
    }
    return NULL;
}

static void put_literal(const char *p, size_t bytes, pattern_text *t)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < bytes; i++) {
        unsigned char c = (unsigned char)p[i];
        if (c < 0x80)
            put(t, (char[]){'\\', 'x', digits[c >> 4], digits[c & 15]}, 4);
        else
            put(t, p + i, 1);
    }
}

int qs_regex_compile(const char *file, const char *pattern, size_t bytes, bool literal, qs_regex **out,
                     qs_err *e)
{
    *out = NULL;
    pattern_text t = {0};
    const char *trouble = NULL;
    if (literal)
        put_literal(pattern, bytes, &t);
    else
        trouble = translate(pattern, bytes, &t);
    if (trouble) {
        qs_free(t.data);
        QS_FAIL(e, QS_EUNSUP, "%s: the regular expression \"%.120s\" uses %s, which is not supported", file,
                pattern, trouble);
    }
    int error;
    PCRE2_SIZE at;
    pcre2_compile_context *context = pcre2_compile_context_create(NULL);
    pcre2_set_newline(context, PCRE2_NEWLINE_LF);
    pcre2_code *code = pcre2_compile((PCRE2_SPTR)(t.data ? t.data : ""), t.bytes,
                                     PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C,
                                     &error, &at, context);
    pcre2_compile_context_free(context);
    qs_free(t.data);
    if (!code) {
        PCRE2_UCHAR why[160];
        pcre2_get_error_message(error, why, sizeof why);
        QS_FAIL(e, QS_EFORMAT, "%s: the regular expression \"%.120s\" is not valid: %s", file, pattern,
                (char *)why);
    }
    qs_regex *r = qs_calloc(1, sizeof *r);
    r->code = code;
    r->data = pcre2_match_data_create_from_pattern(code, NULL);
    r->context = pcre2_match_context_create(NULL);
    /* Where there is no JIT the interpreter does the same, slower. */
    if (pcre2_jit_compile(code, PCRE2_JIT_COMPLETE) == 0) {
        r->stack = pcre2_jit_stack_create(64 << 10, 8 << 20, NULL);
        pcre2_jit_stack_assign(r->context, NULL, r->stack);
    }
    *out = r;
    return 0;
}

void qs_regex_free(qs_regex *r)
{
    if (!r) return;
    pcre2_jit_stack_free(r->stack);
    pcre2_match_context_free(r->context);
    pcre2_match_data_free(r->data);
    pcre2_code_free(r->code);
    qs_free(r);
}

int qs_regex_find(const qs_regex *r, const char *text, size_t bytes, size_t from, size_t *start, size_t *end,
                  qs_err *e)
{
    int rc = pcre2_match(r->code, (PCRE2_SPTR)text, bytes, from, PCRE2_NO_UTF_CHECK, r->data, r->context);
    if (rc == PCRE2_ERROR_NOMATCH) return 0;
    if (rc < 0) {
        PCRE2_UCHAR why[160];
        pcre2_get_error_message(rc, why, sizeof why);
        QS_FAIL(e, QS_EINVAL, "the tokenizer's regular expression gave up on a text of %zu bytes: %s", bytes,
                (char *)why);
    }
    const PCRE2_SIZE *range = pcre2_get_ovector_pointer(r->data);
    *start = range[0];
    *end = range[1] < range[0] ? range[0]
                               : range[1]; /* \K is refused; a look-behind cannot turn the range around */
    return 1;
}
