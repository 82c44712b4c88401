/* chat_spans.h - where the answers stand in a rendered conversation.
 *
 * Messages are numbered from 0; message i has the mark 1 + i (jinja/value.h). Two ways, in this order:
 *   1. Prefixes. The prompt for answer i (messages before it, with the generation prompt) and the
 * conversation up to it are rendered; where both begin the whole text, the answer lies between their ends.
 *   2. What follows a message. Where one is not a prefix, because the template writes turns that are no
 * longer the last one otherwise, the text that it puts behind the message before (up to where the model takes
 * over) and behind the answer is looked for at the same place of the whole. An answer that takes in another
 * message's words is refused. Long conversations: once the texts between messages are known from answers that
 * were rendered, they are looked for first, so that work grows with the conversation and not with its square.
 */
#ifndef QS_DATA_CHAT_SPANS_H
#define QS_DATA_CHAT_SPANS_H

#include <stdbool.h>

#include "src/data/jinja/jinja.h"

typedef struct qs_chat_span {
    size_t from, to; /* bytes of the whole text */
} qs_chat_span;

typedef struct qs_chat_spans {
    /* Renders messages[0, count), with the generation prompt or without. */
    int (*render)(void *user, size_t count, bool prompt, qs_jinja_text *out, qs_err *e);
    /* Bytes of a control token at the start of a text, 0 when there is none. */
    size_t (*control_token)(void *user, const char *text, size_t bytes);
    void *user;
    bool prompts; /* the template writes a generation prompt; else the head of an answer's turn is no part of
                     it */
    size_t count; /* messages */
    const bool *answers;      /* [count] whose place is wanted */
    const char *const *roles; /* [count] */
    qs_chat_span *found;      /* [count] */
} qs_chat_spans;

/* Fills `found` for all answers in the whole text. QS_EFORMAT when a place cannot be told. */
int qs_chat_spans_find(const qs_chat_spans *s, const qs_jinja_text *whole, qs_err *e);

#endif
