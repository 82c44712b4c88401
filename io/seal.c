#include "io/seal.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "src/base/error.h"

enum { DIGITS = 16 };

const qs_seal qs_seal_json = {",\n  \"checksum\": \"", "\"\n}\n"};
const qs_seal qs_seal_row = {",\"checksum\":\"", "\"}\n"};
const qs_seal qs_seal_comment = {"# checksum: ", "\n"};

size_t qs_seal_make(const qs_seal *seal, const char *text, size_t bytes, char *out)
{
    int n = snprintf(out, QS_SEAL_BYTES, "%s%016" PRIx64 "%s", seal->open, (uint64_t)XXH3_64bits(text, bytes),
                     seal->close);
    QS_ASSERT(n > 0 && n < QS_SEAL_BYTES);
    return (size_t)n;
}

qs_seal_state qs_seal_check(const qs_seal *seal, const char *text, size_t bytes)
{
    size_t length = strlen(seal->open) + DIGITS + strlen(seal->close);
    if (bytes < length || memcmp(text + bytes - length, seal->open, strlen(seal->open)))
        return QS_SEAL_ABSENT;
    char expected[QS_SEAL_BYTES];
    qs_seal_make(seal, text, bytes - length, expected);
    return memcmp(text + bytes - length, expected, length) ? QS_SEAL_BROKEN : QS_SEAL_HOLDS;
}
