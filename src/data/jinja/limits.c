/* Steps and depth that a template may take, and what messages call an operand. */
#include <stdio.h>
#include <string.h>

#include "src/data/jinja/run.h"

enum { DEPTH_MAX = 400 };

int qs_jstep(qs_jrun *r, int line, uint64_t count)
{
    r->steps += count;
    if (r->steps > r->most_steps)
        QS_JFAIL(r->e, line, "the template takes more than %llu steps", (unsigned long long)r->most_steps);
    return 0;
}

int qs_jdeep(qs_jrun *r, int line)
{
    if (++r->depth > DEPTH_MAX) QS_JFAIL(r->e, line, "calls itself deeper than %d", DEPTH_MAX);
    return 0;
}

static void describe(const qs_jnode *n, char *text, size_t bytes)
{
    size_t used = strlen(text);
    if (used + 8 > bytes) return;
    if (n->kind == QS_JN_NAME) {
        snprintf(text + used, bytes - used, "%s", n->name);
    } else if (n->kind == QS_JN_ATTR) {
        describe(n->a, text, bytes);
        used = strlen(text);
        snprintf(text + used, bytes - used, ".%s", n->name);
    } else if (n->kind == QS_JN_ITEM && n->b->kind == QS_JN_CONST) {
        describe(n->a, text, bytes);
        used = strlen(text);
        if (n->b->value.kind == QS_JSTRING)
            snprintf(text + used, bytes - used, "['%.*s']", (int)n->b->value.string->bytes,
                     n->b->value.string->text);
        else
            snprintf(text + used, bytes - used, "[%lld]", (long long)n->b->value.integer);
    } else if (n->kind == QS_JN_FILTER && n->a) {
        describe(n->a, text, bytes);
    }
}

const char *qs_jdescribe(const qs_jnode *n, char *text, size_t bytes)
{
    text[0] = 0;
    describe(n, text, bytes);
    return text;
}

int qs_jundefined_used(qs_jrun *r, qs_jvalue v, int line)
{
    QS_JFAIL(r->e, line, "\"%.80s\" is not there (it is undefined)", v.name ? v.name : "a value");
}
