/* chat_template.h - how a conversation is written out for a model, and which parts of it are learnt.
 *
 * A template turns messages into segments: markers (the template's own text, in which special tokens are
 * tokens) and content (what people wrote, in which they are plain text). Every segment says whether it is
 * trained on: by default the contents of the assistant and the mark that ends its turn, nothing else.
 *
 * A model that has a chat template of its own is written by it: chat_jinja.h. The layouts here, by name, are
 * for models without one.
 *
 * Where tokens are cut: see rendering.h.
 */
#ifndef QS_DATA_CHAT_TEMPLATE_H
#define QS_DATA_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "src/base/error.h"
#include "src/data/chat_jinja.h"
#include "src/data/rendering.h"
#include "src/data/tokenizer.h"

typedef enum qs_role { QS_ROLE_SYSTEM, QS_ROLE_USER, QS_ROLE_ASSISTANT, QS_ROLE_TOOL } qs_role;

const char *qs_role_name(qs_role role);

/* One message; the text is borrowed. */
typedef struct qs_message {
    qs_role role;
    const char *text;
    size_t bytes;
    bool untrained; /* an assistant message that is context only ("train": false, "weight": 0) */
} qs_message;

typedef struct qs_chat_template qs_chat_template;

/* The names of the built-in layouts, separated by ", ". */
const char *qs_chat_template_names(void);
/* One of them. QS_EINVAL lists the names. A constant. */
int qs_chat_template_by_name(const char *name, const qs_chat_template **out, qs_err *e);
/* The template of a choice: a built-in layout by its name, else a Jinja template (chat_source.h says from
 * where). Errors as there, and QS_EFORMAT where it does not parse. Closed with qs_chat_template_close, which
 * leaves the built-in ones alone. */
int qs_chat_template_open(const qs_chat_choice *choice, const qs_chat_template **out, qs_err *e);
void qs_chat_template_close(const qs_chat_template *t);
/* Its Jinja template, or NULL: a built-in layout. */
qs_chat_jinja *qs_chat_template_jinja(const qs_chat_template *t);
/* A layout's name, or the file that a template is from. */
const char *qs_chat_template_name(const qs_chat_template *t);
/* Whether the template looks at this key of a conversation or a message ("tools", "tool_calls",
 * "reasoning_content", ...) beside role and content. The built-in layouts look at none. */
bool qs_chat_reads(const qs_chat_template *c, const char *key);

/* Appends the rendering of messages[count] by a built-in layout, BOS included where the tokenizer or the
 * template wants one. With `prompt_only` it ends where the assistant is to speak (the generation prompt), and
 * nothing is trained. train_on_inputs trains everything but BOS. Errors (QS_EFORMAT): roles in an order that
 * the template cannot write; QS_EMISSING: the tokenizer has no EOS. */
int qs_chat_render(const qs_chat_template *c, const qs_tokenizer *t, const qs_message *messages, size_t count,
                   bool prompt_only, bool train_on_inputs, qs_rendering *r, qs_err *e);
/* The token that ends an answer in this template: its own mark, or EOS; -1 when the tokenizer has neither. */
int32_t qs_chat_stop_id(const qs_chat_template *c, qs_tokenizer *t);

typedef struct qs_alpaca_row {
    const char *instruction, *input, *output; /* UTF-8; may hold NULs */
    size_t instruction_bytes, input_bytes, output_bytes;
} qs_alpaca_row;

/* Instruction rows by an Alpaca template: the prompt with or without an input, then the answer. False from
 * qs_chat_is_alpaca: render them as a user's and an assistant's message instead. */
bool qs_chat_is_alpaca(const qs_chat_template *c);
int qs_alpaca_render(const qs_chat_template *c, const qs_tokenizer *t, const qs_alpaca_row *row,
                     bool train_on_inputs, qs_rendering *r, qs_err *e);

#endif
