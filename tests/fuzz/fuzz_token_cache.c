/* A token cache whose checksums are right, so that what follows them is looked at. Its header is put in front
 * of what the input has. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/data/token_cache_file.h"
#include "tests/fuzz/fuzz.h"

/* Makes the sums of a changed file right. */
static void mend_sums(uint8_t *file, size_t size, const uint64_t key[2])
{
    qs_token_cache_header h;
    memcpy(&h, file, sizeof h);
    memcpy(h.magic, QS_TOKEN_CACHE_MAGIC, sizeof h.magic);
    memcpy(h.key, key, sizeof h.key);
    h.version = QS_TOKEN_CACHE_VERSION;
    h.header_bytes = sizeof h;
    h.file_bytes = size;
    h.content_hash = XXH3_64bits(file + QS_TOKEN_CACHE_TOKENS_AT, size - QS_TOKEN_CACHE_TOKENS_AT);
    h.header_hash = qs_token_cache_header_hash(&h);
    memcpy(file, &h, sizeof h);
}

static int use(const qs_data_options *o, char **path, uint64_t key[2], FILE *report)
{
    qs_token_cache *c;
    qs_err e = {0};
    int rc = qs_token_cache_open(o, report, NULL, NULL, &c, &e);
    if (rc) return rc;
    volatile uint64_t sum = 0;
    for (int64_t i = 0; i < c->sample_count; i++)
        for (int32_t k = 0; k < c->samples[i].tokens; k++)
            sum = sum + c->tokens[c->samples[i].first + (uint64_t)k];
    if (path) {
        *path = qs_strdup(c->path);
        memcpy(key, c->key, sizeof c->key);
    }
    qs_token_cache_close(c);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char *path, data_file[256];
    static uint64_t key[2];
    static FILE *nowhere;
    static const char rows[] = "{\"input_ids\": [1, 2, 3, 4]}\n{\"input_ids\": [5, 6]}\n";
    const char *files[] = {data_file};
    const qs_data_options o = {.data = files,
                               .data_count = 1,
                               .cache_dir = fuzz_subdir("c"),
                               .max_seq_length = 64,
                               .vocab_size = 100};
    if (!path) {
        snprintf(data_file, sizeof data_file, "%s", fuzz_put("rows.jsonl", rows, sizeof rows - 1));
        nowhere = fopen("/dev/null", "w");
        if (use(&o, &path, key, nowhere)) abort();
    }
    /* The input's first bytes are the header, the rest what follows the header's page. */
    size_t head = sizeof(qs_token_cache_header) < size ? sizeof(qs_token_cache_header) : size,
           total = QS_TOKEN_CACHE_TOKENS_AT + size - head;
    uint8_t *file = calloc(1, total);
    memcpy(file, data, head);
    memcpy(file + QS_TOKEN_CACHE_TOKENS_AT, data + head, size - head);
    mend_sums(file, total, key);
    fuzz_put(path + strlen(fuzz_dir()) + 1, file, total);
    free(file);
    fuzz_watch(size);
    use(&o, NULL, key, nowhere);
    return 0;
}
