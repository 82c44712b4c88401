/* audit.h - what became of the data: printed before training, kept with the tokens.
 */
#ifndef QS_DATA_AUDIT_H
#define QS_DATA_AUDIT_H

#include <jansson.h>
#include <stdint.h>

#include "src/data/columns.h"
#include "src/data/rendering.h"
#include "src/data/token_cache.h"

/* One data file. */
typedef struct qs_file_audit {
    const char *path; /* borrowed */
    double weight;
    char *how; /* "conversations, template chatml"; owned */
    int64_t rows, samples, tokens;
    int64_t epoch_samples, epoch_tokens; /* of one epoch, by weight */
} qs_file_audit;

typedef struct qs_bad_row {
    char *text; /* "FILE: row 3 (line 3): ..."; owned */
} qs_bad_row;

enum { QS_AUDIT_SHOWN_TOKENS = 2048, QS_BAD_ROWS_SHOWN = 20 };

typedef struct qs_audit {
    int64_t rows;
    int64_t samples, tokens, targets, longest; /* of what is kept */
    int64_t overlong;                          /* rows longer than max_seq_length */
    int64_t truncated, dropped, pieces; /* what was done about them; pieces: samples that split rows gave */
    int64_t empty;                      /* rows without text: left out */
    int64_t untrained;                  /* samples without a trained token: left out */
    int64_t ends,
        ends_trained;          /* rows' last samples kept, and how many of them end in a trained stop token */
    int64_t stop_known;        /* 0: there is no tokenizer to tell */
    int64_t bad;               /* rows that could not be used: left out, or why the data are refused */
    int64_t empty_answers;     /* rows with an answer that is empty or blank */
    int64_t typed_ends;        /* rows with an answer that had the end token typed behind it */
    int64_t typed_marks;       /* rows whose contents hold the text of a special token, kept as text */
    int64_t unknown, replaced; /* tokens that are the unknown token; U+FFFD in the texts */
    int64_t positions, beyond; /* max_position_embeddings (0: not known), and samples longer than that */
    qs_unused unused, lost_marks;           /* columns not used; the template's marks that are no token */
    qs_bad_row bad_rows[QS_BAD_ROWS_SHOWN]; /* the first */
    qs_file_audit *files;                   /* [file_count] */
    int file_count;
    qs_labelled shown; /* the first sample kept, at most SHOWN_TOKENS of it */
} qs_audit;

/* Several lines of text, freed with qs_free: the counts, a line "warning: ..." for each that is over its
 * threshold, and the first sample; tokenizer NULL: it is shown as ids. */
char *qs_audit_text(const qs_audit *a, const qs_data_options *o, const qs_tokenizer *t);
/* The same counts as a JSON object, one line, freed with qs_free. */
char *qs_audit_json(const qs_audit *a, const qs_data_options *o);

void qs_audit_free(qs_audit *a);

#endif
