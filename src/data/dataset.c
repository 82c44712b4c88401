#include "src/data/dataset.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/data/record_reader.h"

#define EXPECTED                                                                                                        \
    "instruction/input/output, question/answer, messages, conversations, prompt/completion, text, or input_ids[/labels]"

struct qs_dataset {
    qs_record_reader *reader;
    char *path;
    json_t *object; /* of the current row: owns its strings */
    int64_t number;
    bool decided;
    qs_row_kind kind;
    qs_message *messages;
    char **joined; /* texts made of several parts, one slot per message */
    size_t message_capacity;
    int32_t *ids, *labels;
    size_t id_capacity;
};

int qs_dataset_open(const char *path, qs_dataset **out, qs_err *e)
{
    *out = NULL;
    qs_record_reader *reader;
    QS_TRY(qs_record_reader_open(path, &reader, e));
    qs_dataset *d = qs_calloc(1, sizeof *d);
    d->reader = reader;
    d->path = qs_strdup(path);
    *out = d;
    return 0;
}

static void release_row(qs_dataset *d)
{
    json_decref(d->object);
    d->object = NULL;
    for (size_t i = 0; i < d->message_capacity; i++) {
        qs_free(d->joined[i]);
        d->joined[i] = NULL;
    }
}

void qs_dataset_close(qs_dataset *d)
{
    if (!d) return;
    release_row(d);
    qs_record_reader_close(d->reader);
    qs_free(d->path);
    qs_free(d->messages);
    qs_free(d->joined);
    qs_free(d->ids);
    qs_free(d->labels);
    qs_free(d);
}

void qs_dataset_progress(const qs_dataset *d, uint64_t *done, uint64_t *of) { qs_record_reader_progress(d->reader, done, of); }

/* Fails with "file: row n (line m): ...". */
#define ROW_FAIL(d, row, e, format, ...)                                                                               \
    QS_FAIL(e, QS_EFORMAT, "%s: row %lld (line %lld): " format, (d)->path, (long long)(row)->number,                   \
            (long long)(row)->line, ##__VA_ARGS__)

static const char *type_name(const json_t *v)
{
    if (!v) return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT: return "an object";
    case JSON_ARRAY: return "an array";
    case JSON_STRING: return "a string";
    case JSON_INTEGER:
    case JSON_REAL: return "a number";
    case JSON_NULL: return "null";
    default: return "true or false";
    }
}

static bool has(const json_t *o, const char *key) { return json_object_get(o, key) != NULL; }

static bool classify(const json_t *o, qs_row_kind *kind)
{
    if (has(o, "input_ids")) *kind = QS_ROW_TOKENS;
    else if (has(o, "messages") || has(o, "conversations")) *kind = QS_ROW_MESSAGES;
    else if (has(o, "instruction") && (has(o, "output") || has(o, "response"))) *kind = QS_ROW_ALPACA;
    else if (has(o, "question") && has(o, "answer")) *kind = QS_ROW_ALPACA;
    else if (has(o, "prompt") && (has(o, "completion") || has(o, "response"))) *kind = QS_ROW_COMPLETION;
    else if (has(o, "text")) *kind = QS_ROW_TEXT;
    else return false;
    return true;
}

static void list_columns(json_t *o, char *text, size_t bytes)
{
    const char *key;
    json_t *value;
    size_t used = 0;
    text[0] = 0;
    json_object_foreach(o, key, value)
    {
        int n = snprintf(text + used, bytes - used, "%s%.40s", used ? ", " : "", key);
        if (n < 0 || (size_t)n >= bytes - used) break;
        used += (size_t)n;
    }
    if (!used) snprintf(text, bytes, "none");
}

/* The string in the first of these columns that is there; null and absent are "" unless required. */
static int column(const qs_dataset *d, const qs_row *row, const char *name, const char *other, bool required, qs_text *out,
                  qs_err *e)
{
    json_t *v = json_object_get(d->object, name);
    if (!v && other) v = json_object_get(d->object, other);
    *out = (qs_text){"", 0};
    if (!required && (!v || json_is_null(v))) return 0;
    if (!json_is_string(v)) ROW_FAIL(d, row, e, "column \"%s\" must be a string, found %s", name, type_name(v));
    *out = (qs_text){json_string_value(v), json_string_length(v)};
    return 0;
}

