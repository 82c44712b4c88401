/* Renders chat templates for compare.py: reads one JSON object a line and writes one a line.
 *
 * {"template": source, "variables": {...}, "date": "2026-01-31"} gives {"text": ..., "trained": [[from, to],
 * ...]}, the bytes of the
 * {% generation %} blocks; with "model": folder, "messages", "tools", "documents", "prompt" instead of
 * variables it is what is trained on:
 * {"ids": [...], "trained": [0, 1, ...]}. Or {"error": ...}. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/data/conversation.h"
#include "src/data/jinja/jinja.h"

static json_t *render(json_t *job)
{
    qs_err e = {0};
    qs_jinja *t;
    json_t *source = json_object_get(job, "template"), *variables = json_object_get(job, "variables"), *v;
    const char *name;
    if (qs_jinja_parse(json_string_value(source), json_string_length(source), &t, &e))
        return json_pack("{s:s}", "error", e.text);
    struct tm date = {.tm_mday = 1, .tm_year = 70};
    const char *day = json_string_value(json_object_get(job, "date"));
    if (day) strptime(day, "%Y-%m-%d", &date);
    qs_jinja_session *s = qs_jinja_session_new(t, &date, qs_jinja_default_limits);
    json_object_foreach(variables, name, v)
    {
        qs_jvalue value;
        if (qs_jvalue_of_json(qs_jinja_arena(s), v, QS_JMARK_OTHER, &value)) qs_jinja_set(s, name, value);
    }
    qs_jinja_text text = {0};
    json_t *out;
    if (qs_jinja_render(s, &text, &e)) {
        out = json_pack("{s:s}", "error", e.text);
    } else {
        json_t *trained = json_array();
        for (size_t i = 0; i + 1 < text.generation_count; i += 2)
            json_array_append_new(
                trained, json_pack("[i,i]", (int)text.generations[i].end, (int)text.generations[i + 1].end));
        out = json_pack("{s:s%, s:o}", "text", text.text, text.bytes, "trained", trained);
    }
    qs_jinja_text_free(&text);
    qs_jinja_session_free(s);
    qs_jinja_free(t);
    return out;
}

/* Tokenizers stay open: most jobs have the same few. */
static int tokenizer_of(const char *model, qs_tokenizer **out, qs_err *e)
{
    enum { KEPT = 8 };
    static qs_tokenizer *tokenizers[KEPT];
    static char *models[KEPT];
    int i = 0;
    while (i < KEPT - 1 && models[i] && strcmp(models[i], model) != 0) i++;
    if (!models[i] || strcmp(models[i], model) != 0) {
        qs_tokenizer_close(tokenizers[i]);
        tokenizers[i] = NULL;
        QS_TRY(qs_tokenizer_open(model, &tokenizers[i], e));
        qs_free(models[i]);
        models[i] = qs_strdup(model);
    }
    *out = tokenizers[i];
    return 0;
}

static int tokenise(json_t *job, const char *model, qs_labelled *out, qs_err *e)
{
    qs_tokenizer *tokenizer;
    const qs_chat_template *chat;
    const qs_chat_choice choice = {model, json_string_value(json_object_get(job, "template")), NULL,
                                   json_string_value(json_object_get(job, "date"))};
    QS_TRY(tokenizer_of(model, &tokenizer, e));
    QS_TRY(qs_chat_template_open(&choice, &chat, e));
    json_t *tools = json_object_get(job, "tools"), *documents = json_object_get(job, "documents");
    const qs_conversation c = {.messages = json_object_get(job, "messages"),
                               .tools = json_is_null(tools) ? NULL : tools,
                               .documents = json_is_null(documents) ? NULL : documents,
                               .variables = json_object_get(job, "variables")};
    qs_rendering r = {0};
    int rc = qs_chat_jinja_render(qs_chat_template_jinja(chat), tokenizer, &c,
                                  json_is_true(json_object_get(job, "prompt")), false, &r, e);
    if (!rc) rc = qs_rendering_encode(&r, tokenizer, out, e);
    qs_rendering_free(&r);
    qs_chat_template_close(chat);
    return rc;
}

static json_t *ids_and_labels(json_t *job, const char *model)
{
    qs_err e = {0};
    qs_labelled l = {0};
    json_t *ids = json_array(), *trained = json_array(), *out = NULL;
    if (tokenise(job, model, &l, &e)) out = json_pack("{s:s}", "error", e.text);
    for (size_t i = 0; i < l.ids.count; i++) {
        json_array_append_new(ids, json_integer(l.ids.data[i]));
        json_array_append_new(trained, json_integer(l.trained[i]));
    }
    if (!out) out = json_pack("{s:O, s:O}", "ids", ids, "trained", trained);
    json_decref(ids);
    json_decref(trained);
    qs_labelled_free(&l);
    return out;
}

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    while ((n = getline(&line, &capacity, stdin)) > 0) {
        json_error_t why;
        json_t *job = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &why), *out;
        const char *model = json_string_value(json_object_get(job, "model"));
        out = !job ? json_pack("{s:s}", "error", why.text) : model ? ids_and_labels(job, model) : render(job);
        json_dumpf(out ? out : json_null(), stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(job);
        json_decref(out);
    }
    free(line);
    return 0;
}
