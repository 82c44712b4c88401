/* Behaviour of io/checkpoint_source: every tensor of a model directory by name, and clear words about
 * directories that are not one. */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint_identity.h"
#include "tests/support/aio_fault.h"
#include "io/checkpoint_source.h"
#include "io/safetensors.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/model_files.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_dir.h"

static char *dir, *buffer;
static qs_source *src;
static qs_aio *aio;
static qs_err e;

enum { BUFFER_BYTES = 1 << 20 };

static void setup(void)
{
    dir = test_dir_create();
    buffer = aligned_alloc(4096, BUFFER_BYTES);
    e = (qs_err){0};
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .chunk_bytes = 8192}, &aio, &e), 0);
}
static void teardown(void)
{
    qs_source_close(src);
    qs_aio_close(aio);
    free(buffer);
    test_dir_remove(dir);
}

static const test_tensor model[] = {{"model.embed_tokens.weight", QS_BF16, 2, {300, 64}},
                                    {"model.layers.0.q.weight", QS_F16, 2, {64, 64}},
                                    {"model.layers.0.norm.weight", QS_F32, 1, {64}},
                                    {"model.layers.1.q.weight", QS_BF16, 2, {64, 64}},
                                    {"model.layers.1.q.weight.absmax", QS_U8, 1, {61}},
                                    {"model.norm.weight", QS_F32, 1, {64}},
                                    {"empty", QS_BF16, 2, {0, 5}}};
enum { TENSORS = sizeof model / sizeof *model, SEED = 9 };

static void put(const char *name, const char *text)
{
    char *path = test_path(dir, name);
    test_file_write(path, text, strlen(text));
    qs_free(path);
}

/* Reads part of a tensor and compares it with `want`, the whole of it. */
static void read_part(const qs_source_tensor *t, const char *want, uint64_t offset, uint64_t bytes)
{
    qs_source_read r = {.tensor = t, .offset = offset, .bytes = bytes, .buffer = buffer};
    ck_assert_uint_le(qs_source_buffer_bytes(bytes), BUFFER_BYTES);
    memset(buffer, 0x5a, BUFFER_BYTES);
    qs_source_read_start(src, aio, &r);
    ck_assert_msg(!qs_source_read_finish(src, aio, &r, &e), "%s", e.text);
    ck_assert_uint_eq((uintptr_t)r.data % qs_dtype_bytes(t->type), 0);
    ck_assert_int_eq(memcmp(r.data, want + offset, bytes), 0);
    uint64_t beyond = qs_source_buffer_bytes(bytes);
    while (beyond < BUFFER_BYTES && buffer[beyond] == 0x5a) beyond++;
    ck_assert_uint_eq(beyond, BUFFER_BYTES); /* nothing past the room that was asked for */
}

static void every_tensor_reads_back(void)
{
    ck_assert_int_eq(qs_source_count(src), TENSORS);
    for (int i = 0; i < TENSORS; i++) {
        const qs_source_tensor *t = qs_source_find(src, model[i].name);
        ck_assert_ptr_nonnull(t);
        ck_assert_str_eq(t->name, model[i].name);
        char *want = test_tensor_data(SEED, &model[i]);
        read_part(t, want, 0, t->bytes);
        for (uint64_t k = 0; k < 10 && t->bytes; k++) {
            uint64_t at = qs_random_u32(1, k, 0) % t->bytes;
            read_part(t, want, at / 4 * 4, qs_random_u32(1, k, 1) % (t->bytes - at / 4 * 4 + 1));
        }
        qs_free(want);
    }
    for (int i = 1; i < TENSORS; i++)
        ck_assert_int_lt(strcmp(qs_source_at(src, i - 1)->name, qs_source_at(src, i)->name), 0);
    ck_assert_ptr_null(qs_source_find(src, "model.layers.2.q.weight"));
    ck_assert_ptr_null(qs_source_find(src, ""));
}

