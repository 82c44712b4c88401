/* The CUDA device on the simulator: memory, budgets, ordering, refusals; and that the simulator notices what
 * it is there for. */
#include <check.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "kernels/ops.h"
#include "tests/cudasim/cudasim.h"
#include "tests/cudasim/faulty_kernels.h"

enum { N = 64, SEEDS = 100 };

static qs_device *open_with(cudasim_config config)
{
    qs_err e = {0};
    qs_device *d;
    cudasim_reset(&config);
    ck_assert_msg(qs_device_open("cuda", &d, &e) == 0, "%s", e.text);
    return d;
}

static void *alloc(qs_device *d, size_t bytes)
{
    qs_err e = {0};
    void *p;
    ck_assert_msg(d->api->alloc(d, bytes, &p, &e) == 0, "%s", e.text);
    return p;
}

/* x = x + x on the device: a kernel that reads and writes n numbers. */
static void twice(qs_device *d, float *x, int64_t n)
{
    qs_mat m = qs_mat_of(x, QS_F32, 1, n);
    qs_op_add(d, m, m, m);
}

static void close_clean(qs_device *d)
{
    qs_err e = {0};
    ck_assert_msg(d->api->check(d, &e) == 0, "%s", e.text);
    qs_device_close(d);
    cudasim_reset(&(cudasim_config){0}); /* dies on anything left over */
}

/* ---- opening, memory, budgets ------------------------------------------------------------------------ */

START_TEST(without_a_driver_there_is_no_device)
{
    qs_err e = {0};
    qs_device *d;
    cudasim_reset(&(cudasim_config){.no_device = true});
    ck_assert_int_eq(qs_device_cuda()->count(), 0);
    ck_assert_int_eq(qs_device_open("cuda", &d, &e), -QS_EUNSUP);
    ck_assert_msg(strstr(e.text, "no CUDA-capable device") && strstr(e.text, "--device cpu"), "%s", e.text);
    ck_assert_int_eq(qs_device_open("auto", &d, &e), 0);
    ck_assert_str_eq(d->api->name, "cpu");
    qs_device_close(d);
}
END_TEST

/* As where the program was compiled for other cards only. */
START_TEST(a_card_without_kernels_is_refused_at_open)
{
    qs_err e = {0};
    qs_device *d;
    cudasim_reset(&(cudasim_config){.no_kernel_image = true});
    ck_assert_int_eq(qs_device_open("cuda", &d, &e), -QS_ECUDA);
    ck_assert_msg(strstr(e.text, "CUDA_ARCHS"), "%s", e.text);
    cudasim_reset(&(cudasim_config){0});
}
END_TEST

START_TEST(describes_the_card)
{
    qs_device *d = open_with((cudasim_config){.arch = 75, .capacity_bytes = 512 << 20});
    ck_assert(!d->info.shared_memory && !d->info.bf16 && d->info.managed);
    ck_assert_uint_eq(d->info.total_bytes, 512 << 20);
    close_clean(d);
    d = open_with((cudasim_config){.arch = 90, .no_managed = true});
    ck_assert(d->info.bf16 && !d->info.managed);
    close_clean(d);
}
END_TEST

/* What cuBLAS loads for a type, it must have loaded before the memory is planned. */
START_TEST(every_type_is_multiplied_once_at_open)
{
    qs_device *d = open_with((cudasim_config){.arch = 75});
    ck_assert_uint_eq(cudasim_read().gemms, 2);
    close_clean(d);
    d = open_with((cudasim_config){.arch = 80});
    ck_assert_uint_eq(cudasim_read().gemms, 3);
    close_clean(d);
}
END_TEST

/* _i: with the management library, where it does not know this process, and without it. The context, which
 * exists before anything can be asked, counts. */
START_TEST(counts_everything_it_holds)
{
    enum { OTHERS = 100 << 20, CONTEXT = 32 << 20 };
    qs_device *d =
        open_with((cudasim_config){.no_nvml_processes = _i == 1, .no_nvml = _i == 2, .others_bytes = OTHERS});
    uint64_t before = d->api->used_bytes(d), held = cudasim_read().device_bytes + CONTEXT;
    ck_assert_uint_ge(d->info.overhead_bytes, before);
    ck_assert_uint_ge(before, held);
    if (_i < 2) ck_assert_uint_eq(before, held);
    ck_assert_uint_le(d->info.available_bytes, d->info.total_bytes);
    if (_i < 2) ck_assert_uint_eq(d->info.available_bytes, d->info.total_bytes - OTHERS);
    void *p = alloc(d, 100 << 20);
    ck_assert_uint_eq(d->api->used_bytes(d), before + (100 << 20));
    d->api->free(d, p);
    ck_assert_uint_eq(d->api->used_bytes(d), before + (100 << 20)); /* the peak */
    close_clean(d);
}
END_TEST

