/* model_files.h - random checkpoints for tests, whose every element is known from its name.
 *
 *     test_tensor t[] = {{"a.weight", QS_BF16, 2, {8, 64}}, ...};
 *     test_model_write(dir, t, 2, 3, seed);       // 3 shards and their index; 1: model.safetensors
 *     float v = test_tensor_value(seed, "a.weight", i);
 */
#ifndef QS_TESTS_MODEL_FILES_H
#define QS_TESTS_MODEL_FILES_H

#include <stddef.h>
#include <stdint.h>

#include "src/base/dtype.h"

typedef struct test_tensor {
    const char *name;
    qs_dtype type;
    int dims;
    int64_t shape[8];
} test_tensor;

size_t test_tensor_elements(const test_tensor *t);

/* Element i before rounding to the tensor's type: uniform in [-1, 1) for floats, 0..255 for QS_U8, 31 bits
 * for QS_I32. */
float test_tensor_value(uint64_t seed, const char *name, uint64_t i);

/* All bytes of the tensor as they lie in the file; freed with qs_free. */
void *test_tensor_data(uint64_t seed, const test_tensor *t);

/* One safetensors file with {"format": "pt"}. Aborts on failure. */
void test_safetensors_write(const char *path, const test_tensor *tensors, int count, uint64_t seed);

/* A model directory: tensors are dealt to the shards round robin. Aborts on failure. */
void test_model_write(const char *dir, const test_tensor *tensors, int count, int shards, uint64_t seed);

#endif
