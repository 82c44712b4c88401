/* Behaviour of src/data/jinja: small templates, what they give and what they refuse; origins of bytes;
 * bounds. */
#include <check.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/data/jinja/jinja.h"

static const char standard[] = "{\"s\": \" Ab c \", \"n\": 7, \"f\": 2.5, \"yes\": true, \"nil\": null, "
                               "\"list\": [3, 1, 2], \"u\": \"h\\u00e9\\u4e16\", "
                               "\"d\": {\"b\": 1, \"a\": [1, {\"x\": \"y\"}], \"items\": 9}, \"rows\": "
                               "[{\"role\": \"user\", \"content\": \"hi\"}, "
                               "{\"role\": \"assistant\", \"content\": \"ho\", \"n\": 1}]}";

static qs_jinja_limits limits = {.steps = 100000, .bytes = 16 << 20};

/* The text of a template with these variables, or what went wrong with "! " before it. Freed with qs_free. */
static char *rendered(const char *source, const char *variables)
{
    qs_err e = {0};
    qs_jinja *t;
    json_t *all = json_loads(variables, 0, NULL), *v;
    const char *name;
    ck_assert_ptr_nonnull(all);
    if (qs_jinja_parse(source, strlen(source), &t, &e)) {
        json_decref(all);
        return qs_printf("! %s", e.text);
    }
    struct tm date = {.tm_year = 126, .tm_mon = 0, .tm_mday = 31};
    qs_jinja_session *s = qs_jinja_session_new(t, &date, limits);
    json_object_foreach(all, name, v)
    {
        qs_jvalue value;
        ck_assert(qs_jvalue_of_json(qs_jinja_arena(s), v, QS_JMARK_OTHER, &value));
        qs_jinja_set(s, name, value);
    }
    qs_jinja_text text = {0};
    char *out = qs_jinja_render(s, &text, &e) ? qs_printf("! %s", e.text) : qs_strndup(text.text, text.bytes);
    qs_jinja_text_free(&text);
    qs_jinja_session_free(s);
    qs_jinja_free(t);
    json_decref(all);
    return out;
}

typedef struct sample {
    const char *source, *text;
} sample;

static void expect(const sample *samples, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *got = rendered(samples[i].source, standard);
        bool refused = strncmp(samples[i].text, "! ", 2) == 0;
        ck_assert_msg(refused ? got[0] == '!' && strstr(got, samples[i].text + 2)
                              : strcmp(got, samples[i].text) == 0,
                      "%s\n got: %s\nwant: %s", samples[i].source, got, samples[i].text);
        qs_free(got);
    }
}

#define EXPECT(...) \
    expect((const sample[]){__VA_ARGS__}, sizeof((const sample[]){__VA_ARGS__}) / sizeof(sample))

START_TEST(blanks_around_tags_go_as_jinja_takes_them)
{
    EXPECT({"a\n", "a"}, {"a\n\n", "a\n"}, {"{% if yes %}\nx\n{% endif %}\ny", "x\ny"},
           {"  {% if yes %}x{% endif %}\n", "x"}, {"a  {% if yes %}x{% endif %}", "a  x"},
           {"a\n  {% if yes %}x{% endif %}", "a\nx"}, {"a\n  {%+ if yes %}x{% endif %}", "a\n  x"},
           {"  {{ n }}\n  z", "  7\n  z"}, {"a {{- n -}} b", "a7b"},
           {"a\n {%- if yes -%} \n x {%- endif %}", "ax"}, {"a {# c #}\nb", "a b"},
           {"a\n {# c #}\nb", "a\nb"}, {"{% if yes +%}\nx{% endif %}", "\nx"}, {"a\r\nb\rc", "a\nb\nc"},
           {"{% raw %}{{ x }}{% endraw %}", "{{ x }}"},
           {"a\n{%- raw -%}  {% x %}  {%- endraw -%}  b", "a{% x %}b"},
           {"{{ '}}' }}{{ {'a': {'b': 1}}.a.b }}", "}}1"});
}
END_TEST