START_TEST(running_out_of_memory_is_an_error_that_passes)
{
    qs_err e = {0};
    void *p;
    qs_device *d = open_with((cudasim_config){.capacity_bytes = 256 << 20});
    ck_assert_int_eq(d->api->alloc(d, 300 << 20, &p, &e), -QS_ENOMEM);
    ck_assert_msg(strstr(e.text, "314572800") && strstr(e.text, "268435456"), "%s", e.text);
    p = alloc(d, 100 << 20);
    d->api->free(d, p);
    close_clean(d);
}
END_TEST

START_TEST(a_refused_page_lock_is_an_error_that_passes)
{
    qs_err e = {0};
    static char host[3 << 20];
    qs_device *d = open_with((cudasim_config){.pinned_limit_bytes = 2 << 20});
    ck_assert_int_eq(d->api->host_register(d, host, sizeof host, &e), -QS_ENOMEM);
    ck_assert_int_eq(d->api->host_register(d, host, 1 << 20, &e), 0);
    ck_assert_int_ne(d->api->host_register(d, host + 4096, 4096, &e), 0);
    ck_assert_uint_eq(cudasim_read().pinned_bytes, 1 << 20);
    d->api->host_unregister(d, host);
    close_clean(d);
}
END_TEST

START_TEST(managed_memory_is_prefetched_both_ways)
{
    qs_err e = {0};
    void *p;
    qs_device *d = open_with((cudasim_config){0});
    ck_assert_int_eq(d->api->managed_alloc(d, 1 << 20, &p, &e), 0);
    d->api->managed_prefetch(d, QS_QUEUE_IN, p, 1 << 20, true);
    d->api->managed_prefetch(d, QS_QUEUE_OUT, p, 4096, false);
    ck_assert_uint_eq(cudasim_read().prefetched_in_bytes, 0); /* queued, not done */
    d->api->queue_sync(d, QS_QUEUE_IN);
    d->api->queue_sync(d, QS_QUEUE_OUT);
    ck_assert_uint_eq(cudasim_read().prefetched_in_bytes, 1 << 20);
    ck_assert_uint_eq(cudasim_read().prefetched_out_bytes, 4096);
    float *x = p;
    x[3] = 2;
    twice(d, x, N); /* kernels and host share it */
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    ck_assert_float_eq(x[3], 4);
    d->api->managed_free(d, p);
    close_clean(d);

    d = open_with((cudasim_config){.no_managed = true});
    ck_assert_int_eq(d->api->managed_alloc(d, 1 << 20, &p, &e), -QS_EUNSUP);
    close_clean(d);
}
END_TEST

START_TEST(the_first_failure_of_queued_work_stays)
{
    qs_err e = {0};
    qs_device *d = open_with((cudasim_config){0});
    float *x = alloc(d, N * sizeof *x), host[N] = {0};
    d->api->fill(d, QS_QUEUE_COMPUTE, x, 0, N * sizeof *x);
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    faulty_kernel_launch(d, FAULTY_SHARED_TOO_LARGE, x);
    host[0] = 7;
    d->api->copy_out(d, QS_QUEUE_COMPUTE, host, x, N * sizeof *x); /* does nothing now */
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    ck_assert_float_eq(host[0], 7);
    ck_assert_int_eq(d->api->check(d, &e), -QS_ECUDA);
    ck_assert_msg(strstr(e.text, "faulty"), "%s", e.text);
    d->api->free(d, x);
    qs_device_close(d);
}
END_TEST

static void sync_all(qs_device *d) { d->api->queue_sync(d, QS_QUEUE_COMPUTE); }

/* ---- ordering ---------------------------------------------------------------------------------------- */

typedef enum ordering { ORDERED, FORGOTTEN_WAIT } ordering;

