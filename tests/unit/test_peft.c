/* Behaviour of src/model/peft: adapters as PEFT writes and reads them. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/model/lora.h"
#include "tests/support/temp_dir.h"
#include "tests/support/model_parts.h"
#include "tests/support/packs.h"

static int save(const char *to, const qs_lora *l, const char *base_model, float *x, qs_err *e)
{
    qs_pager *p = test_packs_in(l, x);
    return test_packs_done(p, qs_peft_save(to, l, base_model, p, e));
}

static int load(const char *from, const qs_lora *l, const qs_architecture *a, float *x, qs_err *e)
{
    qs_pager *p = test_packs_in(l, x);
    return test_packs_done(p, qs_peft_load(from, l, a, p, e));
}

static char *dir;
static qs_err err;

static void remove_dir(void) { test_dir_remove(dir); }

/* Two layers: q 24x20, k and v 12x20, o 20x24, gate and up 28x20, down 20x28. */
static qs_architecture model;

static void make_dir(void)
{
    dir = test_dir_create();
    model = test_architecture("{'model_type':'llama','num_hidden_layers':2,'hidden_size':20,'intermediate_"
                              "size':28,'num_attention_heads':4,"
                              "'num_key_value_heads':2,'head_dim':6,'vocab_size':32}");
}

static qs_lora create(const qs_architecture *a, qs_lora_config c)
{
    qs_lora l;
    int rc = qs_lora_create(&c, a, &l, &err);
    ck_assert_msg(rc == 0, "%s", err.text);
    return l;
}

static const char *const qv[] = {"q_proj", "v_proj"};

static qs_lora small(void)
{
    return create(&model, (qs_lora_config){.r = 4, .alpha = 8, .dropout = 0.05f, .targets = {qv, 2}});
}

static float *noise(const qs_lora *l)
{
    float *x = qs_malloc((size_t)test_pack_floats(l) * 4);
    qs_pager *p = test_packs_in(l, x);
    qs_lora_init(l, 3, p);
    test_packs_done(p, 0);
    for (int32_t layer = 0; layer < l->layers; layer++)
        for (int k = 0; k < l->shape[0].layer->tensors; k++)
            for (int64_t i = 0; qs_lora_of_layer(l, layer)->slot[k].active && l->layer_mask[layer] &&
                                i < (int64_t)l->config.r * qs_lora_of_layer(l, layer)->slot[k].out;
                 i++)
                x[layer * l->pack_floats + qs_lora_of_layer(l, layer)->slot[k].b_at + i] =
                    qs_uniform_f32(qs_random_u32(9, (uint64_t)layer, (uint64_t)i)) - 0.5f;
    return x;
}

/* Writes DIR/adapter_config.json with ' for ". */
static void put_config(const char *text)
{
    char *json = qs_strdup(text), *path = test_path(dir, "adapter_config.json");
    for (char *c = json; *c; c++)
        if (*c == '\'') *c = '"';
    test_file_write(path, json, strlen(json));
    qs_free(json);
    qs_free(path);
}

static const char *const config_qv =
    "{'peft_type':'LORA','r':4,'lora_alpha':8,'target_modules':['v_proj','q_proj']}";

