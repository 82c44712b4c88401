/* Behaviour of the planner: what is predicted, from which measurements, and what is chosen by it. */
#include <check.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/plan/calibrate.h"
#include "src/train/engine.h"
#include "src/plan/placement.h"
#include "tests/support/stream_rig.h"
#include "tests/support/temp_dir.h"
#include "tests/support/train_run.h"

static char *dir;
static qs_options o;
static qs_engine g;
static qs_hardware card;
static qs_err e;

static void setup(void)
{
    dir = test_dir_create();
    qs_log_set_level(QS_LOG_WARN);
}

static void close_engine(void)
{
    qs_engine_close(&g);
    qs_options_free(&o);
    qs_hardware_free(&card);
}

static void teardown(void)
{
    close_engine();
    test_dir_remove(dir);
}

#define OPTIONS(...) parse((const char *const[]){__VA_ARGS__, NULL})
static void parse(const char *const *words)
{
    int n = 0;
    while (words[n]) n++;
    ck_assert_msg(!qs_options_parse(&o, n, (char **)(uintptr_t)words, NULL, 0, &e), "%s", e.text);
}

static void prepare(void) { ck_assert_msg(!qs_engine_prepare(&o, NULL, NULL, &g, &e), "%s", e.text); }

/* ---- cards that are not here ------------------------------------------------------------------------- */

static void plan_on_card(const char *shape, const char *name, double nvme)
{
    ck_assert_msg(!qs_hardware_find(name, &card, &e), "%s", e.text);
    g.shape = shape;
    g.hardware = &card;
    g.host.nvme_gbs = nvme;
    prepare();
    qs_engine_predict(&g, false);
    ck_assert(g.prediction.known);
}

START_TEST(every_card_has_a_data_sheet)
{
    ck_assert_ptr_nonnull(qs_hardware_name(0));
    for (int i = 0; qs_hardware_name(i); i++) {
        ck_assert_msg(!qs_hardware_find(qs_hardware_name(i), &card, &e), "%s", e.text);
        ck_assert(card.card && card.tflops > 10 && card.memory_gbs > 100 && card.link_gbs > 5 &&
                  card.vram > (uint64_t)8 << 30 && card.multiprocessors > 8);
        ck_assert(card.product_efficiency <= 1 && card.attention_efficiency <= 1 &&
                  card.memory_efficiency <= 1);
        qs_hardware_free(&card);
    }
    ck_assert_int_eq(qs_hardware_find("voodoo2", &card, &e), -QS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(e.text, "rtx4090"));
}
END_TEST

/* 126 layers and the tiles of the head, with tiny blobs, on a discrete device whose copies come late: the
 * very homes, places and slots of the plan. */
START_TEST(a_405b_model_fits_a_24_gb_card_and_the_streamer_runs_its_schedule)
{
    OPTIONS("--ram", "60G", "--gradient_accumulation_steps", "4");
    plan_on_card("llama-3.1-405b", "rtx4090", 6.8);
    const qs_plan *p = &g.plan;
    ck_assert_uint_le(p->vram_used, (uint64_t)24 << 30);
    ck_assert_uint_le(p->ram_used, (uint64_t)60 << 30);
    ck_assert_int_eq(g.prediction.sim.count, g.prediction.schedule.count);
    /* 2.46e12 operations per token at 80 % of 165.2 TFLOPS: 152 s for 8,192 tokens, and nothing worth
     * mentioning besides. */
    ck_assert_double_gt(g.prediction.step_seconds, 140);
    ck_assert_double_lt(g.prediction.step_seconds, 175);
    ck_assert_double_ge(g.prediction.step_seconds, g.prediction.bound_seconds);

    stream_rig r = {.config = {.blobs = p->blobs,
                               .ring = p->ring_slots,
                               .device = RIG_LAZY,
                               .seed = 3,
                               .engine = QS_AIO_PREAD,
                               .like = p}};
    for (int b = 0; b < p->blobs; b++) r.config.sizes[b] = b < g.layout.layers ? 3 * 4096 : 4096;
    char *cache = test_path(dir, "cache");
    rig_open(&r, cache);
    for (int step = 0; step < 3; step++)
        ck_assert_msg(!rig_follow(&r, &g.prediction.schedule), "%s", r.e.text);
    ck_assert_int_eq(r.wrong, 0);
    ck_assert_int_eq(rig_total_made(&r), p->blobs);
    ck_assert_uint_gt(qs_stream_stats_read(r.stream).reads, 0);
    rig_close(&r);
    qs_free(cache);
}
END_TEST

