/* AdamW against PyTorch and bitsandbytes, five steps from a common start
 * (tests/golden/optimizer.safetensors). */
#include <check.h>
#include <math.h>
#include <string.h>

#include "kernels/ops.h"
#include "src/base/memory.h"
#include "tests/support/golden.h"

enum { STEPS = 5 };

static qs_adamw hyper(int64_t step)
{
    return (qs_adamw){.learning_rate = 1e-3,
                      .beta1 = 0.9,
                      .beta2 = 0.999,
                      .eps = 1e-8,
                      .weight_decay = 0.01,
                      .step = step,
                      .gradient_scale = 1};
}

typedef struct state {
    qs_device *d;
    golden g;
    int64_t n;
    float *p, *gradient, *m, *v, *m_absmax, *v_absmax;
    uint8_t *m8, *v8;
} state;

static void begin(state *s, int64_t n)
{
    qs_err e = {0};
    ck_assert_int_eq(qs_device_open("cpu", &s->d, &e), 0);
    golden_open(&s->g, "optimizer.safetensors");
    s->n = n;
    size_t bytes = (size_t)n * sizeof(float);
    float **arrays[] = {&s->p, &s->gradient, &s->m, &s->v, &s->m_absmax, &s->v_absmax};
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++) *arrays[k] = qs_calloc(1, bytes);
    s->m8 = qs_calloc(1, (size_t)n);
    s->v8 = qs_calloc(1, (size_t)n);
    memcpy(s->p, golden_data(&s->g, NULL, "start_%lld", (long long)n), bytes);
}

static void load_gradient(state *s, int step)
{
    const char *all = golden_data(&s->g, NULL, "grad_%lld", (long long)s->n);
    size_t bytes = (size_t)s->n * sizeof(float);
    memcpy(s->gradient, all + (size_t)step * bytes, bytes);
}

/* Parameters after a step, within a relative error (of 0.01 where they are smaller: they came from there). */
static void check_parameters(const state *s, const char *key, int step, float relative)
{
    const char *all = golden_data(&s->g, NULL, "%s.param", key);
    for (int64_t i = 0; i < s->n; i++) {
        float want;
        memcpy(&want, all + ((size_t)step * (size_t)s->n + (size_t)i) * sizeof want, sizeof want);
        ck_assert_msg(fabsf(s->p[i] - want) <= relative * fmaxf(fabsf(want), 1e-2f),
                      "%s: step %d, element %lld is %.9g, not %.9g", key, step, (long long)i, s->p[i], want);
    }
}

static void end(state *s)
{
    void *all[] = {s->p, s->gradient, s->m, s->v, s->m_absmax, s->v_absmax, s->m8, s->v8};
    for (size_t k = 0; k < sizeof all / sizeof *all; k++) qs_free(all[k]);
    golden_close(&s->g);
    qs_device_close(s->d);
}

/* The libraries may fuse a multiply and an add where we round twice: a few units in the last place after five
 * steps. */
static void follow_32bit(qs_adamw_rule rule, const char *key)
{
    state s;
    begin(&s, 300);
    for (int step = 0; step < STEPS; step++) {
        qs_adamw h = hyper(step + 1);
        load_gradient(&s, step);
        qs_op_adamw(s.d, rule, &h, s.p, s.gradient, s.m, s.v, s.n);
        check_parameters(&s, key, step, 3e-7f);
    }
    end(&s);
}

START_TEST(adamw_follows_pytorch) { follow_32bit(QS_ADAMW_TORCH, "adamw_torch_300"); }
END_TEST
START_TEST(adamw_follows_bitsandbytes) { follow_32bit(QS_ADAMW_BNB, "adamw_32bit_cuda_300"); }
END_TEST

START_TEST(adamw_8bit_follows_bitsandbytes_to_the_code)
{
    const char *key = "adamw_8bit_cuda_4133";
    state s;
    begin(&s, 4133);
    for (int step = 0; step < STEPS; step++) {
        qs_adamw h = hyper(step + 1);
        load_gradient(&s, step);
        qs_op_adamw8(s.d, &h, s.p, s.gradient, s.m8, s.v8, s.m_absmax, s.v_absmax, s.n);
        check_parameters(
            &s, key, step,
            3e-7f); /* the square root of the library that made these is not always the nearest number */
    }
    size_t blocks = (size_t)(s.n + 255) / 256;
    ck_assert_mem_eq(s.m8, golden_data(&s.g, NULL, "%s.state1", key), (size_t)s.n);
    ck_assert_mem_eq(s.v8, golden_data(&s.g, NULL, "%s.state2", key), (size_t)s.n);
    ck_assert_mem_eq(s.m_absmax, golden_data(&s.g, NULL, "%s.absmax1", key), blocks * sizeof(float));
    ck_assert_mem_eq(s.v_absmax, golden_data(&s.g, NULL, "%s.absmax2", key), blocks * sizeof(float));
    end(&s);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("optimizer_golden");
    TCase *t = tcase_create("optimizer_golden");
    tcase_add_test(t, adamw_follows_pytorch);
    tcase_add_test(t, adamw_follows_bitsandbytes);
    tcase_add_test(t, adamw_8bit_follows_bitsandbytes_to_the_code);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
