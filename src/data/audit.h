/* audit.h - what became of the data: printed before training, kept with the tokens.
 */
#ifndef QS_DATA_AUDIT_H
#define QS_DATA_AUDIT_H

#include <stdint.h>

#include "src/data/rendering.h"
#include "src/data/token_cache.h"

typedef struct qs_audit {
    int64_t rows;
    int64_t samples, tokens, targets, longest; /* of what is kept */
    int64_t overlong;                /* rows longer than max_seq_length */
    int64_t truncated, dropped, pieces; /* what was done about them; pieces: samples that split rows gave */
    int64_t empty;                   /* rows without text: left out */
    int64_t untrained;               /* samples without a trained token: left out */
    int64_t ends, ends_trained;      /* rows' last samples kept, and how many of them end in a trained stop token */
    int64_t stop_known;              /* 0: there is no tokenizer to tell */
    qs_labelled shown;               /* the first sample kept, at most SHOWN_TOKENS of it */
} qs_audit;

enum { QS_AUDIT_SHOWN_TOKENS = 2048 };

/* Several lines of text, freed with qs_free. `how` says how rows were written ("template chatml"); tokenizer NULL: the sample is shown
 * as ids. */
char *qs_audit_text(const qs_audit *a, const qs_data_options *o, const char *how, const qs_tokenizer *t);

void qs_audit_free(qs_audit *a);

#endif
