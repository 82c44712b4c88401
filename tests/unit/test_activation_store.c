/* Behaviour of offload/activation_store: a checkpoint that was put is what is got, whatever order the queues
 * run in. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "offload/activation_store.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/lazy_device.h"
#include "tests/support/temp_dir.h"

enum { BYTES = 8192, MOST_LEVELS = 9, MOST_BATCHES = 5 };

typedef enum kind { UNIFIED, DISCRETE, LAZY, KINDS } kind;

static kind device_kind;
static qs_device *device;
static qs_activation_store *activation_store;
static qs_region host; /* all records */
static qs_pager *pager;
static qs_aio *aio; /* on disk */
static qs_page_list list;
static char *dir;
static void *device_memory;
static int32_t levels, micro_batches;
static uint64_t bytes[MOST_BATCHES];
static int wrong;
static qs_err e;

/* frames: of host memory; 0: one for each checkpoint. */
static void begin(kind k, uint64_t seed, int32_t l, int32_t mb, int32_t buffers, int32_t frames)
{
    device_kind = k;
    levels = l;
    micro_batches = mb;
    wrong = 0;
    if (frames <= 0 || frames > l * mb) frames = l * mb;
    if (k == LAZY)
        device = test_lazy_device(seed);
    else
        ck_assert_int_eq(qs_device_cpu.open(0, k == DISCRETE ? QS_CPU_DISCRETE : 0, &device, &e), 0);
    ck_assert_int_eq(qs_region_map(&host, (size_t)frames * BYTES, "checkpoints", &e), 0);
    memset(host.base, 0xff, host.bytes);
    if (!dir) dir = test_dir_create();
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD}, &aio, &e), 0);
    qs_pager_config p = {.device = device,
                         .records = l * mb,
                         .bytes = BYTES,
                         .memory = host.base,
                         .frames = frames,
                         .aio = aio,
                         .dir = dir,
                         .what = "checkpoints"};
    ck_assert_msg(!qs_pager_open(&p, &pager, &e), "%s", e.text);
    if (k != UNIFIED)
        ck_assert_int_eq(device->api->alloc(device, (size_t)buffers * BYTES, &device_memory, &e), 0);
    qs_activation_store_config c = {.device = device,
                                    .levels = l,
                                    .micro_batches = mb,
                                    .bytes = BYTES,
                                    .host = pager,
                                    .device_memory = device_memory,
                                    .buffers = buffers};
    qs_activation_store_open(&c, &activation_store);
    for (int32_t i = 0; i < mb; i++) qs_activation_store_set_bytes(activation_store, i, bytes[i] = BYTES);
}

static void end(void)
{
    qs_activation_store_close(activation_store);
    qs_pager_close(pager);
    qs_page_list_free(&list);
    qs_aio_close(aio);
    if (device && device_memory) device->api->free(device, device_memory);
    qs_device_close(device);
    qs_region_free(&host);
    activation_store = NULL;
    pager = NULL;
    aio = NULL;
    device = NULL;
    device_memory = NULL;
}

static void teardown(void)
{
    end();
    if (dir) test_dir_remove(dir);
    dir = NULL;
}

/* What host memory or the disk holds. */
static void check(void *p, int64_t tag);
static void check_on_host(int32_t level, int32_t mb, int64_t tag)
{
    int32_t r = level * micro_batches + mb;
    check(qs_pager_acquire(pager, r, QS_PAGE_READ), tag);
    qs_pager_release(pager, r, false, QS_QUEUE_COUNT);
}

/* ---- contents ---------------------------------------------------------------------------------------- */

/* A tag names one value of one checkpoint: step, gradient or not, level, micro-batch. */
static int64_t tag_of(int step, bool gradient, int32_t level, int32_t mb)
{
    return ((step * 2 + gradient) * 1000 + level) * 1000 + mb + 1;
}

static void fill(void *p, int64_t tag)
{
    uint64_t *w = p;
    for (uint64_t i = 0; i < bytes[tag % 1000 - 1] / 8; i++) w[i] = (uint64_t)tag * 0x9E3779B97F4A7C15u ^ i;
}