START_TEST(a_slower_drive_a_slower_link_and_fewer_tokens_cost_what_they_must)
{
    double seconds[3];
    const double nvme[] = {12.5, 6.8, 3.2};
    for (int i = 0; i < 3; i++) {
        OPTIONS("--ram", "12G", "--gradient_accumulation_steps", "1", "--resident_layers", "0");
        plan_on_card("llama-3-70b", "rtx4090", nvme[i]);
        seconds[i] = g.prediction.step_seconds;
        ck_assert_double_gt(g.prediction.hide_tokens, 0);
        if (i == 2) ck_assert_int_eq(g.prediction.sim.critical, QS_SIM_DISK);
        close_engine();
    }
    ck_assert_double_le(seconds[0], seconds[1]);
    ck_assert_double_lt(seconds[1], seconds[2]);
}
END_TEST

/* One micro-batch leaves memory for what is computed twice; several may take turns in it. */
START_TEST(more_micro_batches_are_not_slower_per_token)
{
    static const char *const micro_batches[] = {"1", "2", "4", "16"};
    double last = 0;
    for (int i = 0; i < 4; i++) {
        OPTIONS("--vram", "10G", "--ram", "32G", "--gradient_accumulation_steps", micro_batches[i]);
        plan_on_card("llama-3-70b", "rtx3080-10g", 6.8);
        double rate = g.prediction.tokens / g.prediction.step_seconds;
        ck_assert_double_gt(rate, last * 0.995);
        last = rate;
        close_engine();
    }
}
END_TEST

START_TEST(what_lives_on_the_disk_is_paid_for)
{
    OPTIONS("--ram", "60G", "--gradient_accumulation_steps", "8");
    plan_on_card("llama-3-8b", "rtx3060-12g", 3.2);
    qs_placed_job job;
    qs_prediction p;
    qs_rates rates = qs_hardware_rates(&card, &g.host);
    job = qs_placement_apply(&g.job, &g.placement, &g.plan);
    qs_predict(&job, &rates, &p);
    uint64_t none = p.disk_write_bytes, levels = 32, checkpoint = 8 * 2048 * 4096 * 2;
    qs_prediction_free(&p);
    job.sweep.checkpoints_on_disk = true;
    qs_predict(&job, &rates, &p);
    ck_assert_uint_eq(p.disk_write_bytes - none, levels * checkpoint);
    ck_assert_uint_ge(p.sim.steady.disk_read_bytes, levels * checkpoint);
    qs_prediction_free(&p);
    job.sweep.checkpoints_on_disk = false;
    job.update.on_disk = true;
    qs_predict(&job, &rates, &p);
    uint64_t packs = (uint64_t)g.lora.layers * (uint64_t)g.lora.pack_floats * sizeof(float);
    ck_assert_uint_eq(p.disk_write_bytes - none,
                      2 * packs + (uint64_t)g.lora.layers * qs_update_state_bytes(&job.update));
    qs_prediction_free(&p);
}
END_TEST

