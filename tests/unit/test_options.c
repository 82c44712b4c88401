/* Behaviour of src/options: names, values, sources and their order, bad input, help, presets, resume. */
#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/options/options.h"
#include "src/options/saved.h"
#include "src/options/presets.h"
#include "tests/support/temp_dir.h"

static qs_options o;
static qs_err e;
static char *dir;

static void setup(void)
{
    o = (qs_options){0};
    e = (qs_err){0};
    qs_log_set_level(QS_LOG_ERROR);
}

static void teardown(void) { qs_options_free(&o); }

/* Parses a command line given as words separated by spaces. */
static int parse(const char *line)
{
    char copy[2048], *argv[64];
    int argc = 0;
    snprintf(copy, sizeof copy, "%s", line);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " ")) argv[argc++] = w;
    qs_options_free(&o);
    o = (qs_options){0};
    return qs_options_parse(&o, argc, argv, NULL, 0, &e);
}

#define OK(line)                               \
    do {                                       \
        int rc_ = parse(line);                 \
        ck_assert_msg(rc_ == 0, "%s", e.text); \
    } while (0)
#define FAILS(line, sentence)                                                                \
    do {                                                                                     \
        ck_assert_int_eq(parse(line), -QS_EUSAGE);                                           \
        ck_assert_msg(strstr(e.text, sentence), "wanted: %s\nfound:  %s", sentence, e.text); \
    } while (0)

/* Writes `text` to a file of the test directory and returns its path. */
static const char *file(const char *name, const char *text)
{
    static char path[200];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    ck_assert_int_eq(qs_file_replace(path, text, strlen(text), &e), 0);
    return path;
}

static int parse_config(const char *text, const char *more)
{
    char line[600];
    snprintf(line, sizeof line, "--config %s %s", file("run.yaml", text), more);
    return parse(line);
}

/* ---- names and values -------------------------------------------------------------------------------- */

START_TEST(several_paths_may_follow_one_flag_and_a_tilde_is_the_home_directory)
{
    setenv("HOME", "/nonexistent/home", 1);
    ck_assert_msg(parse("--data a.jsonl:2 ~/b.jsonl --seed 1 --model ~") == 0, "%s", e.text);
    ck_assert_int_eq(o.data.count, 2);
    ck_assert_str_eq(o.data.items[0], "a.jsonl:2");
    ck_assert_str_eq(o.data.items[1], "/nonexistent/home/b.jsonl");
    ck_assert_str_eq(o.model, "/nonexistent/home");
    qs_options_free(&o);
    o = (qs_options){0};
    ck_assert_int_eq(parse("--seed 1 2"), -QS_EUSAGE);
}
END_TEST

START_TEST(defaults_are_what_the_help_says)
{
    OK("");
    ck_assert_ptr_null(o.model);
    ck_assert_int_eq(o.quant_type, QS_QUANT_NF4);
    ck_assert(o.double_quant && o.packing && !o.train_on_inputs);
    ck_assert_int_eq(o.lora_r, 16);
    ck_assert_double_eq(o.learning_rate, 2e-4);
    ck_assert_int_eq(o.optim, QS_OPTIM_PAGED_ADAMW_32BIT);
    ck_assert_uint_eq(o.vram, 0);
    ck_assert_int_eq(o.max_steps, -1);
    ck_assert_str_eq(o.target_modules.items[0], "all-linear");
    ck_assert_int_eq(o.cache.count, 1);
}
END_TEST

START_TEST(dashes_underscores_equals_and_aliases_are_one_option)
{
    static const char *const lines[] = {"--learning-rate 0.001", "--learning_rate=0.001", "--lr 1e-3",
                                        "--LR=1e-3"};
    for (int i = 0; i < 4; i++) {
        OK(lines[i]);
        ck_assert_double_eq(o.learning_rate, 0.001);
    }
    OK("--base-model m --cutoff_len 77 --micro_batch_size=3");
    ck_assert_str_eq(o.model, "m");
    ck_assert_int_eq(o.max_seq_length, 77);
    ck_assert_int_eq(o.per_device_train_batch_size, 3);
    OK("--mlp_tile_rows 48 --head-tile-rows=32"); /* as these sizes were called once */
    ck_assert_int_eq(o.mlp_chunk_tokens, 48);
    ck_assert_int_eq(o.head_chunk_tokens, 32);
}
END_TEST