static void check(void *p, int64_t tag)
{
    const uint64_t *w = p;
    for (uint64_t i = 0; i < bytes[tag % 1000 - 1] / 8; i++)
        if (w[i] != ((uint64_t)tag * 0x9E3779B97F4A7C15u ^ i)) {
            wrong++;
            return;
        }
}

static void kernel(void (*run)(void *, int64_t), void *p, int64_t tag)
{
    if (device_kind == LAZY)
        test_lazy_kernel(device, run, p, tag);
    else
        run(p, tag);
}

static void sync(void)
{
    for (int q = 0; q < QS_QUEUE_COUNT; q++) device->api->queue_sync(device, (qs_queue)q);
}

/* ---- a step of the sweep ----------------------------------------------------------------------------- */

static uint64_t draws;
static uint32_t below(uint32_t n) { return qs_random_u32(5, 2, draws++) % n; }

/* Hints at random, right and wrong ones. */
static void hint(void)
{
    while (!below(3))
        qs_activation_store_expect(activation_store, (int32_t)below((uint32_t)levels),
                                   (int32_t)below((uint32_t)micro_batches));
}

static void embed(int step, int32_t mb)
{
    fill(qs_activation_store_host(activation_store, 0, mb), tag_of(step, false, 0, mb));
    qs_activation_store_host_written(activation_store, 0, mb);
}

static void forward(int step, int32_t l, int32_t mb)
{
    void *x = qs_activation_store_get(activation_store, l, mb),
         *y = qs_activation_store_new(activation_store, l + 1, mb);
    if (mb + 1 < micro_batches) qs_activation_store_expect(activation_store, l, mb + 1);
    kernel(check, x, tag_of(step, false, l, mb));
    kernel(fill, y, tag_of(step, false, l + 1, mb));
    hint();
    kernel(check, x, tag_of(step, false, l, mb));
    qs_activation_store_put(activation_store, l, mb, false);
    qs_activation_store_put(activation_store, l + 1, mb, true);
}

static void head(int step, int32_t mb)
{
    void *x = qs_activation_store_get(activation_store, levels - 1, mb);
    kernel(check, x, tag_of(step, false, levels - 1, mb));
    kernel(fill, x, tag_of(step, true, levels - 1, mb));
    qs_activation_store_put(activation_store, levels - 1, mb, true);
}

static void backward(int step, int32_t l, int32_t mb, bool changed)
{
    void *g = qs_activation_store_get(activation_store, l + 1, mb),
         *x = qs_activation_store_get(activation_store, l, mb);
    if (mb + 1 < micro_batches) qs_activation_store_expect(activation_store, l, mb + 1);
    kernel(check, g, tag_of(step, true, l + 1, mb));
    kernel(check, x, tag_of(step, false, l, mb));
    if (changed) kernel(fill, x, tag_of(step, true, l, mb));
    hint();
    kernel(check, g, tag_of(step, true, l + 1, mb));
    qs_activation_store_put(activation_store, l + 1, mb, false);
    qs_activation_store_put(activation_store, l, mb, changed);
}

static int64_t tick;
static bool listing;
static int32_t present; /* micro-batches of a short step */

/* The next tick: one micro-batch in one visit, with its one or two checkpoints. When listing, says what it
 * will use; otherwise whether it takes place. */
static bool next(int32_t mb, int32_t level, qs_page_use use, int32_t other_level, qs_page_use other_use)
{
    if (listing) {
        qs_page_list_add(&list, tick, level * micro_batches + mb, use);
        if (other_level >= 0) qs_page_list_add(&list, tick, other_level * micro_batches + mb, other_use);
    } else if (mb < present)
        qs_pager_at(pager, tick);
    tick++;
    return !listing && mb < present;
}