START_TEST(expressions_follow_pythons_rules)
{
    EXPECT({"{{ 1 + 2 * 3 }} {{ 7 // 2 }} {{ -7 // 2 }} {{ -7 % 3 }} {{ 7 / 2 }} {{ 2 ** 3 ** 2 }}",
            "7 3 -4 2 3.5 64"},
           {"{{ 0.1 + 0.2 }} {{ 1e16 }} {{ 1.0 }} {{ 100000.0 * 10 }} {{ 1e-5 }} {{ 123456789.125 }}",
            "0.30000000000000004 1e+16 1.0 1000000.0 1e-05 123456789.125"},
           {"{{ 'a' ~ 1 ~ none ~ true }}", "a1NoneTrue"}, {"{{ 'a' + 'b' * 3 }}", "abbb"},
           {"{{ [1] + [2, 'x'] }}", "[1, 2, 'x']"},
           {"{{ (1,) }} {{ () }} {{ {'a': none} }}", "(1,) () {'a': None}"},
           {"{{ \"it's\" }}{{ [\"it's\", 'q\"', '\\n\\\\'] }}", "it's[\"it's\", 'q\"', '\\n\\\\']"},
           {"{{ 1 < 2 < 3 }} {{ 1 < 2 > 5 }} {{ not 1 == 2 }}", "True False True"},
           {"{{ 'b' in s }} {{ 1 in list }} {{ 'b' in d }} {{ 4 not in list }}", "True True True True"},
           {"{{ 'x' if no }}|{{ 'x' if yes else 'y' }}|{{ no or 'z' }}|{{ yes and n }}", "|x|z|7"},
           {"{{ list[0] }}{{ list[-1] }}{{ list[9] }}{{ list.0 }}", "323"},
           {"{{ list[1:] }}{{ list[::-1] }}{{ u[1] }}{{ u[:-1] }}{{ u[::-1] }}",
            "[1, 2][2, 1, 3]\u00e9h\u00e9\u4e16\u00e9h"},
           {"{{ d.items() }}|{{ d['items'] }}|{{ d.b }}|{{ d.a[1].x }}|{{ d.zz }}",
            "dict_items([('b', 1), ('a', [1, {'x': 'y'}]), ('items', 9)])|9|1|y|"},
           {"{{ 'a' 'b' }}{{ 0x1f }}{{ 1_000 }}{{ '\\u00e9\\x41\\t' }}", "ab311000\u00e9A\t"},
           {"{{ -2 | abs }}{{ 'A' | lower ~ 'B' }}", "2aB"},
           {"{{ true == 1 }}{{ 1 == 1.0 }}{{ '1' == 1 }}", "TrueTrueFalse"},
           {"{{ '%s-%d-%.2f' % ('a', 3, f) }}{{ '{} {x}'.format(1, x=2) }}", "a-3-2.501 2"});
}
END_TEST

START_TEST(statements_keep_jinjas_scopes)
{
    EXPECT({"{% for x in list %}{{ loop.index }}{{ loop.last }}{{ x }}{% if not loop.last %},{% endif %}{% "
            "endfor %}",
            "1False3,2False1,3True2"},
           {"{% for x in [] %}a{% else %}none{% endfor %}", "none"},
           {"{% for x in list if x > 1 %}{{ x }}/{{ loop.length }} {% endfor %}", "3/2 2/2 "},
           {"{% for k, v in d.items() %}{{ k }}{{ (loop.previtem or [0])[0] }}{% endfor %}", "b0abitemsa"},
           {"{% set x = 1 %}{% for i in list %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}", "4 2 3 1"},
           {"{% set ns = namespace(x=1) %}{% for i in list %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}",
            "7"},
           {"{% if yes %}{% set z = 2 %}{% endif %}{{ z }}", "2"},
           {"{% for i in list %}{% if i == 1 %}{% continue %}{% endif %}{{ i }}{% if i == 2 %}{% break %}{% "
            "endif %}{% endfor %}",
            "32"},
           {"{% for i in [1, 2] %}{% for j in [1, 2] %}{% if j == 2 %}{% break %}{% endif %}{{ i }}{{ j }} "
            "{% endfor %}{% endfor %}",
            "11 21 "},
           {"{% macro m(a, b='x') %}[{{ a }}{{ b }}{{ q }}]{% endmacro %}{% set q = 'Q' %}{{ m(1) }}{{ "
            "m(b=2, a=3) }}",
            "[1xQ][32Q]"},
           {"{% macro m() %}<{{ caller(5) }}>{% endmacro %}{% call(v) m() %}{{ v }}{{ n }}{% endcall %}",
            "<57>"},
           {"{% set t %}a{{ n }}{% endset %}{{ t | upper }}", "A7"},
           {"{% filter upper %}a{{ s }}{% endfilter %}", "A AB C "},
           {"{% with a=1, b=n %}{{ a }}{{ b }}{% endwith %}{{ a }}", "17"},
           {"{% for x in [[1, [2]], [3]] recursive %}{% if x is sequence %}({{ loop(x) }}){% else %}{{ x "
            "}}{% endif %}{% endfor %}",
            "(1(2))(3)"},
           {"{% set a, b = 1, 2 %}{{ b }}{{ a }}", "21"},
           {"{{ loop }}{% for x in u %}{{ x }}{{ loop.cycle('-', '+') }}{% endfor %}", "h-\u00e9+\u4e16-"},
           {"{% set j = joiner('; ') %}{% for x in list %}{{ j() }}{{ x }}{% endfor %}", "3; 1; 2"});
}
END_TEST

