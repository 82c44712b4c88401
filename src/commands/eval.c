/* eval.c - `qlora-stream eval`: loss and perplexity on text, answers to multiple-choice questions; the base
 * and the adapter side by side.
 *
 * On the training engine itself: any size of model, inside the same budgets. Nothing is generated: a question
 * is answered by the choice whose text is likeliest.
 */
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/terminal.h"
#include "src/commands/commands.h"
#include "src/data/choice_task.h"
#include "src/train/engine.h"
#include "src/train/score.h"

typedef struct eval_options {
    qs_strings tasks;
    char *adapter;
    int64_t shots, limit;
    bool json;
    uint8_t source[5];
} eval_options;

#define ROW(field, kind, ...)                                                           \
    {                                                                                   \
        .name = #field, .type = QS_OPT_##kind, .offset = offsetof(eval_options, field), \
        .group = "Evaluation", __VA_ARGS__                                              \
    }
static const qs_option rows[] = {
    ROW(tasks, PATHS,
        .help = "multiple-choice files: MMLU's test/NAME_test.csv, or JSON Lines of lm-eval's requests"),
    ROW(adapter, PATH, .aliases = "lora",
        .help = "PEFT adapter directory: OUT of a run, or one of its checkpoints; the base is measured too"),
    ROW(shots, INT, .aliases = "num_fewshot", .fallback = "0", .max = 100,
        .help = "solved examples before each MMLU question, from dev/NAME_dev.csv"),
    ROW(limit, INT, .fallback = "0", .max = 1e9, .help = "only the first N questions of each task; 0: all"),
    ROW(json, BOOL, .fallback = "false", .help = "print the results as JSON"),
};
static const qs_option_table table = {
    .rows = rows, .count = sizeof rows / sizeof *rows, .sources_offset = offsetof(eval_options, source)};

static void help(FILE *f)
{
    eval_options w = {0};
    qs_option_set set = {&table, &w};
    fprintf(
        f,
        "usage: qlora-stream eval --model DIR [--adapter DIR] [--data FILE] [--tasks FILE...] [options]\n\n"
        "Loss and perplexity on the trained tokens of --data, and the share of right answers on --tasks, for "
        "the base and, with\n"
        "--adapter, for the adapter. Memory, device, data and quantisation options are those of train.\n\n");
    qs_option_defaults(&set, 1);
    qs_option_print_help(f, &set, 1);
    qs_option_clear(&set, 1);
}

/* ---- results ----------------------------------------------------------------------------------------- */

typedef struct measure {
    int64_t count;   /* questions, or tokens */
    double value;    /* right answers, or the loss */
    uint8_t *chosen; /* [count] the choice that each question was answered with; NULL of a text */
} measure;

enum { BASE, ADAPTED, MODELS };

typedef struct results {
    int models, tasks;
    measure text[MODELS];
    measure *task[MODELS]; /* [tasks] */
    qs_choice_task *list;  /* [tasks] */
    bool has_text;
} results;

static double share(measure m) { return m.count ? m.value / (double)m.count : 0; }
/* Of a share of right answers: the standard error of a mean of zeros and ones. */
static double deviation(measure m)
{
    return m.count > 1 ? sqrt(share(m) * (1 - share(m)) / (double)(m.count - 1)) : 0;
}

static void print_table(const results *r)
{
    int width = 12;
    for (int i = 0; i < r->tasks; i++)
        if ((int)strlen(r->list[i].name) > width) width = (int)strlen(r->list[i].name);
    printf("%-*s %9s  %-18s%s\n", width, "", "", "base", r->models > 1 ? "adapter" : "");
    if (r->has_text) {
        printf("%-*s %9lld", width, "loss", (long long)r->text[BASE].count);
        for (int m = 0; m < r->models; m++) printf("  %-16.6f", r->text[m].value);
        printf("\n%-*s %9s", width, "perplexity", "tokens");
        for (int m = 0; m < r->models; m++) printf("  %-16.4f", exp(r->text[m].value));
        printf("\n");
    }
    for (int i = 0; i < r->tasks; i++) {
        printf("%-*s %9lld", width, r->list[i].name, (long long)r->task[BASE][i].count);
        for (int m = 0; m < r->models; m++)
            printf("  %6.2f %% +-%5.2f ", 100 * share(r->task[m][i]), 100 * deviation(r->task[m][i]));
        printf("\n");
    }
    if (r->tasks < 2) return;
    printf("%-*s %9s", width, "mean of tasks", "");
    for (int m = 0; m < r->models; m++) {
        double sum = 0;
        for (int i = 0; i < r->tasks; i++) sum += share(r->task[m][i]);
        printf("  %6.2f %%         ", 100 * sum / r->tasks);
    }
    printf("\n");
}