/* Copies a number in on one queue, doubles it on another, copies it out on a third: what arrives. */
static float through_three_queues(uint64_t seed, ordering o)
{
    qs_device *d = open_with((cudasim_config){.seed = seed, .drop_wait = o == FORGOTTEN_WAIT ? 1 : 0});
    const qs_device_api *api = d->api;
    float *x = alloc(d, sizeof *x), in = 21, out = 0;
    qs_event *arrived = api->event_create(d), *computed = api->event_create(d);
    api->copy_in(d, QS_QUEUE_IN, x, &in, sizeof in);
    api->event_record(d, arrived, QS_QUEUE_IN);
    api->event_wait(d, arrived, QS_QUEUE_COMPUTE);
    twice(d, x, 1);
    api->event_record(d, computed, QS_QUEUE_COMPUTE);
    api->event_wait(d, computed, QS_QUEUE_OUT);
    api->copy_out(d, QS_QUEUE_OUT, &out, x, sizeof out);
    api->queue_sync(d, QS_QUEUE_OUT);
    api->event_free(d, arrived);
    api->event_free(d, computed);
    api->free(d, x);
    close_clean(d);
    return out;
}

START_TEST(events_order_the_queues_under_every_seed)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) ck_assert_float_eq(through_three_queues(seed, ORDERED), 42);
}
END_TEST

START_TEST(a_forgotten_wait_shows_under_some_seed)
{
    int wrong = 0;
    for (uint64_t seed = 0; seed < SEEDS; seed++) wrong += through_three_queues(seed, FORGOTTEN_WAIT) != 42;
    ck_assert_int_gt(wrong, SEEDS / 10);
    ck_assert_int_lt(wrong, SEEDS);
}
END_TEST

START_TEST(asking_for_an_event_that_is_not_reached_is_no_failure)
{
    qs_device *d = open_with((cudasim_config){0});
    qs_event *event = d->api->event_create(d);
    float *x = alloc(d, N * sizeof *x);
    d->api->fill(d, QS_QUEUE_COMPUTE, x, 0, N * sizeof *x);
    for (int i = 0; i < 10; i++) d->api->fill(d, QS_QUEUE_IN, x, 0, N * sizeof *x);
    d->api->event_record(d, event, QS_QUEUE_IN);
    ck_assert(!d->api->event_done(d, event));
    twice(d, x, N); /* must not be blamed for it */
    sync_all(d);
    d->api->event_free(d, event);
    d->api->free(d, x);
    close_clean(d);
}
END_TEST

START_TEST(an_event_counts_from_its_last_record)
{
    qs_device *d = open_with((cudasim_config){0});
    qs_event *event = d->api->event_create(d);
    ck_assert(d->api->event_done(d, event)); /* never recorded: nothing to wait for */
    d->api->event_wait(d, event, QS_QUEUE_OUT);
    d->api->queue_sync(d, QS_QUEUE_OUT);
    float *x = alloc(d, sizeof *x), in = 1;
    for (int k = 0; k < 3; k++) {
        for (int i = 0; i < 10; i++) d->api->copy_in(d, QS_QUEUE_IN, x, &in, sizeof in);
        d->api->event_record(d, event, QS_QUEUE_IN);
        ck_assert(!d->api->event_done(d, event));
        int polls = 0;
        while (!d->api->event_done(d, event)) polls++;
        ck_assert_int_gt(polls, 0);
    }
    d->api->event_sync(d, event);
    ck_assert_uint_eq(cudasim_read().copies_in, 30 + 4); /* four tables at open */
    d->api->event_free(d, event);
    d->api->free(d, x);
    close_clean(d);
}
END_TEST

/* ---- what must not pass: each of these ends in a signal ---------------------------------------------- */

START_TEST(the_host_cannot_touch_device_memory)
{
    qs_device *d = open_with((cudasim_config){0});
    volatile float *x = alloc(d, N * sizeof *x);
    x[0] = 1;
}
END_TEST

START_TEST(a_kernel_cannot_take_a_host_pointer)
{
    static float x[N];
    twice(open_with((cudasim_config){0}), x, N);
}
END_TEST

START_TEST(a_small_overrun_is_found)
{
    qs_device *d = open_with((cudasim_config){0});
    float *x = alloc(d, (N - 1) * sizeof *x);
    twice(d, x, N);
    sync_all(d);
}
END_TEST

START_TEST(a_large_overrun_faults)
{
    qs_device *d = open_with((cudasim_config){0});
    float *x = alloc(d, N * sizeof *x);
    twice(d, x, 4096);
    sync_all(d);
}
END_TEST

