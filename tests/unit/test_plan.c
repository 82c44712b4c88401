/* Behaviour of offload/plan: what fits is placed inside the budgets, what does not is refused with the flag
 * that would help. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "offload/plan.h"
#include "src/base/memory.h"
#include "src/base/random.h"

enum { PAGE = 4096, MOST_BLOBS = 64 };
#define PLENTY ((uint64_t)1 << 40)

static qs_plan plan;
static qs_err e;
static uint64_t sizes[MOST_BLOBS];
static const qs_plan_item items[] = {{QS_ITEM_ACTIVATIONS, QS_POOL_DEVICE, 40 * PAGE},
                                     {QS_ITEM_CHECKPOINTS, QS_POOL_HOST, 300 * PAGE},
                                     {QS_ITEM_MASTERS, QS_POOL_DEVICE, 3 * PAGE},
                                     {QS_ITEM_EMBEDDING_READS, QS_POOL_PINNED, 7 * PAGE},
                                     {QS_ITEM_STATES, QS_POOL_MANAGED, 11 * PAGE}};
static const uint64_t device_items = 43 * PAGE, host_items = 318 * PAGE;

static void teardown(void) { qs_plan_free(&plan); }

static uint32_t draw_at;
static uint32_t below(uint32_t n) { return qs_random_u32(11, 0, draw_at++) % n; }

/* ---- cases ------------------------------------------------------------------------------------------- */

typedef enum shape { EQUAL, LAYERS_AND_TILES, RANDOM, ONE, SHAPES } shape;

static void fill_sizes(shape kind, qs_plan_input *in)
{
    in->blob_bytes = sizes;
    in->blobs = kind == ONE ? 1 : 24;
    for (int b = 0; b < MOST_BLOBS; b++)
        sizes[b] = kind == EQUAL || kind == ONE ? 50 * PAGE
                   : kind == LAYERS_AND_TILES   ? (b < 16 ? 60 : 9) * PAGE
                                                : (1 + below(100)) * PAGE;
}

static qs_plan_input input(shape kind, bool unified)
{
    qs_plan_input in = {.vram_bytes = PLENTY,
                        .ram_bytes = PLENTY,
                        .shared_memory = unified,
                        .items = items,
                        .item_count = 5,
                        .most_homes = -1};
    in.device_overhead_bytes =
        unified ? 0 : 21 * PAGE + 123; /* what a driver takes need not be whole pages */
    fill_sizes(kind, &in);
    return in;
}

static uint64_t sum_of(const qs_plan_input *in)
{
    uint64_t sum = 0;
    for (int b = 0; b < in->blobs; b++) sum += in->blob_bytes[b];
    return sum;
}

static uint64_t largest_of(const qs_plan_input *in)
{
    uint64_t most = 0;
    for (int b = 0; b < in->blobs; b++) most = in->blob_bytes[b] > most ? in->blob_bytes[b] : most;
    return most;
}

static uint64_t item_bytes(qs_item item, qs_pool pool)
{
    uint64_t sum = 0;
    for (int i = 0; i < plan.item_count; i++)
        if (plan.items[i].pool == pool && plan.items[i].item == item) sum += plan.items[i].bytes;
    return sum;
}