START_TEST(what_is_saved_in_ram_crosses_the_link_twice)
{
    enum { KEPT = 6, MICRO_BATCHES = 8 };
    OPTIONS("--ram", "60G", "--gradient_accumulation_steps", "8");
    plan_on_card("llama-3-8b", "rtx3060-12g", 3.2);
    qs_placed_job job;
    qs_prediction device, ram;
    qs_rates rates = qs_hardware_rates(&card, &g.host);
    job = qs_placement_apply(&g.job, &g.placement, &g.plan);
    job.sweep.saved_layers = KEPT;
    job.sweep.saved_in_ram = 0;
    qs_predict(&job, &rates, &device);
    job.sweep.saved_in_ram = KEPT;
    qs_predict(&job, &rates, &ram);
    uint64_t bytes = KEPT * MICRO_BATCHES * qs_sweep_saved_bytes(&job.sweep);
    ck_assert_uint_eq(ram.sim.steady.link_out_bytes - device.sim.steady.link_out_bytes, bytes);
    /* the last layer's last ones are still in the buffers */
    uint64_t in = ram.sim.steady.link_in_bytes - device.sim.steady.link_in_bytes;
    ck_assert_uint_le(in, bytes);
    ck_assert_uint_ge(in + QS_ACTIVATION_BUFFERS * bytes / (KEPT * MICRO_BATCHES), bytes);
    ck_assert_double_eq_tol(ram.sim.steady.busy[QS_SIM_COMPUTE], device.sim.steady.busy[QS_SIM_COMPUTE],
                            1e-9);
    qs_prediction_free(&device);
    qs_prediction_free(&ram);
}
END_TEST

/* A small card beside much RAM: what the backward pass needs is fetched while it computes, and a quarter of
 * the arithmetic saved. */
START_TEST(ram_that_no_weights_need_keeps_activations)
{
    double seconds[2];
    static const char *const in_ram[] = {"0", "-1"};
    for (int i = 0; i < 2; i++) {
        OPTIONS("--vram", "6G", "--ram", "60G", "--gradient_accumulation_steps", "4", "--keep_in_ram",
                in_ram[i]);
        plan_on_card("llama-3-8b", "rtx3060-12g", 3.2);
        seconds[i] = g.prediction.step_seconds;
        ck_assert_msg((g.placement.saved_in_ram > 0) == (i == 1), "%d layers in RAM",
                      g.placement.saved_in_ram);
        ck_assert_uint_le(g.plan.ram_used, g.plan.ram_bytes);
        close_engine();
    }
    ck_assert_msg(seconds[1] < 0.95 * seconds[0], "%g s with activations in RAM, %g s without", seconds[1],
                  seconds[0]);
}
END_TEST

static void refine(const char *adapters, const char *checkpoints, double *seconds, uint64_t *written)
{
    qs_placed_job job;
    qs_prediction p;
    /* The compute type is said: what does not fit must not depend on the type that this processor prefers. */
    OPTIONS("--device", "cpu", "--compute_dtype", "bf16", "--vram", "4G", "--ram", "4G", "--max_seq_length",
            "512", "--per_device_train_batch_size", "1", "--gradient_accumulation_steps", "1", "--lora_r",
            "16", "--keep_in_ram", "0", "--adapters_on", adapters, "--checkpoints_on", checkpoints);
    g.shape = "llama-3-70b";
    prepare();
    qs_placement_refine(&g.job, &qs_rates_nominal_cpu, &g.placement, &g.plan);
    job = qs_placement_apply(&g.job, &g.placement, &g.plan);
    qs_predict(&job, &qs_rates_nominal_cpu, &p);
    *seconds = p.step_seconds;
    *written = p.disk_write_bytes;
    qs_prediction_free(&p);
    close_engine();
}

/* Either the adapters or the activation checkpoints must leave RAM here. Compute hides both; the checkpoints
 * are fewer bytes. */
