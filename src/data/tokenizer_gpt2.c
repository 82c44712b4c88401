/* vocab.json + merges.txt: byte-level BPE as GPT-2 and Qwen2 were published before tokenizer.json. What a
 * tokenizer.json says about normalising and splitting is known from the class in tokenizer_config.json. */
#include <string.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/data/json_cursor.h"
#include "src/data/tokenizer_parts.h"

static int load_vocab(qs_tokenizer *t, const char *path, const char *text, size_t bytes, qs_err *e)
{
    qs_json_cursor c;
    bool more;
    int64_t id;
    qs_cursor_start(&c, path, text, bytes);
    int rc = qs_cursor_enter(&c, '{', e);
    while (!rc && !(rc = qs_cursor_more(&c, '}', &more, e)) && more)
        if (!(rc = qs_cursor_key(&c, e)) && !(rc = qs_cursor_integer(&c, &id, e)))
            rc = qs_tokenizer_add_vocab(t, path, id, c.string, c.string_bytes, e);
    qs_cursor_free(&c);
    return rc;
}

/* One line of merges.txt: two tokens with a space between them. */
static int load_merge(qs_tokenizer *t, const char *path, const char *line, size_t bytes, int64_t number,
                      qs_buffer *whole, qs_err *e)
{
    const char *space = memchr(line, ' ', bytes);
    size_t left = space ? (size_t)(space - line) : 0, right = space ? bytes - left - 1 : 0;
    if (!left || !right || memchr(space + 1, ' ', right))
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: expected two tokens with one space between them, found \"%.*s\"",
                path, (long long)number, (int)(bytes < 60 ? bytes : 60), line);
    whole->bytes = 0;
    qs_buffer_put(whole, line, left);
    qs_buffer_put(whole, space + 1, right);
    int32_t l = qs_tokenizer_find_vocab(t, line, left), r = qs_tokenizer_find_vocab(t, space + 1, right);
    int32_t both = qs_tokenizer_find_vocab(t, whole->data, whole->bytes);
    if (l < 0 || r < 0 || both < 0)
        QS_FAIL(e, QS_EFORMAT, "%s:%lld: the merge \"%.*s\" uses or makes a token that is not in vocab.json",
                path, (long long)number, (int)(bytes < 60 ? bytes : 60), line);
    if (!qs_bpe_add_merge(&t->bpe, l, r, both)) t->bpe.merge_count++;
    return 0;
}

static int load_merges(qs_tokenizer *t, const char *path, const char *text, size_t bytes, qs_err *e)
{
    uint32_t lines = 1;
    for (size_t i = 0; i < bytes; i++) lines += text[i] == '\n';
    qs_bpe_reserve_merges(&t->bpe, lines);
    qs_buffer whole = {0};
    int64_t number = 0;
    int rc = 0;
    for (const char *at = text, *end = text + bytes; at < end && !rc;) {
        const char *stop = memchr(at, '\n', (size_t)(end - at));
        size_t n = stop ? (size_t)(stop - at) : (size_t)(end - at);
        const char *line = at;
        at = stop ? stop + 1 : end;
        number++;
        if (n && line[n - 1] == '\r') n--;
        if (n && !(number == 1 && strncmp(line, "#version", 8) == 0))
            rc = load_merge(t, path, line, n, number, &whole, e);
    }
    qs_buffer_free(&whole);
    return rc;
}

static int add_steps(qs_tokenizer *t, const char *path, const char *tokenizer_class, bool prefix_space,
                     qs_err *e)
{
    json_t *nfc = json_pack("{s:s}", "type", "NFC");
    json_t *byte_level = json_pack("{s:s, s:b}", "type", "ByteLevel", "add_prefix_space", (int)prefix_space);
    int rc;
    if (strncmp(tokenizer_class, "Qwen2", 5) == 0) {
        json_object_set_new(byte_level, "use_regex", json_false());
        rc = qs_normalizer_parse(path, nfc, &t->normalizer, e);
        if (!rc)
            rc = qs_steps_add_regex(&t->pretokenizer, path, QS_STEP_SPLIT, QS_REGEX_QWEN2, NULL, false,
                                    QS_CUT_ISOLATED, e);
        if (!rc) rc = qs_pretokenizer_parse(path, byte_level, &t->pretokenizer, e);
    } else if (!*tokenizer_class || strncmp(tokenizer_class, "GPT2", 4) == 0) {
        rc = qs_pretokenizer_parse(path, byte_level, &t->pretokenizer, e);
    } else {
        rc = qs_err_set(e, QS_EUNSUP, __FILE__, __LINE__,
                        "%s: the tokenizer class \"%.60s\" is only supported through tokenizer.json; "
                        "expected GPT2Tokenizer or "
                        "Qwen2Tokenizer for vocab.json and merges.txt",
                        path, tokenizer_class);
    }
    json_decref(nfc);
    json_decref(byte_level);
    return rc;
}

int qs_tokenizer_load_vocab_merges(qs_tokenizer *t, const char *dir, const char *tokenizer_class,
                                   bool prefix_space, qs_err *e)
{
    char *vocab_path = qs_path_join(dir, "vocab.json"), *merges_path = qs_path_join(dir, "merges.txt");
    char *vocab = NULL, *merges = NULL;
    size_t vocab_bytes, merges_bytes;
    t->byte_level = t->bpe.byte_level = true;
    int rc = qs_tokenizer_read(vocab_path, &vocab, &vocab_bytes, e);
    if (rc == 1) rc = qs_tokenizer_read(merges_path, &merges, &merges_bytes, e);
    if (rc == 0)
        rc = qs_err_set(
            e, QS_EMISSING, __FILE__, __LINE__,
            "%s: no tokenizer found; expected tokenizer.json, tokenizer.model, or vocab.json with merges.txt",
            dir);
    if (rc == 1) rc = load_vocab(t, vocab_path, vocab, vocab_bytes, e);
    if (!rc) {
        qs_vocab_index(&t->bpe.vocab);
        rc = load_merges(t, merges_path, merges, merges_bytes, e);
    }
    if (!rc) rc = add_steps(t, vocab_path, tokenizer_class, prefix_space, e);
    /* GPT-2 marks all ends with one token, which no file but the vocabulary names. */
    int32_t end = rc || *tokenizer_class ? -1 : qs_vocab_find(&t->bpe.vocab, "<|endoftext|>", 13);
    if (end >= 0) {
        qs_added_tokens_add(&t->added, &(qs_added_token){.id = end,
                                                         .content = (char *)(uintptr_t) "<|endoftext|>",
                                                         .bytes = 13,
                                                         .special = true});
        t->info.bos = t->info.eos = t->info.unk = end;
    }
    qs_free(vocab_path);
    qs_free(merges_path);
    qs_free(vocab);
    qs_free(merges);
    return rc;
}
