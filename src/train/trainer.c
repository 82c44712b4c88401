#include "src/train/trainer.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/numbered.h"
#include "src/base/clock.h"
#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/data/chat_source.h"
#include "src/options/saved.h"
#include "src/train/checkpoints.h"
#include "src/train/lr_schedule.h"
#include "src/train/metrics.h"
#include "src/train/out_dir.h"
#include "src/train/progress.h"
#include "src/train/run_checks.h"
#include "src/train/run_state.h"
#include "src/train/verdict.h"

typedef struct run {
    qs_options *o;
    qs_engine engine;
    qs_metrics *metrics;
    qs_progress progress;
    qs_lr_schedule schedule;
    qs_best best;
    qs_step_watch watch;
    bool validating;                  /* in a validation, not in a step */
    bool validate;                    /* the validation of this step is still to be made */
    bool updating;                    /* masters and states are between two steps */
    uint64_t step_start_ns, saved_ns; /* when the step began, when the last checkpoint was written */
    int64_t step, total;              /* completed steps, steps of the run */
    int64_t saved_step;               /* of the newest checkpoint; -1: none */
    int64_t first;                    /* completed steps when this process began */
    qs_out_dir out;
    qs_checkpoints checkpoints;
    char *options_text; /* as in options.yaml */
    uint64_t options_key;
    struct {
        uint64_t read, written, link;
    } before; /* counters at the start of a step */
} run;

/* A step that is nearly done is finished; what is left of a longer one is not worth the patience of whoever
 * asks to stop. */
#define WORTH_FINISHING_SECONDS 2.0

static bool visited(void *context, int done, int total)
{
    run *r = context;
    if (!r->validating) qs_progress_visit(&r->progress, r->step + 1, done, total);
    if (!qs_interrupt_requested()) return true;
    double left = qs_seconds(qs_now_ns() - r->step_start_ns) * (total - done) / done;
    return !r->validating && left < WORTH_FINISHING_SECONDS;
}

/* ---- beginning --------------------------------------------------------------------------------------- */

/* What OUT says about going on: the checkpoint to go on from (NULL: none), whose options must fit. */
static int find_state(const run *r, char **checkpoint, qs_run_state *state, qs_err *e)
{
    const qs_options *o = r->o;
    *checkpoint = NULL;
    if (!o->resume) return 0;
    QS_TRY(qs_run_state_find(r->out.path, !strcmp(o->resume, "latest") ? NULL : o->resume, checkpoint, state,
                             e));
    char *saved = qs_path_join(*checkpoint ? *checkpoint : r->out.path, QS_SAVED_OPTIONS);
    int rc = qs_saved_options_check(o, saved, e);
    qs_free(saved);
    if (!rc && !*checkpoint) qs_info("%s has no checkpoint yet: starting at the first step", r->out.path);
    return rc;
}

/* The day on which a run begins stays its day: a chat template may write it. */
static void keep_day(qs_options *o)
{
    char day[16];
    if (o->resume || (o->template_date && *o->template_date)) return;
    qs_chat_day(NULL, day);
    qs_free(o->template_date);
    o->template_date = qs_strdup(day);
}

/* How many steps there are at which rates, and whether that makes sense. `before`: of the checkpoint to go on
 * from, or NULL. */
static int plan_steps(run *r, const qs_run_state *before, qs_err *e)
{
    const qs_options *o = r->o;
    const qs_batch_info *info = qs_batcher_info(r->engine.batcher);
    r->total = qs_engine_total_steps(&r->engine);
    r->schedule = qs_lr_schedule_of(o, r->total);
    r->validate = info->eval_batches && (!before || before->validate);
    qs_run_outlook outlook = {.o = o,
                              .schedule = &r->schedule,
                              .done = r->step,
                              .total = r->total,
                              .validates = info->eval_batches > 0};
    QS_TRY(qs_check_outlook(&outlook, e));
    QS_TRY(qs_best_check(o, outlook.validates, e));
    if (before) qs_check_resumed_rate(&outlook, r->step - before->loss_scale.skipped, before);
    return 0;
}

