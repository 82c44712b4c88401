/* profile.h - what `bench` measured, and the three files it becomes: profile.json, a Chrome trace, and a report for people. */
#ifndef QS_COMMANDS_PROFILE_H
#define QS_COMMANDS_PROFILE_H

#include <jansson.h>

#include "src/train/engine.h"

typedef struct qs_profile_step {
    uint64_t start_ns, swept_ns, end_ns; /* begin, sweep done, update done */
    double loss;
    int64_t tokens;
    uint64_t disk_read_bytes, disk_write_bytes, link_bytes;
    qs_visit_time *visits;               /* [schedule->count] */
} qs_profile_step;

typedef struct qs_profile {
    const qs_engine *engine;
    const qs_schedule *schedule;
    const char *model;
    qs_profile_step *steps;              /* [count] */
    int count;
} qs_profile;

/* Sums of a step's visits and its rates. */
typedef struct qs_profile_totals {
    double seconds, disk_wait, link_wait, make, update;
    double tokens_per_second, gflops;    /* 6 FLOP per parameter and token */
    double disk_bytes_per_second;
} qs_profile_totals;
qs_profile_totals qs_profile_total(const qs_profile *p, int step);

/* One of the three files. QS_EIO. The numbers of the report are those of profile.json. */
int qs_profile_write_json(const qs_profile *p, const char *path, qs_err *e);
int qs_profile_write_trace(const qs_profile *p, const char *path, qs_err *e);
int qs_profile_write_report(const qs_profile *p, const char *path, qs_err *e);

/* The table for standard output; and two profile.json side by side with their ratios (of the last step). */
void qs_profile_print(const qs_profile *p, FILE *f);
int qs_profile_compare(const char *first, const char *second, FILE *f, qs_err *e);

#endif
