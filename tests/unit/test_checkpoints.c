/* Behaviour of src/train/{checkpoints,out_dir,out_lock,run_state}: what is kept, what is refused, what a
 * failed start leaves. Runs a tiny model. */
#include <check.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"
#include "io/numbered.h"
#include "io/seal.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/checkpoints.h"
#include "src/train/out_lock.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { MAX_ROWS = 64 };
static char *dir;
static qs_err e;

static void setup(void)
{
    qs_log_set_level(QS_LOG_ERROR);
    e = (qs_err){0};
    dir = test_dir_create();
}
static void teardown(void) { test_dir_remove(dir); }

#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})

/* A run of 12 steps in DIR/<out>, saved at each. */
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
                                        "--report_to=none",
                                        "--max_steps=12",
                                        "--save_steps=1",
                                        "--save_total_limit=2"};
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

static bool there(const char *name)
{
    struct stat st;
    return !lstat(in(name), &st);
}

/* "7 8": the checkpoints of DIR/<out>. */
static const char *checkpoints(const char *out)
{
    static char text[200];
    int64_t *steps;
    int count, used = 0;
    ck_assert_int_eq(qs_numbered_list(in(out), QS_CHECKPOINT, &steps, &count, &e), 0);
    *text = 0;
    for (int i = 0; i < count; i++)
        used += snprintf(text + used, sizeof text - (size_t)used, "%s%d", i ? " " : "", (int)steps[i]);
    qs_free(steps);
    return text;
}

/* One byte of a file becomes another. */
static void spoil(const char *name, size_t at)
{
    size_t n;
    const char *path = in(name);
    char *text = test_file_read(path, &n);
    ck_assert_uint_lt(at, n);
    text[at] ^= 1;
    test_file_overwrite(path, text, n);
    qs_free(text);
}

static void whole_run(const char *out)
{
    test_row rows[MAX_ROWS];
    int n = test_read_metrics(in(out), rows, MAX_ROWS);
    ck_assert_int_eq(n, 12);
    for (int i = 0; i < n; i++) ck_assert_int_eq(rows[i].step, i + 1);
}

/* ---- which go ---------------------------------------------------------------------------------------- */

START_TEST(damaged_checkpoints_neither_crowd_out_good_ones_nor_are_removed)
{
    ck_assert_int_eq(train("straight", WITH("--max_steps=12")), 0);
    ck_assert_int_eq(train("o", WITH("--stop_at_step=8", "--save_total_limit=3")), -QS_EINTERRUPT);
    ck_assert_str_eq(checkpoints("o"), "6 7 8");
    spoil("o/checkpoint-7/optimizer.bin", 100);
    spoil("o/checkpoint-8/optimizer.bin", 100);
    ck_assert_int_eq(train("o", WITH("--resume", "--stop_at_step=7", "--save_total_limit=1")),
                     -QS_EINTERRUPT);
    ck_assert_str_eq(checkpoints("o"), "7"); /* from 6; the damaged two stand aside */
    ck_assert(there("o/set-aside-checkpoint-7") && there("o/set-aside-checkpoint-8"));
    ck_assert_int_eq(train("o", WITH("--resume")), 0);
    whole_run("o");
    ck_assert(test_same_file(in("straight/adapter_model.safetensors"), in("o/adapter_model.safetensors")));
}
END_TEST

START_TEST(an_older_damaged_checkpoint_does_not_count_and_stays)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=6", "--save_total_limit=3")), -QS_EINTERRUPT);
    spoil("o/checkpoint-4/adapter_model.safetensors", 900);
    ck_assert_int_eq(train("o", WITH("--resume", "--stop_at_step=9")), -QS_EINTERRUPT);
    ck_assert_str_eq(checkpoints("o"), "4 8 9");
}
END_TEST

START_TEST(links_files_and_other_names_are_left_alone)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=2", "--save_total_limit=0")), -QS_EINTERRUPT);
    ck_assert_int_eq(qs_dir_create(in("elsewhere"), &e), 0);
    ck_assert_int_eq(rename(in("o/checkpoint-1"), in("elsewhere/checkpoint-1")), 0);
    ck_assert_int_eq(symlink("../elsewhere/checkpoint-1", in("o/checkpoint-1")), 0);
    ck_assert_int_eq(qs_file_replace(in("o/checkpoint-0/notes.txt"), "mine", 4, &e), 0);
    ck_assert_int_eq(qs_file_replace(in("o/checkpoint-007"), "mine", 4, &e), 0);
    ck_assert_int_eq(qs_dir_create(in("o/checkpoint-5-good"), &e), 0);
    ck_assert_int_eq(qs_file_replace(in("o/checkpoint-5"), "in the way", 10, &e), 0);
    ck_assert_int_eq(train("o", WITH("--resume")), 0);
    ck_assert_str_eq(checkpoints("o"), "0 11 12");
    ck_assert(there("o/checkpoint-1") && there("elsewhere/checkpoint-1/optimizer.bin") &&
              there("o/checkpoint-007") && there("o/checkpoint-5-good"));
    ck_assert(there("o/checkpoint-0/notes.txt") && there("o/set-aside-checkpoint-5"));
    whole_run("o");
}
END_TEST

