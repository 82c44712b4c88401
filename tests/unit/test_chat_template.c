/* Behaviour of src/data/chat_template and rendering: layouts, masks, and which text may become a control
 * token. */
#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "src/base/memory.h"
#include "src/data/chat_template.h"
#include "src/data/dataset.h"
#include "tests/support/letter_tokenizer.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_tokenizer *tokenizer; /* one token per ASCII character, and the marks of all templates */

static void write_in(const char *name, const char *text)
{
    char *path = test_path(dir, name);
    test_file_write(path, text, strlen(text));
    qs_free(path);
}

static void make_tokenizer(void)
{
    dir = test_dir_create();
    test_letter_tokenizer(dir, &tokenizer);
}

static void drop_tokenizer(void)
{
    qs_tokenizer_close(tokenizer);
    test_dir_remove(dir);
}

static void expect_encoding(const qs_rendering *r, const char *name, const char *want)
{
    qs_labelled l = {0};
    qs_err e = {0};
    ck_assert_msg(qs_rendering_encode(r, tokenizer, &l, &e) == 0, "%s", e.text);
    char *got = test_marked(tokenizer, &l);
    ck_assert_msg(strcmp(got, want) == 0, "%s\n got: %s\nwant: %s", name, got, want);
    qs_free(got);
    qs_labelled_free(&l);
}

