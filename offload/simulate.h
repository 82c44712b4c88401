/* simulate.h - the schedule replayed against rates: how long a step will take, and what it will wait for.
 *
 * The replay takes the schedule, the plan's homes and slots, and the streamer's own policy
 * (offload/residency.h), and gives every transfer to a resource of known speed: the disk (reads and writes
 * share it, in order), the host (checksums, quantising, on a shared device also the compute), the link in,
 * the link out, the device. It is pure, takes well below a millisecond for 80 layers, and makes a few
 * allocations.
 *
 *     disk ---> host slot ---> (checksum: host) ---link in--> device slot ---> compute ---link out-->
 * checkpoints
 *
 * Three steps are replayed: the first finds memory empty (and the cache too, unless `cached`), the third is
 * reported as the steady state, which the palindrome of visits has reached by then.
 *
 * As in io/aio.h, only `unattended_bytes` move while the host computes; where it computes, it looks at the
 * disk again after each operation.
 */
#ifndef QS_OFFLOAD_SIMULATE_H
#define QS_OFFLOAD_SIMULATE_H

#include "offload/plan.h"
#include "offload/schedule.h"

/* Bytes per second; 0 is infinitely fast. */
typedef struct qs_sim_rates {
    double disk_read, disk_write;
    double disk_latency;       /* seconds until the first byte when the disk was idle */
    double verify;             /* checksum of a blob that was read or written (host) */
    double link_in, link_out;  /* of a discrete device */
    uint64_t unattended_bytes; /* 0: no limit */
} qs_sim_rates;

/* What a visit does besides waiting for its weights. */
typedef struct qs_sim_work {
    double seconds;      /* compute */
    double host_seconds; /* discrete device: the host's own time, launching */
    int32_t polls; /* its micro-batches, after each of which the host sees to the streamer. At least 1 */
    int32_t looks; /* how often it sees to the disk in each: operations where the host computes. 0: once */
    uint64_t link_in_bytes, link_out_bytes;     /* checkpoints, adapters */
    uint64_t disk_read_bytes, disk_write_bytes; /* checkpoints or adapters that live on the disk */
} qs_sim_work;

typedef struct qs_sim_input {
    const qs_schedule *schedule;
    const qs_plan *plan;
    const uint64_t *blob_bytes; /* [plan->blobs] */
    bool shared_memory;         /* the device uses host memory: weights cross no link */
    bool host_computes;         /* the host does the compute, and sees to nothing else meanwhile */
    bool cached;                /* the cache holds every blob when the first step begins */
    qs_sim_rates rates;
    const qs_sim_work *work; /* [schedule->count] */
    /* First touch, needed unless cached; NULL: at no cost. */
    const uint64_t *source_bytes; /* [blobs] read from the checkpoint on this disk */
    const double *make_seconds;   /* [blobs] quantising (host) */
} qs_sim_input;

/* Seconds from the step's beginning. Where the host computes its clock, as a run measures visits; else the
 * device's. */
typedef struct qs_sim_visit {
    double start, end;
    double disk_wait, link_wait, verify, make; /* inside [start, end] */
} qs_sim_visit;

typedef enum qs_sim_resource {
    QS_SIM_COMPUTE,
    QS_SIM_DISK,
    QS_SIM_LINK_IN,
    QS_SIM_LINK_OUT,
    QS_SIM_HOST,
    QS_SIM_RESOURCES
} qs_sim_resource;

/* "compute", "disk", "link in", "link out", "host". */
const char *qs_sim_resource_name(qs_sim_resource r);

typedef struct qs_sim_step {
    double seconds;
    double busy[QS_SIM_RESOURCES]; /* of each resource. QS_SIM_HOST is checksums and quantising (and
                                      launching) */
    double disk_wait, link_wait;   /* compute stood still for it */
    double verify, make;
    uint64_t disk_read_bytes, disk_write_bytes, link_in_bytes, link_out_bytes;
    int32_t reads, hits; /* as in qs_stream_stats */
} qs_sim_step;

typedef struct qs_sim_result {
    qs_sim_step first, steady;
    qs_sim_visit *visits; /* [count] of the steady step, parallel to the schedule's */
    int32_t count;
    uint64_t pool_bytes[QS_POOL_COUNT]; /* peak of every pool: the plan's */
    qs_sim_resource critical; /* the busiest in the steady step; compute includes what the host does besides
                                 where it computes */
} qs_sim_result;

/* Free with qs_sim_free. Never fails: every schedule that a plan was made for can be replayed. */
void qs_simulate(const qs_sim_input *in, qs_sim_result *out);
void qs_sim_free(qs_sim_result *r);

/* No steady step is shorter: the work of the busiest resource at its rate. Weights that a ring can keep over
 * a turn of the list are not counted, at most its slots per turn. */
double qs_sim_bound(const qs_sim_input *in);
/* No steady step is longer: everything one after the other, and what the step before had begun. */
double qs_sim_serial(const qs_sim_input *in);

#endif
