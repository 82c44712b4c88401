/* The quant_state of a weight that bitsandbytes stored in 4 bits, for each form that its tensors can have. */
#include "src/model/stored_quant.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const qs_quant_config forms[] = {{QS_QUANT_NF4, true}, {QS_QUANT_FP4, false}};
    fuzz_watch(size);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        qs_err e = {0};
        float offset;
        qs_stored_state_read((const char *)data, size, "model.safetensors", "q.weight.quant_state", forms[i],
                             64, 128, &offset, &e);
    }
    return 0;
}
