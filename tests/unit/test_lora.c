/* Behaviour of src/model/lora: target matching as PEFT does it, pack layout, first values. */
#include <check.h>
#include <math.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/model/lora.h"
#include "tests/support/model_parts.h"
#include "tests/support/packs.h"

static qs_err err;

/* A grouped-query model with 12 layers: q 48x40, k and v 24x40, o 40x48, gate and up 100x40, down 40x100. */
static qs_architecture model;

static int try(const qs_architecture *a, int n, const char *const *targets, qs_lora *out)
{
    qs_lora_config c = {.r = 4, .alpha = 8, .targets = {targets, n}};
    err.text[0] = 0;
    return qs_lora_create(&c, a, out, &err);
}

/* The active linears as letters, in blob order: "qv", "qkvogud". */
static void expect(int n, const char *const *targets, const char *active, const char *layers)
{
    qs_lora l;
    ck_assert_msg(try(&model, n, targets, &l) == 0, "%s", err.text);
    char got[8] = "", mask[13] = "";
    static const char *const linears[] = {"q_proj",    "k_proj",  "v_proj",   "o_proj",
                                          "gate_proj", "up_proj", "down_proj"};
    for (int k = 0, at = 0; k < 7; k++)
        if (test_slot(&l, linears[k])->active) got[at++] = "qkvogud"[k];
    for (int i = 0; i < 12; i++) mask[i] = l.layer_mask[i] ? '1' : '0';
    ck_assert_str_eq(got, active);
    ck_assert_str_eq(mask, layers);
    qs_lora_free(&l);
}
#define EXPECT(active, layers, ...)                                                                      \
    expect((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__}, \
           active, layers)

static void refused(int n, const char *const *targets, int code, const char *word)
{
    qs_lora l;
    ck_assert_msg(try(&model, n, targets, &l) == -code, "code %d: %s", err.code, err.text);
    ck_assert_msg(strstr(err.text, word), "no \"%s\" in: %s", word, err.text);
}
#define REFUSED(code, word, ...)                                                                          \
    refused((int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)), (const char *[]){__VA_ARGS__}, \
            code, word)

#define ALL "111111111111"

START_TEST(names_match_the_end_of_a_path_after_a_dot)
{
    EXPECT("qv", ALL, "q_proj", "v_proj");
    EXPECT("o", ALL, "self_attn.o_proj");
    EXPECT("gud", ALL, "down_proj", "mlp.up_proj", "gate_proj");
    EXPECT("q", "010000000000", "model.layers.1.self_attn.q_proj");
    EXPECT("q", "010000000000", "layers.1.self_attn.q_proj"); /* not layer 11 */
    EXPECT("q", "010000000001", "layers.1.self_attn.q_proj", "11.self_attn.q_proj");
    REFUSED(QS_EINVAL, "\"_proj\" matches nothing", "_proj");
    REFUSED(QS_EINVAL, "q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj and down_proj", "q_proj", "query");
    REFUSED(QS_EINVAL, "\"\" is not a module name", "q_proj", "");
    REFUSED(QS_EINVAL, "\"self_attn\" matches nothing", "self_attn");
}
END_TEST

START_TEST(all_linear_is_all_seven_in_any_case)
{
    EXPECT("qkvogud", ALL, "all-linear");
    EXPECT("qkvogud", ALL, "ALL-Linear");
    REFUSED(QS_EINVAL, "must stand alone", "all-linear", "q_proj");
}
END_TEST

/* q 120x40 is the fused one, o 40x40, up 100x40, down 40x100. */
static qs_architecture neox;

START_TEST(the_fused_query_key_value_of_gpt_neox_is_one_target)
{
    qs_lora l;
    ck_assert_int_eq(try(&neox, 1, (const char *[]){"query_key_value"}, &l), 0);
    ck_assert(test_slot(&l, "query_key_value")->active && !test_slot(&l, "dense")->active);
    ck_assert_int_eq(qs_lora_parameters(&l), 12 * 4 * (40 + 120));
    qs_lora_free(&l);
    ck_assert_int_eq(try(&neox, 1, (const char *[]){"dense"}, &l),
                     0); /* attention.dense, not mlp.dense_h_to_4h */
    ck_assert_int_eq(qs_lora_parameters(&l), 12 * 4 * (40 + 40));
    qs_lora_free(&l);
    ck_assert_int_eq(try(&neox, 1, (const char *[]){"all-linear"}, &l), 0);
    ck_assert_int_eq(qs_lora_parameters(&l), 12 * 4 * (160 + 80 + 140 + 140));
    qs_lora_free(&l);
    ck_assert_int_eq(try(&neox, 1, (const char *[]){"q_proj"}, &l), -QS_EINVAL);
    ck_assert_msg(
        strstr(
            err.text,
            "there are query_key_value, dense, dense_h_to_4h and dense_4h_to_h in gpt_neox.layers.0 to 11"),
        "%s", err.text);
    ck_assert_int_eq(try(&neox, 1, (const char *[]){"embed_out"}, &l), -QS_EUNSUP);
    ck_assert_int_eq(try(&neox, 1, (const char *[]){"lm_head"}, &l), -QS_EUNSUP);
}
END_TEST

