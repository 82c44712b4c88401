/* Rotary frequencies and tables against what transformers computes (tests/golden/rope.json), and formulas
 * worked by hand. */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/model/rotary.h"

static qs_err err;

/* The architecture a golden entry was made from: its rope_scaling goes through the reader of config.json. */
static qs_rotary of_entry(const json_t *entry)
{
    qs_rotary a;
    int32_t head_dim = (int32_t)json_integer_value(json_object_get(entry, "head_dim")),
            positions = (int32_t)json_integer_value(json_object_get(entry, "max_position_embeddings"));
    int rc = qs_rotary_read((qs_json){entry, "rope.json", ""}, &(qs_rotary_keys){0}, head_dim, positions, &a,
                            &err);
    ck_assert_msg(rc == 0, "%s", err.text);
    return a;
}

/* Largest |x - want| / max(|want|, floor) over a JSON list. */
static double worst(const float *x, const json_t *want, double floor_value)
{
    double w = 0;
    size_t i;
    json_t *v;
    json_array_foreach(want, i, v)
    {
        double t = json_number_value(v);
        w = fmax(w, fabs((double)x[i] - t) / fmax(fabs(t), floor_value));
    }
    return w;
}

/* Bounds: torch's fp32 pow may be one unit off, which for an angle p * f is p * f * 2^-23 more in radians. */
START_TEST(frequencies_and_tables_are_those_of_transformers)
{
    json_error_t at;
    json_t *all = json_load_file("tests/golden/rope.json", 0, &at), *entry;
    ck_assert_msg(json_is_array(all), "%s", at.text);
    size_t n;
    json_array_foreach(all, n, entry)
    {
        const char *name = json_string_value(json_object_get(entry, "name"));
        qs_rotary a = of_entry(entry);
        int half = a.dim / 2;
        const json_t *positions = json_object_get(entry, "positions"),
                     *want = json_object_get(entry, "inv_freq");
        ck_assert_uint_eq(json_array_size(want), half);
        ck_assert_msg(
            fabs(a.attention_factor - json_number_value(json_object_get(entry, "attention_factor"))) < 1e-12,
            "%s", name);

        int32_t rows =
            1 + (int32_t)json_integer_value(json_array_get(positions, json_array_size(positions) - 1));
        float *f = qs_malloc((size_t)half * 4), *c = qs_malloc((size_t)rows * half * 4),
              *s = qs_malloc((size_t)rows * half * 4);
        qs_rotary_frequencies(&a, rows, f);
        ck_assert_msg(worst(f, want, 1e-30) < 2.5e-7, "%s: inv_freq off by %g", name, worst(f, want, 1e-30));
        qs_rotary_tables(&a, rows, c, s);
        for (size_t i = 0; i < json_array_size(positions); i++) {
            size_t p = (size_t)json_integer_value(json_array_get(positions, i));
            double bound = 3e-7 * (1 + (double)p) * a.attention_factor;
            ck_assert_msg(worst(c + p * half, json_array_get(json_object_get(entry, "cos"), i), 1) < bound,
                          "%s: cos at %zu", name, p);
            ck_assert_msg(worst(s + p * half, json_array_get(json_object_get(entry, "sin"), i), 1) < bound,
                          "%s: sin at %zu", name, p);
        }
        qs_free(f);
        qs_free(c);
        qs_free(s);
    }
    ck_assert_uint_ge(n, 5);
    json_decref(all);
}
END_TEST

static qs_rotary plain(void)
{
    return (qs_rotary){.dim = 4,
                       .max_positions = 64,
                       .theta = 10000,
                       .factor = 1,
                       .attention_factor = 1,
                       .original_positions = 64};
}

