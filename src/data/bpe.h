/* bpe.h - byte pair encoding of one word (Sennrich et al., "Neural Machine Translation of Rare Words with
 * Subword Units", 2016).
 *
 * A word starts as its smallest symbols (bytes, or characters). Of all neighbours that may be joined the best
 * is joined, and of equals the leftmost, until none is left. The candidates wait in a heap, so a word of n
 * symbols takes O(n log n): a SentencePiece-style word is a whole document. Joining leaves stale candidates
 * behind; they are told by their length.
 *
 * Which pairs may be joined, and how good that is, comes in two forms:
 *   by pair   a list of merges (left id, right id): earlier in the list is better (Hugging Face, GPT-2)
 *   by score  any two neighbours whose concatenation is a token: higher score is better (SentencePiece)
 */
#ifndef QS_DATA_BPE_H
#define QS_DATA_BPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/data/ids.h"
#include "src/data/vocab.h"

typedef struct qs_merge {
    int32_t left, right; /* left -1: empty slot */
    uint32_t rank;
    int32_t result;
} qs_merge;

typedef struct qs_bpe {
    qs_vocab vocab;
    qs_merge *merges; /* by pair: hash table [mask + 1] */
    uint32_t mask, merge_count;
    float *scores;      /* by score: [vocab.count], or NULL */
    bool byte_level;    /* symbols are bytes, strings of the vocabulary raw bytes */
    bool byte_fallback; /* a character without token becomes its bytes' tokens */
    bool fuse_unk;      /* neighbouring unknown symbols become one */
    bool ignore_merges; /* a word that is a token is that token */
    bool
        cut_at_spaces; /* no token goes on past a word into the next U+2581: words can be joined one by one */
    int32_t unk;       /* -1: none */
    int32_t byte_id[256]; /* byte_level: the symbol; byte_fallback: <0xNN>; -1: none */
    struct qs_bpe_scratch *scratch;
} qs_bpe; /* {.unk = -1} is an empty one */

/* Sizes the table for `count` merges; then add them in order of rank. Returns false on a pair that is there
 * already. */
void qs_bpe_reserve_merges(qs_bpe *b, uint32_t count);
bool qs_bpe_add_merge(qs_bpe *b, int32_t left, int32_t right, int32_t result);
/* Works out byte_id and cut_at_spaces once vocabulary and flags are final. */
void qs_bpe_finish(qs_bpe *b);
void qs_bpe_free(qs_bpe *b);

/* Appends the ids of one word: valid UTF-8 unless byte_level. QS_EFORMAT when a character has no token and
 * there is no unk. */
int qs_bpe_encode(qs_bpe *b, const char *word, size_t bytes, qs_ids *out, qs_err *e);

#endif