START_TEST(a_placement_that_writes_more_must_be_a_tenth_faster)
{
    double seconds, adapters_seconds, checkpoints_seconds;
    uint64_t written, adapters_written, checkpoints_written;
    refine("auto", "auto", &seconds, &written);
    refine("disk", "ram", &adapters_seconds, &adapters_written);
    refine("ram", "disk", &checkpoints_seconds, &checkpoints_written);
    ck_assert_double_lt(checkpoints_seconds, 1.1 * adapters_seconds);
    ck_assert_uint_lt(2 * checkpoints_written, adapters_written);
    ck_assert_uint_le(written, checkpoints_written);
    ck_assert_double_lt(seconds, 1.1 * adapters_seconds);
}
END_TEST

/* ---- this machine ------------------------------------------------------------------------------------ */

static void tiny(void)
{
    OPTIONS("--vram", "256M", "--ram", "256M", "--cache", dir, "--max_seq_length", "64",
            "--gradient_accumulation_steps", "2", "--device", "cpu");
    g.shape = "tiny";
    prepare();
}

static char *calibration_path(void)
{
    char *pattern = test_path(dir, "calibration-*.json"), *path = NULL;
    glob_t found;
    if (!glob(pattern, 0, NULL, &found)) {
        ck_assert_int_eq(found.gl_pathc, 1);
        path = qs_strdup(found.gl_pathv[0]);
        globfree(&found);
    }
    qs_free(pattern);
    return path;
}

START_TEST(a_small_job_is_not_measured_unless_asked)
{
    tiny();
    qs_engine_predict(&g, false);
    ck_assert(!g.prediction.known);
    ck_assert_ptr_null(calibration_path());
    qs_engine_predict(&g, true);
    ck_assert(g.prediction.known);
    ck_assert_double_gt(g.prediction.step_seconds, 0);
    ck_assert_double_ge(g.prediction.first_step_seconds, g.prediction.step_seconds);
    ck_assert_int_eq(g.prediction.sim.count, g.prediction.schedule.count);
}
END_TEST

START_TEST(what_was_measured_is_kept_and_a_damaged_file_is_measured_anew)
{
    tiny();
    qs_engine_predict(&g, true);
    double seconds = g.prediction.step_seconds;
    close_engine();
    tiny();
    qs_engine_predict(&g, false); /* from the file */
    ck_assert(g.prediction.known);
    ck_assert_double_eq(g.prediction.step_seconds, seconds);
    close_engine();

    static const char *const damaged[] = {
        "",
        "{",
        "{\"format\": 2}",
        "{\"format\": 3, \"operations\": {}, \"rates\": {}}",
        "{\"format\": 2, \"rates\": {\"disk_read\": -1}, \"operations\": {}}",
        "{\"format\": 2, \"rates\": {}, \"operations\": {\"gemm\": [[16, 0.1], [8, 0.1]]}}"};
    char *path = calibration_path();
    for (size_t i = 0; i < sizeof damaged / sizeof *damaged; i++) {
        ck_assert(!qs_file_replace(path, damaged[i], strlen(damaged[i]), &e));
        tiny();
        qs_engine_predict(&g, false);
        ck_assert(!g.prediction.known);
        close_engine();
    }
    tiny();
    qs_engine_predict(&g, true);
    ck_assert(g.prediction.known);
    qs_free(path);
}
END_TEST

/* Writing fails half-way, with a second transfer in flight: no prediction, and the next attempt measures. */
START_TEST(a_disk_that_fails_while_it_is_measured_costs_the_prediction_alone)
{
    struct rlimit unlimited, small;
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &unlimited), 0);
    small = (struct rlimit){.rlim_cur = 40 << 20, .rlim_max = unlimited.rlim_max};
    signal(SIGXFSZ, SIG_IGN);
    qs_device *cpu;
    ck_assert_int_eq(qs_device_open("cpu", &cpu, &e), 0);
    for (int engine = QS_AIO_URING; engine <= QS_AIO_PREAD; engine++) {
        qs_calibrate_config c = {.device = cpu,
                                 .cpu = cpu,
                                 .dir = dir,
                                 .io_engine = (qs_aio_engine)engine,
                                 .disk_bytes = 128 << 20,
                                 .renew = true,
                                 .quiet = true};
        qs_calibration *k = qs_calibration_open(&c);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
        ck_assert_int_eq(qs_calibration_measure(k, &(qs_costs){0}, &e), -QS_EIO);
        ck_assert_msg(strstr(e.text, "calibration-") != NULL, "%s", e.text);
        ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &unlimited), 0);
        ck_assert_int_eq(qs_calibration_measure(k, &(qs_costs){0}, &e), 0);
        qs_calibration_free(k);
    }
    qs_device_close(cpu);
}
END_TEST

