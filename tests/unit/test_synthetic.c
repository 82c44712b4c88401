/* Synthetic models: the same bits however they are read, written or streamed; and shapes that count what was
 * published. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint_identity.h"
#include "io/file.h"
#include "io/synthetic.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/commands/synth.h"
#include "src/model/shapes.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

static qs_err e;
static char *dir;

static void setup(void) { dir = test_dir_create(); }
static void teardown(void) { test_dir_remove(dir); }

static qs_source *open_synthetic(const char *shape, uint64_t seed, int32_t layers)
{
    qs_architecture a;
    qs_source *s;
    ck_assert_msg(!qs_synth_write(shape, dir, seed, layers, &a, &e), "%s", e.text);
    ck_assert_msg(!qs_source_open(dir, &s, &e), "%s", e.text);
    ck_assert_msg(!qs_architecture_check(&a, s, &e), "%s", e.text);
    return s;
}

static void *read_part(qs_source *s, const qs_source_tensor *t, uint64_t offset, uint64_t bytes)
{
    void *buffer = aligned_alloc(4096, qs_source_buffer_bytes(bytes));
    qs_source_read r = {.tensor = t, .offset = offset, .bytes = bytes, .buffer = buffer};
    qs_source_read_start(s, NULL, &r);
    ck_assert_msg(!qs_source_read_finish(s, NULL, &r, &e), "%s", e.text);
    ck_assert_ptr_eq(r.data, buffer);
    return buffer;
}

START_TEST(bits_do_not_depend_on_how_a_tensor_is_cut)
{
    qs_source *s = open_synthetic("tiny", 3, 0);
    const qs_source_tensor *t = qs_source_find(s, "model.layers.1.mlp.down_proj.weight");
    ck_assert_ptr_nonnull(t);
    char *whole = read_part(s, t, 0, t->bytes);
    for (uint64_t i = 0; i < 200; i++) {
        uint64_t at = qs_random_u32(1, 1, i) % (t->bytes / 2) * 2, n = (qs_random_u32(1, 2, i) % 5000) * 2;
        if (n > t->bytes - at) n = t->bytes - at;
        char *part = read_part(s, t, at, n);
        ck_assert_msg(!memcmp(part, whole + at, n), "%llu bytes at %llu differ", (unsigned long long)n,
                      (unsigned long long)at);
        free(part);
    }
    free(whole);
    qs_source_close(s);
}
END_TEST

START_TEST(bits_are_pinned_on_every_machine)
{
    /* The formula of io/synthetic.c, one element at a time in plain integers. */
    qs_synthetic s = {.seed = 5, .std = 0.02f};
    qs_source_tensor t = {.name = "a.weight", .type = QS_BF16, .dims = 1, .shape = {64}, .bytes = 128};
    static const uint16_t expected[8] = {0x3d0a, 0xbd1f, 0x3bcc, 0xbbef, 0xbd45, 0xbb28, 0xbab1, 0xbcab};
    uint16_t out[64];
    qs_synthetic_generate(&s, &t, 0, sizeof out, out);
    for (int i = 0; i < 8; i++)
        ck_assert_msg(out[i] == expected[i], "element %d is 0x%04x, expected 0x%04x", i, out[i], expected[i]);
}
END_TEST

START_TEST(elements_have_the_stated_moments_and_norms_lie_around_one)
{
    qs_source *s = open_synthetic("tiny", 9, 0);
    static const struct {
        const char *name;
        double mean;
    } cases[] = {{"model.embed_tokens.weight", 0},
                 {"model.layers.0.mlp.up_proj.weight", 0},
                 {"model.norm.weight", 1},
                 {"model.layers.3.input_layernorm.weight", 1}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        const qs_source_tensor *t = qs_source_find(s, cases[c].name);
        uint16_t *data = read_part(s, t, 0, t->bytes);
        double n = (double)t->bytes / 2, sum = 0, squares = 0;
        for (uint64_t i = 0; i < t->bytes / 2; i++) {
            double x = qs_f32_of_bf16(data[i]) - cases[c].mean;
            sum += x;
            squares += x * x;
        }
        double std = sqrt(squares / n);
        ck_assert_msg(fabs(sum / n) < 5 * 0.02 / sqrt(n) + 1e-4, "%s: mean off by %g", cases[c].name,
                      sum / n);
        ck_assert_msg(fabs(std - 0.02) < 0.02 * 5 / sqrt(n) + 1e-4, "%s: deviation %g", cases[c].name, std);
        free(data);
    }
    qs_source_close(s);
}
END_TEST

