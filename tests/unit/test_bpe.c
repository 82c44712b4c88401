/* Behaviour of src/data/bpe and vocab: the heap gives what the plain definition gives. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/clock.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/data/bpe.h"

enum { LETTERS = 4, MERGES = 60 };

typedef struct rule {
    int32_t left, right, result;
} rule;

/* A random vocabulary over the letters a..d: each merge joins two tokens whose join is new. */
static int make(qs_bpe *b, uint64_t seed, bool scores, rule *rules)
{
    char text[LETTERS + MERGES][64];
    int n = LETTERS, made = 0;
    *b = (qs_bpe){.unk = -1, .byte_level = !scores};
    for (int i = 0; i < LETTERS; i++) sprintf(text[i], "%c", 'a' + i);
    for (uint64_t k = 0; made < MERGES && k < 10000; k++) {
        int32_t l = (int32_t)(qs_random_u32(seed, 0, k) % (uint32_t)n),
                r = (int32_t)(qs_random_u32(seed, 1, k) % (uint32_t)n);
        bool old = strlen(text[l]) + strlen(text[r]) > 20;
        if (old) continue;
        char join[64] = {0};
        strcpy(join, text[l]);
        strcat(join, text[r]);
        for (int i = 0; i < n; i++) old |= strcmp(text[i], join) == 0;
        if (old) continue;
        strcpy(text[n], join);
        rules[made++] = (rule){l, r, n++};
    }
    for (int i = 0; i < n; i++) qs_vocab_add(&b->vocab, i, text[i], strlen(text[i]), false);
    qs_vocab_index(&b->vocab);
    if (scores) {
        b->scores = qs_malloc((size_t)n * sizeof(float));
        /* Steps of 2, so that there are equal scores, and positive as well as negative ones. */
        for (int i = 0; i < n; i++) b->scores[i] = (float)(10 - i / 2 * 2);
    } else {
        qs_bpe_reserve_merges(b, (uint32_t)made);
        for (int i = 0; i < made; i++)
            ck_assert(qs_bpe_add_merge(b, rules[i].left, rules[i].right, rules[i].result));
    }
    qs_bpe_finish(b);
    return made;
}

/* The definition: look at all pairs, join the best, leftmost first; again. */
static size_t naive(const qs_bpe *b, const rule *rules, int made, const char *word, int32_t *ids)
{
    size_t n = strlen(word);
    for (size_t i = 0; i < n; i++) ids[i] = word[i] - 'a';
    for (;;) {
        size_t best = n;
        int32_t best_result = -1;
        float best_score = 0;
        int best_rank = made;
        for (size_t i = 0; i + 1 < n; i++) {
            if (b->scores) {
                char join[128];
                size_t l, r;
                const char *left = qs_vocab_text(&b->vocab, ids[i], &l),
                           *right = qs_vocab_text(&b->vocab, ids[i + 1], &r);
                memcpy(join, left, l);
                memcpy(join + l, right, r);
                int32_t id = qs_vocab_find(&b->vocab, join, l + r);
                if (id >= 0 && (best == n || b->scores[id] > best_score)) {
                    best = i;
                    best_result = id;
                    best_score = b->scores[id];
                }
                continue;
            }
            for (int k = 0; k < best_rank; k++)
                if (rules[k].left == ids[i] && rules[k].right == ids[i + 1]) {
                    best = i;
                    best_rank = k;
                    best_result = rules[k].result;
                }
        }
        if (best == n) return n;
        ids[best] = best_result;
        memmove(ids + best + 1, ids + best + 2, (n - best - 2) * sizeof *ids);
        n--;
    }
}

