/* Behaviour of src/commands/sampling and text_stream: which token comes next, and what is shown of a text
 * that grows. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "src/commands/sampling.h"
#include "src/commands/text_stream.h"

enum { VOCAB = 6 };
static const float given[VOCAB] = {1, 3, -2, 2.5f, 0, 3};
static const qs_sampling plain = {.temperature = 1, .top_p = 1, .repetition_penalty = 1, .seed = 7};

static int32_t sample(qs_sampling s, uint64_t position)
{
    float logits[VOCAB];
    static const int32_t seen[] = {1, 1, 2};
    memcpy(logits, given, sizeof logits);
    return qs_sampling_next(&s, logits, VOCAB, seen, 3, position);
}

static void count(qs_sampling s, int found[VOCAB])
{
    memset(found, 0, VOCAB * sizeof *found);
    for (uint64_t i = 0; i < 4000; i++) found[sample(s, i)]++;
}

START_TEST(without_temperature_the_likeliest_token_comes_and_of_equals_the_first)
{
    qs_sampling s = plain;
    s.temperature = 0;
    ck_assert_int_eq(sample(s, 3), 1);
    s.repetition_penalty = 2; /* of 1, which was seen */
    ck_assert_int_eq(sample(s, 3), 5);
}
END_TEST

START_TEST(tokens_come_as_often_as_their_probabilities_say)
{
    int found[VOCAB];
    count(plain, found);
    /* exp: 2.72 20.1 0.135 12.2 1 20.1, in all 56.2 */
    ck_assert_int_ge(found[1], 1330);
    ck_assert_int_le(found[1], 1530);
    ck_assert_int_ge(found[3], 780);
    ck_assert_int_le(found[3], 960);
    ck_assert_int_ge(found[0], 140);
    ck_assert_int_le(found[0], 250);
    ck_assert_int_gt(found[2], 0);
}
END_TEST

START_TEST(filters_leave_the_tokens_that_they_should)
{
    int found[VOCAB];
    qs_sampling s = plain;
    s.top_k = 3;
    count(s, found);
    ck_assert(found[1] && found[3] && found[5] && !found[0] && !found[2] && !found[4]);
    s = plain;
    s.top_p = 0.6; /* the two likeliest are 0.71 together, one is 0.36 */
    count(s, found);
    ck_assert(found[1] && found[5] && !found[3] && !found[0]);
    s = plain;
    s.min_p = 0.5; /* 0.61 of the likeliest, and 0.14 */
    count(s, found);
    ck_assert(found[1] && found[5] && found[3] && !found[0]);
    s = plain;
    s.temperature = 0.01;
    count(s, found);
    ck_assert_int_eq(found[1] + found[5], 4000);
}
END_TEST

START_TEST(the_same_seed_and_position_give_the_same_token_and_others_do_not)
{
    qs_sampling other = plain;
    int same = 0;
    other.seed = 8;
    for (uint64_t i = 0; i < 200; i++) {
        ck_assert_int_eq(sample(plain, i), sample(plain, i));
        same += sample(plain, i) == sample(other, i);
    }
    ck_assert_int_lt(same, 120);
}
END_TEST

/* Shows the parts one after another as the text grows; returns what came out, and whether it was stopped. */
static const char *shown(const char *const *parts, int n, const char *stop, bool *stopped)
{
    static char out[256];
    char text[256] = "";
    FILE *f = fmemopen(out, sizeof out, "w");
    qs_text_stream s = {.out = f, .stop = &stop, .stops = stop != NULL};
    *stopped = false;
    for (int i = 0; i < n && !*stopped; i++) {
        size_t whole = strlen(text);
        while (whole >= 3 && !memcmp(text + whole - 3, "\xef\xbf\xbd", 3)) text[whole -= 3] = 0;
        strncat(text, parts[i], sizeof text - whole - 1);
        *stopped = qs_text_stream_show(&s, text, strlen(text), i == n - 1);
    }
    fclose(f);
    return out;
}

START_TEST(a_character_is_shown_when_it_is_whole)
{
    bool stopped;
    char out[64] = "";
    qs_text_stream s = {.out = fmemopen(out, sizeof out, "w")};
    qs_text_stream_show(&s, "a\xef\xbf\xbd", 4, false);
    ck_assert_str_eq(out, "a");
    qs_text_stream_show(&s, "a\xc3\xa9", 3, false);
    ck_assert_str_eq(out, "a\xc3\xa9");
    fclose(s.out);
    const char *const parts[] = {"x", "\xef\xbf\xbd", "\xe2\x82\xac!"};
    ck_assert_str_eq(shown(parts, 3, NULL, &stopped), "x\xe2\x82\xac!");
}
END_TEST

START_TEST(a_text_ends_before_its_stop_string_wherever_that_is_cut)
{
    bool stopped;
    const char *const cut[] = {"one \n", "\nQ", ": two", " three"};
    ck_assert_str_eq(shown(cut, 4, "\n\nQ:", &stopped), "one ");
    ck_assert(stopped);
    const char *const nearly[] = {"one \n", "\nQ", "uestion"};
    ck_assert_str_eq(shown(nearly, 3, "\n\nQ:", &stopped), "one \n\nQuestion");
    ck_assert(!stopped);
    const char *const ends[] = {"one \n", "\nQ"};
    ck_assert_str_eq(shown(ends, 2, "\n\nQ:", &stopped), "one \n\nQ");
    ck_assert(!stopped);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("generate");
    TCase *t = tcase_create("generate");
    tcase_add_test(t, without_temperature_the_likeliest_token_comes_and_of_equals_the_first);
    tcase_add_test(t, tokens_come_as_often_as_their_probabilities_say);
    tcase_add_test(t, filters_leave_the_tokens_that_they_should);
    tcase_add_test(t, the_same_seed_and_position_give_the_same_token_and_others_do_not);
    tcase_add_test(t, a_character_is_shown_when_it_is_whole);
    tcase_add_test(t, a_text_ends_before_its_stop_string_wherever_that_is_cut);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
