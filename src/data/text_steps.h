/* text_steps.h - what happens to a text before its words are encoded: the normalizer and the pre_tokenizer of
 * tokenizer.json.
 *
 * Both are lists of steps. A normalizer step turns text into text. A pre-tokenizer step cuts pieces into
 * smaller ones, nearly always by a regular expression; some change the text as well (Metaspace, ByteLevel's
 * leading space).
 */
#ifndef QS_DATA_TEXT_STEPS_H
#define QS_DATA_TEXT_STEPS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "src/base/error.h"
#include "src/data/regex.h"

/* A growing text. */
typedef struct qs_buffer {
    char *data;
    size_t bytes, capacity;
} qs_buffer;

void qs_buffer_put(qs_buffer *b, const char *text, size_t bytes);
void qs_buffer_free(qs_buffer *b);

typedef struct qs_span {
    size_t start, end;
} qs_span;

typedef struct qs_spans {
    qs_span *data;
    size_t count, capacity;
} qs_spans;

void qs_spans_put(qs_spans *s, size_t start, size_t end);

typedef enum qs_step_kind {
    QS_STEP_PREPEND, /* normalizer: `text` in front of a text that is not empty and begins its segment */
    QS_STEP_REPLACE, /* normalizer: every match of `regex` by `text` */
    QS_STEP_UNICODE, /* normalizer: a Unicode normal form, by utf8proc options */
    QS_STEP_LOWER,   /* normalizer: letters in lower case */
    QS_STEP_UNMARK,  /* normalizer: without combining marks (StripAccents) */
    QS_STEP_SPLIT,   /* pre-tokenizer: by `regex` and `cut` */
    QS_STEP_PREFIX,  /* pre-tokenizer: `text` in front of every piece that does not begin with it */
    QS_STEP_BYTES    /* pre-tokenizer: bytes as ByteLevel's characters, for steps that come after it */
} qs_step_kind;

/* What becomes of the matches of a splitting expression. */
typedef enum qs_cut {
    QS_CUT_ISOLATED,
    QS_CUT_REMOVED,
    QS_CUT_PREVIOUS,
    QS_CUT_NEXT,
    QS_CUT_CONTIGUOUS
} qs_cut;

typedef struct qs_step {
    qs_step_kind kind;
    qs_regex *regex;
    char *text;
    int unicode;
    qs_cut cut;
    bool invert;     /* SPLIT: what does not match counts as the match */
    bool first_only; /* PREPEND, PREFIX: only at the very beginning of the input */
    bool not_twice;  /* PREPEND: not before a text that begins with a space or with `text` */
} qs_step;

enum { QS_STEPS_MAX = 16 };

typedef struct qs_steps {
    qs_step step[QS_STEPS_MAX];
    int count;
    bool byte_level; /* ByteLevel is among them: tokens stand for bytes */
    qs_buffer spare;
    qs_spans spare_spans;
} qs_steps; /* {0}: no steps */

/* Reads `normalizer` / `pre_tokenizer` (may be JSON null). QS_EUNSUP names a component that is not known. */
int qs_normalizer_parse(const char *file, json_t *json, qs_steps *out, qs_err *e);
int qs_pretokenizer_parse(const char *file, json_t *json, qs_steps *out, qs_err *e);
/* Appends single steps; for tokenizers that have no such JSON. `text` and pattern are copied. */
int qs_steps_add_regex(qs_steps *s, const char *file, qs_step_kind kind, const char *pattern,
                       const char *text, bool literal, qs_cut cut, qs_err *e);
void qs_steps_add_prepend(qs_steps *s, const char *text);
/* Takes the steps that put something in front of a text away, or has them do it at the very beginning of the
 * input alone. */
void qs_steps_drop_prefix(qs_steps *s);
void qs_steps_prefix_once(qs_steps *s);
/* Has them leave a text alone that begins with a space already, as Metaspace does. */
void qs_steps_prefix_not_twice(qs_steps *s);
void qs_steps_free(qs_steps *s);

/* Where a text stands, which decides whether a prefix is put before it. */
typedef enum qs_place {
    QS_PLACE_INPUT,   /* it begins the input */
    QS_PLACE_SEGMENT, /* it follows an added token */
    QS_PLACE_JOINED   /* it goes on after other text */
} qs_place;

/* Appends the normalised text to out. */
int qs_normalize(qs_steps *s, const char *text, size_t bytes, qs_place place, qs_buffer *out, qs_err *e);

/* Cuts *text into words: ranges of *text (which is rewritten when a step changes it). */
int qs_pretokenize(qs_steps *s, qs_buffer *text, qs_place place, qs_spans *words, qs_err *e);

#endif
