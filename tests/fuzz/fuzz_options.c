/* A file of options. */
#include "src/options/options.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_options o = {0};
    qs_err e = {0};
    fuzz_watch(size);
    const qs_option_set set = {&qs_training_options, &o};
    qs_options_defaults(&o);
    if (!qs_option_read_yaml(&set, 1, "run.yaml", (const char *)data, size, QS_FROM_CONFIG, &e))
        qs_options_check_train(&o, &e);
    qs_options_free(&o);
    return 0;
}
