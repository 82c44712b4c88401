#include "src/data/chat_jinja.h"

#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "src/base/json.h"
#include "src/base/memory.h"
#include "src/data/chat_spans.h"
#include "src/data/conversation.h"

/* One parsed template. */
typedef struct engine {
    qs_jinja *template;
    qs_jinja_session *session;
} engine;

struct qs_chat_jinja {
    qs_chat_source source;
    engine plain, tools; /* tools.template NULL: the same one */
    json_t *variables;   /* special tokens, and what the option sets */
    bool prompts;        /* add_generation_prompt makes a difference */
    qs_jinja_text whole;
    qs_jvalue messages; /* of the conversation being written */
    engine *now;
    bool *answers;
    const char **roles;
    qs_chat_span *spans;
    size_t capacity;
    qs_tokenizer *tokenizer; /* of the call that is under way */
};

/* ---- opening ----------------------------------------------------------------------------------------- */

static int read_date(const char *text, struct tm *date, qs_err *e)
{
    char day[16];
    qs_chat_day(text, day);
    *date = (struct tm){0};
    const char *end = strptime(day, "%Y-%m-%d", date);
    if (!end || *end)
        QS_FAIL(e, QS_EINVAL, "template_date \"%.40s\" is no date; expected one such as 2026-01-31", text);
    return 0;
}

static int open_engine(const char *text, const char *from, const struct tm *date, engine *out, qs_err *e)
{
    if (qs_jinja_parse(text, strlen(text), &out->template, e)) return qs_err_prefix(e, "%s", from);
    out->session = qs_jinja_session_new(out->template, date, qs_jinja_default_limits);
    return 0;
}

static int take_variables(qs_chat_jinja *j, const qs_chat_choice *choice, qs_err *e)
{
    QS_TRY(qs_chat_special_tokens(choice->model_dir, &j->variables, e));
    if (!choice->variables || !*choice->variables) return 0;
    json_t *more;
    QS_TRY(qs_json_parse(choice->variables, strlen(choice->variables), "chat_template_kwargs", &more, e));
    json_object_update(j->variables, more);
    json_decref(more);
    return 0;
}

static int open_all(qs_chat_jinja *j, const qs_chat_choice *choice, const char *built_in, qs_err *e)
{
    struct tm date;
    QS_TRY(read_date(choice->date, &date, e));
    QS_TRY(qs_chat_source_find(choice, built_in, &j->source, e));
    QS_TRY(open_engine(j->source.text, j->source.from, &date, &j->plain, e));
    if (j->source.tools) QS_TRY(open_engine(j->source.tools, j->source.from, &date, &j->tools, e));
    return take_variables(j, choice, e);
}

static void close_engine(engine *g)
{
    qs_jinja_session_free(g->session);
    qs_jinja_free(g->template);
}

void qs_chat_jinja_close(qs_chat_jinja *j)
{
    if (!j) return;
    close_engine(&j->plain);
    close_engine(&j->tools);
    qs_chat_source_free(&j->source);
    json_decref(j->variables);
    qs_jinja_text_free(&j->whole);
    qs_free(j->answers);
    qs_free(j->roles);
    qs_free(j->spans);
    qs_free(j);
}

const char *qs_chat_jinja_from(const qs_chat_jinja *j) { return j->source.from; }

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *at = text; text && (at = strstr(at, word)); at++) {
        bool left = at == text || !(isalnum((unsigned char)at[-1]) || at[-1] == '_');
        if (left && !(isalnum((unsigned char)at[n]) || at[n] == '_')) return true;
    }
    return false;
}

bool qs_chat_jinja_reads(const qs_chat_jinja *j, const char *word)
{
    return has_word(j->source.text, word) || has_word(j->source.tools, word);
}

/* ---- the conversation as values ---------------------------------------------------------------------- */

static bool set_key(qs_jarena *a, qs_jvalue object, const char *key, qs_jvalue v)
{
    qs_jvalue k;
    return qs_jstring_of(a, key, strlen(key), 0, &k) && qs_jdict_set(a, object.dict, k, v);
}

/* The keys whose texts name a call or a tool: a template may write them in the turns of others, too. */
static bool is_name(const char *key, size_t bytes)
{
    static const char *const names[] = {"name", "id", "type", "tool_call_id"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == bytes && memcmp(names[i], key, bytes) == 0) return true;
    return false;
}

