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
    ck_assert_msg(qs_dataset_open(path, NULL, &d, &e) == 0, "%s", e.text);
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

/* The messages of a row as the built-in layouts see them; valid until the next call. */
static const qs_plain_messages *plain(qs_row r)
{
    static qs_plain_messages p;
    qs_err e = {0};
    ck_assert_msg(r.conversation && qs_plain_messages_fill(&p, r.conversation, &e) == 0, "%s", e.text);
    return &p;
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
    const char *texts[] = {" [\n {\"instruction\": \"i [1\", \"input\": \"\", \"output\": \"o}\\\"\"},\n "
                           "{\"instruction\":\"j\",\"output\":\"p\"} ]\n",
                           "{\"instruction\": \"i [1\", \"input\": null, \"output\": "
                           "\"o}\\\"\"}\n\n{\"instruction\":\"j\",\"output\":\"p\"}",
                           "\xef\xbb\xbf{\n\"instruction\": \"i [1\",\n \"output\": "
                           "\"o}\\\"\"}\n{\"instruction\":\"j\",\n\"output\":\"p\"}"};
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
    qs_dataset *d =
        OPEN("c.jsonl",
             "{\"messages\":[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"u\"},"
             "{\"role\":\"assistant\",\"content\":[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\","
             "\"text\":\"b\"}],\"weight\":0}]}\n"
             "{\"conversations\":[{\"from\":\"human\",\"value\":\"h\"},{\"from\":\"gpt\",\"value\":"
             "\"g\\u0000x\"}]}");
    qs_row r = next(d);
    ck_assert_int_eq(r.kind, QS_ROW_MESSAGES);
    ck_assert_uint_eq(plain(r)->count, 3);
    ck_assert_int_eq(plain(r)->messages[0].role, QS_ROLE_SYSTEM);
    ck_assert_int_eq(plain(r)->messages[2].role, QS_ROLE_ASSISTANT);
    ck_assert_str_eq(plain(r)->messages[2].text, "ab");
    ck_assert(plain(r)->messages[2].untrained);
    r = next(d);
    ck_assert_uint_eq(plain(r)->count, 2);
    ck_assert_int_eq(plain(r)->messages[0].role, QS_ROLE_USER);
    ck_assert_uint_eq(plain(r)->messages[1].bytes, 3);
    ck_assert_mem_eq(plain(r)->messages[1].text, "g\0x", 3);
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
    qs_dataset *d =
        OPEN("t.txt", "[one\n\ntwo\n<|endoftext|>\n\n<|endoftext|>\r\nthree <|endoftext|>\n<|endoftext|>");
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
    int rc = qs_dataset_open(path, NULL, &d, &e);
    if (!rc)
        while ((rc = qs_dataset_next(d, &row, &e)) == 1)
            ;
    ck_assert_msg(rc < 0, "%s: no error", text);
    ck_assert_msg(strstr(e.text, name) && strstr(e.text, part) && strstr(e.text, other), "%s", e.text);
    qs_dataset_close(d);
    qs_free(path);
}

START_TEST(a_column_that_is_not_honoured_is_refused_by_name)
{
    static const char *const columns[] = {"\"images\":[\"x.png\"]",
                                          "\"label\":false",
                                          "\"chosen\":\"x\"",
                                          "\"rejected\":[1]",
                                          "\"choices\":[\"a\"]",
                                          "\"tools\":[{}]",
                                          "\"reasoning_content\":\"x\"",
                                          "\"training_detail\":[1]",
                                          "\"weight\":0.5",
                                          "\"train\":false"};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        char row[200], name[40];
        sscanf(columns[i], "\"%39[^\"]", name);
        snprintf(row, sizeof row, "{\"instruction\":\"i\",\"output\":\"o\",%s}", columns[i]);
        fails("a.jsonl", row, name, "ignore_columns");
        /* null, empty or 1: nothing is lost. */
        snprintf(row, sizeof row, "{\"instruction\":\"i\",\"output\":\"o\",\"%s\":null}", name);
        qs_dataset *d = open_text("b.jsonl", row, strlen(row));
        ck_assert_str_eq(next(d).output.data, "o");
        ck_assert_int_eq(qs_dataset_unused(d)->count, 0);
        ends(d);
    }
}
END_TEST

