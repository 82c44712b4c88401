/* tokenizer.json, and tokenizer_config.json beside it. */
#include "tests/fuzz/fuzz_tokenizer_common.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_part part[2];
    const char *dir = fuzz_subdir("t");
    fuzz_remove("t/tokenizer_config.json");
    if (fuzz_split(data, size, part, 2) > 1) fuzz_put("t/tokenizer_config.json", part[1].data, part[1].size);
    fuzz_put("t/tokenizer.json", part[0].data, part[0].size);
    fuzz_use_tokenizer(dir, size);
    return 0;
}
