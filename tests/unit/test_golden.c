/* Golden training: logits, first gradients and twenty optimizer steps against transformers + peft +
 * bitsandbytes (tests/golden/README.md).
 *
 * fp32: every loss within 1e-5 relative, adapters within 1e-4 absolute. bf16 and fp16: losses within 1e-2
 * relative. */
#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/safetensors.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/train/engine.h"
#include "tests/support/packs.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

static const char *const cases[] = {
    "llama", "mistral", "qwen2", "qwen3",      "llama_yarn", "gpt_neox", "gpt_neox_serial", "olmo2",
    "olmo3", "smollm3", "phi3",  "ministral3", "gemma",      "gemma2",   "gemma3",          "lora_patterns"};
enum { CASES = sizeof cases / sizeof *cases, STEPS = 20 };

static void case_dir(int i, char path[256]) { snprintf(path, 256, "tests/golden/%s", cases[i]); }

/* QS_TEST_DEVICE=cuda runs the same on a GPU, whose context alone needs more (tests/gpu/run.sh). */
static void add_budget(test_words *w, const char *root)
{
    const char *device = getenv("QS_TEST_DEVICE");
    test_words_add(w, "--vram=%s", device ? "2G" : "256M");
    test_words_add(w, "--ram=256M");
    test_words_add(w, "--quiet");
    test_words_add(w, "--device=%s", device ? device : "cpu");
    test_words_add(w, "--report_to=none");
    test_words_add(w, "--cache=%s/cache", root);
    test_words_add(w, "--out=%s/out", root);
}

static json_t *expected_of(const char *dir, const char *which, json_t **root)
{
    char path[512];
    json_error_t why;
    snprintf(path, sizeof path, "%s/train.json", dir);
    *root = json_load_file(path, 0, &why);
    ck_assert_msg(*root != NULL, "%s: %s", path, why.text);
    return json_object_get(json_object_get(*root, "expected"), which);
}

static void compare_run(int i, const char *compute, const char *which, double loss_bound,
                        double adapter_bound)
{
    char dir[256], adapter[600], golden[512];
    qs_err e = {0};
    test_words w = {0};
    char *tmp = test_dir_create();
    case_dir(i, dir);
    test_words_golden(&w, dir);
    add_budget(&w, tmp);
    test_words_add(&w, "--compute_dtype=%s", compute);
    ck_assert_msg(!test_train(&w, &e), "%s: %s", dir, e.text);

    char out[512];
    snprintf(out, sizeof out, "%s/out", tmp);
    test_row rows[STEPS + 4];
    int n = test_read_metrics(out, rows, STEPS + 4);
    json_t *root, *expected = expected_of(dir, which, &root);
    ck_assert_int_eq(n, STEPS);
    double worst = 0, worst_norm = 0;
    for (int s = 0; s < STEPS; s++) {
        json_t *want = json_array_get(expected, (size_t)s);
        double loss = json_number_value(json_object_get(want, "loss")),
               norm = json_number_value(json_object_get(want, "grad_norm"));
        double off = fabs(rows[s].loss - loss) / loss, norm_off = fabs(rows[s].grad_norm - norm) / norm;
        if (off > worst) worst = off;
        if (norm_off > worst_norm) worst_norm = norm_off;
        ck_assert_double_eq_tol(rows[s].learning_rate,
                                json_number_value(json_object_get(want, "learning_rate")), 1e-12);
        ck_assert_msg(off <= loss_bound, "%s %s step %d: loss %.9f, expected %.9f (relative %.2e)", dir,
                      compute, s + 1, rows[s].loss, loss, off);
    }
    double difference = 0;
    if (adapter_bound > 0) {
        snprintf(adapter, sizeof adapter, "%s/adapter_model.safetensors", out);
        snprintf(golden, sizeof golden, "%s/final_adapter.safetensors", dir);
        difference = test_adapter_difference(adapter, golden);
        ck_assert_msg(difference <= adapter_bound, "%s: adapters differ by %.2e", dir, difference);
    }
    printf("%-10s %s: losses within %.1e, gradient norms within %.1e, adapters within %.1e\n", cases[i],
           compute, worst, worst_norm, difference);
    json_decref(root);
    test_words_free(&w);
    test_dir_remove(tmp);
}