START_TEST(a_single_file_reads_back)
{
    test_model_write(dir, model, TENSORS, 1, SEED);
    ck_assert_msg(!qs_source_open(dir, &src, &e), "%s", e.text);
    every_tensor_reads_back();
}
END_TEST

START_TEST(shards_read_back_and_a_single_file_beside_their_index_goes_before_them)
{
    static const test_tensor other = {"other", QS_F32, 1, {4}};
    test_model_write(dir, model, TENSORS, 3, SEED);
    ck_assert_msg(!qs_source_open(dir, &src, &e), "%s", e.text);
    every_tensor_reads_back();
    qs_source_close(src);
    test_model_write(dir, &other, 1, 1, SEED);
    qs_log_set_level(QS_LOG_ERROR);
    ck_assert_msg(!qs_source_open(dir, &src, &e), "%s", e.text);
    qs_log_set_level(QS_LOG_INFO);
    ck_assert_int_eq(qs_source_count(src), 1);
    ck_assert_ptr_nonnull(qs_source_find(src, "other"));
}
END_TEST

START_TEST(names_are_found_without_the_prefixes_of_wrappers)
{
    static const struct {
        const char *name, *plain;
    } cases[] = {
        {"_orig_mod.model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.weight"},
        {"module._orig_mod.model.norm.weight", "model.norm.weight"},
        {"model.layers.3._checkpoint_wrapped_module.mlp.up_proj.weight", "model.layers.3.mlp.up_proj.weight"},
        {"model.layers._orig_mod.0.q.weight", "model.layers.0.q.weight"},
        {"language_model.model.embed_tokens.weight", "model.embed_tokens.weight"},
        {"language_model.lm_head.weight", "lm_head.weight"},
        {"model.language_model.layers.1.q.weight", "model.layers.1.q.weight"},
        {"model.language_model.model.layers.1.k.weight", "model.layers.1.k.weight"},
        {"model.language_model.lm_head.bias", "lm_head.bias"},
        {"layers.5.q.weight", "model.layers.5.q.weight"},
        {"gpt_neox._orig_mod.layers.0.q.weight", "gpt_neox.layers.0.q.weight"}};
    enum { CASES = sizeof cases / sizeof *cases };
    test_tensor list[CASES + 1];
    for (int i = 0; i < CASES; i++) list[i] = (test_tensor){cases[i].name, QS_F32, 1, {2}};
    list[CASES] = (test_tensor){"not_orig_mod.weight", QS_F32, 1, {2}};
    test_model_write(dir, list, CASES + 1, 1, SEED);
    ck_assert_msg(!qs_source_open(dir, &src, &e), "%s", e.text);
    for (int i = 0; i < CASES; i++) {
        const qs_source_tensor *t = qs_source_find(src, cases[i].plain);
        ck_assert_msg(t && !strcmp(t->name, cases[i].name), "%s", cases[i].plain);
        ck_assert_ptr_eq(qs_source_find(src, cases[i].name), t);
    }
    ck_assert_ptr_null(qs_source_find(src, "not_weight"));
    ck_assert_ptr_null(qs_source_find(src, "weight"));
}
END_TEST

/* Data that begins at an odd byte, as old writers left it: what arrives is aligned all the same. */
START_TEST(unaligned_data_arrives_aligned)
{
    const char header[] = "{ "
                          "\"a\":{\"dtype\":\"U8\",\"shape\":[3],\"data_offsets\":[0,3]},\"b\":{\"dtype\":"
                          "\"F32\",\"shape\":[3000],\"data_offsets\":[3,12003]}}";
    size_t n = sizeof header - 1, bytes = 8 + n + 12003;
    ck_assert_uint_ne((8 + n + 3) % 4, 0);
    char *file = qs_calloc(1, bytes), *path = test_path(dir, "model.safetensors");
    file[0] = (char)n;
    memcpy(file + 8, header, n);
    for (size_t i = 0; i < 12003; i++) file[8 + n + i] = (char)(i * 7 + i / 251);
    test_file_write(path, file, bytes);
    ck_assert_msg(!qs_source_open(dir, &src, &e), "%s", e.text);
    for (uint64_t offset = 0; offset < 12000; offset += 1996)
        read_part(qs_source_find(src, "b"), file + 8 + n + 3, offset, 12000 - offset);
    read_part(qs_source_find(src, "a"), file + 8 + n, 1, 2);
    qs_free(path);
    qs_free(file);
}
END_TEST

