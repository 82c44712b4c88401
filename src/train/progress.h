/* progress.h - what a person sees while training.
 *
 *     step 128/625  loss 1.8234  lr 1.96e-04  9,412 tok/s  ETA 2h05m  disk 1% link 0% compute 98%
 * vram 9.1/10.0G ram 11.2/16.0G
 *
 * (The shares are of the step's time: standing still for the disk, standing still for the link, computing.)
 * A line is printed every logging_steps. On a terminal the line in between is rewritten, also within a step
 * (a 70B step takes minutes); a narrow terminal shows its left part. Colour only on a terminal, and not with
 * NO_COLOR or --no-color. Writes to stderr, so that stdout stays for results.
 */
#ifndef QS_TRAIN_PROGRESS_H
#define QS_TRAIN_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "src/train/metrics.h"

typedef struct qs_progress {
    FILE *file; /* stderr */
    bool terminal, color, quiet;
    int64_t first_step; /* completed steps at the start of this process */
    int64_t total_steps, logging_steps;
    uint64_t vram_bytes, ram_bytes; /* the budgets */

    /* its own */
    double step_seconds; /* smoothed, for the ETA; before the first step a prediction, if there is one */
    uint64_t drawn_ns;   /* when the line was last rewritten */
    bool line_open;      /* a rewritten line stands at the cursor */
    qs_step_metrics last;
} qs_progress;

/* Detects the terminal of `file`; `no_color` is the option. */
void qs_progress_start(qs_progress *p, bool no_color);

/* A step has ended. */
void qs_progress_step(qs_progress *p, const qs_step_metrics *m);

/* Inside step `step`: `done` of `total` visits are through. Draws on a terminal only, at most five times a
 * second. */
void qs_progress_visit(qs_progress *p, int64_t step, int done, int total);

/* A validation result, as a line of its own. */
void qs_progress_eval(qs_progress *p, const qs_eval_metrics *m);

/* Leaves the rewritten line, so that other text can follow. */
void qs_progress_break(qs_progress *p);

#endif
