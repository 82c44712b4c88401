/* What every reader of tokenizer files needs: a file as a whole, and tokens by the spelling of the file. */
#include <string.h>
#include <utf8proc.h>

#include "io/file.h"
#include "io/file_kind.h"
#include "src/base/memory.h"
#include "src/data/tokenizer_parts.h"

int qs_tokenizer_read(const char *path, char **text, size_t *bytes, qs_err *e)
{
    *text = NULL;
    if (!qs_file_exists(path)) return 0;
    QS_TRY(qs_file_read(path, QS_TOKENIZER_FILE_MAX, text, bytes, e));
    const char *trouble =
        qs_file_kind_trouble(*text, *bytes < QS_FILE_KIND_BYTES ? *bytes : QS_FILE_KIND_BYTES);
    if (!trouble) return 1;
    qs_free(*text);
    *text = NULL;
    QS_FAIL(e, QS_EFORMAT, "%s: is %s", path, trouble);
}

enum { TOKEN_MAX_BYTES = 64 << 10 };

int qs_tokenizer_add_vocab(qs_tokenizer *t, const char *path, int64_t id, const char *text, size_t bytes,
                           qs_err *e)
{
    if (id < 0 || id >= QS_VOCAB_MAX_ID)
        QS_FAIL(e, QS_EFORMAT, "%s: token \"%.60s\" has the id %lld; expected 0 to %d", path, text,
                (long long)id, QS_VOCAB_MAX_ID - 1);
    if (bytes > TOKEN_MAX_BYTES)
        QS_FAIL(e, QS_EFORMAT, "%s: token %lld is %zu bytes long", path, (long long)id, bytes);
    char raw[TOKEN_MAX_BYTES];
    size_t raw_bytes;
    bool mapped = t->byte_level && qs_bytes_of_byte_level(text, bytes, raw, &raw_bytes);
    /* A token outside of ByteLevel's alphabet can be written but never read. */
    bool hidden = t->byte_level && !mapped;
    if (!qs_vocab_add(&t->bpe.vocab, (int32_t)id, mapped ? raw : text, mapped ? raw_bytes : bytes, hidden))
        QS_FAIL(e, QS_EFORMAT, "%s: two tokens have the id %lld, one of them \"%.60s\"", path, (long long)id,
                text);
    return 0;
}

int32_t qs_tokenizer_find_vocab(const qs_tokenizer *t, const char *text, size_t bytes)
{
    char raw[TOKEN_MAX_BYTES];
    size_t raw_bytes;
    if (bytes > TOKEN_MAX_BYTES) return -1;
    bool mapped = t->byte_level && qs_bytes_of_byte_level(text, bytes, raw, &raw_bytes);
    return qs_vocab_find(&t->bpe.vocab, mapped ? raw : text, mapped ? raw_bytes : bytes);
}

int32_t qs_tokenizer_find(const qs_tokenizer *t, const char *content)
{
    const qs_added_token *a = qs_added_tokens_by_content(&t->added, content);
    return a ? a->id : qs_tokenizer_find_vocab(t, content, strlen(content));
}

int32_t qs_tokenizer_special_id(const qs_tokenizer *t, json_t *value)
{
    if (json_is_object(value)) value = json_object_get(value, "content");
    return json_is_string(value) ? qs_tokenizer_find(t, json_string_value(value)) : -1;
}
