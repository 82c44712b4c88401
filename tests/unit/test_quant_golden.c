/* 4-bit quantisation, bit for bit against bitsandbytes' CPU path (tests/golden/quant.safetensors,
 * double_quant.safetensors), and the tables against the ones it ships. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "kernels/quant.h"
#include "src/base/memory.h"
#include "tests/support/golden.h"

static const char *const sets[] = {"n1",       "n2",   "n3",      "n63",     "n64",        "n65",    "n127",
                                   "n128",     "n129", "n191",    "n1023",   "n4096",      "n11025", "zero",
                                   "denormal", "huge", "tie_nf4", "tie_fp4", "signed_zero"};
static const char *const double_sets[] = {"b1",   "b2",   "b4",   "b255",  "b256",
                                          "b257", "wide", "tail", "equal", "near_mean"};
static const char *const types[] = {"f32", "bf16", "f16"};
static const qs_dtype dtypes[] = {QS_F32, QS_BF16, QS_F16};
static const char *const quants[] = {"nf4", "fp4"};
static const qs_quant_type quant_types[] = {QS_QUANT_NF4, QS_QUANT_FP4};
enum { SETS = sizeof sets / sizeof *sets, DOUBLE_SETS = sizeof double_sets / sizeof *double_sets };

static qs_device *open_cpu(void)
{
    qs_err e = {0};
    qs_device *d;
    ck_assert_msg(qs_device_open("cpu", &d, &e) == 0, "%s", e.text);
    return d;
}

/* A copy at an aligned address: safetensors promises none for 8-bit neighbours. */
static void *aligned(const golden *g, int64_t *n, size_t size, const char *name)
{
    const void *data = golden_data(g, n, "%s", name);
    void *copy = qs_malloc((size_t)*n * size);
    memcpy(copy, data, (size_t)*n * size);
    return copy;
}

static void check_codes(qs_device *d, const golden *g, const char *set, int t, int q)
{
    char name[64];
    int64_t n;
    snprintf(name, sizeof name, "%s.%s.x", set, types[t]);
    void *x = aligned(g, &n, qs_dtype_bytes(dtypes[t]), name);
    size_t bytes = (size_t)(n + 1) / 2, blocks = (size_t)qs_quant_blocks(n);
    uint8_t *codes = qs_malloc(bytes);
    float *absmax = qs_malloc(blocks * sizeof *absmax);
    qs_op_quantise4(d, quant_types[q], x, dtypes[t], n, codes, absmax);
    const char *key = golden_data(g, NULL, "%s.%s.%s.packed", set, types[t], quants[q]);
    for (size_t i = 0; i < bytes; i++)
        ck_assert_msg(codes[i] == (uint8_t)key[i], "%s %s %s: byte %zu is %02x, not %02x", set, types[t],
                      quants[q], i, codes[i], (uint8_t)key[i]);
    ck_assert_msg(!memcmp(absmax, golden_data(g, NULL, "%s.%s.%s.absmax", set, types[t], quants[q]),
                          blocks * sizeof *absmax),
                  "%s %s %s: absmax differs", set, types[t], quants[q]);
    qs_free(x);
    qs_free(codes);
    qs_free(absmax);
}

START_TEST(encoding_gives_the_bytes_of_bitsandbytes)
{
    golden g;
    golden_open(&g, "quant.safetensors");
    qs_device *d = open_cpu();
    for (int t = 0; t < 3; t++)
        for (int q = 0; q < 2; q++) check_codes(d, &g, sets[_i], t, q);
    qs_device_close(d);
    golden_close(&g);
}
END_TEST

/* Equal as numbers: the sign of a decoded zero is not defined. */
static void check_equal(const void *got, const void *want, qs_dtype type, int64_t n, const char *what)
{
    for (int64_t i = 0; i < n; i++)
        ck_assert_msg(qs_load_f32(got, type, (size_t)i) == qs_load_f32(want, type, (size_t)i),
                      "%s: element %lld is %.9g, not %.9g", what, (long long)i,
                      qs_load_f32(got, type, (size_t)i), qs_load_f32(want, type, (size_t)i));
}

static void check_decoded(qs_device *d, qs_qtensor q, const void *want, qs_dtype type, const char *what)
{
    void *out = qs_malloc((size_t)q.n * qs_dtype_bytes(type));
    qs_op_dequantise4(d, &q, out, type);
    check_equal(out, want, type, q.n, what);
    qs_free(out);
}

START_TEST(decoding_gives_the_values_of_bitsandbytes)
{
    golden g;
    golden_open(&g, "quant.safetensors");
    qs_device *d = open_cpu();
    for (int q = 0; q < 2; q++)
        for (int t = 0; t < 3; t++) {
            char key[64], name[128];
            int64_t n, blocks;
            snprintf(key, sizeof key, "%s.f32.%s", sets[_i], quants[q]);
            snprintf(name, sizeof name, "%s.absmax", key);
            float *absmax = aligned(&g, &blocks, sizeof *absmax, name);
            const void *want = golden_data(&g, &n, "%s.dq_%s", key, types[t]);
            qs_qtensor x = {.type = quant_types[q],
                            .n = n,
                            .codes = golden_data(&g, NULL, "%s.packed", key),
                            .absmax = absmax};
            check_decoded(d, x, want, dtypes[t], key);
            qs_free(absmax);
        }
    qs_device_close(d);
    golden_close(&g);
}
END_TEST

