/* conversation.h - a conversation as a chat template sees it: JSON values with their keys as they stand in
 * the data.
 */
#ifndef QS_DATA_CONVERSATION_H
#define QS_DATA_CONVERSATION_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "src/data/chat_template.h"

typedef struct qs_conversation {
    json_t *messages;  /* array of objects: role, content (a string, null or a list of parts), tool_calls,
                          reasoning_content, name ... */
    json_t *tools;     /* array, or NULL */
    json_t *documents; /* array, or NULL */
    json_t *variables; /* object, or NULL: what a chat_template_kwargs column sets (enable_thinking, ...) */
    const bool *untrained; /* [messages] answers that are context only; NULL: none */
} qs_conversation;

/* Messages for the built-in layouts: role, text and mask of each. {0} is an empty one, reused. */
typedef struct qs_plain_messages {
    qs_message *messages; /* [count]; texts are borrowed from the conversation, or live here where a list of
                             parts was joined */
    size_t count, capacity;
    char **joined; /* [capacity] */
} qs_plain_messages;

/* QS_EFORMAT: a role that no built-in layout has. */
int qs_plain_messages_fill(qs_plain_messages *p, const qs_conversation *c, qs_err *e);
void qs_plain_messages_free(qs_plain_messages *p);

/* The text of a content: the string itself, the parts of a list joined (written to *joined, freed with
 * qs_free), "" for null. */
const char *qs_content_text(const json_t *content, char **joined, size_t *bytes);

#endif
