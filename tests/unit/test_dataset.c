/* Behaviour of src/data/dataset and record_reader: formats, columns, sentences about what is wrong. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/data/dataset.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_dir.h"

static char *dir;

static void make_dir(void) { dir = test_dir_create(); }
static void drop_dir(void) { test_dir_remove(dir); }

static qs_dataset *open_text(const char *name, const char *text, size_t bytes)
{
    char *path = test_path(dir, name);
    test_file_write(path, text, bytes);
    qs_dataset *d;
    qs_err e = {0};
    ck_assert_msg(qs_dataset_open(path, &d, &e) == 0, "%s", e.text);
    qs_free(path);
    return d;
}

static qs_row next(qs_dataset *d)
{
    qs_row row;
    qs_err e = {0};
    int got = qs_dataset_next(d, &row, &e);
    ck_assert_msg(got == 1, "%d %s", got, e.text);
    return row;
}

static void ends(qs_dataset *d)
{
    qs_row row;
    qs_err e = {0};
    ck_assert_int_eq(qs_dataset_next(d, &row, &e), 0);
    qs_dataset_close(d);
}

#define OPEN(name, text) open_text(name, text, sizeof(text) - 1)

START_TEST(an_array_and_json_lines_give_the_same_rows)
{
    const char *names[] = {"a.json", "a.jsonl", "b.json"};
    const char *texts[] = {" [\n {\"instruction\": \"i [1\", \"input\": \"\", \"output\": \"o}\\\"\"},\n {\"instruction\":\"j\",\"output\":\"p\"} ]\n",
                           "{\"instruction\": \"i [1\", \"input\": null, \"output\": \"o}\\\"\"}\n\n{\"instruction\":\"j\",\"output\":\"p\"}",
                           "\xef\xbb\xbf{\n\"instruction\": \"i [1\",\n \"output\": \"o}\\\"\"}\n{\"instruction\":\"j\",\n\"output\":\"p\"}"};
    for (int i = 0; i < 3; i++) {
        qs_dataset *d = open_text(names[i], texts[i], strlen(texts[i]));
        qs_row r = next(d);
        ck_assert_int_eq(r.kind, QS_ROW_ALPACA);
        ck_assert_str_eq(r.instruction.data, "i [1");
        ck_assert_uint_eq(r.input.bytes, 0);
        ck_assert_str_eq(r.output.data, "o}\"");
        ck_assert_int_eq(r.number, 1);
        r = next(d);
        ck_assert_str_eq(r.output.data, "p");
        ck_assert_int_eq(r.line, i == 2 ? 4 : 3);
        ends(d);
    }
}
END_TEST

START_TEST(conversations_are_read_in_both_spellings)
{
    qs_dataset *d = OPEN("c.jsonl", "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"},"
                                    "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}],\"weight\":0}]}\n"
                                    "{\"conversations\":[{\"from\":\"human\",\"value\":\"h\"},{\"from\":\"gpt\",\"value\":\"g\\u0000x\"}]}");
    qs_row r = next(d);
    ck_assert_int_eq(r.kind, QS_ROW_MESSAGES);
    ck_assert_uint_eq(r.message_count, 3);
    ck_assert_int_eq(r.messages[0].role, QS_ROLE_SYSTEM);
    ck_assert_int_eq(r.messages[2].role, QS_ROLE_ASSISTANT);
    ck_assert_str_eq(r.messages[2].text, "ab");
    ck_assert(r.messages[2].untrained);
    r = next(d);
    ck_assert_uint_eq(r.message_count, 2);
    ck_assert_int_eq(r.messages[0].role, QS_ROLE_USER);
    ck_assert_uint_eq(r.messages[1].bytes, 3);
    ck_assert_mem_eq(r.messages[1].text, "g\0x", 3);
    ends(d);
}
END_TEST

START_TEST(other_columns_are_recognised)
{
    qs_dataset *d = OPEN("q.jsonl", "{\"question\":\"q\",\"answer\":\"a\"}");
    qs_row r = next(d);
    ck_assert_int_eq(r.kind, QS_ROW_ALPACA);
    ck_assert_str_eq(r.instruction.data, "q");
    ck_assert_str_eq(r.output.data, "a");
    ends(d);
    d = OPEN("d.json", "[{\"instruction\":\"q\",\"context\":\"c\",\"response\":\"a\",\"category\":\"x\"}]");
    r = next(d);
    ck_assert_str_eq(r.input.data, "c");
    ck_assert_str_eq(r.output.data, "a");
    ends(d);
    d = OPEN("p.jsonl", "{\"prompt\":\"q\",\"completion\":\"a\"}");
    ck_assert_int_eq(next(d).kind, QS_ROW_COMPLETION);
    ends(d);
    d = OPEN("t.jsonl", "{\"text\":\"q\"}");
    ck_assert_int_eq(next(d).kind, QS_ROW_TEXT);
    ends(d);
    d = OPEN("i.jsonl", "{\"input_ids\":[1,2,3],\"labels\":[-100,2,3]}\n{\"input_ids\":[4]}");
    r = next(d);
    ck_assert_int_eq(r.kind, QS_ROW_TOKENS);
    ck_assert_uint_eq(r.id_count, 3);
    ck_assert_int_eq(r.ids[2], 3);
    ck_assert_int_eq(r.labels[0], -100);
    r = next(d);
    ck_assert_ptr_null(r.labels);
    ends(d);
}
END_TEST

START_TEST(plain_text_is_cut_at_end_of_text_lines)
{
    qs_dataset *d = OPEN("t.txt", "[one\n\ntwo\n<|endoftext|>\n\n<|endoftext|>\r\nthree <|endoftext|>\n<|endoftext|>");
    qs_row r = next(d);
    ck_assert_str_eq(r.output.data, "[one\n\ntwo");
    r = next(d);
    ck_assert_str_eq(r.output.data, "three <|endoftext|>");
    ck_assert_int_eq(r.number, 2);
    ends(d);
}
END_TEST

START_TEST(long_plain_text_is_read_in_bounded_pieces)
{
    enum { LINES = 60000 };
    char *text = malloc(LINES * 51 + 1);
    for (int i = 0; i < LINES; i++) sprintf(text + 51 * i, "%049d\n\n", i);
    qs_dataset *d = open_text("long.txt", text, LINES * 51);
    free(text);
    qs_row r;
    qs_err e;
    int documents = 0;
    size_t bytes = 0;
    while (qs_dataset_next(d, &r, &e) == 1) {
        documents++;
        bytes += r.output.bytes;
        ck_assert_uint_lt(r.output.bytes, (1 << 20) + 64);
    }
    ck_assert_int_eq(documents, 3);
    ck_assert_uint_gt(bytes, LINES * 51 - 3 * 64);
    qs_dataset_close(d);
}
END_TEST

/* Reads to the first error, which must hold all of the given parts. */
static void fails(const char *name, const char *text, const char *part, const char *other)
{
    char *path = test_path(dir, name);
    test_file_write(path, text, strlen(text));
    qs_dataset *d = NULL;
    qs_err e = {0};
    qs_row row;
    int rc = qs_dataset_open(path, &d, &e);
    if (!rc)
        while ((rc = qs_dataset_next(d, &row, &e)) == 1)
            ;
    ck_assert_msg(rc < 0, "%s: no error", text);
    ck_assert_msg(strstr(e.text, name) && strstr(e.text, part) && strstr(e.text, other), "%s", e.text);
    qs_dataset_close(d);
    qs_free(path);
}