START_TEST(filters_tests_and_methods)
{
    EXPECT({"[{{ s | trim }}][{{ s.strip() }}][{{ 'xxaxx'.strip('x') }}][{{ s.lstrip() }}][{{ s.rstrip() }}]",
            "[Ab c][Ab c][a][Ab c ][ Ab c]"},
           {"{{ d | tojson }}", "{\"b\": 1, \"a\": [1, {\"x\": \"y\"}], \"items\": 9}"},
           {"{{ u | tojson }}{{ u | tojson(ensure_ascii=true) }}", "\"h\u00e9\u4e16\"\"h\\u00e9\\u4e16\""},
           {"{{ d | tojson(indent=2) }}",
            "{\n  \"b\": 1,\n  \"a\": [\n    1,\n    {\n      \"x\": \"y\"\n    }\n  ],\n  \"items\": 9\n}"},
           {"{{ {'a': 1.0, 'b': '<&\"\\n'} | tojson(separators=(',', ':')) }}{{ {} | tojson(indent=1) }}",
            "{\"a\":1.0,\"b\":\"<&\\\"\\n\"}{}"},
           {"{{ d | tojson(sort_keys=true) }}", "{\"a\": [1, {\"x\": \"y\"}], \"b\": 1, \"items\": 9}"},
           {"{{ zz | default('-') }}{{ '' | default('-') }}{{ '' | d('-', true) }}", "--"},
           {"{{ rows | map(attribute='role') | join(',') }}{{ rows | selectattr('n', 'defined') | list | "
            "length }}",
            "user,assistant1"},
           {"{{ rows | selectattr('role', 'equalto', 'user') | map(attribute='content') | first }}{{ list | "
            "select('gt', 1) | list }}",
            "hi[3, 2]"},
           {"{{ list | sort }}{{ list | sort(reverse=true) | first }}{{ list | max }}{{ list | sum }}{{ "
            "['b', 'A'] | sort }}{{ d | dictsort | first }}",
            "[1, 2, 3]336['A', 'b']('a', [1, {'x': 'y'}])"},
           {"{{ 'a,b,,c'.split(',') }}{{ ' a  b '.split() }}{{ 'a.b.c'.split('.', 1) }}{{ "
            "'a.b.c'.rsplit('.', 1)[0] }}",
            "['a', 'b', '', 'c']['a', 'b']['a', 'b.c']a.b"},
           {"{{ 'aXbX'.replace('X', '--') }}{{ 'abc'.startswith('ab') }}{{ 'abc'.endswith(('x', 'c')) }}{{ "
            "'abc'.find('c') }}{{ 'abc'.upper() }}",
            "a--b--TrueTrue2ABC"},
           {"{{ 'hello wORLD' | title }}|{{ 'hELLO' | capitalize }}|{{ 'a\\nb' | indent(2) }}|{{ '12' | int "
            "+ 1 }}|{{ 'x' | int(5) }}|{{ 2.5 | round }}|{{ f | int }}",
            "Hello World|Hello|a\n  b|13|5|2.0|2"},
           {"{{ n is number }}{{ yes is number }}{{ yes is integer }}{{ s is string }}{{ d is mapping }}{{ "
            "list is iterable }}{{ nil is none }}{{ zz is defined }}{{ yes is true }}",
            "TrueTrueFalseTrueTrueTrueTrueFalseTrue"},
           {"{{ n is odd }}{{ n is divisibleby 7 }}{{ n is not even }}{{ n is eq 7 }}{{ 'a' is in ['a'] }}{{ "
            "s is lower }}",
            "TrueTrueTrueTrueTrueFalse"},
           {"{{ list | reverse | list }}{{ 'ab' | reverse }}{{ list | last }}{{ u | length }}{{ d | length "
            "}}{{ [1, 1, 2] | unique | list }}",
            "[2, 1, 3]ba233[1, 2]"},
           {"{{ 'a<b' | e }}{{ 'a' | safe + '<' }}{{ strftime_now('%d %b %Y %%') }}{{ range(3) | list }}{{ "
            "dict(a=1).get('b', 2) }}",
            "a&lt;ba&lt;31 Jan 2026 %[0, 1, 2]2"},
           {"{{ zz | length }}{{ zz | trim }}{{ zz | list }}{% for x in zz %}x{% endfor %}{{ zz == yy }}{{ "
            "nil.foo }}{{ 'a\\n\\nb'.splitlines() }}",
            "0[]True['a', '', 'b']"},
           {"{{ [1, 2] | select('odd') and 'generators are true' }}{% if [] | select %}yes{% endif %}",
            "generators are trueyes"});
}
END_TEST

