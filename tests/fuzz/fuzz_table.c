/* A CSV or TSV file of training rows; the first byte chooses the name, and so whether it is taken for a table
 * by name or by its header. */
#include "src/data/dataset.h"
#include "src/data/unpack.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"rows.csv", "rows.tsv", "rows.data"};
    qs_dataset *d;
    qs_row row;
    qs_err e = {0};
    if (!size || qs_unpack_kind(data + 1, size - 1) != QS_PACKED_NOT) return 0; /* fuzz_packed.c unpacks */
    const char *path = fuzz_put(names[*data % 3], data + 1, size - 1);
    fuzz_watch(size);
    if (qs_dataset_open(path, NULL, &d, &e)) return 0;
    volatile char last = 0;
    for (int rc; (rc = qs_dataset_next(d, &row, &e));) {
        if (rc < 0 && !qs_dataset_goes_on(d)) break;
        if (rc < 0) continue;
        const qs_text *texts[] = {&row.instruction, &row.input, &row.output, &row.system};
        for (int i = 0; i < 4; i++) last = texts[i]->data[texts[i]->bytes];
    }
    (void)last;
    qs_dataset_close(d);
    return 0;
}