START_TEST(what_is_saved_loads_to_the_same_bits)
{
    static const char *const all[] = {"all-linear"}, *const pattern[] = {".*\\.1\\.mlp\\.(up|gate)_proj"};
    static const char *const ranks[] = {"q_proj=2", "layers.1.self_attn.v_proj=8"},
                             *const alphas[] = {"v_proj=0.5"}, *const layers[] = {"0-1"},
                             *const not_o[] = {"o_proj"};
    const qs_lora_config configs[] = {{.r = 4, .alpha = 8, .targets = {qv, 2}},
                                      {.r = 1, .alpha = 0.3, .rslora = true, .targets = {all, 1}},
                                      {.r = 3, .alpha = 16, .dropout = 0.1f, .targets = {pattern, 1}},
                                      {.r = 4,
                                       .alpha = 8,
                                       .targets = {all, 1},
                                       .exclude = {not_o, 1},
                                       .layers = {layers, 1},
                                       .rank_pattern = {ranks, 2},
                                       .alpha_pattern = {alphas, 1}}};
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        qs_lora l = create(&model, configs[i]);
        size_t bytes = (size_t)test_pack_floats(&l) * 4;
        float *x = noise(&l), *y = qs_malloc(bytes);
        char *sub = qs_printf("%s/a/b%zu", dir, i);
        ck_assert_msg(save(sub, &l, "base", x, &err) == 0, "%s", err.text);
        memset(y, 0xff, bytes);
        ck_assert_msg(load(sub, &l, &model, y, &err) == 0, "%s", err.text);
        ck_assert_mem_eq(x, y, bytes);

        qs_peft_config c;
        ck_assert_msg(qs_peft_read_config(sub, &c, &err) == 0, "%s", err.text);
        ck_assert_int_eq(c.lora.r, l.config.r);
        ck_assert_double_eq(c.lora.alpha, l.config.alpha);
        ck_assert_float_eq(c.lora.dropout, l.config.dropout);
        ck_assert_int_eq(c.lora.rslora, l.config.rslora);
        ck_assert_int_eq(c.lora.targets.count, i % 2 ? 7 : configs[i].targets.count);
        qs_peft_config_free(&c);
        qs_free(sub);
        qs_free(x);
        qs_free(y);
        qs_lora_free(&l);
    }
}
END_TEST

START_TEST(the_config_is_written_as_peft_does)
{
    qs_lora l = small();
    float *x = noise(&l);
    ck_assert_int_eq(save(dir, &l, "models/\"tiny\"", x, &err), 0);
    char *path = test_path(dir, "adapter_config.json"), *text = test_file_read(path, NULL);
    ck_assert_str_eq(text, "{\n"
                           "  \"alpha_pattern\": {},\n"
                           "  \"auto_mapping\": null,\n"
                           "  \"base_model_name_or_path\": \"models/\\\"tiny\\\"\",\n"
                           "  \"bias\": \"none\",\n"
                           "  \"fan_in_fan_out\": false,\n"
                           "  \"inference_mode\": true,\n"
                           "  \"init_lora_weights\": true,\n"
                           "  \"layers_pattern\": null,\n"
                           "  \"layers_to_transform\": null,\n"
                           "  \"lora_alpha\": 8,\n"
                           "  \"lora_dropout\": 0.05,\n"
                           "  \"modules_to_save\": null,\n"
                           "  \"peft_type\": \"LORA\",\n"
                           "  \"r\": 4,\n"
                           "  \"rank_pattern\": {},\n"
                           "  \"revision\": null,\n"
                           "  \"target_modules\": [\n"
                           "    \"q_proj\",\n"
                           "    \"v_proj\"\n"
                           "  ],\n"
                           "  \"task_type\": \"CAUSAL_LM\",\n"
                           "  \"use_dora\": false,\n"
                           "  \"use_rslora\": false\n"
                           "}");
    qs_free(text);
    qs_free(path);
    qs_free(x);
    qs_lora_free(&l);
}
END_TEST