static bool parse_role(const char *s, qs_role *role)
{
    static const struct {
        const char *name;
        qs_role role;
    } names[] = {{"system", QS_ROLE_SYSTEM},       {"developer", QS_ROLE_SYSTEM}, {"user", QS_ROLE_USER},
                 {"human", QS_ROLE_USER},          {"assistant", QS_ROLE_ASSISTANT}, {"gpt", QS_ROLE_ASSISTANT},
                 {"chatgpt", QS_ROLE_ASSISTANT},   {"model", QS_ROLE_ASSISTANT},  {"tool", QS_ROLE_TOOL},
                 {"function", QS_ROLE_TOOL},       {"observation", QS_ROLE_TOOL}};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(s, names[i].name) == 0) {
            *role = names[i].role;
            return true;
        }
    return false;
}

/* Content given as a list of parts, all of them text: their concatenation, owned by slot i. */
static int join_parts(qs_dataset *d, const qs_row *row, size_t i, json_t *parts, qs_message *m, qs_err *e)
{
    size_t k, total = 0;
    json_t *part;
    json_array_foreach(parts, k, part)
    {
        json_t *text = json_object_get(part, "text");
        if (!json_is_string(text))
            ROW_FAIL(d, row, e, "message %zu has a part that is not text; only text can be trained on", i + 1);
        total += json_string_length(text);
    }
    char *out = d->joined[i] = qs_malloc(total + 1);
    size_t used = 0;
    json_array_foreach(parts, k, part)
    {
        json_t *text = json_object_get(part, "text");
        memcpy(out + used, json_string_value(text), json_string_length(text));
        used += json_string_length(text);
    }
    out[used] = 0;
    m->text = out;
    m->bytes = used;
    return 0;
}

static int read_message(qs_dataset *d, const qs_row *row, size_t i, json_t *v, qs_message *m, qs_err *e)
{
    json_t *role = json_object_get(v, "role"), *content = json_object_get(v, "content");
    if (!role) role = json_object_get(v, "from");
    if (!content) content = json_object_get(v, "value");
    if (!json_is_string(role))
        ROW_FAIL(d, row, e, "message %zu needs \"role\" and \"content\" (or \"from\" and \"value\"), found %s", i + 1,
                 json_is_object(v) ? "an object without them" : type_name(v));
    if (!parse_role(json_string_value(role), &m->role))
        ROW_FAIL(d, row, e, "message %zu has the role \"%.40s\"; expected system, user (human), assistant (gpt) or tool", i + 1,
                 json_string_value(role));
    json_t *train = json_object_get(v, "train"), *weight = json_object_get(v, "weight");
    m->untrained = json_is_false(train) || (json_is_number(weight) && json_number_value(weight) == 0);
    if (json_array_size(json_object_get(v, "tool_calls")))
        ROW_FAIL(d, row, e, "message %zu has tool_calls, which are not supported; write the call as text in \"content\"", i + 1);
    if (json_is_array(content)) return join_parts(d, row, i, content, m, e);
    if (!json_is_string(content))
        ROW_FAIL(d, row, e, "message %zu must have a string as content, found %s", i + 1, type_name(content));
    m->text = json_string_value(content);
    m->bytes = json_string_length(content);
    return 0;
}

static int read_messages(qs_dataset *d, qs_row *row, qs_err *e)
{
    json_t *list = json_object_get(d->object, "messages");
    if (!list) list = json_object_get(d->object, "conversations");
    size_t n = json_array_size(list), i;
    if (!n) ROW_FAIL(d, row, e, "expected a list of messages, found %s", json_is_array(list) ? "an empty one" : type_name(list));
    if (n > d->message_capacity) {
        d->messages = qs_realloc(d->messages, n * sizeof *d->messages);
        d->joined = qs_realloc(d->joined, n * sizeof *d->joined);
        memset(d->joined + d->message_capacity, 0, (n - d->message_capacity) * sizeof *d->joined);
        d->message_capacity = n;
    }
    json_t *v;
    json_array_foreach(list, i, v)
    {
        d->messages[i] = (qs_message){0};
        QS_TRY(read_message(d, row, i, v, &d->messages[i], e));
    }
    row->messages = d->messages;
    row->message_count = n;
    return 0;
}