START_TEST(booleans_take_flags_negations_and_words)
{
    OK("--train-on-inputs --no-packing");
    ck_assert(o.train_on_inputs && !o.packing);
    OK("--train_on_inputs yes --packing off --no_double_quant");
    ck_assert(o.train_on_inputs && !o.packing && !o.double_quant);
    OK("--verbose --quiet false");
    ck_assert(o.verbose && !o.quiet);
    FAILS("--packing=maybe", "--packing: packing expects true or false, found \"maybe\"");
    FAILS("--no-lora-r", "no option called \"no-lora-r\"");
}
END_TEST

START_TEST(sizes_know_binary_and_decimal_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } cases[] = {{"10G", UINT64_C(10) << 30},
                 {"10GiB", UINT64_C(10) << 30},
                 {"10gb", UINT64_C(10000000000)},
                 {"512M", 512 << 20},
                 {"1.5g", 3u << 29},
                 {"2T", UINT64_C(2) << 40},
                 {"2048K", 2 << 20},
                 {"1048576", 1 << 20},
                 {"auto", 0}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char line[64];
        snprintf(line, sizeof line, "--vram %s", cases[i].text);
        OK(line);
        ck_assert_uint_eq(o.vram, cases[i].bytes);
    }
    FAILS("--vram 10",
          "a size of at least 1M such as 10G or 512M, found \"10\""); /* who writes 10 means 10G */
    FAILS("--vram 10Q", "found \"10Q\"");
    FAILS("--vram -3G", "found \"-3G\"");
    FAILS("--vram G", "found \"G\"");
    FAILS("--vram 99999999T", "found");
    FAILS("--vram 1.2.3G", "found");
}
END_TEST

START_TEST(numbers_out_of_range_say_range_and_place)
{
    FAILS("--lora-r 0", "--lora-r: lora_r expects a whole number from 1 to 4096, found \"0\"");
    FAILS("--r 2.5", "--r: lora_r expects a whole number from 1 to 4096, found \"2.5\"");
    FAILS("--lora_dropout 1", "lora_dropout expects a number from 0 to 0.99, found \"1\"");
    FAILS("--lr nan", "found \"nan\"");
    FAILS("--lr inf", "found \"inf\"");
    FAILS("--lr 1e999", "found \"1e999\"");
    FAILS("--seed 99999999999999999999", "seed expects");
    FAILS("--max-steps 10x", "found \"10x\"");
    OK("--max-steps 1e4");
    ck_assert_int_eq(o.max_steps, 10000);
    OK("--max-steps -1");
    ck_assert_int_eq(o.max_steps, -1);
}
END_TEST

START_TEST(enums_take_other_tools_spellings_and_list_theirs)
{
    OK("--optim adamw_bnb_8bit --compute-dtype torch.bfloat16 --order layer_major");
    ck_assert_int_eq(o.optim, QS_OPTIM_ADAMW_8BIT);
    ck_assert_int_eq(o.compute_dtype, QS_COMPUTE_BF16);
    FAILS("--quant-type int8", "quant_type expects one of nf4, fp4, none, found \"int8\"");
}
END_TEST

START_TEST(switches_of_other_tools_set_the_option_they_mean)
{
    OK("--bf16 --load_in_4bit true --completion_only_loss false");
    ck_assert_int_eq(o.compute_dtype, QS_COMPUTE_BF16);
    ck_assert_int_eq(o.quant_type, QS_QUANT_NF4);
    ck_assert(o.train_on_inputs);
    OK("--quant-type fp4 --load-in-4bit"); /* already a 4-bit type: kept */
    ck_assert_int_eq(o.quant_type, QS_QUANT_FP4);
    OK("--no-load-in-4bit");
    ck_assert_int_eq(o.quant_type, QS_QUANT_NONE);
    OK("--bf16 false"); /* says nothing about which other type */
    ck_assert_int_eq(o.compute_dtype, QS_COMPUTE_AUTO);
}
END_TEST

START_TEST(lists_split_at_commas_and_grow_with_repeated_flags)
{
    OK("--target-modules q_proj,v_proj --data a.jsonl --data b.jsonl,c.jsonl");
    ck_assert_int_eq(o.target_modules.count, 2);
    ck_assert_str_eq(o.target_modules.items[1], "v_proj");
    ck_assert_int_eq(o.data.count, 3);
    ck_assert_str_eq(o.data.items[2], "c.jsonl");
    OK("--target-modules .*\\.(q|v)_proj{1,2}");
    ck_assert_int_eq(o.target_modules.count, 1);
    ck_assert_int_eq(qs_options_target_kind(&o.target_modules), QS_TARGET_REGEX);
    OK("--target-modules q_proj");
    ck_assert_int_eq(qs_options_target_kind(&o.target_modules), QS_TARGET_NAMES);
    OK("--lora-target all");
    ck_assert_str_eq(o.target_modules.items[0], "all-linear");
    OK("--target-modules All-Linear");
    ck_assert_int_eq(qs_options_target_kind(&o.target_modules), QS_TARGET_ALL_LINEAR);
}
END_TEST

