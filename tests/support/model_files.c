#include "tests/support/model_files.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io/safetensors.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/temp_dir.h"

size_t test_tensor_elements(const test_tensor *t)
{
    size_t n = 1;
    for (int d = 0; d < t->dims; d++) n *= (size_t)t->shape[d];
    return n;
}

static uint32_t word(uint64_t seed, const char *name, uint64_t i)
{
    return qs_random_u32(seed, XXH3_64bits(name, strlen(name)), i);
}

float test_tensor_value(uint64_t seed, const char *name, uint64_t i)
{
    return 2 * qs_uniform_f32(word(seed, name, i)) - 1;
}

void *test_tensor_data(uint64_t seed, const test_tensor *t)
{
    size_t n = test_tensor_elements(t);
    void *data = qs_malloc(n * qs_dtype_bytes(t->type));
    for (size_t i = 0; i < n; i++)
        if (t->type == QS_U8)
            ((uint8_t *)data)[i] = (uint8_t)word(seed, t->name, i);
        else if (t->type == QS_I32)
            ((int32_t *)data)[i] = (int32_t)(word(seed, t->name, i) >> 1);
        else
            qs_store_f32(data, t->type, i, test_tensor_value(seed, t->name, i));
    return data;
}

void test_safetensors_write(const char *path, const test_tensor *tensors, int count, uint64_t seed)
{
    qs_safetensors_entry *entries = qs_calloc((size_t)count, sizeof *entries);
    for (int i = 0; i < count; i++) {
        entries[i] = (qs_safetensors_entry){.name = tensors[i].name,
                                            .type = tensors[i].type,
                                            .dims = tensors[i].dims,
                                            .data = test_tensor_data(seed, &tensors[i])};
        memcpy(entries[i].shape, tensors[i].shape, sizeof entries[i].shape);
    }
    static const char *const metadata[] = {"format", "pt"};
    qs_err e = {0};
    if (qs_safetensors_write(path, entries, count, metadata, 1, &e)) {
        fprintf(stderr, "test support: %s\n", e.text);
        abort();
    }
    for (int i = 0; i < count; i++) qs_free((void *)entries[i].data);
    qs_free(entries);
}

void test_model_write(const char *dir, const test_tensor *tensors, int count, int shards, uint64_t seed)
{
    if (shards <= 1) {
        char *path = test_path(dir, "model.safetensors");
        test_safetensors_write(path, tensors, count, seed);
        qs_free(path);
        return;
    }
    json_t *map = json_object();
    uint64_t total = 0;
    test_tensor *mine = qs_calloc((size_t)count, sizeof *mine);
    for (int s = 0; s < shards; s++) {
        char *name = qs_printf("model-%05d-of-%05d.safetensors", s + 1, shards), *path = test_path(dir, name);
        int n = 0;
        for (int i = s; i < count; i += shards) {
            mine[n++] = tensors[i];
            total += test_tensor_elements(&tensors[i]) * qs_dtype_bytes(tensors[i].type);
            json_object_set_new(map, tensors[i].name, json_string(name));
        }
        test_safetensors_write(path, mine, n, seed);
        qs_free(name);
        qs_free(path);
    }
    qs_free(mine);
    json_t *index =
        json_pack("{s:{s:I}, s:o}", "metadata", "total_size", (json_int_t)total, "weight_map", map);
    char *text = json_dumps(index, JSON_INDENT(2)), *path = test_path(dir, "model.safetensors.index.json");
    test_file_write(path, text, strlen(text));
    qs_free(path);
    free(text);
    json_decref(index);
}
