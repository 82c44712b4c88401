/* chat_template.h - how a conversation is written out for a model, and which parts of it are learnt.
 *
 * A template turns messages into segments: markers (the template's own text, in which special tokens are tokens) and
 * content (what people wrote, in which they are plain text). Every segment says whether it is trained on: by default the
 * contents of the assistant and the mark that ends its turn, nothing else.
 *
 * Templates are built in, by name; a model's own is recognised in its tokenizer_config.json (or chat_template.jinja) by
 * the marks it uses. There is no Jinja interpreter: a template that is not recognised is an error that lists the names.
 *
 * Where tokens are cut: see rendering.h.
 */
#ifndef QS_DATA_CHAT_TEMPLATE_H
#define QS_DATA_CHAT_TEMPLATE_H

#include <stdbool.h>
#include <stddef.h>

#include "src/base/error.h"
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

/* The names --chat-template takes, separated by ", ". */
const char *qs_chat_template_names(void);
/* By name. QS_EINVAL lists the names. Borrowed: templates are constants. */
int qs_chat_template_by_name(const char *name, const qs_chat_template **out, qs_err *e);
/* The one a Jinja source stands for, or NULL. */
const qs_chat_template *qs_chat_template_recognise(const char *jinja);
/* The model's own: chat_template in tokenizer_config.json, or chat_template.jinja. QS_EMISSING when the model has none,
 * QS_EUNSUP when it is not recognised; both list the names. */
int qs_chat_template_of_model(const char *model_dir, const qs_chat_template **out, qs_err *e);
const char *qs_chat_template_name(const qs_chat_template *t);
/* Whether the template looks at this key of a conversation or a message ("tools", "tool_calls", "reasoning_content", ...) beside role
 * and content. The built-in layouts look at none. */
bool qs_chat_reads(const qs_chat_template *c, const char *key);

/* Appends the rendering of messages[count], BOS included where the tokenizer or the template wants one. With `prompt_only`
 * it ends where the assistant is to speak (the generation prompt), and nothing is trained. train_on_inputs trains everything but BOS.
 * Errors (QS_EFORMAT): roles in an order that the template cannot write; QS_EMISSING: the tokenizer has no EOS. */
int qs_chat_render(const qs_chat_template *c, const qs_tokenizer *t, const qs_message *messages, size_t count, bool prompt_only,
                   bool train_on_inputs, qs_rendering *r, qs_err *e);
/* The token that ends an answer in this template: its own mark, or EOS; -1 when the tokenizer has neither. */
int32_t qs_chat_stop_id(const qs_chat_template *c, const qs_tokenizer *t);

/* Instruction rows by an Alpaca template: the prompt with or without an input, then the answer. False from qs_chat_is_alpaca: render
 * them as a user's and an assistant's message instead. */
bool qs_chat_is_alpaca(const qs_chat_template *c);
int qs_alpaca_render(const qs_chat_template *c, const qs_tokenizer *t, const char *instruction, size_t instruction_bytes,
                     const char *input, size_t input_bytes, const char *output, size_t output_bytes, bool train_on_inputs,
                     qs_rendering *r, qs_err *e);

#endif
