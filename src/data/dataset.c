#include "src/data/dataset.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

#include "src/base/memory.h"
#include "src/data/messages.h"
#include "src/data/record_reader.h"
#include "src/data/row_json.h"
#include "src/data/token_rows.h"

#define EXPECTED                                                                                       \
    "instruction/input/output, question/answer, messages, conversations, prompt/completion, text, or " \
    "input_ids[/labels]"

struct qs_dataset {
    qs_record_reader *reader;
    char *path;
    qs_column_choice choice;
    json_t *object; /* of the current row: owns its strings */
    bool odd;       /* some of its numbers have no place in JSON */
    int64_t number, line;
    bool decided;
    bool row_failed; /* the row was cut out whole; what is wrong lies in it */
    qs_row_kind kind;
    qs_messages messages;
    qs_token_row tokens;
    size_t document; /* of tokens: the next to hand out */
    qs_unused unused;
};

int qs_dataset_open(const char *path, const qs_column_choice *choice, qs_dataset **out, qs_err *e)
{
    *out = NULL;
    qs_record_reader *reader;
    QS_TRY(qs_record_reader_open(path, &reader, e));
    qs_dataset *d = qs_calloc(1, sizeof *d);
    d->reader = reader;
    d->path = qs_strdup(path);
    if (choice) d->choice = *choice;
    *out = d;
    return 0;
}

static void release_row(qs_dataset *d)
{
    qs_messages_clear(&d->messages);
    json_decref(d->object);
    d->object = NULL;
}

void qs_dataset_close(qs_dataset *d)
{
    if (!d) return;
    release_row(d);
    qs_record_reader_close(d->reader);
    qs_messages_free(&d->messages);
    qs_token_row_free(&d->tokens);
    qs_unused_free(&d->unused);
    qs_free(d->path);
    qs_free(d);
}

void qs_dataset_progress(const qs_dataset *d, uint64_t *done, uint64_t *of)
{
    qs_record_reader_progress(d->reader, done, of);
}

qs_unused *qs_dataset_unused(qs_dataset *d) { return &d->unused; }

bool qs_dataset_goes_on(const qs_dataset *d) { return d->row_failed || qs_record_reader_goes_on(d->reader); }

/* ---- columns of text --------------------------------------------------------------------------------- */

/* The string in the first of these columns (NULL at the end) that says something; "" when none does. Two that
 * differ are refused. */
static int text_of(const qs_dataset *d, const char *const *names, json_t **out, qs_err *e)
{
    const char *first = NULL;
    *out = NULL;
    for (; *names; names++) {
        json_t *v = json_object_get(d->object, *names);
        if (!v || (qs_column_is_empty(v) && json_is_string(v))) continue;
        if (!json_is_string(v))
            QS_FAIL(e, QS_EFORMAT, "column \"%s\" must be a string, found %s", *names, qs_json_type_name(v));
        if (first && !json_equal(v, *out))
            QS_FAIL(e, QS_EFORMAT,
                    "has both \"%s\" and \"%s\", which mean the same and differ; keep one, or say "
                    "--ignore_columns %s",
                    first, *names, *names);
        if (!first) *out = v;
        first = first ? first : *names;
    }
    return 0;
}

static qs_text text(const json_t *v)
{
    return v ? (qs_text){json_string_value(v), json_string_length(v)} : (qs_text){"", 0};
}

static const char *const systems[] = {"system", "system_prompt", NULL};

/* The user's turn of an instruction with its input, as one string. */
static json_t *joined(const json_t *instruction, const json_t *input)
{
    qs_text a = text(instruction), b = text(input);
    char *both = qs_malloc(a.bytes + b.bytes + 2);
    memcpy(both, a.data, a.bytes);
    both[a.bytes] = '\n';
    memcpy(both + a.bytes + 1, b.data, b.bytes);
    json_t *v = b.bytes ? json_stringn(both, a.bytes + 1 + b.bytes) : json_stringn(a.data, a.bytes);
    qs_free(both);
    return v;
}

