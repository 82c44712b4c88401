/* Behaviour of src/model/architecture: families, defaults, refusals, hostile files. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/model/architecture.h"
#include "tests/support/model_parts.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_err err;

static void make_dir(void) { dir = test_dir_create(); }
static void remove_dir(void) { test_dir_remove(dir); }

/* Writes config.json, with ' for ", and reads it. */
static int read_text(const char *text, qs_architecture *a)
{
    char *json = qs_strdup(text), *path = test_path(dir, "config.json");
    for (char *c = json; *c; c++)
        if (*c == '\'') *c = '"';
    test_file_write(path, json, strlen(json));
    qs_free(json);
    qs_free(path);
    err.text[0] = 0;
    return qs_architecture_read(dir, a, &err);
}

static qs_architecture good(const char *text)
{
    qs_architecture a;
    int rc = read_text(text, &a);
    ck_assert_msg(rc == 0, "%s", err.text);
    return a;
}

/* Reading fails with `code`, and the sentence names the file and says all of `words`. */
static void refused(const char *text, int code, const char *word, const char *word2)
{
    qs_architecture a;
    ck_assert_msg(read_text(text, &a) == -code, "%s: code %d, \"%s\"", text, err.code, err.text);
    ck_assert_msg(strstr(err.text, "/config.json: "), "no file name in: %s", err.text);
    ck_assert_msg(strstr(err.text, word), "no \"%s\" in: %s", word, err.text);
    ck_assert_msg(strstr(err.text, word2), "no \"%s\" in: %s", word2, err.text);
}

/* What nobody reads may be what it likes, as Python writes it. */
START_TEST(numbers_that_json_lacks_matter_only_where_they_are_read)
{
    qs_architecture a = good("{'model_type':'llama','num_hidden_layers':3,'router_bias':Infinity,'steps':[0."
                             "0,-Infinity,NaN],'note':'a NaN, an Infinity'}");
    ck_assert_int_eq(a.layers, 3);
    refused("{'model_type':'llama','num_hidden_layers':Infinity}", QS_EFORMAT,
            "num_hidden_layers is \"Infinity\"", "an integer");
    refused("{'model_type':'llama','num_hidden_layers':NaNs}", QS_EFORMAT, "not valid JSON", "line");
}
END_TEST

START_TEST(the_language_model_of_a_larger_one_is_read_from_its_own_part)
{
    qs_log_set_level(QS_LOG_ERROR);
    qs_architecture a = good("{'model_type':'llava','architectures':['LlavaForConditionalGeneration'],'tie_"
                             "word_embeddings':true,'eos_token_id':7,"
                             "'text_config':{'model_type':'mistral','architectures':['MistralModel'],'num_"
                             "hidden_layers':5},'vision_config':{'model_type':'clip'}}");
    ck_assert_str_eq(a.family, "mistral");
    ck_assert_int_eq(a.layers, 5);
    ck_assert(a.tied);
    ck_assert_int_eq(a.eos[0], 7);
    a = good("{'model_type':'llama','architectures':['LlamaForCausalLM'],'num_hidden_layers':4,'text_config':"
             "{'model_type':'mistral','num_hidden_layers':5}}");
    ck_assert_int_eq(a.layers, 4);
    qs_log_set_level(QS_LOG_INFO);
    refused("{'model_type':'llava','text_config':{'model_type':'squid'}}", QS_EUNSUP, "squid",
            "supported families");
    refused("{'model_type':'llama','quantization':{'group_size':64,'bits':4}}", QS_EUNSUP,
            "already quantised", "MLX");
}
END_TEST

