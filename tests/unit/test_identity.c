/* Streaming and stopping change no bit: the same job with every placement, engine, order and interruption
 * gives the same losses and the same adapter, compared byte by byte. Dropout, accumulation, both precisions
 * and 8-bit states are in. */
#include <check.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "tests/support/small_llama.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

enum { MAX_ROWS = 64 };

/* The golden model has two layers. Where packs of more must come and go: DIR/model, with seven. */
static bool deep;
static void make_deep_model(const char *dir)
{
    char *path = test_path(dir, "model");
    qs_err e = {0};
    ck_assert_int_eq(qs_dir_create(path, &e), 0);
    test_llama_write(
        path,
        &(test_llama){
            .hidden = 64, .ffn = 160, .layers = 7, .heads = 4, .vocab = 97, .rows = 40, .row_tokens = 30});
    qs_free(path);
    deep = true;
}

static const char *model = "llama"; /* the golden one */

/* The job: a small model with options of our own, `steps` long. */
static void job(test_words *w, const char *dir, const char *out, int steps)
{
    static const char *const fixed[] = {"--lora_r=4",
                                        "--lora_dropout=0.1",
                                        "--learning_rate=0.003",
                                        "--per_device_train_batch_size=2",
                                        "--gradient_accumulation_steps=3",
                                        "--max_seq_length=64",
                                        "--no-packing",
                                        "--warmup_steps=2",
                                        "--quiet",
                                        "--report_to=none",
                                        "--mlp_chunk_tokens=48",
                                        "--head_chunk_tokens=32",
                                        "--seed=7"};
    if (deep) {
        test_words_add(w, "--model=%s/model", dir);
        test_words_add(w, "--data=%s/model/data.jsonl", dir);
    } else {
        test_words_add(w, "--model=tests/golden/%s/model", model);
        test_words_add(w, "--data=tests/golden/%s/data.jsonl", model);
    }
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(w, "%s", fixed[i]);
    test_words_add(w, "--max_steps=%d", steps);
    test_words_add(w, "--out=%s/%s", dir, out);
}

static void budgets(test_words *w, const char *dir, const char *cache)
{
    test_words_add(w, "--vram=64M");
    test_words_add(w, "--ram=96M");
    test_words_add(w, "--cache=%s/%s", dir, cache);
}

static void train(const test_words *w)
{
    qs_err e = {0};
    ck_assert_msg(!test_train(w, &e), "%s", e.text);
}

static void same(const char *dir, const char *a, const char *b)
{
    static const char *const names[] = {"adapter_model.safetensors"};
    char x[512], y[512];
    test_row p[MAX_ROWS], q[MAX_ROWS];
    snprintf(x, sizeof x, "%s/%s", dir, a);
    snprintf(y, sizeof y, "%s/%s", dir, b);
    int n = test_read_metrics(x, p, MAX_ROWS), m = test_read_metrics(y, q, MAX_ROWS);
    ck_assert_int_eq(n, m);
    for (int i = 0; i < n; i++)
        ck_assert_msg(p[i].step == q[i].step && !memcmp(&p[i].loss, &q[i].loss, sizeof(double)) &&
                          !memcmp(&p[i].grad_norm, &q[i].grad_norm, sizeof(double)),
                      "%s and %s part at step %d: loss %.17g and %.17g", a, b, (int)p[i].step, p[i].loss,
                      q[i].loss);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(x, sizeof x, "%s/%s/%s", dir, a, names[i]);
        snprintf(y, sizeof y, "%s/%s/%s", dir, b, names[i]);
        ck_assert_msg(test_same_file(x, y), "%s and %s left different adapters", a, b);
    }
}

/* One run with these further words, its own output directory `name` and the cache directory `cache`. */
static void variant(const char *dir, const char *name, const char *cache, int steps, const char *const *more)
{
    test_words w = {0};
    job(&w, dir, name, steps);
    budgets(&w, dir, cache);
    for (; *more; more++) test_words_add(&w, "%s", *more);
    train(&w);
    test_words_free(&w);
}
#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})

static const char *const precision[] = {"--compute_dtype=fp32", "--compute_dtype=bf16"};
static const char *const optimizer[] = {"--optim=paged_adamw_32bit", "--optim=adamw_8bit"};