/* A run in the test directory, with the options that `line` gives; returns --out for it. */
static const char *out_of_run(const char *line)
{
    static char flag[200];
    OK(line);
    const char *path = file(QS_SAVED_OPTIONS, "");
    ck_assert_int_eq(qs_saved_options_write(&o, path, &e), 0);
    snprintf(flag, sizeof flag, "--out %s", dir);
    return flag;
}

START_TEST(resume_stands_alone_or_takes_a_checkpoint)
{
    char line[400], run[200];
    OK("--out x");
    ck_assert_ptr_null(o.resume);
    snprintf(run, sizeof run, "%s", out_of_run("--seed 5"));
    snprintf(line, sizeof line, "--resume %s", run);
    OK(line);
    ck_assert_str_eq(o.resume, "latest");
    ck_assert_int_eq(o.seed, 5);
    snprintf(line, sizeof line, "--resume=%s --seed 6", dir);
    OK(line);
    ck_assert_str_eq(o.resume, dir);
    OK("--resume_from_checkpoint true");
    ck_assert_str_eq(o.resume, "latest");
    OK("--resume --no-resume");
    ck_assert_ptr_null(o.resume);
}
END_TEST

START_TEST(a_run_that_is_not_there_cannot_be_resumed)
{
    ck_assert_int_eq(parse("--resume --out /nonexistent/run"), -QS_EMISSING);
    ck_assert_ptr_nonnull(strstr(e.text, "/nonexistent/run: there is no such run to resume"));
    ck_assert_int_eq(parse("--resume=/nonexistent/run/checkpoint-5"), -QS_EMISSING);
}
END_TEST

START_TEST(saved_options_that_were_altered_are_passed_over_for_those_of_a_checkpoint)
{
    char line[400], text[200], checkpoint[300];
    snprintf(line, sizeof line, "--resume %s", out_of_run("--seed 5"));
    size_t n;
    char *saved = NULL, *path = qs_path_join(dir, QS_SAVED_OPTIONS);
    ck_assert_int_eq(qs_file_read(path, 1 << 16, &saved, &n, &e), 0);
    snprintf(checkpoint, sizeof checkpoint, "%s/checkpoint-3", dir);
    ck_assert_int_eq(qs_dir_create(checkpoint, &e), 0);
    snprintf(text, sizeof text, "checkpoint-3/%s", QS_SAVED_OPTIONS);
    file(text, saved);
    char *digit = strstr(saved, "seed: 5") + 6;
    *digit = '7';
    file(QS_SAVED_OPTIONS, saved);
    OK(line);
    ck_assert_int_eq(o.seed, 5);
    file(text, saved); /* now there is no whole one */
    ck_assert_int_eq(parse(line), -QS_EFORMAT);
    ck_assert_ptr_nonnull(strstr(e.text, QS_SAVED_OPTIONS));
    qs_free(saved);
    qs_free(path);
}
END_TEST

START_TEST(an_option_and_its_switch_must_agree)
{
    static const char *const bad[] = {"fp16: true\ncompute_dtype: bf16\n",
                                      "compute_dtype: bf16\nfp16: true\n"};
    static const char *const good[] = {"fp16: true\ncompute_dtype: float16\n",
                                       "compute_dtype: bf16\nbf16: true\n",
                                       "compute_dtype: bf16\nfp16: false\n"};
    qs_option_set set = {&qs_training_options, &o};
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(qs_option_read_yaml(&set, 1, "f", bad[i], strlen(bad[i]), QS_FROM_CONFIG, &e),
                         -QS_EUSAGE);
        ck_assert_msg(strstr(e.text, "compute_dtype: ") && strstr(e.text, "fp16: true"), "%s", e.text);
    }
    for (int i = 0; i < 3; i++)
        ck_assert_msg(!qs_option_read_yaml(&set, 1, "f", good[i], strlen(good[i]), QS_FROM_CONFIG, &e), "%s",
                      e.text);
}
END_TEST