static double gemm_flops(const qs_op_list *l)
{
    double sum = 0;
    for (int i = 0; i < l->count; i++)
        if (l->calls[i].kind == QS_OP_GEMM) sum += (double)l->calls[i].times * l->calls[i].flops;
    return sum;
}

/* Products of one micro-batch in the visits of layer 0, or of one that is computed so. */
static double layer_flops(const qs_costs *costs, qs_visit_work work)
{
    int i = qs_costs_find(costs, &work);
    ck_assert_int_ge(i, 0);
    return gemm_flops(&costs->visits[i].each);
}

/* 2 per weight and token forwards; backwards as much again for the recomputation without the down projection,
 * and for the gradient of every input, which is all where forward kept its intermediates. */
START_TEST(the_operations_noted_down_are_those_of_the_textbook)
{
    tiny();
    qs_costs costs, plain;
    int32_t rows = qs_sweep_rows(64, 64), layers = g.layout.layers;
    const qs_lora_layer *lora = qs_lora_of_layer(&g.lora, 0);
    g.sweep_config.saved_layers = 1;
    qs_costs_note(&g.sweep_config, &g.update_config, rows, 64, &costs);
    memset(g.lora.layer_mask + 1, 0, (size_t)layers - 1);
    qs_costs_note(&g.sweep_config, &g.update_config, rows, 64, &plain);
    double linears = 0, down = 0, adapters = 0;
    const qs_lora_layer *kind = qs_lora_of_layer(&g.lora, 0);
    for (int i = 0; i < kind->layer->tensors; i++) {
        const qs_lora_slot *s = &kind->slot[i];
        if (kind->layer->tensor[i].role != QS_TENSOR_LINEAR) continue;
        linears += (double)s->in * s->out;
        adapters += (double)g.lora.config.r * (s->in + s->out);
        if (strstr(kind->layer->tensor[i].name, "down_proj")) down = (double)s->in * s->out;
    }
    qs_visit_work f = {.kind = QS_VISIT_FORWARD}, b = {.kind = QS_VISIT_BACKWARD, .input_gradient = true};
    ck_assert_double_eq_tol(layer_flops(&plain, f), 2 * rows * linears, 1);
    ck_assert_double_eq_tol(layer_flops(&plain, b), 2 * rows * (2 * linears - down), 1);
    b.saved = true;
    ck_assert_double_eq_tol(layer_flops(&plain, b), 2 * rows * linears, 1);
    f.lora = lora;
    ck_assert_double_eq_tol(layer_flops(&costs, f), 2 * rows * (linears + adapters), 1);
    qs_costs_free(&plain);
    qs_costs_free(&costs);
}
END_TEST

/* ---- the choice -------------------------------------------------------------------------------------- */

START_TEST(numeric_identity_does_not_depend_on_what_was_measured)
{
    tiny();
    qs_sweep_sizes before = g.sweep_config.sizes;
    qs_engine_predict(&g, true);
    ck_assert_int_eq(before.mlp_rows, g.sweep_config.sizes.mlp_rows);
    ck_assert_int_eq(before.head_rows, g.sweep_config.sizes.head_rows);
    ck_assert_int_eq(before.micro_batches, g.sweep_config.sizes.micro_batches);
}
END_TEST