START_TEST(placement_changes_no_bit)
{
    const char *p = precision[_i], *o = optimizer[_i];
    char *dir = test_dir_create();
    variant(dir, "resident", "a", 6, WITH(p, o));
    variant(dir, "streamed", "b", 6, WITH(p, o, "--resident_layers=0"));
    same(dir, "resident", "streamed");
    variant(dir, "streamed-again", "b", 6, WITH(p, o, "--resident_layers=0")); /* the cache is warm now */
    same(dir, "resident", "streamed-again");
    variant(dir, "some", "b", 6, WITH(p, o, "--resident_layers=1", "--stream_slots=2"));
    same(dir, "resident", "some");
    variant(dir, "recomputed", "b", 6, WITH(p, o, "--keep_layers=0"));
    same(dir, "resident", "recomputed");
    variant(dir, "one-kept", "b", 6, WITH(p, o, "--keep_layers=1", "--order=micro-batch-major"));
    same(dir, "resident", "one-kept");
    variant(dir, "kept-in-ram", "b", 6,
            WITH(p, o, "--keep_layers=2", "--keep_in_ram=1", "--resident_layers=0"));
    same(dir, "resident", "kept-in-ram");
    variant(dir, "uring", "c", 6, WITH(p, o, "--resident_layers=0", "--io_engine=uring"));
    variant(dir, "pread", "d", 6, WITH(p, o, "--resident_layers=0", "--io_engine=pread"));
    same(dir, "resident", "uring");
    same(dir, "resident", "pread");
    variant(dir, "small", "b", 6, WITH(p, o, "--vram=4M", "--ram=40M", "--stream_slots=2"));
    same(dir, "resident", "small");
    test_dir_remove(dir);
}
END_TEST

/* Tensors of several chunks, made at their turn or ahead of it, in one place or another, beside any device:
 * the cache has the same bytes. */
START_TEST(the_layer_cache_has_the_same_bytes_however_its_blobs_were_made)
{
    static const char *const how[][3] = {{"--stream_slots=3"},
                                         {"--resident_layers=0", "--stream_slots=2", "--io_engine=pread"},
                                         {"--resident_layers=1", "--stream_slots=2", "--io_engine=uring"},
                                         {"--device=cpu:discrete", "--stream_slots=3"}};
    char *dir = test_dir_create(), *path = test_path(dir, "model");
    qs_err e = {0};
    ck_assert_int_eq(qs_dir_create(path, &e), 0);
    test_llama_write(
        path,
        &(test_llama){
            .hidden = 768, .ffn = 6144, .layers = 2, .heads = 12, .vocab = 97, .rows = 8, .row_tokens = 30});
    deep = true;
    for (size_t i = 0; i < sizeof how / sizeof *how; i++) {
        char cache[8], first[512], other[512];
        test_words w = {0};
        snprintf(cache, sizeof cache, "c%zu", i);
        job(&w, dir, cache + 1, 1);
        test_words_add(&w, "--cache=%s/%s", dir, cache);
        test_words_add(&w, "--vram=256M");
        test_words_add(&w, "--ram=256M");
        for (int k = 0; k < 3 && how[i][k]; k++) test_words_add(&w, "%s", how[i][k]);
        train(&w);
        test_words_free(&w);
        snprintf(first, sizeof first, "%s/c0/blobs.bin", dir);
        snprintf(other, sizeof other, "%s/%s/blobs.bin", dir, cache);
        ck_assert_msg(test_same_file(first, other), "%s", other);
        same(dir, "0", cache + 1);
    }
    qs_free(path);
    test_dir_remove(dir);
}
END_TEST

/* Parallel residual or not, a fused q k v, no gate, norms behind the parts, layers that differ: what is kept
 * and what is formed again is other than Llama's. */
static const char *const other_families[] = {"gpt_neox",     "gpt_neox_serial", "olmo2", "olmo3",  "smollm3",
                                             "phi3",         "ministral3",      "gemma", "gemma2", "gemma3",
                                             "lora_patterns"};
enum { OTHER_FAMILIES = sizeof other_families / sizeof *other_families };

START_TEST(placement_of_other_families_changes_no_bit)
{
    const char *p = precision[_i % 2];
    model = other_families[_i];
    char *dir = test_dir_create();
    variant(dir, "resident", "a", 4, WITH(p));
    variant(dir, "recomputed", "a", 4, WITH(p, "--keep_layers=0"));
    same(dir, "resident", "recomputed");
    variant(dir, "one-kept", "a", 4, WITH(p, "--keep_layers=1", "--order=micro-batch-major"));
    same(dir, "resident", "one-kept");
    variant(dir, "streamed", "a", 4, WITH(p, "--resident_layers=0", "--device=cpu:discrete"));
    same(dir, "resident", "streamed");
    test_dir_remove(dir);
    model = "llama";
}
END_TEST