START_TEST(null_means_no_clipping)
{
    static const char text[] = "max_grad_norm: null\nlearning_rate: ~\n";
    qs_option_set set = {&qs_training_options, &o};
    qs_options_defaults(&o);
    double rate = o.learning_rate;
    ck_assert_msg(!qs_option_read_yaml(&set, 1, "f", text, sizeof text - 1, QS_FROM_CONFIG, &e), "%s",
                  e.text);
    ck_assert(o.max_grad_norm == 0 && o.learning_rate == rate);
}
END_TEST

START_TEST(saved_paths_lead_there_from_any_folder)
{
    OK("--model ./m --data d/x.jsonl --out o --cache /c");
    char *text = qs_saved_options_text(&o), *here = qs_absolute_path("."),
         *wanted = qs_printf("model: %s/m\n", here);
    ck_assert_ptr_nonnull(strstr(text, wanted));
    qs_free(wanted);
    wanted = qs_printf("data: [%s/d/x.jsonl]\n", here);
    ck_assert_ptr_nonnull(strstr(text, wanted));
    ck_assert_ptr_nonnull(strstr(text, "cache: [/c]\n"));
    qs_free(wanted);
    qs_free(here);
    qs_free(text);
}
END_TEST

START_TEST(an_unknown_name_is_answered_with_the_nearest)
{
    FAILS("--learning-rat 1",
          "--learning-rat: there is no option called \"learning-rat\"; did you mean learning_rate?");
    FAILS("--grad_accumulation_steps 1", "did you mean gradient_accumulation_steps?");
    FAILS("--sequence_length 1", "did you mean");
    FAILS("--otuput-dir x", "did you mean output_dir?"); /* of an alias, and with swapped letters */
    FAILS("--xyzzyplugh 1", "--help lists them");
}
END_TEST

START_TEST(a_flag_without_its_value_is_an_error)
{
    FAILS("--model", "--model: expects a value, found the end of the line");
    FAILS("--model --data x", "--model: expects a value, found --data");
    FAILS("train.jsonl", "\"train.jsonl\": expected a flag");
    FAILS("-m x", "-m: there are no short flags");
    FAILS("--model=", "model expects a path, found \"\"");
}
END_TEST

/* ---- sources ----------------------------------------------------------------------------------------- */

START_TEST(command_line_beats_config_beats_preset_beats_default)
{
    OK("--preset unsloth");
    ck_assert_int_eq(o.seed, 3407);
    ck_assert_int_eq(parse_config("preset: unsloth\nseed: 7\n", ""), 0);
    ck_assert_int_eq(o.seed, 7);
    ck_assert_int_eq(o.optim, QS_OPTIM_ADAMW_8BIT); /* still the preset's */
    ck_assert_int_eq(parse_config("seed: 7\n", "--seed 8 --preset unsloth"), 0);
    ck_assert_int_eq(o.seed, 8);
    ck_assert_int_eq(o.optim, QS_OPTIM_ADAMW_8BIT);
    ck_assert_int_eq(parse_config("target_modules: [q_proj, k_proj]\n", "--target-modules v_proj"), 0);
    ck_assert_int_eq(o.target_modules.count, 1); /* a list of a higher source replaces, it does not append */
}
END_TEST

START_TEST(the_nearer_of_two_rivals_counts)
{
    OK("--preset unsloth --warmup-ratio 0.5");
    ck_assert_int_eq(o.warmup_steps, 0);
    OK("--preset axolotl --warmup-steps 9");
    ck_assert_int_eq(o.warmup_steps, 9);
    OK("--preset qlora-paper --epochs 2");
    ck_assert_int_eq(o.max_steps, -1);
    OK("--max-steps 5 --epochs 2"); /* both on one level: as in transformers */
    ck_assert_int_eq(o.max_steps, 5);
}
END_TEST

START_TEST(a_wrong_preset_lists_the_right_ones)
{
    FAILS("--preset lora", "there are: axolotl, qlora-paper, torchtune, unsloth");
}
END_TEST

START_TEST(every_preset_reads_and_changes_something)
{
    char *plain = NULL;
    qs_option_set set = {&qs_training_options, &o};
    OK("");
    plain = qs_option_to_yaml(&set, 1);
    for (const qs_preset *p = qs_presets; p->name; p++) {
        char line[64];
        snprintf(line, sizeof line, "--preset %s", p->name);
        OK(line);
        char *yaml = qs_option_to_yaml(&set, 1);
        ck_assert_str_ne(yaml, plain);
        qs_free(yaml);
    }
    qs_free(plain);
    OK("--preset torchtune");
    ck_assert_double_eq(o.max_grad_norm, 0);
    ck_assert_int_eq(o.optim, QS_OPTIM_ADAMW_TORCH);
    ck_assert_int_eq(o.target_modules.count, 6);
    OK("--preset qlora-paper");
    ck_assert_int_eq(o.lora_r, 64);
    ck_assert_int_eq(o.lr_scheduler_type, QS_LR_CONSTANT);
    OK("--preset axolotl");
    ck_assert_int_eq(o.max_seq_length, 4096);
}
END_TEST

