/* sweep.h - walks the schedule: the only place where the model and the streaming engine meet.
 *
 * At each visit the blob's weights are acquired from the streamer and dequantised once; then all
 * micro-batches of the visit pass, their activations coming from and going to the activation_store. What a
 * step leaves behind is the loss and the gradients of every adapter, in their pager; the optimizer
 * (src/step/update.h) does the rest.
 */
#ifndef QS_STEP_SWEEP_H
#define QS_STEP_SWEEP_H

#include "offload/pager.h"
#include "offload/activation_store.h"
#include "offload/stream.h"
#include "src/data/batch.h"
#include "src/model/block.h"
#include "src/model/embedding.h"
#include "src/model/head.h"
#include "src/model/layout.h"

/* The sizes at which sums are cut: with data, seed, options and backend they decide the bits. */
typedef struct qs_sweep_sizes {
    int32_t max_tokens;    /* of a micro-batch, before padding */
    int32_t max_positions; /* of a document */
    int32_t max_documents; /* of a micro-batch */
    int32_t micro_batches; /* of a step, at most */
    int32_t mlp_rows;      /* rows of an MLP tile */
    int32_t head_rows;     /* rows of a chunk of the head */
} qs_sweep_sizes;

/* What the sizes and the plan are made from. Borrowed; must outlive the sweep. */
typedef struct qs_sweep_config {
    qs_device *device;
    const qs_architecture *a;
    const qs_layout *layout;
    const qs_lora *lora;
    qs_dtype type; /* compute type */
    qs_sweep_sizes sizes;
    bool dense_by_group; /* see src/model/weights.h: a matter of memory and time, not of bits */
    int32_t sweeps;      /* of a step: see offload/schedule.h */
    bool checkpoints_on_disk;
    uint64_t seed;    /* of dropout */
    bool keep_logits; /* see head.h: a matter of memory, not of bits */
    int32_t
        saved_layers; /* of this many, the last ones, forward keeps what backward needs (block.h): likewise */
    int32_t saved_in_ram; /* of those, this many, the first ones, are in host memory between their visits */
    bool (*visited)(void *context, int done,
                    int total); /* NULL, or told after each visit; false: stop here, with QS_EINTERRUPT */
    void *visited_context;
} qs_sweep_config;

/* Tokens are padded to rows so that few different shapes occur: multiples of this. */
int32_t qs_sweep_row_multiple(int32_t max_tokens);
static inline int32_t qs_sweep_rows(int32_t max_tokens, int32_t tokens)
{
    int32_t m = qs_sweep_row_multiple(max_tokens);
    return (tokens + m - 1) / m * m;
}

/* The memory a sweep needs, as items of a plan: fills at most `capacity` items, returns their number.
 * Allocates nothing that stays. */
int qs_sweep_items(const qs_sweep_config *c, qs_plan_item *items, int capacity);

/* Which of the layers that keep their intermediates this one is, the first being 0; negative: it keeps none.
 * Below saved_in_ram it keeps them in RAM. */
static inline int32_t qs_sweep_saved_level(const qs_sweep_config *c, int32_t layer)
{
    return layer - (c->layout->layers - c->saved_layers);
}

/* Bytes that one layer keeps of one micro-batch at its largest. */
uint64_t qs_sweep_saved_bytes(const qs_sweep_config *c);

typedef struct qs_sweep qs_sweep;

/* Takes its items from the tier. The streamer and the embedding are borrowed. norm: the final norm, fp32
 * [qs_norm_floats], host (copied). masters, gradients: packs of the adapters (lora.h), one record per layer.
 */
typedef struct qs_sweep_parts {
    qs_tier *tier;
    qs_aio *aio; /* these two only with checkpoints on disk */
    const char *scratch_dir;
    qs_stream *stream;
    qs_embedding *embedding;
    const float *norm;
    qs_pager *masters, *gradients;
} qs_sweep_parts;

int qs_sweep_open(const qs_sweep_config *c, const qs_sweep_parts *parts, qs_sweep **out, qs_err *e);
void qs_sweep_close(qs_sweep *s);

/* Where micro-batch mb of the coming step goes: fill its arrays (qs_batcher_fill), then run. */
qs_micro_batch *qs_sweep_batch(qs_sweep *s, int32_t mb);

/* Time of one visit, for reports. */
typedef struct qs_visit_time {
    uint64_t start_ns, end_ns, disk_wait_ns, link_wait_ns, make_ns;
    uint64_t disk_read_bytes; /* of reads that began meanwhile: for later visits, as a rule */
} qs_visit_time;

typedef struct qs_sweep_result {
    double loss_sum; /* over target tokens, nats; summed in a fixed order */
    int64_t targets;
    int64_t tokens;
    const double *gradient_squares; /* [layers] sums of squares of each pack's gradients, of a training step:
                                       the sweep's own, until the next */
    int32_t bad_micro_batch,
        bad_document; /* where the first value that is not finite was found; -1: none, or not known */
    bool overflow;    /* with a loss scale above 1: some gradient is not finite, the step is to be skipped */
} qs_sweep_result;

/* Forward and backward over micro-batches [0, micro_batches): adapter gradients of the mean loss over all
 * their targets, times loss_scale (a power of two; 1 but for fp16), are left in parts.gradients, both pagers
 * at the UPDATE visit. `step` keys the dropout masks. Blocks until everything is done. QS_ENUMERIC on the
 * first non-finite value: says layer and micro-batch, out->bad_micro_batch and bad_document tell which sample
 * (may be -1). */
int qs_sweep_train(qs_sweep *s, int32_t micro_batches, int64_t step, double loss_scale, qs_sweep_result *out,
                   qs_err *e);

/* Forward only, without dropout; loss alone. */
int qs_sweep_evaluate(qs_sweep *s, int32_t micro_batches, qs_sweep_result *out, qs_err *e);

/* Loss of every row of micro-batch mb in the last run, nats; 0 where there is no target. Valid until the next
 * run. */
const float *qs_sweep_losses(const qs_sweep *s, int32_t mb);

/* The logits of micro-batch 0, rows [first, first + rows), fp32 [rows, vocab] into host memory: forward only,
 * the step's micro-batches as filled. For tests and `generate`. */
int qs_sweep_logits(qs_sweep *s, int32_t first, int32_t rows, float *out, qs_err *e);

/* The last run's schedule and the times of its visits. */
const qs_schedule *qs_sweep_schedule(const qs_sweep *s);
const qs_visit_time *qs_sweep_times(const qs_sweep *s);
/* Bytes over the link to a discrete device so far, checkpoints included. */
uint64_t qs_sweep_link_bytes(const qs_sweep *s);

#endif
