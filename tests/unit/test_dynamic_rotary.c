/* Dynamic rotary scaling follows each micro-batch's own longest document, whatever else is in the step or
 * came before it. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { SHORT = 10, LONG = 44 }; /* tokens; the model was trained on 16 */

static char *dir;

static void setup(void)
{
    char command[1024];
    dir = test_dir_create();
    snprintf(command, sizeof command,
             "cp -r tests/golden/llama_yarn/model %s/model && sed -i '/rope_scaling/,/}/d' "
             "%s/model/config.json && "
             "sed -i 's/\"max_position_embeddings\": [0-9]*/\"rope_scaling\": {\"type\": \"dynamic\", "
             "\"factor\": 4.0}, \"max_position_embeddings\": 16/' "
             "%s/model/config.json",
             dir, dir, dir);
    ck_assert(!system(command));
}
static void teardown(void) { test_dir_remove(dir); }

static void write_rows(const char *name, int first, int second)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s.jsonl", dir, name);
    FILE *f = fopen(path, "w");
    ck_assert(f != NULL);
    const int tokens[2] = {first, second};
    for (int r = 0; r < 2 && tokens[r]; r++) {
        fprintf(f, "{\"input_ids\": [1");
        for (int i = 1; i < tokens[r]; i++) fprintf(f, ", %d", 4 + (i * 7 + tokens[r]) % 90);
        fprintf(f, "]}\n");
    }
    ck_assert(!fclose(f));
}

/* The first step's loss; of `rows` micro-batches. */
static double first_loss(const char *name, int rows, const char *device)
{
    qs_err e = {0};
    test_words w = {0};
    char out[512];
    test_row row[4];
    test_words_add(&w, "--model=%s/model", dir);
    test_words_add(&w, "--data=%s/%s.jsonl", dir, name);
    test_words_add(&w, "--device=%s", device);
    test_words_add(&w, "--out=%s/%s-%s", dir, name, device);
    test_words_add(&w, "--cache=%s/cache", dir);
    static const char *const more[] = {
        "--vram=64M",           "--ram=64M",        "--quiet",          "--report_to=none",
        "--compute_dtype=fp32", "--no-shuffle",     "--no-packing",     "--per_device_train_batch_size=1",
        "--max_steps=1",        "--warmup_steps=0", "--warmup_ratio=0", "--lr_scheduler_type=constant",
        "--max_seq_length=64"};
    for (size_t i = 0; i < sizeof more / sizeof *more; i++) test_words_add(&w, "%s", more[i]);
    test_words_add(&w, "--gradient_accumulation_steps=%d", rows);
    ck_assert_msg(!test_train(&w, &e), "%s", e.text);
    test_words_free(&w);
    snprintf(out, sizeof out, "%s/%s-%s", dir, name, device);
    ck_assert_int_ge(test_read_metrics(out, row, 4), 1);
    return row[0].loss;
}

/* _i: 0 on shared memory, 1 with copies. */
START_TEST(a_short_text_beside_a_long_one_has_the_loss_it_has_alone)
{
    const char *device = _i ? "cpu:discrete" : "cpu";
    write_rows("short", SHORT, 0);
    write_rows("long", LONG, 0);
    write_rows("both", LONG, SHORT);
    double is_short = first_loss("short", 1, device), is_long = first_loss("long", 1, device),
           both = first_loss("both", 2, device);
    double want = (is_short * (SHORT - 1) + is_long * (LONG - 1)) / (SHORT + LONG - 2);
    ck_assert_msg(fabs(both - want) < 1e-6 * want, "%.9f together, %.9f apart", both, want);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("dynamic_rotary");
    TCase *t = tcase_create("rotary");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_loop_test(t, a_short_text_beside_a_long_one_has_the_loss_it_has_alone, 0, 2);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