START_TEST(a_discrete_device_changes_no_bit)
{
    const char *p = precision[_i], *o = optimizer[_i];
    char *dir = test_dir_create();
    variant(dir, "resident", "a", 6, WITH(p, o));
    variant(dir, "copied", "a", 6, WITH(p, o, "--device=cpu:discrete"));
    same(dir, "resident", "copied");
    variant(dir, "recomputed", "a", 6, WITH(p, o, "--device=cpu:discrete", "--keep_layers=0"));
    same(dir, "resident", "recomputed");
    variant(dir, "kept-in-ram", "a", 6, WITH(p, o, "--device=cpu:discrete", "--keep_in_ram=100"));
    same(dir, "resident", "kept-in-ram");
    variant(dir, "kept-in-both", "a", 6,
            WITH(p, o, "--device=cpu:discrete", "--keep_in_ram=1", "--order=micro-batch-major"));
    same(dir, "resident", "kept-in-both");
    variant(dir, "streamed", "a", 6,
            WITH(p, o, "--device=cpu:discrete", "--resident_layers=0", "--stream_slots=2"));
    same(dir, "resident", "streamed");
    variant(dir, "reordered", "a", 6,
            WITH(p, o, "--device=cpu:discrete", "--resident_layers=1", "--order=micro-batch-major"));
    same(dir, "resident", "reordered");
    test_dir_remove(dir);
}
END_TEST

START_TEST(layer_major_and_micro_batch_major_are_the_same_sums)
{
    const char *p = precision[_i], *o = optimizer[_i];
    char *dir = test_dir_create();
    variant(dir, "layers", "a", 6, WITH(p, o));
    variant(dir, "batches", "a", 6, WITH(p, o, "--order=micro-batch-major"));
    same(dir, "layers", "batches");
    variant(dir, "batches-streamed", "a", 6, WITH(p, o, "--order=micro-batch-major", "--resident_layers=0"));
    same(dir, "layers", "batches-streamed");
    test_dir_remove(dir);
}
END_TEST

/* Bytes that the last step of a run wrote to disk. */
static int64_t bytes_written(const char *dir, const char *name)
{
    char path[512], line[4096];
    int64_t bytes = -1;
    snprintf(path, sizeof path, "%s/%s/metrics.jsonl", dir, name);
    FILE *f = fopen(path, "r");
    ck_assert_ptr_nonnull(f);
    while (fgets(line, sizeof line, f)) {
        const char *at = strstr(line, "\"disk_write_bytes\":");
        if (at) bytes = strtoll(at + strlen("\"disk_write_bytes\":"), NULL, 10);
    }
    fclose(f);
    return bytes;
}

/* Adapters, gradients and states, then checkpoints, then both pass through scratch files; in any number of
 * sweeps. */
START_TEST(paging_changes_no_bit)
{
    const char *p = precision[_i % 2], *o = optimizer[_i % 2];
    static const char *const device[] = {"--device=cpu", "--device=cpu:discrete"};
    const char *d = device[_i / 2], *adapters = "--adapters_on=disk", *checkpoints = "--checkpoints_on=disk";
    char *dir = test_dir_create();
    make_deep_model(dir);
    variant(dir, "resident", "a", 6, WITH(p, o));
    ck_assert_int_eq(bytes_written(dir, "resident"), 0);
    variant(dir, "adapters", "a", 6, WITH(p, o, d, adapters, "--resident_layers=0"));
    same(dir, "resident", "adapters");
    ck_assert_int_gt(bytes_written(dir, "adapters"), 0);
    variant(dir, "checkpoints", "a", 6, WITH(p, o, d, checkpoints));
    same(dir, "resident", "checkpoints");
    ck_assert_int_gt(bytes_written(dir, "checkpoints"), 0);
    variant(dir, "both", "a", 6,
            WITH(p, o, d, adapters, checkpoints, "--io_engine=pread", "--stream_slots=2"));
    same(dir, "resident", "both");
    variant(dir, "two-sweeps", "a", 6, WITH(p, o, d, "--sweeps_per_step=2"));
    same(dir, "resident", "two-sweeps");
    variant(dir, "two-sweeps-paged", "a", 6,
            WITH(p, o, d, adapters, checkpoints, "--sweeps_per_step=2", "--resident_layers=1"));
    same(dir, "resident", "two-sweeps-paged");
    variant(dir, "usual-loop-paged", "a", 6,
            WITH(p, o, d, adapters, checkpoints, "--order=micro-batch-major"));
    same(dir, "resident", "usual-loop-paged");
    test_dir_remove(dir);
}
END_TEST