START_TEST(the_heap_joins_what_the_definition_joins)
{
    rule rules[MERGES];
    for (uint64_t seed = 0; seed < 40; seed++) {
        qs_bpe b;
        int made = make(&b, seed, _i == 1, rules);
        ck_assert_int_eq(made, MERGES);
        for (uint64_t w = 0; w < 50; w++) {
            char word[201] = {0};
            size_t n = qs_random_u32(seed, 2, w) % 200;
            for (size_t i = 0; i < n; i++) word[i] = (char)('a' + qs_random_u32(seed, 3 + w, i) % LETTERS);
            int32_t want[200];
            size_t count = naive(&b, rules, made, word, want);
            qs_ids ids = {0};
            qs_err e;
            ck_assert_int_eq(qs_bpe_encode(&b, word, n, &ids, &e), 0);
            ck_assert_uint_eq(ids.count, count);
            if (count) ck_assert_mem_eq(ids.data, want, count * sizeof *want);
            qs_ids_free(&ids);
        }
        qs_bpe_free(&b);
    }
}
END_TEST

START_TEST(a_long_word_takes_time_in_proportion)
{
    /* 2 MB as one word: the quadratic way would take hours. */
    enum { N = 2 << 20 };
    rule rules[MERGES];
    qs_bpe b;
    make(&b, 1, true, rules);
    char *word = malloc(N);
    for (size_t i = 0; i < N; i++) word[i] = (char)('a' + qs_random_u32(2, 0, i) % LETTERS);
    qs_ids ids = {0};
    qs_err e;
    uint64_t start = qs_now_ns();
    ck_assert_int_eq(qs_bpe_encode(&b, word, N, &ids, &e), 0);
    ck_assert_double_lt(qs_seconds(qs_now_ns() - start), 60);
    ck_assert_uint_gt(ids.count, N / 32);
    qs_ids_free(&ids);
    free(word);
    qs_bpe_free(&b);
}
END_TEST

static qs_bpe letters(const char *const *tokens, int32_t n)
{
    qs_bpe b = {.unk = -1};
    for (int32_t i = 0; i < n; i++) qs_vocab_add(&b.vocab, i, tokens[i], strlen(tokens[i]), false);
    qs_vocab_index(&b.vocab);
    return b;
}