static json_t *describe(measure m)
{
    json_t *chosen = json_array();
    for (int64_t i = 0; i < m.count; i++) json_array_append_new(chosen, json_integer(m.chosen[i]));
    return json_pack("{s:f, s:f, s:I, s:I, s:o}", "accuracy", share(m), "stderr", deviation(m), "right",
                     (json_int_t)m.value, "questions", (json_int_t)m.count, "chosen", chosen);
}

static void print_json(const results *r)
{
    static const char *const names[MODELS] = {"base", "adapter"};
    json_t *root = json_object();
    for (int m = 0; m < r->models; m++) {
        json_t *o = json_object(), *tasks = json_object();
        if (r->has_text)
            json_object_set_new(o, "text",
                                json_pack("{s:f, s:f, s:I}", "loss", r->text[m].value, "perplexity",
                                          exp(r->text[m].value), "tokens", (json_int_t)r->text[m].count));
        for (int i = 0; i < r->tasks; i++)
            json_object_set_new(tasks, r->list[i].name, describe(r->task[m][i]));
        json_object_set_new(o, "tasks", tasks);
        json_object_set_new(root, names[m], o);
    }
    json_dumpf(root, stdout, JSON_INDENT(2) | JSON_SORT_KEYS);
    printf("\n");
    json_decref(root);
}

/* ---- measuring --------------------------------------------------------------------------------------- */

static void tell(const qs_options *o, const char *what, int64_t done, int64_t of)
{
    if (o->quiet || !qs_terminal(stderr)) return;
    fprintf(stderr, "\r%s: %lld of %lld\033[K%s", what, (long long)done, (long long)of,
            done == of ? "\r\033[K" : "");
}

static int measure_text(qs_engine *g, measure *out, qs_err *e)
{
    const qs_batch_info *info = qs_batcher_info(g->batcher);
    double sum = 0;
    for (int64_t step = 0; step < info->steps_per_epoch; step++) {
        qs_step_info s;
        qs_sweep_result r;
        if (qs_interrupt_requested())
            QS_FAIL(e, QS_EINTERRUPT, "interrupted after %lld of %lld steps", (long long)step,
                    (long long)info->steps_per_epoch);
        QS_TRY(qs_engine_fill_step(g, step, &s, e));
        QS_TRY(qs_sweep_evaluate(g->sweep, s.micro_batches, &r, e));
        sum += r.loss_sum;
        out->count += r.targets;
        tell(g->options, "text", step + 1, info->steps_per_epoch);
    }
    out->value = out->count ? sum / (double)out->count : 0;
    return 0;
}