START_TEST(what_a_refusal_asks_for_is_enough)
{
    char vram[32] = "1M", ram[32] = "1M";
    for (int i = 0; i < 3; i++) {
        OPTIONS("--vram", vram, "--ram", ram, "--cache", dir, "--max_seq_length", "512",
                "--gradient_accumulation_steps", "4", "--device", "cpu");
        g.shape = "tiny";
        int rc = qs_engine_prepare(&o, NULL, NULL, &g, &e);
        close_engine();
        if (!rc) return;
        ck_assert_int_eq(rc, -QS_EBUDGET);
        const char *give = strstr(e.text, "give --");
        ck_assert_ptr_nonnull(give);
        if (!strncmp(give, "give --vram ", 12))
            sscanf(give, "give --vram %31[0-9M]", vram);
        else
            sscanf(give, "give --ram %31[0-9M]", ram);
        give = strstr(give, "and --ram ");
        if (give) sscanf(give, "and --ram %31[0-9M]", ram);
    }
    ck_abort_msg("still refused: %s", e.text);
}
END_TEST

static void run(const char *out, const char *more, const char *again)
{
    test_words w = {0};
    static const char *const fixed[] = {"--model=tests/golden/llama/model",
                                        "--data=tests/golden/llama/data.jsonl",
                                        "--lora_r=4",
                                        "--per_device_train_batch_size=0",
                                        "--gradient_accumulation_steps=6",
                                        "--max_seq_length=64",
                                        "--no-packing",
                                        "--quiet",
                                        "--report_to=none",
                                        "--max_steps=4",
                                        "--vram=64M",
                                        "--ram=96M"};
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) test_words_add(&w, "%s", fixed[i]);
    test_words_add(&w, "--cache=%s/cache", dir);
    test_words_add(&w, "--out=%s/%s", dir, out);
    if (more) test_words_add(&w, "%s", more);
    if (again) test_words_add(&w, "%s", again);
    int rc = test_train(&w, &e);
    ck_assert_msg(!rc || rc == -QS_EINTERRUPT, "%s", e.text);
    test_words_free(&w);
}

START_TEST(a_micro_batch_that_was_picked_is_kept_by_a_resumed_run)
{
    run("whole", NULL, NULL);
    run("stopped", "--stop_at_step=2", NULL);
    run("stopped", "--resume", "--stop_at_step=0");
    char *a = test_path(dir, "whole/adapter_model.safetensors"),
         *b = test_path(dir, "stopped/adapter_model.safetensors");
    ck_assert(test_same_file(a, b));
    qs_free(a);
    qs_free(b);
}
END_TEST

static double attention_flops(const qs_costs *costs, int32_t layer)
{
    qs_visit_rules rules = qs_visit_rules_of(&g.sweep_config);
    qs_visit v = {.kind = QS_VISIT_FORWARD, .index = layer};
    qs_visit_work work = qs_visit_work_of(&rules, &v);
    const qs_op_list *l = &costs->visits[qs_costs_find(costs, &work)].each;
    for (int i = 0; i < l->count; i++)
        if (l->calls[i].kind == QS_OP_ATTENTION) return l->calls[i].flops;
    return 0;
}

static int64_t launches(const qs_op_list *l, qs_op_kind kind)
{
    int64_t sum = 0;
    for (int i = 0; i < l->count; i++)
        if (l->calls[i].kind == kind || kind == QS_OP_KINDS) sum += l->calls[i].times;
    return sum;
}

/* Qwen3's 40 heads are normed and rotated by one kernel, forwards and back, and where nothing is dropped
 * nothing is copied for it. */
