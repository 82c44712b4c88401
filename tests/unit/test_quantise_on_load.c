/* Behaviour of src/step/quantise_on_load: blobs made chunk by chunk from a checkpoint are those that whole
 * tensors give. */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/support/aio_fault.h"
#include "src/base/memory.h"
#include "src/step/quantise_on_load.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"

static qs_architecture arch;
static qs_source *source;
static qs_aio *aio;
static qs_device *cpu;
static qs_layout layout;
static qs_region memory, place, want;
static qs_quantise_on_load *maker;
static char *dir;
static qs_err e;

static void setup(void)
{
    dir = test_dir_create();
    ck_assert_int_eq(qs_device_open("cpu", &cpu, &e), 0);
}

static void end(void)
{
    qs_quantise_on_load_close(maker);
    qs_aio_close(aio);
    qs_source_close(source);
    qs_region_free(&memory);
    qs_region_free(&place);
    qs_region_free(&want);
    maker = NULL;
    aio = NULL;
    source = NULL;
}

static void teardown(void)
{
    end();
    qs_device_close(cpu);
    test_dir_remove(dir);
}

static void begin(const char *model, qs_quant_config quant, const qs_aio_faults *faults)
{
    ck_assert_msg(!qs_architecture_read(model, &arch, &e), "%s", e.text);
    ck_assert_msg(!qs_source_open(model, &source, &e), "%s", e.text);
    ck_assert_msg(!qs_architecture_check(&arch, source, &e), "%s", e.text);
    ck_assert_int_eq(
        qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .seam = test_faults(faults)}, &aio, &e), 0);
    qs_layout_make(&arch, source, quant, &layout);
    uint64_t bytes = qs_quantise_on_load_bytes(&layout),
             most = qs_layout_blob_bytes(&layout, 0) > layout.tile_bytes ? qs_layout_blob_bytes(&layout, 0)
                                                                         : layout.tile_bytes;
    ck_assert_int_eq(qs_region_map(&memory, bytes, "buffers", &e), 0);
    ck_assert_int_eq(qs_region_map(&place, most, "a place", &e), 0);
    ck_assert_int_eq(qs_region_map(&want, most, "a blob", &e), 0);
    qs_arena a = {memory.base, bytes, 0};
    qs_quantise_on_load_open(&arch, &layout, source, aio, cpu, &a, &maker);
    ck_assert_uint_eq(a.used, bytes);
}

/* ---- what a blob must be, from whole tensors --------------------------------------------------------- */

/* All bytes of a tensor (qs_free), read at once through an I/O engine of its own. */
static void *whole(const char *name, qs_dtype *type)
{
    qs_aio *own;
    const qs_source_tensor *t = qs_source_find(source, name);
    ck_assert_msg(t != NULL, "%s", name);
    qs_region buffer;
    ck_assert_int_eq(qs_region_map(&buffer, qs_source_buffer_bytes(t->bytes), "a tensor", &e), 0);
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD}, &own, &e), 0);
    qs_source_read r = {.tensor = t, .bytes = t->bytes, .buffer = buffer.base};
    qs_source_read_start(source, own, &r);
    ck_assert_int_eq(qs_source_read_finish(source, own, &r, &e), 0);
    void *data = memcpy(qs_malloc(t->bytes), r.data, t->bytes);
    *type = t->type;
    qs_aio_close(own);
    qs_region_free(&buffer);
    return data;
}

static void want_linear(char *blob, const qs_tensor_layout *w, int64_t n, const void *data, qs_dtype type)
{
    if (layout.quant.type == QS_QUANT_NONE) {
        qs_convert(blob + w->at, layout.base_type, data, type, (size_t)n);
        return;
    }
    float *absmax = qs_calloc((size_t)qs_quant_blocks(n), sizeof *absmax);
    qs_op_quantise4(cpu, layout.quant.type, data, type, n, (uint8_t *)blob + w->at, absmax);
    if (layout.quant.double_quant)
        qs_op_quantise_absmax(cpu, absmax, qs_quant_blocks(n), (uint8_t *)blob + w->absmax_at,
                              (float *)(blob + w->nested_at), (float *)(blob + w->offset_at));
    else
        memcpy(blob + w->absmax_at, absmax, (size_t)qs_quant_blocks(n) * sizeof *absmax);
    qs_free(absmax);
}

