/* vocab.json, merges.txt, and the files of special tokens that may lie beside them. */
#include "tests/fuzz/fuzz_tokenizer_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"t/vocab.json",
                                        "t/merges.txt",
                                        "t/tokenizer_config.json",
                                        "t/special_tokens_map.json",
                                        "t/added_tokens.json",
                                        "t/generation_config.json"};
    enum { NAMES = sizeof names / sizeof *names };
    fuzz_part part[NAMES];
    const char *dir = fuzz_subdir("t");
    int count = fuzz_split(data, size, part, NAMES);
    for (int i = 0; i < NAMES; i++) {
        if (i < count)
            fuzz_put(names[i], part[i].data, part[i].size);
        else
            fuzz_remove(names[i]);
    }
    fuzz_use_tokenizer(dir, size);
    return 0;
}
