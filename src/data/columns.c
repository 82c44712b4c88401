#include "src/data/columns.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "src/base/memory.h"
#include "src/data/row_json.h"

/* ---- small things ------------------------------------------------------------------------------------ */

void qs_unused_note(qs_unused *u, const char *before, const char *name)
{
    char full[96];
    snprintf(full, sizeof full, "%s%.60s", before, name);
    for (char *c = full; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '.';
    for (int i = 0; i < u->count; i++)
        if (strcmp(u->names[i], full) == 0) return;
    if (u->count == QS_UNUSED_MAX)
        u->more = true;
    else
        u->names[u->count++] = qs_strdup(full);
}

void qs_unused_free(qs_unused *u)
{
    for (int i = 0; i < u->count; i++) qs_free(u->names[i]);
    *u = (qs_unused){.count = 0};
}

bool qs_column_is_empty(const json_t *v)
{
    return !v || json_is_null(v) || (json_is_string(v) && !json_string_length(v)) ||
           (json_is_array(v) && !json_array_size(v)) || (json_is_object(v) && !json_object_size(v));
}

const char *qs_json_type_name(const json_t *v)
{
    if (!v) return "nothing";
    switch (json_typeof(v)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_NULL:
        return "null";
    default:
        return "true or false";
    }
}

void qs_columns_list(const json_t *row, char *text, size_t bytes)
{
    const char *key;
    json_t *value;
    size_t used = 0;
    text[0] = 0;
    json_object_foreach((json_t *)(uintptr_t)row, key, value)
    {
        int n = snprintf(text + used, bytes - used, "%s%.40s", used ? ", " : "", key);
        if (n < 0 || (size_t)n >= bytes - used) break;
        used += (size_t)n;
    }
    if (!used) snprintf(text, bytes, "none");
}

int qs_mask_value(const json_t *v)
{
    static const char *const words[] = {"0", "false", "no", "0.0", "1", "true", "yes", "1.0"};
    if (json_is_boolean(v)) return json_is_true(v);
    if (json_is_number(v)) return json_number_value(v) == 0 ? 0 : json_number_value(v) == 1 ? 1 : -1;
    for (int i = 0; i < 8 && json_is_string(v); i++)
        if (strcasecmp(json_string_value(v), words[i]) == 0) return i >= 4;
    return -1;
}

typedef bool (*is_there)(const json_t *row, const char *key);

static bool present(const json_t *row, const char *key) { return json_object_get(row, key) != NULL; }
static bool filled(const json_t *row, const char *key)
{
    return !qs_column_is_empty(json_object_get(row, key));
}

static bool any(const json_t *row, is_there is, const char *a, const char *b, const char *c)
{
    return is(row, a) || is(row, b) || (c && is(row, c));
}

/* ---- the tables -------------------------------------------------------------------------------------- */

enum {
    ALPACA = 1 << QS_ROW_ALPACA,
    MESSAGES = 1 << QS_ROW_MESSAGES,
    COMPLETION = 1 << QS_ROW_COMPLETION,
    TEXT = 1 << QS_ROW_TEXT,
    TOKENS = 1 << QS_ROW_TOKENS,
    WRITTEN = ALPACA | MESSAGES | COMPLETION | TEXT,
    ALL = WRITTEN | TOKENS
};

/* Columns that a kind of row is read from. */
static const struct {
    unsigned kinds;
    const char *names; /* separated by spaces */
} used[] = {
    {ALPACA, "instruction question query input context output response answer system system_prompt history"},
    {MESSAGES, "messages conversations conversation prompt completion system system_prompt tools functions "
               "documents chat_template_kwargs"},
    {COMPLETION, "prompt completion response output answer system system_prompt"},
    {TEXT, "text"},
    {TOKENS, "input_ids labels attention_mask completion_mask assistant_masks position_ids"},
};

/* Columns that other trainers give a meaning to, which is lost where they are passed over. */
static const struct {
    unsigned kinds;
    const char *names, *why;
} refused[] = {
    {ALL, "images image videos video audios audio pixel_values image_path",
     "only text can be trained on; rows with pictures or sound need another trainer"},
    {ALL, "chosen rejected kto_tag label",
     "preference data and classes are not trained on; make rows of the answers that are to be learnt"},
    {ALPACA | MESSAGES | COMPLETION, "choices options",
     "choices are not written into the prompt; write them into the question"},
    {ALPACA | COMPLETION | TEXT | TOKENS, "tools functions documents",
     "only conversations (messages) can have them"},
    {ALPACA | COMPLETION, "reasoning_content reasoning thinking thought",
     "write the row as messages with it in the assistant's message, or put it into the answer"},
    {COMPLETION, "history context", "write it into the prompt, or the row as messages"},
    {MESSAGES, "history context", "write it into the messages"},
    {ALPACA | MESSAGES | COMPLETION, "suffix prefix",
     "text around the answer is not written; write it into the prompt"},
    {ALL, "training_detail train_detail", "parts of a text cannot be masked; split it into messages"},
};

/* Masks of whole rows: fine where they say 1, refused otherwise. */
static const char row_masks[] = "train training loss weight sample_weight";

static bool among(const char *names, const char *key)
{
    size_t n = strlen(key);
    for (const char *p = names; *p;) {
        size_t m = strcspn(p, " ,");
        if (m == n && memcmp(p, key, n) == 0) return true;
        p += m;
        p += strspn(p, " ,");
    }
    return false;
}

static bool is_used(const json_t *row, qs_row_kind kind, const char *key)
{
    bool messages = any(row, present, "messages", "conversations", "conversation");
    if (kind == QS_ROW_MESSAGES && messages && among("prompt completion", key)) return false;
    for (size_t i = 0; i < sizeof used / sizeof *used; i++)
        if (used[i].kinds & 1u << kind && among(used[i].names, key)) return true;
    return false;
}

static const char *why_refused(qs_row_kind kind, const char *key)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        if (refused[i].kinds & 1u << kind && among(refused[i].names, key)) return refused[i].why;
    return NULL;
}