START_TEST(reads_survive_short_and_reordered_transfers)
{
    qs_aio_close(aio);
    qs_aio_faults faults = {.seed = 5, .short_every = 2, .interrupt_every = 3, .reorder = true};
    ck_assert_int_eq(
        qs_aio_open(
            &(qs_aio_config){.engine = QS_AIO_PREAD, .chunk_bytes = 8192, .seam = test_faults(&faults)}, &aio,
            &e),
        0);
    test_model_write(dir, model, TENSORS, 2, SEED);
    ck_assert_int_eq(qs_source_open(dir, &src, &e), 0);
    every_tensor_reads_back();
}
END_TEST

START_TEST(a_failing_disk_names_the_shard)
{
    qs_aio_close(aio);
    qs_aio_faults faults = {.read_error_at = 1};
    ck_assert_int_eq(
        qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .seam = test_faults(&faults)}, &aio, &e), 0);
    test_model_write(dir, model, TENSORS, 1, SEED);
    ck_assert_int_eq(qs_source_open(dir, &src, &e), 0);
    qs_source_read r = {.tensor = qs_source_at(src, 0), .bytes = 1, .buffer = buffer};
    r.tensor = qs_source_find(src, "model.norm.weight");
    qs_source_read_start(src, aio, &r);
    ck_assert_int_eq(qs_source_read_finish(src, aio, &r, &e), -QS_EIO);
    ck_assert(strstr(e.text, "model.safetensors"));
}
END_TEST

START_TEST(a_file_that_shrinks_after_opening_is_an_error)
{
    test_model_write(dir, model, TENSORS, 1, SEED);
    ck_assert_int_eq(qs_source_open(dir, &src, &e), 0);
    char *path = test_path(dir, "model.safetensors");
    ck_assert_int_eq(truncate(path, 5000), 0);
    qs_free(path);
    qs_source_read r = {.tensor = qs_source_find(src, "model.layers.1.q.weight"), .buffer = buffer};
    r.bytes = r.tensor->bytes;
    qs_source_read_start(src, aio, &r);
    ck_assert_int_eq(qs_source_read_finish(src, aio, &r, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, "shorter"), "%s", e.text);
}
END_TEST