/* Adapters that PEFT saved: every tensor of the file must be at its place in the packs. */
START_TEST(adapters_saved_by_peft_load)
{
    static const char *const cases[] = {"llama",      "mistral",  "qwen2",           "qwen3",
                                        "llama_yarn", "gpt_neox", "gpt_neox_serial", "gemma",
                                        "gemma2",     "gemma3",   "lora_patterns"};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char *base = qs_printf("tests/golden/%s/model", cases[i]),
             *adapter = qs_printf("tests/golden/%s/init_adapter", cases[i]);
        qs_architecture a;
        ck_assert_msg(qs_architecture_read(base, &a, &err) == 0, "%s", err.text);
        qs_peft_config c;
        ck_assert_msg(qs_peft_read_config(adapter, &c, &err) == 0, "%s", err.text);
        qs_lora l = create(&a, c.lora);
        float *x = qs_malloc((size_t)test_pack_floats(&l) * 4);
        ck_assert_msg(load(adapter, &l, &a, x, &err) == 0, "%s", err.text);

        char *path = qs_path_join(adapter, "adapter_model.safetensors");
        qs_safetensors s;
        ck_assert_int_eq(qs_safetensors_open(path, &s, &err), 0);
        int64_t elements = 0;
        for (int t = 0; t < s.count; t++) {
            int layer, side = strstr(s.tensors[t].name, ".lora_B.") != NULL;
            const char *number = strstr(s.tensors[t].name, ".layers.");
            ck_assert(number && sscanf(number, ".layers.%d.", &layer) == 1);
            const qs_lora_layer *kind = qs_lora_of_layer(&l, layer);
            char module[QS_TENSOR_NAME];
            int k = 0;
            while (k < kind->layer->tensors &&
                   !strstr(s.tensors[t].name, qs_tensor_module(&kind->layer->tensor[k], module)))
                k++;
            ck_assert_int_lt(k, kind->layer->tensors);
            int64_t n = s.tensors[t].shape[0] * s.tensors[t].shape[1];
            float *want = qs_malloc((size_t)n * 4);
            ck_assert_int_eq(qs_safetensors_read_f32(path, &s.tensors[t], want, n, &err), 0);
            ck_assert_mem_eq(want,
                             x + layer * l.pack_floats + (side ? kind->slot[k].b_at : kind->slot[k].a_at),
                             (size_t)n * 4);
            elements += n;
            qs_free(want);
        }
        ck_assert_int_eq(elements, qs_lora_parameters(&l));
        qs_safetensors_free(&s);
        qs_free(path);
        qs_free(x);
        qs_lora_free(&l);
        qs_peft_config_free(&c);
        qs_free(base);
        qs_free(adapter);
    }
}
END_TEST

START_TEST(a_published_adapter_loads)
{
    const char *shared = getenv("QS_SHARED_DATA");
    char *adapter = qs_path_join(shared ? shared : "../shared/data", "adapters/qwen2.5-0.5b-lora-r8");
    if (!qs_file_exists(adapter)) {
        printf("skip: no shared data\n");
    } else {
        const qs_architecture qwen = test_architecture(
            "{'model_type':'qwen2','num_hidden_layers':24,'hidden_size':896,'intermediate_size':4864,"
            "'num_attention_heads':14,'num_key_value_heads':2,'vocab_size':151936}");
        qs_peft_config c;
        ck_assert_msg(qs_peft_read_config(adapter, &c, &err) == 0, "%s", err.text);
        ck_assert_int_eq(c.lora.r, 8);
        ck_assert_double_eq(c.lora.alpha, 16);
        ck_assert_float_eq(c.lora.dropout, 0.05f);
        qs_lora l = create(&qwen, c.lora);
        ck_assert_int_eq(qs_lora_parameters(&l), 540672);
        float *x = qs_malloc((size_t)test_pack_floats(&l) * 4);
        ck_assert_msg(load(adapter, &l, &qwen, x, &err) == 0, "%s", err.text);
        int64_t zeros = 0;
        for (int64_t i = 0; i < test_pack_floats(&l); i++) zeros += x[i] == 0;
        ck_assert_int_lt(zeros, test_pack_floats(&l) / 100);
        qs_free(x);
        qs_lora_free(&l);
        qs_peft_config_free(&c);
    }
    qs_free(adapter);
}
END_TEST

static void config_refused(const char *text, int code, const char *word)
{
    put_config(text);
    qs_peft_config c;
    ck_assert_msg(qs_peft_read_config(dir, &c, &err) == -code, "%s: code %d: %s", text, err.code, err.text);
    ck_assert_msg(strstr(err.text, "/adapter_config.json: ") && strstr(err.text, word), "no \"%s\" in: %s",
                  word, err.text);
}

