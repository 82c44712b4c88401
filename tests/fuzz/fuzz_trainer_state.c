/* trainer_state.json of a checkpoint. */
#include "src/base/memory.h"
#include "src/train/run_state.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const char *dir = fuzz_subdir("checkpoint-2");
    fuzz_put("checkpoint-2/adapter_model.safetensors", "a", 1);
    fuzz_put("checkpoint-2/adapter_config.json", "b", 1);
    fuzz_put("checkpoint-2/optimizer.bin", "c", 1);
    fuzz_put("checkpoint-2/trainer_state.json", data, size);
    qs_run_state state;
    char *path = NULL;
    qs_err e = {0};
    fuzz_watch(size);
    qs_run_state_find(fuzz_dir(), dir, &path, &state, &e);
    qs_free(path);
    qs_run_state_find(fuzz_dir(), NULL, &path, &state, &e);
    qs_free(path);
    return 0;
}
