#include "src/data/jinja/jinja.h"

#include <string.h>

#include "src/base/memory.h"
#include "src/data/jinja/run.h"

enum { PARSE_BYTES = 256 << 20 };

const qs_jinja_limits qs_jinja_default_limits = {.steps = 50000000, .bytes = (size_t)512 << 20};

struct qs_jinja {
    qs_jarena arena;
    qs_jnode *body;
    qs_jnames names;
    bool generation;
};

int qs_jinja_parse(const char *source, size_t bytes, qs_jinja **out, qs_err *e)
{
    qs_jinja *t = qs_calloc(1, sizeof *t);
    qs_jtokens tokens = {0};
    t->arena.limit = PARSE_BYTES;
    *out = NULL;
    int rc = qs_jlex(&t->arena, source, bytes, &tokens, e);
    qs_jparser p = {.a = &t->arena, .at = tokens.tokens, .names = &t->names, .e = e};
    if (!rc) rc = qs_jparse(&p, &t->body);
    if (rc) {
        qs_jinja_free(t);
        return rc;
    }
    t->generation = p.generation;
    *out = t;
    return 0;
}

void qs_jinja_free(qs_jinja *t)
{
    if (!t) return;
    qs_jarena_free(&t->arena);
    qs_free(t);
}

static const char *interned(const qs_jinja *t, const char *name)
{
    for (size_t i = 0; i < t->names.count; i++)
        if (strcmp(t->names.names[i], name) == 0) return t->names.names[i];
    return NULL;
}

bool qs_jinja_names(const qs_jinja *t, const char *name) { return interned(t, name) != NULL; }
bool qs_jinja_has_generation(const qs_jinja *t) { return t->generation; }

/* ---- sessions ---------------------------------------------------------------------------------------- */

struct qs_jinja_session {
    const qs_jinja *t;
    qs_jinja_limits limits;
    struct tm date;
    qs_jarena arena;
    qs_jbinding *names; /* heap: lives as long as the session */
    size_t count, capacity;
};

qs_jinja_session *qs_jinja_session_new(const qs_jinja *t, const struct tm *date, qs_jinja_limits limits)
{
    qs_jinja_session *s = qs_calloc(1, sizeof *s);
    s->t = t;
    s->limits = limits;
    s->arena.limit = limits.bytes;
    s->date = date ? *date : (struct tm){.tm_year = 70, .tm_mday = 1, .tm_wday = 4};
    return s;
}

void qs_jinja_session_free(qs_jinja_session *s)
{
    if (!s) return;
    qs_jarena_free(&s->arena);
    qs_free(s->names);
    qs_free(s);
}

void qs_jinja_session_clear(qs_jinja_session *s)
{
    qs_jarena_free(&s->arena);
    s->count = 0;
}

qs_jarena *qs_jinja_arena(qs_jinja_session *s) { return &s->arena; }

void qs_jinja_set(qs_jinja_session *s, const char *name, qs_jvalue value)
{
    const char *known = interned(s->t, name);
    if (!known) return;
    size_t i = 0;
    while (i < s->count && s->names[i].name != known) i++;
    if (i == s->capacity) {
        s->capacity = 2 * s->capacity + 16;
        s->names = qs_realloc(s->names, s->capacity * sizeof *s->names);
    }
    s->names[i] = (qs_jbinding){known, value};
    if (i == s->count) s->count++;
}

/* ---- rendering --------------------------------------------------------------------------------------- */

void qs_jinja_text_free(qs_jinja_text *t)
{
    qs_free(t->text);
    qs_free(t->spans);
    qs_free(t->generations);
    *t = (qs_jinja_text){0};
}

static void copy_spans(qs_jspan **to, size_t *count, size_t *capacity, const qs_jspan *from, size_t n)
{
    if (n > *capacity) {
        *capacity = 2 * n;
        *to = qs_realloc(*to, *capacity * sizeof **to);
    }
    if (n) memcpy(*to, from, n * sizeof **to);
    *count = n;
}

static void copy_out(qs_jinja_text *out, const qs_jbuilder *b, const qs_jrun *r)
{
    if (b->bytes + 1 > out->capacity) {
        out->capacity = 2 * b->bytes + 256;
        out->text = qs_realloc(out->text, out->capacity);
    }
    if (b->bytes) memcpy(out->text, b->text, b->bytes);
    out->text[b->bytes] = 0;
    out->bytes = b->bytes;
    out->generation_captured = r->generation_captured;
    copy_spans(&out->spans, &out->span_count, &out->span_capacity, b->spans, b->span_count);
    copy_spans(&out->generations, &out->generation_count, &out->generation_capacity, r->generations,
               r->generation_count);
}

int qs_jinja_render(qs_jinja_session *s, qs_jinja_text *out, qs_err *e)
{
    qs_jarena_mark mark = qs_jarena_here(&s->arena);
    qs_jbuilder b = {0};
    qs_jscope context = {.names = s->names, .count = s->count, .capacity = s->count},
              own = {.parent = &context};
    qs_jrun r = {
        .a = &s->arena, .scope = &own, .out = &b, .most_steps = s->limits.steps, .date = s->date, .e = e};
    int rc = qs_jexecute(&r, s->t->body);
    if (!rc) copy_out(out, &b, &r);
    qs_jarena_back(&s->arena, mark);
    return rc;
}