START_TEST(configs_that_mean_more_than_a_and_b_are_refused)
{
    config_refused("{'peft_type':'LORA','use_dora':true}", QS_EUNSUP, "use_dora is true");
    config_refused("{'peft_type':'LORA','rank_pattern':['q_proj']}", QS_EFORMAT, "rank_pattern");
    config_refused("{'peft_type':'LORA','modules_to_save':['lm_head']}", QS_EUNSUP,
                   "modules_to_save is [\"lm_head\"]");
    config_refused("{'peft_type':'LORA','layers_to_transform':['one']}", QS_EFORMAT, "layers_to_transform");
    config_refused("{'peft_type':'LORA','bias':'all'}", QS_EUNSUP, "bias is \"all\"");
    config_refused("{'peft_type':'LORA','init_lora_weights':'pissa_niter_4'}", QS_EUNSUP,
                   "init_lora_weights is \"pissa_niter_4\"");
    config_refused("{'peft_type':'IA3'}", QS_EUNSUP, "peft_type is \"IA3\"");
    config_refused("{}", QS_EFORMAT, "peft_type is absent");
    config_refused("{'peft_type':'LORA','r':0}", QS_EFORMAT, "r is 0");
    config_refused("{'peft_type':'LORA','r':'8'}", QS_EFORMAT, "r is \"8\"");
    config_refused("{'peft_type':'LORA','lora_alpha':-1}", QS_EFORMAT, "lora_alpha is -1");
    config_refused("{'peft_type':'LORA','target_modules':[]}", QS_EFORMAT, "target_modules is []");
    config_refused("{'peft_type':'LORA','target_modules':['q_proj',7]}", QS_EFORMAT, "target_modules");
    config_refused("{'peft_type':'LORA','target_modules':{'q':1}}", QS_EFORMAT, "target_modules");
    config_refused("{'peft_type':'LORA',", QS_EFORMAT, "not valid JSON");
    put_config("{'peft_type':'LORA','modules_to_save':[],'alpha_pattern':{},'exclude_modules':'','init_lora_"
               "weights':'gaussian'}");
    qs_peft_config c;
    ck_assert_msg(qs_peft_read_config(dir, &c, &err) == 0, "%s", err.text);
    ck_assert_int_eq(c.lora.r, 8);
    ck_assert_int_eq(c.lora.targets.count, 2);
    ck_assert_str_eq(c.lora.targets.item[1], "v_proj");
    qs_peft_config_free(&c);
}
END_TEST

static void load_refused(int code, const char *word)
{
    qs_lora l = small();
    float *y = qs_malloc((size_t)test_pack_floats(&l) * 4);
    int rc = load(dir, &l, &model, y, &err);
    ck_assert_msg(rc == -code && strstr(err.text, word), "wanted %d and \"%s\": %d: %s", code, word, err.code,
                  rc ? err.text : "loaded");
    qs_free(y);
    qs_lora_free(&l);
}

START_TEST(an_adapter_of_another_shape_says_how_to_set_the_run)
{
    put_config("{'peft_type':'LORA','r':2,'lora_alpha':8,'target_modules':['q_proj','v_proj']}");
    load_refused(QS_EINVAL, "set --lora_r 2");
    put_config("{'peft_type':'LORA','r':4,'lora_alpha':16,'target_modules':['q_proj','v_proj']}");
    load_refused(QS_EINVAL, "set --lora_alpha 16");
    put_config(
        "{'peft_type':'LORA','r':4,'lora_alpha':8,'use_rslora':true,'target_modules':['q_proj','v_proj']}");
    load_refused(QS_EINVAL, "set --use_rslora");
    put_config("{'peft_type':'LORA','r':4,'lora_alpha':8,'target_modules':['q_proj','o_proj']}");
    load_refused(QS_EINVAL,
                 "is on q_proj,o_proj in 2 of 2 layers, the run trains q_proj,v_proj in 2 of 2 layers");
    put_config("{'peft_type':'LORA','r':4,'lora_alpha':8,'target_modules':'.*1.self_attn.(q|v)_proj'}");
    load_refused(QS_EINVAL, "is on q_proj,v_proj in 1 of 2 layers");
    put_config("{'peft_type':'LORA','r':4,'lora_alpha':8,'target_modules':['c_attn']}");
    load_refused(QS_EINVAL, "adapter_config.json: target_modules: \"c_attn\" matches nothing");
}
END_TEST