static int read_instruction(qs_dataset *d, qs_row *row, qs_err *e)
{
    static const char *const questions[] = {"instruction", "question", "query", NULL},
                             *const inputs[] = {"input", "context", NULL},
                             *const answers[] = {"output", "response", "answer", NULL},
                             *const bare[] = {"input", NULL}, *const contexts[] = {"context", NULL};
    json_t *question, *input, *answer, *system, *history = json_object_get(d->object, "history");
    QS_TRY(text_of(d, questions, &question, e));
    bool only_input = !question && !json_object_get(d->object, "instruction");
    if (only_input) QS_TRY(text_of(d, bare, &question, e));
    QS_TRY(text_of(d, only_input ? contexts : inputs, &input, e));
    QS_TRY(text_of(d, answers, &answer, e));
    QS_TRY(text_of(d, systems, &system, e));
    row->instruction = text(question);
    row->input = text(input);
    row->output = text(answer);
    row->system = text(system);
    if (qs_column_is_empty(history)) return 0;
    if (!json_is_array(history))
        QS_FAIL(e, QS_EFORMAT, "column \"history\" must be a list of pairs, found %s",
                qs_json_type_name(history));
    json_t *user = joined(question, input), *assistant = answer ? json_incref(answer) : json_string("");
    int rc = qs_messages_from_turns(&d->messages, system, history, user, assistant, e);
    json_decref(user);
    json_decref(assistant);
    row->conversation = &d->messages.conversation;
    return rc;
}

static int read_completion(qs_dataset *d, qs_row *row, qs_err *e)
{
    static const char *const prompts[] = {"prompt", NULL}, *const completions[] = {"completion", "response",
                                                                                   "output", "answer", NULL};
    json_t *prompt, *completion, *system;
    QS_TRY(text_of(d, prompts, &prompt, e));
    QS_TRY(text_of(d, completions, &completion, e));
    QS_TRY(text_of(d, systems, &system, e));
    row->instruction = text(prompt);
    row->output = text(completion);
    row->system = text(system);
    return 0;
}

static void hand_out_tokens(qs_dataset *d, qs_row *row)
{
    const qs_token_row *t = &d->tokens;
    int32_t from = t->documents[d->document], to = t->documents[d->document + 1];
    row->kind = QS_ROW_TOKENS;
    row->continued = d->document++ > 0;
    row->ids = t->ids + from;
    row->labels = t->masked ? t->labels + from : NULL;
    row->id_count = (size_t)(to - from);
}

static int read_row(qs_dataset *d, qs_row *row, qs_err *e)
{
    const char *const texts[] = {d->choice.text ? d->choice.text : "text", NULL};
    json_t *v;
    switch (row->kind) {
    case QS_ROW_ALPACA:
        return read_instruction(d, row, e);
    case QS_ROW_COMPLETION:
        return read_completion(d, row, e);
    case QS_ROW_TEXT:
        QS_TRY(text_of(d, texts, &v, e));
        row->output = text(v);
        return 0;
    case QS_ROW_MESSAGES:
        QS_TRY(qs_messages_read(&d->messages, d->object, e));
        row->conversation = &d->messages.conversation;
        return 0;
    default:
        QS_TRY(qs_token_row_read(&d->tokens, d->object, e));
        d->document = 0;
        hand_out_tokens(d, row);
        return 0;
    }
}

/* ---- rows -------------------------------------------------------------------------------------------- */

static const char not_utf8[] =
    "is not UTF-8 (Latin-1 or Windows-1252?); convert the file: iconv -f WINDOWS-1252 -t UTF-8 FILE >NEW";

/* Plain text must be text. */
static int check_text(const char *p, size_t n, qs_err *e)
{
    int64_t lines = 0;
    for (size_t i = 0; i < n;) {
        utf8proc_int32_t code;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)p + i, (utf8proc_ssize_t)(n - i), &code);
        if (used <= 0)
            QS_FAIL(e, QS_EFORMAT, "byte 0x%02x in the %lld. line of this text %s",
                    (unsigned)(unsigned char)p[i], (long long)lines + 1, not_utf8);
        if (!code)
            QS_FAIL(e, QS_EFORMAT,
                    "has a NUL byte (0x00) in the %lld. line of this text; it is binary, or was not written "
                    "whole",
                    (long long)lines + 1);
        lines += code == '\n';
        i += (size_t)used;
    }
    return 0;
}

