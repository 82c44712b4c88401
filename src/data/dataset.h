/* dataset.h - rows of a data file, one after another, in constant memory.
 *
 * A file is a JSON array of objects, JSON Lines, or plain text; which one is seen from its first bytes (and the name: .txt
 * is text). A row is recognised by its columns:
 *
 *     instruction, input, output        Alpaca (also context/response as in Dolly; system is a system message)
 *     question, answer                  read as instruction and output
 *     messages [{role, content}]        OpenAI; "weight": 0 or "train": false on an assistant message leaves it out of the loss
 *     conversations [{from, value}]     ShareGPT (from: human, gpt, system, tool, user, assistant)
 *     prompt, completion                as they are, one after the other
 *     text                              trained whole
 *     input_ids, labels                 tokenised elsewhere; labels equal the id or are -100
 *
 * The first row decides; later rows must have the same columns. Plain text is cut into documents at lines that hold only
 * <|endoftext|>, and where there is none the file is one document; one longer than 1 MiB ends at the next line, so that memory stays bounded.
 *
 * A row's strings belong to the dataset and live until the next call.
 */
#ifndef QS_DATA_DATASET_H
#define QS_DATA_DATASET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "src/base/error.h"
#include "src/data/chat_template.h"

typedef enum qs_row_kind {
    QS_ROW_ALPACA,     /* instruction, input, output (system) */
    QS_ROW_MESSAGES,   /* OpenAI and ShareGPT */
    QS_ROW_COMPLETION, /* prompt, completion */
    QS_ROW_TEXT,
    QS_ROW_TOKENS
} qs_row_kind;

typedef struct qs_text {
    const char *data; /* NUL-terminated; may hold NULs inside */
    size_t bytes;
} qs_text;

typedef struct qs_row {
    qs_row_kind kind;
    int64_t number;                            /* 1 for the first row of the file */
    int64_t line;                              /* of the file, 1-based, where the row begins */
    qs_text instruction, input, output, system; /* ALPACA; COMPLETION: instruction = prompt, output = completion; TEXT: output */
    const qs_message *messages;                /* MESSAGES */
    size_t message_count;
    const int32_t *ids, *labels;               /* TOKENS; labels NULL: all trained but the first */
    size_t id_count;
} qs_row;

typedef struct qs_dataset qs_dataset;

/* Opens a data file. Errors: QS_EMISSING / QS_EIO, QS_EFORMAT naming file, line and what was expected. */
int qs_dataset_open(const char *path, qs_dataset **out, qs_err *e);
void qs_dataset_close(qs_dataset *d);

/* The next row: returns 1 and fills *row, 0 at the end, or a negative error naming file, row and line. */
int qs_dataset_next(qs_dataset *d, qs_row *row, qs_err *e);

/* Bytes of the file read so far, and its size. */
void qs_dataset_progress(const qs_dataset *d, uint64_t *done, uint64_t *of);

#endif
