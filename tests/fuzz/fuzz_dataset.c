/* A file of training rows in any of the forms that are read. */
#include "src/data/dataset.h"
#include "src/data/unpack.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    qs_dataset *d;
    qs_row row;
    qs_err e = {0};
    if (qs_unpack_kind(data, size) != QS_PACKED_NOT) return 0; /* fuzz_packed.c unpacks */
    const char *path = fuzz_put("rows.jsonl", data, size);
    fuzz_watch(size);
    if (qs_dataset_open(path, NULL, &d, &e)) return 0;
    volatile char last = 0;
    for (int rc; (rc = qs_dataset_next(d, &row, &e));) {
        if (rc < 0 && !qs_dataset_goes_on(d)) break;
        if (rc < 0) continue;
        const qs_text *texts[] = {&row.instruction, &row.input, &row.output, &row.system};
        for (int i = 0; i < 4; i++)
            if (texts[i]->data) last = texts[i]->data[texts[i]->bytes];
        for (size_t i = 0; i < row.id_count; i++)
            last = (char)(row.ids[i] + (row.labels ? row.labels[i] : 0));
    }
    (void)last;
    qs_dataset_close(d);
    return 0;
}