/* The first of the likeliest. */
static int likeliest(const double *v, int n)
{
    int best = 0;
    for (int i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    return best;
}

static int ask(qs_scorer *s, qs_tokenizer *t, const qs_choice_question *q, double *values, qs_err *e)
{
    int rc = 0;
    for (int k = 0; k < q->choices && !rc; k++) {
        qs_ids ids = {0};
        size_t context = 0;
        rc = qs_choice_encode(t, q->context[k], q->continuation[k], &ids, &context, e);
        if (!rc) rc = qs_scorer_add(s, ids.data, ids.count, context, &values[k], e);
        qs_ids_free(&ids);
    }
    return rc;
}

static int measure_task(qs_engine *g, qs_tokenizer *t, const qs_choice_task *task, int64_t limit,
                        measure *out, qs_err *e)
{
    int64_t n = limit && limit < task->count ? limit : task->count;
    double *values = qs_calloc((size_t)n * QS_CHOICES_MAX, sizeof *values);
    qs_scorer *s;
    qs_scorer_open(g, &s);
    int rc = 0;
    for (int64_t i = 0; i < n && !rc; i++) {
        rc = qs_interrupt_requested() ? qs_err_set(e, QS_EINTERRUPT, __FILE__, __LINE__,
                                                   "interrupted after %lld of %lld questions of %s",
                                                   (long long)i, (long long)n, task->name)
                                      : ask(s, t, &task->questions[i], values + i * QS_CHOICES_MAX, e);
        tell(g->options, task->name, i + 1, n);
    }
    if (!rc) rc = qs_scorer_flush(s, e);
    out->chosen = qs_calloc((size_t)n + 1, sizeof *out->chosen);
    for (int64_t i = 0; i < n && !rc; i++) {
        out->chosen[i] = (uint8_t)likeliest(values + i * QS_CHOICES_MAX, task->questions[i].choices);
        out->value += out->chosen[i] == task->questions[i].answer;
    }
    out->count = n;
    qs_scorer_close(s);
    qs_free(values);
    return rc;
}

/* ---- the command ------------------------------------------------------------------------------------- */

static bool unset(const qs_options *o, const char *name)
{
    return qs_options_source_of(o, name) == QS_FROM_DEFAULT;
}

/* Options of training that have no meaning here get values that make a small plan. */
enum { LONGEST = 4096 };

static void settle(qs_options *o, const char *adapter, int64_t positions)
{
    o->shuffle = false;
    o->lora_dropout = 0;
    o->val_set_size = 0;
    qs_strings_clear(&o->eval_data);
    if (unset(o, "gradient_accumulation_steps")) o->gradient_accumulation_steps = 4;
    if (unset(o, "max_seq_length")) o->max_seq_length = LONGEST < positions ? LONGEST : positions;
    qs_free(o->init_adapter);
    o->init_adapter = adapter ? qs_strdup(adapter) : NULL; /* brings its rank, alpha and targets along */
    if (!adapter) o->lora_r = 1;
}

typedef struct job {
    int argc;
    char **argv;
    const eval_options *w;
    qs_tokenizer *tokenizer;
    results *r;
} job;

/* One model over the text, or over the tasks. */
static int measure_model(const job *j, int model, bool text, qs_err *e)
{
    qs_options o = {0};
    eval_options again = {0};
    qs_option_set more = {&table, &again};
    qs_engine g = {0};
    qs_architecture a = {0};
    int rc = qs_options_parse(&o, j->argc, j->argv, &more, 1, e);
    if (!rc) rc = qs_architecture_read(o.model, &a, e);
    if (!rc) settle(&o, model == ADAPTED ? j->w->adapter : NULL, a.max_positions);
    if (!text) qs_strings_clear(&o.data);
    if (!rc) rc = qs_engine_prepare(&o, NULL, model == BASE && !o.quiet ? stderr : NULL, &g, e);
    if (!rc) rc = qs_engine_start(&g, e);
    if (!rc && text) rc = measure_text(&g, &j->r->text[model], e);
    for (int i = 0; i < j->r->tasks && !rc && !text; i++)
        rc = measure_task(&g, j->tokenizer, &j->r->list[i], j->w->limit, &j->r->task[model][i], e);
    qs_engine_close(&g);
    qs_option_clear(&more, 1);
    qs_options_free(&o);
    return rc;
}

static int measure_all(const job *j, qs_err *e)
{
    results *r = j->r;
    r->models = j->w->adapter ? MODELS : 1;
    for (int m = 0; m < r->models; m++) r->task[m] = qs_calloc((size_t)r->tasks + 1, sizeof *r->task[m]);
    for (int m = 0; m < r->models; m++) {
        if (r->has_text) QS_TRY(measure_model(j, m, true, e));
        if (r->tasks) QS_TRY(measure_model(j, m, false, e));
    }
    if (j->w->json)
        print_json(r);
    else
        print_table(r);
    return 0;
}

static int read_tasks(const eval_options *w, results *r, qs_err *e)
{
    r->list = qs_calloc((size_t)w->tasks.count + 1, sizeof *r->list);
    for (; r->tasks < w->tasks.count; r->tasks++)
        QS_TRY(qs_choice_task_read(w->tasks.items[r->tasks], (int)w->shots, &r->list[r->tasks], e));
    return 0;
}

static int run(int argc, char **argv, qs_err *e)
{
    qs_options o = {0};
    eval_options w = {0};
    results r = {0};
    qs_option_set more = {&table, &w};
    job j = {argc, argv, &w, NULL, &r};
    int rc = qs_options_parse(&o, argc, argv, &more, 1, e);
    if (!rc) rc = qs_options_check_plan(&o, e);
    if (!rc) rc = qs_options_find_model(&o, e);
    if (!rc && !o.data.count && !w.tasks.count)
        rc = qs_err_set(e, QS_EUSAGE, __FILE__, __LINE__,
                        "nothing to measure on: give --data FILE or --tasks FILE");
    qs_log_set_level(o.verbose ? QS_LOG_DEBUG : o.quiet ? QS_LOG_WARN : QS_LOG_INFO);
    r.has_text = o.data.count > 0;
    if (!rc) rc = read_tasks(&w, &r, e);
    if (!rc && w.tasks.count) rc = qs_tokenizer_open(o.model, &j.tokenizer, e);
    if (!rc) rc = measure_all(&j, e);
    for (int i = 0; i < r.tasks; i++) qs_choice_task_free(&r.list[i]);
    for (int m = 0; m < r.models; m++) {
        for (int i = 0; i < r.tasks && r.task[m]; i++) qs_free(r.task[m][i].chosen);
        qs_free(r.task[m]);
    }
    qs_free(r.list);
    qs_tokenizer_close(j.tokenizer);
    qs_option_clear(&more, 1);
    qs_options_free(&o);
    return rc;
}

const qs_command qs_command_eval = {
    "eval", "loss, perplexity and multiple-choice answers of a model and an adapter", help, run};
