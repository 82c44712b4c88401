/* tokenizer.h - text to token ids and back, as the model's own tokenizer files say.
 *
 * Reads, from a model directory and in this order of preference:
 *   tokenizer.json                 Hugging Face byte-level BPE and SentencePiece-style BPE
 *   tokenizer.model                SentencePiece, BPE type
 *   vocab.json + merges.txt        GPT-2 and Qwen2 as published before tokenizer.json
 * and the ids of the special tokens from tokenizer_config.json, special_tokens_map.json,
 * generation_config.json and config.json. Anything these files ask for that is not implemented is an error
 * naming the component: a tokenizer is either exact or refused.
 *
 *     qs_tokenizer *t;
 *     QS_TRY(qs_tokenizer_open("models/llama", &t, e));
 *     qs_ids ids = {0};
 *     QS_TRY(qs_tokenizer_encode(t, "Hello", 5, 0, &ids, e));
 *     qs_ids_free(&ids);
 *     qs_tokenizer_close(t);
 *
 * Text that a person wrote never turns into a control token unless the caller asks for it: whether
 * "<|eot_id|>" in a text is five ordinary tokens or the end of the turn is decided by the caller, piece by
 * piece.
 *
 * An open tokenizer is used by one thread at a time (it owns scratch memory).
 */
#ifndef QS_DATA_TOKENIZER_H
#define QS_DATA_TOKENIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/data/ids.h"

typedef struct qs_tokenizer qs_tokenizer;

/* What the files say about special tokens; -1 where a token does not exist. */
typedef struct qs_token_info {
    int32_t vocab_size; /* largest id + 1, added tokens included: must not exceed the model's vocab_size */
    int32_t bos, eos, pad, unk;
    bool add_bos,
        add_eos; /* the tokenizer puts them around a text by itself (post-processor, add_bos_token) */
} qs_token_info;

/* One stretch of a text. Neighbouring pieces are tokenised together, as if written in one string; only added
 * tokens marked special are looked for in the pieces with parse_special alone. */
typedef struct qs_text_piece {
    const char *text; /* UTF-8; ill-formed bytes are read as U+FFFD */
    size_t bytes;
    bool parse_special;
} qs_text_piece;

enum {
    QS_ENCODE_SPECIAL = 1, /* qs_tokenizer_encode: parse_special */
    QS_ENCODE_CONTINUE =
        2, /* the text goes on after other ordinary text: no leading space is invented for it */
    QS_ENCODE_SEGMENT = 4, /* the text comes right after an added token: it is not the first of the input */
    QS_DECODE_SKIP_SPECIAL = 1, /* qs_tokenizer_decode: control tokens are left out */
    QS_DECODE_CONTINUE = 2      /* the ids go on after others: a leading space is kept */
};

/* Opens the tokenizer of a model directory. Freed with qs_tokenizer_close. Errors: QS_EMISSING (no tokenizer
 * files), QS_EFORMAT (damaged), QS_EUNSUP (an unsupported component, named). */
int qs_tokenizer_open(const char *model_dir, qs_tokenizer **out, qs_err *e);
void qs_tokenizer_close(qs_tokenizer *t);

/* Borrowed; valid until close. */
const qs_token_info *qs_tokenizer_info(const qs_tokenizer *t);

/* Appends the ids of the text. Never adds BOS or EOS: callers do, from qs_token_info. Errors: QS_EFORMAT when
 * a character is in no token and the model has no unknown token; QS_EINVAL when a regular expression exceeds
 * its limits. */
int qs_tokenizer_encode(qs_tokenizer *t, const char *text, size_t bytes, unsigned flags, qs_ids *out,
                        qs_err *e);
/* The same for a text in pieces; of the flags QS_ENCODE_CONTINUE and _SEGMENT matter. */
int qs_tokenizer_encode_pieces(qs_tokenizer *t, const qs_text_piece *pieces, size_t count, unsigned flags,
                               qs_ids *out, qs_err *e);

/* The text of count ids as the files' decoder makes it, NUL-terminated, freed with qs_free; *bytes (may be
 * NULL) without the NUL. Bytes that do not form UTF-8 become U+FFFD; ids outside the vocabulary are skipped.
 * flags: QS_DECODE_*. */
char *qs_tokenizer_decode(const qs_tokenizer *t, const int32_t *ids, size_t count, unsigned flags,
                          size_t *bytes);

/* The id of a token by its exact content (added tokens first), or -1. */
int32_t qs_tokenizer_find(const qs_tokenizer *t, const char *content);

/* The bytes that a token stands for in a text, the space of SentencePiece as a space; "" for ids outside the
 * vocabulary. Valid until the next call. */
const char *qs_tokenizer_token_text(qs_tokenizer *t, int32_t id, size_t *bytes);

/* Whether an id is an added token: control tokens, and words found before the text is taken apart. */
bool qs_tokenizer_is_added(const qs_tokenizer *t, int32_t id);

/* The content of a special token by role, "" where there is none: for templates. Borrowed. */
const char *qs_tokenizer_bos_text(const qs_tokenizer *t);
const char *qs_tokenizer_eos_text(const qs_tokenizer *t);

#endif