/* ---- config files ------------------------------------------------------------------------------------ */

START_TEST(a_config_file_as_axolotl_writes_it_is_read)
{
    ck_assert_msg(!parse_config("base_model: meta-llama\n"
                                "datasets:\n"
                                "  - path: a.jsonl\n"
                                "    type: alpaca\n"
                                "  - {path: b.jsonl}\n"
                                "  - c.jsonl\n"
                                "load_in_4bit: true\n"
                                "lora_target_linear: true\n"
                                "sample_packing: false  # comment\n"
                                "learning_rate: 2e-4\n"
                                "max_steps:\n"
                                "val_set_size: ~\n"
                                "vram: 10G\n",
                                ""),
                  "%s", e.text);
    ck_assert_str_eq(o.model, "meta-llama");
    ck_assert_int_eq(o.data.count, 3);
    ck_assert_str_eq(o.data.items[0], "a.jsonl");
    ck_assert_str_eq(o.data.items[1], "b.jsonl");
    ck_assert(!o.packing);
    ck_assert_int_eq(o.max_steps, -1); /* empty and ~ leave the default */
    ck_assert_uint_eq(o.vram, UINT64_C(10) << 30);
    ck_assert_int_eq(parse_config("# only a comment\n", ""), 0);
    ck_assert_int_eq(parse_config("", ""), 0);
}
END_TEST