/* Everything that a plan promises, whatever it chose. */
static void check_promises(const qs_plan_input *in)
{
    uint64_t pool[QS_POOL_COUNT] = {0}, home[3] = {0};
    int homes[3] = {0};
    for (int i = 0; i < plan.item_count; i++) {
        ck_assert_uint_eq(plan.items[i].bytes % PAGE, 0);
        ck_assert_uint_gt(plan.items[i].bytes, 0);
        pool[plan.items[i].pool] += plan.items[i].bytes;
    }
    for (int p = 0; p < QS_POOL_COUNT; p++) ck_assert_uint_eq(pool[p], plan.pool_bytes[p]);
    for (int i = 0; i < in->item_count; i++)
        ck_assert_uint_eq(item_bytes(in->items[i].item, in->items[i].pool), in->items[i].bytes);
    ck_assert_uint_eq(plan.vram_used, pool[QS_POOL_DEVICE] + in->device_overhead_bytes);
    ck_assert_uint_eq(plan.ram_used, pool[QS_POOL_PINNED] + pool[QS_POOL_HOST] + pool[QS_POOL_MANAGED]);
    ck_assert_uint_le(plan.vram_used, in->vram_bytes);
    ck_assert_uint_le(plan.ram_used, in->ram_bytes);
    ck_assert_uint_eq(plan.vram_bytes, in->vram_bytes);
    ck_assert_uint_eq(plan.ram_bytes, in->ram_bytes);

    ck_assert_int_eq(plan.blobs, in->blobs);
    for (int b = 0; b < in->blobs; b++) {
        ck_assert_int_le(plan.home[b], QS_HOME_DEVICE);
        home[plan.home[b]] += in->blob_bytes[b];
        homes[plan.home[b]]++;
    }
    ck_assert_int_eq(plan.homes_device, homes[QS_HOME_DEVICE]);
    ck_assert_int_eq(plan.homes_host, homes[QS_HOME_HOST]);
    ck_assert_uint_eq(plan.streamed_bytes, home[QS_HOME_DISK]);
    ck_assert_uint_eq(item_bytes(QS_ITEM_RESIDENT, QS_POOL_DEVICE), home[QS_HOME_DEVICE]);
    ck_assert_uint_eq(item_bytes(QS_ITEM_RESIDENT_RAM, in->shared_memory ? QS_POOL_HOST : QS_POOL_PINNED),
                      home[QS_HOME_HOST]);
    if (in->most_homes >= 0) ck_assert_int_le(plan.homes_device + plan.homes_host, in->most_homes);

    bool streams = homes[QS_HOME_DISK] > 0;
    if (in->shared_memory) {
        ck_assert_int_eq(plan.device_slots, 0);
        ck_assert_int_eq(plan.ring_slots > 0, streams); /* the ring is dropped when all is resident */
    } else {
        ck_assert_int_ge(plan.ring_slots, QS_PLAN_MIN_SLOTS);
        ck_assert_int_eq(plan.device_slots > 0, homes[QS_HOME_DEVICE] < in->blobs);
    }
    if (plan.ring_slots) ck_assert_int_ge(plan.ring_slots, QS_PLAN_MIN_SLOTS);
    ck_assert_int_le(plan.ring_slots, in->ring_slots ? in->ring_slots : QS_PLAN_RING_SLOTS);
    ck_assert_uint_eq(plan.slot_bytes, plan.ring_slots ? largest_of(in) : 0);
    ck_assert_uint_eq(item_bytes(QS_ITEM_RING, QS_POOL_PINNED), (uint64_t)plan.ring_slots * plan.slot_bytes);
    ck_assert_uint_eq(item_bytes(QS_ITEM_DEVICE_SLOTS, QS_POOL_DEVICE),
                      (uint64_t)plan.device_slots * plan.slot_bytes);
}

/* 0 and a checked plan, or -QS_EBUDGET. */
static int make(const qs_plan_input *in)
{
    qs_plan_free(&plan);
    int rc = qs_plan_make(in, &plan, &e);
    if (!rc)
        check_promises(in);
    else
        ck_assert_int_eq(rc, -QS_EBUDGET);
    return rc;
}

static int homes(void) { return plan.homes_device + plan.homes_host; }

/* ---- placement --------------------------------------------------------------------------------------- */