/* The second level: our encoder gives the nearest codes, and decodes what bitsandbytes wrote. */
START_TEST(double_quantisation_is_nearest_and_reads_what_bitsandbytes_writes)
{
    golden g;
    golden_open(&g, "double_quant.safetensors");
    qs_device *d = open_cpu();
    for (int q = 0; q < 2; q++) {
        char key[64], name[128];
        snprintf(key, sizeof key, "%s.%s", double_sets[_i], quants[q]);
        if (!golden_has(&g, "%s.absmax", key)) continue;
        int64_t blocks, groups, one;
        snprintf(name, sizeof name, "%s.absmax_f32", key);
        float *absmax = aligned(&g, &blocks, sizeof *absmax, name);
        snprintf(name, sizeof name, "%s.nearest_nested_absmax", key);
        float *want_nested = aligned(&g, &groups, sizeof *want_nested, name);
        snprintf(name, sizeof name, "%s.nearest_offset", key);
        float *want_offset = aligned(&g, &one, sizeof *want_offset, name);
        const uint8_t *want = golden_data(&g, NULL, "%s.nearest_absmax", key);
        uint8_t *codes = qs_malloc((size_t)blocks);
        float *nested = qs_malloc((size_t)groups * sizeof *nested), offset;
        qs_op_quantise_absmax(d, absmax, blocks, codes, nested, &offset);
        ck_assert_float_eq(offset, *want_offset);
        for (int64_t b = 0; b < blocks; b++) {
            ck_assert_float_eq(nested[b / QS_NESTED_BLOCK], want_nested[b / QS_NESTED_BLOCK]);
            if (nested[b / QS_NESTED_BLOCK] > 0)
                ck_assert_msg(codes[b] == want[b], "%s: code %lld is %d, not %d", key, (long long)b, codes[b],
                              want[b]);
        }
        /* decoding: weights made of one known code per block show the absmax itself */
        int64_t groups2;
        snprintf(name, sizeof name, "%s.nested_absmax", key);
        float *their_nested = aligned(&g, &groups2, sizeof *their_nested, name);
        snprintf(name, sizeof name, "%s.offset", key);
        float *their_offset = aligned(&g, &one, sizeof *their_offset, name);
        const float *decoded = golden_data(&g, NULL, "%s.absmax_dq", key);
        int64_t n = blocks * QS_QUANT_BLOCK;
        uint8_t *ones = qs_malloc((size_t)n / 2);
        memset(ones, q ? 0x33 : 0xff, (size_t)n / 2); /* the code of 1 */
        float *out = qs_malloc((size_t)n * sizeof *out);
        qs_qtensor x = {.type = quant_types[q],
                        .n = n,
                        .codes = ones,
                        .absmax8 = golden_data(&g, NULL, "%s.absmax", key),
                        .nested = their_nested,
                        .offset = their_offset};
        qs_op_dequantise4(d, &x, out, QS_F32);
        for (int64_t i = 0; i < n; i++) {
            float expected;
            memcpy(&expected, decoded + i / QS_QUANT_BLOCK, sizeof expected);
            ck_assert_float_eq(out[i], expected);
        }
        for (int t = 0; t < 3; t++) {
            if (!golden_has(&g, "%s.dq_%s", key, types[t])) continue;
            int64_t count;
            const void *values = golden_data(&g, &count, "%s.dq_%s", key, types[t]);
            x.codes = golden_data(&g, NULL, "%s.packed", key);
            x.n = count;
            check_decoded(d, x, values, dtypes[t], key);
        }
        void *all[] = {absmax,       want_nested,  want_offset, codes, nested,
                       their_nested, their_offset, ones,        out};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) qs_free(all[i]);
    }
    qs_device_close(d);
    golden_close(&g);
}
END_TEST

START_TEST(the_tables_are_those_of_bitsandbytes)
{
    golden g;
    golden_open(&g, "double_quant.safetensors");
    ck_assert_mem_eq(qs_dynamic_signed, golden_data(&g, NULL, "nested_quant_map"), sizeof qs_dynamic_signed);
    ck_assert_mem_eq(qs_dynamic_unsigned, golden_data(&g, NULL, "unsigned_quant_map"),
                     sizeof qs_dynamic_unsigned);
    check_equal(qs_code4_of(QS_QUANT_NF4)->value, golden_data(&g, NULL, "nf4_quant_map"), QS_F32, 16, "nf4");
    check_equal(qs_code4_of(QS_QUANT_FP4)->value, golden_data(&g, NULL, "fp4_quant_map"), QS_F32, 16, "fp4");
    golden_close(&g);
}
END_TEST

START_TEST(thresholds_are_midpoints_of_their_tables)
{
    for (int q = 0; q < 2; q++) {
        const qs_code4 *t = qs_code4_of(quant_types[q]);
        for (int k = 0; k < 15; k++)
            ck_assert_float_eq(t->midpoint[k], (t->value[t->order[k]] + t->value[t->order[k + 1]]) / 2);
    }
    const float *maps[] = {qs_dynamic_signed, qs_dynamic_unsigned},
                *above[] = {qs_dynamic_signed_above, qs_dynamic_unsigned_above};
    for (int m = 0; m < 2; m++)
        for (int k = 0; k < 255; k++) {
            float middle = (maps[m][k] + maps[m][k + 1]) * 0.5f, next = __builtin_nextafterf(above[m][k], 2);
            ck_assert_float_eq(k % 2 ? next : above[m][k], middle);
        }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("quant_golden");
    TCase *t = tcase_create("quant_golden");
    tcase_add_loop_test(t, encoding_gives_the_bytes_of_bitsandbytes, 0, SETS);
    tcase_add_loop_test(t, decoding_gives_the_values_of_bitsandbytes, 0, SETS);
    tcase_add_loop_test(t, double_quantisation_is_nearest_and_reads_what_bitsandbytes_writes, 0, DOUBLE_SETS);
    tcase_add_test(t, the_tables_are_those_of_bitsandbytes);
    tcase_add_test(t, thresholds_are_midpoints_of_their_tables);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
