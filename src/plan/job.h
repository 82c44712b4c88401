/* job.h - what a run was asked for and what it trains on, with everything automatic decided. Nothing changes
 * it once it is made: a plan is a function of a job, a placement and rates.
 */
#ifndef QS_PLAN_JOB_H
#define QS_PLAN_JOB_H

#include "io/checkpoint_source.h"
#include "src/data/batch.h"
#include "src/data/token_cache.h"
#include "src/options/options.h"
#include "src/step/sweep.h"
#include "src/step/update.h"

/* What a resumed run must keep, from its checkpoint. */
typedef struct qs_numeric_identity {
    int32_t mlp_rows, head_rows;
    int32_t micro_batch_rows; /* sequences of a micro-batch; 0: an old checkpoint, whose options say */
    int32_t threads;
    char device[16];            /* backend: "cpu", "cuda" */
    char kernels[128], isa[16]; /* what decides the bits (qs_device_kernels), and the instruction set it ran
                                   on; empty: unknown */
    char compute_dtype[8];      /* as qs_dtype_name says */
} qs_numeric_identity;

/* Everything is borrowed. */
typedef struct qs_job {
    const qs_options *options; /* as asked for; 0 in them may mean that this struct says */
    qs_numeric_identity keep;  /* zero: a new run */
    uint64_t vram_bytes, ram_bytes;
    int32_t micro_batch_rows; /* sequences of a micro-batch */
    qs_source *source;
    const uint64_t *blob_bytes; /* [blobs] */
    bool recipe;                /* the weights are made as they are read */
    qs_sweep_config sweep; /* sizes included, but for what a placement decides: tiles, what is saved, sweeps,
                              checkpoints_on_disk */
    qs_update_config update; /* but for on_disk */
    int32_t tokens;          /* of a micro-batch, on average */
    int32_t document_tokens; /* of a document: what a token's attention is over, on average */
} qs_job;

/* Sets the sizes from the options alone: `rows` sequences in each of `micro_batches`. */
void qs_job_set_sizes(qs_job *j, int64_t rows, int64_t micro_batches);

/* And from data, once it is cut into batches. eval may be NULL. */
void qs_job_set_data(qs_job *j, const qs_batch_info *info, const qs_token_cache *train,
                     const qs_token_cache *eval);

#endif