START_TEST(promises_hold_over_a_grid)
{
    int made = 0, refused = 0;
    for (int kind = 0; kind < SHAPES; kind++)
        for (int unified = 0; unified < 2; unified++)
            for (int trial = 0; trial < 400; trial++) {
                qs_plan_input in = input((shape)kind, unified);
                qs_plan_item wish = {QS_ITEM_EMBEDDING_TABLE, QS_POOL_HOST, below(200) * PAGE};
                uint64_t span = (sum_of(&in) + 8 * largest_of(&in)) / 64;
                in.vram_bytes = device_items + in.device_overhead_bytes + below(64) * span + below(PAGE);
                in.ram_bytes = host_items + below(64) * span + below(PAGE);
                if (below(2)) in.wish = &wish;
                if (below(2)) in.most_homes = (int)below((uint32_t)in.blobs + 3);
                in.ring_slots = (int)below(7);
                if (in.ring_slots == 1) in.ring_slots = 0;
                *(make(&in) ? &refused : &made) += 1;
            }
    ck_assert_int_gt(made, 1000);
    ck_assert_int_gt(refused, 100);
}
END_TEST

START_TEST(more_budget_never_means_fewer_homes_or_a_shorter_ring)
{
    for (int kind = 0; kind < SHAPES; kind++)
        for (int unified = 0; unified < 2; unified++)
            for (int which = 0; which < 3; which++) { /* vram grows, ram grows, both */
                qs_plan_input in = input((shape)kind, unified);
                uint64_t vram = device_items + in.device_overhead_bytes + 2 * largest_of(&in),
                         ram = host_items + 2 * largest_of(&in);
                uint64_t step = sum_of(&in) / 97 + 1;
                int last_homes = 0, last_slots = 0;
                for (int i = 0; i < 150; i++) {
                    in.vram_bytes = vram + (which != 1 ? (uint64_t)i * step : 0);
                    in.ram_bytes = ram + (which != 0 ? (uint64_t)i * step : 0);
                    ck_assert_msg(!make(&in), "%s", e.text);
                    bool all = homes() == in.blobs;
                    if (last_slots == plan.ring_slots || all) ck_assert_int_ge(homes(), last_homes);
                    if (!all) ck_assert_int_ge(plan.ring_slots, last_slots);
                    last_homes = homes();
                    last_slots = plan.ring_slots;
                }
                if (unified || which == 2) ck_assert_int_eq(last_homes, in.blobs);
            }
}
END_TEST

START_TEST(with_equal_blobs_more_budget_never_means_fewer_homes)
{
    for (int unified = 0; unified < 2; unified++) {
        qs_plan_input in = input(EQUAL, unified);
        int last = 0;
        for (uint64_t extra = 0; extra < 30 * sizes[0]; extra += 7 * PAGE) {
            in.vram_bytes = device_items + in.device_overhead_bytes + 2 * sizes[0] + extra;
            in.ram_bytes = host_items + 2 * sizes[0];
            ck_assert_int_eq(make(&in), 0);
            ck_assert_int_ge(homes(), last);
            last = homes();
        }
        ck_assert_int_eq(last, in.blobs);
    }
}
END_TEST

/* Between two homes lie as many streamed blobs as between any others, give or take one: never a prefix. */
START_TEST(homes_are_spread_evenly)
{
    for (int unified = 0; unified < 2; unified++)
        for (int n = 2; n <= MOST_BLOBS; n++)
            for (int c = 1; c < n; c++) {
                qs_plan_input in = input(EQUAL, unified);
                in.blobs = n;
                in.most_homes = c;
                ck_assert_int_eq(make(&in), 0);
                ck_assert_int_eq(homes(), c);
                int shortest = n, longest = 0, gap = 0, seen = 0, first = 0;
                for (int b = 0; b < 2 * n; b++) { /* round the end */
                    gap++;
                    if (plan.home[b % n] == QS_HOME_DISK) continue;
                    if (seen++ && seen <= c + 1) {
                        shortest = gap < shortest ? gap : shortest;
                        longest = gap > longest ? gap : longest;
                    } else if (seen == 1) {
                        first = b;
                    }
                    gap = 0;
                }
                ck_assert_int_le(longest - shortest, 1);
                ck_assert_int_le(first, longest);
            }
}
END_TEST

