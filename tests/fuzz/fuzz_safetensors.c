/* A safetensors file: its header, and the values of a tensor. */
#include <stdlib.h>

#include "io/safetensors.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *path = fuzz_put("x.safetensors", data, size);
    qs_err e = {0};
    qs_safetensors s;
    fuzz_watch(size);
    if (qs_safetensors_open(path, &s, &e)) return 0;
    for (int i = 0; i < s.count && i < 8; i++) {
        int64_t n =
            s.tensors[i].readable ? (int64_t)(s.tensors[i].bytes / qs_dtype_bytes(s.tensors[i].type)) : 1;
        float *values = malloc((size_t)n * sizeof *values + 1);
        qs_safetensors_read_f32(path, &s.tensors[i], values, n, &e);
        free(values);
    }
    qs_safetensors_free(&s);
    return 0;
}
