/* Behaviour of src/data/chat_jinja, chat_source and chat_spans: a model's own template, what is trained, what
 * stays text. */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "src/base/memory.h"
#include "src/data/conversation.h"
#include "tests/support/letter_tokenizer.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_tokenizer *tokenizer;

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

typedef struct asked {
    const char *messages, *tools;
    bool prompt, all;
    const char *untrained, *date, *variables, *name; /* untrained: "01": the second message */
} asked;

/* A conversation by a template, marked, or "! " and the error. */
static char *written(const char *source, asked a)
{
    const qs_chat_template *t;
    qs_err e = {0};
    if (source) write_in("chat_template.jinja", source);
    const qs_chat_choice choice = {dir, a.name, a.variables, a.date};
    if (qs_chat_template_open(&choice, &t, &e)) return qs_printf("! %s", e.text);
    bool untrained[64] = {false};
    for (size_t i = 0; a.untrained && a.untrained[i]; i++) untrained[i] = a.untrained[i] == '1';
    json_t *messages = json_loads(a.messages, 0, NULL),
           *tools = a.tools ? json_loads(a.tools, 0, NULL) : NULL;
    ck_assert_msg(messages && (tools || !a.tools), "%s", a.messages);
    qs_rendering r = {0};
    qs_labelled l = {0};
    int rc =
        qs_chat_jinja_render(qs_chat_template_jinja(t), tokenizer,
                             &(qs_conversation){.messages = messages, .tools = tools, .untrained = untrained},
                             a.prompt, a.all, &r, &e);
    if (!rc) rc = qs_rendering_encode(&r, tokenizer, &l, &e);
    char *out = rc ? qs_printf("! %s", e.text) : test_marked(tokenizer, &l);
    qs_labelled_free(&l);
    qs_rendering_free(&r);
    json_decref(messages);
    json_decref(tools);
    qs_chat_template_close(t);
    return out;
}

static void expect(const char *source, asked a, const char *want)
{
    char *got = written(source, a);
    bool error = *want == '!';
    ck_assert_msg(error ? *got == '!' && strstr(got, want + 2) : strcmp(got, want) == 0,
                  "%s\n got: %s\nwant: %s", source ? source : "", got, want);
    qs_free(got);
}

#define TALK                                                                                                \
    "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"a\"},{\"role\":\"user\"," \
    "\"content\":\"v\"},"                                                                                   \
    "{\"role\":\"assistant\",\"content\":\"b\"}]"
#define ONE "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"a\"}]"
#define CHATML_BODY \
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' + m.content + '<|im_end|>\\n' }}{% endfor %}"
#define CHATML CHATML_BODY "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"

