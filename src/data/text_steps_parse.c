/* Reads the normalizer and pre_tokenizer of a tokenizer.json into steps. */
#include <string.h>
#include <utf8proc.h>

#include "src/base/memory.h"
#include "src/data/text_steps.h"

/* The next free step, or an error when there are more than any tokenizer has. */
static int new_step(const char *file, qs_steps *s, qs_step_kind kind, qs_step **out, qs_err *e)
{
    if (s->count == QS_STEPS_MAX)
        QS_FAIL(e, QS_EUNSUP, "%s: has more than %d normalisation or splitting steps", file, QS_STEPS_MAX);
    *out = &s->step[s->count++];
    **out = (qs_step){.kind = kind};
    return 0;
}

int qs_steps_add_regex(qs_steps *s, const char *file, qs_step_kind kind, const char *pattern,
                       const char *text, bool literal, qs_cut cut, qs_err *e)
{
    qs_step *step = NULL;
    QS_TRY(new_step(file, s, kind, &step, e));
    step->text = qs_strdup(text ? text : "");
    step->cut = cut;
    return qs_regex_compile(file, pattern, strlen(pattern), literal, &step->regex, e);
}

void qs_steps_add_prepend(qs_steps *s, const char *text)
{
    QS_ASSERT(s->count < QS_STEPS_MAX);
    s->step[s->count++] = (qs_step){.kind = QS_STEP_PREPEND, .text = qs_strdup(text)};
}

static int add_prefix(const char *file, qs_steps *s, const char *text, bool first_only, qs_err *e)
{
    qs_step *step = NULL;
    QS_TRY(new_step(file, s, QS_STEP_PREFIX, &step, e));
    step->text = qs_strdup(text);
    step->first_only = first_only;
    return 0;
}

static const char *string_at(json_t *o, const char *key)
{
    const char *s = json_string_value(json_object_get(o, key));
    return s ? s : "";
}

static bool true_at(json_t *o, const char *key, bool otherwise)
{
    json_t *v = json_object_get(o, key);
    return json_is_boolean(v) ? json_is_true(v) : otherwise;
}

/* "pattern": {"String": "..."} or {"Regex": "..."}. */
static int pattern_of(const char *file, json_t *o, const char **pattern, bool *literal, qs_err *e)
{
    json_t *p = json_object_get(o, "pattern");
    json_t *string = json_object_get(p, "String"), *regex = json_object_get(p, "Regex");
    *literal = json_is_string(string);
    *pattern = json_string_value(string ? string : regex);
    if (!*pattern || !**pattern)
        QS_FAIL(e, QS_EFORMAT, "%s: %s has no \"pattern\" with a \"String\" or a \"Regex\"", file,
                string_at(o, "type"));
    return 0;
}

static int unicode_form(const char *type)
{
    static const struct {
        const char *name;
        int options;
    } forms[] = {{"NFC", UTF8PROC_STABLE | UTF8PROC_COMPOSE},
                 {"NFD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE},
                 {"NFKC", UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT},
                 {"NFKD", UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT}};
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++)
        if (strcmp(type, forms[i].name) == 0) return forms[i].options;
    return -1;
}

int qs_normalizer_parse(const char *file, json_t *json, qs_steps *out, qs_err *e)
{
    if (!json || json_is_null(json)) return 0;
    const char *type = string_at(json, "type"), *pattern;
    bool literal;
    qs_step *step = NULL;
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *part;
        json_array_foreach(json_object_get(json, "normalizers"), i, part)
            QS_TRY(qs_normalizer_parse(file, part, out, e));
        return 0;
    }
    if (strcmp(type, "Prepend") == 0) {
        QS_TRY(new_step(file, out, QS_STEP_PREPEND, &step, e));
        step->text = qs_strdup(string_at(json, "prepend"));
        return 0;
    }
    if (strcmp(type, "Replace") == 0) {
        QS_TRY(pattern_of(file, json, &pattern, &literal, e));
        QS_TRY(qs_steps_add_regex(out, file, QS_STEP_REPLACE, pattern, string_at(json, "content"), literal, 0,
                                  e));
        size_t start, end;
        int empty = qs_regex_find(out->step[out->count - 1].regex, "", 0, 0, &start, &end, e);
        if (empty)
            QS_FAIL(e, QS_EUNSUP,
                    "%s: the normalizer Replace with the pattern \"%.60s\", which matches nothing, is not "
                    "supported",
                    file, pattern);
        return 0;
    }
    if (unicode_form(type) >= 0) {
        QS_TRY(new_step(file, out, QS_STEP_UNICODE, &step, e));
        step->unicode = unicode_form(type);
        return 0;
    }
    if (strcmp(type, "Lowercase") == 0) return new_step(file, out, QS_STEP_LOWER, &step, e);
    if (strcmp(type, "StripAccents") == 0) return new_step(file, out, QS_STEP_UNMARK, &step, e);
    if (strcmp(type, "Strip") == 0) {
        bool left = true_at(json, "strip_left", true), right = true_at(json, "strip_right", true);
        if (left) QS_TRY(qs_steps_add_regex(out, file, QS_STEP_REPLACE, "\\A\\s+", "", false, 0, e));
        return right ? qs_steps_add_regex(out, file, QS_STEP_REPLACE, "\\s+\\z", "", false, 0, e) : 0;
    }
    QS_FAIL(e, QS_EUNSUP,
            "%s: the normalizer \"%.60s\" is not supported; expected Sequence, Prepend, Replace, NFC, NFD, "
            "NFKC, NFKD, Lowercase, StripAccents or Strip",
            file, type);
}

