#include "src/data/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

#include "io/file.h"
#include "src/base/json.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/data/tokenizer_parts.h"

/* ---- opening ----------------------------------------------------------------------------------------- */

/* A file as JSON: *out is a new reference to an object, NULL when there is no such file. Numbers are reals:
 * model_max_length is often 10^30, written as an integer. */
static int read_json(const char *dir, const char *name, json_t **out, qs_err *e)
{
    char *path = qs_path_join(dir, name), *text;
    size_t bytes;
    json_error_t why;
    *out = NULL;
    int rc = qs_tokenizer_read(path, &text, &bytes, e);
    if (rc == 1) {
        *out = qs_json_load(text, bytes, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &why);
        rc = 0;
        if (!json_is_object(*out)) {
            json_decref(*out);
            *out = NULL;
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s:%d: is not a JSON object: %s", path,
                            why.line, why.text);
        }
    }
    qs_free(text);
    qs_free(path);
    return rc;
}

/* Tokens that tokenizer_config.json knows and the main file does not. */
static int add_from_config(qs_tokenizer *t, const char *dir, json_t *config, qs_err *e)
{
    const char *key;
    json_t *v;
    json_object_foreach(json_object_get(config, "added_tokens_decoder"), key, v)
    {
        char *end;
        long id = strtol(key, &end, 10);
        json_t *content = json_object_get(v, "content");
        if (*end || end == key || id < 0 || id >= QS_VOCAB_MAX_ID || !json_is_string(content) ||
            !json_string_length(content) || t->added.count >= QS_ADDED_TOKENS_MAX)
            QS_FAIL(e, QS_EFORMAT,
                    "%s/tokenizer_config.json: added_tokens_decoder has the entry \"%.40s\"; expected an id "
                    "with a content",
                    dir, key);
        if (qs_added_tokens_by_id(&t->added, (int32_t)id)) continue;
        qs_added_tokens_add(
            &t->added, &(qs_added_token){.id = (int32_t)id,
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

/* Whether special_tokens_map.json or tokenizer_config.json gives a special role to this text. */
static bool has_role(json_t *names, const char *content)
{
    const char *key;
    json_t *v, *item;
    size_t i;
    json_object_foreach(names, key, v)
    {
        const char *text = json_string_value(json_is_object(v) ? json_object_get(v, "content") : v);
        size_t n = strlen(key);
        if (n > 6 && !strcmp(key + n - 6, "_token") && text && !strcmp(text, content)) return true;
        json_array_foreach(json_is_array(v) && strstr(key, "special_tokens") ? v : NULL, i, item)
        {
            text = json_string_value(json_is_object(item) ? json_object_get(item, "content") : item);
            if (text && !strcmp(text, content)) return true;
        }
    }
    return false;
}

/* Tokens that were added to a tokenizer before tokenizer_config.json listed them: {"content": id}. */
static int add_from_list(qs_tokenizer *t, const char *dir, json_t *list, json_t *config, json_t *map,
                         qs_err *e)
{
    const char *content;
    json_t *v;
    json_object_foreach(list, content, v)
    {
        double id = json_is_number(v) ? json_number_value(v) : -1;
        if (!(id >= 0 && id < QS_VOCAB_MAX_ID) || id != (int32_t)id || !*content ||
            t->added.count >= QS_ADDED_TOKENS_MAX)
            QS_FAIL(e, QS_EFORMAT,
                    "%s/added_tokens.json: has the entry \"%.40s\"; expected a content with its id", dir,
                    content);
        if (qs_added_tokens_by_id(&t->added, (int32_t)id) || qs_added_tokens_by_content(&t->added, content))
            continue;
        qs_added_tokens_add(
            &t->added, &(qs_added_token){.id = (int32_t)id,
                                         .content = (char *)(uintptr_t)content,
                                         .bytes = strlen(content),
                                         .special = has_role(config, content) || has_role(map, content)});
    }
    return 0;
}

/* Special tokens by name; a file overrides what was found before it only where it names a token. */
static void take_names(qs_tokenizer *t, json_t *names)
{
    int32_t *slots[] = {&t->info.bos, &t->info.eos, &t->info.pad, &t->info.unk};
    static const char *keys[] = {"bos_token", "eos_token", "pad_token", "unk_token"};
    for (int i = 0; i < 4; i++) {
        int32_t id = qs_tokenizer_special_id(t, json_object_get(names, keys[i]));
        if (id >= 0) *slots[i] = id;
    }
}

/* The end token that counts must be a token: transformers would add it to the vocabulary, untrained and
 * beyond the model's rows. */
static int check_end(const qs_tokenizer *t, const char *dir, json_t *first, json_t *second, qs_err *e)
{
    json_t *eos = json_object_get(first, "eos_token");
    if (!eos || json_is_null(eos)) eos = json_object_get(second, "eos_token");
    const char *name = json_string_value(json_is_object(eos) ? json_object_get(eos, "content") : eos);
    if (!name || !*name || qs_tokenizer_special_id(t, eos) >= 0) return 0;
    QS_FAIL(e, QS_EFORMAT,
            "%s: names the eos_token \"%.60s\", which is no token of its tokenizer; name the one that ends a "
            "text there, in tokenizer_config.json "
            "and special_tokens_map.json",
            dir, name);
}

/* Ids in generation_config.json or config.json, for what is still unknown; of a list the first. */
static void take_ids(qs_tokenizer *t, json_t *ids)
{
    int32_t *slots[] = {&t->info.bos, &t->info.eos, &t->info.pad};
    static const char *keys[] = {"bos_token_id", "eos_token_id", "pad_token_id"};
    for (int i = 0; i < 3; i++) {
        json_t *v = json_object_get(ids, keys[i]);
        if (json_is_array(v)) v = json_array_get(v, 0);
        double id = json_is_number(v) ? json_number_value(v) : -1;
        if (*slots[i] < 0 && id >= 0 && id < t->info.vocab_size) *slots[i] = (int32_t)id;
    }
}

static char *content_of(const qs_tokenizer *t, int32_t id)
{
    size_t bytes;
    const qs_added_token *a = qs_added_tokens_by_id(&t->added, id);
    const char *text = a ? a->content : qs_vocab_text(&t->bpe.vocab, id, &bytes);
    return text ? qs_strndup(text, a ? a->bytes : bytes) : qs_strdup("");
}

/* Classes whose add_bos_token and add_eos_token say what is put around a text; for others the post-processor
 * of tokenizer.json does. */
static bool flags_count(const char *class)
{
    static const char *const names[] = {"Llama", "CodeLlama", "Gemma", "Cohere"};
    for (size_t i = 0; class && i < sizeof names / sizeof *names; i++)
        if (!strncmp(class, names[i], strlen(names[i]))) return true;
    return false;
}

static void take_flag(const char *dir, json_t *config, const char *key, bool counts, int32_t token,
                      bool *flag)
{
    json_t *v = json_object_get(config, key);
    bool wanted = json_is_true(v) && token >= 0;
    if (!json_is_boolean(v) || wanted == *flag) return;
    if (counts)
        *flag = wanted;
    else
        qs_info("%s: tokenizer_config.json has %s %s, but the post-processor of tokenizer.json does "
                "otherwise and counts for this class of tokenizer",
                dir, key, json_is_true(v) ? "true" : "false");
}

/* Patterns, sizes and the index of added tokens, once all are known. */
static int finish_added(qs_tokenizer *t, qs_err *e)
{
    t->info.vocab_size = t->bpe.vocab.count;
    for (int32_t i = 0; i < t->added.count; i++) {
        qs_added_token *a = &t->added.tokens[i];
        if (a->id >= t->info.vocab_size) t->info.vocab_size = a->id + 1;
        if (!a->normalized || t->bpe.scores) continue; /* SentencePiece's pieces are in normal form already */
        qs_buffer pattern = {0};
        QS_TRY(qs_normalize(&t->normalizer, a->content, a->bytes, QS_PLACE_INPUT, &pattern, e));
        a->pattern = qs_strndup(pattern.data, pattern.bytes);
        a->pattern_bytes = pattern.bytes;
        qs_buffer_free(&pattern);
    }
    qs_added_tokens_index(&t->added);
    return 0;
}

static int take_roles(qs_tokenizer *t, const char *dir, json_t *config, json_t *map, json_t *list, qs_err *e)
{
    bool listed = json_object_get(config, "added_tokens_decoder") != NULL;
    QS_TRY(add_from_config(t, dir, config, e));
    if (!listed) QS_TRY(add_from_list(t, dir, list, config, map, e));
    qs_bpe_finish(&t->bpe);
    QS_TRY(finish_added(t, e));
    take_names(t, listed ? map : config); /* as transformers reads them: the map counts where the
                                             configuration does not list the tokens */
    take_names(t, listed ? config : map);
    QS_TRY(check_end(t, dir, listed ? config : map, listed ? map : config, e));
    bool counts =
        !t->post_processor || flags_count(json_string_value(json_object_get(config, "tokenizer_class")));
    take_flag(dir, config, "add_bos_token", counts, t->info.bos, &t->info.add_bos);
    take_flag(dir, config, "add_eos_token", counts, t->info.eos, &t->info.add_eos);
    return 0;
}

static int finish(qs_tokenizer *t, const char *dir, json_t *config, qs_err *e)
{
    static const char *const id_files[] = {"generation_config.json", "config.json"};
    json_t *map = NULL, *list = NULL;
    int rc = read_json(dir, "special_tokens_map.json", &map, e);
    if (!rc) rc = read_json(dir, "added_tokens.json", &list, e);
    if (!rc) rc = take_roles(t, dir, config, map, list, e);
    json_decref(map);
    json_decref(list);
    for (int i = 0; i < 2 && !rc; i++) {
        json_t *ids;
        rc = read_json(dir, id_files[i], &ids, e);
        if (!rc) take_ids(t, ids);
        if (!rc) json_decref(ids);
    }
    if (rc) return rc;
    t->bos_text = content_of(t, t->info.bos);
    t->eos_text = content_of(t, t->info.eos);
    return 0;
}

/* What tokenizer_config.json says about the space that Llama's tokenizers put before a text, where
 * tokenizer.json puts it before every segment. */
static void settle_prefix(qs_tokenizer *t, json_t *config)
{
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    if (!class || (strncmp(class, "Llama", 5) && strncmp(class, "CodeLlama", 9))) return;
    if (json_is_false(json_object_get(config, "add_prefix_space"))) {
        qs_steps_drop_prefix(&t->normalizer);
        qs_steps_drop_prefix(&t->pretokenizer);
        t->strip_left = 0;
    } else if (json_is_false(json_object_get(config, "legacy"))) {
        qs_steps_prefix_once(&t->normalizer);
        qs_steps_prefix_once(&t->pretokenizer);
        qs_steps_prefix_not_twice(
            &t->normalizer); /* transformers has Metaspace there, whatever the file says */
    }
}

static int load(qs_tokenizer *t, const char *dir, qs_err *e)
{
    json_t *config;
    QS_TRY(read_json(dir, "tokenizer_config.json", &config, e));
    const char *class = json_string_value(json_object_get(config, "tokenizer_class"));
    char *json_path = qs_path_join(dir, "tokenizer.json"), *model_path = qs_path_join(dir, "tokenizer.model"),
         *text = NULL;
    size_t bytes;
    int rc = qs_tokenizer_read(json_path, &text, &bytes, e);
    if (rc == 1) {
        rc = qs_tokenizer_load_json(t, json_path, text, bytes, e);
        if (!rc) settle_prefix(t, config);
    } else if (rc == 0 && (rc = qs_tokenizer_read(model_path, &text, &bytes, e)) == 1) {
        bool legacy = !json_is_false(json_object_get(config, "legacy"));
        rc = qs_tokenizer_is_tiktoken(text, bytes)
                 ? qs_tokenizer_load_tiktoken(t, model_path, text, bytes, e)
                 : qs_tokenizer_load_sentencepiece(t, model_path, text, bytes, legacy, e);
        if (!rc) settle_prefix(t, config);
    } else if (rc == 0) {
        bool prefix_space = json_is_true(json_object_get(config, "add_prefix_space"));
        rc = qs_tokenizer_load_vocab_merges(t, dir, class ? class : "", prefix_space, e);
    }
    qs_free(text);
    qs_free(json_path);
    qs_free(model_path);
    if (!rc) rc = finish(t, dir, config, e);
    json_decref(config);
    return rc;
}

int qs_tokenizer_open(const char *model_dir, qs_tokenizer **out, qs_err *e)
{
    *out = NULL;
    qs_tokenizer *t = qs_calloc(1, sizeof *t);
    t->info = (qs_token_info){.bos = -1, .eos = -1, .pad = -1, .unk = -1};
    t->bpe.unk = -1;
    int rc = load(t, model_dir, e);
    if (rc) {
        qs_tokenizer_close(t);
        return rc;
    }
    qs_mem_trim();
    *out = t;
    return 0;
}

void qs_tokenizer_close(qs_tokenizer *t)
{
    if (!t) return;
    qs_bpe_free(&t->bpe);
    qs_added_tokens_free(&t->added);
    qs_steps_free(&t->normalizer);
    qs_steps_free(&t->pretokenizer);
    qs_free(t->bos_text);
    qs_free(t->eos_text);
    qs_buffer_free(&t->joined);
    qs_buffer_free(&t->normal);
    qs_buffer_free(&t->word_text);
    qs_free(t->words.data);
    qs_free(t->ranges);
    qs_free(t->normal_ranges);
    qs_free(t);
}

const qs_token_info *qs_tokenizer_info(const qs_tokenizer *t) { return &t->info; }
const char *qs_tokenizer_bos_text(const qs_tokenizer *t) { return t->bos_text; }
const char *qs_tokenizer_eos_text(const qs_tokenizer *t) { return t->eos_text; }

bool qs_tokenizer_is_added(const qs_tokenizer *t, int32_t id)
{
    return qs_added_tokens_by_id(&t->added, id) != NULL;
}

/* ---- encoding ---------------------------------------------------------------------------------------- */

/* Copies text, ill-formed bytes as U+FFFD: what follows may rely on valid UTF-8. */
static void put_valid(qs_buffer *out, const char *text, size_t bytes)
{
    size_t good = 0, i = 0;
    while (i < bytes) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n =
            (unsigned char)text[i] < 0x80
                ? 1
                : utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(bytes - i), &code);
        if (n > 0) {
            i += (size_t)n;
            continue;
        }
        qs_buffer_put(out, text + good, i - good);
        qs_buffer_put(out, "\xef\xbf\xbd", 3);
        good = ++i;
    }
    qs_buffer_put(out, text + good, bytes - good);
}

static int encode_words(qs_tokenizer *t, const char *text, size_t bytes, qs_place place, qs_ids *out,
                        qs_err *e)
{
    t->word_text.bytes = 0;
    qs_buffer_put(&t->word_text, text, bytes);
    QS_TRY(qs_pretokenize(&t->pretokenizer, &t->word_text, place, &t->words, e));
    for (size_t i = 0; i < t->words.count; i++) {
        qs_span w = t->words.data[i];
        QS_TRY(qs_bpe_encode(&t->bpe, t->word_text.data + w.start, w.end - w.start, out, e));
    }
    return 0;
}

/* Normalises joined[start, end) into t->normal. Ranges are normalised one by one where normalised special
 * tokens are looked for afterwards, so that each can tell where it may be found. Returns their number, or an
 * error. */
static int normalize_ranges(qs_tokenizer *t, size_t start, size_t end, size_t ranges, qs_place place,
                            qs_err *e)
{
    int n = 0;
    t->normal.bytes = 0;
    if (!t->added.normalized) {
        QS_TRY(qs_normalize(&t->normalizer, t->joined.data + start, end - start, place, &t->normal, e));
        t->normal_ranges[n++] = (qs_parse_range){t->normal.bytes, false};
        return n;
    }
    size_t begin = 0;
    for (size_t i = 0; i < ranges; begin = t->ranges[i++].end) {
        size_t from = begin > start ? begin : start, to = t->ranges[i].end < end ? t->ranges[i].end : end;
        if (from >= to) continue;
        QS_TRY(qs_normalize(&t->normalizer, t->joined.data + from, to - from, n ? QS_PLACE_JOINED : place,
                            &t->normal, e));
        t->normal_ranges[n++] = (qs_parse_range){t->normal.bytes, t->ranges[i].parse_special};
    }
    return n;
}

/* A stretch between raw added tokens. */
static int encode_segment(qs_tokenizer *t, size_t start, size_t end, size_t ranges, qs_place place,
                          qs_ids *out, qs_err *e)
{
    if (start == end) return 0;
    int n = normalize_ranges(t, start, end, ranges, place, e);
    if (n < 0) return n;
    size_t at = 0;
    qs_added_match m;
    while (qs_added_tokens_find(&t->added, true, t->normal.data, t->normal.bytes, at, t->normal_ranges,
                                (size_t)n, &m)) {
        QS_TRY(encode_words(t, t->normal.data + at, m.start - at, at ? QS_PLACE_SEGMENT : place, out, e));
        qs_ids_push(out, m.id);
        at = m.end;
    }
    return encode_words(t, t->normal.data + at, t->normal.bytes - at, at ? QS_PLACE_SEGMENT : place, out, e);
}

int qs_tokenizer_encode_pieces(qs_tokenizer *t, const qs_text_piece *pieces, size_t count, unsigned flags,
                               qs_ids *out, qs_err *e)
{
    if (count > t->range_capacity) {
        t->range_capacity = 2 * count;
        t->ranges = qs_realloc(t->ranges, t->range_capacity * sizeof *t->ranges);
        t->normal_ranges = qs_realloc(t->normal_ranges, t->range_capacity * sizeof *t->normal_ranges);
    }
    t->joined.bytes = 0;
    size_t ranges = 0;
    for (size_t i = 0; i < count; i++) {
        put_valid(&t->joined, pieces[i].text, pieces[i].bytes);
        if (ranges && t->ranges[ranges - 1].parse_special == pieces[i].parse_special)
            ranges--; /* neighbours of a kind are one */
        t->ranges[ranges++] = (qs_parse_range){t->joined.bytes, pieces[i].parse_special};
    }
    if (!t->joined.bytes) return 0;
    size_t at = 0;
    qs_added_match m;
    qs_place place = flags & QS_ENCODE_CONTINUE  ? QS_PLACE_JOINED
                     : flags & QS_ENCODE_SEGMENT ? QS_PLACE_SEGMENT
                                                 : QS_PLACE_INPUT;
    while (
        qs_added_tokens_find(&t->added, false, t->joined.data, t->joined.bytes, at, t->ranges, ranges, &m)) {
        QS_TRY(encode_segment(t, at, m.start, ranges, at ? QS_PLACE_SEGMENT : place, out, e));
        qs_ids_push(out, m.id);
        at = m.end;
    }
    return encode_segment(t, at, t->joined.bytes, ranges, at ? QS_PLACE_SEGMENT : place, out, e);
}

int qs_tokenizer_encode(qs_tokenizer *t, const char *text, size_t bytes, unsigned flags, qs_ids *out,
                        qs_err *e)
{
    qs_text_piece piece = {text, bytes, (flags & QS_ENCODE_SPECIAL) != 0};
    return qs_tokenizer_encode_pieces(t, &piece, 1, flags, out, e);
}

/* ---- decoding ---------------------------------------------------------------------------------------- */

/* A token's text: bytes as they are, <0xNN> as its byte, U+2581 as a space. */
static void put_token(const qs_tokenizer *t, int32_t id, qs_buffer *out)
{
    size_t bytes;
    const char *text = qs_vocab_text(&t->bpe.vocab, id, &bytes);
    unsigned value;
    if (!text) return;
    if (t->byte_level) {
        qs_buffer_put(out, text, bytes);
        return;
    }
    char byte_token[8] = {0};
    if (bytes == 6) memcpy(byte_token, text, 6);
    if (t->bpe.byte_fallback && sscanf(byte_token, "<0x%2X>", &value) == 1 &&
        t->bpe.byte_id[value & 255] == id) {
        qs_buffer_put(out, &(char){(char)value}, 1);
        return;
    }
    for (size_t i = 0; i < bytes;) {
        bool space = bytes - i >= 3 && memcmp(text + i, QS_SPACE_MARK, 3) == 0;
        qs_buffer_put(out, space ? " " : text + i, 1);
        i += space ? 3 : 1;
    }
}

const char *qs_tokenizer_token_text(qs_tokenizer *t, int32_t id, size_t *bytes)
{
    const qs_added_token *a = qs_added_tokens_by_id(&t->added, id);
    if (a) {
        *bytes = a->bytes;
        return a->content;
    }
    t->normal.bytes = 0;
    put_token(t, id, &t->normal);
    *bytes = t->normal.bytes;
    return *bytes ? t->normal.data : "";
}

char *qs_tokenizer_decode(const qs_tokenizer *t, const int32_t *ids, size_t count, unsigned flags,
                          size_t *bytes)
{
    qs_buffer raw = {0}, valid = {0};
    for (size_t i = 0; i < count; i++) {
        const qs_added_token *a = qs_added_tokens_by_id(&t->added, ids[i]);
        if (!a)
            put_token(t, ids[i], &raw);
        else if (!(a->special && flags & QS_DECODE_SKIP_SPECIAL))
            qs_buffer_put(&raw, a->content, a->bytes);
    }
    size_t skip = 0;
    while (!(flags & QS_DECODE_CONTINUE) && skip < (size_t)t->strip_left && skip < raw.bytes &&
           raw.data[skip] == ' ')
        skip++;
    if (raw.bytes) put_valid(&valid, raw.data + skip, raw.bytes - skip);
    qs_buffer_put(&valid, "", 1);
    qs_buffer_free(&raw);
    if (bytes) *bytes = valid.bytes - 1;
    return valid.data;
}
