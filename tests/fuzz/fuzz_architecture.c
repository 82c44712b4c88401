/* config.json of a model. */
#include <stdlib.h>

#include "src/model/architecture.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_architecture a;
    qs_err e = {0};
    fuzz_watch(size);
    if (qs_architecture_parse("config.json", (const char *)data, size, &a, &e)) return 0;
    qs_architecture_parameters(&a);
    for (int i = 0; i < a.rotaries; i++) {
        const qs_rotary *r = &a.rotary[i];
        if (r->dim > 65536) continue; /* what is checked is the arithmetic, not the patience */
        float *frequency = malloc((size_t)r->dim / 2 * sizeof *frequency + 1);
        qs_rotary_frequencies(r, 4096, frequency);
        free(frequency);
    }
    return 0;
}
