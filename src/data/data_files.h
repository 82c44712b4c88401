/* data_files.h - what a person gives as data, as a list of files: files, patterns, directories, each with a
 * weight.
 */
#ifndef QS_DATA_DATA_FILES_H
#define QS_DATA_DATA_FILES_H

#include <stdbool.h>

#include "src/base/error.h"

typedef struct qs_data_files {
    char **paths;    /* [count] */
    double *weights; /* [count] how often each row comes in an epoch */
    int count;
} qs_data_files;

/* Words are "PATH" or "PATH:WEIGHT" (above 0). A PATH that is no file may be a pattern (*, ?, []) or a
 * directory; of a directory all data files below it are taken, in the order of their names. Where its files
 * are named after their part (train.jsonl, valid.jsonl), training takes all but valid, dev, eval and test,
 * and validation only valid, dev and eval. QS_EMISSING says what a word that leads to nothing may be: a name
 * on a hub, an address. Freed with qs_data_files_free, also after a failure. */
int qs_data_files_find(const char *const *words, int count, bool validation, qs_data_files *out, qs_err *e);
void qs_data_files_free(qs_data_files *f);

#endif
