#include "src/data/audit.h"

#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/data/page.h"
#include "src/data/sample_text.h"

static double share(int64_t part, int64_t of) { return of ? 100.0 * (double)part / (double)of : 0; }

static const char *name_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* ---- warnings: one line each, where a count is over its threshold ------------------------------------ */

/* Shares, in percent, above which a count is more than chance. */
static const double FEW = 1, SOME = 5, MOST = 90;

static void warn_of_answers(qs_page *p, const qs_audit *a)
{
    if (share(a->empty_answers, a->rows) > FEW)
        qs_page_say(
            p, "warning: %lld rows (%.1f %%) have an empty answer: they teach the model to stop at once\n",
            (long long)a->empty_answers, share(a->empty_answers, a->rows));
    if (a->stop_known && a->ends && share(a->ends_trained, a->ends) < MOST)
        qs_page_say(p,
                    "warning: only %.1f %% of the rows end in a trained end token: the model will not learn "
                    "well when to stop\n",
                    share(a->ends_trained, a->ends));
    if (share(a->typed_ends, a->rows) > SOME)
        qs_page_say(p,
                    "warning: %lld rows (%.1f %%) have the end token typed behind an answer; it was taken as "
                    "the one end token\n",
                    (long long)a->typed_ends, share(a->typed_ends, a->rows));
}

static void warn_of_tokens(qs_page *p, const qs_audit *a)
{
    if (a->lost_marks.count) {
        qs_page_say(p, "warning: marks of the template that are no token of this tokenizer, and so are "
                       "learnt as letters:");
        for (int i = 0; i < a->lost_marks.count; i++) qs_page_say(p, " %s", a->lost_marks.names[i]);
        qs_page_say(p, "\n");
    }
    if (share(a->typed_marks, a->rows) > FEW)
        qs_page_say(p,
                    "warning: %lld rows (%.1f %%) hold special tokens typed as text, which they stay: was a "
                    "template written into the data?\n",
                    (long long)a->typed_marks, share(a->typed_marks, a->rows));
    if (a->unknown * 1000 > a->tokens)
        qs_page_say(p,
                    "warning: %lld tokens (%.2f %%) are the unknown token: the tokenizer does not know these "
                    "characters\n",
                    (long long)a->unknown, share(a->unknown, a->tokens));
    if (a->replaced)
        qs_page_say(p,
                    "warning: %lld characters are U+FFFD, which stands for bytes that could not be read: was "
                    "the file converted wrongly?\n",
                    (long long)a->replaced);
    if (a->beyond)
        qs_page_say(p,
                    "warning: %lld samples are longer than the model's %lld positions "
                    "(max_position_embeddings), which it has never seen\n",
                    (long long)a->beyond, (long long)a->positions);
}

static void warn_of_rows(qs_page *p, const qs_audit *a, const qs_data_options *o)
{
    int64_t out = a->empty + a->untrained + a->dropped + a->bad;
    if (share(out, a->rows) > SOME)
        qs_page_say(p, "warning: %lld of %lld rows (%.1f %%) are left out\n", (long long)out,
                    (long long)a->rows, share(out, a->rows));
    if (share(a->truncated, a->rows) > SOME)
        qs_page_say(
            p,
            "warning: %lld rows (%.1f %%) are cut at max_seq_length %lld, and lose the end of the answer\n",
            (long long)a->truncated, share(a->truncated, a->rows), (long long)o->max_seq_length);
}

/* ---- the page ---------------------------------------------------------------------------------------- */

static void say_files(qs_page *p, const qs_audit *a)
{
    int64_t samples = 0;
    for (int i = 0; i < a->file_count; i++) samples += a->files[i].epoch_samples;
    for (int i = 0; i < a->file_count && a->file_count > 1; i++) {
        const qs_file_audit *f = &a->files[i];
        qs_page_say(p, "  %5.1f %% of an epoch: %.200s (%s), %lld rows, %lld samples, %lld tokens",
                    share(f->epoch_samples, samples), name_of(f->path), f->how ? f->how : "no rows",
                    (long long)f->rows, (long long)f->samples, (long long)f->tokens);
        if (f->weight != 1)
            qs_page_say(p, ", weight %g: %lld samples", f->weight, (long long)f->epoch_samples);
        qs_page_say(p, "\n");
    }
    if (a->file_count == 1 && a->files[0].weight != 1)
        qs_page_say(p, "  weight %g: %lld samples in an epoch\n", a->files[0].weight,
                    (long long)a->files[0].epoch_samples);
}

static void say_left_out(qs_page *p, const qs_audit *a)
{
    if (a->empty) qs_page_say(p, "  left out: %lld rows without text\n", (long long)a->empty);
    if (a->untrained)
        qs_page_say(p, "  left out: %lld samples without a trained token\n", (long long)a->untrained);
    if (a->bad) qs_page_say(p, "  left out: %lld bad rows; the first:\n", (long long)a->bad);
    for (int i = 0; i < QS_BAD_ROWS_SHOWN && a->bad_rows[i].text; i++)
        qs_page_say(p, "    %.300s\n", a->bad_rows[i].text);
}

static void say_found(qs_page *p, const qs_audit *a)
{
    if (a->empty_answers) qs_page_say(p, "  empty answers: %lld rows\n", (long long)a->empty_answers);
    if (a->typed_ends)
        qs_page_say(p, "  end token typed behind answers: %lld rows; it is there once\n",
                    (long long)a->typed_ends);
    if (a->typed_marks)
        qs_page_say(p, "  special tokens typed as text: %lld rows\n", (long long)a->typed_marks);
    if (a->unknown) qs_page_say(p, "  unknown tokens: %lld\n", (long long)a->unknown);
    if (!a->unused.count) return;
    qs_page_say(p, "  columns not used:");
    for (int i = 0; i < a->unused.count; i++) qs_page_say(p, "%s %s", i ? "," : "", a->unused.names[i]);
    qs_page_say(p, "%s\n", a->unused.more ? ", and more" : "");
}

