/* A vocabulary as tiktoken writes it: a line for each token, its bytes in base64 and its rank, which is its
 * id. Llama 3 was published so.
 *
 * The pair whose concatenation has the lowest rank is joined first, and a word that is a token is that token.
 * The file names no special tokens (tokenizer_config.json does) and no expression to cut words by: it is
 * cl100k's, as in transformers. */
#include <string.h>

#include "src/base/memory.h"
#include "src/data/tokenizer_parts.h"

static int digit_of(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Bytes of a base64 text, or -1. out holds 3/4 of it. */
static int decode_base64(const char *text, size_t bytes, char *out)
{
    uint32_t bits = 0;
    int have = 0, n = 0;
    while (bytes && text[bytes - 1] == '=') bytes--;
    for (size_t i = 0; i < bytes; i++) {
        int d = digit_of(text[i]);
        if (d < 0) return -1;
        bits = bits << 6 | (uint32_t)d;
        have += 6;
        if (have < 8) continue;
        have -= 8;
        out[n++] = (char)(bits >> have);
    }
    return n;
}

enum { LINE_MAX_BYTES = 4096 };

/* One line at *at: the token's bytes into token, its rank; false when it is none. */
static bool next_line(const char **at, const char *end, char token[LINE_MAX_BYTES], int *token_bytes,
                      int64_t *rank)
{
    const char *stop = memchr(*at, '\n', (size_t)(end - *at)), *last = stop ? stop : end;
    const char *space = memchr(*at, ' ', (size_t)(last - *at));
    if (!space || space - *at >= LINE_MAX_BYTES ||
        (*token_bytes = decode_base64(*at, (size_t)(space - *at), token)) < 1)
        return false;
    *rank = 0;
    const char *p = space + 1;
    for (; p < last && *p >= '0' && *p <= '9' && *rank < QS_VOCAB_MAX_ID; p++)
        *rank = 10 * *rank + (*p - '0');
    if (p == space + 1 || (p < last && *p != '\r')) return false;
    *at = stop ? stop + 1 : end;
    return true;
}

bool qs_tokenizer_is_tiktoken(const char *text, size_t bytes)
{
    char token[LINE_MAX_BYTES];
    int n;
    int64_t rank;
    const char *at = text, *end = text + bytes;
    return next_line(&at, end, token, &n, &rank) && (at == end || next_line(&at, end, token, &n, &rank));
}

int qs_tokenizer_load_tiktoken(qs_tokenizer *t, const char *path, const char *text, size_t bytes, qs_err *e)
{
    char token[LINE_MAX_BYTES];
    int n, line = 1;
    int64_t rank;
    t->byte_level = t->bpe.byte_level = t->bpe.ignore_merges = true;
    for (const char *at = text, *end = text + bytes; at < end; line++) {
        if (!next_line(&at, end, token, &n, &rank) || rank >= QS_VOCAB_MAX_ID)
            QS_FAIL(e, QS_EFORMAT, "%s:%d: expected a token in base64 and its rank", path, line);
        if (!qs_vocab_add(&t->bpe.vocab, (int32_t)rank, token, (size_t)n, false))
            QS_FAIL(e, QS_EFORMAT, "%s:%d: two tokens have the rank %lld", path, line, (long long)rank);
    }
    qs_vocab_index(&t->bpe.vocab);
    t->bpe.scores = qs_calloc((size_t)t->bpe.vocab.count, sizeof *t->bpe.scores);
    for (int32_t id = 0; id < t->bpe.vocab.count; id++)
        t->bpe.scores[id] = -(float)id; /* exact: ids are below 2^24 */
    return qs_steps_add_regex(&t->pretokenizer, path, QS_STEP_SPLIT, QS_REGEX_LLAMA3, NULL, false,
                              QS_CUT_ISOLATED, e);
}