START_TEST(a_checkpoint_of_another_run_is_never_pruned)
{
    ck_assert_int_eq(train("other", WITH("--stop_at_step=3", "--seed=7", "--save_total_limit=0")),
                     -QS_EINTERRUPT);
    ck_assert_int_eq(train("o", WITH("--stop_at_step=5", "--save_total_limit=0")), -QS_EINTERRUPT);
    ck_assert_int_eq(qs_dir_remove(in("o/checkpoint-3"), &e), 0);
    ck_assert_int_eq(rename(in("other/checkpoint-3"), in("o/checkpoint-3")), 0);
    ck_assert_int_eq(train("o", WITH("--resume")), 0);
    ck_assert_str_eq(checkpoints("o"), "3 11 12");
}
END_TEST

START_TEST(what_a_cut_off_removal_left_goes)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=3")), -QS_EINTERRUPT);
    ck_assert_int_eq(qs_dir_create(in("o/tmp-checkpoint-1"), &e), 0);
    ck_assert_int_eq(qs_file_replace(in("o/tmp-checkpoint-1/optimizer.bin"), "part", 4, &e), 0);
    ck_assert_int_eq(train("o", WITH("--resume")), 0);
    ck_assert(!there("o/tmp-checkpoint-1"));
}
END_TEST

/* ---- going on ---------------------------------------------------------------------------------------- */

START_TEST(an_older_resume_leaves_the_newer_branch_aside)
{
    ck_assert_int_eq(train("straight", WITH("--max_steps=12")), 0);
    ck_assert_int_eq(train("o", WITH("--save_total_limit=0")), 0);
    char *five = qs_printf("--resume=%s/o/checkpoint-5", dir);
    ck_assert_int_eq(train("o", WITH(five, "--stop_at_step=7", "--save_total_limit=2")), -QS_EINTERRUPT);
    qs_free(five);
    ck_assert_str_eq(checkpoints("o"), "6 7");
    ck_assert(there("o/set-aside-checkpoint-12") && there("o/set-aside-checkpoint-6") &&
              !there("o/checkpoint-12"));
    ck_assert_int_eq(train("o", WITH("--resume")), 0);
    whole_run("o");
    ck_assert(test_same_file(in("straight/adapter_model.safetensors"), in("o/adapter_model.safetensors")));
}
END_TEST

START_TEST(no_usable_checkpoint_is_refused_and_nothing_changes)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=6")), -QS_EINTERRUPT);
    spoil("o/checkpoint-5/trainer_state.json", 40);
    spoil("o/checkpoint-6/options.yaml", 40);
    size_t n, m;
    char *before = test_file_read(in("o/metrics.jsonl"), &n);
    ck_assert_int_eq(train("o", WITH("--resume")), -QS_EFORMAT);
    ck_assert_msg(strstr(e.text, "none of its 2 checkpoints") && strstr(e.text, "start afresh"), "%s",
                  e.text);
    char *after = test_file_read(in("o/metrics.jsonl"), &m);
    ck_assert(n == m && !memcmp(before, after, n));
    ck_assert_str_eq(checkpoints("o"), "5 6");
    qs_free(before);
    qs_free(after);
}
END_TEST

/* Whichever byte of the state is altered, the step in it is not believed. */
START_TEST(an_altered_trainer_state_is_passed_over)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=3")), -QS_EINTERRUPT);
    qs_run_state state;
    const char *path = in("o/checkpoint-3"), *file = in("o/checkpoint-3/trainer_state.json");
    size_t n;
    char *text = test_file_read(file, &n);
    ck_assert_int_eq(qs_run_state_read(path, &state, &e), 0);
    ck_assert_int_eq(state.step, 3);
    for (size_t i = 0; i < n; i++)
        for (int bit = 0; bit < 8; bit += 3) {
            text[i] ^= (char)(1 << bit);
            test_file_overwrite(file, text, n);
            ck_assert_msg(qs_run_state_read(path, &state, &e), "bit %d of byte %zu is not missed", bit, i);
            text[i] ^= (char)(1 << bit);
        }
    spoil("o/checkpoint-3/trainer_state.json", 20);
    ck_assert_int_eq(train("o", WITH("--resume")), 0);
    whole_run("o");
    qs_free(text);
}
END_TEST

