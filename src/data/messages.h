/* messages.h - the messages of a row, in every spelling, as one list of {role, content, ...} objects.
 *
 * From OpenAI's `messages`, ShareGPT's from/value, a prompt and a completion that are lists of messages
 * (TRL), a `system` column, tools as a list or as JSON text. What other keys a message has stays as it is,
 * for the template to use.
 */
#ifndef QS_DATA_MESSAGES_H
#define QS_DATA_MESSAGES_H

#include "src/data/conversation.h"

/* A conversation with what it owns. {0} is an empty one, reused from row to row. */
typedef struct qs_messages {
    qs_conversation conversation; /* points into the rest */
    json_t *list, *tools, *documents, *variables;
    bool *untrained;
    size_t capacity;
} qs_messages;

/* Reads the columns of a row of kind QS_ROW_MESSAGES. QS_EFORMAT names the message and what is wrong. The row
 * may be changed. */
int qs_messages_read(qs_messages *m, json_t *row, qs_err *e);
/* Takes the turns of an instruction row: system (or NULL), history of [question, answer] pairs, and the last
 * turn; all strings. */
int qs_messages_from_turns(qs_messages *m, json_t *system, json_t *history, json_t *user, json_t *assistant,
                           qs_err *e);
void qs_messages_clear(qs_messages *m);
void qs_messages_free(qs_messages *m);

#endif