START_TEST(columns_that_mean_nothing_are_noted_once_and_their_numbers_do_not_matter)
{
    qs_dataset *d =
        OPEN("a.jsonl",
             "{\"text\":\"a\",\"id\":123456789012345678901234567890,\"score\":NaN,\"p\":[1e400,-Infinity]}\n"
             "{\"text\":\"b\",\"id\":1,\"url\":\"NaN, \\\"1e400\"}");
    ck_assert_str_eq(next(d).output.data, "a");
    ck_assert_str_eq(next(d).output.data, "b");
    const qs_unused *u = qs_dataset_unused(d);
    ck_assert_int_eq(u->count, 4);
    ck_assert_str_eq(u->names[0], "id");
    ck_assert_str_eq(u->names[3], "url");
    ends(d);
    fails("a.jsonl", "{\"text\":NaN}", "\"text\"", "NaN");
    fails("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"u\",\"weight\":99999999999999999999}]}",
          "\"messages\"", "9999");
}
END_TEST

START_TEST(columns_of_one_meaning_are_taken_from_where_they_are_filled)
{
    qs_dataset *d =
        OPEN("a.jsonl", "{\"instruction\":\"i\",\"input\":\"\",\"context\":\"c\",\"output\":null,"
                        "\"response\":\"r\",\"messages\":null}\n"
                        "{\"question\":\"q\",\"context\":\"c\",\"answer\":\"a\",\"system_prompt\":\"s\"}\n"
                        "{\"input\":\"i\",\"output\":\"o\"}");
    qs_row r = next(d);
    ck_assert_str_eq(r.input.data, "c");
    ck_assert_str_eq(r.output.data, "r");
    r = next(d);
    ck_assert_str_eq(r.instruction.data, "q");
    ck_assert_str_eq(r.input.data, "c");
    ck_assert_str_eq(r.system.data, "s");
    r = next(d);
    ck_assert_str_eq(r.instruction.data, "i");
    ck_assert_uint_eq(r.input.bytes, 0);
    ends(d);
    fails("a.jsonl", "{\"instruction\":\"i\",\"output\":\"a\",\"response\":\"b\"}",
          "\"output\" and \"response\"", "ignore_columns");
    qs_column_choice choice = {.ignore = "response, label"};
    char *path = test_path(dir, "a.jsonl");
    qs_err e = {0};
    ck_assert_int_eq(qs_dataset_open(path, &choice, &d, &e), 0);
    ck_assert_str_eq(next(d).output.data, "a");
    ends(d);
    choice = (qs_column_choice){.text = "text"};
    ck_assert_int_eq(qs_dataset_open(path, &choice, &d, &e), 0);
    ck_assert_int_lt(qs_dataset_next(d, &r, &e), 0);
    ck_assert_msg(strstr(e.text, "text") != NULL, "%s", e.text);
    qs_dataset_close(d);
    qs_free(path);
}
END_TEST

START_TEST(the_masks_of_turns_are_read_in_every_spelling)
{
    static const char *const masks[] = {"\"train\":0", "\"loss\":false", "\"weight\":\"0\"",
                                        "\"training\":\"false\"", "\"weight\":0.0"};
    for (size_t i = 0; i < sizeof masks / sizeof *masks; i++) {
        char row[300];
        snprintf(row, sizeof row,
                 "{\"messages\":[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":"
                 "\"a\",%s},"
                 "{\"role\":\"assistant\",\"content\":\"b\",\"weight\":1,\"train\":null}]}",
                 masks[i]);
        qs_dataset *d = open_text("a.jsonl", row, strlen(row));
        qs_row r = next(d);
        ck_assert(plain(r)->messages[1].untrained);
        ck_assert(!plain(r)->messages[2].untrained);
        ends(d);
    }
    fails("a.jsonl", "{\"messages\":[{\"role\":\"assistant\",\"content\":\"a\",\"weight\":0.25}]}",
          "message 1", "weight");
    fails("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\",\"train\":true}]}", "message 1",
          "train");
}
END_TEST