START_TEST(llama_2_7b_has_the_published_number_of_parameters)
{
    qs_architecture a =
        good("{'model_type': 'llama', 'architectures': ['LlamaForCausalLM'], 'rms_norm_eps': 1e-05, "
             "'max_position_embeddings': 4096, 'rope_scaling': null, 'torch_dtype': 'float16', "
             "'pad_token_id': 32000}");
    ck_assert_int_eq(qs_architecture_parameters(&a), 6738415616);
    ck_assert_str_eq(a.class_name, "LlamaForCausalLM");
    ck_assert_int_eq(test_attention(&a, 0)->head_dim, 128);
    ck_assert_int_eq(test_attention(&a, 0)->kv_heads, 32);
    ck_assert_float_eq(a.norm_eps, 1e-5f);
    ck_assert_int_eq(a.bos, 1);
    ck_assert_int_eq(a.eos_count, 1);
    ck_assert_int_eq(a.eos[0], 2);
    ck_assert_int_eq(a.pad, -1);
    ck_assert(!a.tied && !test_attention(&a, 0)->qkv_bias && !test_attention(&a, 0)->o_bias &&
              !test_mlp(&a, 0)->bias && !test_attention(&a, 0)->qk_norm);
    ck_assert_int_eq(test_linear(&a, "gate_proj")->out, 11008);
    ck_assert_int_eq(test_linear(&a, "down_proj")->in, 11008);
}
END_TEST

/* Published totals: Llama-3.1-8B, Llama-3.2-1B, Mistral-7B, Qwen2.5-0.5B, Qwen3-0.6B. */
START_TEST(other_published_models_have_their_number_of_parameters)
{
    qs_architecture a =
        good("{'model_type':'llama','hidden_size':4096,'intermediate_size':14336,'num_hidden_layers':32,"
             "'num_attention_heads':32,'num_key_value_heads':8,'vocab_size':128256,'rope_theta':500000.0,"
             "'eos_token_id':[128001,128008,128009]}");
    ck_assert_int_eq(qs_architecture_parameters(&a), 8030261248);
    ck_assert_int_eq(a.eos_count, 3);
    ck_assert_int_eq(a.eos[2], 128009);
    a = good("{'model_type':'llama','hidden_size':2048,'intermediate_size':8192,'num_hidden_layers':16,'num_"
             "attention_heads':32,"
             "'num_key_value_heads':8,'head_dim':64,'vocab_size':128256,'tie_word_embeddings':true}");
    ck_assert_int_eq(qs_architecture_parameters(&a), 1235814400);
    a = good("{'model_type':'mistral'}");
    ck_assert_int_eq(qs_architecture_parameters(&a), 7241732096);
    a = good("{'model_type':'qwen2','hidden_size':896,'intermediate_size':4864,'num_hidden_layers':24,'num_"
             "attention_heads':14,"
             "'num_key_value_heads':2,'tie_word_embeddings':true,'use_sliding_window':false,'sliding_window':"
             "32768}");
    ck_assert_int_eq(qs_architecture_parameters(&a), 494032768);
    ck_assert(test_attention(&a, 0)->qkv_bias && !test_attention(&a, 0)->o_bias &&
              !test_attention(&a, 0)->qk_norm);
    a = good("{'model_type':'qwen3','hidden_size':1024,'intermediate_size':3072,'num_hidden_layers':28,'num_"
             "attention_heads':16,"
             "'num_key_value_heads':8,'tie_word_embeddings':true}");
    ck_assert_int_eq(qs_architecture_parameters(&a), 596049920);
    ck_assert_int_eq(test_attention(&a, 0)->head_dim, 128);
    ck_assert_int_eq(test_linear(&a, "o_proj")->in, 2048);
    ck_assert(test_attention(&a, 0)->qk_norm && !test_attention(&a, 0)->qkv_bias);
}
END_TEST