static int read_tokens(qs_dataset *d, qs_row *row, qs_err *e)
{
    json_t *ids = json_object_get(d->object, "input_ids"), *labels = json_object_get(d->object, "labels"), *v;
    if (!json_is_array(ids)) ROW_FAIL(d, row, e, "\"input_ids\" must be a list of integers, found %s", type_name(ids));
    if (json_is_null(labels)) labels = NULL;
    size_t n = json_array_size(ids), i;
    if (labels && json_array_size(labels) != n)
        ROW_FAIL(d, row, e, "\"labels\" must have as many entries as \"input_ids\" (%zu), found %zu", n, json_array_size(labels));
    if (n > d->id_capacity) {
        d->ids = qs_realloc(d->ids, n * sizeof *d->ids);
        d->labels = qs_realloc(d->labels, n * sizeof *d->labels);
        d->id_capacity = n;
    }
    json_array_foreach(ids, i, v)
    {
        json_int_t id = json_is_integer(v) ? json_integer_value(v) : -1;
        if (id < 0 || id > INT32_MAX) ROW_FAIL(d, row, e, "input_ids[%zu] must be a token id, 0 or more", i);
        d->ids[i] = (int32_t)id;
    }
    if (labels) json_array_foreach(labels, i, v)
        {
            json_int_t label = json_is_integer(v) ? json_integer_value(v) : -1;
            if (label != -100 && label != d->ids[i])
                ROW_FAIL(d, row, e, "labels[%zu] must be -100 or equal to input_ids[%zu] (%d), found %lld", i, i, d->ids[i],
                         (long long)label);
            d->labels[i] = (int32_t)label;
        }
    row->ids = d->ids;
    row->labels = labels ? d->labels : NULL;
    row->id_count = n;
    return 0;
}

static int read_row(qs_dataset *d, qs_row *row, qs_err *e)
{
    bool qa = !has(d->object, "instruction");
    switch (row->kind) {
    case QS_ROW_ALPACA:
        QS_TRY(column(d, row, qa ? "question" : "instruction", NULL, true, &row->instruction, e));
        if (!qa) QS_TRY(column(d, row, "input", "context", false, &row->input, e));
        QS_TRY(column(d, row, "system", NULL, false, &row->system, e));
        if (json_array_size(json_object_get(d->object, "history")))
            ROW_FAIL(d, row, e, "\"history\" is not supported; write the turns as \"messages\"");
        return column(d, row, qa ? "answer" : "output", qa ? NULL : "response", true, &row->output, e);
    case QS_ROW_COMPLETION:
        QS_TRY(column(d, row, "prompt", NULL, true, &row->instruction, e));
        return column(d, row, "completion", "response", true, &row->output, e);
    case QS_ROW_TEXT: return column(d, row, "text", NULL, true, &row->output, e);
    case QS_ROW_MESSAGES: return read_messages(d, row, e);
    default: return read_tokens(d, row, e);
    }
}

int qs_dataset_next(qs_dataset *d, qs_row *row, qs_err *e)
{
    release_row(d);
    qs_record record;
    int got = qs_record_reader_next(d->reader, &record, e);
    if (got <= 0) return got;
    *row = (qs_row){.number = ++d->number, .line = record.line};
    row->input = row->system = row->instruction = (qs_text){"", 0};
    if (qs_record_reader_format(d->reader) == QS_RECORDS_TEXT) {
        row->kind = QS_ROW_TEXT;
        row->output = (qs_text){record.text, record.bytes};
        return 1;
    }
    json_error_t why;
    d->object = json_loadb(record.text, record.bytes, JSON_ALLOW_NUL, &why);
    if (!json_is_object(d->object))
        ROW_FAIL(d, row, e, "is not a JSON object: %s at column %d", d->object ? "something else" : why.text, why.column);
    qs_row_kind kind;
    char columns[256];
    if (!classify(d->object, &kind) || (d->decided && kind != d->kind)) {
        list_columns(d->object, columns, sizeof columns);
        ROW_FAIL(d, row, e, "expected the columns %s; found: %s",
                 d->decided ? "of the first row, so that all rows are of one kind" : EXPECTED, columns);
    }
    d->decided = true;
    row->kind = d->kind = kind;
    QS_TRY(read_row(d, row, e));
    return 1;
}