START_TEST(conversations_come_in_many_spellings)
{
    qs_dataset *d = OPEN(
        "a.jsonl", "{\"messages\":\"[{\\\"role\\\": \\\"User\\\", \\\"content\\\": [\\\"a\\\", "
                   "\\\"b\\\"]}]\",\"system\":\"s\"}\n"
                   "{\"prompt\":[{\"role\":\"assistant\",\"content\":\"p\"}],\"completion\":[{\"role\":"
                   "\"assistant\",\"content\":\"c\"}]}\n"
                   "{\"conversations\":[{\"from\":\"function_call\",\"value\":\"{\\\"name\\\":\\\"f\\\","
                   "\\\"arguments\\\":{\\\"x\\\":1}}\"},"
                   "{\"from\":\"observation\",\"value\":\"o\"}],\"tools\":\"[{\\\"name\\\":\\\"f\\\"}]\"}\n"
                   "{\"messages\":[{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":"
                   "\"g\",\"arguments\":\"{}\"}}]}");
    qs_row r = next(d);
    ck_assert_uint_eq(plain(r)->count, 2);
    ck_assert_int_eq(plain(r)->messages[0].role, QS_ROLE_SYSTEM);
    ck_assert_str_eq(plain(r)->messages[1].text, "ab");
    r = next(d);
    ck_assert(plain(r)->messages[0].untrained);
    ck_assert(!plain(r)->messages[1].untrained);
    r = next(d);
    ck_assert_uint_eq(json_array_size(r.conversation->tools), 1);
    ck_assert_int_eq(plain(r)->messages[0].role, QS_ROLE_ASSISTANT);
    ck_assert_int_eq(plain(r)->messages[1].role, QS_ROLE_TOOL);
    json_t *call =
        json_array_get(json_object_get(json_array_get(r.conversation->messages, 0), "tool_calls"), 0);
    ck_assert_str_eq(json_string_value(json_object_get(json_object_get(call, "function"), "name")), "f");
    r = next(d);
    call = json_array_get(json_object_get(json_array_get(r.conversation->messages, 0), "tool_calls"), 0);
    ck_assert(json_is_object(json_object_get(json_object_get(call, "function"), "arguments")));
    ck_assert(json_is_null(json_object_get(json_array_get(r.conversation->messages, 0), "content")));
    ends(d);
    fails("a.jsonl", "{\"messages\":\"[{'role': 'user'}]\"}", "Python", "json.dumps");
    fails("a.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image\",\"text\":\"\"}]}]}",
          "image", "only text");
    fails("a.jsonl", "{\"system\":\"t\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"}]}", "system",
          "another text");
}
END_TEST

START_TEST(an_instruction_with_a_history_is_a_conversation)
{
    qs_dataset *d =
        OPEN("a.jsonl", "{\"instruction\":\"i\",\"input\":\"x\",\"output\":\"o\",\"history\":[[\"q\",\"a\"]],"
                        "\"system\":\"s\"}\n"
                        "{\"instruction\":\"i\",\"input\":\"x\",\"output\":\"o\",\"history\":[]}");
    qs_row r = next(d);
    ck_assert_uint_eq(plain(r)->count, 5);
    ck_assert_str_eq(plain(r)->messages[3].text, "i\nx");
    ck_assert_ptr_null(next(d).conversation);
    ends(d);
}
END_TEST