START_TEST(seeds_and_names_give_other_weights_and_seeds_other_fingerprints)
{
    qs_source *s = open_synthetic("tiny", 1, 0);
    const qs_source_tensor *t = qs_source_find(s, "model.layers.0.self_attn.k_proj.weight");
    const qs_source_tensor *u = qs_source_find(s, "model.layers.0.self_attn.v_proj.weight");
    char *a = read_part(s, t, 0, t->bytes), *b = read_part(s, u, 0, u->bytes), first[33];
    strcpy(first, qs_source_fingerprint(s));
    qs_source_close(s);
    s = open_synthetic("tiny", 2, 0);
    t = qs_source_find(s, "model.layers.0.self_attn.k_proj.weight");
    char *c = read_part(s, t, 0, t->bytes);
    ck_assert_str_ne(qs_source_fingerprint(s), first);
    uint64_t n = t->bytes / 2, same_name = 0, same_seed = 0;
    for (uint64_t i = 0; i < n; i++) {
        same_name += !memcmp(a + 2 * i, c + 2 * i, 2);
        same_seed += !memcmp(a + 2 * i, b + 2 * i, 2);
    }
    ck_assert(same_name < n / 50 && same_seed < n / 50);
    qs_source_close(s);
    s = open_synthetic("tiny", 1, 0);
    ck_assert_str_eq(qs_source_fingerprint(s), first);
    qs_source_close(s);
    free(a);
    free(b);
    free(c);
}
END_TEST

START_TEST(safetensors_of_a_recipe_hold_the_same_bits_and_go_before_it)
{
    qs_source *s = open_synthetic("tiny", 4, 2), *files;
    ck_assert_msg(!qs_synth_weights(dir, &e), "%s", e.text);
    ck_assert_msg(!qs_source_open(dir, &files, &e), "%s", e.text);
    ck_assert_int_eq(qs_source_count(files), qs_source_count(s));
    ck_assert_msg(!qs_source_identify(files, NULL, &e), "%s", e.text);
    ck_assert_str_ne(qs_source_fingerprint(files), qs_source_fingerprint(s));
    qs_aio *aio;
    ck_assert(!qs_aio_open(&(qs_aio_config){0}, &aio, &e));
    for (int i = 0; i < qs_source_count(s); i++) {
        const qs_source_tensor *t = qs_source_at(s, i), *u = qs_source_at(files, i);
        ck_assert_str_eq(t->name, u->name);
        ck_assert_uint_eq(t->bytes, u->bytes);
        char *made = read_part(s, t, 0, t->bytes),
             *buffer = aligned_alloc(4096, qs_source_buffer_bytes(u->bytes));
        qs_source_read r = {.tensor = u, .bytes = u->bytes, .buffer = buffer};
        qs_source_read_start(files, aio, &r);
        ck_assert_msg(!qs_source_read_finish(files, aio, &r, &e), "%s", e.text);
        ck_assert_msg(!memcmp(made, r.data, t->bytes), "%s differs", t->name);
        free(made);
        free(buffer);
    }
    qs_aio_close(aio);
    qs_source_close(files);
    qs_source_close(s);
}
END_TEST