/* What the run will be, from what is there: takes OUT, and changes nothing in it. */
static int plan_run(run *r, bool measure, char **checkpoint, qs_run_state *state, qs_err *e)
{
    qs_options *o = r->o;
    QS_TRY(qs_out_dir_open(o->out, o->resume, &r->out, e));
    keep_day(o);
    QS_TRY(find_state(r, checkpoint, state, e));
    QS_TRY(
        qs_engine_prepare(o, *checkpoint ? &state->identity : NULL, o->quiet ? NULL : stderr, &r->engine, e));
    qs_engine_predict(&r->engine, measure);
    QS_TRY(qs_interrupt_check("before the first step", e));
    r->step = state->step;
    r->best = state->best;
    return plan_steps(r, *checkpoint ? state : NULL, e);
}

/* Everything that can be refused, is: nothing in OUT has changed until here. */
static int prepare(run *r, char **checkpoint, qs_err *e)
{
    qs_options *o = r->o;
    qs_run_state state = {0};
    QS_TRY(plan_run(r, false, checkpoint, &state, e));
    if (!o->quiet) qs_train_print_plan(&r->engine, stderr);
    r->options_text = qs_saved_options_text(o);
    r->options_key = qs_saved_options_key(o);
    r->engine.sweep_config.visited = visited;
    r->engine.sweep_config.visited_context = r;
    QS_TRY(qs_engine_start(&r->engine, e));
    return *checkpoint ? qs_run_state_load(*checkpoint, &state, &r->engine, e) : 0;
}

/* Makes OUT that of this run at this step. */
static int take_out(run *r, const char *checkpoint, qs_err *e)
{
    const qs_options *o = r->o;
    char *here = qs_numbered_path(r->out.path, QS_CHECKPOINT, r->step),
         *options_path = qs_path_join(r->out.path, QS_SAVED_OPTIONS);
    bool saved = checkpoint && !r->out.fresh && qs_same_file(checkpoint, here);
    r->first = r->step;
    r->saved_step = saved ? r->step : -1;
    r->checkpoints = (qs_checkpoints){
        .out = r->out.path, .keep = (int)o->save_total_limit, .best = r->best.step ? r->best.step : -1};
    if (saved) qs_checkpoints_know(&r->checkpoints, r->step);
    qs_out_dir_begin(&r->out);
    int rc = checkpoint && !r->out.fresh ? qs_checkpoints_set_aside(r->out.path, r->step, e) : 0;
    if (!rc) rc = qs_file_replace(options_path, r->options_text, strlen(r->options_text), e);
    qs_free(options_path);
    qs_free(here);
    QS_TRY(rc);
    bool tensorboard = false;
    for (int i = 0; i < o->report_to.count; i++) tensorboard |= strcmp(o->report_to.items[i], "none") != 0;
    qs_metrics_begin from = {.last_step = r->step, .validate_again = r->validate, .tensorboard = tensorboard};
    QS_TRY(qs_metrics_open(r->out.path, &from, &r->metrics, e));
    if (checkpoint) qs_info("resuming %s after step %" PRId64, checkpoint, r->step);
    return 0;
}

static int begin(run *r, qs_err *e)
{
    const qs_options *o = r->o;
    char *checkpoint = NULL;
    int rc = prepare(r, &checkpoint, e);
    if (!rc) rc = take_out(r, checkpoint, e);
    qs_free(checkpoint);
    QS_TRY(rc);
    const qs_job *job = &r->engine.job;
    uint64_t ram = r->engine.device->info.host_memory
                       ? job->vram_bytes + job->ram_bytes
                       : job->ram_bytes; /* the process's memory is both budgets' there */
    r->progress = (qs_progress){.file = stderr,
                                .quiet = o->quiet,
                                .first_step = r->step,
                                .total_steps = r->total,
                                .logging_steps = o->logging_steps,
                                .vram_bytes = job->vram_bytes,
                                .ram_bytes = ram};
    qs_progress_start(&r->progress, o->no_color);
    r->progress.step_seconds = r->engine.prediction.step_seconds;
    return 0;
}

/* ---- steps ------------------------------------------------------------------------------------------- */

static int explain_nonfinite(run *r, int32_t mb, int32_t document, qs_err *e)
{
    char sample[256] = "";
    if (mb >= 0 && document >= 0) {
        memcpy(sample, ", ", 3);
        qs_batcher_name_sample(r->engine.batcher, qs_sweep_batch(r->engine.sweep, mb), document, sample + 2,
                               sizeof sample - 2);
    }
    char what[QS_ERR_TEXT];
    snprintf(what, sizeof what, "%s", e->text);
    QS_FAIL(
        e, QS_ENUMERIC,
        "step %" PRId64
        ": %.400s%s; look at that sample, or lower learning_rate; the last good state is checkpoint-%" PRId64,
        r->step + 1, what, sample, r->saved_step);
}

