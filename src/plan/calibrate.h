/* calibrate.h - this machine's rates, measured once: the operations of a job at its own shapes, the disk of
 * the cache, the link, the host's checksums and quantising.
 *
 * What was measured is kept in DIR/calibration-KEY.json, KEY a hash of device name, threads and format
 * version; operations are listed by kind, types and shape, so a second job of the same shapes measures
 * nothing. A file that cannot be read is measured anew. Times are the fastest of a few calls, so a machine
 * that is busy with something else shows as a run slower than its prediction. An operation that would take
 * long at its full number of rows is measured with fewer, and times in between and beyond are on the straight
 * line through what was measured. Takes seconds, 20 at most as a rule.
 */
#ifndef QS_PLAN_CALIBRATE_H
#define QS_PLAN_CALIBRATE_H

#include "io/aio.h"
#include "io/checkpoint_source.h"
#include "src/plan/costs.h"
#include "src/plan/rates.h"

typedef struct qs_calibration qs_calibration;

typedef struct qs_calibrate_config {
    qs_device *device, *cpu; /* the same on the CPU */
    const char *dir;         /* where the file is kept and the disk is measured; created */
    qs_aio_engine io_engine;
    qs_source *source;  /* NULL: quantise on load is not measured */
    const char *tensor; /* a large tensor of it; copied */
    qs_quant_config quant;
    uint64_t disk_bytes; /* size of the file that the disk is measured with; 0: 64 MiB */
    bool renew;          /* measure everything again */
    bool quiet;
    bool processor_time; /* by processor time over threads: for comparisons on a busy machine */
} qs_calibrate_config;

/* Reads what is known. Never fails: a missing or damaged file is an empty one. Free with qs_calibration_free.
 */
qs_calibration *qs_calibration_open(const qs_calibrate_config *c);
void qs_calibration_free(qs_calibration *k);

/* Whether these operations, and the disk, can be priced. */
bool qs_calibration_knows(const qs_calibration *k, const qs_costs *costs);

/* Measures what is not known yet and writes the file; says so in one line. Memory: one block of device memory
 * as large as the largest operation or a layer's weights (at most 512 MiB of these), freed again. Errors:
 * QS_EIO of the directory, QS_ENOMEM. */
int qs_calibration_measure(qs_calibration *k, const qs_costs *costs, qs_err *e);

/* Whether its weights are made as they are read (io/synthetic.h): then quantise on load waits for no disk. */
bool qs_source_is_recipe(const qs_source *s);

/* Rates that borrow the calibration. */
qs_rates qs_calibration_rates(const qs_calibration *k);

#endif