START_TEST(tokenised_rows_come_without_padding_by_their_masks_and_in_their_documents)
{
    qs_dataset *d =
        OPEN("a.jsonl", "{\"input_ids\":[9,1,2,3,9],\"attention_mask\":[0,1,1,1,0]}\n"
                        "{\"input_ids\":[1,2,3],\"completion_mask\":[0,1,1],\"assistant_masks\":[1,1,0]}\n"
                        "{\"input_ids\":[1,2,3,4],\"position_ids\":[0,1,0,1],\"labels\":[1,-100,3,4]}\n"
                        "{\"input_ids\":[5],\"position_ids\":[0]}");
    qs_row r = next(d);
    ck_assert_uint_eq(r.id_count, 3);
    ck_assert_int_eq(r.ids[0], 1);
    ck_assert_ptr_null(r.labels);
    r = next(d);
    ck_assert_int_eq(r.labels[0], -100);
    ck_assert_int_eq(r.labels[1], 2);
    ck_assert_int_eq(r.labels[2], -100);
    r = next(d);
    ck_assert_uint_eq(r.id_count, 2);
    ck_assert(!r.continued);
    r = next(d);
    ck_assert_int_eq(r.ids[0], 3);
    ck_assert_int_eq(r.labels[1], 4);
    ck_assert(r.continued);
    ck_assert_int_eq(r.number, 3);
    r = next(d);
    ck_assert_int_eq(r.number, 4);
    ck_assert(!r.continued);
    ends(d);
    fails("a.jsonl", "{\"input_ids\":[1,2,3],\"attention_mask\":[1,0,1]}", "attention_mask[1]", "between");
    fails("a.jsonl", "{\"input_ids\":[1,2,3],\"position_ids\":[0,1,1]}", "position_ids[2]", "expected 2");
    fails("a.jsonl", "{\"input_ids\":[1,2,3],\"completion_mask\":[0,0.5,1]}", "completion_mask[1]", "0 or 1");
    fails("a.jsonl", "{\"input_ids\":[1,2,3],\"attention_mask\":[1]}", "attention_mask", "found 1");
}
END_TEST

START_TEST(tables_are_read_by_their_header)
{
    qs_dataset *d = OPEN(
        "a.csv",
        "\xef\xbb\xbfinstruction,output,id\r\n\"say \"\"hi\"\", please\",\"Hi\r\nthere\",1\r\n\r\nplain,,2");
    qs_row r = next(d);
    ck_assert_str_eq(r.instruction.data, "say \"hi\", please");
    ck_assert_str_eq(r.output.data, "Hi\nthere");
    ck_assert_int_eq(r.line, 2);
    r = next(d);
    ck_assert_str_eq(r.instruction.data, "plain");
    ck_assert_int_eq(r.line, 5);
    ends(d);
    d = OPEN("b.tsv", "prompt\tcompletion\na\tb");
    ck_assert_str_eq(next(d).output.data, "b");
    ends(d);
    d = OPEN("c.data", "input_ids;labels\n\"[1, 2]\";\"[-100, 2]\"");
    ck_assert_int_eq(next(d).labels[1], 2);
    ends(d);
    fails("a.csv", "text\na\n\"b", ":3", "truncated");
    fails("a.csv", "text,x\na\n", ":2", "1 fields");
    fails("a.csv", "text\n\"a\"b\n", ":2", "after a closing quote");
    fails("a.csv", "text,text\n", "twice", "text");
}
END_TEST

