/* data.c - `qlora-stream data`: what a run would learn from, without training. */
#include <jansson.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/terminal.h"
#include "src/commands/commands.h"
#include "src/commands/training_options.h"
#include "src/data/data_files.h"
#include "src/data/dataset.h"
#include "src/data/page.h"
#include "src/data/sample_text.h"
#include "src/data/token_progress.h"

typedef struct data_options {
    int64_t show;
    char *export;
    bool json;
    uint8_t source[3];
} data_options;

#define ROW(field, kind, ...)                                                           \
    {                                                                                   \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(data_options, field), \
        .group = "The audit", __VA_ARGS__                                               \
    }
static const qs_option rows[] = {
    ROW(show, INT, .fallback = "0", .max = 1e6,
        .help = "print the first N samples, what is trained in colour"),
    ROW(export, PATH, .help = "write the tokenised samples to this file: JSON Lines of input_ids and labels"),
    ROW(json, BOOL, .fallback = "false", .help = "print the counts as one JSON object instead"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(data_options, source)};

static void help(FILE *f)
{
    data_options d = {0};
    qs_option_set set = {&table, &d};
    fprintf(f, "usage: qlora-stream data FILE... [--model DIR] [--show N] [--export FILE] [--json] [options "
               "of train]\n\n"
               "Reads data as train would and prints the audit: rows, columns, tokens, what is trained, what "
               "is odd. Without a model only rows\n"
               "and columns can be looked at.\n\n");
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_option_clear(&set, 1);
    qs_training_options_help(f);
}

/* ---- with a model: through the tokens ---------------------------------------------------------------- */

enum { SHOWN_TOKENS = 4096 };

typedef struct tokens {
    int32_t *ids;
    uint8_t *trained;
} tokens;

static tokens tokens_of(const qs_token_cache *c, const qs_sample *s)
{
    tokens t = {qs_malloc((size_t)s->tokens * sizeof(int32_t)), qs_malloc((size_t)s->tokens)};
    for (int32_t i = 0; i < s->tokens; i++) {
        uint32_t token = c->tokens[s->first + (uint64_t)i];
        t.ids[i] = (int32_t)(token & QS_TOKEN_ID_MASK);
        t.trained[i] = (token & QS_TOKEN_TRAINED) != 0;
    }
    return t;
}

static void show(const qs_token_cache *c, const qs_tokenizer *t, const data_options *d, bool colour)
{
    static const qs_sample_style coloured = {"    | ", "\033[32m", "\033[0m", "\033[1m", "\033[22m", 0},
                                 plain = {"    | ", "\u00ab", "\u00bb", "", "", 0};
    for (int64_t i = 0; i < d->show && i < c->sample_count; i++) {
        const qs_sample *s = &c->samples[i];
        int32_t shown = s->tokens < SHOWN_TOKENS ? s->tokens : SHOWN_TOKENS;
        tokens k = tokens_of(c, s);
        qs_page page = {0};
        qs_sample_text(&page, colour ? &coloured : &plain, t, k.ids, k.trained, (size_t)shown);
        printf("  %s, row %u: %d tokens, %d trained%s\n%s\n", c->files[s->file], s->row, s->tokens,
               s->targets, shown < s->tokens ? ", the beginning" : "", page.text);
        qs_free(page.text);
        qs_free(k.ids);
        qs_free(k.trained);
    }
}

static int write_sample(qs_file_writer *w, const tokens *k, int32_t count, qs_err *e)
{
    qs_page page = {0};
    qs_page_say(&page, "{\"input_ids\":[");
    for (int32_t i = 0; i < count; i++) qs_page_say(&page, "%s%d", i ? "," : "", k->ids[i]);
    qs_page_say(&page, "],\"labels\":[");
    for (int32_t i = 0; i < count; i++)
        qs_page_say(&page, "%s%d", i ? "," : "", k->trained[i] ? k->ids[i] : -100);
    qs_page_say(&page, "]}\n");
    int rc = qs_file_append(w, page.text, page.bytes, e);
    qs_free(page.text);
    return rc;
}

static int export_samples(const qs_token_cache *c, const char *path, qs_err *e)
{
    qs_file_writer w;
    int rc = 0;
    QS_TRY(qs_file_begin(path, &w, e));
    for (int64_t i = 0; !rc && i < c->sample_count; i++) {
        tokens k = tokens_of(c, &c->samples[i]);
        rc = write_sample(&w, &k, c->samples[i].tokens, e);
        qs_free(k.ids);
        qs_free(k.trained);
    }
    if (!rc) rc = qs_file_commit(&w, e);
    if (rc) qs_file_abort(&w);
    return rc;
}

static int audit(const qs_options *o, const data_options *d, qs_err *e)
{
    char *dir = qs_path_join(o->cache.items[0], "tokens");
    qs_data_options q;
    qs_options_data(o, false, dir, &q);
    qs_token_progress progress = {.out = o->quiet ? NULL : stderr};
    qs_token_cache *c;
    qs_tokenizer *t = NULL;
    int rc = qs_token_cache_open(&q, d->json ? NULL : stdout, qs_token_progress_show, &progress, &c, e);
    qs_free(dir);
    if (rc) return rc;
    if (d->json) printf("%s\n", c->audit_json);
    if (d->show) rc = qs_tokenizer_open(o->model, &t, e);
    if (rc == -QS_EMISSING) rc = 0; /* rows of input_ids do without: they are shown as ids */
    if (!rc && d->show) show(c, t, d, qs_terminal_color(stdout, o->no_color));
    if (!rc && d->export) rc = export_samples(c, d->export, e);
    qs_tokenizer_close(t);
    qs_token_cache_close(c);
    return rc;
}

/* ---- without one: rows and columns ------------------------------------------------------------------- */

enum { BAD_ROWS_SHOWN = 20 };

typedef struct survey {
    int64_t rows, bad, text_bytes;
    qs_row_kind kind;
    json_t *bad_rows;
} survey;

static const char *kind_name(qs_row_kind kind)
{
    static const char *const names[] = {"instruction rows", "conversations", "prompts and completions",
                                        "plain text", "rows of input_ids"};
    return names[kind];
}

static int look(const char *path, const qs_options *o, bool json, json_t *list, qs_err *e)
{
    const qs_column_choice choice = {.ignore = o->ignore_columns, .text = o->text_column};
    qs_dataset *d;
    qs_row row;
    survey s = {.bad_rows = json_array()};
    QS_TRY(qs_dataset_open(path, &choice, &d, e));
    for (int got; (got = qs_dataset_next(d, &row, e));) {
        s.rows += got < 0 || !row.continued;
        s.bad += got < 0;
        if (got > 0) s.kind = row.kind;
        if (got > 0)
            s.text_bytes +=
                (int64_t)(row.instruction.bytes + row.input.bytes + row.output.bytes + row.system.bytes);
        if (got < 0 && s.bad <= BAD_ROWS_SHOWN) json_array_append_new(s.bad_rows, json_string(e->text));
        if (got < 0 && !qs_dataset_goes_on(d)) break;
    }
    const qs_unused *u = qs_dataset_unused(d);
    const char *how = s.rows > s.bad ? kind_name(s.kind) : "no rows that can be used";
    json_t *unused = json_array();
    for (int i = 0; i < u->count; i++) json_array_append_new(unused, json_string(u->names[i]));
    if (!json)
        printf("data: %s (%s)\n  %lld rows, %lld of them bad\n", path, how, (long long)s.rows,
               (long long)s.bad);
    for (size_t i = 0; !json && i < json_array_size(s.bad_rows); i++)
        printf("    %s\n", json_string_value(json_array_get(s.bad_rows, i)));
    for (int i = 0; !json && i < u->count; i++)
        printf("%s%s%s", i ? ", " : "  columns not used: ", u->names[i], i + 1 == u->count ? "\n" : "");
    json_array_append_new(list, json_pack("{s:s,s:s,s:I,s:I,s:I,s:o,s:o}", "path", path, "how", how, "rows",
                                          (json_int_t)s.rows, "bad_rows", (json_int_t)s.bad, "text_bytes",
                                          (json_int_t)s.text_bytes, "bad_rows_shown", s.bad_rows,
                                          "columns_not_used", unused));
    qs_dataset_close(d);
    return 0;
}

static int survey_rows(const qs_options *o, const data_options *d, qs_err *e)
{
    qs_data_files files;
    json_t *list = json_array();
    if (d->show || d->export)
        QS_FAIL(e, QS_EUSAGE,
                "--show and --export need --model: the tokenizer and the template are the model's");
    int rc = qs_data_files_find((const char *const *)o->data.items, o->data.count, false, &files, e);
    for (int i = 0; !rc && i < files.count; i++) rc = look(files.paths[i], o, d->json, list, e);
    if (!rc && d->json) {
        char *text = json_dumps(list, JSON_COMPACT);
        printf("{\"files\":%s}\n", text);
        free(text); /* lint: allow free, jansson allocated it */
    } else if (!rc) {
        printf("  --model DIR tells tokens, and what is trained\n");
    }
    json_decref(list);
    qs_data_files_free(&files);
    return rc;
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    data_options d = {0};
    qs_option_set more = {&table, &d};
    int words = 0;
    while (words < argc && strncmp(argv[words], "--", 2) != 0) words++;
    int rc = qs_options_parse(&o, argc - words, argv + words, &more, 1, e);
    for (int i = 0; !rc && i < words; i++) qs_strings_add(&o.data, argv[i], strlen(argv[i]));
    qs_log_set_level(o.verbose ? QS_LOG_DEBUG : o.quiet ? QS_LOG_WARN : QS_LOG_INFO);
    if (!rc && !o.data.count)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__,
                        "expected a data file, as in: qlora-stream data train.jsonl --model DIR");
    if (!rc) rc = qs_options_find_model(&o, e);
    if (!rc) rc = o.model ? audit(&o, &d, e) : survey_rows(&o, &d, e);
    qs_option_clear(&more, 1);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_data = {
    "data", "look at data without training: rows, columns, tokens, what is trained", help, run};