#define M(role, text) \
    (qs_message) { QS_ROLE_##role, text, sizeof(text) - 1, false }

enum { PROMPT = 1, ALL = 2 };

static void expect(const char *name, const qs_message *m, size_t n, int flags, const char *want)
{
    const qs_chat_template *c;
    qs_err e = {0};
    ck_assert_msg(qs_chat_template_by_name(name, &c, &e) == 0, "%s", e.text);
    qs_rendering r = {0};
    ck_assert_msg(qs_chat_render(c, tokenizer, m, n, flags == PROMPT, flags == ALL, &r, &e) == 0, "%s: %s",
                  name, e.text);
    expect_encoding(&r, name, want);
    qs_rendering_free(&r);
}

/* A system message, and two exchanges; some contents have blanks around them. */
static const qs_message talk[] = {M(SYSTEM, "S"), M(USER, " u "), M(ASSISTANT, " a "), M(USER, "v"),
                                  M(ASSISTANT, "b")};

START_TEST(layouts_and_masks_are_those_of_the_models)
{
    static const struct {
        const char *name, *text;
    } cases[] = {
        {"chatml", "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n u "
                   "<|im_end|>\n<|im_start|>assistant\n{ a <|im_end|>}\n"
                   "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n{b<|im_end|>}"},
        {"qwen3",
         "<|im_start|>system\nS<|im_end|>\n<|im_start|>user\n u <|im_end|>\n<|im_start|>assistant\n{ a "
         "<|im_end|>}\n"
         "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n{b<|im_end|>}"},
        {"llama2", "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nu [/INST]{ a </s>}<s>[INST] v [/INST]{ b </s>}"},
        {"llama3", "<s><|start_header_id|>system<|end_header_id|>\n\nS<|eot_id|><|start_header_id|>user<|end_"
                   "header_id|>\n\nu<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n{a<|eot_id|>}<|start_header_id|>user<|"
                   "end_header_id|>\n\nv<|eot_id|>"
                   "<|start_header_id|>assistant<|end_header_id|>\n\n{b<|eot_id|>}"},
        {"llama3.1", "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December "
                     "2023\nToday Date: 26 Jul 2024\n\nS"
                     "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nu<|eot_id|>"
                     "<|start_header_id|>assistant<|end_header_id|>\n\n{a<|eot_id|>}<|start_header_id|>user<|"
                     "end_header_id|>\n\nv<|eot_id|>"
                     "<|start_header_id|>assistant<|end_header_id|>\n\n{b<|eot_id|>}"},
        {"mistral-v1", "<s>[INST] S\n\n u  [/INST]{  a </s>}[INST] v [/INST]{ b</s>}"},
        {"mistral-v3", "<s>[INST]  u [/INST]{  a </s>}[INST] S\n\nv[/INST]{ b</s>}"},
        {"mistral-tekken", "<s>[INST] u [/INST]{ a </s>}[INST]S\n\nv[/INST]{b</s>}"},
        {"mistral-v7",
         "<s>[SYSTEM_PROMPT] S[/SYSTEM_PROMPT][INST]  u [/INST]{  a </s>}[INST] v[/INST]{ b</s>}"},
        {"mistral-v7-tekken",
         "<s>[SYSTEM_PROMPT]S[/SYSTEM_PROMPT][INST] u [/INST]{ a </s>}[INST]v[/INST]{b</s>}"},
        {"zephyr", "<|system|>\nS</s>\n<|user|>\n u </s>\n<|assistant|>\n{ a "
                   "</s>}\n<|user|>\nv</s>\n<|assistant|>\n{b</s>}"},
        {"gemma", "<s><start_of_turn>user\nS\n\nu<end_of_turn>\n<start_of_turn>model\n{a<end_of_turn>}\n<"
                  "start_of_turn>user\nv<end_of_turn>\n"
                  "<start_of_turn>model\n{b<end_of_turn>}"},
        {"phi3", "<|system|>\nS<|end|>\n<|user|>\n u <|end|>\n<|assistant|>\n{ a "
                 "<|end|>}\n<|user|>\nv<|end|>\n<|assistant|>\n{b<|end|>}"},
        {"phi4", "<|im_start|>system<|im_sep|>S<|im_end|><|im_start|>user<|im_sep|> u "
                 "<|im_end|><|im_start|>assistant<|im_sep|>{ a <|im_end|>}"
                 "<|im_start|>user<|im_sep|>v<|im_end|><|im_start|>assistant<|im_sep|>{b<|im_end|>}"},
        {"vicuna", "S USER:  u  ASSISTANT:{  a </s>}USER: v ASSISTANT:{ b</s>}"},
        {"alpaca", "S\n\n### Instruction:\n u \n\n### Response:{ a </s>}\n\n### Instruction:\nv\n\n### "
                   "Response:{b</s>}"},
        {"none", "S u { a </s>}v{b</s>}"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        expect(cases[i].name, talk, 5, 0, cases[i].text);
}
END_TEST

START_TEST(prompts_end_where_the_assistant_is_to_speak)
{
    expect("chatml", talk + 1, 3, PROMPT,
           "<|im_start|>user\n u <|im_end|>\n<|im_start|>assistant\n a "
           "<|im_end|>\n<|im_start|>user\nv<|im_end|>\n"
           "<|im_start|>assistant\n");
    expect("llama2", talk, 2, PROMPT, "<s>[INST] <<SYS>>\nS\n<</SYS>>\n\nu [/INST]");
    expect("zephyr", talk + 3, 1, PROMPT, "<|user|>\nv</s>\n<|assistant|>\n");
    expect("gemma", talk + 3, 1, PROMPT, "<s><start_of_turn>user\nv<end_of_turn>\n<start_of_turn>model\n");
    expect("qwen3", talk + 3, 1, PROMPT,
           "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n");
}
END_TEST

START_TEST(models_with_a_standard_system_message_get_it)
{
    expect(
        "qwen2.5", talk + 3, 2, 0,
        "<|im_start|>system\nYou are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n"
        "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n{b<|im_end|>}");
    expect(
        "llama3.1", talk + 3, 2, 0,
        "<s><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\nToday Date: "
        "26 Jul 2024\n\n<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nv<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{b<|eot_id|>}");
}
END_TEST

START_TEST(qwen3_forgets_earlier_thoughts_and_keeps_the_last)
{
    const qs_message m[] = {M(USER, "u"), M(ASSISTANT, "<think>\nx\n</think>\n\na"), M(USER, "v"),
                            M(ASSISTANT, "<think>\ny\n</think>\n\nb")};
    expect(
        "qwen3", m, 4, 0,
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n{<think>\ny\n</think>\n\nb<|im_end|>}");
}
END_TEST

START_TEST(what_people_write_never_becomes_a_control_token)
{
    const qs_message m[] = {M(USER, "<|im_end|>"), M(ASSISTANT, "</s>")};
    const qs_chat_template *c;
    qs_err e;
    qs_rendering r = {0};
    qs_labelled l = {0};
    ck_assert_int_eq(qs_chat_template_by_name("chatml", &c, &e), 0);
    ck_assert_int_eq(qs_chat_render(c, tokenizer, m, 2, false, false, &r, &e), 0);
    ck_assert_int_eq(qs_rendering_encode(&r, tokenizer, &l, &e), 0);
    int ends = 0, eos = 0;
    for (size_t i = 0; i < l.ids.count; i++) {
        ends += l.ids.data[i] == 203;
        eos += l.ids.data[i] == 201;
    }
    ck_assert_int_eq(ends, 2); /* one after each turn, written by the template */
    ck_assert_int_eq(eos, 0);
    qs_labelled_free(&l);
    qs_rendering_free(&r);
}
END_TEST

START_TEST(train_on_inputs_trains_all_but_bos_and_changes_no_token)
{
    expect("llama2", talk + 3, 2, ALL, "<s>{[INST] v [/INST] b </s>}");
    expect("chatml", talk + 3, 2, ALL, "{<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\nb<|im_end|>}");
}
END_TEST

START_TEST(untrained_answers_are_context)
{
    qs_message m[] = {M(USER, "u"), M(ASSISTANT, "a"), M(USER, "v"), M(ASSISTANT, "b")};
    m[1].untrained = true;
    expect(
        "chatml", m, 4, 0,
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n{b<|im_end|>}");
}
END_TEST

START_TEST(impossible_conversations_are_refused)
{
    const qs_message two_users[] = {M(USER, "u"), M(USER, "v"), M(ASSISTANT, "a")},
                     late[] = {M(USER, "u"), M(SYSTEM, "s"), M(ASSISTANT, "a")},
                     tool[] = {M(USER, "u"), M(TOOL, "t"), M(ASSISTANT, "a")}, alone[] = {M(SYSTEM, "s")};
    const struct {
        const char *name;
        const qs_message *m;
        size_t n;
        const char *part;
    } cases[] = {{"llama2", two_users, 3, "message 2"},
                 {"gemma", late, 3, "message 2"},
                 {"phi3", tool, 3, "tool"},
                 {"llama2", alone, 1, "system"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const qs_chat_template *c;
        qs_rendering r = {0};
        qs_err e = {0};
        ck_assert_int_eq(qs_chat_template_by_name(cases[i].name, &c, &e), 0);
        ck_assert_int_eq(qs_chat_render(c, tokenizer, cases[i].m, cases[i].n, false, false, &r, &e),
                         -QS_EFORMAT);
        ck_assert_msg(strstr(e.text, cases[i].part) && strstr(e.text, cases[i].name), "%s", e.text);
        qs_rendering_free(&r);
    }
    expect(
        "chatml", two_users, 3, 0,
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}");
}
END_TEST

START_TEST(alpaca_prompts_come_in_three_spellings)
{
    static const char *const names[] = {"alpaca", "alpaca-qlora", "alpaca-axolotl"}, *const gaps[] = {"", " ",
                                                                                                      "\n"};
    for (int i = 0; i < 3; i++) {
        const qs_chat_template *c;
        qs_err e;
        qs_rendering r = {0};
        ck_assert_int_eq(qs_chat_template_by_name(names[i], &c, &e), 0);
        ck_assert(qs_chat_is_alpaca(c));
        ck_assert_int_eq(
            qs_alpaca_render(c, tokenizer, &(qs_alpaca_row){"I", "", "O", 1, 0, 1}, false, &r, &e), 0);
        char *want = qs_printf("Below is an instruction that describes a task. Write a response that "
                               "appropriately completes the request.\n\n"
                               "### Instruction:\nI\n\n### Response:%s{O</s>}",
                               gaps[i]);
        expect_encoding(&r, names[i], want);
        qs_free(want);
        qs_rendering_clear(&r);
        ck_assert_int_eq(
            qs_alpaca_render(c, tokenizer, &(qs_alpaca_row){"I", "X", "O", 1, 1, 1}, false, &r, &e), 0);
        want = qs_printf("Below is an instruction that describes a task, paired with an input that provides "
                         "further context. Write a response "
                         "that appropriately completes the request.\n\n### Instruction:\nI\n\n### "
                         "Input:\nX\n\n### Response:%s{O</s>}",
                         gaps[i]);
        expect_encoding(&r, names[i], want);
        qs_free(want);
        qs_rendering_free(&r);
    }
}
END_TEST

START_TEST(a_mark_that_is_no_token_is_backed_by_eos)
{
    /* A tokenizer without ChatML's marks: they are ordinary text, and EOS ends the turn. */
    qs_tokenizer_close(tokenizer);
    char *path = test_path(dir, "tokenizer.json"), *text = test_file_read(path, NULL);
    char *at = strstr(text, "<|im_end|>");
    memcpy(at, "<|no_end|>", 10);
    write_in("tokenizer.json", text);
    qs_free(text);
    qs_free(path);
    qs_err e = {0};
    ck_assert_msg(qs_tokenizer_open(dir, &tokenizer, &e) == 0, "%s", e.text);
    expect("chatml", talk + 3, 2, 0,
           "<|im_start|>user\nv<|im_end|>\n<|im_start|>assistant\n{b<|im_end|></s>}");
    const qs_chat_template *c;
    ck_assert_int_eq(qs_chat_template_by_name("chatml", &c, &e), 0);
    ck_assert_int_eq(qs_chat_stop_id(c, tokenizer), 201);
}
END_TEST

START_TEST(every_listed_name_is_a_template_and_the_reverse_is_refused)
{
    char *names = qs_strdup(qs_chat_template_names()), *rest;
    int count = 0;
    const qs_chat_template *c;
    qs_err e = {0};
    for (char *name = strtok_r(names, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest), count++) {
        ck_assert_msg(qs_chat_template_by_name(name, &c, &e) == 0, "%s", e.text);
        ck_assert_str_eq(qs_chat_template_name(c), name);
    }
    ck_assert_int_eq(count, 21);
    ck_assert_int_eq(qs_chat_template_by_name("chatnl", &c, &e), -QS_EINVAL);
    ck_assert(strstr(e.text, "chatml, qwen2"));
    qs_free(names);
}
END_TEST

/* The system message that the tokenised conversation was made with. */
static const char llama2_system[] =
    "You are a helpful, respectful and honest assistant. Always answer as helpfully as possible, while being "
    "safe. Your answers should not "
    "include any harmful, unethical, racist, sexist, toxic, dangerous, or illegal content. Please ensure "
    "that your responses are socially unbiased "
    "and positive in nature.\n\nIf a question does not make any sense, or is not factually coherent, explain "
    "why instead of answering something "
    "not correct. If you don't know the answer to a question, please don't share false information.";

/* The shared Llama tokenizer, its spaces as when those tokens were made: tokenizer.json alone said where they
 * go. */
static char *legacy_llama(void)
{
    static const char config[] =
        "{\"tokenizer_class\":\"LlamaTokenizer\",\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}";
    char *from = test_shared("tokenizers/llama2"), *file = from ? test_path(from, "tokenizer.json") : NULL,
         *full = file ? realpath(file, NULL) : NULL, *link = test_path(dir, "tokenizer.json");
    unlink(link);
    bool linked = full && !symlink(full, link);
    write_in("tokenizer_config.json", config);
    qs_free(link);
    free(full);
    qs_free(file);
    qs_free(from);
    return linked ? qs_strdup(dir) : NULL;
}

START_TEST(a_llama2_conversation_equals_the_one_tokenised_by_axolotl)
{
    char *model = legacy_llama(), *data = test_shared("datasets/axolotl/conversation.json"),
         *tokens = test_shared("datasets/axolotl/conversation.tokenized_llama2chat.json");
    qs_err e = {0};
    qs_dataset *d = NULL, *want = NULL;
    qs_row row, ids;
    qs_tokenizer *t = NULL;
    if (model && data && tokens && !qs_dataset_open(data, NULL, &d, &e) &&
        !qs_dataset_open(tokens, NULL, &want, &e) && !qs_tokenizer_open(model, &t, &e)) {
        ck_assert_msg(qs_dataset_next(d, &row, &e) == 1 && qs_dataset_next(want, &ids, &e) == 1, "%s",
                      e.text);
        qs_plain_messages plain = {0};
        ck_assert_msg(qs_plain_messages_fill(&plain, row.conversation, &e) == 0, "%s", e.text);
        qs_message *m = qs_malloc((plain.count + 1) * sizeof *m);
        m[0] = (qs_message){QS_ROLE_SYSTEM, llama2_system, sizeof llama2_system - 1, false};
        memcpy(m + 1, plain.messages, plain.count * sizeof *m);
        const qs_chat_template *c;
        qs_rendering r = {0};
        qs_labelled l = {0};
        ck_assert_int_eq(qs_chat_template_by_name("llama2", &c, &e), 0);
        ck_assert_msg(qs_chat_render(c, t, m, plain.count + 1, false, false, &r, &e) == 0, "%s", e.text);
        ck_assert_int_eq(qs_rendering_encode(&r, t, &l, &e), 0);
        size_t n = l.ids.count < ids.id_count ? l.ids.count : ids.id_count;
        ck_assert_uint_gt(n, 1500);
        for (size_t i = 0; i < n; i++) {
            ck_assert_msg(l.ids.data[i] == ids.ids[i], "token %zu: %d, expected %d", i, l.ids.data[i],
                          ids.ids[i]);
            ck_assert_msg(l.trained[i] == (ids.labels[i] != -100), "label %zu: %d", i, l.trained[i]);
        }
        qs_labelled_free(&l);
        qs_rendering_free(&r);
        qs_free(m);
    }
    ck_assert_int_eq(e.code, 0);
    qs_tokenizer_close(t);
    qs_dataset_close(d);
    qs_dataset_close(want);
    qs_free(model);
    qs_free(data);
    qs_free(tokens);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chat_template");
    TCase *t = tcase_create("chat_template");
    tcase_add_checked_fixture(t, make_tokenizer, drop_tokenizer);
    tcase_add_test(t, layouts_and_masks_are_those_of_the_models);
    tcase_add_test(t, prompts_end_where_the_assistant_is_to_speak);
    tcase_add_test(t, models_with_a_standard_system_message_get_it);
    tcase_add_test(t, qwen3_forgets_earlier_thoughts_and_keeps_the_last);
    tcase_add_test(t, what_people_write_never_becomes_a_control_token);
    tcase_add_test(t, train_on_inputs_trains_all_but_bos_and_changes_no_token);
    tcase_add_test(t, untrained_answers_are_context);
    tcase_add_test(t, impossible_conversations_are_refused);
    tcase_add_test(t, alpaca_prompts_come_in_three_spellings);
    tcase_add_test(t, a_mark_that_is_no_token_is_backed_by_eos);
    tcase_add_test(t, every_listed_name_is_a_template_and_the_reverse_is_refused);
    tcase_add_test(t, a_llama2_conversation_equals_the_one_tokenised_by_axolotl);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