static void want_blob(int b)
{
    char *blob = want.base, name[128];
    qs_dtype type;
    memset(blob, 0, want.bytes);
    if (b >= layout.layers) {
        qs_architecture_head_name(&arch, source, name);
        char *data = whole(name, &type);
        size_t row = (size_t)arch.hidden * qs_dtype_bytes(type), tile = (size_t)(b - layout.layers);
        memcpy(blob, data + tile * (size_t)layout.tile_rows * row,
               (size_t)qs_layout_tile_rows(&layout, (int32_t)tile) * row);
        qs_free(data);
        return;
    }
    const qs_layer *layer = qs_architecture_layer(&arch, b);
    for (int i = 0; i < layer->tensors; i++) {
        const qs_tensor *t = &layer->tensor[i];
        const qs_tensor_layout *w = &qs_layout_layer(&layout, b)->tensor[i];
        qs_architecture_tensor_name(&arch, b, t, name);
        void *data = whole(name, &type);
        if (t->role == QS_TENSOR_LINEAR)
            want_linear(blob, w, (int64_t)t->out * t->in, data, type);
        else
            qs_convert(blob + w->at, QS_F32, data, type, (size_t)t->out);
        qs_free(data);
    }
}

static void made_is_wanted(int b)
{
    memset(place.base, 0x5a, place.bytes);
    ck_assert_msg(!qs_quantise_on_load_make(maker, b, place.base, &e), "%s", e.text);
    want_blob(b);
    ck_assert_int_eq(memcmp(place.base, want.base, qs_layout_blob_bytes(&layout, b)), 0); /* padding, too */
}

static const qs_quant_config quants[] = {{QS_QUANT_NF4, true},
                                         {QS_QUANT_NF4, false},
                                         {QS_QUANT_FP4, true},
                                         {QS_QUANT_FP4, false},
                                         {QS_QUANT_NONE, false}};
enum { QUANTS = sizeof quants / sizeof *quants };

START_TEST(blobs_of_the_golden_models_equal_those_of_whole_tensors)
{
    static const char *const models[] = {"llama", "llama_yarn", "mistral",        "qwen2",
                                         "qwen3", "gpt_neox",   "gpt_neox_serial"};
    for (size_t m = 0; m < sizeof models / sizeof *models; m++)
        for (int q = 0; q < QUANTS; q++) {
            char *model = qs_printf("tests/golden/%s/model", models[m]);
            begin(model, quants[q], NULL);
            for (int b = 0; b < qs_layout_blobs(&layout); b++) {
                made_is_wanted(b);
                qs_quantise_on_load_expect(maker, (b + 1) % qs_layout_blobs(&layout));
            }
            end();
            qs_free(model);
        }
}
END_TEST

/* ---- a model that takes several chunks --------------------------------------------------------------- */

/* Tensors and head tiles of more than one chunk, and tails: 5,000 * 512 values in fp32 are 10 MB, as is no
 * multiple of a chunk. */
static const test_tensor large[] = {{"model.embed_tokens.weight", QS_BF16, 2, {9001, 512}},
                                    {"lm_head.weight", QS_F32, 2, {9001, 512}},
                                    {"model.norm.weight", QS_F32, 1, {512}},
                                    {"model.layers.0.input_layernorm.weight", QS_BF16, 1, {512}},
                                    {"model.layers.0.post_attention_layernorm.weight", QS_F32, 1, {512}},
                                    {"model.layers.0.self_attn.q_proj.weight", QS_F32, 2, {512, 512}},
                                    {"model.layers.0.self_attn.k_proj.weight", QS_F16, 2, {64, 512}},
                                    {"model.layers.0.self_attn.v_proj.weight", QS_BF16, 2, {64, 512}},
                                    {"model.layers.0.self_attn.o_proj.weight", QS_F32, 2, {512, 512}},
                                    {"model.layers.0.mlp.gate_proj.weight", QS_F32, 2, {5000, 512}},
                                    {"model.layers.0.mlp.up_proj.weight", QS_F32, 2, {5000, 512}},
                                    {"model.layers.0.mlp.down_proj.weight", QS_F32, 2, {512, 5000}}};
enum { LARGE = sizeof large / sizeof *large };

static void write_large(void)
{
    static const char config[] =
        "{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", \"hidden_size\": 512, "
        "\"intermediate_size\": 5000,"
        " \"num_attention_heads\": 8, \"num_key_value_heads\": 1, \"num_hidden_layers\": 1, \"vocab_size\": "
        "9001,"
        " \"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, \"tie_word_embeddings\": false}";
    char *path = test_path(dir, "config.json");
    test_file_write(path, config, sizeof config - 1);
    qs_free(path);
    test_model_write(dir, large, LARGE, 1, 3);
}

