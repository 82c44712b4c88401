/* Behaviour of src/step/quantise_on_load: blobs made chunk by chunk from a checkpoint are those that whole
 * tensors give. */
#include <check.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/safetensors.h"
#include "kernels/quant.h"
#include "tests/support/aio_fault.h"
#include "src/base/memory.h"
#include "src/model/stored_quant.h"
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

/* The large model with another ffn width and vocabulary in place of its own. */
static void write_model(int64_t ffn, int64_t vocab)
{
    test_tensor tensors[LARGE];
    memcpy(tensors, large, sizeof large);
    for (int i = 0; i < LARGE; i++)
        for (int d = 0; d < tensors[i].dims; d++) {
            int64_t *n = &tensors[i].shape[d];
            *n = *n == 5000 ? ffn : *n == 9001 ? vocab : *n;
        }
    char *config = qs_printf("{\"architectures\": [\"LlamaForCausalLM\"], \"model_type\": \"llama\", "
                             "\"hidden_size\": 512, \"intermediate_size\": %lld, \"num_attention_heads\": 8, "
                             "\"num_key_value_heads\": 1, \"num_hidden_layers\": 1, \"vocab_size\": %lld, "
                             "\"max_position_embeddings\": 64, \"rms_norm_eps\": 1e-5, "
                             "\"tie_word_embeddings\": false}",
                             (long long)ffn, (long long)vocab);
    char *path = test_path(dir, "config.json");
    test_file_write(path, config, strlen(config));
    qs_free(path);
    qs_free(config);
    test_model_write(dir, tensors, LARGE, 1, 3);
}

static void write_large(void) { write_model(5000, 9001); }

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

/* ---- a model that is stored in 4 bits ---------------------------------------------------------------- */

enum { STORED_MOST = LARGE * 6 };
static qs_safetensors_entry stored[STORED_MOST];
static int stored_count;
static void *stored_owned[STORED_MOST];
static int stored_owners;

static void *owned(void *p)
{
    ck_assert_int_lt(stored_owners, STORED_MOST);
    return stored_owned[stored_owners++] = p;
}

static void store(const char *name, const char *tail, qs_dtype type, int64_t n, const void *data)
{
    ck_assert_int_lt(stored_count, STORED_MOST);
    stored[stored_count++] = (qs_safetensors_entry){
        .name = owned(qs_printf("%s%s", name, tail)), .type = type, .dims = 1, .shape = {n}, .data = data};
}

/* The linear's tensors as bitsandbytes writes them, with the bytes that blob 0, at place, has. */
static void store_linear(const char *name, const qs_tensor *t, const qs_tensor_layout *w)
{
    char *blob = place.base;
    bool nf4 = layout.quant.type == QS_QUANT_NF4, twice = layout.quant.double_quant;
    int64_t n = (int64_t)t->out * t->in;
    float offset = twice ? *(float *)(blob + w->offset_at) : 0;
    char nested[96] = "";
    if (twice)
        snprintf(nested, sizeof nested, ", \"nested_blocksize\": 256, \"nested_offset\": %.17g", offset);
    char *state = owned(qs_printf("{\"quant_type\": \"%s\", \"blocksize\": 64, \"shape\": [%d, %d]%s}",
                                  nf4 ? "nf4" : "fp4", t->out, t->in, nested));
    store(name, "", QS_U8, (n + 1) / 2, blob + w->at);
    store(name, ".absmax", twice ? QS_U8 : QS_F32, qs_quant_blocks(n), blob + w->absmax_at);
    store(name, ".quant_map", QS_F32, 16, qs_code4_of(layout.quant.type)->value);
    store(name, nf4 ? ".quant_state.bitsandbytes__nf4" : ".quant_state.bitsandbytes__fp4", QS_U8,
          (int64_t)strlen(state), state);
    if (!twice) return;
    store(name, ".nested_absmax", QS_F32, qs_nested_blocks(n), blob + w->nested_at);
    store(name, ".nested_quant_map", QS_F32, 256, qs_dynamic_signed);
}

/* Writes what the large model's first blob holds as a 4-bit checkpoint in `stored`; publish_stored puts it in
 * the model's place. */
static void write_stored(int quant, int64_t ffn)
{
    write_model(ffn, 128);
    begin(dir, quants[quant], NULL);
    ck_assert_int_eq(qs_quantise_on_load_make(maker, 0, place.base, &e), 0);
    stored_count = stored_owners = 0;
    for (int i = 0; i < LARGE; i++) {
        const test_tensor *t = &large[i];
        int at = strncmp(t->name, "model.layers.0.", 15)
                     ? -1
                     : qs_layer_find(qs_architecture_layer(&arch, 0), t->name + 15);
        if (t->dims == 2 && at >= 0) {
            store_linear(t->name, &qs_architecture_layer(&arch, 0)->tensor[at],
                         &qs_layout_layer(&layout, 0)->tensor[at]);
            continue;
        }
        test_tensor plain = *t;
        if (plain.shape[0] == 9001) plain.shape[0] = 128;
        store(t->name, "", t->type, plain.shape[0], owned(test_tensor_data(3, &plain)));
        stored[stored_count - 1].dims = t->dims;
        stored[stored_count - 1].shape[1] = t->shape[1];
    }
}

static void publish_stored(void)
{
    static const char *const metadata[] = {"format", "pt"};
    char *path = test_path(dir, "model.safetensors");
    ck_assert_msg(!qs_safetensors_write(path, stored, stored_count, metadata, 1, &e), "%s", e.text);
    qs_free(path);
}

static void drop_stored(void)
{
    for (int i = 0; i < stored_owners; i++) qs_free(stored_owned[i]);
}