START_TEST(validation_passes_through_scratch_files_too)
{
    char *dir = test_dir_create();
    make_deep_model(dir);
    static const char *const eval[] = {"--val_set_size=5", "--eval_steps=2"};
    variant(dir, "resident", "a", 4, WITH("--compute_dtype=fp32", eval[0], eval[1]));
    variant(dir, "paged", "a", 4,
            WITH("--compute_dtype=fp32", eval[0], eval[1], "--adapters_on=disk", "--checkpoints_on=disk",
                 "--sweeps_per_step=2"));
    same(dir, "resident", "paged");
    test_dir_remove(dir);
}
END_TEST

START_TEST(another_seed_gives_other_bits) /* the comparison can fail */
{
    char *dir = test_dir_create(), x[512], y[512];
    variant(dir, "one", "a", 2, WITH("--compute_dtype=fp32"));
    variant(dir, "two", "a", 2, WITH("--compute_dtype=fp32", "--seed=8"));
    snprintf(x, sizeof x, "%s/one/adapter_model.safetensors", dir);
    snprintf(y, sizeof y, "%s/two/adapter_model.safetensors", dir);
    ck_assert(!test_same_file(x, y));
    test_dir_remove(dir);
}
END_TEST

/* ---- stopping ---------------------------------------------------------------------------------------- */

static int try_train(const char *dir, const char *name, const char *cache, int steps, const char *const *more,
                     qs_err *e)
{
    test_words w = {0};
    job(&w, dir, name, steps);
    budgets(&w, dir, cache);
    for (; *more; more++) test_words_add(&w, "%s", *more);
    int rc = test_train(&w, e);
    test_words_free(&w);
    return rc;
}

START_TEST(ten_and_ten_steps_are_twenty)
{
    const char *p = precision[_i], *o = optimizer[_i];
    char *dir = test_dir_create();
    qs_err e = {0};
    make_deep_model(dir);
    variant(dir, "straight", "a", 20, WITH(p, o));
    ck_assert_int_eq(try_train(dir, "halves", "a", 20, WITH(p, o, "--stop_at_step=10"), &e), -QS_EINTERRUPT);
    /* Goes on elsewhere: other budgets, streamed, another engine. The sizes of the sums come from the
     * checkpoint. */
    variant(dir, "halves", "b", 20,
            WITH(p, o, "--resume", "--vram=32M", "--ram=80M", "--resident_layers=0", "--io_engine=pread"));
    same(dir, "straight", "halves");
    /* From memory to disk, and back. */
    const char *adapters = "--adapters_on=disk", *checkpoints = "--checkpoints_on=disk";
    ck_assert_int_eq(try_train(dir, "thirds", "a", 20, WITH(p, o, "--stop_at_step=7"), &e), -QS_EINTERRUPT);
    ck_assert_int_eq(try_train(dir, "thirds", "a", 20,
                               WITH(p, o, adapters, checkpoints, "--resume", "--stop_at_step=13"), &e),
                     -QS_EINTERRUPT);
    variant(dir, "thirds", "a", 20, WITH(p, o, "--resume", "--sweeps_per_step=3"));
    same(dir, "straight", "thirds");
    test_dir_remove(dir);
}
END_TEST

START_TEST(sizes_of_a_checkpoint_outlive_the_options)
{
    char *dir = test_dir_create();
    qs_err e = {0};
    static const char *const free_sizes[] = {"--mlp_chunk_tokens=0", "--head_chunk_tokens=0"};
    variant(dir, "straight", "a", 8, WITH("--compute_dtype=fp32", free_sizes[0], free_sizes[1]));
    ck_assert_int_eq(try_train(dir, "halves", "a", 8,
                               WITH("--compute_dtype=fp32", free_sizes[0], free_sizes[1], "--stop_at_step=4"),
                               &e),
                     -QS_EINTERRUPT);
    variant(dir, "halves", "a", 8,
            WITH("--compute_dtype=fp32", free_sizes[0], free_sizes[1], "--resume", "--vram=16M"));
    same(dir, "straight", "halves");
    test_dir_remove(dir);
}
END_TEST