START_TEST(bad_config_files_are_answered_with_file_and_line)
{
    static const struct {
        const char *text, *sentence;
    } cases[] = {
        {"seed: 1\nlora_rnk: 3\n",
         "run.yaml:2: there is no option called \"lora_rnk\"; did you mean lora_rank?"},
        {"seed: 1\n\nlr: fast\n", "run.yaml:3: learning_rate expects a number from 0 to 100, found \"fast\""},
        {"lr: 1\nseed: 2\nlearning_rate: 2\n",
         "run.yaml:3: learning_rate is given twice; it is also in line 1"},
        {"seed: [1, 2]\n", "run.yaml:1: expected a whole number"},
        {"lora: {r: 3}\n", "run.yaml:1: there is no option called \"lora\""},
        {"optim:\n  name: adamw\n", "run.yaml:2: expected one of paged_adamw_32bit"},
        {"target_modules: [[q]]\n", "run.yaml:1: expected single values in this list, found a list"},
        {"target_modules: [{path: q}]\n", "expected single values in this list, found a mapping"},
        {"datasets:\n - {type: alpaca}\n", "run.yaml:2: this entry of data has no path:"},
        {"datasets:\n - {path: x, split: y}\n", "run.yaml:2: expected path: or type:, found split"},
        {"- a\n- b\n", "run.yaml:1: expected option: value lines, found a list"},
        {"hello\n", "run.yaml:1: expected option: value lines, found a single value"},
        {"seed: 1\n---\nseed: 2\n", "run.yaml:2: expected one document"},
        {"a: &x 1\nseed: *x\n", "run.yaml:1: there is no option called \"a\""},
        {"seed: &x 1\nlora_r: *x\n", "run.yaml:2: expected plain values, found an alias"},
        {"seed: \"1\n", "run.yaml:2: not valid YAML"},
        {"seed: 1\n\tlr: 2\n", "run.yaml:2: not valid YAML"},
        {"seed: 1\n lr: 2\n", "run.yaml:1: seed expects a whole number"},
        {"model: \"a\\0b\"\n", "run.yaml:1: expected text, found a NUL character"},
        {"datasets: [{path: x", "not valid YAML"},
        {"config: other.yaml\n", "a config file cannot name another one"},
        {"? [a, b]\n: 1\n", "expected an option's name, found a list"},
        {"\xff\xfe\x41", "not valid YAML"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        ck_assert_int_eq(parse_config(cases[i].text, ""), -QS_EUSAGE);
        ck_assert_msg(strstr(e.text, cases[i].sentence), "wanted: %s\nfound:  %s", cases[i].sentence, e.text);
    }
    ck_assert_int_eq(parse("--config /nonexistent/run.yaml"), -QS_EMISSING);
}
END_TEST

/* Every prefix of a valid file, and the file with any one byte replaced, is either read or refused. */
START_TEST(truncated_and_garbled_config_files_never_crash)
{
    static const char good[] =
        "model: m\ndatasets:\n  - {path: a, type: b}\ntarget_modules: [q, \"v\"]\nlr: 2e-4\nseed: 3\n";
    qs_option_set set = {&qs_training_options, &o};
    uint32_t x = 1;
    for (size_t n = 0; n < sizeof good - 1; n++) {
        qs_option_read_yaml(&set, 1, "f", good, n, QS_FROM_CONFIG, &e);
        for (int k = 0; k < 8; k++) {
            char bad[sizeof good];
            memcpy(bad, good, sizeof good);
            x = x * 1664525 + 1013904223;
            bad[n] = (char)(x >> 24);
            qs_option_read_yaml(&set, 1, "f", bad, sizeof good - 1, QS_FROM_CONFIG, &e);
        }
    }
}
END_TEST

START_TEST(options_written_as_yaml_read_back_the_same)
{
    qs_option_set set = {&qs_training_options, &o};
    OK("--model /a/b --data x\"y\\z,tr\tue --data no --out 12 --lr 0.00012345678901234567 --vram 10G --ram "
       "12345678 --bf16 "
       "--adam-epsilon 1e-9 --chat-template null --target-modules .*(q|v)_proj --warmup-steps 3 --max-steps "
       "9");
    char *first = qs_option_to_yaml(&set, 1);
    ck_assert_ptr_nonnull(strstr(first, "adam_epsilon: 1.0e-09\n"));
    qs_options_free(&o);
    o = (qs_options){0};
    qs_options_defaults(&o);
    ck_assert_msg(!qs_option_read_yaml(&set, 1, "f", first, strlen(first), QS_FROM_CONFIG, &e), "%s", e.text);
    char *second = qs_option_to_yaml(&set, 1);
    ck_assert_str_eq(first, second);
    ck_assert_str_eq(o.chat_template, "null");
    ck_assert_double_eq(o.learning_rate, 0.00012345678901234567); /* to the last bit */
    qs_free(first);
    qs_free(second);
}
END_TEST

/* ---- resume, checks, budgets ------------------------------------------------------------------------- */

START_TEST(a_resumed_run_keeps_what_decides_its_bits)
{
    char path[200];
    OK("--model m --data d --out o --lora-r 8 --max-steps 10");
    snprintf(path, sizeof path, "%s", file("options.yaml", ""));
    ck_assert_int_eq(qs_saved_options_write(&o, path, &e), 0);
    OK("--model m --data d --out o2 --lora-r 8 --max-steps 10 --vram 3G --save-steps 1");
    ck_assert_int_eq(qs_saved_options_check(&o, path, &e), 0);
    OK("--model m --data d --lora-r 8 --max-steps 20"); /* longer: a warning */
    ck_assert_int_eq(qs_saved_options_check(&o, path, &e), 0);
    OK("--model m --data d --lora-r 16 --seed 1 --max-steps 10");
    ck_assert_int_eq(qs_saved_options_check(&o, path, &e), -QS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(e.text, "seed was 42, now 1; lora_r was 8, now 16"));
    ck_assert_int_eq(qs_saved_options_check(&o, "/nonexistent/x", &e), -QS_EMISSING);
    char line[300]; /* the saved file is a config file, and does not resume by itself */
    snprintf(line, sizeof line, "--config %s", path);
    OK(line);
    ck_assert_int_eq(o.lora_r, 8);
    ck_assert_ptr_null(o.resume);
}
END_TEST

START_TEST(train_needs_model_data_and_out)
{
    OK("");
    ck_assert_int_eq(qs_options_check_train(&o, &e), -QS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(e.text, "--model"));
    OK("--model m");
    ck_assert_int_eq(qs_options_check_plan(&o, &e), 0);
    ck_assert_int_eq(qs_options_check_train(&o, &e), -QS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(e.text, "--data"));
    OK("--model m --data d");
    ck_assert_int_eq(qs_options_check_train(&o, &e), -QS_EUSAGE);
    ck_assert_ptr_nonnull(strstr(e.text, "--out"));
    OK("--model m --data d --out o");
    ck_assert_int_eq(qs_options_check_train(&o, &e), 0);
    OK("--model m --data d --out o --val-size 0.1 --eval-data v");
    ck_assert_int_eq(qs_options_check_train(&o, &e), -QS_EUSAGE);
    FAILS("--report-to wandb", "report_to expects tensorboard or none");
}
END_TEST

START_TEST(automatic_budgets_are_shares_of_what_is_free)
{
    const uint64_t gib = UINT64_C(1) << 30;
    OK("");
    qs_budgets b = qs_options_budgets(&o, true, 0, 16 * gib);
    ck_assert_uint_eq(b.vram_bytes, 4 * gib);
    ck_assert_uint_eq(b.ram_bytes, 4 * gib);
    OK("--ram 3G");
    b = qs_options_budgets(&o, false, 10 * gib, 16 * gib);
    ck_assert_uint_eq(b.vram_bytes, 9 * gib);
    ck_assert_uint_eq(b.ram_bytes, 3 * gib);
    ck_assert_uint_gt(qs_host_available_bytes(), 0);
}
END_TEST

/* A file of a made-up machine under dir. */
static void put(const char *name, const char *text)
{
    char *path = test_path(dir, name);
    for (char *slash = path + strlen(dir) + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(path, 0777);
    }
    test_file_write(path, text, strlen(text));
    qs_free(path);
}

START_TEST(budgets_respect_control_groups_of_both_versions)
{
    const uint64_t mib = 1 << 20;
    uint64_t limit, left;
    put("proc/meminfo", "MemTotal: 8388608 kB\nMemAvailable: 4194304 kB\n");
    qs_host_memory(dir, &limit, &left); /* no groups at all */
    ck_assert_uint_eq(limit, 8192 * mib);
    ck_assert_uint_eq(left, 4096 * mib);
    put("proc/self/cgroup", "0::/user/job\n");
    put("sys/fs/cgroup/user/job/memory.max", "max\n"); /* no limit of its own, but one above it */
    put("sys/fs/cgroup/user/memory.max", "314572800\n");
    put("sys/fs/cgroup/user/memory.current", "104857600\n");
    put("sys/fs/cgroup/user/memory.stat", "anon 1\ninactive_file 52428800\n");
    qs_host_memory(dir, &limit, &left);
    ck_assert_uint_eq(limit, 300 * mib);
    ck_assert_uint_eq(left, 250 * mib); /* page cache that can be dropped is not used up */
    put("proc/self/cgroup", "5:cpu,cpuacct:/a\n4:memory:/docker/x\n0::/\n"); /* hybrid */
    put("sys/fs/cgroup/memory/docker/x/memory.limit_in_bytes", "209715200\n");
    put("sys/fs/cgroup/memory/docker/x/memory.usage_in_bytes", "209715201\n");
    put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    qs_host_memory(dir, &limit, &left);
    ck_assert_uint_eq(limit, 200 * mib);
    ck_assert_uint_eq(left, 0);
}
END_TEST

START_TEST(the_default_cache_follows_the_users_cache_directory)
{
    setenv("XDG_CACHE_HOME", "/x/y", 1);
    OK("");
    ck_assert_str_eq(o.cache.items[0], "/x/y/qlora-stream");
    unsetenv("XDG_CACHE_HOME");
    setenv("HOME", "/h", 1);
    OK("");
    ck_assert_str_eq(o.cache.items[0], "/h/.cache/qlora-stream");
    unsetenv("HOME"); /* the user's own entry says where it is; never the working folder */
    OK("");
    ck_assert_int_eq(o.cache.items[0][0], '/');
    OK("--cache /d1,/d2");
    ck_assert_int_eq(o.cache.count, 2);
}
END_TEST

/* ---- a command with a table of its own --------------------------------------------------------------- */

typedef struct extra {
    int64_t steps;
    uint8_t source[1];
} extra;

START_TEST(a_command_can_add_its_own_options)
{
    static const qs_option rows[] = {{.name = "steps",
                                      .type = QS_OPT_INT,
                                      .offset = offsetof(extra, steps),
                                      .fallback = "3",
                                      .min = 1,
                                      .max = 100,
                                      .group = "Bench",
                                      .help = "steps to run"}};
    static const qs_option_table table = {rows, 1, NULL, 0, offsetof(extra, source)};
    extra x = {0};
    char first[] = "--steps=5", second[] = "--lora-r=4", *argv[] = {first, second};
    ck_assert_int_eq(qs_options_parse(&o, 2, argv, &(qs_option_set){&table, &x}, 1, &e), 0);
    ck_assert_int_eq(x.steps, 5);
    ck_assert_int_eq(o.lora_r, 4);
}
END_TEST

/* ---- help -------------------------------------------------------------------------------------------- */

START_TEST(help_fits_a_hundred_columns_and_names_every_option)
{
    char *text = NULL;
    size_t bytes;
    FILE *f = open_memstream(&text, &bytes);
    qs_option_set set = {&qs_training_options, &o};
    qs_option_print_help(f, &set, 1);
    fclose(f);
    for (char *line = text; *line; line += strcspn(line, "\n") + 1)
        ck_assert_msg(strcspn(line, "\n") <= 100, "%.*s", (int)strcspn(line, "\n"), line);
    for (int r = 0; r < qs_training_options.count; r++)
        ck_assert_ptr_nonnull(strstr(text, qs_training_options.rows[r].name));
    ck_assert_ptr_nonnull(strstr(text, "model_name_or_path")); /* aliases */
    ck_assert_ptr_nonnull(strstr(text, "[0.0002]"));           /* defaults */
    free(text);
}
END_TEST

START_TEST(no_name_means_two_options)
{
    for (int r = 0; r < qs_training_options.count; r++) {
        const qs_option *row = &qs_training_options.rows[r];
        qs_option_set set = {&qs_training_options, &o};
        char words[300];
        snprintf(words, sizeof words, "%s %s", row->name, row->aliases ? row->aliases : "");
        for (char *w = strtok(words, " "); w; w = strtok(NULL, " ")) {
            ck_assert_msg(qs_option_find(&set, 1, w, NULL) == row, "%s", w);
            for (int s = 0; s < qs_training_options.switch_count; s++)
                ck_assert_str_ne(qs_training_options.switches[s].name, w);
        }
    }
    for (int s = 0; s < qs_training_options.switch_count;
         s++) /* and every switch leads to an option that takes its words */
        for (int yes = 0; yes < 2; yes++) {
            char line[100];
            snprintf(line, sizeof line, "--%s=%s", qs_training_options.switches[s].name,
                     yes ? "true" : "false");
            OK(line);
        }
}
END_TEST

int main(void)
{
    dir = test_dir_create();
    Suite *s = suite_create("options");
    TCase *t = tcase_create("options");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, several_paths_may_follow_one_flag_and_a_tilde_is_the_home_directory);
    tcase_add_test(t, defaults_are_what_the_help_says);
    tcase_add_test(t, dashes_underscores_equals_and_aliases_are_one_option);
    tcase_add_test(t, booleans_take_flags_negations_and_words);
    tcase_add_test(t, sizes_know_binary_and_decimal_units);
    tcase_add_test(t, numbers_out_of_range_say_range_and_place);
    tcase_add_test(t, enums_take_other_tools_spellings_and_list_theirs);
    tcase_add_test(t, switches_of_other_tools_set_the_option_they_mean);
    tcase_add_test(t, lists_split_at_commas_and_grow_with_repeated_flags);
    tcase_add_test(t, resume_stands_alone_or_takes_a_checkpoint);
    tcase_add_test(t, a_run_that_is_not_there_cannot_be_resumed);
    tcase_add_test(t, saved_options_that_were_altered_are_passed_over_for_those_of_a_checkpoint);
    tcase_add_test(t, saved_paths_lead_there_from_any_folder);
    tcase_add_test(t, an_option_and_its_switch_must_agree);
    tcase_add_test(t, null_means_no_clipping);
    tcase_add_test(t, an_unknown_name_is_answered_with_the_nearest);
    tcase_add_test(t, a_flag_without_its_value_is_an_error);
    tcase_add_test(t, command_line_beats_config_beats_preset_beats_default);
    tcase_add_test(t, the_nearer_of_two_rivals_counts);
    tcase_add_test(t, a_wrong_preset_lists_the_right_ones);
    tcase_add_test(t, every_preset_reads_and_changes_something);
    tcase_add_test(t, a_config_file_as_axolotl_writes_it_is_read);
    tcase_add_test(t, bad_config_files_are_answered_with_file_and_line);
    tcase_add_test(t, truncated_and_garbled_config_files_never_crash);
    tcase_add_test(t, options_written_as_yaml_read_back_the_same);
    tcase_add_test(t, a_resumed_run_keeps_what_decides_its_bits);
    tcase_add_test(t, train_needs_model_data_and_out);
    tcase_add_test(t, automatic_budgets_are_shares_of_what_is_free);
    tcase_add_test(t, budgets_respect_control_groups_of_both_versions);
    tcase_add_test(t, the_default_cache_follows_the_users_cache_directory);
    tcase_add_test(t, a_command_can_add_its_own_options);
    tcase_add_test(t, help_fits_a_hundred_columns_and_names_every_option);
    tcase_add_test(t, no_name_means_two_options);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    test_dir_remove(dir);
    return failed != 0;
}
