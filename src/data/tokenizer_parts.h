/* tokenizer_parts.h - what a tokenizer is made of, and the readers that put it together. Private to the
 * tokenizer's files. */
#ifndef QS_DATA_TOKENIZER_PARTS_H
#define QS_DATA_TOKENIZER_PARTS_H

#include <jansson.h>

#include "src/data/added_tokens.h"
#include "src/data/bpe.h"
#include "src/data/byte_level.h"
#include "src/data/text_steps.h"
#include "src/data/tokenizer.h"

#define QS_SPACE_MARK "\xe2\x96\x81" /* U+2581, a space in SentencePiece's tokens */

struct qs_tokenizer {
    qs_token_info info;
    qs_bpe bpe;
    qs_added_tokens added;
    qs_steps normalizer, pretokenizer;
    bool post_processor; /* tokenizer.json says what is put around a text */
    bool byte_level;     /* tokens are bytes; otherwise they are text with U+2581 for spaces */
    int strip_left;      /* decoding: spaces taken off the front of the text */
    char *bos_text, *eos_text;
    /* scratch of encode */
    qs_buffer joined, normal, word_text;
    qs_spans words;
    struct qs_parse_range *ranges, *normal_ranges;
    size_t range_capacity;
};

enum { QS_TOKENIZER_FILE_MAX = 256 << 20, QS_ADDED_TOKENS_MAX = 1 << 16 };

/* Reads a file whole. Returns 1 and the text (qs_free), 0 when there is none. */
int qs_tokenizer_read(const char *path, char **text, size_t *bytes, qs_err *e);

/* Each fills bpe, steps, added tokens; `text` is the content of `path`. */
int qs_tokenizer_load_json(qs_tokenizer *t, const char *path, const char *text, size_t bytes, qs_err *e);
int qs_tokenizer_load_sentencepiece(qs_tokenizer *t, const char *path, const char *text, size_t bytes,
                                    bool legacy, qs_err *e);
int qs_tokenizer_load_tiktoken(qs_tokenizer *t, const char *path, const char *text, size_t bytes, qs_err *e);
bool qs_tokenizer_is_tiktoken(const char *text, size_t bytes);
int qs_tokenizer_load_vocab_merges(qs_tokenizer *t, const char *dir, const char *tokenizer_class,
                                   bool prefix_space, qs_err *e);

/* The id of a special token given as a string or as {"content": ...}; -1 when it is absent, null or unknown.
 */
int32_t qs_tokenizer_special_id(const qs_tokenizer *t, json_t *value);

/* Adds a token string to the vocabulary, as bytes when byte_level. */
int qs_tokenizer_add_vocab(qs_tokenizer *t, const char *path, int64_t id, const char *text, size_t bytes,
                           qs_err *e);
/* The id of a token string in the file's spelling, or -1. */
int32_t qs_tokenizer_find_vocab(const qs_tokenizer *t, const char *text, size_t bytes);

#endif