/* A child trains until a timer kills it; then another goes on, until one reaches the end. */
START_TEST(killed_at_any_instant_it_ends_in_the_same_bits)
{
    static const char *const kept[] = {"--adapters_on=ram", "--adapters_on=disk"};
    char *dir = test_dir_create(), options[512];
    snprintf(options, sizeof options, "%s/killed/options.yaml", dir);
    int kills = 0, status = -1;
    if (_i) make_deep_model(dir);
    for (int life = 0; life < 400; life++) {
        pid_t child = fork();
        if (!child) {
            int64_t usec =
                5000 + 20000 * (int64_t)life; /* longer lives, so that a slow machine gets to the end too */
            struct itimerval timer = {.it_value = {usec / 1000000, usec % 1000000}};
            setitimer(ITIMER_REAL, &timer,
                      NULL); /* SIGALRM's default ends the process as abruptly as SIGKILL */
            signal(SIGALRM, SIG_DFL);
            qs_err e = {0};
            bool resume = qs_file_exists(options);
            int rc = try_train(dir, "killed", "b", 8,
                               WITH("--compute_dtype=fp32", "--save_steps=1", "--resident_layers=0", kept[_i],
                                    resume ? "--resume" : "--quiet"),
                               &e);
            if (rc) fprintf(stderr, "%s\n", e.text);
            _exit(rc ? 1 : 0);
        }
        ck_assert_int_eq(waitpid(child, &status, 0), child);
        if (WIFSIGNALED(status)) {
            ck_assert_int_eq(WTERMSIG(status), SIGALRM);
            kills++;
            continue;
        }
        break;
    }
    ck_assert_msg(WIFEXITED(status) && WEXITSTATUS(status) == 0,
                  "the last life ended with status %d after %d kills", status, kills);
    ck_assert_int_gt(kills, 0);
    printf("killed %d times\n", kills);
    variant(dir, "straight", "a", 8,
            WITH("--compute_dtype=fp32")); /* last: OpenMP's threads do not survive a fork */
    same(dir, "straight", "killed");
    test_dir_remove(dir);
}
END_TEST

START_TEST(an_existing_run_is_not_overwritten)
{
    char *dir = test_dir_create();
    qs_err e = {0};
    variant(dir, "run", "a", 1, WITH("--compute_dtype=fp32"));
    ck_assert_int_eq(try_train(dir, "run", "a", 1, WITH("--compute_dtype=fp32"), &e), -QS_EINVAL);
    ck_assert_msg(strstr(e.text, "--resume"), "%s", e.text);
    test_dir_remove(dir);
}
END_TEST

START_TEST(a_step_allocates_nothing)
{
    /* calls counts every allocation; two more steps must cost only what metrics and progress rows cost, which
     * is none of ours */
    char *dir = test_dir_create();
    variant(dir, "warm", "a", 3, WITH("--compute_dtype=fp32", "--save_steps=0"));
    uint64_t before = qs_mem_read().calls;
    variant(dir, "short", "a", 3, WITH("--compute_dtype=fp32", "--save_steps=0"));
    uint64_t three = qs_mem_read().calls - before;
    before = qs_mem_read().calls;
    variant(dir, "long", "a", 9, WITH("--compute_dtype=fp32", "--save_steps=0"));
    uint64_t nine = qs_mem_read().calls - before;
    ck_assert_uint_eq(three, nine);
    const char *adapters = "--adapters_on=disk", *checkpoints = "--checkpoints_on=disk";
    before = qs_mem_read().calls;
    variant(dir, "short-paged", "a", 3,
            WITH("--compute_dtype=fp32", "--save_steps=0", adapters, checkpoints));
    three = qs_mem_read().calls - before;
    before = qs_mem_read().calls;
    variant(dir, "long-paged", "a", 9, WITH("--compute_dtype=fp32", "--save_steps=0", adapters, checkpoints));
    ck_assert_uint_eq(three, qs_mem_read().calls - before);
    test_dir_remove(dir);
}
END_TEST

int main(void)
{
    qs_log_set_level(QS_LOG_ERROR);
    setvbuf(stdout, NULL, _IOLBF, 0);
    Suite *s = suite_create("identity");
    TCase *t = tcase_create("identity");
    tcase_add_test(t, the_layer_cache_has_the_same_bytes_however_its_blobs_were_made);
    tcase_add_loop_test(t, placement_changes_no_bit, 0, 2);
    tcase_add_loop_test(t, placement_of_other_families_changes_no_bit, 0, OTHER_FAMILIES);
    tcase_add_loop_test(t, a_discrete_device_changes_no_bit, 0, 2);
    tcase_add_loop_test(t, layer_major_and_micro_batch_major_are_the_same_sums, 0, 2);
    tcase_add_loop_test(t, paging_changes_no_bit, 0, 4);
    tcase_add_test(t, validation_passes_through_scratch_files_too);
    tcase_add_test(t, another_seed_gives_other_bits);
    tcase_add_loop_test(t, ten_and_ten_steps_are_twenty, 0, 2);
    tcase_add_test(t, sizes_of_a_checkpoint_outlive_the_options);
    tcase_add_loop_test(t, killed_at_any_instant_it_ends_in_the_same_bits, 0, 2);
    tcase_add_test(t, an_existing_run_is_not_overwritten);
    tcase_add_test(t, a_step_allocates_nothing);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