START_TEST(rows_under_a_key_of_an_object_are_found)
{
    qs_dataset *d = OPEN("a.json", "{\"version\": [1, 2], \"info\": {\"data\": [1]},\n \"data\" : [ "
                                   "{\"text\":\"a\"},\n{\"text\":\"b\"}], \"end\": {\"x\": []}}\n");
    ck_assert_str_eq(next(d).output.data, "a");
    qs_row r = next(d);
    ck_assert_str_eq(r.output.data, "b");
    ck_assert_int_eq(r.line, 3);
    ends(d);
    d = OPEN("b.json", "{\"rows\":[{\"row_idx\":0,\"row\":{\"text\":\"a\"}}]}");
    ck_assert_str_eq(next(d).output.data, "a");
    ends(d);
    fails("a.json", "{\"train\":[{\"text\":\"a\"}],\"test\":[{\"text\":\"b\"}]}", "two keys", "");
    fails("a.json", "{\"train\":[{\"text\":\"a\"}]", "'}'", "truncated");
    fails("a.json", "{\"pages\":[{\"text\":\"a\"}]}", "\"pages\"", "inside it");
}
END_TEST

START_TEST(files_that_are_something_else_are_named)
{
    fails("a.jsonl", "version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS", "git lfs pull");
    fails("a.json", " <!DOCTYPE HTML>\n<html>", "HTML", "download");
    fails("a.txt", "<html><body>Access denied", "HTML", "");
    fails("a.jsonl", "ARROW1\1\1", "Arrow", "to_json");
    fails("a.txt", "caf\xe9 au lait", "UTF-8", "iconv");
    fails("a.jsonl", "{'text': 'a'}", "Python", "json.dumps");
    fails("a.jsonl", "PK\3\4", "zip archive", "CSV");
}
END_TEST

START_TEST(reading_goes_on_behind_a_bad_row)
{
    qs_dataset *d =
        OPEN("a.jsonl",
             "{\"text\":\"a\"}\n{\"text\":\nnonsense\n{\"text\":5}\n{\"text\":\"b\"} x\n{\"text\":\"c\"}");
    qs_row r = next(d);
    qs_err e;
    for (int i = 2; i < 6; i++) {
        ck_assert_int_lt(qs_dataset_next(d, &r, &e), 0);
        ck_assert(qs_dataset_goes_on(d));
    }
    r = next(d);
    ck_assert_str_eq(r.output.data, "c");
    ck_assert_int_eq(r.number, 6);
    ends(d);
    d = OPEN("b.json", "[{\"text\":5},{\"text\":\"a\"},{\"text\"");
    ck_assert_int_lt(qs_dataset_next(d, &r, &e), 0);
    ck_assert(qs_dataset_goes_on(d));
    ck_assert_str_eq(next(d).output.data, "a");
    ck_assert_int_lt(qs_dataset_next(d, &r, &e), 0);
    ck_assert(!qs_dataset_goes_on(d));
    qs_dataset_close(d);
}
END_TEST

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
    fails("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \"y\"\n{\"text\":\"z\"}", "row 2 (line 2)",
          "not a JSON object");
    fails("a.jsonl", "{\"text\": \"x\"}\n{\"text\": \"y\"} {\"text\":\"z\"}", ":2", "end of the line");
    fails("a.jsonl", "{\"text\": \"x\"}\nnull", ":2", "expected an object");
    fails("a.jsonl", "{\"txt\": \"x\", \"mark\": 3}", ": txt, mark", "instruction");
    fails("a.jsonl", "{\"text\": \"x\"}\n\n{\"prompt\":\"\",\"completion\":\"\"}", "row 2 (line 3)",
          "first row");
    fails("a.jsonl", "{\"text\": 5}", "\"text\" must be a string", "a number");
    fails("a.jsonl", "{\"instruction\":\"x\",\"output\":null}", "output", "null counts as absent");
    fails("a.jsonl", "{\"messages\": []}", "row 1", "empty");
    fails("a.jsonl", "{\"messages\": [{\"role\":\"king\",\"content\":\"\"}]}", "message 1", "king");
    fails("a.jsonl", "{\"messages\": [{\"role\":\"user\"}]}", "message 1", "nothing");
    fails("a.jsonl", "{\"messages\": [3]}", "message 1", "a number");
    fails("a.jsonl", "{\"input_ids\": [1, -2]}", "input_ids[1]", "0 or more");
    fails("a.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1]}", "labels", "found 1");
    fails("a.jsonl", "{\"input_ids\": [1, 2], \"labels\": [1, 5]}", "labels[1]", "found 5");
    fails("a.jsonl", "{\"text\": \"\xff\"}", "row 1", "0xff");
    qs_dataset *d;
    qs_err e = {0};
    ck_assert_int_eq(qs_dataset_open("/nonexistent/x.json", NULL, &d, &e), -QS_EMISSING);
    ck_assert_int_lt(qs_dataset_open(dir, NULL, &d, &e), 0);
}
END_TEST