START_TEST(one_pattern_matches_the_whole_path)
{
    EXPECT("qv", ALL, ".*\\.(q|v)_proj");
    EXPECT("o", "111111000000", "model\\.layers\\.[0-5]\\.self_attn\\.o_proj");
    EXPECT("d", "000000000011", ".*\\.1[01]\\.mlp\\.down_proj$");
    REFUSED(QS_EINVAL, "matches nothing", "(q|v)_proj"); /* a full match, not a search */
    REFUSED(QS_EINVAL, "not a regular expression", "(q_proj");
    REFUSED(QS_EINVAL, "must stand alone", ".*q_proj", "v_proj");
}
END_TEST

START_TEST(layers_may_have_different_sets)
{
    static const char *const q0_v1[] = {".*\\.0\\.self_attn\\.q_proj|.*\\.1\\.self_attn\\.v_proj"};
    qs_lora l;
    ck_assert_msg(try(&model, 1, q0_v1, &l) == 0, "%s", err.text);
    const qs_lora_layer *first = qs_lora_of_layer(&l, 0), *second = qs_lora_of_layer(&l, 1);
    int q = qs_layer_find(first->layer, "q_proj"), v = qs_layer_find(first->layer, "v_proj");
    ck_assert(first->slot[q].active && !first->slot[v].active);
    ck_assert(!second->slot[q].active && second->slot[v].active);
    ck_assert_int_eq(l.shapes, 3); /* with that of the layers that have none */
    ck_assert_int_eq(qs_lora_parameters(&l),
                     4 * (first->slot[q].in + first->slot[q].out + second->slot[v].in + second->slot[v].out));
    qs_lora_free(&l);
}
END_TEST

static int create(qs_lora_config c, qs_lora *l)
{
    static const char *const all[] = {"all-linear"};
    c.r = 4;
    c.alpha = 8;
    c.targets = (qs_lora_names){all, 1};
    return qs_lora_create(&c, &model, l, &err);
}
#define NAMES(...)                                                                                   \
    (qs_lora_names)                                                                                  \
    {                                                                                                \
        (const char *[]){__VA_ARGS__}, (int)(sizeof((const char *[]){__VA_ARGS__}) / sizeof(char *)) \
    }

START_TEST(patterns_change_rank_and_alpha_of_what_they_match_first)
{
    qs_lora l;
    qs_lora_config c = {.rank_pattern = NAMES("q_proj=2", "layers.1.self_attn.k_proj=8", "mlp.*=1"),
                        .alpha_pattern = NAMES("k_proj=32", "o_proj=0.5")};
    ck_assert_msg(create(c, &l) == 0, "%s", err.text);
    const qs_lora_layer *zero = qs_lora_of_layer(&l, 0), *one = qs_lora_of_layer(&l, 1);
    int q = qs_layer_find(zero->layer, "q_proj"), k = qs_layer_find(zero->layer, "k_proj"),
        o = qs_layer_find(zero->layer, "o_proj"), up = qs_layer_find(zero->layer, "up_proj");
    ck_assert_int_eq(zero->slot[q].r, 2);
    ck_assert_float_eq(zero->slot[q].scaling, 4);
    ck_assert_int_eq(zero->slot[k].r, 4);
    ck_assert_int_eq(one->slot[k].r, 8);
    ck_assert_float_eq(one->slot[k].scaling, 4);
    ck_assert_float_eq(one->slot[o].scaling, 0.125f);
    ck_assert_int_eq(one->slot[up].r, 1);
    ck_assert_int_eq(zero->group_rows[0], 2 + 4 + 4);
    ck_assert_int_eq(one->group_rows[0], 2 + 8 + 4);
    ck_assert_int_eq(one->slot[k].a_at, 2 * one->slot[q].in);
    ck_assert_ptr_eq(qs_lora_of_layer(&l, 0), qs_lora_of_layer(&l, 11));
    qs_lora_free(&l);
}
END_TEST

START_TEST(layers_and_modules_may_be_left_out)
{
    qs_lora l;
    qs_lora_config c = {.exclude = NAMES("down_proj", "layers.3.mlp.up_proj"), .layers = NAMES("0", "3-5")};
    ck_assert_msg(create(c, &l) == 0, "%s", err.text);
    for (int i = 0; i < 12; i++) ck_assert_int_eq(l.layer_mask[i], i == 0 || (i >= 3 && i <= 5));
    int up = qs_layer_find(l.shape[0].layer, "up_proj"), down = qs_layer_find(l.shape[0].layer, "down_proj");
    ck_assert(qs_lora_of_layer(&l, 0)->slot[up].active && !qs_lora_of_layer(&l, 3)->slot[up].active);
    ck_assert(!qs_lora_of_layer(&l, 0)->slot[down].active);
    qs_lora_free(&l);
}
END_TEST

