/* manifest.json of a layer cache. */
#include "io/layer_cache.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t bytes[] = {4096, 8192, 4096};
    const qs_cache_key key = {.model = "model",
                              .fingerprint = "0123456789abcdef0123456789abcdef",
                              .format = "nf4 test",
                              .blobs = 3,
                              .blob_bytes = bytes};
    const char *dir = fuzz_subdir("c");
    qs_cache *c;
    qs_err e = {0};
    fuzz_put("c/manifest.json", data, size);
    fuzz_watch(size);
    if (!qs_cache_open(&dir, 1, &key, &c, &e)) qs_cache_close(c);
    return 0;
}