/* The micro-batches [first, last) through all levels; layers below `lowest` are not trained. */
static void sweep(int step, int32_t lowest, int32_t first, int32_t last)
{
    for (int32_t mb = first; mb < last; mb++)
        if (next(mb, 0, QS_PAGE_NEW, -1, QS_PAGE_READ)) embed(step, mb);
    for (int32_t l = 0; l + 1 < levels; l++)
        for (int32_t mb = first; mb < last; mb++)
            if (next(mb, l, QS_PAGE_READ, l + 1, QS_PAGE_NEW)) forward(step, l, mb);
    for (int32_t mb = first; mb < last; mb++)
        if (next(mb, levels - 1, QS_PAGE_CHANGE, -1, QS_PAGE_READ)) head(step, mb);
    for (int32_t l = levels - 2; l >= lowest; l--)
        for (int32_t mb = first; mb < last; mb++)
            if (next(mb, l + 1, QS_PAGE_READ, l, l > lowest ? QS_PAGE_CHANGE : QS_PAGE_READ))
                backward(step, l, mb, l > lowest);
}

static void sweeps(int step, int32_t lowest, int32_t group)
{
    tick = 0;
    for (int32_t first = 0; first < micro_batches; first += group)
        sweep(step, lowest, first, first + group < micro_batches ? first + group : micro_batches);
}

/* A step as the pager hears of it: in sweeps of `group` micro-batches. */
static void list_step(int32_t lowest, int32_t group)
{
    qs_page_list_free(&list);
    listing = true;
    sweeps(0, lowest, group);
    listing = false;
    qs_page_list_finish(&list, levels * micro_batches, tick);
}

/* A step of the first n micro-batches. */
static void walk_listed(int step, int32_t lowest, int32_t group, int32_t n)
{
    present = n;
    qs_pager_begin(pager, &list);
    sweeps(step, lowest, group);
    sync();
    ck_assert_msg(!qs_pager_check(pager, &e), "%s", e.text);
}

static void walk(int step, int32_t lowest, int32_t group)
{
    list_step(lowest, group);
    walk_listed(step, lowest, group, micro_batches);
}

START_TEST(a_sweep_sees_its_own_checkpoints)
{
    int reordered = 0; /* runs; the smallest sweeps may have but one legal order */
    for (uint64_t seed = 0; seed < 60; seed++)
        for (int k = 0; k < KINDS; k++) {
            if (k != LAZY && seed > 10) continue;
            int32_t most_level = 2 + (int32_t)below(MOST_LEVELS - 1),
                    batches = 1 + (int32_t)below(MOST_BATCHES); /* in this order with every compiler */
            int32_t buffers = QS_ACTIVATION_BUFFERS + (int32_t)below(3), frames = 3 + (int32_t)below(30);
            begin((kind)k, seed, most_level, batches, buffers, frames);
            for (int step = 0; step < 3; step++) {
                for (int32_t mb = 0; mb < micro_batches; mb++)
                    qs_activation_store_set_bytes(activation_store, mb,
                                                  bytes[mb] = 8 * (1 + below(BYTES / 8)));
                int32_t lowest = (int32_t)below((uint32_t)levels),
                        group = 1 + (int32_t)below((uint32_t)micro_batches);
                list_step(lowest, group);
                walk_listed(step, lowest, group,
                            below(2) ? micro_batches : 1 + (int32_t)below((uint32_t)micro_batches));
            }
            ck_assert_int_eq(wrong, 0);
            reordered += k == LAZY && test_lazy_reordered(device) > 0;
            end();
        }
    ck_assert_int_ge(reordered, 50);
}
END_TEST