/* The same inside a list of calls, their arguments left alone. */
static void mark_names(qs_jvalue v)
{
    for (size_t i = 0; v.kind == QS_JLIST && i < v.list->count; i++) mark_names(v.list->items[i]);
    for (size_t i = 0; v.kind == QS_JDICT && i < v.dict->count; i++) {
        qs_jentry *entry = &v.dict->entries[i];
        if (is_name(entry->key.string->text, entry->key.string->bytes))
            entry->value.mark = QS_JMARK_NAME;
        else if (qs_jequals_text(entry->key, "function"))
            mark_names(entry->value);
    }
}

static int32_t mark_of(const char *key, int32_t mark)
{
    return strcmp(key, "role") == 0 ? 0 : is_name(key, strlen(key)) ? QS_JMARK_NAME : mark;
}

/* A message as transformers hands it on: without keys that are null; a thought under the names that templates
 * read. */
static bool make_message(qs_jarena *a, json_t *message, int32_t mark, qs_jvalue *out)
{
    static const char *const thoughts[] = {"reasoning_content", "thinking", "reasoning"};
    const char *key;
    json_t *v, *thought = NULL;
    qs_jvalue value, known = QS_JV_NONE;
    if (!qs_jdict_new(a, QS_JDICT, out)) return false;
    out->mark = mark;
    for (int i = 2; i >= 0; i--) {
        json_t *one = json_object_get(message, thoughts[i]);
        if (one && !json_is_null(one)) thought = one;
    }
    if (thought && (!qs_jvalue_of_json(a, thought, mark, &known) || !set_key(a, *out, "thinking", known)))
        return false;
    json_object_foreach(message, key, v)
    {
        if (json_is_null(v)) continue;
        if (!qs_jvalue_of_json(a, v, mark_of(key, mark), &value) || !set_key(a, *out, key, value))
            return false;
        if (strcmp(key, "tool_calls") == 0) mark_names(value);
    }
    return !thought || set_key(a, *out, "reasoning_content", known);
}

/* Everything a template is given but messages and add_generation_prompt. */
static bool set_variables(qs_chat_jinja *j, const qs_conversation *c)
{
    qs_jarena *a = qs_jinja_arena(j->now->session);
    const char *key;
    json_t *v;
    qs_jvalue value;
    const struct {
        const char *name;
        json_t *value;
    } lists[] = {{"tools", c->tools}, {"documents", c->documents}};
    for (int i = 0; i < 2; i++) {
        if (!qs_jvalue_of_json(a, lists[i].value, QS_JMARK_OTHER, &value)) return false;
        qs_jinja_set(j->now->session, lists[i].name, value);
    }
    json_object_foreach(j->variables, key, v)
    {
        if (!qs_jvalue_of_json(a, v, 0, &value)) return false;
        qs_jinja_set(j->now->session, key, value);
    }
    json_object_foreach(c->variables, key, v)
    {
        if (!qs_jvalue_of_json(a, v, QS_JMARK_OTHER, &value)) return false;
        qs_jinja_set(j->now->session, key, value);
    }
    return true;
}

static int begin(qs_chat_jinja *j, const qs_conversation *c, qs_err *e)
{
    size_t i;
    json_t *m;
    bool fits;
    j->now = c->tools && j->tools.template ? &j->tools : &j->plain;
    qs_jinja_session_clear(j->now->session);
    qs_jarena *a = qs_jinja_arena(j->now->session);
    fits = set_variables(j, c) && qs_jlist_new(a, QS_JLIST, json_array_size(c->messages), &j->messages);
    json_array_foreach(c->messages, i, m)
    {
        qs_jvalue v;
        fits = fits && make_message(a, m, (int32_t)i + 1, &v) && qs_jlist_add(a, j->messages.list, v);
    }
    if (!fits) QS_FAIL(e, QS_EFORMAT, "the conversation is too large for a chat template");
    return 0;
}

