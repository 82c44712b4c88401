/* A run that is asked to stop, at any instant and in any way, saves what it has and goes on to the same bits.
 * Children train; the parent sends the signals. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/numbered.h"
#include "src/base/clock.h"
#include "src/base/interrupt.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/options/saved.h"
#include "tests/support/small_llama.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { STOPPED = 130, BEFORE_IT_BEGAN = 3, MAX_ROWS = 4096 };
static char *dir;

static void setup(void)
{
    qs_log_set_level(QS_LOG_ERROR);
    dir = test_dir_create();
    char *model = test_path(dir, "model");
    qs_err e = {0};
    ck_assert_int_eq(qs_dir_create(model, &e), 0);
    test_llama_write(
        model,
        &(test_llama){
            .hidden = 64, .ffn = 160, .layers = 3, .heads = 4, .vocab = 97, .rows = 3400, .row_tokens = 30});
    qs_free(model);
}
static void teardown(void) { test_dir_remove(dir); }

#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})

static int train(const char *out, const char *const *more, qs_err *e)
{
    static const char *const fixed[] = {"--max_seq_length=64",
                                        "--vram=64M",
                                        "--ram=96M",
                                        "--threads=1",
                                        "--lora_r=4",
                                        "--lora_dropout=0.1",
                                        "--quiet",
                                        "--no-packing",
                                        "--report_to=none",
                                        "--save_steps=0",
                                        "--compute_dtype=fp32",
                                        "--per_device_train_batch_size=1",
                                        "--resident_layers=0"};
    test_words w = {0};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(&w, "%s", fixed[i]);
    test_words_add(&w, "--model=%s/model", dir);
    test_words_add(&w, "--data=%s/model/data.jsonl", dir);
    test_words_add(&w, "--out=%s/%s", dir, out);
    test_words_add(&w, "--cache=%s/cache", dir);
    for (; *more; more++) test_words_add(&w, "%s", *more);
    int rc = test_train(&w, e);
    test_words_free(&w);
    return rc;
}

/* A child that trains as the program would. */
static pid_t begin(const char *out, const char *const *more, int ignored)
{
    pid_t child = fork();
    if (child) return child;
    if (ignored) signal(ignored, SIG_IGN);
    qs_interrupt_install();
    qs_err e = {0};
    int rc = train(out, more, &e);
    if (rc && rc != -QS_EINTERRUPT) fprintf(stderr, "%s\n", e.text);
    if (rc == -QS_EINTERRUPT && !strstr(e.text, "train --resume --out /")) _exit(BEFORE_IT_BEGAN);
    _exit(rc == -QS_EINTERRUPT ? STOPPED : rc != 0);
}

static int64_t newest(const char *out)
{
    int64_t *steps, last = -1;
    int count;
    char *path = test_path(dir, out);
    qs_err e = {0};
    ck_assert_int_eq(qs_numbered_list(path, QS_CHECKPOINT, &steps, &count, &e), 0);
    if (count) last = steps[count - 1];
    qs_free(steps);
    qs_free(path);
    return last;
}

static int count_rows(const char *out, const char *word)
{
    char path[512], line[4096];
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", dir, out);
    FILE *f = fopen(path, "r");
    int n = 0;
    while (f && fgets(line, sizeof line, f)) n += strstr(line, word) != NULL;
    if (f) fclose(f);
    return n;
}

static void pause_ms(int ms) { nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL); }

static void wait_for_steps(const char *out, int steps)
{
    for (int i = 0; i < 3000 && count_rows(out, "\"loss\":") < steps; i++) pause_ms(10);
}

static int status_of(pid_t child)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert_msg(WIFEXITED(status), "signal %d ended the run", WTERMSIG(status));
    return WEXITSTATUS(status);
}

static void same_adapter(const char *a, const char *b)
{
    char x[512], y[512];
    snprintf(x, sizeof x, "%s/%s/adapter_model.safetensors", dir, a);
    snprintf(y, sizeof y, "%s/%s/adapter_model.safetensors", dir, b);
    ck_assert(test_same_file(x, y));
}

/* What a row says of the result, without its times. */
static void same_rows(const char *a, const char *b)
{
    static test_row p[MAX_ROWS], q[MAX_ROWS];
    char x[512], y[512];
    snprintf(x, sizeof x, "%s/%s", dir, a);
    snprintf(y, sizeof y, "%s/%s", dir, b);
    int n = test_read_metrics(x, p, MAX_ROWS), m = test_read_metrics(y, q, MAX_ROWS);
    ck_assert_int_eq(n, m);
    for (int i = 0; i < n; i++)
        ck_assert(p[i].step == q[i].step && p[i].eval == q[i].eval &&
                  !memcmp(&p[i].loss, &q[i].loss, sizeof(double)));
}

static const int stops[] = {SIGTERM, SIGINT, SIGHUP, SIGXCPU};

START_TEST(a_signal_to_stop_saves_and_the_rest_is_the_same)
{
    const char *const *job = WITH("--max_steps=60", "--gradient_accumulation_steps=2");
    qs_err e = {0};
    pid_t child = begin("o", job, 0);
    wait_for_steps("o", 3);
    kill(child, stops[_i]);
    ck_assert_int_eq(status_of(child), STOPPED);
    ck_assert_int_ge(newest("o"), 3);
    ck_assert_int_lt(newest("o"), 60);
    ck_assert_msg(!train("o", WITH("--max_steps=60", "--gradient_accumulation_steps=2", "--resume"), &e),
                  "%s", e.text);
    ck_assert_msg(!train("straight", job, &e), "%s", e.text);
    same_adapter("o", "straight");
    same_rows("o", "straight");
}
END_TEST

