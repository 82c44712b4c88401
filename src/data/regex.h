/* regex.h - the regular expressions of tokenizer files, which are written for Oniguruma, run by PCRE2.
 *
 * Where the two read a pattern differently it is rewritten: \s, \S, \w and \W as Unicode properties (PCRE2
 * counts U+180E as space), ^ and $ match at every line. Oniguruma's own constructs (&& in a class, a class in
 * a class, \h) are refused.
 */
#ifndef QS_DATA_REGEX_H
#define QS_DATA_REGEX_H

#include <stdbool.h>
#include <stddef.h>

#include "src/base/error.h"

typedef struct qs_regex qs_regex;

/* GPT-2's word pattern, used by ByteLevel, and Qwen2's. */
#define QS_REGEX_GPT2 "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"
#define QS_REGEX_LLAMA3                                                        \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| " \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define QS_REGEX_QWEN2                                                    \
    "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}| " \
    "?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

/* Compiles a pattern (Oniguruma syntax) or, with literal, a plain string. `file` is for messages. QS_EUNSUP
 * or QS_EFORMAT. */
int qs_regex_compile(const char *file, const char *pattern, size_t bytes, bool literal, qs_regex **out,
                     qs_err *e);
void qs_regex_free(qs_regex *r);

/* The first match at or after `from` of valid UTF-8: 1 and its range (which may be empty), 0 none, negative:
 * QS_EINVAL. */
int qs_regex_find(const qs_regex *r, const char *text, size_t bytes, size_t from, size_t *start, size_t *end,
                  qs_err *e);

#endif