START_TEST(twenty_fp32_steps_follow_the_reference) { compare_run(_i, "fp32", "fp32", 1e-5, 1e-4); }
END_TEST

START_TEST(twenty_bf16_steps_stay_near_the_reference) { compare_run(_i, "bf16", "bf16", 1e-2, 0); }
END_TEST

START_TEST(twenty_fp16_steps_stay_near_the_reference) { compare_run(_i, "fp16", "fp32", 1e-2, 0); }
END_TEST

/* ---- logits ------------------------------------------------------------------------------------------ */

static float *read_tensor(const char *path, const char *name, int64_t *n)
{
    qs_err e = {0};
    qs_safetensors s;
    ck_assert_msg(!qs_safetensors_open(path, &s, &e), "%s", e.text);
    float *out = NULL;
    for (int i = 0; i < s.count; i++) {
        if (strcmp(s.tensors[i].name, name)) continue;
        *n = 1;
        for (int d = 0; d < s.tensors[i].dims; d++) *n *= s.tensors[i].shape[d];
        out = qs_malloc((size_t)*n * sizeof(float));
        if (!strcmp(name, "input_ids")) { /* I32, not a weight */
            FILE *f = fopen(path, "r");
            ck_assert(f && !fseek(f, (long)s.tensors[i].offset, SEEK_SET) &&
                      fread(out, 4, (size_t)*n, f) == (size_t)*n);
            fclose(f);
        } else {
            ck_assert_msg(!qs_safetensors_read_f32(path, &s.tensors[i], out, *n, &e), "%s", e.text);
        }
    }
    ck_assert_msg(out != NULL, "%s has no tensor %s", path, name);
    qs_safetensors_free(&s);
    return out;
}

/* An engine on a golden case, started. */
typedef struct fixture {
    char dir[256], *tmp;
    test_words words;
    qs_options options;
    qs_engine engine;
} fixture;

static void start(fixture *f, int i, bool quantised)
{
    qs_err e = {0};
    *f = (fixture){.tmp = test_dir_create()};
    case_dir(i, f->dir);
    test_words_golden(&f->words, f->dir);
    add_budget(&f->words, f->tmp);
    test_words_add(&f->words, "--compute_dtype=fp32");
    if (!quantised) test_words_add(&f->words, "--quant_type=none");
    ck_assert_msg(!qs_options_parse(&f->options, f->words.count, f->words.word, NULL, 0, &e), "%s", e.text);
    ck_assert_msg(!qs_engine_prepare(&f->options, NULL, NULL, &f->engine, &e), "%s", e.text);
    ck_assert_msg(!qs_engine_start(&f->engine, &e), "%s", e.text);
}

static void stop(fixture *f)
{
    qs_engine_close(&f->engine);
    qs_options_free(&f->options);
    test_words_free(&f->words);
    test_dir_remove(f->tmp);
}

/* Logits of the first sequence; quantised or not, with the initial adapter or with one that does nothing. */
static void compare_logits(int i, bool quantised, bool adapter, const char *name)
{
    enum { TOKENS = 24 };
    char path[512];
    qs_err e = {0};
    fixture f;
    start(&f, i, quantised);
    if (!adapter) test_packs_set(&f.engine.lora, f.engine.masters, 0);

    int64_t n;
    snprintf(path, sizeof path, "%s/logits.safetensors", f.dir);
    float *raw_ids = read_tensor(path, "input_ids", &n);
    const int32_t *ids = (const int32_t *)(const void *)raw_ids;
    float *want = read_tensor(path, name, &n);
    qs_micro_batch *b = qs_sweep_batch(f.engine.sweep, 0);
    b->tokens = TOKENS;
    b->documents = 1;
    b->targets = 1;
    for (int t = 0; t < TOKENS; t++) {
        b->ids[t] = ids[t];
        b->target[t] = t ? -1 : 0;
        b->positions[t] = t;
        b->document_start[t] = 0;
    }
    b->offsets[0] = 0;
    b->offsets[1] = TOKENS;
    float *got = qs_malloc((size_t)TOKENS * (size_t)f.engine.architecture.vocab * sizeof(float));
    ck_assert_msg(!qs_sweep_logits(f.engine.sweep, 0, TOKENS, got, &e), "%s", e.text);
    double worst = 0;
    for (int64_t k = 0; k < (int64_t)TOKENS * f.engine.architecture.vocab; k++) {
        double d = fabs((double)got[k] - want[k]);
        if (!(d <= worst)) worst = d;
    }
    printf("%-10s %s: logits within %.1e\n", cases[i], name, worst);
    ck_assert_msg(worst <= 2e-4, "%s: %s differ by %.2e", f.dir, name, worst);
    qs_free(raw_ids);
    qs_free(want);
    qs_free(got);
    stop(&f);
}

