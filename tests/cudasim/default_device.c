/* default_device.c - linked into a test that knows nothing of the simulator: gives it a simulated device, and
 * the wish to use it. */
#include <stdlib.h>

#include "tests/cudasim/cudasim.h"

__attribute__((constructor)) static void start(void)
{
    cudasim_reset(&(cudasim_config){.seed = 5, .capacity_bytes = (size_t)4 << 30});
    setenv("QS_TEST_DEVICE", "cuda", 1);
}