START_TEST(device_homes_are_spread_among_the_host_homes)
{
    qs_plan_input in = input(EQUAL, true);
    in.vram_bytes = device_items + 6 * sizes[0];
    in.ram_bytes = host_items + 3 * sizes[0] + 6 * sizes[0];
    ck_assert_int_eq(make(&in), 0);
    ck_assert_int_eq(plan.homes_device, 6);
    ck_assert_int_eq(plan.homes_host, 6);
    for (int b = 0, last = -1; b < in.blobs; b++) {
        if (plan.home[b] == QS_HOME_DISK) continue;
        ck_assert_int_ne(plan.home[b], last); /* in turn */
        last = plan.home[b];
    }
}
END_TEST

/* Two small blobs on the device would leave the large one for a host that cannot take it. */
START_TEST(fewer_device_homes_are_taken_where_more_would_not_fit)
{
    qs_plan_input in = input(EQUAL, true);
    in.blobs = 3;
    sizes[0] = sizes[2] = 5 * PAGE;
    sizes[1] = 30 * PAGE;
    in.vram_bytes = device_items + 30 * PAGE;
    in.ram_bytes = host_items + 10 * PAGE;
    ck_assert_int_eq(make(&in), 0);
    ck_assert_int_eq(plan.homes_device, 1);
    ck_assert_int_eq(plan.homes_host, 2);
}
END_TEST

START_TEST(a_resident_model_has_no_ring)
{
    qs_plan_input in = input(RANDOM, true);
    in.vram_bytes = device_items + sum_of(&in);
    in.ram_bytes = host_items;
    ck_assert_int_eq(make(&in), 0);
    ck_assert_int_eq(plan.homes_device, in.blobs);
    ck_assert_uint_eq(plan.streamed_bytes, 0);
    ck_assert_uint_eq(plan.vram_used, in.vram_bytes);
    ck_assert_uint_eq(plan.ram_used, in.ram_bytes);
}
END_TEST

START_TEST(a_discrete_device_that_holds_all_needs_no_slots)
{
    qs_plan_input in = input(RANDOM, false);
    in.vram_bytes = device_items + in.device_overhead_bytes + sum_of(&in);
    in.ram_bytes = host_items + 2 * largest_of(&in);
    ck_assert_int_eq(make(&in), 0);
    ck_assert_int_eq(plan.homes_device, in.blobs);
    ck_assert_int_eq(plan.device_slots, 0);
    ck_assert_uint_eq(plan.vram_used, in.vram_bytes);
    in.vram_bytes -= PAGE;
    ck_assert_int_eq(make(&in), 0);
    ck_assert_int_lt(plan.homes_device, in.blobs);
    ck_assert_int_gt(plan.device_slots, 0);
}
END_TEST

START_TEST(the_bound_on_homes_is_kept)
{
    for (int unified = 0; unified < 2; unified++)
        for (int most = 0; most <= 30; most++) {
            qs_plan_input in = input(RANDOM, unified);
            in.most_homes = most;
            ck_assert_int_eq(make(&in), 0);
            ck_assert_int_eq(homes(), most < in.blobs ? most : in.blobs);
        }
}
END_TEST

START_TEST(the_ring_is_as_long_as_asked_for_or_as_there_is_room)
{
    for (int unified = 0; unified < 2; unified++)
        for (int asked = 2; asked <= 6; asked++)
            for (int room = 2; room <= 8; room++) {
                qs_plan_input in = input(EQUAL, unified);
                in.most_homes = 0;
                in.ring_slots = asked;
                in.ram_bytes = host_items + (uint64_t)room * sizes[0];
                ck_assert_int_eq(make(&in), 0);
                ck_assert_int_eq(plan.ring_slots, asked < room ? asked : room);
                ck_assert_int_eq(plan.device_slots, unified ? 0 : plan.ring_slots);
            }
}
END_TEST