START_TEST(refusals_name_the_line_and_what_is_wrong)
{
    EXPECT({"a\n{{ raise_exception('Only ' + s) }}",
            "! chat template line 2: the template refuses this conversation: Only  Ab c"},
           {"{{ zz.x }}", "! line 1: \"zz\" is not there"},
           {"\n\n{{ nil + 'a' }}", "! line 3: NoneType nil and str"},
           {"{{ 'a' + rows[0]['n'] }}", "! \"n\" is not there"}, {"{{ zz() }}", "! \"zz\" is called"},
           {"{{ list.append(1) }}", "! append() would change"},
           {"{{ d.update({}) }}", "! update() would change"},
           {"{{ zz | tojson }}", "! tojson cannot write \"zz\""},
           {"{{ d | nosuch }}", "! the filter \"nosuch\""}, {"{{ d is nosuch }}", "! the test \"nosuch\""},
           {"{% include 'x' %}", "! \"include\" is not a statement"},
           {"{% if yes %}", "! expected {% elif %}"}, {"{{ a", "! has no end; expected }}"},
           {"{{ 'a }}", "! has no end"}, {"{% endif %}", "! \"endif\" is not a statement"},
           {"{{ (1 }}", "! unexpected"}, {"{{ 1 // 0 }}", "! division by zero"},
           {"{% break %}", "! in loops only"}, {"{{ 9223372036854775807 + 1 }}", "! larger than 64 bits"},
           {"{{ s < 1 }}", "! have no order"}, {"{{ list | select | length }}", "! generator has no length"},
           {"{% set n.x = 1 %}", "! only a namespace"}, {"{{ s.nope() }}", "! \"nope\" is called"},
           {"{% for a, b in list %}{% endfor %}", "! cannot be gone through"},
           {"{{ lipsum() }}", "! lipsum() is not supported"},
           {"{{ nil | length }}", "! NoneType has no length"},
           {"{% set _ = namespace(_x=1) %}", "! begins with _"}, {"{{ {[]: 1} }}", "! key of a dict"},
           {"{{ list[::0] }}", "! step 0"});
}
END_TEST