START_TEST(chunks_join_without_a_seam)
{
    write_large();
    for (int q = 0; q < QUANTS; q++) {
        begin(dir, quants[q], NULL);
        ck_assert_int_eq(qs_layout_blobs(&layout), 3);
        ck_assert_uint_gt(layout.tile_bytes, QS_TOUCH_CHUNK_BYTES);
        for (int b = 0; b < 3; b++) made_is_wanted(b);
        end();
    }
}
END_TEST

START_TEST(a_blob_is_the_same_whatever_was_expected)
{
    write_large();
    begin(dir, quants[0], NULL);
    qs_quantise_on_load_expect(maker, 0);
    qs_quantise_on_load_expect(maker, 0);
    made_is_wanted(0); /* as expected */
    qs_quantise_on_load_expect(maker, 1);
    qs_quantise_on_load_expect(maker, 2); /* one at a time */
    made_is_wanted(2);                    /* not as expected */
    made_is_wanted(1);
    made_is_wanted(1);
    qs_quantise_on_load_expect(maker, 0);
    end(); /* and never made */
}
END_TEST

/* Advances until nothing is left, or `most` times something was made; counts these. */
static int advance(int b, int most)
{
    qs_made made = QS_MADE_NOTHING;
    int some = 0;
    while (made != QS_MADE_ALL && some < most) {
        made = qs_quantise_on_load_advance(maker, b, place.base);
        some += made != QS_MADE_NOTHING;
    }
    return some;
}

START_TEST(a_blob_made_ahead_bit_by_bit_is_the_same)
{
    write_large();
    begin(dir, quants[_i], NULL);
    for (int b = 0; b < qs_layout_blobs(&layout); b++) {
        memset(place.base, 0x5a, place.bytes);
        qs_quantise_on_load_expect(maker, b);
        ck_assert_int_ge(advance(b, 1000), 1);
        uint64_t read = qs_quantise_on_load_read_bytes(maker);
        want_blob(b);
        ck_assert_int_eq(memcmp(place.base, want.base, qs_layout_blob_bytes(&layout, b)),
                         0); /* before anyone asks for it */
        ck_assert_int_eq(qs_quantise_on_load_make(maker, b, place.base, &e), 0);
        ck_assert_uint_eq(qs_quantise_on_load_read_bytes(maker), read);
        ck_assert_int_eq(memcmp(place.base, want.base, qs_layout_blob_bytes(&layout, b)), 0);
    }
}
END_TEST

/* Its place is taken over by another blob in the middle. */
START_TEST(a_blob_begun_and_lost_is_made_anew)
{
    write_large();
    begin(dir, quants[0], NULL);
    qs_quantise_on_load_expect(maker, 0);
    advance(0, 1);
    qs_quantise_on_load_expect(maker, -1);
    made_is_wanted(0);
    qs_quantise_on_load_expect(maker, 0);
    advance(0, 1);
    made_is_wanted(1);
    made_is_wanted(0);
    char *first = place.base;
    qs_quantise_on_load_expect(maker, 0);
    advance(0, 1);
    place.base = first + 4096; /* begun in one place, made in another */
    place.bytes -= 4096;
    made_is_wanted(0);
    place.base = first;
    place.bytes += 4096;
}
END_TEST

START_TEST(the_checkpoint_is_read_once)
{
    begin("tests/golden/qwen2/model", quants[0], NULL);
    uint64_t bytes = 0;
    for (int b = 0; b < qs_layout_blobs(&layout); b++) {
        qs_quantise_on_load_expect(maker, b);
        ck_assert_int_eq(qs_quantise_on_load_make(maker, b, place.base, &e), 0);
    }
    char head_name[128];
    qs_architecture_head_name(&arch, source, head_name);
    for (int i = 0; i < qs_source_count(source); i++) {
        const qs_source_tensor *t = qs_source_at(source, i);
        bool head = !strcmp(t->name, head_name);
        if (head || !strncmp(t->name, "model.layers.", 13)) bytes += t->bytes;
    }
    ck_assert_uint_eq(qs_quantise_on_load_read_bytes(maker), bytes);
}
END_TEST

START_TEST(nothing_is_allocated_while_making)
{
    begin("tests/golden/qwen3/model", quants[0], NULL);
    uint64_t before = qs_mem_read().calls;
    for (int b = 0; b < qs_layout_blobs(&layout); b++)
        ck_assert_int_eq(qs_quantise_on_load_make(maker, b, place.base, &e), 0);
    ck_assert_uint_eq(qs_mem_read().calls, before);
}
END_TEST