START_TEST(a_wish_comes_before_homes_and_after_needs)
{
    qs_plan_item wish = {QS_ITEM_EMBEDDING_TABLE, QS_POOL_HOST, 100 * PAGE};
    qs_plan_input in = input(EQUAL, true);
    in.vram_bytes = device_items;
    in.wish = &wish;
    in.ram_bytes = host_items + 2 * sizes[0] + wish.bytes;
    ck_assert_int_eq(make(&in), 0);
    ck_assert(plan.wish_granted);
    ck_assert_uint_eq(item_bytes(QS_ITEM_EMBEDDING_TABLE, QS_POOL_HOST), wish.bytes);
    in.ram_bytes -= PAGE;
    ck_assert_int_eq(make(&in), 0);
    ck_assert(!plan.wish_granted);
    ck_assert_uint_eq(item_bytes(QS_ITEM_EMBEDDING_TABLE, QS_POOL_HOST), 0);
}
END_TEST

/* ---- refusal ----------------------------------------------------------------------------------------- */

START_TEST(the_minimum_works_and_a_page_less_does_not)
{
    for (int kind = 0; kind < SHAPES; kind++)
        for (int unified = 0; unified < 2; unified++)
            for (int trial = 0; trial < 60; trial++) {
                qs_plan_input in = input((shape)kind, unified), at;
                uint64_t vram, ram;
                if (trial % 3 == 1)
                    in.blobs = in.blobs < 3 ? 1 : 1 + (int)below(3); /* smaller than a ring of them */
                if (trial % 3 == 2) in.most_homes = (int)below((uint32_t)in.blobs + 1);
                in.vram_bytes = below(3) ? below(200) * PAGE : PLENTY;
                qs_plan_minimum(&in, &vram, &ram);
                at = in;
                at.ram_bytes = PLENTY;
                at.vram_bytes = vram;
                ck_assert_msg(!make(&at), "%s", e.text);
                at.vram_bytes = vram - PAGE;
                ck_assert_int_eq(make(&at), -QS_EBUDGET);
                ck_assert_msg(strstr(e.text, "--vram"), "%s", e.text);

                at.vram_bytes = in.vram_bytes > vram ? in.vram_bytes : vram;
                at.ram_bytes = ram;
                ck_assert_msg(!make(&at), "%s", e.text);
                at.ram_bytes = ram - PAGE;
                ck_assert_int_eq(make(&at), -QS_EBUDGET);
                ck_assert_msg(!strncmp(e.text, "--ram", 5), "%s", e.text);
            }
}
END_TEST

/* The number after "give FLAG " in a refusal, in bytes; 0 when the flag is not named. */
static uint64_t advice(const char *flag)
{
    const char *at = strstr(e.text, "; give ");
    if (at) at = strstr(at, flag);
    return at ? strtoull(at + strlen(flag), NULL, 10) << 20 : 0;
}

START_TEST(following_the_advice_once_is_enough)
{
    int tried = 0;
    for (int kind = 0; kind < SHAPES; kind++)
        for (int unified = 0; unified < 2; unified++)
            for (int trial = 0; trial < 50; trial++) {
                qs_plan_input in = input((shape)kind, unified);
                in.vram_bytes = below(2) ? PLENTY : below(100) * PAGE;
                in.ram_bytes = below(2) ? PLENTY : below(300) * PAGE;
                if (!make(&in)) continue;
                uint64_t vram = advice("--vram "), ram = advice("--ram ");
                ck_assert_msg(vram || ram, "%s", e.text);
                if (vram) in.vram_bytes = vram;
                if (ram) in.ram_bytes = ram;
                ck_assert_msg(!make(&in), "%s", e.text);
                tried++;
            }
    ck_assert_int_gt(tried, 100);
}
END_TEST

