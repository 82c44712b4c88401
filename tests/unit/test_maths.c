/* The functions of src/base/maths.h against the C library's in long double. */
#include <check.h>
#include <math.h>

#include "src/base/maths.h"
#include "src/base/random.h"

enum { COUNT = 20000 };

/* Uniform in [low, high), number i of stream s. */
static double between(double low, double high, uint64_t s, uint64_t i)
{
    return low + (high - low) * ((double)qs_random_u32(1, s, i) + 0.5) * 0x1p-32;
}

/* |got - want| in units of the last place of want, none of which is smaller than that of `least`. */
static double units(double got, long double want, double least)
{
    int e;
    frexp(fmax(fabs((double)want), least), &e);
    return (double)fabsl(got - want) / ldexp(1, e - 53);
}

START_TEST(exponentials_logarithms_and_powers_are_rounded_correctly)
{
    for (uint64_t i = 0; i < COUNT; i++) {
        double x = between(-100, 100, 1, i), p = exp(between(-300, 300, 2, i)), y = between(-3, 3, 3, i),
               b = between(0, 2, 4, i);
        ck_assert_double_le(units(qs_exp(x), expl(x), 0), 0.501);
        ck_assert_double_le(units(qs_ln(p), logl(p), 0), 0.501);
        ck_assert_double_le(units(qs_pow(p, y / 2), powl(p, y / 2), 1e-300),
                            0.51); /* the library's own error times a large exponent */
        ck_assert_double_le(
            units(qs_power_of_integer(b, (int64_t)(i % 900)), powl(b, (long double)(i % 900)), 1e-300), 0.51);
    }
}
END_TEST

START_TEST(sines_and_cosines_are_right_up_to_the_longest_context)
{
    for (uint64_t i = 0; i < COUNT; i++) {
        double x = between(-300000, 300000, 5, i), small = between(-4, 4, 6, i);
        ck_assert_double_le(units(qs_sin(x), sinl(x), 1), 1.5);
        ck_assert_double_le(units(qs_cos(x), cosl(x), 1), 1.5);
        ck_assert_double_le(units(qs_sin(small), sinl(small), 0.01), 2);
        ck_assert_double_le(units(qs_cos(small), cosl(small), 0.01), 2);
    }
}
END_TEST

START_TEST(edges_are_those_of_the_library)
{
    ck_assert_double_eq(qs_exp(0), 1);
    ck_assert_double_eq(qs_exp(1000), INFINITY);
    ck_assert_double_eq(qs_exp(-1000), 0);
    ck_assert_double_eq(qs_exp(-745), exp(-745.0)); /* subnormal */
    ck_assert_double_eq(qs_ln(1), 0);
    ck_assert_double_eq(qs_ln(0), -INFINITY);
    ck_assert_double_eq(qs_ln(INFINITY), INFINITY);
    ck_assert_double_nan(qs_ln(-1));
    ck_assert_double_nan(qs_exp(NAN));
    ck_assert_double_eq(qs_pow(0, 2), 0);
    ck_assert_double_eq(qs_pow(0, 0), 1);
    ck_assert_double_eq(qs_pow(7, 0), 1);
    ck_assert_double_eq(qs_pow(2, 10), 1024);
    ck_assert_double_eq(qs_pow(10, 400), INFINITY);
    ck_assert_double_eq(qs_power_of_integer(0.9, 0), 1);
    ck_assert_double_eq(qs_power_of_integer(3, 3), 27);
    ck_assert_double_eq(qs_power_of_integer(0.9, 1000000), 0);
    ck_assert_double_eq(qs_sin(0), 0);
    ck_assert_double_eq(qs_cos(0), 1);
    ck_assert_double_nan(qs_cos(INFINITY));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("maths");
    TCase *t = tcase_create("maths");
    tcase_add_test(t, exponentials_logarithms_and_powers_are_rounded_correctly);
    tcase_add_test(t, sines_and_cosines_are_right_up_to_the_longest_context);
    tcase_add_test(t, edges_are_those_of_the_library);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
