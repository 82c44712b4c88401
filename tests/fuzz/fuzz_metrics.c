/* metrics.jsonl of a run that goes on. */
#include "src/train/metrics.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_metrics *m;
    qs_err e = {0};
    fuzz_put("metrics.jsonl", data, size);
    fuzz_watch(size);
    if (qs_metrics_open(fuzz_dir(), &(qs_metrics_begin){.last_step = 3}, &m, &e)) return 0;
    qs_metrics_step(m, &(qs_step_metrics){.step = 4, .loss = 1});
    qs_metrics_close(m);
    return 0;
}
