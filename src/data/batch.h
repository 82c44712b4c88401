/* batch.h - which samples make up optimizer step s, and their micro-batches.
 *
 * Everything is a pure function of (cache, options, step): a resumed run asks for step 1,000 and gets what it
 * would have got, at once. Nothing is allocated after qs_batcher_create.
 *
 * A row is one sample, or with packing as many whole samples as fit in max_seq_length. A micro-batch is
 * `rows` rows laid one after another without padding; a step is `micro_batches` micro-batches. Each epoch
 * visits every row once in an order drawn from the seed; its last step holds what is left, and its last
 * micro-batch may be smaller (as in transformers). Rows of step s do not depend on how rows * micro_batches
 * is cut, so a planner may choose the cut.
 *
 * Every sample ("document") is on its own: positions start at 0, attention stays inside (document_start), and
 * no target crosses over.
 *
 * Packing is best-fit decreasing, drawn up once: rows are the same in every epoch, their order is not.
 */
#ifndef QS_DATA_BATCH_H
#define QS_DATA_BATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/arena.h"
#include "src/base/error.h"
#include "src/data/token_cache.h"

typedef struct qs_batch_options {
    uint64_t seed;
    bool in_order; /* no shuffling: rows in file order, every epoch */
    bool packing;
    int64_t max_seq_length; /* of a packed row, tokens */
    int64_t rows;           /* per_device_train_batch_size */
    int64_t micro_batches;  /* gradient_accumulation_steps */
    int64_t eval_rows;      /* per_device_eval_batch_size; 0: like rows */
    double
        val_set_size; /* of the training data set aside: < 1 a fraction, >= 1 a number of samples, 0 none */
} qs_batch_options;

typedef struct qs_batcher qs_batcher;

/* The caches must outlive the batcher. eval may be NULL; it and val_set_size exclude each other (QS_EINVAL).
 * Also QS_EINVAL: nothing is left to train on; a sample longer than max_seq_length when packing. */
int qs_batcher_create(const qs_token_cache *train, const qs_token_cache *eval, const qs_batch_options *o,
                      qs_batcher **out, qs_err *e);
void qs_batcher_free(qs_batcher *b);

typedef struct qs_batch_info {
    int64_t train_samples, eval_samples;
    int64_t train_rows;                  /* rows of one epoch */
    int64_t train_tokens, train_targets; /* of one epoch */
    int64_t steps_per_epoch;             /* ceil(ceil(train_rows / rows) / micro_batches) */
    int64_t eval_batches;                /* micro-batches of one evaluation */
    int64_t max_tokens;                  /* no micro-batch, train or eval, is longer */
    int64_t max_documents;               /* nor holds more samples */
    int64_t table_bytes;                 /* memory the batcher itself holds */
} qs_batch_info;

const qs_batch_info *qs_batcher_info(const qs_batcher *b);

/* Host arrays of one micro-batch; [tokens] unless said otherwise. */
typedef struct qs_micro_batch {
    int64_t tokens, documents, targets; /* targets: entries of `target` that are not -1 */
    int32_t *ids;
    int32_t *target;         /* id to predict from this position on, -1: no loss here */
    int32_t *positions;      /* within the document */
    int32_t *document_start; /* index in the micro-batch of the first token of this token's document */
    int32_t *samples;        /* [documents] index into the cache, for messages: qs_batcher_name_sample */
    int32_t *offsets;        /* [documents + 1] first token of each document; the last entry is tokens */
    bool eval;
} qs_micro_batch;

/* Takes the arrays of one micro-batch of at most info->max_tokens and max_documents from an arena (counting
 * or real). */
void qs_micro_batch_carve(const qs_batch_info *info, qs_arena *a, qs_micro_batch *m);

/* What step `step` (0-based, may be of any epoch) consists of, without touching tokens. */
typedef struct qs_step_info {
    int64_t epoch, step_of_epoch;
    int32_t micro_batches;
    int64_t tokens, targets, documents; /* of the whole step: targets is what the loss is divided by */
} qs_step_info;

void qs_batcher_step(const qs_batcher *b, int64_t step, qs_step_info *out);
/* Fills micro-batch `index` (< micro_batches) of a step. */
void qs_batcher_fill(const qs_batcher *b, int64_t step, int32_t index, qs_micro_batch *m);
/* Fills micro-batch `index` (< info->eval_batches) of the validation data, in file order, one sample a row.
 */
void qs_batcher_fill_eval(const qs_batcher *b, int64_t index, qs_micro_batch *m);

/* "train.jsonl, row 17": the sample of document `document` of m, into text. */
void qs_batcher_name_sample(const qs_batcher *b, const qs_micro_batch *m, int64_t document, char *text,
                            size_t text_bytes);

#endif