/* A table's row as an object of strings. */
static int take_fields(qs_dataset *d, const qs_record *r, qs_err *e)
{
    d->object = json_object();
    for (size_t i = 0; i < r->field_count; i++) {
        if (!r->names[i].bytes) continue; /* the index that pandas writes */
        json_t *v = json_stringn(r->fields[i].text, r->fields[i].bytes);
        if (!v || json_object_set_new(d->object, r->names[i].text, v))
            QS_FAIL(e, QS_EFORMAT, "its column %zu %s", i + 1, not_utf8);
    }
    return 0;
}

static int take_object(qs_dataset *d, const qs_record *r, qs_err *e)
{
    json_error_t why;
    d->odd = false;
    if (!r->text) return take_fields(d, r, e);
    d->object = qs_row_json_parse(r->text, r->bytes, &d->odd, &why);
    if (!d->object && strstr(why.text, "unable to decode byte"))
        QS_FAIL(e, QS_EFORMAT, "%s: %s", why.text, not_utf8);
    if (!d->object && r->bytes > 1 && memcmp(r->text, "{'", 2) == 0)
        QS_FAIL(e, QS_EFORMAT,
                "is no JSON but Python's way of writing, with single quotes; write rows with json.dumps");
    if (!json_is_object(d->object))
        QS_FAIL(e, QS_EFORMAT, "is not a JSON object: %s at column %d",
                d->object ? "something else" : why.text, why.column);
    json_t *inner = json_object_get(d->object, "row");
    if (json_is_object(inner) && json_object_get(d->object, "row_idx")) { /* as the hub's rows are served */
        json_incref(inner);
        json_decref(d->object);
        d->object = inner;
    }
    return 0;
}

/* A key that holds a list of objects, as where rows lie one level too deep. */
static const char *holder_of_rows(const json_t *object)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)object, key,
                        v) if (json_is_object(json_array_get(v, 0))) return key;
    return NULL;
}

static int no_kind(qs_dataset *d, qs_err *e)
{
    char columns[256];
    const char *key = holder_of_rows(d->object);
    qs_columns_list(d->object, columns, sizeof columns);
    qs_unused ignored = {.count = 0};
    int rc = d->decided ? 0
                        : qs_columns_check(d->object, &d->choice, QS_ROW_TEXT, false, &ignored,
                                           e); /* may name what they are */
    qs_unused_free(&ignored);
    if (rc) return rc;
    QS_FAIL(e, QS_EFORMAT, "expected the columns %s; found (null counts as absent): %s%s%.60s%s",
            d->decided       ? "of the first row, so that all rows are of one kind"
            : d->choice.text ? d->choice.text
                             : EXPECTED,
            columns, key ? " (\"" : "", key ? key : "",
            key ? "\" holds a list: are the rows inside it?)" : "");
}

static int take_record(qs_dataset *d, const qs_record *record, qs_row *row, qs_err *e)
{
    if (qs_record_reader_format(d->reader) == QS_RECORDS_TEXT) {
        row->kind = QS_ROW_TEXT;
        row->output = (qs_text){record->text, record->bytes};
        return check_text(record->text, record->bytes, e);
    }
    QS_TRY(take_object(d, record, e));
    qs_columns_clean(d->object, &d->choice);
    qs_row_kind kind;
    if (!qs_columns_classify(d->object, &d->choice, &kind) || (d->decided && kind != d->kind))
        return no_kind(d, e);
    QS_TRY(qs_columns_check(d->object, &d->choice, kind, d->odd, &d->unused, e));
    d->decided = true;
    row->kind = d->kind = kind;
    return read_row(d, row, e);
}

int qs_dataset_next(qs_dataset *d, qs_row *row, qs_err *e)
{
    *row = (qs_row){.number = d->number,
                    .line = d->line,
                    .instruction = {"", 0},
                    .input = {"", 0},
                    .output = {"", 0},
                    .system = {"", 0}};
    if (d->document && d->document < d->tokens.document_count) return hand_out_tokens(d, row), 1;
    d->document = 0;
    release_row(d);
    qs_record record;
    d->row_failed = false;
    int got = qs_record_reader_next(d->reader, &record, e);
    if (got == 0) return 0;
    row->number = ++d->number;
    if (got < 0) return got;
    row->line = d->line = record.line;
    int rc = take_record(d, &record, row, e);
    if (!rc) return 1;
    d->row_failed = true;
    d->document = 0;
    return qs_err_prefix(e, "%s: row %lld (line %lld)", d->path, (long long)d->number, (long long)d->line);
}
