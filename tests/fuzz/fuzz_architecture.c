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
    if (a.rotary_dim > 65536) return 0; /* what is checked is the arithmetic, not the patience */
    float *frequency = malloc((size_t)a.rotary_dim / 2 * sizeof *frequency + 1);
    qs_rope_frequencies(&a, 4096, frequency);
    free(frequency);
    return 0;
}