START_TEST(a_refusal_says_what_takes_the_room)
{
    static const qs_plan_item big[] = {{QS_ITEM_CHECKPOINTS, QS_POOL_HOST, (uint64_t)3 << 30},
                                       {QS_ITEM_ACTIVATIONS, QS_POOL_DEVICE, (uint64_t)1 << 30}};
    static const uint64_t blob[] = {200 << 20, 200 << 20, 200 << 20, 200 << 20};
    qs_plan_input in = {.vram_bytes = (uint64_t)2 << 30,
                        .ram_bytes = (uint64_t)2 << 30,
                        .shared_memory = true,
                        .items = big,
                        .item_count = 2,
                        .blobs = 4,
                        .blob_bytes = blob,
                        .most_homes = 0};
    ck_assert_int_eq(make(&in), -QS_EBUDGET);
    ck_assert_str_eq(e.text, "--ram 2.00 GiB is too small: this job needs at least 3.39 GiB there (weights "
                             "400.0 MiB, activation checkpoints 3.00 "
                             "GiB); give --ram 3472M or more, or lower max_seq_length, "
                             "per_device_train_batch_size or gradient_accumulation_steps");
    in.shared_memory = false;
    in.vram_bytes = 1 << 30;
    ck_assert_int_eq(make(&in), -QS_EBUDGET);
    ck_assert_str_eq(
        e.text, "--vram 1.00 GiB is too small: this job needs at least 1.39 GiB there (weights 400.0 MiB, "
                "activations 1.00 GiB); give "
                "--vram 1424M and --ram 3472M or more, or lower max_seq_length, per_device_train_batch_size");
}
END_TEST

START_TEST(a_failed_plan_leaves_nothing_behind)
{
    qs_plan_input in = input(EQUAL, true);
    in.ram_bytes = 0;
    uint64_t before = qs_mem_read().live_bytes;
    ck_assert_int_eq(qs_plan_make(&in, &plan, &e), -QS_EBUDGET);
    ck_assert_uint_eq(qs_mem_read().live_bytes, before);
    ck_assert_ptr_null(plan.home);
}
END_TEST

START_TEST(bytes_are_printed_for_people)
{
    char text[16];
    static const struct {
        uint64_t bytes;
        const char *text;
    } want[] = {{0, "0 B"},           {1023, "1023 B"},
                {1024, "1.0 KiB"},    {4096 + 512, "4.5 KiB"},
                {3 << 20, "3.0 MiB"}, {(uint64_t)5 << 29, "2.50 GiB"}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++)
        ck_assert_str_eq(qs_format_bytes(want[i].bytes, text), want[i].text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("plan");
    TCase *t = tcase_create("plan");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, promises_hold_over_a_grid);
    tcase_add_test(t, more_budget_never_means_fewer_homes_or_a_shorter_ring);
    tcase_add_test(t, with_equal_blobs_more_budget_never_means_fewer_homes);
    tcase_add_test(t, homes_are_spread_evenly);
    tcase_add_test(t, device_homes_are_spread_among_the_host_homes);
    tcase_add_test(t, fewer_device_homes_are_taken_where_more_would_not_fit);
    tcase_add_test(t, a_resident_model_has_no_ring);
    tcase_add_test(t, a_discrete_device_that_holds_all_needs_no_slots);
    tcase_add_test(t, the_bound_on_homes_is_kept);
    tcase_add_test(t, the_ring_is_as_long_as_asked_for_or_as_there_is_room);
    tcase_add_test(t, a_wish_comes_before_homes_and_after_needs);
    tcase_add_test(t, the_minimum_works_and_a_page_less_does_not);
    tcase_add_test(t, following_the_advice_once_is_enough);
    tcase_add_test(t, a_refusal_says_what_takes_the_room);
    tcase_add_test(t, a_failed_plan_leaves_nothing_behind);
    tcase_add_test(t, bytes_are_printed_for_people);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