START_TEST(a_template_is_bounded)
{
    static const sample hostile[] = {
        {"{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}", "! steps"},
        {"{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "! deeper than"},
        {"{{ 'x' * 1000000000 }}", "! "},
        {"{% set ns = namespace(s='x') %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
         "! "},
        {"{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}{{ "
         "ns.l == ns.l }}",
         "! memory"},
        {"{% set ns = namespace(l=[]) %}{% for i in range(999) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l "
         "}}",
         "! memory"},
        {"{{ range(1000000) }}", "! more than 100000"},
    };
    expect(hostile, sizeof hostile / sizeof *hostile);
    char deep[4000] = "{{ ";
    memset(deep + 3, '(', 3000);
    char *got = rendered(deep, "{}");
    ck_assert_msg(strstr(got, "deeper"), "%s", got);
    qs_free(got);
    memset(deep + 3, '-', 3000);
    memcpy(deep + 3003, "1 }}", 5);
    got = rendered(deep, "{}");
    ck_assert_msg(strstr(got, "deeper"), "%s", got);
    qs_free(got);
}
END_TEST

/* The text with the mark of each stretch before it. */
static char *origins(const char *source, const char *messages)
{
    qs_err e = {0};
    qs_jinja *t;
    ck_assert_msg(qs_jinja_parse(source, strlen(source), &t, &e) == 0, "%s", e.text);
    json_t *list = json_loads(messages, 0, NULL);
    qs_jinja_session *s = qs_jinja_session_new(t, NULL, limits);
    qs_jvalue all, v;
    ck_assert(qs_jlist_new(qs_jinja_arena(s), QS_JLIST, 0, &all));
    for (size_t i = 0; i < json_array_size(list); i++)
        ck_assert(qs_jvalue_of_json(qs_jinja_arena(s), json_array_get(list, i), (int32_t)i + 1, &v) &&
                  qs_jlist_add(qs_jinja_arena(s), all.list, v));
    qs_jinja_set(s, "m", all);
    qs_jinja_text text = {0};
    ck_assert_msg(qs_jinja_render(s, &text, &e) == 0, "%s", e.text);
    char *out = qs_strdup("");
    size_t from = 0;
    for (size_t i = 0; i < text.span_count; from = text.spans[i++].end) {
        char *longer = qs_printf("%s<%d>%.*s", out, text.spans[i].mark, (int)(text.spans[i].end - from),
                                 text.text + from);
        qs_free(out);
        out = longer;
    }
    qs_jinja_text_free(&text);
    qs_jinja_session_free(s);
    qs_jinja_free(t);
    json_decref(list);
    return out;
}

START_TEST(every_byte_keeps_its_origin)
{
    static const char talk[] = "[{\"c\": \" one \"}, {\"c\": \"two,2\", \"d\": {\"k\": [1, true]}}]";
    static const sample samples[] = {
        {"a{{ m[0].c }}b{{ m[1].c }}", "<0>a<1> one <0>b<2>two,2"},
        {"{{ ('<' + m[0].c | trim + '>' ~ m[1].c.split(',')[0]).replace('>', '|') | upper }}",
         "<0><<1>ONE<0>|<2>TWO"},
        {"{{ m[1].d | tojson }}{{ m[1].d.k[0] + 1 }}{{ m[1].c[1:3] }}", "<2>{\"k\": [1, true]}2wo"},
        {"{% set x %}[{{ m[0].c }}]{% endset %}{{ x[1:-1] }}{{ x }}", "<1> one <0>[<1> one <0>]"},
        {"{% macro f(t) %}-{{ t }}{% endmacro %}{{ f(m[1].c) | title }}", "<0>-<2>Two,2"}};
    for (size_t i = 0; i < sizeof samples / sizeof *samples; i++) {
        char *got = origins(samples[i].source, talk);
        ck_assert_msg(strcmp(got, samples[i].text) == 0, "%s\n got: %s\nwant: %s", samples[i].source, got,
                      samples[i].text);
        qs_free(got);
    }
}
END_TEST

START_TEST(generation_blocks_are_found_in_the_text)
{
    const char *source = "{% for x in l %}u{{ x }}:{% generation %}a{{ x }}{% set x = 0 %}{% endgeneration "
                         "%}{{ x }};{% endfor %}";
    qs_err e = {0};
    qs_jinja *t;
    ck_assert_int_eq(qs_jinja_parse(source, strlen(source), &t, &e), 0);
    ck_assert(qs_jinja_has_generation(t));
    ck_assert(qs_jinja_names(t, "x") && !qs_jinja_names(t, "strftime_now"));
    qs_jinja_session *s = qs_jinja_session_new(t, NULL, limits);
    json_t *list = json_pack("[i,i]", 1, 22);
    qs_jvalue v;
    ck_assert(qs_jvalue_of_json(qs_jinja_arena(s), list, 0, &v));
    qs_jinja_set(s, "l", v);
    qs_jinja_text text = {0};
    for (int twice = 0; twice < 2; twice++) ck_assert_int_eq(qs_jinja_render(s, &text, &e), 0);
    ck_assert_str_eq(text.text, "u1:a11;u22:a2222;");
    ck_assert_uint_eq(text.generation_count, 4);
    const uint32_t at[] = {3, 5, 11, 14};
    for (int i = 0; i < 4; i++) ck_assert_uint_eq(text.generations[i].end, at[i]);
    ck_assert(!text.generation_captured);
    qs_jinja_text_free(&text);
    qs_jinja_session_free(s);
    qs_jinja_free(t);
    json_decref(list);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("jinja");
    TCase *t = tcase_create("templates");
    tcase_add_test(t, blanks_around_tags_go_as_jinja_takes_them);
    tcase_add_test(t, expressions_follow_pythons_rules);
    tcase_add_test(t, statements_keep_jinjas_scopes);
    tcase_add_test(t, filters_tests_and_methods);
    tcase_add_test(t, refusals_name_the_line_and_what_is_wrong);
    tcase_add_test(t, a_template_is_bounded);
    tcase_add_test(t, every_byte_keeps_its_origin);
    tcase_add_test(t, generation_blocks_are_found_in_the_text);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
