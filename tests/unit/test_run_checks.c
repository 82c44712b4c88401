/* Runs that cannot do what was asked are refused or say so; the best validation is kept, named and loaded. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/seal.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/best.h"
#include "src/train/run_checks.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

static char *dir;
static qs_err e;
static int said; /* a copy of standard error, while warnings are caught */

static void setup(void)
{
    qs_log_set_level(QS_LOG_WARN);
    e = (qs_err){0};
    dir = test_dir_create();
}
static void teardown(void) { test_dir_remove(dir); }

#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})

static void begin_catching(void)
{
    char *path = test_path(dir, "said");
    fflush(stderr);
    said = dup(STDERR_FILENO);
    ck_assert_ptr_nonnull(freopen(path, "w", stderr));
    qs_free(path);
}

/* What was said since, until the next time. */
static const char *end_catching(void)
{
    static char kept[8192];
    char *path = test_path(dir, "said");
    size_t n;
    fflush(stderr);
    dup2(said, STDERR_FILENO);
    close(said);
    char *text = test_file_read(path, &n);
    snprintf(kept, sizeof kept, "%s", text);
    qs_free(text);
    qs_free(path);
    return kept;
}

static int parse(qs_options *o, const char *const *words)
{
    test_words w = {0};
    for (; *words; words++) test_words_add(&w, "%s", *words);
    int rc = qs_options_parse(o, w.count, w.word, NULL, 0, &e);
    test_words_free(&w);
    return rc;
}

/* The outlook of a run of `total` steps under these options; what it says goes to *text. */
static int look(const char *const *words, int64_t done, int64_t total, bool validates, const char **text)
{
    qs_options o = {0};
    ck_assert_msg(!parse(&o, words), "%s", e.text);
    qs_lr_schedule s = qs_lr_schedule_of(&o, total);
    qs_run_outlook r = {.o = &o, .schedule = &s, .done = done, .total = total, .validates = validates};
    begin_catching();
    int rc = qs_check_outlook(&r, &e);
    *text = end_catching();
    qs_options_free(&o);
    return rc;
}
#define REFUSED(words, done, total, sentence)                                 \
    do {                                                                      \
        const char *text_;                                                    \
        ck_assert_int_eq(look(words, done, total, true, &text_), -QS_EUSAGE); \
        ck_assert_msg(strstr(e.text, sentence) != NULL, "%s", e.text);        \
    } while (0)
#define SAYS(words, done, total, validates, sentence)                              \
    do {                                                                           \
        const char *text_;                                                         \
        ck_assert_msg(!look(words, done, total, validates, &text_), "%s", e.text); \
        ck_assert_msg(strstr(text_, sentence) != NULL, "%s", text_);               \
    } while (0)
#define SAYS_NOTHING(words, done, total, validates)                                \
    do {                                                                           \
        const char *text_;                                                         \
        ck_assert_msg(!look(words, done, total, validates, &text_), "%s", e.text); \
        ck_assert_str_eq(text_, "");                                               \
    } while (0)

START_TEST(a_schedule_without_a_rate_is_refused)
{
    REFUSED(WITH("--warmup_ratio=0.03"), 0, 1, "give --warmup_ratio 0");
    REFUSED(WITH("--warmup_steps=5"), 0, 1, "learning rate is 0 in all steps");
    REFUSED(WITH("--learning_rate=0"), 0, 10, "learning_rate is 0");
    REFUSED(WITH("--learning_rate=0", "--lr_scheduler_type=polynomial"), 0, 10, "learning_rate is 0");
    REFUSED(WITH("--learning_rate=1e-8", "--lr_scheduler_type=polynomial"), 0, 10, "lr_end");
    REFUSED(WITH("--seed=1"), 10, 6, "nothing is left to train");
    SAYS(WITH("--max_steps=1"), 0, 1, true,
         "the adapter stays as it is"); /* asked for by its number: one step to look at */
}
END_TEST

START_TEST(a_peak_that_is_never_reached_is_said)
{
    SAYS(WITH("--warmup_steps=100"), 0, 6, true, "warm-up takes 100 steps and the run has 6");
    SAYS(WITH("--warmup_ratio=1"), 0, 6, true, "warm-up");
    SAYS(WITH("--learning_rate=90"), 0, 6, true, "learning_rate 90 is far above");
    SAYS(WITH("--eval_steps=2"), 0, 6, false, "eval_steps 2 has no effect");
    SAYS(WITH("--eval_steps=100"), 0, 6, true, "eval_steps 100 is beyond");
    SAYS_NOTHING(WITH("--eval_steps=2"), 0, 6, true);
    static const char *const types[] = {"linear",
                                        "cosine",
                                        "constant",
                                        "constant_with_warmup",
                                        "cosine_with_restarts",
                                        "cosine_with_min_lr",
                                        "polynomial",
                                        "inverse_sqrt"};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char flag[64];
        snprintf(flag, sizeof flag, "--lr_scheduler_type=%s", types[i]);
        SAYS_NOTHING(WITH(flag), 0, 2, true);
        SAYS_NOTHING(WITH(flag), 3, 1000, true);
    }
}
END_TEST

