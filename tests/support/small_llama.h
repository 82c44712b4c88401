/* small_llama.h - a random Llama of any size, with data, for tests that need more layers or larger ones than
 * the golden models have. */
#ifndef QS_TESTS_SMALL_LLAMA_H
#define QS_TESTS_SMALL_LLAMA_H

#include <stdint.h>

typedef struct test_llama {
    int64_t hidden, ffn, layers, heads, vocab;
    int rows, row_tokens; /* of the data */
} test_llama;

/* Writes DIR/config.json, DIR/model.safetensors and DIR/data.jsonl (rows of input_ids). Aborts on failure. */
void test_llama_write(const char *dir, const test_llama *m);

#endif