/* ---- gradients --------------------------------------------------------------------------------------- */

static void compare_gradient(const fixture *f, const float *gradients, const char *path, int32_t layer,
                             int linear, bool b, double *worst)
{
    const qs_lora *l = &f->engine.lora;
    const qs_lora_slot *s = &qs_lora_of_layer(l, layer)->slot[linear];
    char name[256], module[QS_TENSOR_NAME];
    int64_t n;
    snprintf(name, sizeof name, "base_model.model.%s.%d.%s.lora_%c.weight", l->a->names.blocks, layer,
             qs_tensor_module(&qs_architecture_layer(l->a, layer)->tensor[linear], module), b ? 'B' : 'A');
    float *want = read_tensor(path, name, &n);
    const float *got = gradients + layer * l->pack_floats + (b ? s->b_at : s->a_at);
    ck_assert_int_eq(n, (int64_t)s->r * (b ? s->out : s->in));
    double most = 0, off = 0;
    for (int64_t k = 0; k < n; k++) {
        if (fabs(want[k]) > most) most = fabs(want[k]);
        if (!(fabs((double)got[k] - want[k]) <= off)) off = fabs((double)got[k] - want[k]);
    }
    ck_assert_msg(off <= 1e-5 * most + 1e-7, "%s: %s differs by %.2e of %.2e", f->dir, name, off, most);
    if (most > 0 && off / most > *worst) *worst = off / most;
    qs_free(want);
}

START_TEST(gradients_of_the_first_step)
{
    char path[512];
    qs_err e = {0};
    fixture f;
    qs_step_info info;
    qs_sweep_result result;
    double worst = 0;
    start(&f, _i, true);
    snprintf(path, sizeof path, "%s/first_gradients.safetensors", f.dir);
    ck_assert_msg(!qs_engine_fill_step(&f.engine, 0, &info, &e), "%s", e.text);
    ck_assert_msg(!qs_sweep_train(f.engine.sweep, info.micro_batches, 0, 1, &result, &e), "%s", e.text);
    float *gradients = test_packs_read(&f.engine.lora, f.engine.gradients);
    for (int32_t layer = 0; layer < f.engine.lora.layers; layer++)
        for (int i = 0; i < QS_TENSORS_MAX && f.engine.lora.layer_mask[layer]; i++) {
            if (!qs_lora_of_layer(&f.engine.lora, layer)->slot[i].active) continue;
            compare_gradient(&f, gradients, path, layer, i, false, &worst);
            compare_gradient(&f, gradients, path, layer, i, true, &worst);
        }
    qs_free(gradients);
    printf("%-10s first gradients within %.1e of each tensor's largest\n", cases[_i], worst);
    stop(&f);
}
END_TEST

START_TEST(logits_of_the_plain_model) { compare_logits(_i, false, false, "logits"); }
END_TEST
START_TEST(logits_of_the_quantised_model)
{
    bool plain =
        !strcmp(cases[_i], "qwen3") || !strcmp(cases[_i], "gemma2") || !strcmp(cases[_i], "gpt_neox_serial");
    if (!plain) compare_logits(_i, true, false, "logits_quantised"); /* the others are plain LoRA */
}
END_TEST
START_TEST(logits_with_the_adapter) { compare_logits(_i, true, true, "logits_adapter"); }
END_TEST

