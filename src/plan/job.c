#include "src/plan/job.h"

void qs_job_set_sizes(qs_job *j, int64_t rows, int64_t micro_batches)
{
    int32_t tokens = (int32_t)(j->options->max_seq_length * rows);
    j->micro_batch_rows = (int32_t)rows;
    j->sweep.sizes = (qs_sweep_sizes){.max_tokens = tokens,
                                      .max_documents = tokens,
                                      .max_positions = (int32_t)j->options->max_seq_length,
                                      .micro_batches = (int32_t)micro_batches};
    j->tokens = tokens;
    j->document_tokens = (int32_t)j->options->max_seq_length;
}

void qs_job_set_data(qs_job *j, const qs_batch_info *info, const qs_token_cache *train,
                     const qs_token_cache *eval)
{
    qs_sweep_sizes *s = &j->sweep.sizes;
    int64_t batches = (info->train_rows + j->micro_batch_rows - 1) / j->micro_batch_rows;
    double squares = 0, sum = 0;
    s->max_positions = (int32_t)(eval && eval->longest > train->longest ? eval->longest : train->longest);
    s->max_tokens = (int32_t)info->max_tokens;
    s->max_documents = (int32_t)info->max_documents;
    for (int64_t i = 0; i < train->sample_count; i++) {
        double n = train->samples[i].tokens;
        squares += n * n;
        sum += n;
    }
    j->tokens = (int32_t)((info->train_tokens + batches - 1) / batches); /* the mean micro-batch */
    j->document_tokens =
        (int32_t)(squares / sum + 0.5); /* mean over tokens of the length of their document */
}
