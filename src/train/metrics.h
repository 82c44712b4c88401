/* metrics.h - OUT/metrics.jsonl, one JSON object per optimizer step or validation, and the same as
 * TensorBoard events.
 *
 * Every row is one write(2), so a killed run loses no finished row to buffering; qs_metrics_sync makes them
 * durable and is called before a checkpoint is published. On resume rows after the checkpoint's step, and a
 * torn last row, are cut off: the file then has the rows of a run that was never stopped.
 *
 * Metrics never stop training. Rows that a full disk has no room for wait in memory, and the next row tries
 * again. A file with rows whose checksum (their last member) does not fit, or that are no rows at all, is
 * kept as metrics.damaged-N.jsonl, and the good rows go on in a new one.
 */
#ifndef QS_TRAIN_METRICS_H
#define QS_TRAIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "src/base/error.h"

/* One optimizer step. docs/formats.md says the same for readers of the file. */
typedef struct qs_step_metrics {
    int64_t step;         /* 1 for the first */
    double loss;          /* mean over the target tokens of the step, nats */
    double learning_rate; /* used by this step */
    double grad_norm;     /* before clipping; not finite in a skipped step */
    double loss_scale;    /* of fp16 (src/train/loss_scale.h); 0: not reported */
    int64_t tokens;       /* that went through the model, masked ones included */
    double tokens_per_second;
    double step_seconds;      /* wall time */
    double wait_disk_seconds; /* compute stood still for the disk */
    double wait_link_seconds; /* compute stood still for the link to the device */
    double compute_seconds;
    uint64_t disk_read_bytes, disk_write_bytes, link_bytes;
    uint64_t device_peak_bytes, host_peak_bytes; /* of the process so far */
    double predicted_step_seconds;               /* the plan's; 0: no prediction */
} qs_step_metrics;

/* One validation pass, after optimizer step `step`. */
typedef struct qs_eval_metrics {
    int64_t step;
    double eval_loss;    /* mean over the target tokens, nats; perplexity is its exponential */
    int64_t eval_tokens; /* target tokens */
    double eval_seconds;
} qs_eval_metrics;

/* Of a mean loss in nats. */
double qs_perplexity(double loss);

typedef struct qs_metrics qs_metrics;

/* Opens OUT/metrics.jsonl for appending; rows with a step beyond `last_step` are cut off (0: all rows;
 * nothing has been done yet), and with `validate_again` also the validation of last_step. `tensorboard` also
 * writes OUT/events.out.tfevents.*. QS_EIO names the file. */
typedef struct qs_metrics_begin {
    int64_t last_step;
    bool validate_again, tensorboard;
} qs_metrics_begin;
int qs_metrics_open(const char *out_dir, const qs_metrics_begin *begin, qs_metrics **out, qs_err *e);
/* Tries once more to write what waits. NULL is fine. */
void qs_metrics_close(qs_metrics *m);

/* Append a row. A non-finite number is written as null. */
void qs_metrics_step(qs_metrics *m, const qs_step_metrics *row);
void qs_metrics_eval(qs_metrics *m, const qs_eval_metrics *row);

/* Rows that are not in the file: they wait for room, or there was no more room for them in memory either. */
int64_t qs_metrics_missing(const qs_metrics *m);

/* Makes what was written durable. Blocks on the disk. */
void qs_metrics_sync(qs_metrics *m);

#endif