START_TEST(bad_data_is_refused_in_a_sentence_that_says_where)
{
    fails("a.json", "", "empty", "JSON");
    fails("a.json", "hello", ":1", "'['");
    fails("a.json", "PAR1....", "Parquet", "jsonl");
    fails("a.json", "[{\"text\": \"x\"}", "a.json:1", "truncated");
    fails("a.json", "[{\"text\": \"x\"}\n,{\"text\":", ":2", "truncated");
    fails("a.json", "[{\"text\": \"x\"} {\"text\":\"y\"}]", "','", "");
    fails("a.json", "[{\"text\": \"x\"}] []", "end of the file", "");
    fails("a.json", "[[1]]", "expected an object", "");
    fails("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \"y\"\n{\"text\":\"z\"}", "row 2 (line 2)", "not a JSON object");
    fails("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \"y\"} {\"text\":\"z\"}", ":2", "end of the line");
    fails("a.jsonl", "{\"text\": \"x\"}\nnull", ":2", "expected an object");
    fails("a.jsonl", "{\"txt\": \"x\", \"label\": 3}", "found: txt, label", "instruction");
    fails("a.jsonl", "{\"text\": \"x\"}\n\n{\"prompt\":\"\",\"completion\":\"\"}", "row 2 (line 3)", "first row");
    fails("a.jsonl", "{\"text\": 5}", "\"text\" must be a string", "a number");
    fails("a.jsonl", "{\"instruction\":\"x\",\"output\":null}", "\"output\"", "null");
    fails("a.jsonl", "{\"messages\": []}", "row 1", "empty");
    fails("a.jsonl", "{\"messages\": [{\"role\":\"king\",\"content\":\"\"}]}", "message 1", "king");
    fails("a.jsonl", "{\"messages\": [{\"role\":\"user\"}]}", "message 1", "nothing");
    fails("a.jsonl", "{\"messages\": [{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{}]}]}", "message 1", "tool_calls");
    fails("a.jsonl", "{\"messages\": [3]}", "message 1", "a number");
    fails("a.jsonl", "{\"input_ids\": [1, -2]}", "input_ids[1]", "0 or more");
    fails("a.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1]}", "labels", "found 1");
    fails("a.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, 5]}", "labels[1]", "found 5");
    fails("a.jsonl", "{\"text\": \"\xff\"}", "row 1", "0xff");
    qs_dataset *d;
    qs_err e = {0};
    ck_assert_int_eq(qs_dataset_open("/nonexistent/x.json", &d, &e), -QS_EMISSING);
    ck_assert_int_lt(qs_dataset_open(dir, &d, &e), 0);
}
END_TEST