static void count_bytes(const run *r, uint64_t *read, uint64_t *written, uint64_t *link)
{
    qs_aio_stats io = qs_aio_stats_read(r->engine.aio);
    *read = io.read_bytes;
    *written = io.write_bytes;
    *link = qs_sweep_link_bytes(r->engine.sweep);
}

/* The optimizer's part of a step, unless fp16 gradients overflowed. */
static int update(run *r, int64_t updates, const qs_sweep_result *result, qs_step_metrics *m, qs_err *e)
{
    qs_engine *g = &r->engine;
    double scale = g->loss_scale.scale;
    m->grad_norm = INFINITY;
    if (qs_loss_scale_step(&g->loss_scale, !result->overflow)) {
        uint64_t waited = qs_engine_pager_wait_ns(g);
        qs_update_step t = {.step = updates + 1,
                            .learning_rate = m->learning_rate,
                            .loss_scale = scale,
                            .squares = result->gradient_squares,
                            .schedule = qs_sweep_schedule(g->sweep)};
        QS_TRY(qs_update_run(g->update, &t, g->masters, g->gradients, &m->grad_norm, e));
        m->wait_disk_seconds = qs_seconds(qs_engine_pager_wait_ns(g) - waited);
        return 0;
    }
    qs_progress_break(&r->progress);
    qs_info("step %" PRId64
            " is skipped: its gradients overflow fp16 with a loss scale of %g, which is now %g",
            r->step + 1, scale, g->loss_scale.scale);
    return 0;
}

static int one_step(run *r, qs_err *e)
{
    qs_engine *g = &r->engine;
    qs_step_info info;
    qs_sweep_result result;
    int64_t updates = r->step - g->loss_scale.skipped; /* so far */
    qs_step_metrics m = {.step = r->step + 1,
                         .learning_rate = qs_lr_at(&r->schedule, updates),
                         .loss_scale = g->loss_scale.dynamic ? g->loss_scale.scale : 0,
                         .predicted_step_seconds = g->prediction.step_seconds};
    uint64_t start = r->step_start_ns = qs_now_ns(), read, written, link;
    count_bytes(r, &r->before.read, &r->before.written, &r->before.link);

    QS_TRY(qs_engine_fill_step(g, r->step, &info, e));
    int rc = qs_sweep_train(g->sweep, info.micro_batches, r->step, g->loss_scale.scale, &result, e);
    r->updating = !rc;
    if (!rc) rc = update(r, updates, &result, &m, e);
    if (!rc) r->updating = false;
    if (rc == -QS_ENUMERIC) return explain_nonfinite(r, result.bad_micro_batch, result.bad_document, e);
    QS_TRY(rc);

    m.step_seconds = qs_seconds(qs_now_ns() - start);
    m.loss = result.loss_sum / (double)result.targets;
    m.tokens = result.tokens;
    m.tokens_per_second = (double)m.tokens / m.step_seconds;
    const qs_visit_time *t = qs_sweep_times(g->sweep);
    for (int32_t v = 0; v < qs_sweep_schedule(g->sweep)->count; v++) {
        m.wait_disk_seconds += qs_seconds(t[v].disk_wait_ns);
        m.wait_link_seconds += qs_seconds(t[v].link_wait_ns);
    }
    m.compute_seconds = m.step_seconds - m.wait_disk_seconds - m.wait_link_seconds;
    count_bytes(r, &read, &written, &link);
    m.disk_read_bytes = read - r->before.read;
    m.disk_write_bytes = written - r->before.written;
    m.link_bytes = link - r->before.link;
    m.device_peak_bytes = qs_engine_device_peak_bytes(&r->engine);
    m.host_peak_bytes = qs_rss_peak_bytes();
    r->step++;
    qs_metrics_step(r->metrics, &m);
    qs_progress_step(&r->progress, &m);
    qs_check_step(&r->watch, &m, r->step == 1 && r->o->init_adapter, g->architecture.vocab);
    return 0;
}