/* Renders the first messages; for chat_spans.h. */
static int render_first(void *user, size_t count, bool prompt, qs_jinja_text *out, qs_err *e)
{
    qs_chat_jinja *j = user;
    qs_jlist first = *j->messages.list;
    first.count = count;
    qs_jinja_set(j->now->session, "messages", QS_JV(QS_JLIST, .list = &first));
    qs_jinja_set(j->now->session, "add_generation_prompt", QS_JV_BOOL(prompt));
    return qs_jinja_render(j->now->session, out, e);
}

static size_t control_token(void *user, const char *text, size_t bytes)
{
    enum { LONGEST = 64 };
    qs_chat_jinja *j = user;
    qs_ids ids = {0};
    qs_err ignored;
    size_t n = 0;
    while (bytes > LONGEST) bytes = LONGEST;
    if (bytes &&
        !qs_tokenizer_encode(j->tokenizer, text, bytes, QS_ENCODE_SPECIAL | QS_ENCODE_CONTINUE, &ids,
                             &ignored) &&
        ids.count && qs_tokenizer_is_added(j->tokenizer, ids.data[0])) {
        char *content = qs_tokenizer_decode(j->tokenizer, ids.data, 1, QS_DECODE_CONTINUE, &n);
        if (n > bytes || memcmp(content, text, n) != 0) n = 0;
        qs_free(content);
    }
    qs_ids_free(&ids);
    return n;
}

/* ---- what is trained --------------------------------------------------------------------------------- */

static void make_room(qs_chat_jinja *j, size_t count)
{
    if (count <= j->capacity) return;
    j->capacity = 2 * count;
    j->answers = qs_realloc(j->answers, j->capacity * sizeof *j->answers);
    j->roles = qs_realloc(j->roles, j->capacity * sizeof *j->roles);
    j->spans = qs_realloc(j->spans, j->capacity * sizeof *j->spans);
}

/* The answer whose words stand in a stretch of the whole text: its number, -1 when there are none, -2 for
 * several. */
static long whose_words(const qs_jinja_text *t, size_t from, size_t to)
{
    long found = -1;
    size_t at = 0;
    for (size_t i = 0; i < t->span_count; at = t->spans[i++].end) {
        long m = t->spans[i].mark;
        if (t->spans[i].end <= from || at >= to || !m || m == QS_JMARK_NAME) continue;
        found = found == -1 || found == m - 1 ? m - 1 : -2;
    }
    return found;
}

/* The template's {% generation %} blocks as spans, those of context answers left out. */
static int take_generations(qs_chat_jinja *j, const qs_conversation *c, size_t *count, qs_err *e)
{
    const qs_jinja_text *t = &j->whole;
    size_t messages = json_array_size(c->messages);
    bool any_untrained = false;
    if (t->generation_captured)
        QS_FAIL(e, QS_EFORMAT,
                "the chat template has a {%% generation %%} block inside a macro or a set block, where its "
                "place in the text cannot be told");
    for (size_t i = 0; i < messages; i++) any_untrained |= c->untrained && c->untrained[i];
    make_room(j, t->generation_count / 2);
    *count = 0;
    for (size_t i = 0; i + 1 < t->generation_count; i += 2) {
        qs_chat_span s = {t->generations[i].end, t->generations[i + 1].end};
        long whose = whose_words(t, s.from, s.to);
        if (any_untrained && (whose < 0 || (size_t)whose >= messages))
            QS_FAIL(e, QS_EFORMAT,
                    "an answer of the conversation is context only, and which one cannot be told from the "
                    "chat template's "
                    "{%% generation %%} blocks");
        if (!any_untrained || !c->untrained[whose]) j->spans[(*count)++] = s;
    }
    return 0;
}

static int find_trained(qs_chat_jinja *j, const qs_conversation *c, size_t *count, qs_err *e)
{
    size_t n = json_array_size(c->messages);
    if (qs_jinja_has_generation(j->now->template)) return take_generations(j, c, count, e);
    make_room(j, n);
    for (size_t i = 0; i < n; i++) {
        const char *role = json_string_value(json_object_get(json_array_get(c->messages, i), "role"));
        j->roles[i] = role ? role : "";
        j->answers[i] = (strcmp(j->roles[i], "assistant") == 0 || strcmp(j->roles[i], "model") == 0) &&
                        !(c->untrained && c->untrained[i]);
    }
    const qs_chat_spans s = {.render = render_first,
                             .control_token = control_token,
                             .prompts = j->prompts,
                             .user = j,
                             .count = n,
                             .answers = j->answers,
                             .roles = j->roles,
                             .found = j->spans};
    QS_TRY(qs_chat_spans_find(&s, &j->whole, e));
    *count = 0;
    for (size_t i = 0; i < n; i++)
        if (j->answers[i]) j->spans[(*count)++] = j->spans[i];
    return 0;
}

