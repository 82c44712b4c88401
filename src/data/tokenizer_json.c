/* tokenizer.json (Hugging Face tokenizers): walked once for where its parts lie, then the small parts are
 * parsed as trees and the two large ones, vocab and merges, string by string. */
#include <string.h>
#include <utf8proc.h>

#include "src/base/memory.h"
#include "src/data/json_cursor.h"
#include "src/data/tokenizer_parts.h"

/* ---- parts of the file ------------------------------------------------------------------------------- */

typedef struct part {
    const char *name;
    qs_json_part value;
} part;

/* Records where the named members of the object at `from` lie; others are passed over. */
static int find_parts(const char *path, qs_json_part from, part *parts, size_t count, qs_err *e)
{
    qs_json_cursor c;
    qs_json_part value;
    bool more;
    qs_cursor_start(&c, path, from.text, from.bytes);
    int rc = qs_cursor_enter(&c, '{', e);
    while (!rc && !(rc = qs_cursor_more(&c, '}', &more, e)) && more) {
        if ((rc = qs_cursor_key(&c, e)) || (rc = qs_cursor_skip(&c, &value, e))) break;
        for (size_t i = 0; i < count; i++)
            if (strcmp(parts[i].name, c.string) == 0) parts[i].value = value;
    }
    qs_cursor_free(&c);
    return rc;
}

/* A small part as a tree; *out NULL when the file does not have it. */
static int tree_of(const char *path, const part *p, json_t **out, qs_err *e)
{
    json_error_t why;
    *out = NULL;
    if (!p->value.text) return 0;
    *out = json_loadb(p->value.text, p->value.bytes, JSON_DECODE_ANY | JSON_ALLOW_NUL, &why);
    if (!*out) QS_FAIL(e, QS_EFORMAT, "%s: \"%s\" is damaged: %s", path, p->name, why.text);
    return 0;
}

static int load_vocab(qs_tokenizer *t, const char *path, qs_json_part vocab, qs_err *e)
{
    qs_json_cursor c;
    bool more;
    int64_t id;
    qs_cursor_start(&c, path, vocab.text, vocab.bytes);
    int rc = qs_cursor_enter(&c, '{', e);
    while (!rc && !(rc = qs_cursor_more(&c, '}', &more, e)) && more)
        if (!(rc = qs_cursor_key(&c, e)) && !(rc = qs_cursor_integer(&c, &id, e)))
            rc = qs_tokenizer_add_vocab(t, path, id, c.string, c.string_bytes, e);
    qs_cursor_free(&c);
    return rc;
}

/* Adds the merge of two tokens in the file's spelling. */
static int add_merge(qs_tokenizer *t, const char *path, const char *left, size_t left_bytes,
                     const char *right, size_t right_bytes, qs_buffer *whole, qs_err *e)
{
    whole->bytes = 0;
    qs_buffer_put(whole, left, left_bytes);
    qs_buffer_put(whole, right, right_bytes);
    int32_t l = qs_tokenizer_find_vocab(t, left, left_bytes),
            r = qs_tokenizer_find_vocab(t, right, right_bytes);
    int32_t both = qs_tokenizer_find_vocab(t, whole->data, whole->bytes);
    if (l < 0 || r < 0 || both < 0)
        QS_FAIL(e, QS_EFORMAT,
                "%s: merge %u (\"%.*s\" and \"%.*s\") uses or makes a token that is not in the vocabulary",
                path, t->bpe.merge_count, (int)(left_bytes < 60 ? left_bytes : 60), left,
                (int)(right_bytes < 60 ? right_bytes : 60), right);
    if (!qs_bpe_add_merge(&t->bpe, l, r, both))
        t->bpe.merge_count++; /* a repeated pair: the first rank holds */
    return 0;
}

/* One merge: "a b", or ["a", "b"] where tokens may hold spaces. */
static int load_merge(qs_tokenizer *t, qs_json_cursor *c, qs_buffer *left, qs_buffer *whole, qs_err *e)
{
    if (qs_cursor_peek(c) == '[') {
        bool more;
        QS_TRY(qs_cursor_enter(c, '[', e));
        QS_TRY(qs_cursor_more(c, ']', &more, e));
        QS_TRY(qs_cursor_string(c, e));
        left->bytes = 0;
        qs_buffer_put(left, c->string, c->string_bytes);
        QS_TRY(qs_cursor_more(c, ']', &more, e));
        QS_TRY(qs_cursor_string(c, e));
        QS_TRY(add_merge(t, c->file, left->data, left->bytes, c->string, c->string_bytes, whole, e));
        QS_TRY(qs_cursor_more(c, ']', &more, e));
        if (more)
            QS_FAIL(e, QS_EFORMAT, "%s: merge %u has more than two parts", c->file, t->bpe.merge_count - 1);
        return 0;
    }
    QS_TRY(qs_cursor_string(c, e));
    const char *space = memchr(c->string, ' ', c->string_bytes);
    size_t n = space ? (size_t)(space - c->string) : 0;
    if (!space || memchr(space + 1, ' ', c->string_bytes - n - 1))
        QS_FAIL(e, QS_EFORMAT, "%s: merge %u must be two tokens with one space between them, found \"%.60s\"",
                c->file, t->bpe.merge_count, c->string);
    return add_merge(t, c->file, c->string, n, space + 1, c->string_bytes - n - 1, whole, e);
}

