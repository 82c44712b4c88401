/* token_cache.h - data files as token ids with their loss mask, on disk, mapped read-only.
 *
 * Made once from the data files, the tokenizer and the options below, then reused as long as none of them
 * changes: the key is a hash of their contents. Never held in RAM: written as it is made, read through a
 * mapping. The audit that was printed when it was made is kept in it and printed each time. Samples are in
 * the order of the files and their rows. Replaced atomically; checksummed. Of several processes that need the
 * same one, one makes it and the others wait for it; the file's modification time is that of its last use.
 *
 * File layout (little endian): header | ids of sample 0, 1, ... (uint32 each, bit 31: trained) | one
 * qs_sample per sample | audit text.
 *
 * A token is trained when the model is taught to produce it. The first token of a sample never is: nothing
 * comes before it.
 */
#ifndef QS_DATA_TOKEN_CACHE_H
#define QS_DATA_TOKEN_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "src/base/error.h"

/* What happens to a sample longer than max_seq_length. There is no silent default: the counts are in the
 * audit. */
typedef enum qs_overlong {
    QS_OVERLONG_ERROR,    /* refuse, naming the first such row */
    QS_OVERLONG_TRUNCATE, /* keep the first max_seq_length tokens */
    QS_OVERLONG_DROP,     /* leave the sample out */
    QS_OVERLONG_SPLIT     /* cut it into samples of max_seq_length; each begins anew */
} qs_overlong;

typedef struct qs_data_options {
    const char *const *data; /* [data_count] files, patterns and directories, with weights: data_files.h */
    int data_count;
    const double *weights;     /* [data_count] NULL from callers: they stand in the words */
    bool validation;           /* of a directory, take the files for validation */
    const char *model_dir;     /* tokenizer files and chat template; rows of input_ids do without */
    const char *cache_dir;     /* created when missing */
    const char *chat_template; /* NULL or "auto": alpaca for instruction rows, the model's own for
                                  conversations; else as in chat_source.h */
    const char *chat_template_kwargs, *template_date; /* as in chat_source.h */
    int64_t max_seq_length;                           /* tokens of one sample, >= 2 */
    int64_t vocab_size; /* of the model: every id must be below it; 0: not checked */
    qs_overlong overlong;
    bool train_on_inputs;       /* loss on everything instead of on answers */
    const char *ignore_columns; /* comma-separated; NULL: none */
    const char *text_column;    /* this column is the text, trained whole, whatever else a row holds; NULL: by
                                   the columns */
    bool drop_bad_rows;         /* rows that cannot be used are left out instead of refused */
} qs_data_options;

/* Index entry. */
typedef struct qs_sample {
    uint64_t first;  /* of the file's tokens */
    int32_t tokens;  /* >= 2 */
    int32_t targets; /* trained tokens, >= 1 */
    uint32_t row;    /* 1-based, of its data file */
    uint32_t file;   /* which data file */
} qs_sample;

enum { QS_TOKEN_ID_MASK = 0x7fffffff };
#define QS_TOKEN_TRAINED 0x80000000u

typedef struct qs_token_cache {
    const uint32_t *tokens;   /* [token_count] id | QS_TOKEN_TRAINED */
    const qs_sample *samples; /* [sample_count] */
    int64_t token_count, sample_count, target_count;
    int64_t longest;                  /* tokens of the longest sample */
    const char *audit;                /* text of several lines */
    const char *audit_json;           /* the same as a JSON object */
    uint64_t key[2];                  /* of data, tokenizer and options: equal keys, equal samples */
    const char *const *files;         /* names of the data files, for messages */
    const uint64_t (*file_hashes)[2]; /* [file_count] of their contents */
    int file_count;
    char *path; /* of the cache file */
    void *map;
    size_t map_bytes;
    int fd; /* of the mapped file, locked as in use */
} qs_token_cache;

/* Opens the cache of these options, making it first when there is none that fits. Prints the audit on
 * `report` (may be NULL). `progress` (may be NULL) is called now and then while it is made, with the bytes of
 * the data files done; non-zero stops with QS_EINTERRUPT. Errors name file and row: bad rows, samples longer
 * than allowed, a second BOS, nothing to train on, ids outside the vocabulary. */
int qs_token_cache_open(const qs_data_options *o, FILE *report,
                        int (*progress)(void *, uint64_t done, uint64_t of), void *user, qs_token_cache **out,
                        qs_err *e);
void qs_token_cache_close(qs_token_cache *c);

/* QS_EIO when somebody has shortened the file since it was mapped: reading beyond its end would be SIGBUS.
 * To be asked before a batch is read; c may be NULL. */
int qs_token_cache_check(const qs_token_cache *c, qs_err *e);

/* Lets go of the pages read so far, so that a large cache does not grow into the resident set (they stay in
 * the page cache). */
void qs_token_cache_rest(const qs_token_cache *c);

#endif
