/* Behaviour of src/data/data_files: words, patterns and directories become files with weights. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "src/base/memory.h"
#include "src/data/data_files.h"
#include "tests/support/temp_dir.h"

static char *dir;

static void make(const char *name)
{
    char *path = test_path(dir, name);
    test_file_write(path, "{}", 2);
    qs_free(path);
}

static void make_dirs(void)
{
    dir = test_dir_create();
    static const char *const names[] = {"set", "set/sub", "set/.git", "empty"};
    for (int i = 0; i < 4; i++) {
        char *path = test_path(dir, names[i]);
        ck_assert_int_eq(mkdir(path, 0700), 0);
        qs_free(path);
    }
    make("a.jsonl");
    make("a:3.jsonl");
    make("set/train.jsonl");
    make("set/valid.jsonl");
    make("set/test.csv.gz");
    make("set/README.md");
    make("set/dataset_info.json");
    make("set/sub/more.json.zst");
    make("set/.git/x.json");
}

static void drop_dirs(void) { test_dir_remove(dir); }

/* The files of one word below dir, their names in order, with weights that are not 1. */
static void finds(const char *word, bool validation, const char *want)
{
    char *full = test_path(dir, word), got[400] = "";
    qs_data_files f;
    qs_err e = {0};
    ck_assert_msg(qs_data_files_find((const char *const *)&full, 1, validation, &f, &e) == 0, "%s", e.text);
    for (int i = 0; i < f.count; i++) {
        size_t n = strlen(got);
        int used = snprintf(got + n, sizeof got - n, "%s%s", i ? " " : "", f.paths[i] + strlen(dir) + 1);
        if (f.weights[i] != 1)
            snprintf(got + n + (size_t)used, sizeof got - n - (size_t)used, "*%g", f.weights[i]);
    }
    ck_assert_str_eq(got, want);
    qs_data_files_free(&f);
    qs_free(full);
}

static void refuses(const char *word, int code, const char *part)
{
    qs_data_files f;
    qs_err e = {0};
    ck_assert_int_eq(qs_data_files_find(&word, 1, false, &f, &e), -code);
    ck_assert_msg(strstr(e.text, part) != NULL, "%s", e.text);
    qs_data_files_free(&f);
}

START_TEST(a_file_may_have_a_weight)
{
    finds("a.jsonl", false, "a.jsonl");
    finds("a.jsonl:2", false, "a.jsonl*2");
    finds("a.jsonl:0.25", false, "a.jsonl*0.25");
    finds("a:3.jsonl", false, "a:3.jsonl");
    finds("a:3.jsonl:2", false, "a:3.jsonl*2");
    char *zero = test_path(dir, "a.jsonl:0"), *negative = test_path(dir, "a.jsonl:-1");
    refuses(zero, QS_EINVAL, "weight");
    refuses(negative, QS_EINVAL, "weight");
    qs_free(zero);
    qs_free(negative);
}
END_TEST

START_TEST(a_directory_gives_its_data_files_of_the_part_asked_for)
{
    finds("set", false, "set/sub/more.json.zst set/train.jsonl");
    finds("set", true, "set/valid.jsonl");
    finds("set:2", false, "set/sub/more.json.zst*2 set/train.jsonl*2");
    char *empty = test_path(dir, "empty");
    refuses(empty, QS_EMISSING, "no data files");
    qs_free(empty);
}
END_TEST

START_TEST(a_pattern_gives_the_files_that_match)
{
    finds("*.jsonl", false, "a.jsonl a:3.jsonl");
    finds("set/t*", false, "set/test.csv.gz set/train.jsonl");
    char *nothing = test_path(dir, "x*.jsonl");
    refuses(nothing, QS_EMISSING, "pattern");
    qs_free(nothing);
}
END_TEST

START_TEST(a_word_that_leads_to_nothing_is_told_for_what_it_may_be)
{
    refuses("tatsu-lab/alpaca", QS_EMISSING, "hub, download");
    refuses("https://example.com/a.jsonl", QS_EMISSING, "address");
    refuses("/nonexistent/a.jsonl", QS_EMISSING, "No such file");
}
END_TEST

START_TEST(a_file_given_twice_is_refused)
{
    char *path = test_path(dir, "a.jsonl");
    const char *words[] = {path, path};
    qs_data_files f;
    qs_err e = {0};
    ck_assert_int_eq(qs_data_files_find(words, 2, false, &f, &e), -QS_EINVAL);
    ck_assert_msg(strstr(e.text, "twice") != NULL, "%s", e.text);
    qs_data_files_free(&f);
    qs_free(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("data_files");
    TCase *t = tcase_create("data_files");
    tcase_add_checked_fixture(t, make_dirs, drop_dirs);
    tcase_add_test(t, a_file_may_have_a_weight);
    tcase_add_test(t, a_directory_gives_its_data_files_of_the_part_asked_for);
    tcase_add_test(t, a_pattern_gives_the_files_that_match);
    tcase_add_test(t, a_word_that_leads_to_nothing_is_told_for_what_it_may_be);
    tcase_add_test(t, a_file_given_twice_is_refused);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