START_TEST(a_dropped_name_is_found_through_the_metadata)
{
    float v[4] = {1, 2, 3, 4};
    qs_safetensors_entry entry = {"lm_head.weight", QS_F32, 1, {4}, v};
    const char *const metadata[] = {"format",         "pt",    "model.embed_tokens.weight",
                                    "lm_head.weight", "chain", "model.embed_tokens.weight",
                                    "lm_head.weight", "format"};
    char *path = test_path(dir, "model.safetensors");
    ck_assert_int_eq(qs_safetensors_write(path, &entry, 1, metadata, 4, &e), 0);
    qs_free(path);
    ck_assert_int_eq(qs_source_open(dir, &src, &e), 0);
    ck_assert_int_eq(qs_source_count(src), 1);
    const qs_source_tensor *t = qs_source_find(src, "lm_head.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert_ptr_eq(qs_source_find(src, "model.embed_tokens.weight"), t);
    ck_assert_ptr_null(qs_source_find(src, "format"));
    ck_assert_ptr_null(qs_source_find(src, "chain"));
}
END_TEST

START_TEST(a_real_model_opens)
{
    char *real = test_shared("models/tinystories-656k");
    if (!real) return;
    ck_assert_msg(!qs_source_open(real, &src, &e), "%s", e.text);
    const qs_source_tensor *t = qs_source_find(src, "model.embed_tokens.weight");
    ck_assert_ptr_nonnull(t);
    ck_assert_str_eq(t->name, "lm_head.weight");
    ck_assert_int_eq(t->shape[0], 2048);
    ck_assert_int_eq(t->shape[1], 128);
    ck_assert_ptr_nonnull(qs_source_find(src, "model.layers.1.self_attn.v_proj.weight"));
    qs_free(real);
}
END_TEST

/* Opens the model in `where` and says which one it is. */
static const char *identity(const char *where)
{
    qs_source_close(src);
    ck_assert_msg(!qs_source_open(where, &src, &e), "%s", e.text);
    ck_assert_msg(!qs_source_identify(src, aio, &e), "%s", e.text);
    ck_assert_uint_eq(strlen(qs_source_fingerprint(src)), 32);
    return qs_source_fingerprint(src);
}

START_TEST(a_model_that_is_touched_copied_or_cut_otherwise_stays_the_same_model)
{
    const test_tensor other_order[] = {model[3], model[0], model[6], model[1], model[5], model[2], model[4]};
    struct timespec times[2] = {{1000, 0}, {1000, 1}};
    char first[33], *shard = test_path(dir, "model-00002-of-00002.safetensors"),
                    *copy = test_path(dir, "copy");
    test_model_write(dir, model, TENSORS, 2, SEED);
    strcpy(first, identity(dir));
    ck_assert_int_eq(utimensat(AT_FDCWD, shard, times, 0), 0);
    ck_assert_str_eq(identity(dir), first);
    ck_assert_int_eq(mkdir(copy, 0777), 0);
    test_model_write(copy, other_order, TENSORS, 1, SEED);
    ck_assert_str_eq(identity(copy), first);
    qs_free(shard);
    qs_free(copy);
}
END_TEST

START_TEST(models_that_differ_in_one_byte_a_name_a_type_or_a_shape_are_others)
{
    char first[33], *single = test_path(dir, "model.safetensors");
    test_tensor changed[TENSORS];
    test_model_write(dir, model, TENSORS, 1, SEED);
    strcpy(first, identity(dir));
    uint64_t end = qs_source_find(src, "model.layers.1.q.weight.absmax")->offset + 60,
             middle = qs_source_find(src, "model.embed_tokens.weight")->offset + 19201;
    const uint64_t places[] = {end, middle};
    struct stat st;
    ck_assert_int_eq(stat(single, &st), 0);
    for (int i = 0; i < 2; i++) {
        char byte;
        int fd = open(single, O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)places[i]), 1);
        byte ^= 1;
        ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)places[i]), 1);
        ck_assert_int_eq(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}), 0);
        close(fd);
        ck_assert_str_ne(identity(dir), first);
        test_model_write(dir, model, TENSORS, 1, SEED);
    }
    memcpy(changed, model, sizeof model);
    changed[1].name = "model.layers.0.k.weight";
    test_model_write(dir, changed, TENSORS, 1, SEED);
    ck_assert_str_ne(identity(dir), first);
    memcpy(changed, model, sizeof model);
    changed[6].type = QS_F16; /* the empty one: no byte changes */
    test_model_write(dir, changed, TENSORS, 1, SEED);
    ck_assert_str_ne(identity(dir), first);
    changed[6] = (test_tensor){"empty", QS_BF16, 2, {5, 0}};
    test_model_write(dir, changed, TENSORS, 1, SEED);
    ck_assert_str_ne(identity(dir), first);
    qs_free(single);
}
END_TEST

/* Larger than is taken whole: every tensor still tells its ends and places between, the smaller ones all of
 * them. */