START_TEST(a_checkpoint_of_an_earlier_version_is_refused_with_a_way_on)
{
    qs_run_state state;
    ck_assert_int_eq(qs_run_state_read("tests/golden/format_1/checkpoint-2", &state, &e), -QS_EFORMAT);
    ck_assert_msg(strstr(e.text, "earlier version") &&
                      strstr(e.text, "--init_adapter tests/golden/format_1/checkpoint-2"),
                  "%s", e.text);
}
END_TEST

START_TEST(a_refused_resume_leaves_no_trace)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=4")), -QS_EINTERRUPT);
    ck_assert_int_eq(train("o", WITH("--resume", "--data=tests/golden/qwen2/data.jsonl")), -QS_EINVAL);
    ck_assert_int_eq(train("o", WITH("--resume", "--seed=1")), -QS_EUSAGE);
    ck_assert_int_eq(train("o", WITH("--resume")), 0);
    whole_run("o");
}
END_TEST

START_TEST(a_checkpoint_keeps_its_options_in_any_folder)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=4")), -QS_EINTERRUPT);
    char *four = qs_printf("--resume=%s/o/checkpoint-4", dir);
    ck_assert_int_eq(train("new", WITH(four, "--seed=1", "--learning_rate=1e-3")), -QS_EUSAGE);
    ck_assert_msg(strstr(e.text, "seed was 42, now 1; learning_rate was"), "%s", e.text);
    ck_assert(!there("new"));
    ck_assert_int_eq(train("new", WITH(four)), 0);
    qs_free(four);
    ck_assert_str_eq(checkpoints("new"), "11 12");
    ck_assert_str_eq(checkpoints("o"), "3 4");
}
END_TEST

START_TEST(the_first_adapter_is_not_needed_again)
{
    ck_assert_int_eq(train("first", WITH("--max_steps=2")), 0);
    char *init = qs_printf("--init_adapter=%s/first", dir);
    ck_assert_int_eq(train("o", WITH(init, "--stop_at_step=4")), -QS_EINTERRUPT);
    ck_assert_int_eq(qs_dir_remove(in("first"), &e), 0);
    ck_assert_int_eq(train("o", WITH(init, "--resume")), 0);
    qs_free(init);
    whole_run("o");
}
END_TEST

/* ---- OUT --------------------------------------------------------------------------------------------- */

START_TEST(a_start_that_failed_leaves_nothing)
{
    ck_assert_int_eq(train("a/b/o", WITH("--cache=/proc/nowhere")), -QS_EIO);
    ck_assert(!there("a"));
    ck_assert_int_eq(qs_dir_create(in("mine"), &e), 0);
    ck_assert_int_eq(qs_file_replace(in("mine/notes.txt"), "mine", 4, &e), 0);
    ck_assert_int_ne(train("mine", WITH("--ram=1M")), 0);
    ck_assert(there("mine/notes.txt") && !there("mine/lock") && !there("mine/options.yaml"));
    ck_assert_int_eq(train("mine", WITH("--max_steps=2")), 0);
}
END_TEST

START_TEST(what_never_made_a_step_is_begun_over)
{
    ck_assert_int_eq(train("o", WITH("--stop_at_step=1", "--seed=5")), -QS_EINTERRUPT);
    ck_assert_int_eq(qs_file_replace(in("o/metrics.jsonl"), "", 0, &e),
                     0); /* as a kill in the first step leaves it */
    ck_assert_int_eq(qs_dir_remove(in("o/checkpoint-1"), &e), 0);
    ck_assert_int_eq(train("o", WITH("--max_steps=12")), 0);
    whole_run("o");
    ck_assert_int_eq(train("o", WITH("--max_steps=12")), -QS_EINVAL);
}
END_TEST

