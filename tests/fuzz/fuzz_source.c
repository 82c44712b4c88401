/* A model directory: the index of its shards, and two shards. */
#include "io/checkpoint_source.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    fuzz_part part[3];
    fuzz_split(data, size, part, 3);
    const char *dir = fuzz_subdir("m");
    fuzz_put("m/model.safetensors.index.json", part[0].data, part[0].size);
    fuzz_put("m/model-00001-of-00002.safetensors", part[1].data, part[1].size);
    fuzz_put("m/model-00002-of-00002.safetensors", part[2].data, part[2].size);
    qs_source *s;
    qs_err e = {0};
    fuzz_watch(size);
    if (qs_source_open(dir, &s, &e)) return 0;
    for (int i = 0; i < qs_source_count(s); i++) qs_source_find(s, qs_source_at(s, i)->name);
    qs_source_close(s);
    return 0;
}