START_TEST(gpt_neox_is_made_of_other_parts)
{
    qs_architecture a = good("{'model_type':'gpt_neox','architectures':['GPTNeoXForCausalLM']}");
    ck_assert_int_eq(qs_architecture_parameters(&a), 20554567680);
    ck_assert(a.norm == QS_NORM_LAYER && !test_mlp(&a, 0)->gate &&
              test_attention(&a, 0)->qkv == QS_QKV_PER_HEAD);
    ck_assert(qs_architecture_layer(&a, 0)->parallel && test_mlp(&a, 0)->activation == QS_ACT_GELU_ERF);
    ck_assert(test_attention(&a, 0)->qkv_bias && test_attention(&a, 0)->o_bias && test_mlp(&a, 0)->bias &&
              !a.tied);
    ck_assert_int_eq(a.rotary[0].dim, 24);
    ck_assert_float_eq(a.norm_eps, 1e-5f);
    ck_assert_int_eq(test_linear(&a, "query_key_value")->out, 3 * 6144);
    ck_assert(!test_linear(&a, "k_proj") && !test_linear(&a, "v_proj") && !test_linear(&a, "gate_proj"));
    a = good("{'model_type':'gpt_neox','layer_norm_eps':1e-4,'use_parallel_residual':false,'attention_bias':"
             "false,'hidden_act':'gelu_new',"
             "'rotary_pct':0.5,'rotary_emb_base':500,'num_key_value_heads':8}");
    ck_assert(!qs_architecture_layer(&a, 0)->parallel && !test_attention(&a, 0)->qkv_bias &&
              !test_attention(&a, 0)->o_bias);
    ck_assert(test_mlp(&a, 0)->bias && test_mlp(&a, 0)->activation == QS_ACT_GELU_TANH);
    ck_assert_int_eq(a.rotary[0].dim, 48);
    ck_assert_int_eq(test_attention(&a, 0)->kv_heads, 64); /* not a key of this family */
    ck_assert_double_eq(a.rotary[0].theta, 500);
    ck_assert_float_eq(a.norm_eps, 1e-4f);
    /* What newer configs keep in rope_parameters beats the old keys. */
    a = good("{'model_type':'gpt_neox','rotary_pct':0.5,'rope_parameters':{'rope_type':'default','rope_theta'"
             ":700,'partial_rotary_factor':1.0}}");
    ck_assert_int_eq(a.rotary[0].dim, 96);
    ck_assert_double_eq(a.rotary[0].theta, 700);
    ck_assert_int_eq(good("{'model_type':'gpt_neox','rotary_pct':0.26}").rotary[0].dim, 24); /* of 24.96 */
    refused("{'model_type':'gpt_neox','rotary_pct':0.27}", QS_EUNSUP, "0.27 of a head of 96 is 25", "even");
    refused("{'model_type':'gpt_neox','rotary_pct':0}", QS_EUNSUP, "is 0 columns", "at least 2");
    refused("{'model_type':'gpt_neox','head_dim':64}", QS_EUNSUP, "num_attention_heads * head_dim is 4096",
            "6144");
}
END_TEST

START_TEST(key_value_heads_default_by_family_and_null_means_all)
{
    qs_architecture a = good("{'model_type':'mistral'}");
    ck_assert_int_eq(test_attention(&a, 0)->kv_heads, 8);
    a = good("{'model_type':'mistral','num_key_value_heads':null}");
    ck_assert_int_eq(test_attention(&a, 0)->kv_heads, 32);
    a = good("{'model_type':'llama','num_attention_heads':16}");
    ck_assert_int_eq(test_attention(&a, 0)->kv_heads, 16);
}
END_TEST

