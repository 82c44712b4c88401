/* Behaviour of offload/schedule: the list of visits that everything else follows. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "offload/schedule.h"
#include "src/base/memory.h"

static qs_schedule s;

static void teardown(void) { qs_schedule_free(&s); }

static const int32_t shapes[][4] = {/* layers, tiles, micro-batches, lowest trained */
                                    {1, 1, 1, 0},   {2, 1, 3, 0}, {5, 3, 1, 0},     {7, 2, 4, 3},
                                    {32, 16, 8, 0}, {4, 1, 2, 4}, {126, 250, 2, 60}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

/* The next visit of v's blob, found by walking. */
static int32_t walk_to_next(int32_t v)
{
    for (int32_t i = 1; i <= s.count; i++)
        if (s.visits[(v + i) % s.count].blob == s.visits[v].blob) return i;
    return 0;
}

static void check_next_use(void)
{
    for (int32_t v = 0; v < s.count; v++)
        ck_assert_int_eq(s.next_use[v], s.visits[v].blob < 0 ? 0 : walk_to_next(v));
}

START_TEST(a_step_is_a_palindrome_of_blobs)
{
    for (int i = 0; i < SHAPES; i++) {
        const int32_t *c = shapes[i];
        qs_schedule_train(c[0], c[1], c[2], 0, 1, &s);
        ck_assert_int_eq(s.count, 2 * (c[0] + c[1]) + 2);
        ck_assert_int_eq(s.visits[0].kind, QS_VISIT_EMBED);
        ck_assert_int_eq(s.visits[s.count - 1].kind, QS_VISIT_UPDATE);
        for (int32_t v = 1; v < s.count - 1; v++)
            ck_assert_int_eq(s.visits[v].blob, s.visits[s.count - 1 - v].blob);
        for (int32_t v = 1; v <= c[0] + c[1]; v++) ck_assert_int_eq(s.visits[v].blob, v - 1);
        qs_schedule_free(&s);
    }
}
END_TEST

START_TEST(kinds_and_indices_say_what_the_blob_is)
{
    qs_schedule_train(3, 2, 4, 1, 1, &s);
    static const qs_visit want[] = {
        {QS_VISIT_EMBED, -1, 0, 0, 4},        {QS_VISIT_FORWARD, 0, 0, 0, 4},
        {QS_VISIT_FORWARD, 1, 1, 0, 4},       {QS_VISIT_FORWARD, 2, 2, 0, 4},
        {QS_VISIT_HEAD_LOSS, 3, 0, 0, 4},     {QS_VISIT_HEAD_LOSS, 4, 1, 0, 4},
        {QS_VISIT_HEAD_GRADIENT, 4, 1, 0, 4}, {QS_VISIT_HEAD_GRADIENT, 3, 0, 0, 4},
        {QS_VISIT_BACKWARD, 2, 2, 0, 4},      {QS_VISIT_BACKWARD, 1, 1, 0, 4},
        {QS_VISIT_UPDATE, -1, 0, 0, 4}};
    ck_assert_int_eq(s.count, sizeof want / sizeof *want);
    for (int32_t v = 0; v < s.count; v++) {
        ck_assert_int_eq(s.visits[v].kind, want[v].kind);
        ck_assert_int_eq(s.visits[v].blob, want[v].blob);
        ck_assert_int_eq(s.visits[v].index, want[v].index);
        ck_assert_int_eq(s.visits[v].first, want[v].first);
        ck_assert_int_eq(s.visits[v].count, want[v].count);
    }
}
END_TEST

/* Every micro-batch passes every layer forwards in ascending order, the head, and the trained layers
 * backwards in descending order; within a visit and from visit to visit the micro-batches of one layer come
 * in ascending order, so that sums are the same with any number of sweeps. */
static void check_coverage(int32_t layers, int32_t tiles, int32_t micro_batches, int32_t lowest)
{
    int32_t *stage = qs_calloc((size_t)micro_batches, sizeof *stage);
    int32_t *next_mb =
        qs_calloc((size_t)(layers + tiles), 2 * sizeof *next_mb); /* of each blob: forwards, backwards */
    for (int32_t v = 0; v < s.count; v++) {
        const qs_visit *x = &s.visits[v];
        ck_assert(x->first >= 0 && x->count >= 1 && x->first + x->count <= micro_batches);
        for (int32_t mb = x->first; mb < x->first + x->count; mb++) {
            int32_t n = layers + tiles,
                    want = x->kind == QS_VISIT_EMBED           ? 0
                           : x->kind == QS_VISIT_FORWARD       ? 1 + x->index
                           : x->kind == QS_VISIT_HEAD_LOSS     ? 1 + layers + x->index
                           : x->kind == QS_VISIT_HEAD_GRADIENT ? 1 + n + (tiles - 1 - x->index)
                           : x->kind == QS_VISIT_BACKWARD      ? 1 + n + tiles + (layers - 1 - x->index)
                                                               : 1 + n + tiles + layers - lowest;
            ck_assert_int_eq(stage[mb]++, want);
            if (x->blob < 0) continue;
            int backward = x->kind == QS_VISIT_HEAD_GRADIENT || x->kind == QS_VISIT_BACKWARD;
            ck_assert_int_eq(next_mb[2 * x->blob + backward]++, mb);
        }
    }
    for (int32_t mb = 0; mb < micro_batches; mb++)
        ck_assert_int_eq(stage[mb], 2 + layers + 2 * tiles + layers - lowest);
    qs_free(stage);
    qs_free(next_mb);
}

