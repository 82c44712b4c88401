/* Behaviour of offload/tier: the pools of a plan as memory, each item given out once and in full. */
#include <check.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "offload/tier.h"
#include "src/base/memory.h"

enum { PAGE = 4096 };

static qs_device *device;
static qs_plan plan;
static qs_tier tier;
static qs_err e;
static const uint64_t sizes[] = {3 * PAGE, 5 * PAGE, 4 * PAGE, 2 * PAGE, PAGE, 6 * PAGE};
static const qs_plan_item items[] = {{QS_ITEM_ACTIVATIONS, QS_POOL_DEVICE, 10 * PAGE},
                                     {QS_ITEM_CHECKPOINTS, QS_POOL_HOST, 7 * PAGE},
                                     {QS_ITEM_STATES, QS_POOL_HOST, PAGE},
                                     {QS_ITEM_STATES, QS_POOL_PINNED, 2 * PAGE},
                                     {QS_ITEM_GRADIENTS, QS_POOL_HOST, 0}};

static void begin(bool discrete)
{
    ck_assert_int_eq(qs_device_cpu.open(0, discrete ? QS_CPU_DISCRETE : 0, &device, &e), 0);
    qs_plan_input in = {.vram_bytes = 36 * PAGE,
                        .ram_bytes = 40 * PAGE,
                        .shared_memory = !discrete,
                        .items = items,
                        .item_count = 5,
                        .blobs = 6,
                        .blob_bytes = sizes,
                        .most_homes = 4};
    ck_assert_msg(!qs_plan_make(&in, &plan, &e), "%s", e.text);
    ck_assert_msg(!qs_tier_open(device, &plan, &tier, &e), "%s", e.text);
}

static void teardown(void)
{
    qs_tier_close(&tier);
    qs_plan_free(&plan);
    qs_device_close(device);
    device = NULL;
}

/* Every region holds its bytes beside all others, and the blocks are as large as the plan says: used ==
 * planned. */
START_TEST(regions_are_apart_and_fill_the_pools)
{
    for (int discrete = 0; discrete < 2; discrete++) {
        uint64_t blocks = qs_mem_read().block_bytes;
        begin(discrete);
        ck_assert_uint_eq(qs_mem_read().block_bytes - blocks, plan.pool_bytes[QS_POOL_DEVICE] +
                                                                  plan.pool_bytes[QS_POOL_PINNED] +
                                                                  plan.pool_bytes[QS_POOL_HOST]);
        ck_assert_uint_eq(device->api->used_bytes(device), plan.pool_bytes[QS_POOL_DEVICE]);
        char *at[QS_PLAN_MAX_ITEMS];
        for (int i = 0; i < plan.item_count; i++) {
            at[i] = qs_tier_take(&tier, plan.items[i].item, plan.items[i].pool);
            ck_assert_ptr_nonnull(at[i]);
            ck_assert_uint_eq((uintptr_t)at[i] % PAGE, 0);
            memset(at[i], i + 1, plan.items[i].bytes);
        }
        qs_tier_check(&tier);
        for (int i = 0; i < plan.item_count; i++)
            for (uint64_t k = 0; k < plan.items[i].bytes; k++) ck_assert_int_eq(at[i][k], i + 1);
        teardown();
        ck_assert_uint_eq(qs_mem_read().block_bytes, blocks);
    }
}
END_TEST

START_TEST(a_region_is_found_by_its_name_and_pool)
{
    begin(true);
    char *host = qs_tier_take(&tier, QS_ITEM_STATES, QS_POOL_HOST),
         *pinned = qs_tier_take(&tier, QS_ITEM_STATES, QS_POOL_PINNED);
    ck_assert(host >= (char *)tier.host.base && host < (char *)tier.host.base + tier.host.bytes);
    ck_assert(pinned >= (char *)tier.pinned.base && pinned < (char *)tier.pinned.base + tier.pinned.bytes);
    ck_assert_ptr_null(qs_tier_take(&tier, QS_ITEM_STATES, QS_POOL_DEVICE));
    ck_assert_ptr_null(
        qs_tier_take(&tier, QS_ITEM_GRADIENTS, QS_POOL_HOST)); /* an item of no bytes is no item */
}
END_TEST

START_TEST(an_arena_spans_its_region)
{
    begin(false);
    qs_arena a = qs_tier_arena(&tier, QS_ITEM_CHECKPOINTS, QS_POOL_HOST);
    ck_assert_uint_eq(a.capacity, 7 * PAGE);
    ck_assert_uint_eq(a.used, 0);
    ck_assert_ptr_nonnull(qs_arena_take(&a, 7 * PAGE, PAGE));
    a = qs_tier_arena(&tier, QS_ITEM_RING, QS_POOL_HOST);
    ck_assert_ptr_null(a.base);
    ck_assert_uint_eq(a.capacity, 0);
}
END_TEST

START_TEST(taking_twice_is_a_bug)
{
    begin(false);
    qs_tier_take(&tier, QS_ITEM_CHECKPOINTS, QS_POOL_HOST);
    qs_tier_take(&tier, QS_ITEM_CHECKPOINTS, QS_POOL_HOST);
}
END_TEST

START_TEST(leaving_an_item_out_is_a_bug)
{
    begin(false);
    for (int i = 1; i < plan.item_count; i++) qs_tier_take(&tier, plan.items[i].item, plan.items[i].pool);
    qs_tier_check(&tier);
}
END_TEST

START_TEST(memory_that_is_not_there_is_an_error)
{
    begin(false);
    qs_tier_close(&tier);
    plan.items[0].bytes += (uint64_t)1 << 50;
    plan.pool_bytes[plan.items[0].pool] += (uint64_t)1 << 50;
    uint64_t blocks = qs_mem_read().block_bytes;
    ck_assert_int_eq(qs_tier_open(device, &plan, &tier, &e), -QS_ENOMEM);
    ck_assert_uint_eq(qs_mem_read().block_bytes, blocks);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("tier");
    TCase *t = tcase_create("tier");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, regions_are_apart_and_fill_the_pools);
    tcase_add_test(t, a_region_is_found_by_its_name_and_pool);
    tcase_add_test(t, an_arena_spans_its_region);
    tcase_add_test(t, memory_that_is_not_there_is_an_error);
    tcase_add_test_raise_signal(t, taking_twice_is_a_bug, SIGABRT);
    tcase_add_test_raise_signal(t, leaving_an_item_out_is_a_bug, SIGABRT);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