START_TEST(of_a_large_model_every_tensor_is_sampled)
{
    enum { LARGE = 4096, LAYERS = 9 };
    test_tensor large[LAYERS + 1] = {{"norm", QS_F32, 1, {1024}}};
    char names[LAYERS][16], first[33], *single = test_path(dir, "model.safetensors");
    for (int i = 0; i < LAYERS; i++) {
        snprintf(names[i], sizeof names[i], "layer%d", i);
        large[1 + i] = (test_tensor){names[i], QS_BF16, 2, {LARGE, 1024}};
    }
    test_model_write(dir, large, LAYERS + 1, 1, SEED);
    strcpy(first, identity(dir));
    for (int i = 0; i <= LAYERS; i++) {
        const qs_source_tensor *t = qs_source_at(src, i);
        const uint64_t places[] = {0, t->bytes - 1,
                                   t->bytes <= 4096 ? 2000 : (t->bytes - 1024) / 3 / 8 * 8 + 1023,
                                   t->bytes <= 4096 ? 3000 : (t->bytes - 1024) / 3 * 2 / 8 * 8};
        uint64_t at = t->offset + places[i % 4];
        char byte;
        int fd = open(single, O_RDWR | O_CLOEXEC);
        ck_assert_int_eq(pread(fd, &byte, 1, (off_t)at), 1);
        ck_assert_int_eq(pwrite(fd, &(char){byte ^ 4}, 1, (off_t)at), 1);
        ck_assert_str_ne(identity(dir), first);
        ck_assert_int_eq(pwrite(fd, &byte, 1, (off_t)at), 1);
        close(fd);
    }
    ck_assert_str_eq(identity(dir), first);
    qs_free(single);
}
END_TEST

START_TEST(a_model_that_cannot_be_read_has_no_identity)
{
    char *single = test_path(dir, "model.safetensors");
    test_model_write(dir, model, TENSORS, 1, SEED);
    ck_assert_int_eq(qs_source_open(dir, &src, &e), 0);
    ck_assert_int_eq(truncate(single, 5000), 0);
    ck_assert_int_eq(qs_source_identify(src, NULL, &e), -QS_EIO);
    ck_assert_msg(strstr(e.text, single) != NULL, "%s", e.text);
    qs_free(single);
}
END_TEST

#define REFUSED(code, ...)                                         \
    do {                                                           \
        static const char *const words[] = {__VA_ARGS__};          \
        ck_assert_int_eq(qs_source_open(dir, &src, &e), -(code));  \
        ck_assert_ptr_null(src);                                   \
        for (size_t w = 0; w < sizeof words / sizeof *words; w++)  \
            ck_assert_msg(strstr(e.text, words[w]), "%s", e.text); \
    } while (0)

START_TEST(a_directory_without_a_model_says_what_was_looked_for)
{
    put("pytorch_model.bin", "x");
    REFUSED(QS_EMISSING, "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin");
    char *none = test_path(dir, "none");
    ck_assert_int_eq(qs_source_open(none, &src, &e), -QS_EMISSING);
    ck_assert(strstr(e.text, "no such model directory"));
    qs_free(none);
}
END_TEST

START_TEST(a_missing_or_damaged_shard_is_named)
{
    test_model_write(dir, model, TENSORS, 3, SEED);
    char *shard = test_path(dir, "model-00002-of-00003.safetensors");
    ck_assert_int_eq(truncate(shard, 100), 0);
    REFUSED(QS_EFORMAT, "model-00002-of-00003.safetensors");
    unlink(shard);
    REFUSED(QS_EMISSING, "model-00002-of-00003.safetensors", "index.json");
    qs_free(shard);
}
END_TEST