START_TEST(a_mistral_without_sliding_window_has_4096_and_with_null_none)
{
    qs_architecture a = good("{'model_type':'mistral'}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 4096);
    ck_assert_int_eq(test_attention(&a, 0)->window, 4096);
    a = good("{'model_type':'mistral','sliding_window':null}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 0);
    a = good("{'model_type':'mistral','sliding_window':8}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 8);
    a = good("{'model_type':'llama','sliding_window':8}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 0);
}
END_TEST

START_TEST(a_qwen_window_counts_only_when_used_and_from_max_window_layers)
{
    qs_architecture a = good("{'model_type':'qwen2','sliding_window':8}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 0);
    a = good("{'model_type':'qwen2','use_sliding_window':true,'sliding_window':8,'num_hidden_layers':4,'max_"
             "window_layers':3}");
    ck_assert_int_eq(test_attention(&a, 2)->window, 0);
    ck_assert_int_eq(test_attention(&a, 3)->window, 8);
    a = good("{'model_type':'qwen3','use_sliding_window':true,'num_hidden_layers':4,'max_window_layers':4}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 0);
    a = good("{'model_type':'qwen3','use_sliding_window':true,'sliding_window':8,'num_hidden_layers':3,'max_"
             "window_layers':3,"
             "'layer_types':['full_attention','sliding_attention','sliding_attention']}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 0);
    ck_assert_int_eq(test_attention(&a, 1)->window, 8);
    a = good("{'model_type':'qwen3','use_sliding_window':true,'num_hidden_layers':2,'layer_types':['sliding_"
             "attention','full_attention']}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 4096);
    ck_assert_int_eq(test_attention(&a, 1)->window, 0);
    ck_assert_int_eq(a.kinds, 2);
    refused(
        "{'model_type':'qwen3','num_hidden_layers':2,'layer_types':['full_attention','sliding_attention']}",
        QS_EFORMAT, "layer_types", "sliding_window");
    refused("{'model_type':'qwen3','num_hidden_layers':2,'layer_types':['full_attention']}", QS_EFORMAT,
            "layer_types", "2");
}
END_TEST

START_TEST(gemma_3_has_five_windows_with_a_rotary_base_of_their_own_before_each_full_layer)
{
    qs_architecture a = good("{'model_type':'gemma3_text','num_hidden_layers':13,'rope_theta':1e6,'rope_"
                             "scaling':{'rope_type':'linear','factor':8}}");
    ck_assert_int_eq(a.kinds, 2);
    for (int32_t l = 0; l < 13; l++) {
        ck_assert_int_eq(test_attention(&a, l)->window, l % 6 == 5 ? 0 : 4096);
        ck_assert_int_eq(test_attention(&a, l)->rotary, l % 6 == 5 ? 0 : 1);
    }
    ck_assert_double_eq(a.rotary[0].theta, 1e6);
    ck_assert_int_eq(a.rotary[0].scaling, QS_ROPE_LINEAR);
    ck_assert_double_eq(a.rotary[1].theta, 1e4);
    ck_assert_int_eq(a.rotary[1].scaling, QS_ROPE_PLAIN);
    ck_assert(a.norm == QS_NORM_RMS_PLUS_ONE && a.tied && a.logit_softcap == 0 &&
              test_attention(&a, 0)->qk_norm == QS_QK_NORM_HEAD);
    ck_assert_float_eq(test_attention(&a, 0)->scale, 1.0f / 16);
    /* The same as transformers writes it since 5, within a model of text and pictures. */
    a = good("{'model_type':'gemma3','architectures':['Gemma3ForConditionalGeneration'],'text_config':{'"
             "model_type':'gemma3_text',"
             "'layer_types':['sliding_attention','full_attention'],'num_hidden_layers':2,'sliding_window':8,'"
             "rope_parameters':{"
             "'full_attention':{'rope_type':'linear','factor':8.0,'rope_theta':500000},'sliding_attention':{'"
             "rope_type':'default','rope_theta':20000}}}}");
    ck_assert_int_eq(test_attention(&a, 0)->window, 8);
    ck_assert_int_eq(test_attention(&a, 1)->window, 0);
    ck_assert_double_eq(a.rotary[0].theta, 500000);
    ck_assert_double_eq(a.rotary[0].factor, 8);
    ck_assert_double_eq(a.rotary[1].theta, 20000);
    refused("{'model_type':'gemma3_text','use_bidirectional_attention':true}", QS_EUNSUP,
            "use_bidirectional_attention", "causal");
}
END_TEST

START_TEST(gemma_2_caps_scores_and_logits_unless_null)
{
    qs_architecture a = good("{'model_type':'gemma2'}");
    ck_assert_float_eq(test_attention(&a, 0)->softcap, 50);
    ck_assert_float_eq(a.logit_softcap, 30);
    ck_assert_int_eq(test_attention(&a, 0)->window, 4096);
    ck_assert_int_eq(test_attention(&a, 1)->window, 0);
    ck_assert(qs_architecture_layer(&a, 0)->part[0].norm_after &&
              qs_architecture_layer(&a, 0)->part[1].norm_after);
    a = good("{'model_type':'gemma2','attn_logit_softcapping':null,'final_logit_softcapping':null}");
    ck_assert(test_attention(&a, 0)->softcap == 0 && a.logit_softcap == 0);
    a = good("{'model_type':'gemma','hidden_act':'gelu'}"); /* which means the approximation there */
    ck_assert_int_eq(test_mlp(&a, 0)->activation, QS_ACT_GELU_TANH);
}
END_TEST

START_TEST(biases_follow_the_family)
{
    qs_architecture a = good("{'model_type':'llama','attention_bias':true,'mlp_bias':true}");
    ck_assert(test_has_bias(&a, "self_attn.q_proj") && test_has_bias(&a, "self_attn.k_proj") &&
              test_has_bias(&a, "self_attn.v_proj"));
    ck_assert(test_has_bias(&a, "self_attn.o_proj") && test_has_bias(&a, "mlp.gate_proj") &&
              test_has_bias(&a, "mlp.down_proj"));
    a = good("{'model_type':'qwen3','attention_bias':true}");
    ck_assert(test_has_bias(&a, "self_attn.o_proj") && !test_has_bias(&a, "mlp.up_proj"));
    a = good("{'model_type':'qwen2'}");
    ck_assert(test_has_bias(&a, "self_attn.v_proj") && !test_has_bias(&a, "self_attn.o_proj"));
    a = good("{'model_type':'mistral','attention_bias':true}");
    ck_assert(!test_has_bias(&a, "self_attn.q_proj"));
}
END_TEST

START_TEST(activations_have_their_aliases)
{
    qs_architecture a = good("{'model_type':'llama','hidden_act':'swish'}");
    ck_assert_int_eq(test_mlp(&a, 0)->activation, QS_ACT_SILU);
    a = good("{'model_type':'llama','hidden_act':'gelu'}");
    ck_assert_int_eq(test_mlp(&a, 0)->activation, QS_ACT_GELU_ERF);
    a = good("{'model_type':'llama','hidden_act':'gelu_new'}");
    ck_assert_int_eq(test_mlp(&a, 0)->activation, QS_ACT_GELU_TANH);
    refused("{'model_type':'llama','hidden_act':'relu'}", QS_EUNSUP, "hidden_act is \"relu\"", "silu");
}
END_TEST

START_TEST(rope_is_read_in_its_three_spellings)
{
    qs_architecture a =
        good("{'model_type':'llama','rope_theta':500000,'rope_scaling':{'type':'linear','factor':4}}");
    ck_assert_int_eq(a.rotary[0].scaling, QS_ROPE_LINEAR);
    ck_assert_double_eq(a.rotary[0].theta, 500000);
    ck_assert_double_eq(a.rotary[0].factor, 4);
    a = good("{'model_type':'llama','rope_theta':500000.0,'rope_scaling':{'rope_type':'llama3','factor':8.0,'"
             "low_freq_factor':1.0,"
             "'high_freq_factor':4.0,'original_max_position_embeddings':8192}}");
    ck_assert_int_eq(a.rotary[0].scaling, QS_ROPE_LLAMA3);
    ck_assert_int_eq(a.rotary[0].original_positions, 8192);
    a = good("{'model_type':'qwen3','rope_parameters':{'rope_theta':1000000,'rope_type':'default'}}");
    ck_assert_int_eq(a.rotary[0].scaling, QS_ROPE_PLAIN);
    ck_assert_double_eq(a.rotary[0].theta, 1000000);
    /* rope_scaling that is not empty beats rope_parameters; rope_type beats type */
    a = good("{'model_type':'llama','rope_scaling':{'type':'linear','rope_type':'dynamic','factor':2},'rope_"
             "parameters':{'rope_theta':5000}}");
    ck_assert_int_eq(a.rotary[0].scaling, QS_ROPE_DYNAMIC);
    ck_assert_double_eq(a.rotary[0].theta, 10000);
    a = good("{'model_type':'qwen2','max_position_embeddings':32768,'rope_scaling':{'type':'yarn','factor':4."
             "0,'truncate':false,"
             "'original_max_position_embeddings':32768}}");
    ck_assert_int_eq(a.rotary[0].scaling, QS_ROPE_YARN);
    ck_assert_double_eq_tol(a.rotary[0].attention_factor, 1.1386294361119891, 1e-12);
    ck_assert(!a.rotary[0].truncate);
}
END_TEST

START_TEST(rope_parts_that_are_not_supported_are_refused)
{
    refused("{'model_type':'llama','hidden_size':8,'num_attention_heads':4,'rope_scaling':{'rope_type':'"
            "longrope','short_factor':[1],'long_factor':[1]}}",
            QS_EUNSUP, "rope_scaling.rope_type is \"longrope\"", "yarn");
    refused("{'model_type':'phi3','rope_scaling':{'type':'longrope','short_factor':[1],'long_factor':[1]}}",
            QS_EFORMAT, "short_factor", "48 numbers");
    refused("{'model_type':'llama','partial_rotary_factor':0.5}", QS_EUNSUP, "partial_rotary_factor", "0.5");
    refused("{'model_type':'llama','rope_parameters':{'partial_rotary_factor':0.25}}", QS_EUNSUP,
            "rope_parameters.partial_rotary_factor", "0.25");
    refused("{'model_type':'llama','rope_parameters':{'full_attention':{}}}", QS_EUNSUP, "layer type",
            "one set");
    refused("{'model_type':'llama','rope_scaling':{'type':'linear'}}", QS_EFORMAT,
            "rope_scaling.factor is absent", "needs");
    refused("{'model_type':'llama','rope_scaling':{'type':'linear','factor':'four'}}", QS_EFORMAT,
            "rope_scaling.factor is \"four\"", "number");
    refused("{'model_type':'llama','rope_scaling':{'type':'linear','factor':0.5}}", QS_EFORMAT,
            "rope_scaling.factor", "from 1");
    refused("{'model_type':'llama','rope_scaling':7}", QS_EFORMAT, "rope_scaling is 7", "object");
    refused("{'model_type':'llama','rope_scaling':{'rope_type':'llama3','factor':8,'low_freq_factor':4,'high_"
            "freq_factor':4}}",
            QS_EFORMAT, "high_freq_factor", "low_freq_factor");
    refused("{'model_type':'llama','rope_theta':0}", QS_EFORMAT, "rope_theta is 0", "number");
}
END_TEST

START_TEST(other_architectures_are_refused_with_the_list_of_what_is_there)
{
    static const char *const types[] = {"gptj", "falcon_mamba", "mamba", "rwkv", ""};
    for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
        char *text = qs_printf("{'model_type':'%s'}", types[i]),
             *found = qs_printf("model_type is \"%s\"", types[i]);
        refused(text, QS_EUNSUP, found, "gpt_neox, llama (1, 2, 3.x)");
        qs_free(text);
        qs_free(found);
    }
    refused("{}", QS_EFORMAT, "model_type is absent", "llama");
    refused("{'model_type':3}", QS_EFORMAT, "model_type is 3", "string");
    refused("{'model_type':'llama','architectures':['LlamaForSequenceClassification']}", QS_EUNSUP,
            "architectures", "LlamaForCausalLM");
    refused("{'model_type':'llama','architectures':'LlamaForCausalLM'}", QS_EFORMAT, "architectures", "list");
    ck_assert_str_eq(good("{'model_type':'llama','architectures':['LLaMAForCausalLM']}").class_name,
                     "LlamaForCausalLM");
    refused("{'model_type':'llama','num_experts':8}", QS_EUNSUP, "num_experts is 8", "experts");
    refused(
        "{'model_type':'llama','quantization_config':{'quant_method':'bitsandbytes','load_in_8bit':true}}",
        QS_EUNSUP, "bitsandbytes", "16-bit model");
}
END_TEST

START_TEST(absurd_sizes_are_refused)
{
    refused("{'model_type':'llama','hidden_size':0}", QS_EFORMAT, "hidden_size is 0", "from 1");
    refused("{'model_type':'llama','hidden_size':-4096}", QS_EFORMAT, "hidden_size is -4096", "from 1");
    refused("{'model_type':'llama','hidden_size':2000000}", QS_EFORMAT, "hidden_size is 2000000", "1048576");
    refused("{'model_type':'llama','num_hidden_layers':9223372036854775807}", QS_EFORMAT, "num_hidden_layers",
            "1024");
    refused("{'model_type':'llama','vocab_size':'32000'}", QS_EFORMAT, "vocab_size is \"32000\"",
            "an integer");
    refused("{'model_type':'llama','vocab_size':32000.5}", QS_EFORMAT, "vocab_size is 32000.5", "an integer");
    refused("{'model_type':'llama','intermediate_size':[1]}", QS_EFORMAT, "intermediate_size is [1]",
            "an integer");
    refused("{'model_type':'llama','rms_norm_eps':-1}", QS_EFORMAT, "rms_norm_eps is -1", "number");
    refused("{'model_type':'llama','tie_word_embeddings':1}", QS_EFORMAT, "tie_word_embeddings is 1",
            "true or false");
    refused("{'model_type':'llama','num_attention_heads':32,'num_key_value_heads':5}", QS_EFORMAT,
            "num_key_value_heads 5", "multiple");
    refused("{'model_type':'llama','hidden_size':100,'num_attention_heads':3}", QS_EFORMAT,
            "hidden_size is 100", "head_dim");
    refused("{'model_type':'llama','head_dim':63}", QS_EUNSUP, "head_dim is 63", "even");
    refused("{'model_type':'llama','head_dim':65536}", QS_EFORMAT, "head_dim is 2097152", "at most");
    refused("{'model_type':'llama','eos_token_id':[1,2,3,4,5,6,7,8,9]}", QS_EUNSUP, "eos_token_id",
            "at most 8");
    refused("{'model_type':'llama','eos_token_id':[1,'x']}", QS_EFORMAT, "eos_token_id", "token numbers");
    /* A whole number written as a real is one. */
    ck_assert_int_eq(good("{'model_type':'llama','vocab_size':1000.0}").vocab, 1000);
}
END_TEST

START_TEST(hostile_json_is_one_sentence)
{
    refused("", QS_EFORMAT, "not valid JSON", "line");
    refused("{'model_type':'llama','hidden_size':", QS_EFORMAT, "not valid JSON", "line 1");
    refused("[1,2]", QS_EFORMAT, "expected a JSON object", "");
    refused("{'model_type':'llama','rope_theta':NaN}", QS_EFORMAT, "rope_theta is \"NaN\"", "a number");
    refused("{'model_type':'llama','rope_theta':1e999}", QS_EFORMAT, "not valid JSON",
            "real number overflow");
    refused("{'model_type':'llama','vocab_size':99999999999999999999}", QS_EFORMAT, "not valid JSON",
            "too big integer");
    refused("{'model_type':'llama','model_type':'qwen2'}", QS_EFORMAT, "not valid JSON",
            "duplicate object key");
    char *deep = qs_malloc(200001);
    memset(deep, '[', 200000);
    deep[200000] = 0;
    refused(deep, QS_EFORMAT, "not valid JSON", "line");
    qs_free(deep);
    char *long_value = qs_printf("{'model_type':'%05000d'}", 7);
    refused(long_value, QS_EUNSUP, "000...; expected", "mistral");
    qs_free(long_value);
}
END_TEST

START_TEST(a_missing_config_is_named)
{
    qs_architecture a;
    ck_assert_int_eq(qs_architecture_read("/nonexistent-model", &a, &err), -QS_EMISSING);
    ck_assert_msg(strstr(err.text, "/nonexistent-model/config.json"), "%s", err.text);
}
END_TEST

/* Every byte prefix of a full config, and every byte replaced: an answer or a sentence, never a crash. */
START_TEST(no_damage_to_a_config_crashes_the_reader)
{
    const char *text =
        "{'architectures':['Qwen2ForCausalLM'],'model_type':'qwen2','hidden_size':64,'num_attention_heads':4,"
        "'num_key_value_heads':2,'rope_scaling':{'type':'yarn','factor':4.0,'original_max_position_"
        "embeddings':32},"
        "'eos_token_id':[1,2],'layer_types':['full_attention'],'num_hidden_layers':1,'use_sliding_window':"
        "true}";
    size_t n = strlen(text);
    for (size_t i = 0; i < n; i++) {
        qs_architecture a;
        char *t = qs_strndup(text, i);
        ck_assert_int_ne(read_text(t, &a), 0);
        qs_free(t);
        static const char damage[] = "0-9{[]},:n'\\ e";
        t = qs_strdup(text);
        t[i] = damage[i % (sizeof damage - 1)];
        if (read_text(t, &a)) ck_assert_msg(strstr(err.text, "config.json"), "%s", err.text);
        qs_free(t);
    }
}
END_TEST

START_TEST(the_shared_model_is_read)
{
    const char *shared = getenv("QS_SHARED_DATA");
    char *model = qs_path_join(shared ? shared : "../shared/data", "models/tinystories-656k");
    if (!qs_file_exists(model)) {
        printf("skip: no shared data\n");
    } else {
        qs_architecture a;
        ck_assert_msg(qs_architecture_read(model, &a, &err) == 0, "%s", err.text);
        ck_assert_int_eq(test_attention(&a, 0)->heads, 8);
        ck_assert_int_eq(test_attention(&a, 0)->kv_heads, 4);
        ck_assert_int_eq(qs_architecture_parameters(&a), 656000);
    }
    qs_free(model);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("architecture");
    TCase *t = tcase_create("read");
    tcase_add_unchecked_fixture(t, make_dir, remove_dir);
    tcase_add_test(t, numbers_that_json_lacks_matter_only_where_they_are_read);
    tcase_add_test(t, the_language_model_of_a_larger_one_is_read_from_its_own_part);
    tcase_add_test(t, llama_2_7b_has_the_published_number_of_parameters);
    tcase_add_test(t, other_published_models_have_their_number_of_parameters);
    tcase_add_test(t, gpt_neox_is_made_of_other_parts);
    tcase_add_test(t, key_value_heads_default_by_family_and_null_means_all);
    tcase_add_test(t, a_mistral_without_sliding_window_has_4096_and_with_null_none);
    tcase_add_test(t, a_qwen_window_counts_only_when_used_and_from_max_window_layers);
    tcase_add_test(t, gemma_3_has_five_windows_with_a_rotary_base_of_their_own_before_each_full_layer);
    tcase_add_test(t, gemma_2_caps_scores_and_logits_unless_null);
    tcase_add_test(t, biases_follow_the_family);
    tcase_add_test(t, activations_have_their_aliases);
    tcase_add_test(t, rope_is_read_in_its_three_spellings);
    tcase_add_test(t, rope_parts_that_are_not_supported_are_refused);
    tcase_add_test(t, other_architectures_are_refused_with_the_list_of_what_is_there);
    tcase_add_test(t, absurd_sizes_are_refused);
    tcase_add_test(t, hostile_json_is_one_sentence);
    tcase_add_test(t, a_missing_config_is_named);
    tcase_add_test(t, no_damage_to_a_config_crashes_the_reader);
    tcase_add_test(t, the_shared_model_is_read);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
