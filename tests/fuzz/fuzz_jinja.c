/* A chat template, rendered over a small conversation (or, behind a line of %%%%, over messages of the input)
 * inside tight bounds. */
#include <jansson.h>
#include <stdlib.h>

#include "src/data/jinja/jinja.h"
#include "tests/fuzz/fuzz.h"

static const char standard[] =
    "[{\"role\": \"system\", \"content\": \" Be brief.\\n\"}, {\"role\": \"user\", \"content\": \"h\\u00e9 "
    "<b> 'q'\"},"
    "{\"role\": \"assistant\", \"content\": \"<think>x</think>a, b\", \"tool_calls\": [{\"type\": "
    "\"function\", \"function\": {\"name\": \"f\","
    "\"arguments\": {\"n\": 1.5, \"list\": [1, true, null]}}}]}, {\"role\": \"tool\", \"content\": \"12\"}]";

static void set(qs_jinja_session *s, const char *name, const json_t *value, int32_t mark)
{
    qs_jvalue v;
    if (qs_jvalue_of_json(qs_jinja_arena(s), value, mark, &v)) qs_jinja_set(s, name, v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const qs_jinja_limits limits = {.steps = 20000, .bytes = 8 << 20};
    fuzz_part parts[2];
    qs_err e = {0};
    qs_jinja *t;
    int count = fuzz_split(data, size, parts, 2);
    json_t *messages =
        count > 1 ? json_loadb((const char *)parts[1].data, parts[1].size, JSON_ALLOW_NUL, NULL) : NULL;
    if (!messages) messages = json_loads(standard, 0, NULL);
    fuzz_watch(size);
    if (!qs_jinja_parse((const char *)parts[0].data, parts[0].size, &t, &e)) {
        qs_jinja_session *s = qs_jinja_session_new(t, NULL, limits);
        json_t *name = json_string("<s>"), *yes = json_true();
        set(s, "messages", messages, 1);
        set(s, "tools", json_object_get(json_array_get(messages, 2), "tool_calls"), QS_JMARK_OTHER);
        set(s, "bos_token", name, 0);
        set(s, "add_generation_prompt", yes, 0);
        qs_jinja_text text = {0};
        for (int twice = 0; twice < 2; twice++)
            if (!qs_jinja_render(s, &text, &e) && text.span_count &&
                text.spans[text.span_count - 1].end != text.bytes)
                abort();
        qs_jinja_text_free(&text);
        qs_jinja_session_free(s);
        qs_jinja_free(t);
        json_decref(name);
    }
    json_decref(messages);
    return 0;
}
