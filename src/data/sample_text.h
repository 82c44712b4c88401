/* sample_text.h - a sample's tokens as text for a person: what is trained is marked, and tokens differ from
 * the same characters as text.
 *
 * A special token is shown as it is written; the same characters typed as text get a backslash in front:
 * \<|im_end|>.
 */
#ifndef QS_DATA_SAMPLE_TEXT_H
#define QS_DATA_SAMPLE_TEXT_H

#include <stdbool.h>
#include <stdint.h>

#include "src/data/page.h"
#include "src/data/tokenizer.h"

typedef struct qs_sample_style {
    const char *margin;          /* in front of every line */
    const char *begin, *end;     /* around what is trained */
    const char *special, *plain; /* around special tokens: colours, or "" */
    size_t run_bytes;            /* a longer stretch of equal labels loses its middle; 0: none does */
} qs_sample_style;

/* « and », at most 1,200 bytes of a stretch. */
extern const qs_sample_style qs_sample_plain;

/* Appends the sample, margin first, without a newline at the end. t NULL: as ids. Returns whether a backslash
 * was needed. */
bool qs_sample_text(qs_page *p, const qs_sample_style *style, const qs_tokenizer *t, const int32_t *ids,
                    const uint8_t *trained, size_t count);

/* The end of a mark that begins at text[at] ("<|im_end|>", "</s>", "[INST]"): a place behind it, or `at`
 * where none begins. */
size_t qs_mark_end(const char *text, size_t at, size_t bytes);

/* Whether text[from, to) is the content of an added token. */
bool qs_is_added_mark(const qs_tokenizer *t, const char *text, size_t from, size_t to);

#endif
