/* fuzz_tokenizer_common.h - what every tokenizer target does with a directory that it has filled. */
#ifndef QS_TESTS_FUZZ_FUZZ_TOKENIZER_COMMON_H
#define QS_TESTS_FUZZ_FUZZ_TOKENIZER_COMMON_H

#include <string.h>

#include "src/base/memory.h"
#include "src/data/tokenizer.h"
#include "tests/fuzz/fuzz.h"

/* Opens it; when it can be opened, a text goes there and back. */
static inline void fuzz_use_tokenizer(const char *dir, size_t size)
{
    static const char text[] = "Hello  world!\n\t<s>abc</s> na\xc3\xafve \xe4\xbd\xa0\xe5\xa5\xbd 123,456 "
                               "\xff\xf0\x9f\x98\x80 the end";
    qs_tokenizer *t;
    qs_err e = {0};
    fuzz_watch(size);
    if (qs_tokenizer_open(dir, &t, &e)) return;
    for (unsigned flags = 0; flags < 8; flags++) {
        qs_ids ids = {0};
        if (!qs_tokenizer_encode(t, text, sizeof text - 1, flags, &ids, &e))
            qs_free(qs_tokenizer_decode(t, ids.data, ids.count, flags & 3, NULL));
        qs_ids_free(&ids);
    }
    qs_tokenizer_bos_text(t);
    qs_tokenizer_eos_text(t);
    qs_tokenizer_close(t);
}

#endif