/* ---- accidents --------------------------------------------------------------------------------------- */

START_TEST(short_and_reordered_reads_change_nothing)
{
    write_large();
    qs_aio_faults faults = {.seed = 8, .short_every = 3, .interrupt_every = 5, .reorder = true};
    begin(dir, quants[0], &faults);
    for (int b = 0; b < 3; b++) made_is_wanted(b);
}
END_TEST

START_TEST(a_failed_read_names_the_file_and_the_maker_goes_on)
{
    write_large();
    for (int n = 1; n < 40; n += 7) {
        qs_aio_faults faults = {.read_error_at = n};
        begin(dir, quants[0], &faults);
        if (n % 2) qs_quantise_on_load_expect(maker, 0);
        if (n % 3) /* goes as far as it can, and tells nobody */
            for (int i = 0; i < 50; i++)
                ck_assert_int_ne(qs_quantise_on_load_advance(maker, 0, place.base), QS_MADE_ALL);
        ck_assert_int_eq(qs_quantise_on_load_make(maker, 0, place.base, &e), -QS_EIO);
        ck_assert_msg(strstr(e.text, "model.safetensors") != NULL, "%s", e.text);
        made_is_wanted(0);
        end();
    }
}
END_TEST

/* Puts a 16-bit word at an element of a bf16 or f16 tensor, or a 32-bit one; returns what was there. */
static uint32_t put(const char *name, uint64_t element, uint32_t bits)
{
    uint32_t before = 0;
    ck_assert_int_eq(qs_source_open(dir, &source, &e), 0);
    const qs_source_tensor *t = qs_source_find(source, name);
    char *path = test_path(dir, "model.safetensors");
    int fd = open(path, O_RDWR);
    size_t each = qs_dtype_bytes(t->type);
    ck_assert_int_eq(pread(fd, &before, each, (off_t)(t->offset + element * each)), (ssize_t)each);
    ck_assert_int_eq(pwrite(fd, &bits, each, (off_t)(t->offset + element * each)), (ssize_t)each);
    ck_assert_int_eq(fsync(fd), 0);
    close(fd);
    qs_free(path);
    qs_source_close(source);
    source = NULL;
    return before;
}

START_TEST(weights_that_are_not_finite_are_refused)
{
    static const struct {
        const char *name;
        uint64_t element;
        uint32_t nan, infinity;
        int blob;
    } places[] = {{"model.layers.0.input_layernorm.weight", 511, 0x7fc0, 0xff80, 0},
                  {"model.layers.0.self_attn.k_proj.weight", 77, 0xfe01, 0x7c00, 0},
                  {"model.layers.0.self_attn.v_proj.weight", 64 * 512 - 1, 0x7f81, 0xff80, 0},
                  {"model.layers.0.mlp.up_proj.weight", 5000 * 512 - 1, 0xffc00000, 0x7f800000,
                   0}, /* in the second chunk */
                  {"lm_head.weight", 9000 * 512, 0x7fc00001, 0xff800000, 2}};
    write_large();
    for (size_t i = 0; i < sizeof places / sizeof *places; i++)
        for (int which = 0; which < 2; which++) {
            uint32_t before =
                put(places[i].name, places[i].element, which ? places[i].infinity : places[i].nan);
            for (int q = 0; q < QUANTS; q += 4) {
                begin(dir, quants[q], NULL);
                ck_assert_int_eq(qs_quantise_on_load_make(maker, places[i].blob, place.base, &e),
                                 -QS_ENUMERIC);
                ck_assert_msg(strstr(e.text, places[i].name) != NULL, "%s", e.text);
                end();
            }
            put(places[i].name, places[i].element, before);
        }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("quantise_on_load");
    TCase *t = tcase_create("quantise_on_load");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, blobs_of_the_golden_models_equal_those_of_whole_tensors);
    tcase_add_test(t, chunks_join_without_a_seam);
    tcase_add_test(t, a_blob_is_the_same_whatever_was_expected);
    tcase_add_loop_test(t, a_blob_made_ahead_bit_by_bit_is_the_same, 0, QUANTS);
    tcase_add_test(t, a_blob_begun_and_lost_is_made_anew);
    tcase_add_test(t, the_checkpoint_is_read_once);
    tcase_add_test(t, nothing_is_allocated_while_making);
    tcase_add_test(t, short_and_reordered_reads_change_nothing);
    tcase_add_test(t, a_failed_read_names_the_file_and_the_maker_goes_on);
    tcase_add_test(t, weights_that_are_not_finite_are_refused);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