START_TEST(any_number_of_sweeps_does_everything_once_for_every_micro_batch)
{
    for (int i = 0; i < SHAPES; i++)
        for (int32_t sweeps = 1; sweeps <= shapes[i][2]; sweeps++) {
            const int32_t *c = shapes[i];
            qs_schedule_train(c[0], c[1], c[2], c[3], sweeps, &s);
            ck_assert_int_eq(s.layers, c[0]);
            ck_assert_int_eq(s.tiles, c[1]);
            ck_assert_int_eq(s.micro_batches, c[2]);
            check_coverage(c[0], c[1], c[2], c[3]);
            qs_schedule_free(&s);
        }
}
END_TEST

START_TEST(one_sweep_visits_every_blob_twice_whatever_the_micro_batches)
{
    for (int32_t k = 1; k <= 64; k *= 4) {
        qs_schedule_train(6, 2, k, 0, 1, &s);
        ck_assert_int_eq(s.count, 18);
        qs_schedule_free(&s);
        qs_schedule_train(6, 2, k, 0, k, &s);
        ck_assert_int_eq(s.count, 17 * k + 1);
        qs_schedule_free(&s);
    }
}
END_TEST

START_TEST(sweeps_share_the_micro_batches)
{
    qs_schedule_train(2, 1, 7, 0, 3, &s);
    static const int32_t first[] = {0, 3, 6}, count[] = {3, 3, 1};
    int n = 0;
    for (int32_t v = 0; v < s.count; v++) {
        if (s.visits[v].kind != QS_VISIT_EMBED) continue;
        ck_assert_int_eq(s.visits[v].first, first[n]);
        ck_assert_int_eq(s.visits[v].count, count[n++]);
    }
    ck_assert_int_eq(n, 3);
    qs_schedule_free(&s);
    qs_schedule_evaluate(2, 1, 7, 3, &s);
    ck_assert_int_eq(s.count, 3 * (1 + 2 + 1));
}
END_TEST

START_TEST(layers_below_the_lowest_trained_are_not_visited_backwards)
{
    qs_schedule_train(7, 2, 1, 3, 1, &s);
    for (int32_t v = 0; v < s.count; v++)
        if (s.visits[v].kind == QS_VISIT_BACKWARD) ck_assert_int_ge(s.visits[v].index, 3);
    ck_assert_int_eq(s.visits[s.count - 2].index, 3);
}
END_TEST

START_TEST(evaluation_goes_forward_only)
{
    for (int i = 0; i < SHAPES; i++) {
        const int32_t *c = shapes[i];
        qs_schedule_evaluate(c[0], c[1], c[2], 1, &s);
        ck_assert_int_eq(s.count, 1 + c[0] + c[1]);
        for (int32_t v = 0; v < s.count; v++) {
            ck_assert_int_eq(s.visits[v].blob, v - 1);
            ck_assert_int_eq(s.visits[v].first, 0);
            ck_assert_int_eq(s.visits[v].count, c[2]);
            ck_assert_int_eq(s.visits[v].kind, v == 0      ? QS_VISIT_EMBED
                                               : v <= c[0] ? QS_VISIT_FORWARD
                                                           : QS_VISIT_HEAD_LOSS);
        }
        check_next_use();
        qs_schedule_free(&s);
    }
}
END_TEST

START_TEST(next_use_is_the_walk_to_the_next_visit_round_the_end)
{
    for (int i = 0; i < SHAPES; i++)
        for (int32_t sweeps = 1; sweeps <= shapes[i][2]; sweeps++) {
            const int32_t *c = shapes[i];
            qs_schedule_train(c[0], c[1], c[2], c[3], sweeps, &s);
            check_next_use();
            qs_schedule_free(&s);
        }
}
END_TEST

START_TEST(distance_counts_visits_from_a_position)
{
    qs_schedule_train(4, 2, 2, 0, 2, &s);
    for (int32_t from = 0; from < s.count; from++)
        for (int32_t blob = 0; blob < 6; blob++) {
            int32_t d = qs_schedule_distance(&s, from, blob);
            ck_assert_int_lt(d, s.count);
            for (int32_t i = 0; i < d; i++) ck_assert_int_ne(s.visits[(from + i) % s.count].blob, blob);
            ck_assert_int_eq(s.visits[(from + d) % s.count].blob, blob);
        }
    ck_assert_int_eq(qs_schedule_distance(&s, 3, 99), s.count); /* never */
}
END_TEST

START_TEST(visits_have_names)
{
    char text[32];
    qs_schedule_train(126, 250, 1, 0, 1, &s);
    static const struct {
        int32_t v;
        const char *name;
    } want[] = {{0, "embed"},           {1, "forward 0"},           {126, "forward 125"},
                {376, "head loss 249"}, {377, "head gradient 249"}, {752, "backward 0"},
                {753, "update"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        qs_visit_name(&s.visits[want[i].v], text);
        ck_assert_str_eq(text, want[i].name);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("schedule");
    TCase *t = tcase_create("schedule");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, a_step_is_a_palindrome_of_blobs);
    tcase_add_test(t, kinds_and_indices_say_what_the_blob_is);
    tcase_add_test(t, any_number_of_sweeps_does_everything_once_for_every_micro_batch);
    tcase_add_test(t, one_sweep_visits_every_blob_twice_whatever_the_micro_batches);
    tcase_add_test(t, sweeps_share_the_micro_batches);
    tcase_add_test(t, layers_below_the_lowest_trained_are_not_visited_backwards);
    tcase_add_test(t, evaluation_goes_forward_only);
    tcase_add_test(t, next_use_is_the_walk_to_the_next_visit_round_the_end);
    tcase_add_test(t, distance_counts_visits_from_a_position);
    tcase_add_test(t, visits_have_names);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
