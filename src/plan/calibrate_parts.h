/* calibrate_parts.h - the table of measurements. Private to src/plan/calibrate*.c. */
#ifndef QS_PLAN_CALIBRATE_PARTS_H
#define QS_PLAN_CALIBRATE_PARTS_H

#include "src/plan/calibrate.h"

enum {
    QS_CURVE_POINTS = 4,
    QS_CALIBRATE_DEPTH = 64,
    QS_CALIBRATE_CHUNK = 1 << 20 /* as a run reads: src/train/engine.c, io/aio.h */
};

/* Seconds of one operation over rows (of attention: over the length of one document). */
typedef struct qs_curve {
    char text[160];
    int count;
    double n[QS_CURVE_POINTS], seconds[QS_CURVE_POINTS]; /* n ascending */
} qs_curve;

struct qs_calibration {
    qs_calibrate_config c;
    char *path, *tensor; /* c.tensor is this copy */
    char touch_key[32];
    qs_curve *curves;
    int count, capacity;
    double disk_read, disk_write, disk_latency, verify, link_in, link_out,
        quantise_on_load; /* bytes per second, seconds; 0: not measured */
};

bool qs_call_is_attention(const qs_op_call *c);
int64_t qs_call_length(const qs_op_call *c); /* what its curve runs over */
bool qs_call_has_curve(const qs_op_call *c); /* its time per row or token depends on how many there are */
void qs_calibration_text(const qs_op_call *call, char text[160]);
qs_curve *qs_calibration_curve(qs_calibration *k, const char *text, bool add);
bool qs_calibration_has(const qs_calibration *k, const qs_op_call *call);
int qs_calibration_write(const qs_calibration *k, qs_err *e);

/* calibrate_io.c: what is still 0. */
int qs_calibrate_disk(qs_calibration *k, qs_err *e);
int qs_calibrate_link(qs_calibration *k, qs_err *e);
int qs_calibrate_quantise_on_load(qs_calibration *k, qs_err *e);

#endif
