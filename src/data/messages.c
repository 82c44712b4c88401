#include "src/data/messages.h"

#include <ctype.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/data/columns.h"

void qs_messages_clear(qs_messages *m)
{
    json_decref(m->list);
    json_decref(m->tools);
    json_decref(m->documents);
    json_decref(m->variables);
    m->list = m->tools = m->documents = m->variables = NULL;
    m->conversation = (qs_conversation){0};
}

void qs_messages_free(qs_messages *m)
{
    qs_messages_clear(m);
    qs_free(m->untrained);
    *m = (qs_messages){0};
}

/* ---- JSON that lies in strings ----------------------------------------------------------------------- */

static const char *first_of(const json_t *v)
{
    const char *p = json_string_value(v);
    while (p && isspace((unsigned char)*p)) p++;
    return p;
}

/* The value, or what its text holds (an array or object, as CSV and Parquet exports write them). A new
 * reference; NULL with an error. */
static json_t *unpacked(json_t *v, const char *name, qs_err *e)
{
    const char *text = first_of(v);
    json_error_t why;
    if (!text || (*text != '[' && *text != '{')) return json_incref(v);
    json_t *inner = json_loads(text, JSON_ALLOW_NUL, &why);
    if (inner) return inner;
    bool python = strstr(text, "{'") != NULL;
    qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "column \"%s\" is text that does not parse as JSON (%s)%s",
               name, why.text,
               python ? ": it is written in Python's way, with single quotes; write it with json.dumps" : "");
    return NULL;
}

/* Takes a column out of the row into *out, as a list. */
static int take_list(json_t *row, const char *name, json_t **out, qs_err *e)
{
    json_t *v = json_object_get(row, name), *item;
    size_t i;
    if (qs_column_is_empty(v)) return 0;
    json_t *list = unpacked(v, name, e);
    if (!list) return -QS_EFORMAT;
    if (!json_is_array(list)) {
        json_decref(list);
        QS_FAIL(e, QS_EFORMAT, "column \"%s\" must be a list, found %s", name, qs_json_type_name(v));
    }
    *out = list;
    json_array_foreach(list, i, item)
    {
        json_t *inner = unpacked(item, name, e);
        if (!inner) return -QS_EFORMAT;
        json_array_set_new(list, i, inner);
    }
    return 0;
}

/* The old OpenAI form: each function becomes a tool. */
static int take_functions(json_t *row, json_t **tools, qs_err *e)
{
    json_t *functions = NULL, *f;
    size_t i;
    int rc = take_list(row, "functions", &functions, e);
    if (!rc && functions && !*tools) {
        *tools = json_array();
        json_array_foreach(functions, i, f)
            json_array_append_new(*tools, json_pack("{s:s,s:O}", "type", "function", "function", f));
    }
    json_decref(functions);
    return rc;
}

/* ---- one message ------------------------------------------------------------------------------------- */

static const char *canonical_role(const char *role, bool share_gpt)
{
    static const struct {
        const char *name, *role;
        bool share_gpt; /* only where it is written as "from" */
    } names[] = {{"human", "user", false},
                 {"gpt", "assistant", false},
                 {"chatgpt", "assistant", false},
                 {"bard", "assistant", true},
                 {"bing", "assistant", true},
                 {"model", "assistant", false},
                 {"bot", "assistant", false},
                 {"observation", "tool", false},
                 {"function", "tool", true},
                 {"tool_response", "tool", true},
                 {"function_response", "tool", true},
                 {"system", "system", false},
                 {"developer", "developer", false},
                 {"user", "user", false},
                 {"assistant", "assistant", false},
                 {"tool", "tool", false},
                 {"function", "function", false},
                 {"ipython", "ipython", false},
                 {"function_call", "function_call", false}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcasecmp(role, names[i].name) == 0 && (share_gpt || !names[i].share_gpt)) return names[i].role;
    return NULL;
}

/* A call as the templates of today have it; arguments that are JSON text become their object. */
static json_t *call_of(json_t *call)
{
    json_t *name = json_object_get(call, "name"), *arguments = json_object_get(call, "arguments");
    if (!json_is_string(name)) return NULL;
    json_t *parsed =
        json_is_string(arguments) ? json_loads(json_string_value(arguments), JSON_ALLOW_NUL, NULL) : NULL;
    if (!arguments) parsed = json_object();
    if (!parsed) parsed = json_incref(arguments);
    return json_pack("{s:s,s:{s:O,s:o}}", "type", "function", "function", "name", name, "arguments", parsed);
}

