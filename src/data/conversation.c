#include "src/data/conversation.h"

#include <string.h>

#include "src/base/memory.h"

static const json_t *text_of(const json_t *part)
{
    return json_is_string(part) ? part : json_object_get(part, "text");
}

const char *qs_content_text(const json_t *content, char **joined, size_t *bytes)
{
    size_t i, used = 0, total = 0;
    json_t *part;
    *joined = NULL;
    *bytes = 0;
    if (json_is_string(content)) return *bytes = json_string_length(content), json_string_value(content);
    if (!json_is_array(content)) return "";
    json_array_foreach((json_t *)(uintptr_t)content, i, part) total += json_string_length(text_of(part));
    char *out = *joined = qs_malloc(total + 1);
    json_array_foreach((json_t *)(uintptr_t)content, i, part)
    {
        const json_t *text = text_of(part);
        if (!json_is_string(text)) continue;
        memcpy(out + used, json_string_value(text), json_string_length(text));
        used += json_string_length(text);
    }
    out[used] = 0;
    *bytes = used;
    return out;
}

static bool parse_role(const char *s, qs_role *role)
{
    static const struct {
        const char *name;
        qs_role role;
    } names[] = {{"system", QS_ROLE_SYSTEM},       {"developer", QS_ROLE_SYSTEM}, {"user", QS_ROLE_USER},
                 {"assistant", QS_ROLE_ASSISTANT}, {"model", QS_ROLE_ASSISTANT},  {"tool", QS_ROLE_TOOL},
                 {"function", QS_ROLE_TOOL},       {"ipython", QS_ROLE_TOOL}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s, names[i].name) == 0) return *role = names[i].role, true;
    return false;
}

static void clear(qs_plain_messages *p)
{
    for (size_t i = 0; i < p->count; i++) qs_free(p->joined[i]);
    p->count = 0;
}

void qs_plain_messages_free(qs_plain_messages *p)
{
    clear(p);
    qs_free(p->messages);
    qs_free(p->joined);
    *p = (qs_plain_messages){0};
}

int qs_plain_messages_fill(qs_plain_messages *p, const qs_conversation *c, qs_err *e)
{
    size_t n = json_array_size(c->messages), i;
    json_t *v;
    clear(p);
    if (n > p->capacity) {
        p->capacity = n;
        p->messages = qs_realloc(p->messages, n * sizeof *p->messages);
        p->joined = qs_realloc(p->joined, n * sizeof *p->joined);
    }
    json_array_foreach(c->messages, i, v)
    {
        const char *role = json_string_value(json_object_get(v, "role"));
        qs_message *m = &p->messages[i];
        *m = (qs_message){.untrained = c->untrained && c->untrained[i]};
        p->joined[p->count++] = NULL;
        if (!role || !parse_role(role, &m->role))
            QS_FAIL(
                e, QS_EFORMAT,
                "message %zu has the role \"%.40s\"; expected system, user (human), assistant (gpt) or tool",
                i + 1, role ? role : "");
        m->text = qs_content_text(json_object_get(v, "content"), &p->joined[i], &m->bytes);
    }
    return 0;
}