static void refused_config(qs_lora_config c, const char *word)
{
    qs_lora l;
    ck_assert_int_eq(create(c, &l), -QS_EINVAL);
    ck_assert_msg(strstr(err.text, word) != NULL, "no \"%s\" in: %s", word, err.text);
}

START_TEST(names_and_patterns_that_change_nothing_are_refused)
{
    refused_config((qs_lora_config){.exclude = NAMES("downproj")},
                   "exclude_modules: \"downproj\" matches nothing");
    refused_config((qs_lora_config){.layers = NAMES("12")}, "there are 0 to 11");
    refused_config((qs_lora_config){.layers = NAMES("5-3")}, "no layer or range");
    refused_config((qs_lora_config){.layers = NAMES("x")}, "no layer or range");
    refused_config((qs_lora_config){.rank_pattern = NAMES("q_prj=8")}, "\"q_prj=8\" changes nothing");
    refused_config((qs_lora_config){.rank_pattern = NAMES("q_proj")}, "not MODULE=NUMBER");
    refused_config((qs_lora_config){.rank_pattern = NAMES("q_proj=0")}, "not MODULE=NUMBER");
    refused_config((qs_lora_config){.rank_pattern = NAMES("q_proj=1.5")}, "whole number");
    refused_config((qs_lora_config){.alpha_pattern = NAMES("(q_proj=1")}, "not a regular expression");
    refused_config((qs_lora_config){.alpha_pattern = NAMES(".*_proj=4", "q_proj=1")},
                   "\"q_proj=1\" changes nothing");
    refused_config((qs_lora_config){.exclude = NAMES(".*")}, "nothing to train");
}
END_TEST

START_TEST(head_and_embeddings_are_refused)
{
    REFUSED(QS_EUNSUP, "lm_head", "q_proj", "lm_head");
    REFUSED(QS_EUNSUP, "embed_tokens", "embed_tokens");
    REFUSED(QS_EUNSUP, "lm_head", ".*");
}
END_TEST

START_TEST(a_costly_pattern_is_an_error_and_not_a_hang)
{
    REFUSED(QS_EINVAL, "too costly", "(([a-z._0-9]+)+)+[^a-z._0-9]");
}
END_TEST

START_TEST(numbers_out_of_range_are_refused)
{
    static const char *const q[] = {"q_proj"};
    const qs_lora_config bad[] = {{.r = 0, .alpha = 1},
                                  {.r = -1, .alpha = 1},
                                  {.r = 8, .alpha = 0},
                                  {.r = 8, .alpha = NAN},
                                  {.r = 8, .alpha = 1, .dropout = 1},
                                  {.r = 8, .alpha = 1, .dropout = -0.1f}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        qs_lora_config c = bad[i];
        c.targets = (qs_lora_names){q, 1};
        qs_lora l;
        ck_assert_int_eq(qs_lora_create(&c, &model, &l, &err), -QS_EINVAL);
    }
}
END_TEST