char *qs_audit_text(const qs_audit *a, const qs_data_options *o, const qs_tokenizer *t)
{
    qs_page p = {0}, sample = {0};
    const qs_file_audit *first = &a->files[0];
    qs_page_say(&p, "data: %.600s", name_of(first->path));
    if (a->file_count > 1)
        qs_page_say(&p, " and %d more", a->file_count - 1);
    else
        qs_page_say(&p, " (%s)", first->how ? first->how : "no rows");
    qs_page_say(&p, "\n  %lld rows, %lld samples, %lld tokens, %lld trained (%.1f %%)\n", (long long)a->rows,
                (long long)a->samples, (long long)a->tokens, (long long)a->targets,
                share(a->targets, a->tokens));
    say_files(&p, a);
    qs_page_say(&p, "  tokens of a sample: mean %.1f, longest %lld\n",
                a->samples ? (double)a->tokens / (double)a->samples : 0, (long long)a->longest);
    qs_page_say(&p, "  longer than %lld: %lld rows", (long long)o->max_seq_length, (long long)a->overlong);
    if (a->truncated) qs_page_say(&p, ", truncated (%.1f %% of all rows)", share(a->truncated, a->rows));
    if (a->dropped) qs_page_say(&p, ", dropped (%.1f %% of all rows)", share(a->dropped, a->rows));
    if (a->pieces) qs_page_say(&p, ", split into %lld samples", (long long)a->pieces);
    qs_page_say(&p, "\n");
    say_left_out(&p, a);
    say_found(&p, a);
    if (a->stop_known)
        qs_page_say(&p, "  end of answer trained: %lld of %lld\n", (long long)a->ends_trained,
                    (long long)a->ends);
    warn_of_rows(&p, a, o);
    warn_of_answers(&p, a);
    warn_of_tokens(&p, a);
    bool typed =
        qs_sample_text(&sample, &qs_sample_plain, t, a->shown.ids.data, a->shown.trained, a->shown.ids.count);
    qs_page_say(&p, "  the first sample, what is trained between \u00ab and \u00bb%s:\n",
                typed ? ", \\ before a mark that is text and no token" : "");
    qs_page_put(&p, sample.text, sample.bytes);
    qs_page_say(&p, "\n");
    qs_free(sample.text);
    return p.text;
}

static json_t *names_json(const qs_unused *u)
{
    json_t *list = json_array();
    for (int i = 0; i < u->count; i++) json_array_append_new(list, json_string(u->names[i]));
    return list;
}

char *qs_audit_json(const qs_audit *a, const qs_data_options *o)
{
    json_t *files = json_array(), *bad = json_array();
    for (int i = 0; i < a->file_count; i++) {
        const qs_file_audit *f = &a->files[i];
        json_array_append_new(
            files, json_pack("{s:s,s:s?,s:f,s:I,s:I,s:I,s:I,s:I}", "name", name_of(f->path), "how", f->how,
                             "weight", f->weight, "rows", (json_int_t)f->rows, "samples",
                             (json_int_t)f->samples, "tokens", (json_int_t)f->tokens, "epoch_samples",
                             (json_int_t)f->epoch_samples, "epoch_tokens", (json_int_t)f->epoch_tokens));
    }
    for (int i = 0; i < QS_BAD_ROWS_SHOWN && a->bad_rows[i].text; i++)
        json_array_append_new(bad, json_string(a->bad_rows[i].text));
    json_t *all = json_pack("{s:o,s:o,s:o,s:o}", "files", files, "bad_rows_shown", bad, "columns_not_used",
                            names_json(&a->unused), "marks_that_are_no_token", names_json(&a->lost_marks));
    const struct {
        const char *name;
        int64_t value;
    } counts[] = {{"max_seq_length", o->max_seq_length},
                  {"rows", a->rows},
                  {"samples", a->samples},
                  {"tokens", a->tokens},
                  {"trained", a->targets},
                  {"longest", a->longest},
                  {"overlong", a->overlong},
                  {"truncated", a->truncated},
                  {"dropped", a->dropped},
                  {"pieces", a->pieces},
                  {"empty", a->empty},
                  {"untrained", a->untrained},
                  {"bad_rows", a->bad},
                  {"empty_answers", a->empty_answers},
                  {"typed_ends", a->typed_ends},
                  {"typed_marks", a->typed_marks},
                  {"unknown_tokens", a->unknown},
                  {"replaced_characters", a->replaced},
                  {"max_position_embeddings", a->positions},
                  {"beyond_positions", a->beyond},
                  {"ends", a->ends},
                  {"ends_trained", a->ends_trained}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        json_object_set_new(all, counts[i].name, json_integer((json_int_t)counts[i].value));
    char *text = json_dumps(all, JSON_COMPACT), *copy = qs_strdup(text ? text : "{}");
    free(text); /* lint: allow free, jansson allocated it */
    json_decref(all);
    return copy;
}

void qs_audit_free(qs_audit *a)
{
    for (int i = 0; i < QS_BAD_ROWS_SHOWN; i++) qs_free(a->bad_rows[i].text);
    for (int i = 0; i < a->file_count; i++) qs_free(a->files[i].how);
    qs_free(a->files);
    qs_unused_free(&a->unused);
    qs_unused_free(&a->lost_marks);
    qs_labelled_free(&a->shown);
}
