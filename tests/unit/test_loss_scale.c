/* Behaviour of src/train/loss_scale: GradScaler's scale, step by step. */
#include <check.h>
#include <stdlib.h>

#include "src/train/loss_scale.h"

START_TEST(an_overflow_halves_the_scale_and_skips_the_step)
{
    qs_loss_scale s = qs_loss_scale_start(true);
    ck_assert(s.scale == 65536);
    ck_assert(qs_loss_scale_step(&s, true));
    ck_assert(!qs_loss_scale_step(&s, false));
    ck_assert(!qs_loss_scale_step(&s, false));
    ck_assert(s.scale == 16384);
    ck_assert_int_eq(s.skipped, 2);
    ck_assert_int_eq(s.good_steps, 0);
}
END_TEST

START_TEST(the_scale_doubles_after_2000_steps_without_overflow)
{
    qs_loss_scale s = qs_loss_scale_start(true);
    for (int i = 0; i < 1999; i++) ck_assert(qs_loss_scale_step(&s, true));
    ck_assert(s.scale == 65536);
    ck_assert(qs_loss_scale_step(&s, true));
    ck_assert(s.scale == 131072);
    for (int i = 0; i < 1999; i++) ck_assert(qs_loss_scale_step(&s, true));
    ck_assert(!qs_loss_scale_step(&s, false)); /* the count begins anew */
    ck_assert(s.scale == 65536);
    for (int i = 0; i < 1999; i++) ck_assert(qs_loss_scale_step(&s, true));
    ck_assert(s.scale == 65536);
}
END_TEST

START_TEST(an_overflow_at_scale_1_is_not_forgiven)
{
    qs_loss_scale s = qs_loss_scale_start(true);
    for (int i = 0; i < 16; i++) ck_assert(!qs_loss_scale_step(&s, false));
    ck_assert(s.scale == 1);
    ck_assert(qs_loss_scale_step(&s, false));
    ck_assert(s.scale == 1);
}
END_TEST

START_TEST(other_types_have_the_scale_1)
{
    qs_loss_scale s = qs_loss_scale_start(false);
    for (int i = 0; i < 5000; i++) ck_assert(qs_loss_scale_step(&s, i % 3));
    ck_assert(s.scale == 1);
    ck_assert_int_eq(s.skipped, 0);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("loss scale");
    TCase *t = tcase_create("loss scale");
    tcase_add_test(t, an_overflow_halves_the_scale_and_skips_the_step);
    tcase_add_test(t, the_scale_doubles_after_2000_steps_without_overflow);
    tcase_add_test(t, an_overflow_at_scale_1_is_not_forgiven);
    tcase_add_test(t, other_types_have_the_scale_1);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