/* Gets, news and puts in any order, up to the number of buffers at once. */
START_TEST(any_order_of_uses_sees_the_last_value)
{
    for (uint64_t seed = 0; seed < 40; seed++)
        for (int k = 0; k < KINDS; k++) {
            begin((kind)k, seed, 4, 3, QS_ACTIVATION_BUFFERS, seed % 2 ? 5 : 0);
            int64_t value[4][3] = {{0}}; /* the tag, 0: none yet */
            struct {
                int32_t level, mb;
                void *p;
            } open[QS_ACTIVATION_BUFFERS];
            int n = 0;
            for (int i = 0; i < 300; i++) {
                int32_t level = (int32_t)below(4), mb = (int32_t)below(3);
                bool held = false;
                for (int j = 0; j < n; j++) held |= open[j].level == level && open[j].mb == mb;
                hint();
                if (n < QS_ACTIVATION_BUFFERS && !held && below(2)) {
                    bool is_new = !value[level][mb] || !below(3);
                    void *p = is_new ? qs_activation_store_new(activation_store, level, mb)
                                     : qs_activation_store_get(activation_store, level, mb);
                    if (is_new)
                        kernel(fill, p, value[level][mb] = tag_of(i, true, level, mb));
                    else
                        kernel(check, p, value[level][mb]);
                    open[n].level = level;
                    open[n].mb = mb;
                    open[n++].p = p;
                    if (is_new) { /* at least once changed */
                        qs_activation_store_put(activation_store, level, mb, true);
                        n--;
                    }
                } else if (n) {
                    int j = (int)below((uint32_t)n);
                    int64_t *v = &value[open[j].level][open[j].mb];
                    bool changed = below(2);
                    kernel(check, open[j].p, *v);
                    if (changed) kernel(fill, open[j].p, *v = tag_of(i, false, open[j].level, open[j].mb));
                    qs_activation_store_put(activation_store, open[j].level, open[j].mb, changed);
                    open[j] = open[--n];
                }
            }
            while (n) {
                n--;
                qs_activation_store_put(activation_store, open[n].level, open[n].mb, false);
            }
            sync();
            for (int32_t l = 0; l < 4; l++) /* and host memory has it all */
                for (int32_t mb = 0; mb < 3; mb++)
                    if (value[l][mb]) check_on_host(l, mb, value[l][mb]);
            ck_assert_int_eq(wrong, 0);
            end();
        }
}
END_TEST

/* Of each micro-batch only its rows cross the link: a level once each way in the forward pass, but what is
 * still in a buffer is not fetched. */
START_TEST(only_real_rows_cross_the_link)
{
    begin(DISCRETE, 0, 3, 1, QS_ACTIVATION_BUFFERS, 0);
    qs_activation_store_set_bytes(activation_store, 0, bytes[0] = 800);
    draws = 1; /* no hints below: one micro-batch, all in buffers */
    embed(0, 0);
    void *x = qs_activation_store_get(activation_store, 0, 0),
         *y = qs_activation_store_new(activation_store, 1, 0);
    kernel(check, x, tag_of(0, false, 0, 0));
    kernel(fill, y, tag_of(0, false, 1, 0));
    qs_activation_store_put(activation_store, 0, 0, false);
    qs_activation_store_put(activation_store, 1, 0, true);
    ck_assert_uint_eq(qs_activation_store_link_bytes(activation_store),
                      2 * 800); /* level 0 in, level 1 out */
    x = qs_activation_store_get(activation_store, 1, 0);
    kernel(check, x, tag_of(0, false, 1, 0));
    qs_activation_store_put(activation_store, 1, 0, false);
    ck_assert_uint_eq(qs_activation_store_link_bytes(activation_store), 2 * 800);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

START_TEST(a_unified_device_copies_nothing)
{
    begin(UNIFIED, 0, 4, 2, 0, 0);
    for (int step = 0; step < 2; step++) walk(step, 0, micro_batches);
    ck_assert_uint_eq(qs_activation_store_link_bytes(activation_store), 0);
    ck_assert_ptr_eq(qs_activation_store_get(activation_store, 2, 1),
                     (char *)host.base + (2 * 2 + 1) * BYTES);
    ck_assert_int_eq(wrong, 0);
}
END_TEST

START_TEST(nothing_is_allocated_in_a_step)
{
    for (int k = 0; k < KINDS; k++) {
        begin((kind)k, 3, 5, 3, QS_ACTIVATION_BUFFERS, 7);
        list_step(0, micro_batches);
        uint64_t before = qs_mem_read().calls;
        walk_listed(0, 0, micro_batches, micro_batches);
        ck_assert_uint_eq(qs_mem_read().calls, before);
        end();
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("activation_store");
    TCase *t = tcase_create("activation_store");
    tcase_add_checked_fixture(t, NULL, teardown);
    tcase_add_test(t, a_sweep_sees_its_own_checkpoints);
    tcase_add_test(t, any_order_of_uses_sees_the_last_value);
    tcase_add_test(t, only_real_rows_cross_the_link);
    tcase_add_test(t, a_unified_device_copies_nothing);
    tcase_add_test(t, nothing_is_allocated_in_a_step);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