/* The validation of this step, when it is due. One that is stopped stays due, and the checkpoint says so. */
static int evaluate(run *r, qs_err *e)
{
    qs_eval_metrics m = {.step = r->step};
    uint64_t start = qs_now_ns();
    if (!r->validate) return 0;
    r->validating = true;
    int rc = qs_engine_evaluate(&r->engine, &m.eval_loss, &m.eval_tokens, e);
    r->validating = false;
    QS_TRY(rc);
    r->validate = false;
    m.eval_seconds = qs_seconds(qs_now_ns() - start);
    qs_metrics_eval(r->metrics, &m);
    qs_progress_eval(&r->progress, &m);
    qs_best_note(&r->best, r->o, r->step, m.eval_loss);
    r->checkpoints.best = r->best.step ? r->best.step : -1;
    return 0;
}

static int save(run *r, qs_err *e)
{
    if (r->saved_step == r->step) return 0;
    qs_run_state state = {.step = r->step,
                          .options_key = r->options_key,
                          .total_steps = r->total,
                          .validate = r->validate,
                          .best = r->best,
                          .next_learning_rate =
                              qs_lr_at(&r->schedule, r->step - r->engine.loss_scale.skipped)};
    r->saved_ns = qs_now_ns(); /* or tried */
    qs_run_state_describe(&r->engine, &state);
    qs_metrics_sync(r->metrics);
    QS_TRY(qs_run_state_save(r->out.path, &r->engine, &state, r->options_text, e));
    r->saved_step = r->step;
    qs_checkpoints_know(&r->checkpoints, r->step);
    qs_checkpoints_prune(&r->checkpoints, &state);
    return 0;
}

/* A checkpoint in passing: when the disk has no room for it, training goes on, and the next one is tried at
 * its time. */
static void save_in_passing(run *r)
{
    qs_err e = {0};
    if (!save(r, &e)) return;
    qs_progress_break(&r->progress);
    qs_warn("step %" PRId64 " is not saved: %s; training goes on, and checkpoint-%" PRId64
            " is whole: free some space",
            r->step, e.text, r->saved_step);
}

static bool every(int64_t step, int64_t n) { return n > 0 && step % n == 0; }

static bool save_is_due(const run *r)
{
    bool asked = qs_interrupt_take_save();
    double minutes = qs_seconds(qs_now_ns() - r->saved_ns) / 60;
    return asked || every(r->step, r->o->save_steps) ||
           (r->o->save_minutes > 0 && minutes >= r->o->save_minutes);
}

/* Trains until all steps are made or somebody asks to stop. QS_EINTERRUPT: stopped, not saved yet. */
static int all_steps(run *r, qs_err *e)
{
    const qs_options *o = r->o;
    QS_TRY(evaluate(r, e));
    while (r->step < r->total && !qs_best_is_over(&r->best, o)) {
        QS_TRY(qs_interrupt_check("between two steps", e));
        if (o->stop_at_step > 0 && r->step >= o->stop_at_step && r->step > r->first)
            QS_FAIL(e, QS_EINTERRUPT, "stop_at_step");
        QS_TRY(one_step(r, e));
        r->validate = qs_batcher_info(r->engine.batcher)->eval_batches &&
                      (r->step == r->total || every(r->step, o->eval_steps));
        QS_TRY(evaluate(r, e));
        if (save_is_due(r) && r->step < r->total) save_in_passing(r);
    }
    return 0;
}

/* The command that goes on with this run, from any folder. */
static char *resume_command(const run *r)
{
    bool plain = !r->out.path[strspn(
        r->out.path, "/abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.,:+@%=-")];
    return qs_printf("%s train --resume --out %s%s%s", program_invocation_name, plain ? "" : "'", r->out.path,
                     plain ? "" : "'");
}

/* Ends a run that was stopped: saved, and with the way on. */
static int stopped(run *r, qs_err *e)
{
    char *command = resume_command(r);
    qs_err why = {0};
    int rc = save(r, &why);
    qs_progress_break(&r->progress);
    if (rc)
        rc =
            qs_err_set(e, why.code, __FILE__, __LINE__,
                       "stopped after step %" PRId64 ", which could not be saved: %.300s; checkpoint-%" PRId64
                       " is whole: free some space, and go on "
                       "from it with: %s",
                       r->step, why.text, r->saved_step, command);
    else
        rc = qs_err_set(e, QS_EINTERRUPT, __FILE__, __LINE__,
                        "stopped after step %" PRId64 " of %" PRId64 " and saved; go on with: %s", r->step,
                        r->total, command);
    qs_free(command);
    return rc;
}