START_TEST(norms_and_rotation_of_q_and_k_are_one_launch)
{
    OPTIONS("--ram", "60G", "--max_seq_length", "2048", "--mlp_chunk_tokens", "2048", "--lora_dropout", "0");
    g.shape_layers = 2;
    plan_on_card("qwen3-8b", "rtx4090", 6.8);
    qs_costs costs;
    qs_costs_note(&g.sweep_config, &g.update_config, 2048, 2048, &costs);
    for (int i = 0; i < costs.count; i++) {
        const qs_op_list *each = &costs.visits[i].each;
        bool forward = costs.visits[i].work.kind == QS_VISIT_FORWARD;
        if (!forward && costs.visits[i].work.kind != QS_VISIT_BACKWARD) continue;
        bool again = !forward && !costs.visits[i].work.saved;
        ck_assert_int_eq(launches(each, QS_OP_ROPE) + launches(each, QS_OP_DROPOUT), 0);
        ck_assert_int_eq(launches(each, QS_OP_NORM_ROPE), forward || again);
        ck_assert_int_eq(launches(each, QS_OP_NORM_ROPE_BACKWARD), !forward);
        ck_assert_int_le(launches(each, QS_OP_RMSNORM), 3);
        ck_assert_int_le(launches(each, QS_OP_KINDS), forward ? 24 : 68);
    }
    qs_costs_free(&costs);
}
END_TEST

/* Five of six layers of Gemma 3 see 1,024 tokens back, the sixth all of them. */
START_TEST(each_kind_of_layer_has_its_own_price)
{
    OPTIONS("--ram", "60G", "--max_seq_length", "8192", "--gradient_accumulation_steps", "1");
    g.shape_layers = 6;
    plan_on_card("gemma-3-4b", "rtx4090", 6.8);
    qs_costs costs;
    qs_costs_note(&g.sweep_config, &g.update_config, 8192, 8192, &costs);
    double pair = 4.0 * 8 * 256; /* heads, head_dim */
    for (int32_t l = 0; l < 6; l++)
        ck_assert_double_eq_tol(attention_flops(&costs, l), pair * 8192 * (l == 5 ? 4096 : 1024), 1);
    const qs_sim_visit *global = NULL, *windowed = NULL;
    for (int32_t v = 0; v < g.prediction.schedule.count; v++) {
        const qs_visit *visit = &g.prediction.schedule.visits[v];
        if (visit->kind != QS_VISIT_FORWARD) continue;
        *(visit->index == 5 ? &global : &windowed) = &g.prediction.sim.visits[v];
    }
    ck_assert_double_gt(global->end - global->start, windowed->end - windowed->start);
    qs_costs_free(&costs);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("predict");
    TCase *t = tcase_create("predict");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, every_card_has_a_data_sheet);
    tcase_add_test(t, a_405b_model_fits_a_24_gb_card_and_the_streamer_runs_its_schedule);
    tcase_add_test(t, a_slower_drive_a_slower_link_and_fewer_tokens_cost_what_they_must);
    tcase_add_test(t, more_micro_batches_are_not_slower_per_token);
    tcase_add_test(t, what_lives_on_the_disk_is_paid_for);
    tcase_add_test(t, what_is_saved_in_ram_crosses_the_link_twice);
    tcase_add_test(t, ram_that_no_weights_need_keeps_activations);
    tcase_add_test(t, a_placement_that_writes_more_must_be_a_tenth_faster);
    tcase_add_test(t, a_small_job_is_not_measured_unless_asked);
    tcase_add_test(t, what_was_measured_is_kept_and_a_damaged_file_is_measured_anew);
    tcase_add_test(t, a_disk_that_fails_while_it_is_measured_costs_the_prediction_alone);
    tcase_add_test(t, the_operations_noted_down_are_those_of_the_textbook);
    tcase_add_test(t, each_kind_of_layer_has_its_own_price);
    tcase_add_test(t, norms_and_rotation_of_q_and_k_are_one_launch);
    tcase_add_test(t, numeric_identity_does_not_depend_on_what_was_measured);
    tcase_add_test(t, what_a_refusal_asks_for_is_enough);
    tcase_add_test(t, a_micro_batch_that_was_picked_is_kept_by_a_resumed_run);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