START_TEST(answers_are_trained_from_the_prompts_end_to_their_own)
{
    expect(
        CHATML, (asked){.messages = TALK},
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n{b<|im_end|>}\n");
    expect(
        CHATML, (asked){.messages = TALK, .untrained = "0100"},
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n{b<|im_end|>}\n");
    expect(CHATML, (asked){.messages = ONE, .prompt = true},
           "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n<|im_start|>assistant\n");
    expect(CHATML, (asked){.messages = ONE, .all = true},
           "{<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\na<|im_end|>\n}");
    /* A template without a generation prompt: the head of a turn is not the answer's. */
    expect(CHATML_BODY, (asked){.messages = ONE},
           "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}\n");
    expect("{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[I] {{ m.content }} [/I]{% else "
           "%} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}",
           (asked){.messages = TALK}, "<s>[I] u [/I]{ a</s>}[I] v [/I]{ b</s>}");
    expect(CHATML,
           (asked){.messages =
                       "[{\"role\":\"assistant\",\"content\":\"hi\"},{\"role\":\"user\",\"content\":\"u\"}]"},
           "<|im_start|>assistant\n{hi<|im_end|>}\n<|im_start|>user\nu<|im_end|>\n");
    /* Nothing is written for an empty conversation: the answer's own words are what is known. */
    expect("{% if messages[0].role %}{% endif %}" CHATML,
           (asked){.messages = "[{\"role\":\"assistant\",\"content\":\"hi\"}]"},
           "<|im_start|>assistant\n{hi<|im_end|>}\n");
}
END_TEST

START_TEST(generation_blocks_decide_where_a_template_has_them)
{
    const char *source = "{% for m in messages %}{% if m.role == 'assistant' %}A:{% generation %}{{ "
                         "m.content }};{% endgeneration %}{% else %}U:{{ m.content }};"
                         "{% endif %}{% endfor %}";
    expect(source, (asked){.messages = TALK}, "U:u;A:{a;}U:v;A:{b;}");
    expect(source, (asked){.messages = TALK, .untrained = "0100"}, "U:u;A:a;U:v;A:{b;}");
    expect("{% macro f(m) %}{% generation %}{{ m.content }}{% endgeneration %}{% endmacro %}{% for m in "
           "messages %}{{ f(m) }}{% endfor %}",
           (asked){.messages = ONE}, "! inside a macro");
    expect("{% for m in messages %}{% generation %}x{% endgeneration %}{% endfor %}",
           (asked){.messages = TALK, .untrained = "0100"}, "! cannot be told");
}
END_TEST

START_TEST(turns_that_change_with_what_follows_are_still_told_apart)
{
    /* Thoughts are written in the last turn alone. */
    const char *thinking = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\\n' }}{% if m.role == "
                           "'assistant' and loop.last %}<think>{{ m.reasoning_content }}</think>"
                           "{% endif %}{{ m.content + '<|im_end|>\\n' }}{% endfor %}{% if "
                           "add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}";
    expect(
        thinking, (asked){.messages = TALK},
        "<|im_start|>user\nu<|im_end|>\n<|im_start|>assistant\n{a<|im_end|>}\n<|im_start|>user\nv<|im_end|>\n"
        "<|im_start|>assistant\n{<think></think>b<|im_end|>}\n");
    /* The system message goes into the last user's turn. */
    const char *moving = "{% set ns = namespace(s='') %}{% for m in messages %}{% if m.role == 'system' %}{% "
                         "set ns.s = m.content %}{% endif %}{% endfor %}{% for m in messages %}"
                         "{% if m.role == 'user' %}[{% if ns.s and m == (messages | selectattr('role', 'eq', "
                         "'user') | list | last) %}{{ ns.s }}/{% endif %}{{ m.content }}]"
                         "{% elif m.role == 'assistant' %}{{ m.content }}</s>{% endif %}{% endfor %}";
    expect(moving,
           (asked){.messages =
                       "[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"u\"},{"
                       "\"role\":\"assistant\",\"content\":\"a\"},"
                       "{\"role\":\"user\",\"content\":\"v\"},{\"role\":\"assistant\",\"content\":\"b\"}]"},
           "[u]{a</s>}[S/v]{b</s>}");
    /* The prompt opens a thought that finished turns do not have. */
    const char *opened = "{% for m in messages %}{{ m.role[0] + ':' + m.content + '</s>' }}{% endfor %}{% if "
                         "add_generation_prompt %}a:<think>{% endif %}";
    expect(opened, (asked){.messages = TALK}, "u:u</s>a:{a</s>}u:v</s>a:{b</s>}");
    /* A last turn ends otherwise than the ones before. */
    const char *ending = "{% for m in messages %}{{ m.role[0] + ':' + m.content + ('</s>' if loop.last else "
                         "'<|end|>') }}{% endfor %}{% if add_generation_prompt %}a:{% endif %}";
    expect(ending, (asked){.messages = TALK}, "u:u<|end|>a:{a<|end|>}u:v<|end|>a:{b</s>}");
}
END_TEST

START_TEST(where_nothing_tells_the_conversation_is_refused)
{
    expect("{% for m in messages | reverse | list %}{{ m.content }};{% endfor %}", (asked){.messages = TALK},
           "! does not tell which part");
    expect("{{ messages | length }}{% for m in messages %}{{ m.content }}{% endfor %}",
           (asked){.messages =
                       "[{\"role\":\"user\",\"content\":\"u\"},{\"role\":\"assistant\",\"content\":\"\"},"
                       "{\"role\":\"user\",\"content\":\"v\"}]"},
           "! message 2");
    expect("{{ messages[0].content }}\n{{ raise_exception('no ' + messages[0].role) }}",
           (asked){.messages = ONE},
           "! chat template line 2: the template refuses this conversation: no user");
}
END_TEST

START_TEST(long_conversations_are_told_by_what_stands_between_messages)
{
    json_t *list = json_array();
    for (int i = 0; i < 600; i++) {
        char text[16];
        snprintf(text, sizeof text, "%d", i);
        json_array_append_new(list,
                              json_pack("{s:s,s:s}", "role", i % 2 ? "assistant" : "user", "content", text));
    }
    char *messages = json_dumps(list, 0), *got = written(CHATML, (asked){.messages = messages});
    ck_assert_msg(*got != '!', "%s", got);
    int trained = 0;
    for (const char *at = got; (at = strstr(at, "<|im_start|>assistant\n{")); at++) trained++;
    ck_assert_int_eq(trained, 300);
    ck_assert(strstr(got, "assistant\n{301<|im_end|>}\n<|im_start|>user\n302<|im_end|>\n"));
    qs_free(got);
    free(messages);
    json_decref(list);
}
END_TEST

START_TEST(what_people_write_stays_text)
{
    /* The same letters as the template's own mark: one token there, letters in a message. */
    write_in("chat_template.jinja", CHATML);
    const qs_chat_template *t;
    qs_err e = {0};
    ck_assert_int_eq(qs_chat_template_open(&(qs_chat_choice){.model_dir = dir}, &t, &e), 0);
    json_t *messages = json_loads("[{\"role\":\"user\",\"content\":\"<|im_end|>\"}]", 0, NULL);
    qs_rendering r = {0};
    qs_labelled l = {0};
    ck_assert_int_eq(qs_chat_jinja_render(qs_chat_template_jinja(t), tokenizer,
                                          &(qs_conversation){.messages = messages}, false, false, &r, &e),
                     0);
    ck_assert_int_eq(qs_rendering_encode(&r, tokenizer, &l, &e), 0);
    int ends = 0;
    for (size_t i = 0; i < l.ids.count; i++) ends += l.ids.data[i] == 203;
    ck_assert_int_eq(ends, 1);
    ck_assert_uint_eq(l.ids.count, strlen("*user\n<|im_end|>*\n"));
    ck_assert_int_eq(qs_chat_stop_id(t, tokenizer), 203);
    qs_labelled_free(&l);
    qs_rendering_free(&r);
    json_decref(messages);
    qs_chat_template_close(t);
}
END_TEST

START_TEST(templates_are_told_their_variables)
{
    expect(
        "{{ strftime_now('%d %b %Y') }}|{{ bos_token }}|{{ image_token }}|{{ x }}|{{ pad_token is defined }}",
        (asked){.messages = "[]", .date = "2026-01-31", .variables = "{\"x\": [1]}"},
        "31 Jan 2026|<s>||[1]|False");
    expect("{{ x }}", (asked){.messages = "[]", .date = "tomorrow"}, "! template_date \"tomorrow\"");
    expect("{{ x }}", (asked){.messages = "[]", .variables = "nonsense"}, "! chat_template_kwargs");
    expect("{% for m in messages %}{{ m.reasoning_content }}{{ m.thinking }}{{ m.content is defined }}{% "
           "endfor %}",
           (asked){.messages = "[{\"role\":\"user\",\"content\":null,\"thinking\":\"t\"}]"}, "ttFalse");
    expect("{% for t in tools %}{{ t | tojson }}{% endfor %}",
           (asked){.messages = "[]", .tools = "[{\"n\": 1.0}]"}, "{\"n\": 1.0}");
}
END_TEST

START_TEST(a_models_template_is_found_as_transformers_finds_it)
{
    const asked none = {.messages = "[]"};
    expect(NULL, none, "! has no chat template");
    write_in("chat_template.json", "{\"chat_template\": \"from json\"}");
    expect(NULL, none, "from json");
    write_in("tokenizer_config.json",
             "{\"chat_template\": \"from config\", \"model_max_length\": 1000000000000000019884624838656}");
    expect(NULL, none, "from config");
    write_in("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"default\", \"template\": "
                                      "\"plain\"}, {\"name\": \"tool_use\", \"template\": \"tools\"},"
                                      " {\"name\": \"rag\", \"template\": \"rag\"}]}");
    expect(NULL, none, "plain");
    expect(NULL, (asked){.messages = "[]", .tools = "[{}]"}, "tools");
    expect(NULL, (asked){.messages = "[]", .name = "rag"}, "rag");
    expect(NULL, (asked){.messages = "[]", .name = "nosuch"}, "! chat_template \"nosuch\" is not known");
    expect(NULL, (asked){.messages = "[]", .name = "it is {{ 'this' }}"}, "it is this");
    write_in("tokenizer_config.json", "{\"chat_template\": [{\"name\": \"chat\", \"template\": \"c\"}, "
                                      "{\"name\": \"tool_use\", \"template\": \"t\"}]}");
    expect(NULL, none, "! none is called default; choose one with --chat_template: chat, tool_use");
    write_in("tokenizer_config.json", "{\"chat_template\":");
    expect(NULL, none, "! tokenizer_config.json");
    write_in("tokenizer_config.json", "{\"chat_template\": \"from config\"}");
    expect("from the file", none, "from the file");
    write_in("other.jinja", "another");
    char *path = test_path(dir, "other.jinja");
    expect(NULL, (asked){.messages = "[]", .name = path}, "another");
    qs_free(path);
    expect("{% if %}", none, "! chat_template.jinja: chat template line 1");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("chat_jinja");
    TCase *t = tcase_create("chat_jinja");
    tcase_add_checked_fixture(t, make_tokenizer, drop_tokenizer);
    tcase_add_test(t, answers_are_trained_from_the_prompts_end_to_their_own);
    tcase_add_test(t, generation_blocks_decide_where_a_template_has_them);
    tcase_add_test(t, turns_that_change_with_what_follows_are_still_told_apart);
    tcase_add_test(t, where_nothing_tells_the_conversation_is_refused);
    tcase_add_test(t, long_conversations_are_told_by_what_stands_between_messages);
    tcase_add_test(t, what_people_write_stays_text);
    tcase_add_test(t, templates_are_told_their_variables);
    tcase_add_test(t, a_models_template_is_found_as_transformers_finds_it);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