static int load_merges(qs_tokenizer *t, const char *path, qs_json_part merges, qs_err *e)
{
    qs_json_cursor c;
    qs_json_part value;
    qs_buffer left = {0}, whole = {0};
    bool more;
    uint32_t count = 0;
    qs_cursor_start(&c, path, merges.text, merges.bytes);
    int rc = qs_cursor_enter(&c, '[', e);
    while (!rc && !(rc = qs_cursor_more(&c, ']', &more, e)) && more)
        if (!(rc = qs_cursor_skip(&c, &value, e))) count++;
    if (!rc) qs_bpe_reserve_merges(&t->bpe, count);
    qs_cursor_start(&c, path, merges.text, merges.bytes);
    if (!rc) rc = qs_cursor_enter(&c, '[', e);
    while (!rc && !(rc = qs_cursor_more(&c, ']', &more, e)) && more) rc = load_merge(t, &c, &left, &whole, e);
    qs_cursor_free(&c);
    qs_buffer_free(&left);
    qs_buffer_free(&whole);
    return rc;
}

static int load_added_tokens(qs_tokenizer *t, const char *path, json_t *list, qs_err *e)
{
    size_t i;
    json_t *v;
    if (json_array_size(list) > QS_ADDED_TOKENS_MAX)
        QS_FAIL(e, QS_EUNSUP, "%s: has %zu added tokens; at most %d are supported", path,
                json_array_size(list), QS_ADDED_TOKENS_MAX);
    json_array_foreach(list, i, v)
    {
        json_t *id = json_object_get(v, "id"), *content = json_object_get(v, "content");
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= QS_VOCAB_MAX_ID ||
            !json_is_string(content) || !json_string_length(content))
            QS_FAIL(e, QS_EFORMAT, "%s: added_tokens[%zu] needs an \"id\" and a \"content\"", path, i);
        qs_added_tokens_add(
            &t->added, &(qs_added_token){.id = (int32_t)json_integer_value(id),
                                         .content = (char *)(uintptr_t)json_string_value(content),
                                         .bytes = json_string_length(content),
                                         .special = json_is_true(json_object_get(v, "special")),
                                         .normalized = json_is_true(json_object_get(v, "normalized")),
                                         .lstrip = json_is_true(json_object_get(v, "lstrip")),
                                         .rstrip = json_is_true(json_object_get(v, "rstrip")),
                                         .single_word = json_is_true(json_object_get(v, "single_word"))});
    }
    return 0;
}

/* TemplateProcessing says which special tokens stand around a text; others add none or are refused. */
static int load_post_processor(qs_tokenizer *t, const char *path, json_t *p, qs_err *e)
{
    if (!p || json_is_null(p)) return 0;
    t->post_processor = true;
    const char *type = json_string_value(json_object_get(p, "type"));
    size_t i;
    json_t *v;
    if (type && strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(p, "processors"), i, v) QS_TRY(load_post_processor(t, path, v, e));
        return 0;
    }
    if (type && strcmp(type, "ByteLevel") == 0) return 0;
    if (!type || strcmp(type, "TemplateProcessing") != 0)
        QS_FAIL(e, QS_EUNSUP,
                "%s: the post_processor \"%.60s\" is not supported; expected Sequence, ByteLevel or "
                "TemplateProcessing",
                path, type ? type : "");
    bool text_seen = false;
    json_array_foreach(json_object_get(p, "single"), i, v)
    {
        json_t *special = json_object_get(v, "SpecialToken");
        if (!special) {
            text_seen = true;
            continue;
        }
        int32_t id = qs_tokenizer_special_id(t, json_object_get(special, "id"));
        int32_t *slot = text_seen ? &t->info.eos : &t->info.bos;
        bool *flag = text_seen ? &t->info.add_eos : &t->info.add_bos;
        if (id < 0 || *flag)
            QS_FAIL(e, QS_EUNSUP,
                    "%s: the post_processor must put at most one known token before and after a text", path);
        *slot = id;
        *flag = true;
    }
    return 0;
}

/* The decoder's only freedom that matters here is how many leading spaces are taken off. */
static int load_decoder(qs_tokenizer *t, const char *path, json_t *d, qs_err *e)
{
    if (!d || json_is_null(d)) return 0;
    static const char *known[] = {"ByteLevel", "Replace", "ByteFallback", "Fuse"};
    const char *type = json_string_value(json_object_get(d, "type"));
    size_t i;
    json_t *v;
    if (!type) QS_FAIL(e, QS_EFORMAT, "%s: the decoder has no \"type\"", path);
    if (strcmp(type, "Sequence") == 0) {
        json_array_foreach(json_object_get(d, "decoders"), i, v) QS_TRY(load_decoder(t, path, v, e));
        return 0;
    }
    if (strcmp(type, "Strip") == 0) {
        t->strip_left = (int)json_integer_value(json_object_get(d, "start"));
        return 0;
    }
    if (strcmp(type, "Metaspace") == 0) {
        const char *scheme = json_string_value(json_object_get(d, "prepend_scheme"));
        t->strip_left = !(scheme && strcmp(scheme, "never") == 0);
        return 0;
    }
    for (i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(type, known[i]) == 0) return 0;
    QS_FAIL(e, QS_EUNSUP, "%s: the decoder \"%.60s\" is not supported", path, type);
}