/* Adds to an error which checkpoint is whole, and the command that goes on from it. */
static int with_the_way_on(run *r, qs_err *e)
{
    qs_err first = *e;
    char *command = resume_command(r);
    qs_err_set(e, first.code, __FILE__, __LINE__,
               "%.500s; checkpoint-%" PRId64 " is whole: go on from it with: %s", first.text, r->saved_step,
               command);
    qs_free(command);
    return -first.code;
}

/* Ends a run that failed: what was done before the step that failed is saved when it can be. */
static int failed(run *r, qs_err *e)
{
    qs_err why = {0};
    if (r->step == r->first || e->code == QS_ENUMERIC) return -e->code;
    if (!r->updating && save(r, &why)) qs_warn("step %" PRId64 " is not saved: %s", r->step, why.text);
    return with_the_way_on(r, e);
}

/* Says which validation was the best one; with load_best_model_at_end its adapter is the result. */
static int name_best(run *r, qs_err *e)
{
    const qs_best *b = &r->best;
    if (!b->step) return 0;
    char *path = qs_numbered_path(r->out.path, QS_CHECKPOINT, b->step);
    bool kept = qs_file_exists(path);
    qs_run_state state;
    int rc = 0;
    qs_progress_break(&r->progress);
    if (r->step < r->total)
        qs_info("no better %s for %" PRId64 " validations: stopped early after step %" PRId64,
                qs_best_metric(r->o), b->stale, r->step);
    qs_info("the best %s, %.4f, was after step %" PRId64 "%s%s", qs_best_metric(r->o), b->value, b->step,
            kept ? ": " : ", where no checkpoint was saved (see save_steps)", kept ? path : "");
    if (r->o->load_best_model_at_end && b->step != r->step) {
        rc = qs_run_state_read(path, &state, e);
        if (!rc) rc = qs_peft_load(path, &r->engine.lora, &r->engine.architecture, r->engine.masters, e);
    }
    qs_free(path);
    return rc;
}

/* An adapter that changes nothing is no result, but where no step had a learning rate. */
static int check_result(run *r, qs_err *e)
{
    bool rated = false;
    for (int64_t s = 0; s < r->total && !rated; s++) rated = qs_lr_at(&r->schedule, s) > 0;
    return rated ? qs_check_adapter(&r->engine.lora, r->engine.masters, e) : 0;
}

static int steps(run *r, qs_err *e)
{
    QS_TRY(save(r, e));
    int rc = all_steps(r, e);
    if (rc == -QS_EINTERRUPT) return stopped(r, e);
    if (rc) return failed(r, e);
    if (save(r, e)) return with_the_way_on(r, e);
    QS_TRY(name_best(r, e));
    QS_TRY(check_result(r, e));
    rc = qs_peft_save(r->out.path, &r->engine.lora, r->o->model, r->engine.masters, e);
    return rc ? with_the_way_on(r, e) : 0;
}

int qs_train_dry_run(qs_options *o, FILE *f, qs_err *e)
{
    run r = {.o = o, .out = {.lock = {.fd = -1}}};
    qs_run_state state = {0};
    char *checkpoint = NULL;
    qs_interrupt_defer();
    int rc = plan_run(&r, true, &checkpoint, &state, e);
    if (!rc) {
        qs_verdict v = qs_verdict_of(&r.engine);
        qs_verdict_print(&r.engine, &v, f);
        fprintf(f, "\n");
        qs_train_print_plan(&r.engine, f);
        fprintf(f, "\na dry run: no step was made, and nothing written to %s\n", o->out);
    }
    qs_free(checkpoint);
    qs_engine_close(&r.engine);
    qs_out_dir_close(&r.out, true);
    return rc;
}

int qs_train(qs_options *o, qs_err *e)
{
    run r = {.o = o, .out = {.lock = {.fd = -1}}};
    qs_interrupt_defer();
    int rc = begin(&r, e);
    if (!rc) rc = steps(&r, e);
    if (r.progress.file) qs_progress_break(&r.progress);
    if (!rc && !o->quiet)
        fprintf(stderr, "adapter saved in %s (peak memory %.2f GiB of process)\n", o->out,
                (double)qs_rss_peak_bytes() / (1 << 30));
    qs_metrics_close(r.metrics);
    qs_engine_close(&r.engine);
    qs_checkpoints_free(&r.checkpoints);
    qs_out_dir_close(&r.out, rc && r.step == r.first && !(rc == -QS_EINTERRUPT && r.out.begun));
    qs_free(r.options_text);
    return rc;
}
