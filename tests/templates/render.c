/* Renders chat templates for compare.py: reads one JSON object a line, {"template": source, "variables":
 * {...}, "date": "2026-01-31"}, and writes one a line: {"text": ..., "trained": [[from, to], ...]} (bytes of
 * the {% generation %} blocks), or {"error": ...}. */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

int main(void)
{
    char *line = NULL;
    size_t capacity = 0;
    ssize_t n;
    while ((n = getline(&line, &capacity, stdin)) > 0) {
        json_error_t why;
        json_t *job = json_loadb(line, (size_t)n, JSON_ALLOW_NUL, &why),
               *out = job ? render(job) : json_pack("{s:s}", "error", why.text);
        json_dumpf(out ? out : json_null(), stdout, JSON_COMPACT);
        putchar('\n');
        fflush(stdout);
        json_decref(job);
        json_decref(out);
    }
    free(line);
    return 0;
}