/* The eight tensors of small(), in one type, changed by `change` before they are written. */
static void put_tensors(qs_dtype type, int count, void (*change)(qs_safetensors_entry *))
{
    put_config(config_qv);
    qs_safetensors_entry entries[9];
    char names[9][96];
    static uint8_t data[9][4096];
    for (int i = 0; i < 9; i++) {
        int side = i & 1, v = i >> 1 & 1;
        snprintf(names[i], sizeof names[i],
                 "base_model.model.model.layers.%d.self_attn.%c_proj.lora_%c.weight", i >> 2, "qv"[v],
                 "AB"[side]);
        int64_t out = v ? 12 : 24;
        entries[i] = (qs_safetensors_entry){.name = names[i],
                                            .type = type,
                                            .dims = 2,
                                            .shape = {side ? out : 4, side ? 4 : 20},
                                            .data = data[i]};
        for (size_t j = 0; j < 200; j++) qs_store_f32(data[i], type, j, (float)(i + 1) + (float)j / 128);
    }
    snprintf(names[8], sizeof names[8], "base_model.model.lm_head.weight");
    if (change) change(entries);
    static const char *const metadata[] = {"format", "pt"};
    char *path = test_path(dir, "adapter_model.safetensors");
    ck_assert_msg(qs_safetensors_write(path, entries, count, metadata, 1, &err) == 0, "%s", err.text);
    qs_free(path);
}

static void swap_shape(qs_safetensors_entry *t)
{
    t[3].shape[0] = 4;
    t[3].shape[1] = 12;
}
static void one_nan(qs_safetensors_entry *t)
{
    float nan = NAN;
    memcpy((char *)(uintptr_t)t[6].data + 4 * 17, &nan, 4);
}
static void as_bytes(qs_safetensors_entry *t) { t[0].type = QS_U8; }

/* As other programs name them. The strings live as long as the test. */
static void other_names(qs_safetensors_entry *t)
{
    static char names[8][128];
    static const char *const fronts[] = {"base_model.model.model.layers",
                                         "base_model.model.model.language_model.layers",
                                         "base_model.model.language_model.model.layers",
                                         "base_model.model._orig_mod.model.layers", "model.layers"};
    for (int i = 0; i < 8; i++) {
        const char *rest = strstr(t[i].name, ".layers") + strlen(".layers"),
                   *weight = strstr(rest, ".weight");
        snprintf(names[i], sizeof names[i], "%s%.*s%s.weight", fronts[i % 5], (int)(weight - rest), rest,
                 i % 2 ? ".default" : ".my_adapter");
        t[i].name = names[i];
    }
}

static void two_adapters(qs_safetensors_entry *t)
{
    t[0].name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.one.weight";
    t[2].name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.two.weight";
}

START_TEST(tensors_are_known_by_the_names_that_other_programs_give_them)
{
    put_tensors(QS_F32, 8, other_names);
    qs_lora l = small();
    float *x = qs_malloc((size_t)test_pack_floats(&l) * 4);
    ck_assert_msg(load(dir, &l, &model, x, &err) == 0, "%s", err.text);
    ck_assert_float_eq(x[test_slot(&l, "q_proj")->a_at], 1);
    ck_assert_float_eq(x[l.pack_floats + test_slot(&l, "v_proj")->b_at], 8);
    qs_free(x);
    qs_lora_free(&l);
    put_tensors(QS_F32, 8, two_adapters);
    load_refused(QS_EUNSUP, "several adapters");
}
END_TEST

