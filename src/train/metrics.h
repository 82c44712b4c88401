/* metrics.h - OUT/metrics.jsonl, one JSON object per optimizer step or validation, and the same as TensorBoard events.
 *
 * Every row is one write(2), so a killed run loses no finished row to buffering; qs_metrics_sync makes them durable and is
 * called before a checkpoint is published. On resume rows after the checkpoint's step, and a torn last row, are cut off: the
 * file then has the rows of a run that was never stopped. (Validate before saving a checkpoint of the same step.)
 */
#ifndef QS_TRAIN_METRICS_H
#define QS_TRAIN_METRICS_H

#include <stdbool.h>
#include <stdint.h>

#include "src/base/error.h"

/* One optimizer step. docs/formats.md says the same for readers of the file. */
typedef struct qs_step_metrics {
    int64_t step;                 /* 1 for the first */
    double loss;                  /* mean over the target tokens of the step, nats */
    double learning_rate;         /* used by this step */
    double grad_norm;             /* before clipping; not finite in a skipped step */
    double loss_scale;            /* of fp16 (src/train/loss_scale.h); 0: not reported */
    int64_t tokens;               /* that went through the model, masked ones included */
    double tokens_per_second;
    double step_seconds;          /* wall time */
    double wait_disk_seconds;     /* compute stood still for the disk */
    double wait_link_seconds;     /* compute stood still for the link to the device */
    double compute_seconds;
    uint64_t disk_read_bytes, disk_write_bytes, link_bytes;
    uint64_t device_peak_bytes, host_peak_bytes; /* of the process so far */
    double predicted_step_seconds; /* the plan's; 0: no prediction */
} qs_step_metrics;

/* One validation pass, after optimizer step `step`. */
typedef struct qs_eval_metrics {
    int64_t step;
    double eval_loss;       /* mean over the target tokens, nats; perplexity is its exponential */
    int64_t eval_tokens;    /* target tokens */
    double eval_seconds;
} qs_eval_metrics;

typedef struct qs_metrics qs_metrics;

/* Opens OUT/metrics.jsonl for appending; rows with a step beyond `last_step` are cut off (0: all rows; nothing has been done yet). `tensorboard`
 * also writes OUT/events.out.tfevents.*. QS_EIO names the file; a file that is not ours is QS_EFORMAT and stays untouched. */
int qs_metrics_open(const char *out_dir, int64_t last_step, bool tensorboard, qs_metrics **out, qs_err *e);
void qs_metrics_close(qs_metrics *m); /* NULL is fine */

/* Append a row. A non-finite number is written as null. */
int qs_metrics_step(qs_metrics *m, const qs_step_metrics *row, qs_err *e);
int qs_metrics_eval(qs_metrics *m, const qs_eval_metrics *row, qs_err *e);

/* Makes what was written durable. Blocks on the disk. */
int qs_metrics_sync(qs_metrics *m, qs_err *e);

#endif