/* ---- packing ----------------------------------------------------------------------------------------- */

/* The loss of one step over the first `documents` rows, one row a micro-batch. */
static double loss_of_documents(const char *dir, const char *tmp, const char *name, int documents,
                                bool packing)
{
    char path[512], line[65536];
    qs_err e = {0};
    test_words w = {0};
    test_row rows[4];
    snprintf(path, sizeof path, "%s/data.jsonl", dir);
    FILE *all = fopen(path, "r");
    snprintf(path, sizeof path, "%s/some.jsonl", tmp);
    FILE *some = fopen(path, "w");
    ck_assert(all && some);
    for (int i = 0; i < documents && fgets(line, sizeof line, all); i++) fputs(line, some);
    fclose(all);
    fclose(some);
    test_words_golden(&w, dir);
    add_budget(&w, tmp);
    for (int i = 0; i < w.count; i++)
        if (!strncmp(w.word[i], "--data=", 7)) { /* instead of the case's data, not beside it */
            qs_free(w.word[i]);
            w.word[i] = qs_printf("--data=%s", path);
        }
    test_words_add(&w, "--out=%s/%s", tmp, name);
    test_words_add(&w, "--compute_dtype=fp32");
    test_words_add(&w, "--max_steps=1");
    test_words_add(&w, "--per_device_train_batch_size=1");
    test_words_add(&w, "--gradient_accumulation_steps=%d", documents);
    test_words_add(&w, packing ? "--packing" : "--no-packing");
    ck_assert_msg(!test_train(&w, &e), "%s", e.text);
    snprintf(path, sizeof path, "%s/%s", tmp, name);
    ck_assert_int_eq(test_read_metrics(path, rows, 4), 1);
    test_words_free(&w);
    return rows[0].loss;
}

START_TEST(packed_documents_have_the_loss_of_single_ones)
{
    static const char *const names[] = {"llama", "mistral"};
    char dir[256], *tmp = test_dir_create();
    json_error_t why;
    json_t *root = json_load_file("tests/golden/packing.json", 0, &why),
           *want = json_object_get(root, names[_i]);
    ck_assert(want != NULL);
    snprintf(dir, sizeof dir, "tests/golden/%s", names[_i]);
    int documents = (int)json_integer_value(json_object_get(want, "documents"));
    double expected = json_number_value(json_object_get(want, "loss"));
    double single = loss_of_documents(dir, tmp, "single", documents, false),
           packed = loss_of_documents(dir, tmp, "packed", documents, true);
    printf("%-10s packed %.9f, single %.9f, reference %.9f\n", names[_i], packed, single, expected);
    ck_assert(fabs(packed - single) <= 1e-6 * single);
    ck_assert(fabs(packed - expected) <= 1e-6 * expected);
    json_decref(root);
    test_dir_remove(tmp);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_WARN);
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("golden");
    TCase *t = tcase_create("golden"), *f16 = tcase_create("fp16"); /* CK_RUN_CASE=fp16 runs these alone */
    tcase_add_loop_test(t, logits_of_the_plain_model, 0, CASES);
    tcase_add_loop_test(t, logits_of_the_quantised_model, 0, CASES);
    tcase_add_loop_test(t, logits_with_the_adapter, 0, CASES);
    tcase_add_loop_test(t, gradients_of_the_first_step, 0, CASES);
    tcase_add_loop_test(t, twenty_fp32_steps_follow_the_reference, 0, CASES);
    tcase_add_loop_test(t, twenty_bf16_steps_stay_near_the_reference, 0, CASES);
    /* Not the last one, lora_patterns: in fp16 on a card its first step overflows at the first loss scale and
     * is skipped, which the reference knows nothing of. */
    tcase_add_loop_test(f16, twenty_fp16_steps_stay_near_the_reference, 0, CASES - 1);
    tcase_add_loop_test(t, packed_documents_have_the_loss_of_single_ones, 0, 2);
    suite_add_tcase(s, t);
    suite_add_tcase(s, f16);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