static int put_call(json_t *message, json_t *call, size_t i, qs_err *e)
{
    json_t *made = call_of(call);
    if (!made) QS_FAIL(e, QS_EFORMAT, "message %zu has a function_call without a name and arguments", i + 1);
    json_object_set_new(message, "tool_calls", json_pack("[o]", made));
    return 0;
}

/* ShareGPT's turn "function_call", whose text is the call (or a list of calls) as JSON. */
static int turn_into_call(json_t *message, size_t i, qs_err *e)
{
    json_t *value = json_object_get(message, "content"),
           *call = json_is_string(value) ? json_loads(json_string_value(value), 0, NULL) : NULL;
    json_t *calls = json_is_array(call) ? json_incref(call)
                                        : json_pack("[O]", call    ? call
                                                           : value ? value
                                                                   : json_null()),
           *one, *list = json_array();
    size_t k;
    int rc = 0;
    json_array_foreach(calls, k, one)
    {
        json_t *made = call_of(one);
        if (made)
            json_array_append_new(list, made);
        else
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                            "message %zu has the role function_call, and its text is no call {\"name\", "
                            "\"arguments\"} in JSON",
                            i + 1);
    }
    json_object_set_new(message, "role", json_string("assistant"));
    json_object_set_new(message, "content", json_string(""));
    json_object_set_new(message, "tool_calls", list);
    json_decref(call);
    json_decref(calls);
    return rc;
}

/* A list of parts: all text; plain strings among them make it one string. */
static int check_parts(json_t *message, json_t *parts, size_t i, qs_err *e)
{
    size_t k;
    json_t *part;
    bool plain = false;
    json_array_foreach(parts, k, part)
    {
        const char *type = json_string_value(json_object_get(part, "type"));
        bool text = json_is_string(json_object_get(part, "text")) && (!type || strstr(type, "text"));
        plain |= json_is_string(part);
        if (!text && !json_is_string(part))
            QS_FAIL(e, QS_EFORMAT,
                    "message %zu has a part that is not text%s%.40s; only text can be trained on", i + 1,
                    type ? " but of type " : "", type ? type : "");
    }
    if (!plain) return 0;
    char *joined;
    size_t bytes;
    const char *text = qs_content_text(parts, &joined, &bytes);
    json_object_set_new(message, "content", json_stringn(text, bytes));
    qs_free(joined);
    return 0;
}

static int check_content(json_t *message, size_t i, qs_err *e)
{
    json_t *content = json_object_get(message, "content");
    if (json_is_array(content)) return check_parts(message, content, i, e);
    if (json_is_string(content)) return 0;
    if (content && !json_is_null(content))
        QS_FAIL(e, QS_EFORMAT, "message %zu must have a string as content, found %s", i + 1,
                qs_json_type_name(content));
    if (qs_column_is_empty(json_object_get(message, "tool_calls")))
        QS_FAIL(e, QS_EFORMAT, "message %zu must have a string as content, found %s", i + 1,
                qs_json_type_name(content));
    json_object_set_new(message, "content", json_null());
    return 0;
}

/* The masks of a turn, which leave the message. */
static int take_masks(json_t *message, const char *role, size_t i, bool *untrained, qs_err *e)
{
    static const char *const names[] = {"train", "training", "trainable", "loss", "weight", "loss_weight"};
    for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
        json_t *v = json_object_get(message, names[k]);
        if (!v) continue;
        int mask = qs_mask_value(v);
        if (mask < 0)
            QS_FAIL(e, QS_EFORMAT,
                    "message %zu has \"%s\" that is neither 0 nor 1 (true, false); parts of a weight are not "
                    "supported",
                    i + 1, names[k]);
        if (mask && k < 4 && strcmp(role, "assistant") != 0)
            QS_FAIL(e, QS_EFORMAT,
                    "message %zu is from the %s and has \"%s\": true; only the assistant's messages are "
                    "trained on (or all, with "
                    "--train_on_inputs)",
                    i + 1, role, names[k]);
        *untrained |= !mask;
        json_object_del(message, names[k]);
    }
    return 0;
}