static qs_safetensors_entry *stored_named(const char *tail)
{
    for (int i = 0; i < stored_count; i++)
        if (strstr(stored[i].name, tail)) return &stored[i];
    ck_abort_msg("%s", tail);
}

START_TEST(codes_and_scales_that_are_stored_are_taken_untouched)
{
    write_stored(_i, 5000);
    publish_stored();
    uint64_t bytes = qs_layout_blob_bytes(&layout, 0);
    char *held = qs_malloc(bytes);
    memcpy(held, place.base, bytes);
    drop_stored();
    end();

    bool is_stored;
    qs_quant_config found = {0};
    begin(dir, quants[_i], NULL);
    ck_assert_int_eq(qs_stored_quant_of(&arch, source, &is_stored, &found, &e), 0);
    ck_assert(is_stored);
    ck_assert_int_eq(found.type, quants[_i].type);
    ck_assert_int_eq(found.double_quant, quants[_i].double_quant);
    memset(place.base, 0x5a, place.bytes);
    ck_assert_msg(!qs_quantise_on_load_make(maker, 0, place.base, &e), "%s", e.text);
    ck_assert_int_eq(memcmp(place.base, held, bytes), 0);
    qs_free(held);
}
END_TEST

/* What is wrong is found from the headers, or when the weight is first touched. */
static void refused_at_once(int code, const char *part)
{
    publish_stored();
    drop_stored();
    end();
    ck_assert_int_eq(qs_source_open(dir, &source, &e), 0);
    ck_assert_int_eq(qs_architecture_check(&arch, source, &e), -code);
    ck_assert_msg(strstr(e.text, part) != NULL, "%s", e.text);
    qs_source_close(source);
    source = NULL;
}

static void refused_when_touched(int quant, int code, const char *part)
{
    publish_stored();
    drop_stored();
    end();
    begin(dir, quants[quant], NULL);
    ck_assert_int_eq(qs_quantise_on_load_make(maker, 0, place.base, &e), -code);
    ck_assert_msg(strstr(e.text, part) != NULL, "%s", e.text);
    end();
}

START_TEST(stored_weights_that_are_not_as_bitsandbytes_writes_them_are_refused)
{
    float other[256];
    write_stored(0, 172);
    stored_named(".up_proj.weight.absmax")->shape[0]--;
    refused_at_once(QS_EFORMAT, "up_proj.weight.absmax has 1375 bytes");
    write_stored(0, 172);
    stored_named(".up_proj.weight.nested_quant_map")->name = "elsewhere";
    refused_at_once(QS_EMISSING, "has no tensor model.layers.0.mlp.up_proj.weight.nested_quant_map");

    write_stored(0, 172);
    memcpy(other, qs_dynamic_signed, sizeof other);
    other[7] += 1e-6f;
    stored_named("k_proj.weight.nested_quant_map")->data = other;
    refused_when_touched(0, QS_EUNSUP, "k_proj.weight.nested_quant_map is not the table");
    write_stored(1, 172);
    memset(other, 0, sizeof other);
    stored_named("k_proj.weight.quant_map")->data = other;
    refused_when_touched(1, QS_EUNSUP, "k_proj.weight.quant_map is not the table");

    write_stored(1, 172);
    qs_safetensors_entry *scales = stored_named("k_proj.weight.absmax");
    float *damaged = owned(qs_malloc((size_t)scales->shape[0] * sizeof *damaged));
    memcpy(damaged, scales->data, (size_t)scales->shape[0] * sizeof *damaged);
    damaged[3] = INFINITY;
    scales->data = damaged;
    refused_when_touched(1, QS_ENUMERIC, "k_proj.weight.absmax");

    static const struct {
        const char *state, *said;
        int code;
    } states[] = {
        {"{\"quant_type\": \"fp4\", \"blocksize\": 64, \"shape\": [64, 512]}", "quant_type", QS_EFORMAT},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 128, \"shape\": [64, 512]}", "blocksize", QS_EUNSUP},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [512, 64]}", "shape", QS_EFORMAT},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64}", "shape", QS_EFORMAT},
        {"{\"quant_type\": \"nf4\", \"blocksize\": 64, \"shape\": [64, 512]}", "nested_offset", QS_EFORMAT},
        {"{\"quant_type\": ", "JSON", QS_EFORMAT}};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        write_stored(0, 172);
        qs_safetensors_entry *entry = stored_named("k_proj.weight.quant_state");
        entry->data = states[i].state;
        entry->shape[0] = (int64_t)strlen(states[i].state);
        refused_when_touched(0, states[i].code, states[i].said);
    }
}
END_TEST

START_TEST(linears_that_are_not_all_stored_alike_are_refused)
{
    bool is_stored;
    qs_quant_config found;
    write_stored(0, 172);
    stored_named("o_proj.weight.quant_state")->name = "elsewhere";
    qs_safetensors_entry *codes = stored_named("o_proj.weight");
    *codes = (qs_safetensors_entry){.name = codes->name,
                                    .type = QS_F32,
                                    .dims = 2,
                                    .shape = {512, 512},
                                    .data = owned(qs_calloc(512 * 512, 4))};
    publish_stored();
    drop_stored();
    end();
    begin(dir, quants[0], NULL);
    ck_assert_int_eq(qs_stored_quant_of(&arch, source, &is_stored, &found, &e), -QS_EUNSUP);
    ck_assert_msg(strstr(e.text, "o_proj.weight in 16 or 32 bits") != NULL, "%s", e.text);
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
    tcase_add_loop_test(t, codes_and_scales_that_are_stored_are_taken_untouched, 0, QUANTS - 1);
    tcase_add_test(t, stored_weights_that_are_not_as_bitsandbytes_writes_them_are_refused);
    tcase_add_test(t, linears_that_are_not_all_stored_alike_are_refused);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
