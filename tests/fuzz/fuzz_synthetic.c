/* A recipe of generated weights. */
#include "io/checkpoint_source.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_source *s;
    qs_err e = {0};
    fuzz_watch(size);
    if (!qs_source_open_recipe("recipe", (const char *)data, size, &s, &e)) qs_source_close(s);
    return 0;
}