START_TEST(packs_stack_the_a_of_each_group_then_its_b)
{
    static const char *const all[] = {"all-linear"};
    qs_lora l;
    ck_assert_int_eq(try(&model, 1, all, &l), 0);
    int64_t at = 0;
    static const char *const groups[4][3] = {
        {"q_proj", "k_proj", "v_proj"}, {"o_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}};
    static const int counts[4] = {3, 1, 2, 1};
    for (int g = 0; g < 4; g++) {
        ck_assert_int_eq(l.shape[0].group_rows[g], 4 * counts[g]);
        for (int i = 0; i < counts[g]; i++) {
            const qs_lora_slot *s = test_slot(&l, groups[g][i]);
            ck_assert_int_eq(s->a_at, at);
            ck_assert_int_eq(s->row_in_group, 4 * i);
            at += 4 * s->in;
        }
        for (int i = 0; i < counts[g]; i++) {
            const qs_lora_slot *s = test_slot(&l, groups[g][i]);
            ck_assert_int_eq(s->b_at, at);
            at += 4 * s->out;
        }
    }
    ck_assert_int_eq(l.pack_floats, (at + 63) / 64 * 64);
    ck_assert_int_eq(qs_lora_parameters(&l), 12 * at);
    ck_assert_int_eq(test_pack_floats(&l), 12 * l.pack_floats);
    qs_lora_free(&l);
}
END_TEST

START_TEST(llama_2_7b_with_r_8_on_q_and_v_trains_4194304)
{
    const qs_architecture llama = test_architecture("{'model_type':'llama'}"); /* whose defaults are those */
    static const char *const qv[] = {"q_proj", "v_proj"};
    qs_lora_config c = {.r = 8, .alpha = 16, .targets = {qv, 2}, .rslora = true};
    qs_lora l;
    ck_assert_int_eq(qs_lora_create(&c, &llama, &l, &err), 0);
    ck_assert_int_eq(qs_lora_parameters(&l), 4194304);
    ck_assert_float_eq(test_slot(&l, "q_proj")->scaling, (float)(16 / sqrt(8)));
    qs_lora_free(&l);
}
END_TEST

static void init(const qs_lora *l, uint64_t seed, float *x)
{
    qs_pager *p = test_packs_in(l, x);
    qs_lora_init(l, seed, p);
    test_packs_done(p, 0);
}

START_TEST(first_values_are_uniform_in_a_and_zero_in_b)
{
    static const char *const some[] = {".*\\.[0-4]\\.self_attn\\.(q|k)_proj"};
    qs_lora l;
    ck_assert_int_eq(try(&model, 1, some, &l), 0);
    size_t n = (size_t)test_pack_floats(&l);
    float *x = qs_malloc(n * 4), *y = qs_malloc(n * 4);
    memset(x, 0xff, n * 4);
    init(&l, 7, x);
    init(&l, 7, y);
    ck_assert_mem_eq(x, y, n * 4);
    double sum = 0, square = 0;
    int64_t count = 0;
    for (int layer = 0; layer < 12; layer++) {
        const float *pack = x + layer * l.pack_floats;
        int64_t nonzero = 0;
        for (int64_t i = 0; i < l.pack_floats; i++) nonzero += pack[i] != 0;
        if (layer > 4)
            ck_assert_int_eq(nonzero, 0);
        else
            ck_assert_int_ge(nonzero, 2 * 4 * 40 - 2);
        for (int k = 0; k < 2 && layer <= 4; k++) {
            for (int i = 0; i < 4 * 40; i++, count++) {
                double v = pack[test_slot(&l, k ? "k_proj" : "q_proj")->a_at + i];
                ck_assert_double_le(fabs(v), 1 / sqrt(40));
                sum += v;
                square += v * v;
            }
        }
    }
    /* Variance of U(-b, b) is b^2 / 3; 1600 samples. */
    ck_assert_double_eq_tol(square / count * 3 * 40, 1, 0.08);
    ck_assert_double_eq_tol(sum / count * sqrt(40), 0, 0.05);
    ck_assert_float_ne(x[test_slot(&l, "q_proj")->a_at], x[test_slot(&l, "k_proj")->a_at]);
    ck_assert_float_ne(x[0], x[l.pack_floats]);
    init(&l, 8, y);
    ck_assert_float_ne(x[0], y[0]);
    qs_free(x);
    qs_free(y);
    qs_lora_free(&l);
}
END_TEST

static void make_models(void)
{
    model = test_architecture("{'model_type':'llama','num_hidden_layers':12,'hidden_size':40,'intermediate_"
                              "size':100,'num_attention_heads':6,"
                              "'num_key_value_heads':3,'head_dim':8,'vocab_size':64}");
    neox = test_architecture("{'model_type':'gpt_neox','num_hidden_layers':12,'hidden_size':40,'intermediate_"
                             "size':100,'num_attention_heads':5,"
                             "'vocab_size':64}");
}

int main(void)
{
    Suite *s = suite_create("lora");
    TCase *t = tcase_create("lora");
    tcase_add_unchecked_fixture(t, make_models, NULL);
    tcase_add_test(t, names_match_the_end_of_a_path_after_a_dot);
    tcase_add_test(t, all_linear_is_all_seven_in_any_case);
    tcase_add_test(t, the_fused_query_key_value_of_gpt_neox_is_one_target);
    tcase_add_test(t, one_pattern_matches_the_whole_path);
    tcase_add_test(t, layers_may_have_different_sets);
    tcase_add_test(t, patterns_change_rank_and_alpha_of_what_they_match_first);
    tcase_add_test(t, layers_and_modules_may_be_left_out);
    tcase_add_test(t, names_and_patterns_that_change_nothing_are_refused);
    tcase_add_test(t, head_and_embeddings_are_refused);
    tcase_add_test(t, a_costly_pattern_is_an_error_and_not_a_hang);
    tcase_add_test(t, numbers_out_of_range_are_refused);
    tcase_add_test(t, packs_stack_the_a_of_each_group_then_its_b);
    tcase_add_test(t, llama_2_7b_with_r_8_on_q_and_v_trains_4194304);
    tcase_add_test(t, first_values_are_uniform_in_a_and_zero_in_b);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
