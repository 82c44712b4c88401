/* byte_level.h - the alphabet in which byte-level tokenizers write bytes, so that their files are text. */
#ifndef QS_DATA_BYTE_LEVEL_H
#define QS_DATA_BYTE_LEVEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The code point that stands for a byte: itself where it is printable (0x21-0x7e, 0xa1-0xac, 0xae-0xff), else
 * U+0100 plus how many bytes before it are not. */
int32_t qs_byte_level_code(unsigned char byte);

/* A text of the alphabet as the bytes it stands for; false: it has a character outside of it. out holds
 * `bytes`, and may be the text itself. */
bool qs_bytes_of_byte_level(const char *text, size_t bytes, char *out, size_t *out_bytes);

#endif
