/* Behaviour of src/data/choice_task: MMLU's tables, lm-eval's requests, and where a continuation begins. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/data/choice_task.h"
#include "tests/support/temp_dir.h"

static char *dir;

static void setup(void) { dir = test_dir_create(); }
static void teardown(void) { test_dir_remove(dir); }

static void put(const char *name, const char *text, char path[512])
{
    snprintf(path, 512, "%s/%s", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert(f && fputs(text, f) >= 0 && !fclose(f));
}

START_TEST(a_table_with_and_without_a_header_gives_the_same_questions)
{
    static const char *const texts[] = {"question,A,B,C,D,answer\n\"Two, and two?\",3,4,5,6,1\n",
                                        "\"Two, and two?\",3,4,5,6,B\n"};
    for (int i = 0; i < 2; i++) {
        char path[512];
        qs_err e = {0};
        qs_choice_task t;
        put("small_numbers_test.csv", texts[i], path);
        ck_assert_msg(!qs_choice_task_read(path, 0, &t, &e), "%s", e.text);
        ck_assert_str_eq(t.name, "small_numbers");
        ck_assert_int_eq(t.count, 1);
        ck_assert_int_eq(t.questions[0].answer, 1);
        ck_assert_str_eq(t.questions[0].context[0],
                         "The following are multiple choice questions (with answers) about small "
                         "numbers.\n\nTwo, and two?\nA. 3\nB. 4\nC. 5\nD. 6\nAnswer:");
        ck_assert_str_eq(t.questions[0].continuation[3], " D");
        qs_choice_task_free(&t);
    }
}
END_TEST

START_TEST(solved_examples_come_before_a_question_in_their_order)
{
    char path[512], other[512], sub[512];
    qs_err e = {0};
    qs_choice_task t;
    snprintf(sub, sizeof sub, "mkdir -p %s/test %s/dev", dir, dir);
    ck_assert(!system(sub));
    put("dev/x_dev.csv", "One?,1,2,3,4,A\nTwo?,1,2,3,4,B\nThree?,1,2,3,4,C\n", other);
    put("test/x_test.csv", "Four?,1,2,3,4,D\n", path);
    ck_assert_msg(!qs_choice_task_read(path, 2, &t, &e), "%s", e.text);
    const char *c = t.questions[0].context[0];
    ck_assert(strstr(c, "One?\nA. 1\nB. 2\nC. 3\nD. 4\nAnswer: A\n\nTwo?") && !strstr(c, "Three?"));
    qs_choice_task_free(&t);
    ck_assert(qs_choice_task_read(path, 5, &t, &e) < 0);
    ck_assert_msg(strstr(e.text, "found 3") && strstr(e.text, "--shots"), "%s", e.text);
}
END_TEST

START_TEST(requests_are_read_in_both_shapes_that_lm_eval_logs)
{
    char path[512];
    qs_err e = {0};
    qs_choice_task t;
    put("r.jsonl",
        "{\"arguments\": [[\"Q\", \" a\"], [\"Q\", \" b\"]], \"target\": 1}\n\n"
        "{\"arguments\": {\"gen_args_0\": {\"arg_0\": \"Q\", \"arg_1\": \" a\"}, \"gen_args_1\": {\"arg_0\": "
        "\"R\", \"arg_1\": \" b\"}}, \"target\": \"0\"}\n"
        "{\"context\": \"Q\", \"choices\": [\" a\", \" b\", \" c\"], \"answer\": 2}",
        path);
    ck_assert_msg(!qs_choice_task_read(path, 0, &t, &e), "%s", e.text);
    ck_assert_int_eq(t.count, 3);
    ck_assert_int_eq(t.questions[0].choices, 2);
    ck_assert_int_eq(t.questions[0].answer, 1);
    ck_assert_str_eq(t.questions[1].context[1], "R");
    ck_assert_int_eq(t.questions[2].choices, 3);
    qs_choice_task_free(&t);
}
END_TEST

START_TEST(what_is_no_question_is_named_with_file_and_line)
{
    static const struct {
        const char *name, *text, *said;
    } cases[] = {
        {"a_test.csv", "Q,1,2,3,4,A\nQ,1,2,3,A\n", "a_test.csv:2: expected a question"},
        {"b.jsonl", "{\"context\": \"Q\", \"choices\": [\" a\"], \"answer\": 0}\n", "b.jsonl:1: expected"},
        {"c.jsonl", "{\"context\": \"Q\", \"choices\": [\" a\", \" b\"], \"answer\": 2}\n",
         "c.jsonl:1: expected"},
        {"d.jsonl", "\n{oops\n", "d.jsonl:2: is not a JSON object"},
        {"e_test.csv", "", "has no questions"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char path[512];
        qs_err e = {0};
        qs_choice_task t;
        put(cases[i].name, cases[i].text, path);
        ck_assert(qs_choice_task_read(path, 0, &t, &e) < 0);
        ck_assert_msg(strstr(e.text, cases[i].said) != NULL, "%s", e.text);
    }
}
END_TEST

START_TEST(a_continuation_takes_the_spaces_before_it)
{
    qs_err e = {0};
    qs_tokenizer *t;
    ck_assert_msg(!qs_tokenizer_open("configs/demo/base", &t, &e), "%s", e.text);
    qs_ids a = {0}, b = {0};
    size_t context_a, context_b;
    ck_assert_msg(!qs_choice_encode(t, "Where does Rusty live? ", "In the bay", &a, &context_a, &e), "%s",
                  e.text);
    ck_assert_msg(!qs_choice_encode(t, "Where does Rusty live?", " In the bay", &b, &context_b, &e), "%s",
                  e.text);
    ck_assert_uint_eq(a.count, b.count);
    ck_assert_uint_eq(context_a, context_b);
    ck_assert_mem_eq(a.data, b.data, a.count * sizeof *a.data);
    qs_ids_free(&a);
    qs_ids_free(&b);
    ck_assert_msg(!qs_choice_encode(t, "", "In the bay", &a, &context_a, &e), "%s", e.text);
    ck_assert_uint_eq(context_a, 1);
    qs_ids_free(&a);
    qs_tokenizer_close(t);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("choice_task");
    TCase *t = tcase_create("tasks");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_table_with_and_without_a_header_gives_the_same_questions);
    tcase_add_test(t, solved_examples_come_before_a_question_in_their_order);
    tcase_add_test(t, requests_are_read_in_both_shapes_that_lm_eval_logs);
    tcase_add_test(t, what_is_no_question_is_named_with_file_and_line);
    tcase_add_test(t, a_continuation_takes_the_spaces_before_it);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