int qs_columns_check(const json_t *row, const qs_column_choice *choice, qs_row_kind kind, bool odd,
                     qs_unused *unused, qs_err *e)
{
    const char *key, *why;
    json_t *v;
    json_object_foreach((json_t *)(uintptr_t)row, key, v)
    {
        if (choice->text ? strcmp(choice->text, key) == 0 : is_used(row, kind, key)) {
            const char *number = odd ? qs_row_json_odd(v) : NULL;
            if (number)
                QS_FAIL(e, QS_EFORMAT, "column \"%s\" holds the number %.40s, which JSON has no place for",
                        key, number);
            continue;
        }
        if (!qs_column_is_empty(v) && (why = why_refused(kind, key)))
            QS_FAIL(e, QS_EFORMAT,
                    "has the column \"%s\", which is not honoured: %s; --ignore_columns %s passes it over",
                    key, why, key);
        if (among(row_masks, key) && qs_mask_value(v) != 1)
            QS_FAIL(e, QS_EFORMAT,
                    "has the column \"%s\", and rows cannot be weighted; leave the row out, or say "
                    "--ignore_columns %s",
                    key, key);
        qs_unused_note(unused, "", key);
    }
    return 0;
}

void qs_columns_clean(json_t *row, const qs_column_choice *choice)
{
    const char *key;
    json_t *v;
    void *next;
    json_object_foreach_safe(row, next, key,
                             v) if (json_is_null(v) || (choice->ignore && among(choice->ignore, key)))
        json_object_del(row, key);
}

/* ---- the kind of a row ------------------------------------------------------------------------------- */

static bool classify(const json_t *row, is_there is, qs_row_kind *kind)
{
    bool answer = present(row, "output") || any(row, present, "response", "answer", NULL);
    if (is(row, "input_ids"))
        *kind = QS_ROW_TOKENS;
    else if (any(row, is, "messages", "conversations", "conversation"))
        *kind = QS_ROW_MESSAGES;
    else if (is(row, "prompt") && json_is_array(json_object_get(row, "prompt")))
        *kind = QS_ROW_MESSAGES;
    else if (any(row, is, "instruction", "question", "query") && answer)
        *kind = QS_ROW_ALPACA;
    else if (is(row, "prompt") && (answer || present(row, "completion")))
        *kind = QS_ROW_COMPLETION;
    else if (is(row, "input") && present(row, "output"))
        *kind = QS_ROW_ALPACA;
    else if (is(row, "text"))
        *kind = QS_ROW_TEXT;
    else
        return false;
    return true;
}

bool qs_columns_classify(const json_t *row, const qs_column_choice *choice, qs_row_kind *kind)
{
    if (choice->text) return *kind = QS_ROW_TEXT, present(row, choice->text);
    return classify(row, filled, kind) || classify(row, present, kind);
}
