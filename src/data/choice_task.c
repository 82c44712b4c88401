#include "src/data/choice_task.h"

#include <jansson.h>
#include <string.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "src/data/table_reader.h"

static qs_choice_question *add_question(qs_choice_task *t)
{
    t->questions = qs_realloc(t->questions, (size_t)(t->count + 1) * sizeof *t->questions);
    t->questions[t->count] = (qs_choice_question){0};
    return &t->questions[t->count++];
}

void qs_choice_task_free(qs_choice_task *t)
{
    for (int64_t i = 0; i < t->count; i++) {
        qs_choice_question *q = &t->questions[i];
        for (int k = 0; k < q->choices; k++) {
            if (!k || q->context[k] != q->context[0]) qs_free(q->context[k]);
            qs_free(q->continuation[k]);
        }
    }
    qs_free(t->questions);
    qs_free(t->name);
    *t = (qs_choice_task){0};
}

/* ---- MMLU -------------------------------------------------------------------------------------------- */

enum { MMLU_COLUMNS = 6, MMLU_CHOICES = 4 };

typedef int take_row(const qs_table_row *row, void *context, qs_err *e);

/* A to D, 0 to 3, or -1. */
static int answer_of(const char *text)
{
    if (strlen(text) != 1) return -1;
    if (*text >= 'A' && *text < 'A' + MMLU_CHOICES) return *text - 'A';
    return *text >= '0' && *text < '0' + MMLU_CHOICES ? *text - '0' : -1;
}

static int each_row(const char *path, take_row *take, void *context, qs_err *e)
{
    qs_byte_cursor cursor = {.line = 1};
    qs_table_row row = {0};
    int rc = qs_byte_source_open(path, &cursor.source, e), more = 1;
    if (rc) return rc;
    for (int64_t n = 0; !rc && (more = qs_table_next(&cursor, path, ',', &row, e)) > 0; n++) {
        bool header = !n && row.count == MMLU_COLUMNS && answer_of(row.fields[MMLU_COLUMNS - 1].text) < 0;
        if (header) continue;
        if (row.count != MMLU_COLUMNS || answer_of(row.fields[MMLU_COLUMNS - 1].text) < 0)
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                            "%s:%lld: expected a question, four choices and the answer (A to D, or 0 to 3), "
                            "found %zu columns",
                            path, (long long)row.line, row.count);
        else
            rc = take(&row, context, e);
    }
    qs_table_row_free(&row);
    qs_byte_source_close(cursor.source);
    return rc ? rc : more < 0 ? more : 0;
}

/* The question as it is put; `solved` ends in the answer. */
static char *render(const qs_table_row *row, bool solved)
{
    const qs_field *f = row->fields;
    const char answer[] = {' ', (char)('A' + answer_of(f[MMLU_COLUMNS - 1].text)), '\n', '\n', 0};
    return qs_printf("%s\nA. %s\nB. %s\nC. %s\nD. %s\nAnswer:%s", f[0].text, f[1].text, f[2].text, f[3].text,
                     f[4].text, solved ? answer : "");
}

typedef struct mmlu { /* what goes before every question, and where it goes */
    char *prompt;
    int shots;
    qs_choice_task *task;
} mmlu;

static int take_example(const qs_table_row *row, void *context, qs_err *e)
{
    mmlu *m = context;
    if (!m->shots) return 0;
    m->shots--;
    char *text = render(row, true), *old = m->prompt;
    m->prompt = qs_printf("%s%s", old, text);
    qs_free(old);
    qs_free(text);
    return 0;
}

static int take_question(const qs_table_row *row, void *context, qs_err *e)
{
    mmlu *m = context;
    qs_choice_question *q = add_question(m->task);
    char *text = render(row, false), *whole = qs_printf("%s%s", m->prompt, text);
    qs_free(text);
    q->choices = MMLU_CHOICES;
    q->answer = answer_of(row->fields[MMLU_COLUMNS - 1].text);
    for (int k = 0; k < MMLU_CHOICES; k++) {
        q->context[k] = whole;
        q->continuation[k] = qs_printf(" %c", 'A' + k);
    }
    return 0;
}

/* "college biology" of .../test/college_biology_test.csv; with '_' for spaces the task's name. */
static char *subject_of(const char *path, char space)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
    size_t n = strcspn(base, ".");
    if (n > 5 && !strncmp(base + n - 5, "_test", 5)) n -= 5;
    char *name = qs_strndup(base, n);
    for (char *c = name; *c; c++)
        if (*c == '_') *c = space;
    return name;
}

static char *dev_path(const char *path, const char *name)
{
    const char *slash = strrchr(path, '/');
    char *dir = slash ? qs_strndup(path, (size_t)(slash - path)) : qs_strdup(".");
    char *out = qs_printf("%s/../dev/%s_dev.csv", dir, name);
    qs_free(dir);
    return out;
}

static int read_mmlu(const char *path, int shots, qs_choice_task *t, qs_err *e)
{
    char *subject = subject_of(path, ' '), *dev = dev_path(path, t->name);
    mmlu m = {qs_printf("The following are multiple choice questions (with answers) about %s.\n\n", subject),
              shots, t};
    int rc = shots ? each_row(dev, take_example, &m, e) : 0;
    if (!rc && m.shots)
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__,
                        "%s: expected at least %d examples, found %d; lower --shots", dev, shots,
                        shots - m.shots);
    if (!rc) rc = each_row(path, take_question, &m, e);
    qs_free(m.prompt);
    qs_free(subject);
    qs_free(dev);
    return rc;
}

