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
    const char *trouble = qs_file_kind_trouble(*text, *bytes < QS_FILE_KIND_BYTES ? *bytes : QS_FILE_KIND_BYTES);
    if (!trouble) return 1;
    qs_free(*text);
    *text = NULL;
    QS_FAIL(e, QS_EFORMAT, "%s: is %s", path, trouble);
}

/* ByteLevel writes a byte as a printable character: itself where it is one (0x21-0x7e, 0xa1-0xac, 0xae-0xff), else U+0100 plus
 * how many bytes before it are not. */
static int byte_of_code(utf8proc_int32_t code)
{
    if ((code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xac) || (code >= 0xae && code <= 0xff)) return code;
    if (code >= 0x100 && code <= 0x120) return code - 0x100;
    if (code >= 0x121 && code <= 0x142) return code - 0x121 + 0x7f;
    return code == 0x143 ? 0xad : -1;
}

bool qs_bytes_of_byte_level(const char *text, size_t bytes, char *out, size_t *out_bytes)
{
    *out_bytes = 0;
    for (size_t i = 0; i < bytes;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n = utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(bytes - i), &code);
        int byte = n > 0 ? byte_of_code(code) : -1;
        if (byte < 0) return false;
        out[(*out_bytes)++] = (char)byte;
        i += (size_t)n;
    }
    return true;
}

enum { TOKEN_MAX_BYTES = 64 << 10 };

int qs_tokenizer_add_vocab(qs_tokenizer *t, const char *path, int64_t id, const char *text, size_t bytes, qs_err *e)
{
    if (id < 0 || id >= QS_VOCAB_MAX_ID)
        QS_FAIL(e, QS_EFORMAT, "%s: token \"%.60s\" has the id %lld; expected 0 to %d", path, text, (long long)id, QS_VOCAB_MAX_ID - 1);
    if (bytes > TOKEN_MAX_BYTES) QS_FAIL(e, QS_EFORMAT, "%s: token %lld is %zu bytes long", path, (long long)id, bytes);
    char raw[TOKEN_MAX_BYTES];
    size_t raw_bytes;
    bool mapped = t->byte_level && qs_bytes_of_byte_level(text, bytes, raw, &raw_bytes);
    /* A token outside of ByteLevel's alphabet can be written but never read. */
    bool hidden = t->byte_level && !mapped;
    if (!qs_vocab_add(&t->bpe.vocab, (int32_t)id, mapped ? raw : text, mapped ? raw_bytes : bytes, hidden))
        QS_FAIL(e, QS_EFORMAT, "%s: two tokens have the id %lld, one of them \"%.60s\"", path, (long long)id, text);
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
