/* prepare.h - one row of a data file to labelled samples.
 *
 * Writes the row out by its template, tokenises it, applies the policy for overlong rows, and keeps the
 * audit. A sample that comes out has 2 to max_seq_length tokens, at least one of them trained, the first not.
 *
 * Which template: the named one. With "auto": instruction rows by alpaca, conversations by the model's own,
 * prompt/completion as they are. Text and input_ids never have one. BOS comes first where the tokenizer or
 * the template puts it; every row ends in a trained EOS (or the template's own end of turn), whatever the
 * padding token is.
 */
#ifndef QS_DATA_PREPARE_H
#define QS_DATA_PREPARE_H

#include "src/data/audit.h"
#include "src/data/chat_template.h"
#include "src/data/dataset.h"

typedef struct qs_preparer {
    const qs_data_options *o;
    const char *file;             /* of the current row, for messages */
    qs_tokenizer *tokenizer;      /* NULL: only rows of input_ids so far, and no tokenizer in model_dir */
    const qs_chat_template *chat; /* NULL: rows are taken as they are */
    qs_row_kind kind;
    int32_t stop;    /* the token that ends an answer; -1: none */
    char *stop_text; /* and its text, or NULL */
    bool fatal;      /* the last error is no matter of one row: overlong: error */
    qs_audit audit;
    qs_rendering rendering;
    qs_labelled row, piece;
    qs_plain_messages plain; /* scratch: a conversation for the built-in layouts */
    qs_unused *unused;       /* where keys of messages are noted that nothing uses; NULL: nowhere */
    char *user;              /* scratch: an instruction with its input */
} qs_preparer;

/* Where samples go. ids and trained have `count` entries. */
typedef int (*qs_sample_sink)(void *user, const int32_t *ids, const uint8_t *trained, size_t count,
                              const qs_row *row, qs_err *e);

/* Opens the tokenizer. Freed with qs_preparer_free, also after a failure. */
int qs_preparer_open(qs_preparer *p, const qs_data_options *o, qs_err *e);
/* Makes ready for rows of this kind: the template. Before the first row, and wherever the kind changes. */
int qs_preparer_take_kind(qs_preparer *p, qs_row_kind kind, qs_err *e);
void qs_preparer_free(qs_preparer *p);

/* Hands the samples of a row to the sink. Errors name file and row. */
int qs_prepare_row(qs_preparer *p, const qs_row *row, qs_sample_sink sink, void *user, qs_err *e);

/* "instruction rows, template alpaca": how rows are written, for the audit. Freed with qs_free. */
char *qs_preparer_describe(const qs_preparer *p);

#endif
