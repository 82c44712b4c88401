/* rates.h - what a machine does per second: the other half of a prediction, beside the work (costs.h).
 *
 * Three makers: measured here (calibrate.h), a card's data sheet (hardware.h), and the nominal machines
 * below, which are the same everywhere and so may decide numeric identity.
 */
#ifndef QS_PLAN_RATES_H
#define QS_PLAN_RATES_H

#include "kernels/meta_device.h"
#include "offload/simulate.h"

typedef struct qs_rates {
    double (*seconds)(const void *context, const qs_op_call *call); /* of one call of an operation */
    const void *context;
    qs_sim_rates io;
    double quantise_on_load; /* host: bytes of 16-bit weights made into blobs per second, reading aside */
    double launch_seconds;   /* host, per operation on a discrete device */
} qs_rates;

/* All calls of a list. */
double qs_rates_total(const qs_rates *r, const qs_op_list *l);
int64_t qs_rates_calls(const qs_op_list *l);

/* A data sheet: an operation takes as long as its arithmetic or its memory traffic, whichever is longer, and
 * a launch. Matrix products of few rows are slower: the arithmetic rate is flops * rows / (rows + half_rows).
 */
typedef struct qs_sheet {
    double product_flops, attention_flops; /* per second */
    double memory_bytes;                   /* per second */
    double launch;                         /* seconds per operation */
    double half_rows;
} qs_sheet;
double qs_sheet_seconds(const void *sheet, const qs_op_call *call);

/* The nominal machines: no machine in particular, one whose device is its processor and one with a card. */
extern const qs_rates qs_rates_nominal_cpu, qs_rates_nominal_card;

#endif
