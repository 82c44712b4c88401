/* jinja.h - chat templates: the part of Jinja that transformers' apply_chat_template gives them, as an
 * interpreter.
 *
 *     qs_jinja *t;
 *     QS_TRY(qs_jinja_parse(source, bytes, &t, e));
 *     qs_jinja_session *s = qs_jinja_session_new(t, &date);                 // values, shared by the
 * renderings of one conversation QS_TRY(qs_jinja_set(s, "messages", 0, value ...)); QS_TRY(qs_jinja_render(s,
 * &text, e));                                 // as often as wanted, with other variables
 *
 * Rendering is what jinja2's ImmutableSandboxedEnvironment does with trim_blocks, lstrip_blocks and
 * loopcontrols: expressions, filters, tests, loops with loop.*, break and continue, macros and call blocks,
 * namespace, set, with, {% generation %}, raise_exception, strftime_now, tojson. What is not supported is an
 * error that names it and the template's line; nothing is ever written otherwise than jinja2 would write it.
 * A template reaches nothing but its variables, and is bounded in steps, memory, recursion and output.
 */
#ifndef QS_DATA_JINJA_JINJA_H
#define QS_DATA_JINJA_JINJA_H

#include <time.h>

#include "src/base/error.h"
#include "src/data/jinja/value.h"

typedef struct qs_jinja qs_jinja;
typedef struct qs_jinja_session qs_jinja_session;

/* Parses a template; the source is copied. QS_EFORMAT: "chat template line N: ...". Freed with qs_jinja_free.
 */
int qs_jinja_parse(const char *source, size_t bytes, qs_jinja **out, qs_err *e);
void qs_jinja_free(qs_jinja *t);
/* Whether a name (variable, function, attribute) occurs in it; and a {% generation %} block. */
bool qs_jinja_names(const qs_jinja *t, const char *name);
bool qs_jinja_has_generation(const qs_jinja *t);

typedef struct qs_jinja_limits {
    uint64_t steps; /* of one rendering */
    size_t bytes;   /* of memory, of one session */
} qs_jinja_limits;

extern const qs_jinja_limits qs_jinja_default_limits; /* 50 million steps, 512 MiB */

/* A place for values and renderings. The template must outlive it; `date` (may be NULL: 1 January 1970) is
 * what strftime_now tells. */
qs_jinja_session *qs_jinja_session_new(const qs_jinja *t, const struct tm *date, qs_jinja_limits limits);
void qs_jinja_session_free(qs_jinja_session *s);
/* Forgets all values and memory of the session. */
void qs_jinja_session_clear(qs_jinja_session *s);
/* Where values of this session are made. */
qs_jarena *qs_jinja_arena(qs_jinja_session *s);
/* Sets a variable until it is set again. Names that the template does not use are ignored. */
void qs_jinja_set(qs_jinja_session *s, const char *name, qs_jvalue value);

/* A rendered text with the origin of its bytes (value.h). Freed with qs_jinja_text_free; {0} is an empty one,
 * reused from call to call. */
typedef struct qs_jinja_text {
    char *text; /* NUL-terminated */
    size_t bytes, capacity;
    qs_jspan *spans;
    size_t span_count, span_capacity;
    qs_jspan *generations; /* pairs: where a {% generation %} begins and where it ends */
    size_t generation_count, generation_capacity;
    bool generation_captured; /* one stood where its place in the text is not known */
} qs_jinja_text;

void qs_jinja_text_free(qs_jinja_text *t);

/* Renders with the variables as they are. QS_EFORMAT: "chat template line N: ...". The session's values stay
 * as they were. */
int qs_jinja_render(qs_jinja_session *s, qs_jinja_text *out, qs_err *e);

#endif