static int refuse_keys(const json_t *message, size_t i, qs_err *e)
{
    static const char *const keys[] = {"training_detail", "train_detail", "images", "image",
                                       "videos",          "video",        "audios", "audio"};
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        if (!qs_column_is_empty(json_object_get(message, keys[k])))
            QS_FAIL(e, QS_EFORMAT, "message %zu has \"%s\", which is not honoured: %s", i + 1, keys[k],
                    k < 2 ? "parts of a text cannot be masked; split it into messages"
                          : "only text can be trained on");
    return 0;
}

/* Moves the value of `from` to `to`, unless that is there. */
static void rename_key(json_t *o, const char *from, const char *to)
{
    json_t *v = json_object_get(o, from);
    if (v && !json_object_get(o, to)) json_object_set(o, to, v);
    if (v) json_object_del(o, from);
}

static int read_message(json_t *v, size_t i, bool *untrained, qs_err *e)
{
    const char *key;
    json_t *member;
    void *next;
    json_object_foreach_safe(v, next, key, member) if (json_is_null(member) && strcmp(key, "content") != 0)
        json_object_del(v, key);
    bool share_gpt = !json_object_get(v, "role") && json_object_get(v, "from");
    rename_key(v, "from", "role");
    if (!json_object_get(v, "content")) rename_key(v, "value", "content");
    const char *said = json_string_value(json_object_get(v, "role"));
    if (!said)
        QS_FAIL(e, QS_EFORMAT,
                "message %zu needs \"role\" and \"content\" (or \"from\" and \"value\"), found %s", i + 1,
                json_is_object(v) ? "an object without them" : qs_json_type_name(v));
    const char *role = canonical_role(said, share_gpt);
    if (!role)
        QS_FAIL(e, QS_EFORMAT,
                "message %zu has the role \"%.40s\"; expected system, user (human), assistant (gpt) or tool",
                i + 1, said);
    json_object_set_new(v, "role", json_string(role));
    QS_TRY(refuse_keys(v, i, e));
    if (strcmp(role, "function_call") == 0) {
        QS_TRY(turn_into_call(v, i, e));
        role = "assistant";
    }
    json_t *call = json_object_get(v, "function_call");
    if (!qs_column_is_empty(call) && qs_column_is_empty(json_object_get(v, "tool_calls")))
        QS_TRY(put_call(v, call, i, e));
    json_object_del(v, "function_call");
    json_t *calls = NULL;
    int rc = take_list(v, "tool_calls", &calls, e);
    if (calls)
        json_object_set_new(v, "tool_calls", calls);
    else
        json_object_del(v, "tool_calls");
    if (rc) return rc;
    QS_TRY(take_masks(v, role, i, untrained, e));
    return check_content(v, i, e);
}

/* ---- the row ----------------------------------------------------------------------------------------- */

/* Appends one side of a prompt/completion pair: a list, a single message, or a text. */
static int append_side(qs_messages *m, json_t *v, const char *name, const char *role, qs_err *e)
{
    json_t *side = v ? unpacked(v, name, e) : NULL;
    if (v && !side) return -QS_EFORMAT;
    int rc = 0;
    if (json_is_array(side))
        json_array_extend(m->list, side);
    else if (json_is_object(side))
        json_array_append(m->list, side);
    else if (json_is_string(side))
        json_array_append_new(m->list, json_pack("{s:s,s:O}", "role", role, "content", side));
    else
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                        "column \"%s\" must be a list of messages or a string, found %s", name,
                        qs_json_type_name(v));
    json_decref(side);
    return rc;
}

static int collect(qs_messages *m, json_t *row, size_t *context, qs_err *e)
{
    static const char *const names[] = {"messages", "conversations", "conversation"};
    *context = 0;
    for (int i = 0; i < 3; i++) {
        json_t *v = json_object_get(row, names[i]);
        if (qs_column_is_empty(v) && (i < 2 || !v)) continue;
        m->list = unpacked(v, names[i], e);
        if (!m->list) return -QS_EFORMAT;
        if (json_array_size(m->list)) return 0;
        QS_FAIL(e, QS_EFORMAT, "expected a list of messages in \"%s\", found %s", names[i],
                json_is_array(m->list) ? "an empty one" : qs_json_type_name(v));
    }
    if (!json_object_get(row, "prompt"))
        QS_FAIL(e, QS_EFORMAT, "expected a list of messages, found an empty one");
    m->list = json_array();
    QS_TRY(append_side(m, json_object_get(row, "prompt"), "prompt", "user", e));
    *context = json_array_size(m->list);
    return append_side(m, json_object_get(row, "completion"), "completion", "assistant", e);
}

