/* predict.h - how long a step of a job will take: the operations of its visits (costs.h) at a machine's rates
 * (rates.h), replayed (offload/simulate.h). */
#ifndef QS_PLAN_PREDICT_H
#define QS_PLAN_PREDICT_H

#include "src/plan/costs.h"
#include "src/plan/rates.h"

/* A job as one placement has it. */
typedef struct qs_placed_job {
    qs_sweep_config sweep;   /* complete */
    qs_update_config update; /* on_disk holds for masters and gradients too */
    const qs_plan *plan;
    const uint64_t *blob_bytes;
    int32_t tokens, document_tokens; /* see src/plan/job.h */
    bool recipe;
} qs_placed_job;

typedef struct qs_prediction {
    bool known;                /* otherwise all is zero: this machine has not been measured for this job */
    double step_seconds;       /* in the steady state */
    double first_step_seconds; /* from an empty layer cache */
    double tokens;             /* of a step */
    double bound_seconds;      /* no placement of the same bytes is faster */
    double hide_tokens;        /* tokens per step that would hide what is streamed; 0: nothing is */
    uint64_t disk_write_bytes; /* of a steady step */
    qs_schedule schedule;      /* the visits that sim.visits are parallel to */
    qs_sim_result sim;
} qs_prediction;

/* Pure. Free with qs_prediction_free. */
void qs_predict(const qs_placed_job *job, const qs_rates *rates, qs_prediction *out);
void qs_prediction_free(qs_prediction *p);

#endif