START_TEST(a_rate_that_jumps_on_resume_is_said)
{
    qs_options o = {0};
    ck_assert_int_eq(parse(&o, WITH("--warmup_ratio=0")), 0);
    qs_lr_schedule short_one = qs_lr_schedule_of(&o, 10), long_one = qs_lr_schedule_of(&o, 100);
    qs_run_state before = {.step = 9, .total_steps = 10, .next_learning_rate = qs_lr_at(&short_one, 9)};
    qs_run_outlook r = {.o = &o, .schedule = &long_one, .done = 9, .total = 100};
    begin_catching();
    qs_check_resumed_rate(&r, 9, &before);
    ck_assert_ptr_nonnull(strstr(end_catching(), "because the run had 10 steps and has 100 now"));
    r = (qs_run_outlook){.o = &o, .schedule = &short_one, .done = 9, .total = 10};
    begin_catching();
    qs_check_resumed_rate(&r, 9, &before);
    ck_assert_str_eq(end_catching(), "");
    qs_options_free(&o);
}
END_TEST

START_TEST(dead_gradients_and_a_foreign_adapter_are_said_once)
{
    qs_step_watch w = {0};
    begin_catching();
    qs_check_step(&w, &(qs_step_metrics){.step = 1, .loss = 7.0, .grad_norm = 1}, true, 1000);
    ck_assert_str_eq(end_catching(), "");
    begin_catching();
    qs_check_step(&w, &(qs_step_metrics){.step = 1, .loss = 15.6, .grad_norm = 1}, true, 1000);
    qs_check_step(&w, &(qs_step_metrics){.step = 2, .loss = 5, .grad_norm = 0}, false, 1000);
    qs_check_step(&w, &(qs_step_metrics){.step = 3, .loss = 5, .grad_norm = 0}, false, 1000);
    const char *text = end_catching();
    ck_assert_msg(strstr(text, "loss of the first step is 15.60") &&
                      strstr(text, "step 2: every gradient is exactly 0") && !strstr(text, "step 3"),
                  "%s", text);
}
END_TEST

/* ---- whole runs -------------------------------------------------------------------------------------- */

static int train(const char *out, const char *const *more)
{
    static const char *const fixed[] = {"--model=tests/golden/llama/model",
                                        "--data=tests/golden/llama/data.jsonl",
                                        "--max_seq_length=64",
                                        "--vram=64M",
                                        "--ram=64M",
                                        "--gradient_accumulation_steps=1",
                                        "--threads=1",
                                        "--lora_r=4",
                                        "--quiet",
                                        "--report_to=none"};
    test_words w = {0};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(&w, "%s", fixed[i]);
    test_words_add(&w, "--out=%s/%s", dir, out);
    test_words_add(&w, "--cache=%s/cache", dir);
    for (; *more; more++) test_words_add(&w, "%s", *more);
    int rc = test_train(&w, &e);
    test_words_free(&w);
    return rc;
}

static const char *in(const char *name) { return test_path_for_now(dir, name); }

START_TEST(an_adapter_that_changes_nothing_is_an_error)
{
    /* One that rounds away: the rate is not 0, and no B moves. */
    ck_assert_int_eq(train("o", WITH("--max_steps=3", "--learning_rate=1e-300")), -QS_ENUMERIC);
    ck_assert_msg(strstr(e.text, "every B of the adapter is 0"), "%s", e.text);
    ck_assert_int_eq(train("p", WITH("--max_steps=3")), 0);
    ck_assert_int_eq(train("q", WITH("--max_steps=1")), 0); /* its only rate is 0, which was said */
}
END_TEST

START_TEST(another_validation_file_at_a_resume_is_said)
{
    ck_assert_int_eq(
        train("o", WITH("--max_steps=6", "--stop_at_step=3", "--eval_data=tests/golden/llama/data.jsonl")),
        -QS_EINTERRUPT);
    const char *data = in("d.jsonl");
    char *flag = qs_printf("--eval_data=%s", data);
    ck_assert_int_eq(qs_file_replace(data, "{\"input_ids\": [1, 2, 3, 4]}\n", 27, &e), 0);
    begin_catching();
    int rc = train("o", WITH("--max_steps=6", "--resume", flag));
    const char *text = end_catching();
    qs_free(flag);
    ck_assert_msg(!rc && strstr(text, "eval_data is not what"), "%s%s", rc ? e.text : "", text);
}
END_TEST

