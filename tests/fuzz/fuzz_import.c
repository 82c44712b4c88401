/* A configuration of another trainer. */
#include "src/options/import.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_import import;
    qs_err e = {0};
    fuzz_watch(size);
    qs_import_config("config.yaml", (const char *)data, size, &import, &e);
    qs_import_free(&import);
    return 0;
}