/* Flags and names of the model; refuses what would change ids and is not implemented. */
static int load_model_flags(qs_tokenizer *t, const char *path, json_t *m, const char **unk, qs_err *e)
{
    static const char *must_be_empty[] = {"continuing_subword_prefix", "end_of_word_suffix"};
    for (int i = 0; i < 2; i++) {
        json_t *v = json_object_get(m, must_be_empty[i]);
        if (json_string_length(v))
            QS_FAIL(e, QS_EUNSUP, "%s: a BPE model with \"%s\" is not supported", path, must_be_empty[i]);
    }
    if (json_number_value(json_object_get(m, "dropout")) > 0)
        QS_FAIL(e, QS_EUNSUP, "%s: BPE dropout is not supported", path);
    t->bpe.byte_fallback = json_is_true(json_object_get(m, "byte_fallback"));
    t->bpe.fuse_unk = json_is_true(json_object_get(m, "fuse_unk"));
    t->bpe.ignore_merges = json_is_true(json_object_get(m, "ignore_merges"));
    *unk = json_string_value(json_object_get(m, "unk_token"));
    return 0;
}

/* The model's small members, put into one tree: its type is checked first, for other models have other
 * members. */
static int load_model(qs_tokenizer *t, const char *path, qs_json_part model, qs_err *e)
{
    enum { TYPE, VOCAB, MERGES, SMALL, COUNT = SMALL + 7 };
    part parts[COUNT] = {{.name = "type"},          {.name = "vocab"},
                         {.name = "merges"},        {.name = "dropout"},
                         {.name = "unk_token"},     {.name = "continuing_subword_prefix"},
                         {.name = "fuse_unk"},      {.name = "end_of_word_suffix"},
                         {.name = "byte_fallback"}, {.name = "ignore_merges"}};
    QS_TRY(find_parts(path, model, parts, COUNT, e));
    json_t *small = json_object(), *v;
    int rc = 0;
    for (int i = 0; i < COUNT && !rc; i++)
        if (i != VOCAB && i != MERGES && !(rc = tree_of(path, &parts[i], &v, e)) && v)
            json_object_set_new(small, parts[i].name, v);
    const char *type = json_string_value(json_object_get(small, "type")), *unk = NULL;
    if (!rc && ((type && strcmp(type, "BPE") != 0) || !parts[VOCAB].value.text || !parts[MERGES].value.text))
        rc = qs_err_set(e, QS_EUNSUP, __FILE__, __LINE__,
                        "%s: the model \"%.60s\" is not supported; expected BPE with vocab and merges", path,
                        type ? type : "without a type");
    if (!rc) rc = load_model_flags(t, path, small, &unk, e);
    if (!rc) rc = load_vocab(t, path, parts[VOCAB].value, e);
    if (!rc) {
        qs_vocab_index(&t->bpe.vocab);
        t->bpe.unk = unk ? qs_tokenizer_find_vocab(t, unk, strlen(unk)) : -1;
        rc = load_merges(t, path, parts[MERGES].value, e);
    }
    json_decref(small);
    return rc;
}

int qs_tokenizer_load_json(qs_tokenizer *t, const char *path, const char *text, size_t bytes, qs_err *e)
{
    enum { MODEL, ADDED, NORMALIZER, PRE, POST, DECODER, COUNT };
    part parts[COUNT] = {{.name = "model"},         {.name = "added_tokens"},   {.name = "normalizer"},
                         {.name = "pre_tokenizer"}, {.name = "post_processor"}, {.name = "decoder"}};
    QS_TRY(find_parts(path, (qs_json_part){text, bytes}, parts, COUNT, e));
    if (!parts[MODEL].value.text)
        QS_FAIL(e, QS_EFORMAT, "%s: has no \"model\"; expected a tokenizer.json of Hugging Face tokenizers",
                path);
    json_t *tree[COUNT] = {0};
    int rc = 0;
    for (int i = ADDED; i < COUNT && !rc; i++) rc = tree_of(path, &parts[i], &tree[i], e);
    if (!rc) rc = qs_normalizer_parse(path, tree[NORMALIZER], &t->normalizer, e);
    if (!rc) rc = qs_pretokenizer_parse(path, tree[PRE], &t->pretokenizer, e);
    t->byte_level = t->bpe.byte_level = t->pretokenizer.byte_level;
    if (!rc) rc = load_model(t, path, parts[MODEL].value, e);
    if (!rc) rc = load_added_tokens(t, path, tree[ADDED], e);
    if (!rc) rc = load_post_processor(t, path, tree[POST], e);
    if (!rc) rc = load_decoder(t, path, tree[DECODER], e);
    for (int i = ADDED; i < COUNT; i++) json_decref(tree[i]);
    return rc;
}