/* ---- requests ---------------------------------------------------------------------------------------- */

static int answer_index(const json_t *row)
{
    const json_t *a = json_object_get(row, "answer");
    if (!a) a = json_object_get(row, "target");
    if (json_is_integer(a)) return (int)json_integer_value(a);
    const char *text = json_string_value(a);
    return text && *text >= '0' && *text <= '9' ? (int)strtol(text, NULL, 10) : -1;
}

/* Context and continuation number k of a row: NULL where there is none. */
static const char *part_of(const json_t *row, int k, const char **context)
{
    const json_t *arguments = json_object_get(row, "arguments");
    *context = NULL;
    if (!arguments) {
        *context = json_string_value(json_object_get(row, "context"));
        return json_string_value(json_array_get(json_object_get(row, "choices"), (size_t)k));
    }
    if (json_is_object(
            arguments)) { /* newer logs: {"gen_args_0": {"arg_0": context, "arg_1": continuation}, ...} */
        char key[24];
        snprintf(key, sizeof key, "gen_args_%d", k);
        const json_t *pair = json_object_get(arguments, key);
        *context = json_string_value(json_object_get(pair, "arg_0"));
        return json_string_value(json_object_get(pair, "arg_1"));
    }
    const json_t *pair = json_array_get(arguments, (size_t)k);
    *context = json_string_value(json_array_get(pair, 0));
    return json_string_value(json_array_get(pair, 1));
}

static int take_request(const char *path, int64_t line, const json_t *row, qs_choice_task *t, qs_err *e)
{
    const char *context, *continuation;
    qs_choice_question *q = add_question(t);
    while (q->choices < QS_CHOICES_MAX && (continuation = part_of(row, q->choices, &context)) && context) {
        q->context[q->choices] = qs_strdup(context);
        q->continuation[q->choices++] = qs_strdup(continuation);
    }
    q->answer = answer_index(row);
    if (q->choices >= 2 && q->answer >= 0 && q->answer < q->choices) return 0;
    QS_FAIL(e, QS_EFORMAT,
            "%s:%lld: expected \"arguments\" (pairs of context and continuation) and \"target\" (an index), "
            "or \"context\", "
            "\"choices\" and \"answer\"; found %d choices and answer %d",
            path, (long long)line, q->choices, q->answer);
}

static int read_requests(const char *path, qs_choice_task *t, qs_err *e)
{
    enum { LARGEST = 1 << 30 };
    char *text;
    size_t bytes;
    QS_TRY(qs_file_read(path, LARGEST, &text, &bytes, e));
    int rc = 0;
    int64_t line = 1;
    for (char *at = text; *at && !rc; line++) {
        size_t n = strcspn(at, "\n");
        json_error_t why;
        json_t *row = strspn(at, " \t\r") < n ? json_loadb(at, n, 0, &why) : json_null();
        if (!row)
            rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s:%lld: is not a JSON object: %s", path,
                            (long long)line, why.text);
        else if (!json_is_null(row))
            rc = take_request(path, line, row, t, e);
        json_decref(row);
        at += n + (at[n] == '\n');
    }
    qs_free(text);
    return rc;
}

int qs_choice_task_read(const char *path, int shots, qs_choice_task *out, qs_err *e)
{
    const char *dot = strrchr(path, '.');
    bool requests = dot && (!strcmp(dot, ".jsonl") || !strcmp(dot, ".json"));
    *out = (qs_choice_task){.name = subject_of(path, '_')};
    int rc = requests ? read_requests(path, out, e) : read_mmlu(path, shots, out, e);
    if (!rc && !out->count) rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "%s: has no questions", path);
    if (rc) qs_choice_task_free(out);
    return rc;
}

/* ---- tokens ------------------------------------------------------------------------------------------ */

int qs_choice_encode(qs_tokenizer *t, const char *context, const char *continuation, qs_ids *ids,
                     size_t *context_tokens, qs_err *e)
{
    const qs_token_info *info = qs_tokenizer_info(t);
    size_t bytes = strlen(context);
    while (bytes && context[bytes - 1] == ' ') bytes--;
    char *whole = qs_printf("%s%s", context, continuation);
    qs_ids alone = {0};
    size_t before = ids->count, begin = info->add_bos && info->bos >= 0;
    if (begin) qs_ids_push(ids, info->bos);
    int rc = qs_tokenizer_encode(t, whole, strlen(whole), QS_ENCODE_SPECIAL, ids, e);
    if (!rc) rc = qs_tokenizer_encode(t, context, bytes, QS_ENCODE_SPECIAL, &alone, e);
    *context_tokens = begin + alone.count;
    if (!rc && !*context_tokens) { /* nothing to condition on: as lm-eval, the end of a text before it */
        qs_ids_push(ids, 0);
        memmove(ids->data + before + 1, ids->data + before, (ids->count - before - 1) * sizeof *ids->data);
        ids->data[before] = info->bos >= 0 ? info->bos : info->eos;
        *context_tokens = 1;
    }
    if (!rc && *context_tokens >= ids->count - before)
        rc = qs_err_set(e, QS_EFORMAT, __FILE__, __LINE__, "the continuation \"%s\" has no token of its own",
                        continuation);
    qs_free(whole);
    qs_ids_free(&alone);
    return rc;
}
