/* profile.h - what `bench` measured, and the three files it becomes: profile.json, a Chrome trace, and a
 * report for people.
 *
 *     profile.c         sums and profile.json; the tables for the terminal
 *     profile_memory.c  which bytes of the plan hold something at each visit
 *     profile_limits.c  what the disk and the processor do alone
 *     profile_trace.c   trace.json
 *     profile_report.c, profile_chart.c  report.html
 */
#ifndef QS_REPORT_PROFILE_H
#define QS_REPORT_PROFILE_H

#include <jansson.h>
#include <stdio.h>

#include "src/train/engine.h"

typedef struct qs_profile_step {
    uint64_t start_ns, swept_ns, end_ns; /* begin, sweep done, update done */
    uint64_t update_disk_wait_ns;
    double loss;
    int64_t tokens;
    uint64_t disk_read_bytes, disk_write_bytes, link_bytes;
    qs_visit_time *visits; /* [schedule->count] */
    qs_recorder recorder;  /* of this step; usage [schedule->count] */
} qs_profile_step;

typedef struct qs_profile {
    const qs_engine *engine;
    const qs_schedule *schedule;
    const char *model;
    qs_profile_step *steps; /* [count] */
    int count;
    uint64_t peak_rss_bytes, device_peak_bytes; /* of the steps */
    double product_flops; /* FLOP/s of the best matrix product, measured after the steps */
    double disk_rate; /* bytes per second of the streamer without compute, likewise; 0: nothing is streamed */
    const qs_prediction *prediction; /* NULL: no such columns and fields */
} qs_profile;

/* Sums of a step's visits and its rates. */
typedef struct qs_profile_totals {
    double seconds, disk_wait, link_wait, make, verify;
    double update;                    /* without its waits for the disk, which are part of disk_wait */
    double compute;                   /* visits without waits, checksums and quantise on load */
    double tokens_per_second, gflops; /* 6 FLOP per parameter and token */
    double disk_bytes_per_second;     /* over the whole step */
    double disk_busy, link_busy;      /* seconds with transfers in flight, as far as seen */
    double disk_alone;    /* seconds in which the disk reads the step's bytes when nothing else happens */
    double hiding_tokens; /* tokens per step from which compute at this step's pace takes as long as that */
} qs_profile_totals;
qs_profile_totals qs_profile_total(const qs_profile *p, int step);

/* Seconds that the plan expected of a visit; with a prediction only. */
static inline double qs_profile_predicted(const qs_profile *p, int32_t v)
{
    return p->prediction->sim.visits[v].end - p->prediction->sim.visits[v].start;
}

/* Where a visit's time went, ns. */
typedef struct qs_profile_split {
    uint64_t disk_wait, link_wait, verify, make, compute;
} qs_profile_split;
qs_profile_split qs_profile_visit(const qs_profile *p, int step, int32_t v);

/* The transfers of a step in the order in which they ended, each from when the one before had ended (*until,
 * carried over from step to step): so they follow one another. Disk: reads and writes; else copies to the
 * device. out [recorder.count]; returns their number. */
int qs_profile_lane(const qs_profile_step *s, bool disk, uint64_t *until, qs_activity *out);

/* bytes [schedule->count][plan.item_count]: what of each item holds something during each visit of a step. */
void qs_profile_memory(const qs_profile *p, int step, uint64_t *bytes);

/* FLOP/s of the fastest of a few products of the model's kind on its device, in memory of its own that is
 * given back. 0 without that memory. */
double qs_profile_product_flops(const qs_engine *g);

/* Bytes per second that the streamer reads when nothing is computed, over a pass of the schedule or a few
 * seconds of it. */
int qs_profile_disk_rate(const qs_engine *g, const qs_schedule *schedule, double *rate, qs_err *e);

/* One of the three files. QS_EIO. The numbers of the report are those of profile.json. */
int qs_profile_write_json(const qs_profile *p, const char *path, qs_err *e);
int qs_profile_write_trace(const qs_profile *p, const char *path, qs_err *e);
int qs_profile_write_report(const qs_profile *p, const char *path, qs_err *e);

/* Charts of the report (profile_chart.c): a budget's bytes over a step, and a step in lanes. */
void qs_profile_draw_memory(FILE *f, const qs_profile *p, int step, bool device);
void qs_profile_draw_lanes(FILE *f, const qs_profile *p, int step);

/* Writes root compactly and frees it. */
int qs_profile_write_root(json_t *root, const char *path, qs_err *e);

/* The table for standard output; and two profile.json side by side with their ratios (of the last step). */
void qs_profile_print(const qs_profile *p, FILE *f);
int qs_profile_compare(const char *first, const char *second, FILE *f, qs_err *e);

#endif