START_TEST(position_zero_does_not_rotate_and_one_rotates_by_the_frequency)
{
    qs_rotary a = plain();
    float f[2], c[4], s[4];
    qs_rotary_frequencies(&a, 2, f);
    ck_assert_float_eq(f[0], 1);
    ck_assert_float_eq(f[1], 0.01f);
    qs_rotary_tables(&a, 2, c, s);
    ck_assert_float_eq(c[1], 1);
    ck_assert_float_eq(s[0], 0);
    ck_assert_float_eq(c[2], (float)cos(1));
    ck_assert_float_eq(s[3], (float)sin((double)0.01f));
}
END_TEST

START_TEST(dynamic_scaling_starts_beyond_the_trained_length)
{
    qs_rotary a = plain();
    a.scaling = QS_ROPE_DYNAMIC;
    a.factor = 2;
    float f[2];
    qs_rotary_frequencies(&a, 64, f);
    ck_assert_float_eq(f[1], 0.01f);
    /* base' = 10000 * (2 * 128 / 64 - 1)^(4 / 2) = 90000; its root is 300. */
    qs_rotary_frequencies(&a, 128, f);
    ck_assert_float_eq_tol(f[1], 1.0f / 300, 1e-9f);
}
END_TEST

START_TEST(llama3_keeps_short_waves_and_slows_long_ones)
{
    qs_rotary a = plain();
    a.scaling = QS_ROPE_LLAMA3;
    a.factor = 8;
    a.low_freq = 1;
    a.high_freq = 4;
    float f[2];
    qs_rotary_frequencies(&a, 64, f); /* waves of 6.3 and 628 against 16 and 64 */
    ck_assert_float_eq(f[0], 1);
    ck_assert_float_eq(f[1], 0.01f / 8);
    a.theta = 25; /* the second wave is 31.4: s = (64 / 31.4 - 1) / 3 = 0.34577 */
    qs_rotary_frequencies(&a, 64, f);
    double s = (64 / (10 * M_PI) - 1) / 3;
    ck_assert_float_eq_tol(f[1], (float)((1 - s) * 0.2 / 8 + s * 0.2), 1e-7f);
}
END_TEST

START_TEST(longrope_stretches_each_wave_by_its_own_factor)
{
    qs_rotary a = plain();
    a.scaling = QS_ROPE_LONG;
    a.stretch[0] = 2;
    a.stretch[1] = 4;
    float f[2];
    qs_rotary_frequencies(&a, 64, f);
    ck_assert_float_eq(f[0], 0.5f);
    ck_assert_float_eq(f[1], 0.0025f);
}
END_TEST

/* 1 + beta ln(1 + floor(position / 64)): nothing within the trained length, then a step each time it is
 * passed. */
START_TEST(queries_beyond_the_trained_length_are_scaled_in_steps)
{
    qs_rotary a = plain();
    float c[2 * 130], s[2 * 130], plain_c[2 * 130];
    qs_rotary_tables(&a, 130, plain_c, s);
    a.position_beta = 0.1;
    qs_rotary_tables(&a, 130, c, s);
    ck_assert_float_eq(c[2 * 63], plain_c[2 * 63]);
    ck_assert_float_eq_tol(c[2 * 64 + 1] / plain_c[2 * 64 + 1], 1 + 0.1 * log(2), 1e-6);
    ck_assert_float_eq_tol(c[2 * 128 + 1] / plain_c[2 * 128 + 1], 1 + 0.1 * log(3), 1e-6);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("rope");
    TCase *t = tcase_create("rope");
    tcase_add_test(t, frequencies_and_tables_are_those_of_transformers);
    tcase_add_test(t, position_zero_does_not_rotate_and_one_rotates_by_the_frequency);
    tcase_add_test(t, dynamic_scaling_starts_beyond_the_trained_length);
    tcase_add_test(t, llama3_keeps_short_waves_and_slows_long_ones);
    tcase_add_test(t, longrope_stretches_each_wave_by_its_own_factor);
    tcase_add_test(t, queries_beyond_the_trained_length_are_scaled_in_steps);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
