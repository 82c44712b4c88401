/* adapter_config.json of a PEFT adapter. */
#include "src/model/lora.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_peft_config c = {0};
    qs_err e = {0};
    fuzz_put("adapter_config.json", data, size);
    fuzz_watch(size);
    if (!qs_peft_read_config(fuzz_dir(), &c, &e)) qs_peft_config_free(&c);
    return 0;
}