START_TEST(signals_that_come_by_the_second_do_not_end_it_unsaved)
{
    pid_t child = begin("o", WITH("--max_steps=100000", "--gradient_accumulation_steps=2"), 0);
    wait_for_steps("o", 3);
    for (int i = 0; i < 20; i++) kill(child, i % 2 ? SIGXCPU : SIGHUP);
    ck_assert_int_eq(status_of(child), STOPPED);
    ck_assert_int_ge(newest("o"), 3);
}
END_TEST

START_TEST(an_ignored_signal_stays_ignored)
{
    static const int ignored[] = {SIGINT, SIGHUP};
    pid_t child = begin("o", WITH("--max_steps=60", "--gradient_accumulation_steps=2"), ignored[_i]);
    wait_for_steps("o", 3);
    kill(child, ignored[_i]);
    ck_assert_int_eq(status_of(child), 0);
    ck_assert_int_eq(newest("o"), 60);
}
END_TEST

START_TEST(usr1_saves_and_goes_on)
{
    pid_t child = begin("o", WITH("--max_steps=100000", "--gradient_accumulation_steps=2"), 0);
    wait_for_steps("o", 3);
    kill(child, SIGUSR1);
    for (int i = 0; i < 1000 && newest("o") < 3; i++) pause_ms(10);
    int64_t saved = newest("o");
    ck_assert_int_ge(saved, 3);
    wait_for_steps("o", (int)saved + 5);
    kill(child, SIGTERM);
    ck_assert_int_eq(status_of(child), STOPPED);
    ck_assert_int_gt(newest("o"), saved);
}
END_TEST

START_TEST(minutes_save_too)
{
    qs_err e = {0};
    ck_assert_int_eq(train("o", WITH("--max_steps=60", "--save_minutes=0.0005", "--save_total_limit=0"), &e),
                     0); /* 30 ms */
    char *path = test_path(dir, "o");
    int64_t *steps;
    int count;
    ck_assert_int_eq(qs_numbered_list(path, QS_CHECKPOINT, &steps, &count, &e), 0);
    ck_assert_int_gt(count, 3);
    qs_free(steps);
    qs_free(path);
}
END_TEST

/* A step of many seconds is left in the middle; the state of the step before is whole, whatever was under way
 * between disk and memory. */
START_TEST(a_long_step_is_not_waited_for)
{
    const char *const *job = WITH("--max_steps=2", "--gradient_accumulation_steps=3000", "--stop_at_step=1",
                                  "--adapters_on=disk", "--checkpoints_on=disk");
    qs_err e = {0};
    pid_t child = begin("o", job, 0);
    for (int i = 0; i < 1000 && newest("o") < 0; i++) pause_ms(10);
    pause_ms(300);
    uint64_t asked = qs_now_ns();
    kill(child, SIGTERM);
    ck_assert_int_eq(status_of(child), STOPPED);
    ck_assert_double_lt(qs_seconds(qs_now_ns() - asked), 4);
    printf("stopped in %.2f s after step %d\n", qs_seconds(qs_now_ns() - asked), (int)newest("o"));
    ck_assert_int_eq(
        train("o",
              WITH("--max_steps=2", "--gradient_accumulation_steps=3000", "--stop_at_step=1", "--resume"),
              &e),
        -QS_EINTERRUPT);
    ck_assert_int_eq(train("straight", job, &e), -QS_EINTERRUPT);
    same_rows("o", "straight");
}
END_TEST

START_TEST(a_validation_that_was_stopped_is_made_up_for)
{
    const char *const *job =
        WITH("--max_steps=4", "--gradient_accumulation_steps=2", "--val_set_size=400", "--eval_steps=2");
    qs_err e = {0};
    bool resume = false;
    for (int life = 0, status = STOPPED; status == STOPPED || status == BEFORE_IT_BEGAN; life++) {
        ck_assert_int_lt(life, 60);
        pid_t child = begin("o",
                            resume ? WITH("--max_steps=4", "--gradient_accumulation_steps=2",
                                          "--val_set_size=400", "--eval_steps=2", "--resume")
                                   : job,
                            0);
        pause_ms(100 + 60 * life);
        kill(child, SIGTERM);
        status = status_of(child);
        resume |= status == STOPPED;
    }
    ck_assert_int_eq(train("straight", job, &e), 0);
    same_rows("o", "straight");
    same_adapter("o", "straight");
}
END_TEST

START_TEST(output_that_nobody_reads_stops_nothing)
{
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    pid_t child = fork();
    if (!child) {
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        qs_interrupt_install();
        qs_log_set_level(QS_LOG_INFO);
        qs_err e = {0};
        _exit(train("o", WITH("--max_steps=60", "--no-quiet", "--logging_steps=1"), &e) != 0);
    }
    close(ends[1]);
    char some[64];
    ck_assert_int_gt(read(ends[0], some, sizeof some), 0);
    close(ends[0]);
    ck_assert_int_eq(status_of(child), 0);
    ck_assert_int_eq(newest("o"), 60);
}
END_TEST

int main(void)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("stopping");
    TCase *t = tcase_create("stopping");
    tcase_set_timeout(t, 240);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_signal_to_stop_saves_and_the_rest_is_the_same, 0, 4);
    tcase_add_test(t, signals_that_come_by_the_second_do_not_end_it_unsaved);
    tcase_add_loop_test(t, an_ignored_signal_stays_ignored, 0, 2);
    tcase_add_test(t, usr1_saves_and_goes_on);
    tcase_add_test(t, minutes_save_too);
    tcase_add_test(t, a_long_step_is_not_waited_for);
    tcase_add_test(t, a_validation_that_was_stopped_is_made_up_for);
    tcase_add_test(t, output_that_nobody_reads_stops_nothing);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