START_TEST(weights_of_a_large_shape_are_refused)
{
    qs_source_close(open_synthetic("llama-2-70b", 0, 0));
    ck_assert_int_eq(qs_synth_weights(dir, &e), -QS_EINVAL);
    ck_assert_msg(strstr(e.text, "128.48 GiB") != NULL, "%s", e.text);
}
END_TEST

START_TEST(damaged_recipes_are_refused_with_the_reason)
{
    static const struct {
        const char *text, *says;
        int code;
    } cases[] = {
        {"{\"format\": 2, \"tensors\": {\"a\": [1]}}", "format", QS_EUNSUP},
        {"{\"format\": 1}", "no tensors", QS_EFORMAT},
        {"{\"format\": 1, \"tensors\": {}}", "no tensors", QS_EFORMAT},
        {"{\"format\": 1, \"tensors\": {\"a\": [0]}}", "tensor a", QS_EFORMAT},
        {"{\"format\": 1, \"tensors\": {\"a\": [1, 2, 3]}}", "tensor a", QS_EFORMAT},
        {"{\"format\": 1, \"tensors\": {\"a\": 7}}", "tensor a", QS_EFORMAT},
        {"{\"format\": 1, \"tensors\": {\"a\": [1], \"a\": [2]}}", "duplicate", QS_EFORMAT},
        {"{\"format\": 1, \"seed\": -1, \"tensors\": {\"a\": [1]}}", "seed", QS_EFORMAT},
        {"{\"format\": 1, \"tensors\": {\"a\": [99999999999]}}", "tensor a", QS_EFORMAT},
        {"{\"format\": 1, \"ten", "JSON", QS_EFORMAT},
    };
    char *path = test_path(dir, QS_SYNTHETIC_NAME);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        qs_source *s;
        test_file_write(path, cases[i].text, strlen(cases[i].text));
        ck_assert_msg(qs_source_open(dir, &s, &e) == -cases[i].code, "%s: %s", cases[i].text, e.text);
        ck_assert_msg(strstr(e.text, cases[i].says) && strstr(e.text, QS_SYNTHETIC_NAME), "%s: %s",
                      cases[i].text, e.text);
    }
    qs_free(path);
}
END_TEST

/* ---- shapes ------------------------------------------------------------------------------------------ */

START_TEST(shapes_count_the_published_parameters)
{
    static const struct {
        const char *name;
        int64_t parameters;
    } published[] = {
        {"llama-2-7b", 6738415616},     {"llama-2-13b", 13015864320}, {"llama-2-70b", 68976648192},
        {"llama-3-8b", 8030261248},     {"llama-3-70b", 70553706496}, {"llama-3.1-405b", 405853388800},
        {"llama-3.2-1b", 1235814400},   {"llama-3.2-3b", 3212749824}, {"open-llama-3b", 3426473600},
        {"mistral-7b", 7241732096},     {"pythia-1.4b", 1414647808},  {"gpt-neox-20b", 20554567680},
        {"qwen2.5-7b", 7615616512},     {"qwen2.5-72b", 72706203648}, {"qwen3-8b", 8190735360},
        {"qwen3-32b", 32762123264},     {"gemma-3-4b", 3880263168},   {"gemma-3-12b", 11766034176},
        {"gemma-3-27b", 27009346304},   {"olmo-2-7b", 7298617344},    {"olmo-3-7b", 7298011136},
        {"smollm3-3b", 3075098624},     {"phi-3-mini", 3821079552},   {"phi-4", 14659507200},
        {"ministral-3-8b", 8489553920},
    };
    int shapes = 0;
    while (qs_shape_name(shapes)) shapes++;
    ck_assert_int_eq(shapes, 1 + (int)(sizeof published / sizeof *published)); /* and tiny */
    for (size_t i = 0; i < sizeof published / sizeof *published; i++) {
        qs_architecture a;
        qs_source *s = open_synthetic(published[i].name, 0, 0);
        int64_t elements = 0;
        for (int k = 0; k < qs_source_count(s); k++) elements += (int64_t)qs_source_at(s, k)->bytes / 2;
        qs_source_close(s);
        ck_assert(!qs_architecture_read(dir, &a, &e));
        ck_assert_msg(qs_architecture_parameters(&a) == published[i].parameters, "%s: %lld",
                      published[i].name, (long long)qs_architecture_parameters(&a));
        ck_assert_msg(elements == published[i].parameters, "%s: %lld elements", published[i].name,
                      (long long)elements);
    }
}
END_TEST