START_TEST(freed_memory_cannot_be_used)
{
    qs_device *d = open_with((cudasim_config){0});
    float *x = alloc(d, N * sizeof *x);
    d->api->free(d, x);
    twice(d, x, N);
}
END_TEST

START_TEST(a_copy_must_stay_in_its_block)
{
    qs_device *d = open_with((cudasim_config){0});
    static char host[8192];
    d->api->copy_in(d, QS_QUEUE_IN, alloc(d, 100), host, 101);
}
END_TEST

/* Runs a faulty kernel; whether the 64 numbers came out reversed. */
static bool reverses(faulty_kernel which, uint64_t seed)
{
    qs_device *d = open_with((cudasim_config){.seed = seed});
    float *x = alloc(d, N * sizeof *x), host[N];
    for (int i = 0; i < N; i++) host[i] = (float)i;
    d->api->copy_in(d, QS_QUEUE_COMPUTE, x, host, sizeof host);
    faulty_kernel_launch(d, which, x);
    d->api->copy_out(d, QS_QUEUE_COMPUTE, host, x, sizeof host);
    sync_all(d);
    d->api->free(d, x);
    close_clean(d);
    bool right = true;
    for (int i = 0; i < N; i++) right = right && host[i] == (float)(N - 1 - i);
    return right;
}

START_TEST(barriers_order_threads)
{
    for (uint64_t seed = 0; seed < SEEDS; seed++) {
        ck_assert(reverses(FAULTY_NONE, seed));
        ck_assert(!reverses(FAULTY_NO_BARRIER, seed));
        ck_assert(!reverses(FAULTY_NO_COPY_WAIT, seed));
    }
}
END_TEST

START_TEST(a_barrier_that_some_threads_miss_dies) { reverses(FAULTY_HALF_BARRIER, 0); }
END_TEST
START_TEST(a_shuffle_that_some_lanes_miss_dies) { reverses(FAULTY_HALF_SHUFFLE, 0); }
END_TEST
START_TEST(writing_past_shared_memory_dies) { reverses(FAULTY_SHARED_OVERRUN, 0); }
END_TEST
START_TEST(rows_of_a_matrix_in_the_same_banks_die) { reverses(FAULTY_SHARED_BANKS, 0); }
END_TEST

int main(void)
{
    Suite *s = suite_create("cudasim_device");
    TCase *t = tcase_create("device");
    tcase_add_test(t, without_a_driver_there_is_no_device);
    tcase_add_test(t, a_card_without_kernels_is_refused_at_open);
    tcase_add_test(t, describes_the_card);
    tcase_add_test(t, every_type_is_multiplied_once_at_open);
    tcase_add_loop_test(t, counts_everything_it_holds, 0, 3);
    tcase_add_test(t, running_out_of_memory_is_an_error_that_passes);
    tcase_add_test(t, a_refused_page_lock_is_an_error_that_passes);
    tcase_add_test(t, managed_memory_is_prefetched_both_ways);
    tcase_add_test(t, the_first_failure_of_queued_work_stays);
    tcase_add_test(t, events_order_the_queues_under_every_seed);
    tcase_add_test(t, a_forgotten_wait_shows_under_some_seed);
    tcase_add_test(t, asking_for_an_event_that_is_not_reached_is_no_failure);
    tcase_add_test(t, an_event_counts_from_its_last_record);
    tcase_add_test(t, barriers_order_threads);
    tcase_add_test_raise_signal(t, the_host_cannot_touch_device_memory, SIGSEGV);
    tcase_add_test_raise_signal(t, a_kernel_cannot_take_a_host_pointer, SIGABRT);
    tcase_add_test_raise_signal(t, a_small_overrun_is_found, SIGABRT);
    tcase_add_test_raise_signal(t, a_large_overrun_faults, SIGSEGV);
    tcase_add_test_raise_signal(t, freed_memory_cannot_be_used, SIGABRT);
    tcase_add_test_raise_signal(t, a_copy_must_stay_in_its_block, SIGABRT);
    tcase_add_test_raise_signal(t, a_barrier_that_some_threads_miss_dies, SIGABRT);
    tcase_add_test_raise_signal(t, a_shuffle_that_some_lanes_miss_dies, SIGABRT);
    tcase_add_test_raise_signal(t, writing_past_shared_memory_dies, SIGABRT);
    tcase_add_test_raise_signal(t, rows_of_a_matrix_in_the_same_banks_die, SIGABRT);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
