/* added_tokens.h - tokens that are found in the text before it is taken apart: control tokens and words added
 * later.
 *
 * At each place the longest matching token wins, and the leftmost place first. A token may swallow the white
 * space on its sides (lstrip, rstrip) or insist on not touching a word (single_word), as in Hugging Face
 * tokenizers.
 */
#ifndef QS_DATA_ADDED_TOKENS_H
#define QS_DATA_ADDED_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct qs_added_token {
    int32_t id;
    char *content; /* what it stands for; NUL-terminated */
    size_t bytes;
    char *pattern; /* what is looked for: the content, or its normalised form */
    size_t pattern_bytes;
    bool special;    /* a control token: only found where the caller parses special tokens */
    bool normalized; /* looked for in the normalised text */
    bool lstrip, rstrip, single_word;
} qs_added_token;

typedef struct qs_added_tokens {
    qs_added_token *tokens;
    int32_t count, capacity;
    int32_t *by_byte;        /* [count] token numbers by first byte of the pattern, longest pattern first */
    int32_t first[257];      /* first byte c: by_byte[first[c] .. first[c + 1]) */
    int32_t normalized, raw; /* how many of each */
} qs_added_tokens;           /* {0} is an empty one */

/* Copies content. A second token of the same id replaces the first. */
void qs_added_tokens_add(qs_added_tokens *a, const qs_added_token *token);
/* Once all are added and the patterns of normalized ones are set (pattern NULL: the content). */
void qs_added_tokens_index(qs_added_tokens *a);
void qs_added_tokens_free(qs_added_tokens *a);

const qs_added_token *qs_added_tokens_by_id(const qs_added_tokens *a, int32_t id);
const qs_added_token *qs_added_tokens_by_content(const qs_added_tokens *a, const char *content);

/* A stretch of text in which special tokens are looked for, or not. */
typedef struct qs_parse_range {
    size_t end; /* byte after its last; the next range begins here */
    bool parse_special;
} qs_parse_range;

typedef struct qs_added_match {
    int32_t id;
    size_t start, end; /* what it takes out of the text */
} qs_added_match;

/* The first match at or after `from` among normalized or raw tokens; false: none. ranges[count] cover the
 * text; a special token matches only inside one range that allows it. */
bool qs_added_tokens_find(const qs_added_tokens *a, bool normalized, const char *text, size_t bytes,
                          size_t from, const qs_parse_range *ranges, size_t count, qs_added_match *out);

#endif
