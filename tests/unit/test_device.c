/* The device seam on the CPU: choosing a device by name, copies, and what the discrete mode refuses. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "kernels/ops.h"

static int open_named(const char *name, qs_err *e)
{
    qs_device *d;
    int rc = qs_device_open(name, &d, e);
    ck_assert((rc == 0) == (d != NULL));
    qs_device_close(d);
    return rc;
}

START_TEST(a_device_is_opened_by_name)
{
    qs_err e = {0};
    ck_assert_int_eq(open_named("cpu", &e), 0);
    ck_assert_int_eq(open_named("auto", &e), 0);
}
END_TEST

START_TEST(a_wrong_name_is_refused_with_the_right_ones)
{
    static const char *const wrong[] = {"", "gpu", "CPU", "cuda:", "cuda:x", "cuda:1x", "cuda:-1", "cpu:0"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        qs_err e = {0};
        ck_assert_int_eq(open_named(wrong[i], &e), -QS_EINVAL);
        ck_assert_msg(strstr(e.text, "auto, cpu, cuda or cuda:N") != NULL, "%s", e.text);
    }
}
END_TEST

START_TEST(asking_for_cuda_where_there_is_none_says_what_is_missing)
{
    qs_err e = {0};
    if (qs_device_cuda() && qs_device_cuda()->count() > 0) {
        printf("skip: this machine has a CUDA device\n");
        return;
    }
    ck_assert_int_eq(open_named("cuda", &e), -QS_EUNSUP);
    ck_assert_msg(strstr(e.text, qs_device_cuda() ? "driver" : "without CUDA") != NULL, "%s", e.text);
}
END_TEST

static qs_device *open_cpu(unsigned flags)
{
    qs_err e = {0};
    qs_device *d;
    ck_assert_msg(qs_device_cpu.open(0, flags, &d, &e) == 0, "%s", e.text);
    ck_assert(d->info.shared_memory == !(flags & QS_CPU_DISCRETE));
    ck_assert_int_gt(d->info.threads, 0);
    ck_assert_uint_gt(d->info.total_bytes, 0);
    return d;
}

static void *device_memory(qs_device *d, size_t bytes)
{
    qs_err e = {0};
    void *p;
    ck_assert_msg(d->api->alloc(d, bytes, &p, &e) == 0, "%s", e.text);
    ck_assert_uint_eq((uintptr_t)p % 256, 0);
    return p;
}

START_TEST(what_is_copied_in_comes_back)
{
    qs_device *d = open_cpu(_i ? QS_CPU_DISCRETE : 0);
    char there[1000], back[1000] = {0};
    for (size_t i = 0; i < sizeof there; i++) there[i] = (char)(i * 7);
    char *p = device_memory(d, 4096);
    d->api->fill(d, QS_QUEUE_COMPUTE, p, 0x5a, 4096);
    d->api->copy_in(d, QS_QUEUE_IN, p + 100, there, sizeof there);
    qs_event *event = d->api->event_create(d);
    d->api->event_record(d, event, QS_QUEUE_IN);
    d->api->event_wait(d, event, QS_QUEUE_OUT);
    d->api->copy_out(d, QS_QUEUE_OUT, back, p + 100, sizeof back);
    d->api->queue_sync(d, QS_QUEUE_OUT);
    ck_assert(d->api->event_done(d, event));
    ck_assert_mem_eq(there, back, sizeof there);
    d->api->copy_out(d, QS_QUEUE_OUT, back, p + 1100, 1);
    ck_assert_int_eq(back[0], 0x5a);
    ck_assert_uint_ge(d->api->used_bytes(d), 4096);
    d->api->event_free(d, event);
    d->api->free(d, p);
    ck_assert_uint_eq(d->api->used_bytes(d), 0);
    ck_assert_int_eq(d->api->check(d, NULL), 0);
    qs_device_close(d);
}
END_TEST

START_TEST(managed_memory_is_refused_with_a_reason)
{
    qs_device *d = open_cpu(0);
    qs_err e = {0};
    void *p;
    ck_assert(!d->info.managed);
    ck_assert_int_eq(d->api->managed_alloc(d, 64, &p, &e), -QS_EUNSUP);
    ck_assert_ptr_null(p);
    qs_device_close(d);
}
END_TEST

/* Each of these aborts: a forgotten copy, a copy the wrong way round, a range beyond the block, scratch that
 * is too small. */
static void count(void *n) { ++*(int *)n; }

