/* dataset.h - rows of a data file, one after another, in constant memory.
 *
 * A file is a JSON array of objects, JSON Lines, CSV or TSV with a header, or plain text; which one is seen
 * from its first bytes (and the name: .txt is text, .csv a table); packed files and UTF-16 are unpacked
 * (record_reader.h). A row is recognised by its columns:
 *
 *     instruction, input, output        Alpaca (also context, response as in Dolly; question, answer; system;
 * history of pairs) messages [{role, content}]        OpenAI; "train", "loss", "weight" or "training" of 0
 * leaves an answer out of the loss conversations [{from, value}]     ShareGPT (from: human, gpt, system,
 * tool, function_call, observation, ...) prompt, completion                as they are, one after the other;
 * lists of messages are a conversation text                              trained whole input_ids, labels
 * tokenised elsewhere; also attention_mask, completion_mask, assistant_masks, position_ids
 *
 * The first row decides; later rows must be of the same kind. What other columns mean: columns.h. Plain text
 * is cut into documents at lines that hold only <|endoftext|>, and where there is none the file is one
 * document; one longer than 1 MiB ends at the next line, so that memory stays bounded.
 *
 * A row's strings belong to the dataset and live until the next call.
 */
#ifndef QS_DATA_DATASET_H
#define QS_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/data/columns.h"
#include "src/data/conversation.h"

typedef struct qs_text {
    const char *data; /* NUL-terminated; may hold NULs inside */
    size_t bytes;
} qs_text;

typedef struct qs_row {
    qs_row_kind kind;
    int64_t number; /* 1 for the first row of the file */
    int64_t line;   /* of the file, 1-based, where the row begins */
    bool continued; /* a further document of the row before (position_ids begin anew) */
    qs_text instruction, input, output,
        system; /* ALPACA; COMPLETION: instruction = prompt, output = completion; TEXT: output */
    const qs_conversation *conversation; /* MESSAGES, and ALPACA with a history; else NULL */
    const int32_t *ids, *labels;         /* TOKENS; labels NULL: all trained but the first */
    size_t id_count;
} qs_row;

typedef struct qs_dataset qs_dataset;

/* Opens a data file. choice may be NULL; it is borrowed. Errors: QS_EMISSING / QS_EIO, QS_EFORMAT naming
 * file, line and what was expected. */
int qs_dataset_open(const char *path, const qs_column_choice *choice, qs_dataset **out, qs_err *e);
void qs_dataset_close(qs_dataset *d);

/* The next row: returns 1 and fills *row, 0 at the end, or a negative error naming file, row and line. */
int qs_dataset_next(qs_dataset *d, qs_row *row, qs_err *e);

/* After an error of qs_dataset_next: whether the next call goes on with the row behind it. */
bool qs_dataset_goes_on(const qs_dataset *d);

/* Columns that were not used so far. Callers may add to it what a template does not use. */
qs_unused *qs_dataset_unused(qs_dataset *d);

/* Bytes of the file read so far, and its size. */
void qs_dataset_progress(const qs_dataset *d, uint64_t *done, uint64_t *of);

#endif