static int parse_metaspace(const char *file, json_t *json, qs_steps *out, qs_err *e)
{
    const char *mark = string_at(json, "replacement"), *scheme = string_at(json, "prepend_scheme");
    if (!*mark) mark = "\xe2\x96\x81";
    if (!*scheme)
        scheme = true_at(json, "add_prefix_space", true) ? "always"
                                                         : "never"; /* files made before prepend_scheme */
    if (out->count)
        QS_FAIL(e, QS_EUNSUP, "%s: the pre_tokenizer Metaspace after another one is not supported", file);
    QS_TRY(qs_steps_add_regex(out, file, QS_STEP_REPLACE, " ", mark, true, 0, e));
    if (strcmp(scheme, "never") != 0) QS_TRY(add_prefix(file, out, mark, strcmp(scheme, "first") == 0, e));
    if (!true_at(json, "split", true)) return 0;
    return qs_steps_add_regex(out, file, QS_STEP_SPLIT, mark, NULL, true, QS_CUT_NEXT, e);
}

/* "behavior" of Split and Punctuation, which may lack it. */
static int cut_of(const char *file, json_t *json, qs_cut *out, qs_err *e)
{
    static const char *names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                  "Contiguous"};
    const char *behavior = string_at(json, "behavior");
    int cut = 0;
    while (*behavior && cut < 5 && strcmp(behavior, names[cut]) != 0) cut++;
    if (cut == 5)
        QS_FAIL(e, QS_EUNSUP, "%s: the behavior \"%.60s\" of %s is not supported", file, behavior,
                string_at(json, "type"));
    *out = (qs_cut)cut;
    return 0;
}

static int parse_split(const char *file, json_t *json, qs_steps *out, qs_err *e)
{
    const char *pattern;
    bool literal;
    qs_cut cut;
    QS_TRY(pattern_of(file, json, &pattern, &literal, e));
    QS_TRY(cut_of(file, json, &cut, e));
    QS_TRY(qs_steps_add_regex(out, file, QS_STEP_SPLIT, pattern, NULL, literal, cut, e));
    out->step[out->count - 1].invert = true_at(json, "invert", false);
    return 0;
}

int qs_pretokenizer_parse(const char *file, json_t *json, qs_steps *out, qs_err *e)
{
    if (!json || json_is_null(json)) return 0;
    const char *type = string_at(json, "type");
    if (strcmp(type, "Sequence") == 0) {
        size_t i;
        json_t *part;
        json_array_foreach(json_object_get(json, "pretokenizers"), i, part)
            QS_TRY(qs_pretokenizer_parse(file, part, out, e));
        return 0;
    }
    if (out->byte_level) { /* Falcon's: what comes after works on the characters that stand for bytes */
        qs_step *step;
        bool mapped = false,
             fits = !strcmp(type, "Digits") || !strcmp(type, "Split") || !strcmp(type, "Punctuation");
        if (!fits)
            QS_FAIL(e, QS_EUNSUP, "%s: the pre_tokenizer \"%.60s\" after ByteLevel is not supported", file,
                    type);
        for (int i = 0; i < out->count; i++) mapped |= out->step[i].kind == QS_STEP_BYTES;
        if (!mapped) QS_TRY(new_step(file, out, QS_STEP_BYTES, &step, e));
    }
    if (strcmp(type, "ByteLevel") == 0) {
        out->byte_level = true;
        if (true_at(json, "add_prefix_space", true)) QS_TRY(add_prefix(file, out, " ", false, e));
        if (!true_at(json, "use_regex", true)) return 0;
        return qs_steps_add_regex(out, file, QS_STEP_SPLIT, QS_REGEX_GPT2, NULL, false, QS_CUT_ISOLATED, e);
    }
    if (strcmp(type, "Split") == 0) return parse_split(file, json, out, e);
    if (strcmp(type, "Metaspace") == 0) return parse_metaspace(file, json, out, e);
    if (strcmp(type, "Digits") == 0)
        return qs_steps_add_regex(
            out, file, QS_STEP_SPLIT, "\\p{N}", NULL, false,
            true_at(json, "individual_digits", false) ? QS_CUT_ISOLATED : QS_CUT_CONTIGUOUS, e);
    if (strcmp(type, "Punctuation") == 0) {
        qs_cut cut;
        QS_TRY(cut_of(file, json, &cut, e));
        return qs_steps_add_regex(out, file, QS_STEP_SPLIT,
                                  "[\\x21-\\x2f\\x3a-\\x40\\x5b-\\x60\\x7b-\\x7e\\p{P}]", NULL, false, cut,
                                  e);
    }
    if (strcmp(type, "Whitespace") == 0) {
        QS_TRY(
            qs_steps_add_regex(out, file, QS_STEP_SPLIT, "\\w+|[^\\w\\s]+", NULL, false, QS_CUT_REMOVED, e));
        out->step[out->count - 1].invert = true;
        return 0;
    }
    if (strcmp(type, "WhitespaceSplit") == 0)
        return qs_steps_add_regex(out, file, QS_STEP_SPLIT, "\\s", NULL, false, QS_CUT_REMOVED, e);
    QS_FAIL(e, QS_EUNSUP,
            "%s: the pre_tokenizer \"%.60s\" is not supported; expected Sequence, ByteLevel, Split, "
            "Metaspace, Digits, Punctuation, "
            "Whitespace or WhitespaceSplit",
            file, type);
}