START_TEST(unknown_shapes_are_refused_with_the_known_ones)
{
    qs_shape s;
    ck_assert_int_eq(qs_shape_find("llama-9", &s, &e), -QS_EUSAGE);
    ck_assert(strstr(e.text, "llama-3-70b") && strstr(e.text, "tiny"));
}
END_TEST

/* ---- a whole run ------------------------------------------------------------------------------------- */

static void train_tiny(const char *out, const char *placement)
{
    test_words w = {0};
    static const char *const fixed[] = {"--data=tests/golden/llama/data.jsonl",
                                        "--lora_r=4",
                                        "--per_device_train_batch_size=2",
                                        "--gradient_accumulation_steps=2",
                                        "--max_seq_length=64",
                                        "--no-packing",
                                        "--quiet",
                                        "--report_to=none",
                                        "--max_steps=3",
                                        "--vram=64M",
                                        "--ram=96M"};
    test_words_add(&w, "--model=%s", dir);
    test_words_add(&w, "--out=%s/%s", dir, out);
    test_words_add(&w, "--cache=%s/cache-%s", dir, out);
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(&w, "%s", fixed[i]);
    if (placement) test_words_add(&w, "%s", placement);
    ck_assert_msg(!test_train(&w, &e), "%s", e.text);
    test_words_free(&w);
}

START_TEST(training_on_synthetic_weights_is_the_same_streamed_resident_and_from_files)
{
    qs_source_close(open_synthetic("tiny", 6, 0));
    train_tiny("resident", NULL);
    train_tiny("streamed", "--resident_layers=0");
    ck_assert_msg(!qs_synth_weights(dir, &e), "%s", e.text);
    train_tiny("files", NULL);
    char *a = test_path(dir, "resident/adapter_model.safetensors"),
         *b = test_path(dir, "streamed/adapter_model.safetensors"),
         *c = test_path(dir, "files/adapter_model.safetensors"), *out = test_path(dir, "streamed");
    ck_assert(test_same_file(a, b));
    ck_assert(test_same_file(a, c));
    test_row rows[8];
    ck_assert_int_eq(test_read_metrics(out, rows, 8), 3);
    ck_assert_msg(rows[0].loss > 5.5 && rows[0].loss < 8.5,
                  "the first loss is %g; a guess among 1024 tokens costs 6.93", rows[0].loss);
    qs_free(a);
    qs_free(b);
    qs_free(c);
    qs_free(out);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_WARN);
    Suite *suite = suite_create("synthetic");
    TCase *c = tcase_create("synthetic");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, bits_do_not_depend_on_how_a_tensor_is_cut);
    tcase_add_test(c, bits_are_pinned_on_every_machine);
    tcase_add_test(c, elements_have_the_stated_moments_and_norms_lie_around_one);
    tcase_add_test(c, seeds_and_names_give_other_weights_and_seeds_other_fingerprints);
    tcase_add_test(c, safetensors_of_a_recipe_hold_the_same_bits_and_go_before_it);
    tcase_add_test(c, weights_of_a_large_shape_are_refused);
    tcase_add_test(c, damaged_recipes_are_refused_with_the_reason);
    tcase_add_test(c, shapes_count_the_published_parameters);
    tcase_add_test(c, unknown_shapes_are_refused_with_the_known_ones);
    tcase_add_test(c, training_on_synthetic_weights_is_the_same_streamed_resident_and_from_files);
    suite_add_tcase(suite, c);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
