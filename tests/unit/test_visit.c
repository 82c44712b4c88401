/* Behaviour of src/step/visit: what the visits of a step use, in order. */
#include <check.h>
#include <stdlib.h>

#include "src/step/visit.h"

enum { LAYERS = 5, TILES = 3, MOST_RECORDS = (LAYERS + 1) * 4 };

static qs_layout layout = {.layers = LAYERS, .tiles = TILES};
static uint8_t mask[LAYERS];
static qs_architecture architecture = {.layers = LAYERS, .kinds = 1};
static qs_lora_layer shape;
static int32_t shape_of[LAYERS];
static qs_lora lora = {.a = &architecture,
                       .layers = LAYERS,
                       .shape = &shape,
                       .shapes = 1,
                       .shape_of = shape_of,
                       .layer_mask = mask};
static qs_sweep_config config;
static qs_schedule list;
static qs_visit_rules rules;

static void begin(int32_t micro_batches, int32_t sweeps, int32_t lowest)
{
    for (int32_t l = 0; l < LAYERS; l++) mask[l] = l >= lowest;
    config = (qs_sweep_config){.a = &architecture,
                               .layout = &layout,
                               .lora = &lora,
                               .sizes = {.micro_batches = micro_batches},
                               .sweeps = sweeps,
                               .saved_layers = 2,
                               .saved_in_ram = 1};
    rules = qs_visit_rules_of(&config);
    ck_assert_int_eq(rules.lowest, lowest);
    qs_schedule_train(LAYERS, TILES, micro_batches, lowest, sweeps, &list);
}

/* Records of one kind as their pager sees them: nothing is read before it was made, and ticks never fall. */
static void check_list(qs_record_kind kind, int32_t records, bool there_before)
{
    bool made[MOST_RECORDS] = {0};
    qs_page_list uses = {0};
    qs_visit_list(&rules, &list, kind, records, &uses);
    for (int32_t i = 0; i < uses.count; i++) {
        int32_t r = uses.entries[i].record;
        ck_assert(r >= 0 && r < records && (!i || uses.entries[i].tick >= uses.entries[i - 1].tick));
        ck_assert_msg(uses.entries[i].use == QS_PAGE_NEW || made[r] || there_before,
                      "record %d of kind %d is read before it is made", r, kind);
        made[r] = true;
    }
    qs_page_list_free(&uses);
}

START_TEST(what_a_visit_reads_an_earlier_one_has_made)
{
    for (int32_t lowest = 0; lowest < LAYERS; lowest++)
        for (int32_t sweeps = 1; sweeps <= 3; sweeps++) {
            begin(3, sweeps, lowest);
            check_list(QS_RECORD_CHECKPOINT, (LAYERS + 1) * rules.group, false);
            check_list(QS_RECORD_SAVED, rules.group, false);
            check_list(QS_RECORD_GRADIENTS, LAYERS, false);
            check_list(QS_RECORD_MASTERS, LAYERS, true);
            check_list(QS_RECORD_STATES, LAYERS, true);
            qs_schedule_free(&list);
        }
}
END_TEST

START_TEST(every_trained_layer_is_updated_after_its_last_gradient)
{
    begin(2, 2, 1);
    qs_page_list uses = {0};
    qs_visit_list(&rules, &list, QS_RECORD_GRADIENTS, LAYERS, &uses);
    for (int32_t l = 0; l < LAYERS; l++) {
        qs_page_use last = QS_PAGE_NEW;
        int64_t tick = -1;
        for (int32_t i = 0; i < uses.count; i++)
            if (uses.entries[i].record == l) last = uses.entries[i].use, tick = uses.entries[i].tick;
        ck_assert_int_eq(tick, mask[l] ? qs_visit_update_tick(&list, l) : -1);
        if (mask[l]) ck_assert_int_eq(last, QS_PAGE_READ);
    }
    qs_page_list_free(&uses);
    qs_schedule_free(&list);
}
END_TEST

/* On disk, each level but the last is written once; the gradients that take their places are used up by the
 * next visit. */
START_TEST(a_checkpoint_is_written_once_and_read_once)
{
    qs_record_bytes bytes = {.disk = {[QS_RECORD_CHECKPOINT] = 1}};
    uint64_t read = 0, written = 0;
    begin(4, 2, 0);
    for (int32_t v = 0; v < list.count; v++) {
        qs_visit_traffic t = qs_visit_traffic_of(&rules, &bytes, &list.visits[v]);
        read += t.disk_read;
        written += t.disk_write;
        ck_assert(list.visits[v].kind != QS_VISIT_UPDATE || !(t.disk_read + t.disk_write));
    }
    ck_assert_uint_eq(written, LAYERS * 4);
    ck_assert_uint_eq(read, LAYERS * 4);
    qs_schedule_free(&list);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("visit");
    TCase *t = tcase_create("visit");
    tcase_add_test(t, what_a_visit_reads_an_earlier_one_has_made);
    tcase_add_test(t, every_trained_layer_is_updated_after_its_last_gradient);
    tcase_add_test(t, a_checkpoint_is_written_once_and_read_once);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