/* The loss falls, so the validation with the greatest one is an early one. */
START_TEST(the_best_checkpoint_is_kept_and_becomes_the_result)
{
    ck_assert_int_eq(train("o", WITH("--max_steps=12", "--learning_rate=0.01", "--warmup_ratio=0",
                                     "--val_set_size=2", "--eval_steps=2", "--save_steps=2",
                                     "--save_total_limit=1", "--load_best_model_at_end",
                                     "--metric_for_best_model=eval_loss", "--greater_is_better")),
                     0);
    test_row rows[64];
    int n = test_read_metrics(in("o"), rows, 64);
    int64_t best = 0;
    double most = 0;
    for (int i = 0; i < n; i++)
        if (rows[i].eval && rows[i].step && rows[i].loss > most) best = rows[i].step, most = rows[i].loss;
    ck_assert_msg(best > 0 && best < 10, "the case cannot tell: the best is at step %d", (int)best);
    char *kept = qs_printf("%s/checkpoint-%d/adapter_model.safetensors", in("o"), (int)best);
    ck_assert(qs_file_exists(kept) && test_same_file(kept, in("o/adapter_model.safetensors")));
    qs_free(kept);
    ck_assert(qs_file_exists(in("o/checkpoint-12/optimizer.bin")));
}
END_TEST

START_TEST(patience_ends_a_run_early_and_for_good)
{
    const char *const *job =
        WITH("--max_steps=40", "--learning_rate=0.5", "--warmup_ratio=0", "--val_set_size=2",
             "--eval_steps=1", "--early_stopping_patience=3", "--quiet");
    ck_assert_int_eq(train("o", job), 0);
    test_row rows[128];
    int n = test_read_metrics(in("o"), rows, 128);
    int64_t last = rows[n - 1].step;
    ck_assert_int_lt(last, 40);
    int64_t best = 0;
    double least = INFINITY;
    for (int i = 0; i < n; i++)
        if (rows[i].eval && rows[i].step && rows[i].loss < least) best = rows[i].step, least = rows[i].loss;
    ck_assert_int_eq(last, best + 3);
    ck_assert_int_eq(
        train("o", WITH("--max_steps=40", "--learning_rate=0.5", "--warmup_ratio=0", "--val_set_size=2",
                        "--eval_steps=1", "--early_stopping_patience=3", "--resume")),
        0);
    ck_assert_int_eq(test_read_metrics(in("o"), rows, 128), n);
}
END_TEST

START_TEST(wishes_for_the_best_that_cannot_be_met_are_refused)
{
    ck_assert_int_eq(train("o", WITH("--max_steps=4", "--load_best_model_at_end")), -QS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(e.text, "load_best_model_at_end needs validation data"));
    ck_assert_int_eq(train("o", WITH("--max_steps=4", "--val_set_size=2", "--load_best_model_at_end",
                                     "--eval_steps=3", "--save_steps=2")),
                     -QS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(e.text, "multiple of eval_steps"));
    ck_assert_int_eq(train("o", WITH("--max_steps=4", "--val_set_size=2", "--metric_for_best_model=bleu")),
                     -QS_EUSAGE);
    ck_assert(!qs_file_exists(in("o")));
}
END_TEST

START_TEST(kernels_that_round_otherwise_are_refused_unless_allowed)
{
    char *state = test_path(dir, "o/checkpoint-2/trainer_state.json"), seal[QS_SEAL_BYTES];
    size_t n;
    ck_assert_int_eq(train("o", WITH("--max_steps=4", "--stop_at_step=2")), -QS_EINTERRUPT);
    char *text = test_file_read(state, &n), *at = strstr(text, "\"kernels\": \""),
         *end = strchr(at + 12, '"');
    char *other = qs_printf("%.*s\"kernels\": \"abacus-1%s", (int)(at - text), text, end),
         *checksum = strstr(other, ",\n  \"checksum\"");
    qs_seal_make(&qs_seal_json, other, (size_t)(checksum - other), seal);
    memcpy(checksum, seal, strlen(seal));
    ck_assert_int_eq(qs_file_replace(state, other, strlen(other), &e), 0);
    qs_free(other);
    qs_free(text);
    qs_free(state);
    ck_assert_int_eq(train("o", WITH("--max_steps=4", "--resume")), -QS_EINVAL);
    ck_assert_msg(strstr(e.text, "abacus-1") && strstr(e.text, "--allow_different_bits"), "%s", e.text);
    ck_assert_int_eq(train("o", WITH("--max_steps=4", "--resume", "--allow_different_bits")), 0);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("run_checks");
    TCase *t = tcase_create("run_checks");
    tcase_set_timeout(t, 120);
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_schedule_without_a_rate_is_refused);
    tcase_add_test(t, a_peak_that_is_never_reached_is_said);
    tcase_add_test(t, a_rate_that_jumps_on_resume_is_said);
    tcase_add_test(t, dead_gradients_and_a_foreign_adapter_are_said_once);
    tcase_add_test(t, an_adapter_that_changes_nothing_is_an_error);
    tcase_add_test(t, another_validation_file_at_a_resume_is_said);
    tcase_add_test(t, the_best_checkpoint_is_kept_and_becomes_the_result);
    tcase_add_test(t, patience_ends_a_run_early_and_for_good);
    tcase_add_test(t, wishes_for_the_best_that_cannot_be_met_are_refused);
    tcase_add_test(t, kernels_that_round_otherwise_are_refused_unless_allowed);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
