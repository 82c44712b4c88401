/* Behaviour of src/train/lr_schedule: transformers' values at every step, warmup and length rules. */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "src/train/lr_schedule.h"

static qs_options o;

static void setup(void)
{
    o = (qs_options){0};
    qs_options_defaults(&o);
}
static void teardown(void) { qs_options_free(&o); }

static double number(json_t *object, const char *key, double otherwise)
{
    json_t *v = json_object_get(object, key);
    return v ? json_number_value(v) : otherwise;
}

/* lr_schedules.json: the learning rate of every step, from transformers.get_scheduler. */
START_TEST(every_schedule_gives_the_learning_rates_of_transformers)
{
    json_error_t error;
    json_t *root = json_load_file("tests/golden/lr_schedules.json", 0, &error), *row;
    ck_assert_msg(root != NULL, "%s", error.text);
    size_t i, checked = 0;
    json_array_foreach(json_object_get(root, "schedules"), i, row)
    {
        json_t *extra = json_object_get(row, "lr_scheduler_kwargs"),
               *rates = json_object_get(row, "learning_rate");
        qs_option_set set = {&qs_training_options, &o};
        qs_err e;
        const char *type = json_string_value(json_object_get(row, "lr_scheduler_type"));
        ck_assert_int_eq(qs_option_assign(&set, 1, "lr_scheduler_type", type, QS_FROM_CONFIG, "golden", &e),
                         0);
        o.learning_rate = number(root, "learning_rate", 0);
        o.warmup_steps = (int64_t)number(row, "warmup_steps", 0);
        o.warmup_ratio = 0;
        o.max_steps = (int64_t)number(row, "max_steps", 0);
        o.lr_num_cycles = number(extra, "num_cycles", 0);
        o.lr_power = number(extra, "power", 1);
        o.lr_min_ratio = number(extra, "min_lr_rate", 0);
        qs_lr_schedule s = qs_lr_schedule_of(&o, qs_lr_total_steps(&o, 1, 16));
        size_t k;
        json_t *rate;
        json_array_foreach(rates, k, rate)
        {
            double want = json_number_value(rate), got = qs_lr_at(&s, (int64_t)k);
            /* The cosine differs in the last bits between libraries; everything else is the same arithmetic.
             */
            ck_assert_msg(fabs(got - want) <= 4e-16 * o.learning_rate,
                          "%s warmup %lld step %zu: %.17g, transformers %.17g", type,
                          (long long)o.warmup_steps, k, got, want);
            checked++;
        }
    }
    ck_assert_uint_ge(checked, 400);
    json_decref(root);
}
END_TEST

START_TEST(warmup_steps_win_over_the_ratio_and_the_ratio_rounds_up)
{
    o.warmup_steps = 7;
    o.warmup_ratio = 0.5;
    ck_assert_int_eq(qs_lr_schedule_of(&o, 100).warmup_steps, 7);
    o.warmup_steps = 0;
    o.warmup_ratio = 0.03;
    ck_assert_int_eq(qs_lr_schedule_of(&o, 101).warmup_steps, 4);
    o.warmup_ratio = 0;
    ck_assert_int_eq(qs_lr_schedule_of(&o, 101).warmup_steps, 0);
}
END_TEST

START_TEST(with_warmup_the_first_step_has_learning_rate_zero_but_a_constant_ignores_warmup)
{
    o.warmup_steps = 5;
    qs_lr_schedule s = qs_lr_schedule_of(&o, 50);
    ck_assert_double_eq(qs_lr_at(&s, 0), 0);
    ck_assert_double_eq(qs_lr_at(&s, 5), o.learning_rate);
    o.lr_scheduler_type = QS_LR_CONSTANT;
    s = qs_lr_schedule_of(&o, 50);
    ck_assert_double_eq(qs_lr_at(&s, 0), o.learning_rate);
}
END_TEST

START_TEST(a_partial_group_of_micro_batches_is_a_step)
{
    o.num_train_epochs = 3;
    ck_assert_int_eq(qs_lr_total_steps(&o, 32, 16), 6);
    ck_assert_int_eq(qs_lr_total_steps(&o, 33, 16), 9);
    ck_assert_int_eq(qs_lr_total_steps(&o, 1, 16), 3);
    o.num_train_epochs = 0.5;
    ck_assert_int_eq(qs_lr_total_steps(&o, 33, 16), 2);
    o.max_steps = 11;
    ck_assert_int_eq(qs_lr_total_steps(&o, 33, 16), 11);
}
END_TEST

START_TEST(no_schedule_is_negative_or_undefined_anywhere)
{
    for (int type = QS_LR_COSINE; type <= QS_LR_INVERSE_SQRT; type++)
        for (int64_t total = 1; total <= 4; total++)
            for (int64_t warmup = 0; warmup <= 5; warmup++) {
                o.lr_scheduler_type = (qs_lr_type)type;
                o.warmup_steps = warmup;
                qs_lr_schedule s = qs_lr_schedule_of(&o, total);
                for (int64_t step = 0; step < 8; step++) {
                    double lr = qs_lr_at(&s, step);
                    ck_assert_msg(isfinite(lr) && lr >= 0 && lr <= o.learning_rate * 1.0000001,
                                  "type %d total %d warmup %d step %d: %g", type, (int)total, (int)warmup,
                                  (int)step, lr);
                }
            }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("lr_schedule");
    TCase *t = tcase_create("lr_schedule");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_schedule_gives_the_learning_rates_of_transformers);
    tcase_add_test(t, warmup_steps_win_over_the_ratio_and_the_ratio_rounds_up);
    tcase_add_test(t, with_warmup_the_first_step_has_learning_rate_zero_but_a_constant_ignores_warmup);
    tcase_add_test(t, a_partial_group_of_micro_batches_is_a_step);
    tcase_add_test(t, no_schedule_is_negative_or_undefined_anywhere);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