/* The whole text as segments: one for each stretch of equal origin and label. */
static void put_segments(const qs_jinja_text *t, const qs_chat_span *trained, size_t count, bool train_all,
                         qs_rendering *r)
{
    size_t at = 0, next = 0;
    for (size_t i = 0; i < t->span_count; i++) {
        bool special = t->spans[i].mark == 0;
        while (at < t->spans[i].end) {
            while (next < count && trained[next].to <= at) next++;
            bool inside = next < count && trained[next].from <= at;
            size_t end = t->spans[i].end, border = next == count ? end
                                                   : inside      ? trained[next].to
                                                                 : trained[next].from;
            if (border < end) end = border;
            qs_rendering_text(r, t->text + at, end - at, QS_TEXT_JOIN, special, inside || train_all);
            at = end;
        }
    }
}

int qs_chat_jinja_render(qs_chat_jinja *j, qs_tokenizer *t, const qs_conversation *c, bool prompt,
                         bool train_on_inputs, qs_rendering *r, qs_err *e)
{
    size_t trained = 0;
    j->tokenizer = t;
    QS_TRY(begin(j, c, e));
    QS_TRY(render_first(j, json_array_size(c->messages), prompt, &j->whole, e));
    if (!prompt && !train_on_inputs) QS_TRY(find_trained(j, c, &trained, e));
    put_segments(&j->whole, j->spans, trained, train_on_inputs && !prompt, r);
    r->whole = true;
    return 0;
}

/* Whether a question is written otherwise when an answer is to follow. */
static bool writes_prompts(qs_chat_jinja *j)
{
    json_t *messages = json_pack("[{s:s,s:s}]", "role", "user", "content", "a");
    qs_err ignored = {0};
    qs_jinja_text without = {0};
    bool told = !begin(j, &(qs_conversation){.messages = messages}, &ignored) &&
                !render_first(j, 1, false, &without, &ignored) &&
                !render_first(j, 1, true, &j->whole, &ignored);
    bool same =
        told && without.bytes == j->whole.bytes && memcmp(without.text, j->whole.text, without.bytes) == 0;
    qs_jinja_text_free(&without);
    json_decref(messages);
    return told ? !same : qs_chat_jinja_reads(j, "add_generation_prompt");
}

int qs_chat_jinja_open(const qs_chat_choice *choice, const char *built_in, qs_chat_jinja **out, qs_err *e)
{
    qs_chat_jinja *j = qs_calloc(1, sizeof *j);
    *out = NULL;
    int rc = open_all(j, choice, built_in, e);
    if (rc) {
        qs_chat_jinja_close(j);
        return rc;
    }
    j->prompts = writes_prompts(j);
    *out = j;
    return 0;
}

int32_t qs_chat_jinja_stop_id(qs_chat_jinja *j, qs_tokenizer *t)
{
    int32_t stop = qs_tokenizer_info(t)->eos;
    json_t *messages = json_pack("[{s:s,s:s},{s:s,s:s}]", "role", "user", "content", "a", "role", "assistant",
                                 "content", "b");
    const qs_conversation c = {.messages = messages};
    qs_err ignored = {0};
    j->tokenizer = t;
    if (!begin(j, &c, &ignored) && !render_first(j, 2, false, &j->whole, &ignored) && j->whole.span_count) {
        size_t end = 0;
        for (size_t i = 0; i < j->whole.span_count; i++)
            if (j->whole.spans[i].mark == 2) end = j->whole.spans[i].end;
        while (end < j->whole.bytes && isspace((unsigned char)j->whole.text[end])) end++;
        size_t n = control_token(j, j->whole.text + end, j->whole.bytes - end);
        char *text = qs_strndup(j->whole.text + end, n);
        int32_t id = n ? qs_tokenizer_find(t, text) : -1;
        if (id >= 0) stop = id;
        qs_free(text);
    }
    json_decref(messages);
    return stop;
}