static void expect(qs_bpe *b, const char *word, const int32_t *want, size_t count)
{
    qs_ids ids = {0};
    qs_err e = {0};
    ck_assert_msg(qs_bpe_encode(b, word, strlen(word), &ids, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(ids.count, count);
    ck_assert_mem_eq(ids.data, want, count * sizeof *want);
    qs_ids_free(&ids);
}

START_TEST(unknown_characters_become_bytes_or_unknown_tokens)
{
    const char *tokens[] = {"<unk>", "a", "<0xC3>", "<0xA9>", "<0xE2>"};
    qs_bpe b = letters(tokens, 5);
    b.byte_fallback = true;
    b.unk = 0;
    qs_bpe_finish(&b);
    expect(&b, "a\xc3\xa9", (int32_t[]){1, 2, 3}, 3);
    expect(&b,
           "\xe2\x82\xac"
           "a",
           (int32_t[]){0, 1}, 2); /* one byte of the three has no token: all or none */
    expect(&b, "\xe2\x82\xac\xe2\x82\xac", (int32_t[]){0, 0}, 2);
    b.fuse_unk = true;
    expect(&b, "\xe2\x82\xac\xe2\x82\xac", (int32_t[]){0}, 1);
    b.unk = -1;
    qs_ids ids = {0};
    qs_err e = {0};
    ck_assert_int_eq(qs_bpe_encode(&b, "\xe2\x82\xac", 3, &ids, &e), -QS_EFORMAT);
    ck_assert_ptr_nonnull(strstr(e.text, "\xe2\x82\xac"));
    qs_ids_free(&ids);
    qs_bpe_free(&b);
}
END_TEST

START_TEST(a_word_that_is_a_token_can_skip_the_merges)
{
    const char *tokens[] = {"a", "b", "ab", "aba"};
    qs_bpe b = letters(tokens, 4);
    b.byte_level = true;
    qs_bpe_reserve_merges(&b, 1);
    qs_bpe_add_merge(&b, 0, 1, 2);
    ck_assert(!qs_bpe_add_merge(&b, 0, 1, 2));
    qs_bpe_finish(&b);
    expect(&b, "aba", (int32_t[]){2, 0}, 2);
    b.ignore_merges = true;
    expect(&b, "aba", (int32_t[]){3}, 1);
    expect(&b, "abab", (int32_t[]){2, 2}, 2);
    qs_bpe_free(&b);
}
END_TEST

START_TEST(cutting_at_spaces_changes_nothing)
{
#define SP "\xe2\x96\x81"
    const char *tokens[] = {SP, "a", "b", (SP "a"), "aa", (SP SP), "ab", (SP "ab"), "ba", (SP SP SP "a")},
               *crossing[] = {SP, "a", ("a" SP)};
    qs_bpe b = letters(tokens, 10);
    b.scores = qs_malloc(10 * sizeof(float));
    for (int i = 0; i < 10; i++) b.scores[i] = (float)-i;
    qs_bpe_finish(&b);
    ck_assert(b.cut_at_spaces);
    for (uint64_t w = 0; w < 2000; w++) {
        char word[64] = "";
        for (uint64_t i = 0; i < qs_random_u32(3, w, 99) % 15; i++)
            strcat(word, (const char *[]){SP, "a", "b"}[qs_random_u32(3, w, i) % 3]);
        qs_ids ids[2] = {{0}};
        qs_err e;
        for (int k = 0; k < 2; k++) {
            b.cut_at_spaces = k;
            ck_assert_int_eq(qs_bpe_encode(&b, word, strlen(word), &ids[k], &e), 0);
        }
        ck_assert_uint_eq(ids[0].count, ids[1].count);
        if (ids[0].count) ck_assert_mem_eq(ids[0].data, ids[1].data, ids[0].count * sizeof(int32_t));
        qs_ids_free(&ids[0]);
        qs_ids_free(&ids[1]);
    }
    qs_bpe_free(&b);
    b = letters(crossing, 3);
    qs_bpe_finish(&b);
    ck_assert(!b.cut_at_spaces);
    qs_bpe_free(&b);
}
END_TEST

START_TEST(the_vocabulary_finds_every_string_and_nothing_else)
{
    qs_vocab v = {0};
    char text[32];
    for (int32_t i = 0; i < 20000; i++)
        ck_assert(qs_vocab_add(&v, i * 3, text, (size_t)sprintf(text, "t%d", i), i % 7 == 0));
    ck_assert(!qs_vocab_add(&v, 3, "x", 1, false));
    qs_vocab_index(&v);
    for (int32_t i = 0; i < 20000; i++) {
        size_t n = (size_t)sprintf(text, "t%d", i), bytes;
        ck_assert_int_eq(qs_vocab_find(&v, text, n), i % 7 ? i * 3 : -1);
        const char *s = qs_vocab_text(&v, i * 3, &bytes);
        ck_assert_uint_eq(bytes, n);
        ck_assert_mem_eq(s, text, n);
        ck_assert_ptr_null(qs_vocab_text(&v, i * 3 + 1, &bytes));
    }
    ck_assert_int_eq(qs_vocab_find(&v, "t20000", 6), -1);
    ck_assert_int_eq(qs_vocab_find(&v, "", 0), -1);
    qs_vocab_free(&v);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("bpe");
    TCase *t = tcase_create("bpe");
    tcase_add_loop_test(t, the_heap_joins_what_the_definition_joins, 0, 2);
    tcase_add_test(t, a_long_word_takes_time_in_proportion);
    tcase_add_test(t, unknown_characters_become_bytes_or_unknown_tokens);
    tcase_add_test(t, a_word_that_is_a_token_can_skip_the_merges);
    tcase_add_test(t, cutting_at_spaces_changes_nothing);
    tcase_add_test(t, the_vocabulary_finds_every_string_and_nothing_else);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
