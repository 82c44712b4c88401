/* choice_task.h - multiple-choice questions that are answered by likelihood.
 *
 * Two kinds of files:
 *   MMLU        CSV: question, four choices, answer (A to D, or 0 to 3), with or without a header. Rendered
 * as in Hendrycks et al. 2021: "The following are multiple choice questions (with answers) about SUBJECT.",
 * solved examples, the question, "Answer:". requests    JSON Lines as lm-eval logs them: "arguments" (pairs
 * of context and continuation) and "target" (the index of the right one); or "context", "choices" and
 * "answer".
 */
#ifndef QS_DATA_CHOICE_TASK_H
#define QS_DATA_CHOICE_TASK_H

#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/data/tokenizer.h"

enum { QS_CHOICES_MAX = 26 };

typedef struct qs_choice_question {
    char *context[QS_CHOICES_MAX];      /* owned; of MMLU all are the same pointer */
    char *continuation[QS_CHOICES_MAX]; /* owned */
    int choices, answer;
} qs_choice_question;

typedef struct qs_choice_task {
    char *name; /* "astronomy" */
    qs_choice_question *questions;
    int64_t count;
} qs_choice_task;

/* Reads `path`, test/NAME_test.csv or *.jsonl. shots: solved examples before each MMLU question, from
 * dev/NAME_dev.csv beside the folder of path (QS_EMISSING when it is not there). Errors name the file and
 * row. Free with qs_choice_task_free. */
int qs_choice_task_read(const char *path, int shots, qs_choice_task *out, qs_err *e);
void qs_choice_task_free(qs_choice_task *t);

/* Tokens of context and continuation as lm-eval cuts them: spaces at the context's end belong to the
 * continuation, both are tokenised together, and the continuation is what goes beyond the context's own
 * tokens. BOS where the tokenizer adds one. *context is how many tokens the context has, at least 1 (without
 * any token of its own, BOS or EOS stands for it). Appends to ids. */
int qs_choice_encode(qs_tokenizer *t, const char *context, const char *continuation, qs_ids *ids,
                     size_t *context_tokens, qs_err *e);

#endif