START_TEST(an_index_that_does_not_match_its_shards_is_refused)
{
    static const test_tensor a[] = {{"a", QS_F32, 1, {4}}, {"b", QS_F32, 1, {4}}};
    char *one = test_path(dir, "one.safetensors"), *two = test_path(dir, "two.safetensors");
    test_safetensors_write(one, a, 2, 1);
    test_safetensors_write(two, a + 1, 1, 1);
#define INDEX(map) put("model.safetensors.index.json", "{\"weight_map\":" map "}")
    INDEX("{\"a\":\"one.safetensors\",\"c\":\"one.safetensors\"}");
    REFUSED(QS_EFORMAT, "tensor c", "one.safetensors");
    INDEX("{\"a\":\"one.safetensors\",\"b\":\"two.safetensors\"}");
    REFUSED(QS_EFORMAT, "tensor b", "both", "one.safetensors", "two.safetensors");
    INDEX("{\"a\":\"one.safetensors\",\"a\":\"two.safetensors\"}");
    REFUSED(QS_EFORMAT, "JSON", "duplicate");
    INDEX("{\"a\":\"../one.safetensors\"}");
    REFUSED(QS_EFORMAT, "../one.safetensors", "beside");
    INDEX("{\"a\":\"/etc/passwd\"}");
    REFUSED(QS_EFORMAT, "/etc/passwd");
    INDEX("{\"a\":\"..\"}");
    REFUSED(QS_EFORMAT, "beside");
    INDEX("{\"a\":\"\"}");
    REFUSED(QS_EFORMAT, "beside");
    INDEX("{\"a\":7}");
    REFUSED(QS_EFORMAT, "tensor a");
    INDEX("{}");
    REFUSED(QS_EFORMAT, "weight_map");
    INDEX("[]");
    REFUSED(QS_EFORMAT, "weight_map");
    put("model.safetensors.index.json", "[1]");
    REFUSED(QS_EFORMAT, "weight_map");
    put("model.safetensors.index.json", "{");
    REFUSED(QS_EFORMAT, "JSON");
    INDEX("{\"a\":\"one.safetensors\"}"); /* b is there but not listed */
    ck_assert_int_eq(qs_source_open(dir, &src, &e), 0);
    ck_assert_int_eq(qs_source_count(src), 1);
    ck_assert_ptr_null(qs_source_find(src, "b"));
    qs_free(one);
    qs_free(two);
}
END_TEST

START_TEST(random_damage_to_an_index_is_survived)
{
    test_model_write(dir, model, TENSORS, 2, SEED);
    char *path = test_path(dir, "model.safetensors.index.json");
    size_t n;
    char *text = test_file_read(path, &n), *damaged = qs_malloc(n);
    for (uint64_t trial = 0; trial < 3000; trial++) {
        memcpy(damaged, text, n);
        for (uint64_t k = 0; k < 1 + trial % 3; k++)
            damaged[qs_random_u32(2, trial, 2 * k) % n] = (char)qs_random_u32(2, trial, 2 * k + 1);
        test_file_overwrite(path, damaged, trial % 2 ? n : qs_random_u32(2, trial, 99) % n);
        if (!qs_source_open(dir, &src, &e)) ck_assert_int_le(qs_source_count(src), TENSORS);
        qs_source_close(src);
        src = NULL;
    }
    qs_free(text);
    qs_free(damaged);
    qs_free(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("source");
    TCase *t = tcase_create("source");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_single_file_reads_back);
    tcase_add_test(t, shards_read_back_and_a_single_file_beside_their_index_goes_before_them);
    tcase_add_test(t, names_are_found_without_the_prefixes_of_wrappers);
    tcase_add_test(t, unaligned_data_arrives_aligned);
    tcase_add_test(t, reads_survive_short_and_reordered_transfers);
    tcase_add_test(t, a_failing_disk_names_the_shard);
    tcase_add_test(t, a_file_that_shrinks_after_opening_is_an_error);
    tcase_add_test(t, a_dropped_name_is_found_through_the_metadata);
    tcase_add_test(t, a_real_model_opens);
    tcase_add_test(t, a_model_that_is_touched_copied_or_cut_otherwise_stays_the_same_model);
    tcase_add_test(t, models_that_differ_in_one_byte_a_name_a_type_or_a_shape_are_others);
    tcase_add_test(t, of_a_large_model_every_tensor_is_sampled);
    tcase_add_test(t, a_model_that_cannot_be_read_has_no_identity);
    tcase_add_test(t, a_directory_without_a_model_says_what_was_looked_for);
    tcase_add_test(t, a_missing_or_damaged_shard_is_named);
    tcase_add_test(t, an_index_that_does_not_match_its_shards_is_refused);
    tcase_add_test(t, random_damage_to_an_index_is_survived);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