START_TEST(half_precision_adapters_load)
{
    static const qs_dtype types[] = {QS_F32, QS_BF16, QS_F16};
    for (int i = 0; i < 3; i++) {
        put_tensors(types[i], 8, NULL);
        qs_lora l = small();
        float *x = qs_malloc((size_t)test_pack_floats(&l) * 4);
        ck_assert_msg(load(dir, &l, &model, x, &err) == 0, "%s", err.text);
        /* Layer 1, v_proj, B: the eighth tensor. */
        ck_assert_float_eq(x[l.pack_floats + test_slot(&l, "v_proj")->b_at], 8);
        ck_assert_float_eq(x[l.pack_floats + test_slot(&l, "v_proj")->b_at + 40], 8.3125f);
        qs_free(x);
        qs_lora_free(&l);
    }
}
END_TEST

START_TEST(files_that_are_not_the_adapter_are_refused)
{
    put_tensors(QS_F32, 7, NULL);
    load_refused(QS_EFORMAT, "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight is missing");
    put_tensors(QS_F32, 9, NULL);
    load_refused(QS_EUNSUP, "base_model.model.lm_head.weight");
    put_tensors(QS_F32, 8, swap_shape);
    load_refused(QS_EFORMAT, "layers.0.self_attn.v_proj.lora_B.weight is [4, 12]; expected [12, 4]");
    put_tensors(QS_F32, 8, one_nan);
    load_refused(QS_EFORMAT, "layers.1.self_attn.v_proj.lora_A.weight has the value nan at element 17");
    put_tensors(QS_F32, 8, as_bytes);
    load_refused(QS_EFORMAT, "layers.0.self_attn.q_proj.lora_A.weight is of type U8");
}
END_TEST

START_TEST(missing_files_are_named_and_pickles_explained)
{
    char *empty = qs_path_join(dir, "empty"), *path;
    ck_assert_int_eq(qs_dir_create(empty, &err), 0);
    qs_lora l = small();
    float *y = qs_malloc((size_t)test_pack_floats(&l) * 4);
    ck_assert_int_eq(load(empty, &l, &model, y, &err), -QS_EMISSING);
    ck_assert_msg(strstr(err.text, "adapter_config.json"), "%s", err.text);
    path = qs_path_join(empty, "adapter_config.json");
    static const char config[] = "{\"peft_type\":\"LORA\",\"r\":4,\"lora_alpha\":8}";
    test_file_write(path, config, sizeof config - 1);
    qs_free(path);
    ck_assert_int_eq(load(empty, &l, &model, y, &err), -QS_EMISSING);
    ck_assert_msg(strstr(err.text, "adapter_model.safetensors"), "%s", err.text);
    path = qs_path_join(empty, "adapter_model.bin");
    test_file_write(path, "x", 1);
    ck_assert_int_eq(load(empty, &l, &model, y, &err), -QS_EUNSUP);
    ck_assert_msg(strstr(err.text, "pickle"), "%s", err.text);
    qs_free(path);
    qs_free(empty);
    qs_free(y);
    qs_lora_free(&l);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("peft");
    TCase *t = tcase_create("peft");
    tcase_add_unchecked_fixture(t, make_dir, remove_dir);
    tcase_add_test(t, what_is_saved_loads_to_the_same_bits);
    tcase_add_test(t, the_config_is_written_as_peft_does);
    tcase_add_test(t, adapters_saved_by_peft_load);
    tcase_add_test(t, a_published_adapter_loads);
    tcase_add_test(t, configs_that_mean_more_than_a_and_b_are_refused);
    tcase_add_test(t, an_adapter_of_another_shape_says_how_to_set_the_run);
    tcase_add_test(t, tensors_are_known_by_the_names_that_other_programs_give_them);
    tcase_add_test(t, half_precision_adapters_load);
    tcase_add_test(t, files_that_are_not_the_adapter_are_refused);
    tcase_add_test(t, missing_files_are_named_and_pickles_explained);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