START_TEST(a_folder_of_something_else_is_refused)
{
    ck_assert_int_eq(train("first", WITH("--max_steps=2")), 0);
    ck_assert_int_eq(qs_dir_create(in("adapter"), &e), 0);
    ck_assert_int_eq(rename(in("first/adapter_model.safetensors"), in("adapter/adapter_model.safetensors")),
                     0);
    ck_assert_int_eq(rename(in("first/adapter_config.json"), in("adapter/adapter_config.json")), 0);
    ck_assert_int_eq(train("adapter", WITH("--max_steps=2")), -QS_EINVAL);
    ck_assert_ptr_nonnull(strstr(e.text, "already holds an adapter"));
    ck_assert_int_eq(qs_dir_create(in("model"), &e), 0);
    ck_assert_int_eq(qs_file_replace(in("model/config.json"), "{}", 2, &e), 0);
    ck_assert_int_eq(train("model", WITH("--max_steps=2")), -QS_EINVAL);
    ck_assert_ptr_nonnull(strstr(e.text, "holds a model"));
}
END_TEST

START_TEST(a_folder_in_use_is_refused_with_its_holder)
{
    int ready[2], done[2];
    ck_assert_int_eq(pipe(ready) | pipe(done), 0);
    pid_t child = fork();
    if (!child) {
        qs_out_lock lock;
        char byte = (char)qs_out_lock_take(dir, &lock, &e);
        _exit(write(ready[1], &byte, 1) != 1 || read(done[0], &byte, 1) != 1);
    }
    char byte;
    qs_out_lock lock;
    ck_assert_int_eq(read(ready[0], &byte, 1), 1);
    ck_assert_int_eq(byte, 0);
    ck_assert_int_eq(qs_out_lock_take(dir, &lock, &e), -QS_EINVAL);
    char *holder = qs_printf("process %ld on ", (long)child);
    ck_assert_msg(strstr(e.text, holder) != NULL, "%s", e.text);
    qs_free(holder);
    qs_out_lock_release(&lock);
    ck_assert(there("lock"));
    ck_assert_int_eq(write(done[1], "", 1), 1);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    ck_assert_int_eq(qs_out_lock_take(dir, &lock, &e), 0); /* its file is still there and held by nobody */
    qs_out_lock_release(&lock);
    ck_assert(!there("lock"));
}
END_TEST

/* ---- seals ------------------------------------------------------------------------------------------- */

START_TEST(a_seal_holds_for_what_it_was_made_for_alone)
{
    char text[200] = "a: 1\nb: 2\n", seal[QS_SEAL_BYTES];
    size_t n = strlen(text);
    ck_assert_int_eq(qs_seal_check(&qs_seal_comment, text, n), QS_SEAL_ABSENT);
    n += qs_seal_make(&qs_seal_comment, text, n, seal);
    strncat(text, seal, sizeof text - strlen(text) - 1);
    ck_assert_int_eq(qs_seal_check(&qs_seal_comment, text, n), QS_SEAL_HOLDS);
    ck_assert_int_eq(qs_seal_check(&qs_seal_json, text, n), QS_SEAL_ABSENT);
    for (size_t i = 0; i < n; i++) {
        text[i] ^= 4;
        ck_assert_int_ne(qs_seal_check(&qs_seal_comment, text, n), QS_SEAL_HOLDS);
        text[i] ^= 4;
        ck_assert_int_ne(qs_seal_check(&qs_seal_comment, text, i), QS_SEAL_HOLDS);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("checkpoints");
    TCase *t = tcase_create("checkpoints");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, damaged_checkpoints_neither_crowd_out_good_ones_nor_are_removed);
    tcase_add_test(t, an_older_damaged_checkpoint_does_not_count_and_stays);
    tcase_add_test(t, links_files_and_other_names_are_left_alone);
    tcase_add_test(t, a_checkpoint_of_another_run_is_never_pruned);
    tcase_add_test(t, what_a_cut_off_removal_left_goes);
    tcase_add_test(t, an_older_resume_leaves_the_newer_branch_aside);
    tcase_add_test(t, no_usable_checkpoint_is_refused_and_nothing_changes);
    tcase_add_test(t, an_altered_trainer_state_is_passed_over);
    tcase_add_test(t, a_checkpoint_of_an_earlier_version_is_refused_with_a_way_on);
    tcase_add_test(t, a_refused_resume_leaves_no_trace);
    tcase_add_test(t, a_checkpoint_keeps_its_options_in_any_folder);
    tcase_add_test(t, the_first_adapter_is_not_needed_again);
    tcase_add_test(t, a_start_that_failed_leaves_nothing);
    tcase_add_test(t, what_never_made_a_step_is_begun_over);
    tcase_add_test(t, a_folder_of_something_else_is_refused);
    tcase_add_test(t, a_folder_in_use_is_refused_with_its_holder);
    tcase_add_test(t, a_seal_holds_for_what_it_was_made_for_alone);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