static int put_system(qs_messages *m, const json_t *row, qs_err *e)
{
    const char *name = "system";
    json_t *system = json_object_get(row, name);
    if (qs_column_is_empty(system)) system = json_object_get(row, name = "system_prompt");
    if (qs_column_is_empty(system)) return 0;
    if (!json_is_string(system))
        QS_FAIL(e, QS_EFORMAT, "column \"%s\" must be a string, found %s", name, qs_json_type_name(system));
    json_t *first = json_array_get(m->list, 0);
    const char *role = json_string_value(json_object_get(first, "role"));
    if (role && (strcmp(role, "system") == 0 || strcmp(role, "developer") == 0)) {
        if (json_equal(json_object_get(first, "content"), system)) return 0;
        QS_FAIL(e, QS_EFORMAT,
                "has a system message and the column \"%s\" with another text; keep one of them", name);
    }
    json_array_insert_new(m->list, 0, json_pack("{s:s,s:O}", "role", "system", "content", system));
    return 0;
}

static void point(qs_messages *m)
{
    m->conversation = (qs_conversation){m->list, m->tools, m->documents, m->variables, m->untrained};
}

/* Normalises the list; the first `context` messages are not trained. */
static int read_list(qs_messages *m, size_t context, qs_err *e)
{
    size_t n = json_array_size(m->list), i;
    json_t *v;
    if (n + 1 > m->capacity) {
        m->capacity = 2 * n + 8;
        m->untrained = qs_realloc(m->untrained, m->capacity * sizeof *m->untrained);
    }
    memset(m->untrained, 0, m->capacity * sizeof *m->untrained);
    json_array_foreach(m->list, i, v)
    {
        m->untrained[i] = i < context;
        QS_TRY(read_message(v, i, &m->untrained[i], e));
    }
    return 0;
}

int qs_messages_read(qs_messages *m, json_t *row, qs_err *e)
{
    size_t context;
    json_t *variables = json_object_get(row, "chat_template_kwargs");
    qs_messages_clear(m);
    QS_TRY(collect(m, row, &context, e));
    QS_TRY(read_list(m, context, e));
    size_t before = json_array_size(m->list);
    QS_TRY(put_system(m, row, e));
    if (json_array_size(m->list) > before) {
        memmove(m->untrained + 1, m->untrained, before * sizeof *m->untrained);
        m->untrained[0] = false;
    }
    QS_TRY(take_list(row, "tools", &m->tools, e));
    QS_TRY(take_functions(row, &m->tools, e));
    QS_TRY(take_list(row, "documents", &m->documents, e));
    if (!qs_column_is_empty(variables)) {
        m->variables = unpacked(variables, "chat_template_kwargs", e);
        if (!m->variables) return -QS_EFORMAT;
        if (!json_is_object(m->variables))
            QS_FAIL(e, QS_EFORMAT, "column \"chat_template_kwargs\" must be an object, found %s",
                    qs_json_type_name(variables));
    }
    point(m);
    return 0;
}

static void append_turn(qs_messages *m, const char *role, json_t *text)
{
    json_array_append_new(m->list, json_pack("{s:s,s:O}", "role", role, "content", text));
}

int qs_messages_from_turns(qs_messages *m, json_t *system, json_t *history, json_t *user, json_t *assistant,
                           qs_err *e)
{
    size_t i;
    json_t *pair;
    qs_messages_clear(m);
    m->list = json_array();
    if (system) append_turn(m, "system", system);
    json_array_foreach(history, i, pair)
    {
        json_t *question = json_array_get(pair, 0), *answer = json_array_get(pair, 1);
        if (!json_is_string(question) || !json_is_string(answer) || json_array_size(pair) != 2)
            QS_FAIL(e, QS_EFORMAT,
                    "column \"history\" must hold pairs of a question and an answer; entry %zu is none",
                    i + 1);
        append_turn(m, "user", question);
        append_turn(m, "assistant", answer);
    }
    append_turn(m, "user", user);
    append_turn(m, "assistant", assistant);
    QS_TRY(read_list(m, 0, e));
    point(m);
    return 0;
}