/* Products, attention and dequantising call; what quantise on load does in that call must not. */
START_TEST(its_owner_is_called_after_every_long_operation)
{
    enum { N = 64 };
    static float a[N * N], c[N * N], lse[N], dense[N * N], d_o[N * N], dq[N * N], dk[N * N], dv[N * N];
    static uint8_t codes[N * N], absmax8[N];
    static float absmax[N], nested[N];
    static int32_t document[N];
    qs_err e = {0};
    int calls = 0;
    qs_device *d;
    void *workspace;
    size_t bytes = 8 << 20;
    ck_assert_int_eq(qs_device_open("cpu", &d, &e), 0);
    ck_assert_int_eq(d->api->alloc(d, bytes, &workspace, &e), 0);
    qs_device_set_workspace(d, workspace, bytes);
    qs_mat m = qs_mat_of(a, QS_F32, N, N), out = qs_mat_of(c, QS_F32, N, N);
    qs_gemm g = {.a = m, .b = m, .c = out, .alpha = 1};
    qs_attention at = {.q = m,
                       .k = m,
                       .v = m,
                       .o = out,
                       .lse = lse,
                       .document = document,
                       .heads = 1,
                       .kv_heads = 1,
                       .head_dim = N,
                       .scale = 1};
    qs_qtensor q = {.type = QS_QUANT_NF4, .n = N * N, .codes = codes, .absmax = absmax};
    for (int i = 0; i < N * N; i++) a[i] = (float)(i % 7) - 3;
    qs_op_gemm(d, &g); /* nobody is called */
    d->on_op_end = count;
    d->on_op_end_context = &calls;
    qs_op_gemm(d, &g);
    ck_assert_int_eq(calls, 1);
    qs_op_attention(d, &at);
    ck_assert_int_eq(calls, 2);
    qs_op_attention_backward(d, &at, qs_mat_of(d_o, QS_F32, N, N), qs_mat_of(dq, QS_F32, N, N),
                             qs_mat_of(dk, QS_F32, N, N), qs_mat_of(dv, QS_F32, N, N));
    ck_assert_int_eq(calls, 3);
    qs_op_dequantise4(d, &q, dense, QS_F32);
    ck_assert_int_eq(calls, 4);
    qs_op_quantise4(d, QS_QUANT_NF4, a, QS_F32, N * N, codes, absmax);
    qs_op_quantise_absmax(d, absmax, N, absmax8, nested, nested + 1);
    qs_op_convert(d, dense, QS_F32, a, QS_F32, N * N);
    ck_assert_int_eq(calls, 4);
    d->api->free(d, workspace);
    qs_device_close(d);
}
END_TEST

START_TEST(a_discrete_device_aborts_on_misuse)
{
    qs_device *d = open_cpu(QS_CPU_DISCRETE);
    char host[256] = {0}, *p = device_memory(d, 256);
    switch (_i) {
    case 0:
        qs_op_add(d, qs_mat_of(host, QS_F32, 1, 4), qs_mat_of(host, QS_F32, 1, 4),
                  qs_mat_of(host, QS_F32, 1, 4));
        break;
    case 1:
        d->api->copy_in(d, QS_QUEUE_IN, host, p, 16);
        break;
    case 2:
        d->api->copy_out(d, QS_QUEUE_OUT, p, p + 16, 16);
        break;
    case 3:
        d->api->copy_in(d, QS_QUEUE_IN, p, host, 1 << 20);
        break;
    default: {
        float *x = device_memory(d, 65536);
        qs_mat m = qs_mat_of(x, QS_F32, 8, 8);
        qs_op_gemm(d, &(qs_gemm){.a = m, .b = m, .c = qs_mat_of(x + 64, QS_F32, 8, 8), .alpha = 1});
    }
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("device");
    TCase *t = tcase_create("device");
    tcase_add_test(t, a_device_is_opened_by_name);
    tcase_add_test(t, a_wrong_name_is_refused_with_the_right_ones);
    tcase_add_test(t, asking_for_cuda_where_there_is_none_says_what_is_missing);
    tcase_add_loop_test(t, what_is_copied_in_comes_back, 0, 2);
    tcase_add_test(t, managed_memory_is_refused_with_a_reason);
    tcase_add_test(t, its_owner_is_called_after_every_long_operation);
    tcase_add_loop_test_raise_signal(t, a_discrete_device_aborts_on_misuse, SIGABRT, 0, 5);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
