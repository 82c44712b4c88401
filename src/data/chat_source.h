/* chat_source.h - where a model's own chat template is found: its text, and the special tokens that it may
 * name.
 *
 * As transformers reads them: chat_template.jinja (with additional_chat_templates/NAME.jinja beside it) wins
 * over chat_template in tokenizer_config.json, a text or a list of {name, template}; last chat_template.json.
 * A template for conversations with tools is the one called tool_use.
 */
#ifndef QS_DATA_CHAT_SOURCE_H
#define QS_DATA_CHAT_SOURCE_H

#include <jansson.h>

#include "src/base/error.h"

/* Which template is wanted, and what it is told. */
typedef struct qs_chat_choice {
    const char *model_dir; /* NULL: no model */
    const char *name; /* --chat_template: NULL, "" or "auto"; a built-in layout; one of the model's list; a
                         file; a template itself */
    const char *variables; /* --chat_template_kwargs, a JSON object; NULL or "": none */
    const char *date;      /* --template_date, YYYY-MM-DD; NULL or "": today */
} qs_chat_choice;

/* A date as YYYY-MM-DD: the given one, or today where it is NULL or "". `day` holds 16 bytes. */
void qs_chat_day(const char *date, char *day);

typedef struct qs_chat_source {
    char *text, *tools; /* the template, and the one for conversations with tools (NULL: the same) */
    char *from;         /* where it is from, for messages: a file, or the option */
} qs_chat_source;

/* The Jinja template of a choice that is no built-in layout. QS_EMISSING: the model has none (built_in, the
 * names of the layouts, goes into the message); QS_EFORMAT, QS_EINVAL: a list without the wanted name, a
 * damaged file. Freed with qs_chat_source_free. */
int qs_chat_source_find(const qs_chat_choice *choice, const char *built_in, qs_chat_source *out, qs_err *e);
void qs_chat_source_free(qs_chat_source *s);

/* The special tokens by name (bos_token, eos_token, image_token, ...) as transformers hands them to
 * templates: a new object. */
int qs_chat_special_tokens(const char *model_dir, json_t **out, qs_err *e);

#endif
