/* journal.bin of a layer cache. The input is what the bytes of a good journal are changed by: it begins where
 * damage does. */
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/layer_cache.h"
#include "src/base/memory.h"
#include "tests/fuzz/fuzz.h"

enum { BLOBS = 3, BLOB_BYTES = 4096 };
static const uint64_t blob_bytes[BLOBS] = {BLOB_BYTES, BLOB_BYTES, BLOB_BYTES};
static const qs_cache_key key = {.model = "model",
                                 .fingerprint = "0123456789abcdef0123456789abcdef",
                                 .format = "nf4 test",
                                 .blobs = BLOBS,
                                 .blob_bytes = blob_bytes};

/* The journal of a cache whose blobs are all there. */
static char *good_journal(const char *dir, size_t *bytes)
{
    void *blob = calloc(1, BLOB_BYTES);
    qs_cache *c;
    qs_err e = {0};
    char *journal = NULL, *path = qs_path_join(dir, "journal.bin");
    if (qs_cache_open(&dir, 1, &key, &c, &e)) abort();
    for (int i = 0; i < BLOBS; i++)
        if (qs_cache_commit(c, i, blob, 7, &e)) abort();
    qs_cache_close(c);
    if (qs_file_read(path, 1 << 20, &journal, bytes, &e)) abort();
    qs_free(path);
    free(blob);
    return journal;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *good;
    static size_t bytes;
    const char *dir = fuzz_subdir("c");
    if (!good) good = good_journal(dir, &bytes);
    uint8_t *changed = malloc(size + 1);
    for (size_t i = 0; i < size; i++) changed[i] = (uint8_t)(data[i] ^ (uint8_t)good[i % bytes]);
    fuzz_put("c/journal.bin", changed, size);
    free(changed);
    qs_cache *c;
    qs_err e = {0};
    fuzz_watch(size);
    if (qs_cache_open(&dir, 1, &key, &c, &e)) return 0;
    for (int i = 0; i < BLOBS; i++) qs_cache_has(c, i);
    qs_cache_close(c);
    return 0;
}
