/* Behaviour of src/base: conversions, counter-based random numbers, arenas, errors. */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "src/base/arena.h"
#include "src/base/dtype.h"
#include "src/base/memory.h"
#include "src/base/random.h"

START_TEST(f16_round_trips_every_finite_value)
{
    for (uint32_t h = 0; h < 65536; h++) {
        float f = qs_f32_of_f16((uint16_t)h);
        if (isnan(f)) continue;
        ck_assert_uint_eq(qs_f16_of_f32(f), h);
    }
}
END_TEST

#ifdef __FLT16_MAX__ /* the compiler has the type */
START_TEST(f16_rounds_to_nearest_even_as_the_compiler_does)
{
    for (uint64_t i = 0; i < 2000000; i++) {
        float f = qs_f32_of_bits(qs_random_u32(7, 0, i));
        if (isnan(f)) continue;
        _Float16 h = (_Float16)f;
        uint16_t want;
        memcpy(&want, &h, 2);
        ck_assert_uint_eq(qs_f16_of_f32(f), want);
    }
}
END_TEST
#endif

START_TEST(bf16_rounds_to_nearest_even)
{
    ck_assert_uint_eq(qs_bf16_of_f32(1.0f), 0x3f80);
    ck_assert_uint_eq(qs_bf16_of_f32(qs_f32_of_bits(0x3f808000)), 0x3f80); /* tie, even below */
    ck_assert_uint_eq(qs_bf16_of_f32(qs_f32_of_bits(0x3f818000)), 0x3f82); /* tie, even above */
    ck_assert_uint_eq(qs_bf16_of_f32(qs_f32_of_bits(0x3f808001)), 0x3f81);
    ck_assert(isnan(qs_f32_of_bf16(qs_bf16_of_f32(NAN))));
    ck_assert(isinf(qs_f32_of_bf16(qs_bf16_of_f32(3.4e38f))));
}
END_TEST

/* Known answers of Philox4x32-10 from the Random123 distribution. */
START_TEST(philox_gives_the_published_answers)
{
    qs_philox_block b = qs_philox(0, 0, 0, 0, 0, 0);
    ck_assert_uint_eq(b.v[0], 0x6627e8d5);
    ck_assert_uint_eq(b.v[3], 0x9b00dbd8);
    b = qs_philox(0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff);
    ck_assert_uint_eq(b.v[0], 0x408f276d);
    ck_assert_uint_eq(b.v[3], 0x6d5451fd);
}
END_TEST

START_TEST(permutation_visits_every_index_once)
{
    static const uint64_t sizes[] = {1, 2, 3, 17, 64, 1000, 4097};
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint64_t n = sizes[s];
        char *seen = qs_calloc(n, 1);
        uint64_t moved = 0;
        for (uint64_t i = 0; i < n; i++) {
            uint64_t j = qs_random_permute(42, 3, n, i);
            ck_assert_uint_lt(j, n);
            ck_assert_int_eq(seen[j], 0);
            seen[j] = 1;
            moved += j != i;
        }
        if (n > 100) ck_assert_uint_gt(moved, n / 2);
        qs_free(seen);
    }
}
END_TEST

START_TEST(counting_and_carving_an_arena_agree)
{
    char *parts[2][3];
    size_t used[2];
    static _Alignas(64) char memory[512];
    for (int pass = 0; pass < 2; pass++) {
        qs_arena a = {pass ? memory : NULL, sizeof memory, 0};
        parts[pass][0] = qs_arena_take(&a, 5, 64);
        parts[pass][1] = qs_arena_take(&a, 0, 64);
        parts[pass][2] = qs_arena_take(&a, 100, 64);
        used[pass] = a.used;
    }
    ck_assert_uint_eq(used[0], used[1]);
    ck_assert_uint_eq(used[0], 164);
    ck_assert_ptr_null(parts[0][2]);
    ck_assert_ptr_eq(parts[1][2], memory + 64);
}
END_TEST

START_TEST(an_error_keeps_its_sentence_and_cuts_a_long_one)
{
    qs_err e = {0};
    ck_assert_int_eq(qs_err_set(&e, QS_EIO, "f.c", 3, "%s: cannot open", "a.txt"), -QS_EIO);
    ck_assert_str_eq(e.text, "a.txt: cannot open");
    qs_err_prefix(&e, "step %d", 4);
    ck_assert_str_eq(e.text, "step 4: a.txt: cannot open");
    qs_err_set(&e, QS_EIO, "f.c", 3, "%2000d", 1);
    ck_assert_uint_eq(strlen(e.text), QS_ERR_TEXT - 1);
    ck_assert_str_eq(e.text + QS_ERR_TEXT - 4, "...");
}
END_TEST

START_TEST(memory_counts_what_is_live)
{
    uint64_t before = qs_mem_read().live_bytes;
    char *p = qs_malloc(1000);
    ck_assert_uint_ge(qs_mem_read().live_bytes, before + 1000);
    p = qs_realloc(p, 5000);
    ck_assert_uint_ge(qs_mem_read().peak_bytes, before + 5000);
    qs_free(p);
    ck_assert_uint_eq(qs_mem_read().live_bytes, before);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("base");
    TCase *t = tcase_create("base");
    tcase_add_test(t, f16_round_trips_every_finite_value);
#ifdef __FLT16_MAX__
    tcase_add_test(t, f16_rounds_to_nearest_even_as_the_compiler_does);
#endif
    tcase_add_test(t, bf16_rounds_to_nearest_even);
    tcase_add_test(t, philox_gives_the_published_answers);
    tcase_add_test(t, permutation_visits_every_index_once);
    tcase_add_test(t, counting_and_carving_an_arena_agree);
    tcase_add_test(t, an_error_keeps_its_sentence_and_cuts_a_long_one);
    tcase_add_test(t, memory_counts_what_is_live);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
