/* chat_jinja.h - conversations written out by a model's own chat template, and which parts of them are
 * learnt.
 *
 * The text is what transformers' apply_chat_template gives: the same variables, the same normalisation of
 * messages (keys that are null are dropped, a thought is known as reasoning_content and as thinking). It is
 * tokenised as one text, and nothing is added to it: BOS is there where the template writes it. What people
 * wrote stays text: only the template's own words may be control tokens.
 *
 * What is trained: the {% generation %} blocks of the template where it has them. Otherwise an answer begins
 * where the prompt for it ends (the messages before it with add_generation_prompt) and ends where the
 * conversation up to it does, if both begin the whole text. A template that writes earlier turns otherwise
 * than the last one (thoughts are dropped, a system message moves on) is understood by what it puts between
 * the texts of two messages: chat_spans.h. A template without a generation prompt has no more of the answer's
 * head trained. Where none of that tells, the row is refused.
 */
#ifndef QS_DATA_CHAT_JINJA_H
#define QS_DATA_CHAT_JINJA_H

#include "src/data/chat_source.h"
#include "src/data/rendering.h"
#include "src/data/tokenizer.h"

struct qs_conversation;
typedef struct qs_chat_jinja qs_chat_jinja;

/* Reads and parses the template of a choice; built_in as in chat_source.h. Freed with qs_chat_jinja_close. */
int qs_chat_jinja_open(const qs_chat_choice *choice, const char *built_in, qs_chat_jinja **out, qs_err *e);
void qs_chat_jinja_close(qs_chat_jinja *j);

/* Where the template is from, for people. */
const char *qs_chat_jinja_from(const qs_chat_jinja *j);
/* Whether a word stands in the template. */
bool qs_chat_jinja_reads(const qs_chat_jinja *j, const char *word);

/* Appends a conversation. With `prompt` it ends where the assistant is to speak, and nothing is trained;
 * train_on_inputs trains everything. QS_EFORMAT: "chat template line N: ...", or an answer whose place cannot
 * be told. */
int qs_chat_jinja_render(qs_chat_jinja *j, qs_tokenizer *t, const struct qs_conversation *c, bool prompt,
                         bool train_on_inputs, qs_rendering *r, qs_err *e);

/* The control token that ends an answer, or the tokenizer's EOS where there is none. */
int32_t qs_chat_jinja_stop_id(qs_chat_jinja *j, qs_tokenizer *t);

#endif