START_TEST(damaged_files_never_crash)
{
    const char good[] = "[{\"messages\":[{\"role\":\"user\",\"content\":\"u\\n\\\"\"},{\"role\":"
                        "\"assistant\",\"content\":\"a\"}]},"
                        "{\"messages\":[{\"role\":\"user\",\"content\":[{\"text\":\"x\"}]}]}]";
    for (uint64_t i = 0; i < 1500; i++) {
        char text[sizeof good];
        memcpy(text, good, sizeof good);
        size_t n = sizeof good - 1;
        if (i < n)
            n = i;
        else
            for (uint64_t k = 0; k < 3; k++) text[qs_random_u32(i, 0, k) % n] = (char)qs_random_u32(i, 1, k);
        char *path = test_path(dir, "f.json");
        test_file_write(path, text, n);
        qs_dataset *d;
        qs_err e;
        qs_row row;
        if (!qs_dataset_open(path, NULL, &d, &e)) {
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
    } files[] = {{"datasets/alpaca_en_demo.json", QS_ROW_ALPACA, 999},
                 {"datasets/alpaca_tiny_torchtune.json", QS_ROW_ALPACA, 100},
                 {"datasets/identity.json", QS_ROW_ALPACA, 91},
                 {"datasets/dolly_litgpt.json", QS_ROW_ALPACA, 12},
                 {"datasets/gsm8k/train.jsonl", QS_ROW_ALPACA, 7473},
                 {"datasets/axolotl/conversation.json", QS_ROW_MESSAGES, 1},
                 {"datasets/axolotl/conversation.tokenized.json", QS_ROW_TOKENS, 1}};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char *path = test_shared(files[i].name);
        if (!path) continue;
        qs_dataset *d;
        qs_row row;
        qs_err e = {0};
        ck_assert_msg(qs_dataset_open(path, NULL, &d, &e) == 0, "%s", e.text);
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
    tcase_add_checked_fixture(t, make_dir, drop_dir);
    tcase_add_test(t, an_array_and_json_lines_give_the_same_rows);
    tcase_add_test(t, conversations_are_read_in_both_spellings);
    tcase_add_test(t, other_columns_are_recognised);
    tcase_add_test(t, plain_text_is_cut_at_end_of_text_lines);
    tcase_add_test(t, long_plain_text_is_read_in_bounded_pieces);
    tcase_add_test(t, a_column_that_is_not_honoured_is_refused_by_name);
    tcase_add_test(t, columns_that_mean_nothing_are_noted_once_and_their_numbers_do_not_matter);
    tcase_add_test(t, columns_of_one_meaning_are_taken_from_where_they_are_filled);
    tcase_add_test(t, the_masks_of_turns_are_read_in_every_spelling);
    tcase_add_test(t, conversations_come_in_many_spellings);
    tcase_add_test(t, an_instruction_with_a_history_is_a_conversation);
    tcase_add_test(t, tokenised_rows_come_without_padding_by_their_masks_and_in_their_documents);
    tcase_add_test(t, tables_are_read_by_their_header);
    tcase_add_test(t, rows_under_a_key_of_an_object_are_found);
    tcase_add_test(t, files_that_are_something_else_are_named);
    tcase_add_test(t, reading_goes_on_behind_a_bad_row);
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
