/* train_run.h - training runs inside a test, and what they leave behind. */
#ifndef QS_TESTS_TRAIN_RUN_H
#define QS_TESTS_TRAIN_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/options/options.h"

/* Words of a command line being put together; each is copied. */
typedef struct test_words {
    char *word[128];
    int count;
} test_words;

void test_words_add(test_words *w, const char *format, ...) __attribute__((format(printf, 2, 3)));
void test_words_free(test_words *w);

/* The options of a golden case's train.json, and its model, data and initial adapter: --key value pairs. */
void test_words_golden(test_words *w, const char *case_dir);

/* Parses the words and trains. Returns qs_train's result. */
int test_train(const test_words *w, qs_err *e);

/* Rows of OUT/metrics.jsonl. */
typedef struct test_row {
    int64_t step;
    double loss, learning_rate, grad_norm;
    bool eval;
} test_row;
int test_read_metrics(const char *out_dir, test_row *rows, int capacity);

/* Largest absolute difference between two adapter files (fp32 tensors of equal names); aborts the test when
 * names or shapes differ. */
double test_adapter_difference(const char *path, const char *other);
/* True when two files hold the same bytes. */
bool test_same_file(const char *path, const char *other);

#endif
