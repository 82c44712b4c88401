#include "src/data/byte_level.h"

#include <utf8proc.h>

int32_t qs_byte_level_code(unsigned char byte)
{
    if ((byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae) return byte;
    return byte < 0x21 ? 0x100 + byte : byte == 0xad ? 0x143 : 0x121 + byte - 0x7f;
}

static int byte_of_code(utf8proc_int32_t code)
{
    if ((code >= 0x21 && code <= 0x7e) || (code >= 0xa1 && code <= 0xac) || (code >= 0xae && code <= 0xff))
        return code;
    if (code >= 0x100 && code <= 0x120) return code - 0x100;
    if (code >= 0x121 && code <= 0x142) return code - 0x121 + 0x7f;
    return code == 0x143 ? 0xad : -1;
}

bool qs_bytes_of_byte_level(const char *text, size_t bytes, char *out, size_t *out_bytes)
{
    *out_bytes = 0;
    for (size_t i = 0; i < bytes;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t n =
            utf8proc_iterate((const utf8proc_uint8_t *)text + i, (utf8proc_ssize_t)(bytes - i), &code);
        int byte = n > 0 ? byte_of_code(code) : -1;
        if (byte < 0) return false;
        out[(*out_bytes)++] = (char)byte;
        i += (size_t)n;
    }
    return true;
}