START_TEST(damaged_files_never_crash)
{
    const char good[] = "[{\"messages\":[{\"role\":\"user\",\"content\":\"u\\n\\\"\"},{\"role\":\"assistant\",\"content\":\"a\"}]},"
                        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]}]";
    for (uint64_t i = 0; i < 1500; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        size_t n = sizeof good - 1;
        if (i < n) n = i;
        else
            for (uint64_t k = 0; k < 3; k++)
                text[qs_random_u32(i, 0, k) % n] = (char)qs_random_u32(i, 1, k);
        char *path = test_path(dir, "f.json");
        test_file_write(path, text, n);
        qs_dataset *d;
        qs_err e;
        qs_row row;
        if (!qs_dataset_open(path, &d, &e)) {
            while (qs_dataset_next(d, &row, &e) == 1)
                ;
            qs_dataset_close(d);
        }
        qs_free(path);
    }
}
END_TEST

START_TEST(real_files_have_the_expected_number_of_rows)
{
    static const struct {
        const char *name;
        qs_row_kind kind;
        int64_t rows;
    } files[] = {{"datasets/alpaca_en_demo.json", QS_ROW_ALPACA, 999}, {"datasets/alpaca_tiny_torchtune.json", QS_ROW_ALPACA, 100},
                 {"datasets/identity.json", QS_ROW_ALPACA, 91},        {"datasets/dolly_litgpt.json", QS_ROW_ALPACA, 12},
                 {"datasets/gsm8k/train.jsonl", QS_ROW_ALPACA, 7473},  {"datasets/axolotl/conversation.json", QS_ROW_MESSAGES, 1},
                 {"datasets/axolotl/conversation.tokenized.json", QS_ROW_TOKENS, 1}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = test_shared(files[i].name);
        if (!path) continue;
        qs_dataset *d;
        qs_row row;
        qs_err e = {0};
        ck_assert_msg(qs_dataset_open(path, &d, &e) == 0, "%s", e.text);
        int64_t rows = 0;
        int got;
        while ((got = qs_dataset_next(d, &row, &e)) == 1) {
            ck_assert_int_eq(row.kind, files[i].kind);
            rows++;
        }
        ck_assert_msg(got == 0, "%s", e.text);
        ck_assert_msg(rows == files[i].rows, "%s: %lld rows", path, (long long)rows);
        qs_dataset_close(d);
        qs_free(path);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dataset");
    TCase *t = tcase_create("dataset");
    tcase_set_timeout(t, 60);
    tcase_add_checked_fixture(t, make_dir, drop_dir);
    tcase_add_test(t, an_array_and_json_lines_give_the_same_rows);
    tcase_add_test(t, conversations_are_read_in_both_spellings);
    tcase_add_test(t, other_columns_are_recognised);
    tcase_add_test(t, plain_text_is_cut_at_end_of_text_lines);
    tcase_add_test(t, long_plain_text_is_read_in_bounded_pieces);
    tcase_add_test(t, bad_data_is_refused_in_a_sentence_that_says_where);
    tcase_add_test(t, damaged_files_never_crash);
    tcase_add_test(t, real_files_have_the_expected_number_of_rows);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
