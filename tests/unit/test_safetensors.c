/* Behaviour of io/safetensors: what is written is what the Rust library writes, and nothing hostile gets
 * through the reader. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"

static char *dir, *path;
static qs_err e;
static qs_safetensors st;

static void setup(void)
{
    dir = test_dir_create();
    path = test_path(dir, "x.safetensors");
    e = (qs_err){0};
}
static void teardown(void)
{
    qs_safetensors_free(&st);
    qs_free(path);
    test_dir_remove(dir);
}

/* Writes a file of this header (with its length in front) and data_bytes zeros, and opens it. */
static int open_header(const char *header, size_t data_bytes)
{
    size_t n = strlen(header);
    uint8_t *file = qs_calloc(1, 8 + n + data_bytes);
    for (int i = 0; i < 8; i++) file[i] = (uint8_t)((uint64_t)n >> 8 * i);
    memcpy(file + 8, header, n);
    test_file_write(path, file, 8 + n + data_bytes);
    qs_free(file);
    qs_safetensors_free(&st);
    return qs_safetensors_open(path, &st, &e);
}

#define REFUSED(header, data_bytes, why)                                          \
    do {                                                                          \
        ck_assert_int_eq(open_header(header, data_bytes), -QS_EFORMAT);           \
        ck_assert_msg(strstr(e.text, why) && strstr(e.text, path), "%s", e.text); \
        ck_assert_ptr_null(st.tensors);                                           \
    } while (0)

static const test_tensor some[] = {{"b.weight", QS_BF16, 2, {3, 5}}, {"a.scale", QS_F32, 1, {7}},
                                   {"codes", QS_U8, 2, {9, 1}},      {"a.weight", QS_BF16, 2, {2, 2}},
                                   {"c.f16", QS_F16, 3, {1, 2, 3}},  {"empty", QS_F32, 2, {0, 4}},
                                   {"scalar", QS_F32, 0, {0}},       {"rows", QS_I32, 1, {4}}};
enum { SOME = sizeof some / sizeof *some };

START_TEST(what_is_written_reads_back)
{
    test_safetensors_write(path, some, SOME, 1);
    ck_assert_int_eq(qs_safetensors_open(path, &st, &e), 0);
    ck_assert_int_eq(st.count, SOME);
    ck_assert_int_eq(st.metadata_count, 1);
    ck_assert_str_eq(st.metadata[0], "format");
    ck_assert_str_eq(st.metadata[1], "pt");
    size_t file_bytes;
    char *file = test_file_read(path, &file_bytes);
    ck_assert_uint_eq(st.file_bytes, file_bytes);
    for (int i = 0; i < SOME; i++) {
        const qs_source_tensor *t = NULL;
        for (int k = 0; k < SOME; k++)
            if (!strcmp(st.tensors[k].name, some[i].name)) t = &st.tensors[k];
        ck_assert_ptr_nonnull(t);
        ck_assert_int_eq(t->dims, some[i].dims);
        for (int d = 0; d < t->dims; d++) ck_assert_int_eq(t->shape[d], some[i].shape[d]);
        ck_assert_int_eq(t->readable, some[i].type != QS_I32);
        if (t->readable) ck_assert_int_eq(t->type, some[i].type);
        void *want = test_tensor_data(1, &some[i]);
        ck_assert_uint_eq(t->bytes, test_tensor_elements(&some[i]) * qs_dtype_bytes(some[i].type));
        ck_assert_int_eq(memcmp(file + t->offset, want, t->bytes), 0);
        qs_free(want);
    }
    qs_free(file);
}
END_TEST

/* The layout of the Rust writer: metadata first, widest dtype first, names ascending, compact, padded to a
 * multiple of 8. */
START_TEST(the_header_is_laid_out_as_the_rust_writer_does)
{
    test_safetensors_write(path, some, SOME, 1);
    const char *want = "{\"__metadata__\":{\"format\":\"pt\"},"
                       "\"a.scale\":{\"dtype\":\"F32\",\"shape\":[7],\"data_offsets\":[0,28]},"
                       "\"empty\":{\"dtype\":\"F32\",\"shape\":[0,4],\"data_offsets\":[28,28]},"
                       "\"scalar\":{\"dtype\":\"F32\",\"shape\":[],\"data_offsets\":[28,32]},"
                       "\"rows\":{\"dtype\":\"I32\",\"shape\":[4],\"data_offsets\":[32,48]},"
                       "\"a.weight\":{\"dtype\":\"BF16\",\"shape\":[2,2],\"data_offsets\":[48,56]},"
                       "\"b.weight\":{\"dtype\":\"BF16\",\"shape\":[3,5],\"data_offsets\":[56,86]},"
                       "\"c.f16\":{\"dtype\":\"F16\",\"shape\":[1,2,3],\"data_offsets\":[86,98]},"
                       "\"codes\":{\"dtype\":\"U8\",\"shape\":[9,1],\"data_offsets\":[98,107]}}";
    size_t n = strlen(want), padded = qs_round_up(n, 8), bytes;
    char *file = test_file_read(path, &bytes);
    ck_assert_uint_eq((uint8_t)file[0] | (size_t)(uint8_t)file[1] << 8, padded);
    ck_assert_int_eq(memcmp(file + 8, want, n), 0);
    for (size_t i = n; i < padded; i++) ck_assert_int_eq(file[8 + i], ' ');
    ck_assert_uint_eq(bytes, 8 + padded + 107);
    qs_free(file);
}
END_TEST

START_TEST(files_of_the_rust_writer_come_out_the_same)
{
    const char *golden = "tests/golden/quant.safetensors", *const metadata[] = {"format", "pt"};
    if (!qs_file_exists(golden)) {
        printf("skip: %s is not there\n", golden);
        return;
    }
    size_t want_bytes, got_bytes;
    char *want = test_file_read(golden, &want_bytes);
    ck_assert_int_eq(qs_safetensors_open(golden, &st, &e), 0);
    qs_safetensors_entry *entries = qs_calloc((size_t)st.count, sizeof *entries);
    for (int i = 0; i < st.count; i++) {
        const qs_source_tensor *t = &st.tensors[st.count - 1 - i];
        ck_assert(t->readable);
        entries[i] = (qs_safetensors_entry){
            .name = t->name, .type = t->type, .dims = t->dims, .data = want + t->offset};
        memcpy(entries[i].shape, t->shape, sizeof t->shape);
    }
    ck_assert_int_eq(qs_safetensors_write(path, entries, st.count, metadata, 1, &e), 0);
    char *got = test_file_read(path, &got_bytes);
    ck_assert_uint_eq(got_bytes, want_bytes);
    ck_assert_int_eq(memcmp(got, want, want_bytes), 0);
    qs_free(entries);
    qs_free(got);
    qs_free(want);
}
END_TEST

START_TEST(a_tensor_reads_as_f32_from_each_float_type)
{
    test_tensor t[] = {{"a", QS_F32, 1, {3000}},
                       {"b", QS_BF16, 1, {3000}},
                       {"c", QS_F16, 1, {3000}},
                       {"d", QS_U8, 1, {3000}}};
    test_safetensors_write(path, t, 4, 5);
    ck_assert_int_eq(qs_safetensors_open(path, &st, &e), 0);
    static float got[3000];
    for (int i = 0; i < 3; i++) {
        const qs_source_tensor *s = &st.tensors[i];
        void *data = test_tensor_data(5, &(test_tensor){s->name, s->type, 1, {3000}});
        ck_assert_int_eq(qs_safetensors_read_f32(path, s, got, 3000, &e), 0);
        for (size_t k = 0; k < 3000; k++) ck_assert(got[k] == qs_load_f32(data, s->type, k));
        qs_free(data);
        ck_assert_int_eq(qs_safetensors_read_f32(path, s, got, 2999, &e), -QS_EFORMAT);
    }
    ck_assert_int_eq(qs_safetensors_read_f32(path, &st.tensors[3], got, 3000, &e), -QS_EFORMAT);
    ck_assert(strstr(e.text, "U8"));
}
END_TEST

START_TEST(writing_a_name_twice_or_not_in_utf8_is_refused_and_leaves_the_old_file)
{
    float v = 0;
    qs_safetensors_entry two[] = {{"a", QS_F32, 1, {1}, &v}, {"a", QS_F32, 1, {1}, &v}},
                         bad = {"\xff", QS_F32, 1, {1}, &v};
    test_file_write(path, "old", 3);
    ck_assert_int_eq(qs_safetensors_write(path, two, 2, NULL, 0, &e), -QS_EINVAL);
    ck_assert_int_eq(qs_safetensors_write(path, &bad, 1, NULL, 0, &e), -QS_EINVAL);
    char *text = test_file_read(path, NULL);
    ck_assert_str_eq(text, "old");
    qs_free(text);
}
END_TEST

START_TEST(unaligned_data_and_any_order_are_accepted)
{
    ck_assert_int_eq(open_header("{ "
                                 "\"b\":{\"data_offsets\":[1,5],\"shape\":[1],\"dtype\":\"F32\"},\"a\":{"
                                 "\"dtype\":\"U8\",\"shape\":[1],"
                                 "\"data_offsets\":[0,1]}}  ",
                                 5),
                     0);
    ck_assert_str_eq(st.tensors[0].name, "a");
    ck_assert_str_eq(st.tensors[1].name, "b");
    ck_assert_int_eq(open_header("{}", 0), 0);
    ck_assert_int_eq(st.count, 0);
    ck_assert_int_eq(open_header("{\"a\":{\"dtype\":\"F4\",\"shape\":[4],\"data_offsets\":[0,2]}}", 2), 0);
    ck_assert(!st.tensors[0].readable);
    ck_assert_str_eq(st.tensors[0].type_name, "F4");
}
END_TEST

START_TEST(damaged_headers_are_refused_with_the_reason)
{
#define ONE(dtype, shape, range) \
    "{\"w\":{\"dtype\":\"" dtype "\",\"shape\":" shape ",\"data_offsets\":" range "}}"
    ck_assert_int_eq(open_header(ONE("F32", "[2]", "[0,8]"), 8), 0);
    REFUSED(ONE("F32", "[2]", "[0,8]"), 7, "truncated");
    REFUSED(ONE("F32", "[2]", "[0,8]"), 9, "longer");
    REFUSED(ONE("F32", "[3]", "[0,8]"), 8, "need");
    REFUSED(ONE("F99", "[2]", "[0,8]"), 8, "F99");
    REFUSED(ONE("F4", "[3]", "[0,1]"), 1, "bits");
    REFUSED(ONE("F32", "[-2]", "[0,8]"), 8, "non-negative");
    REFUSED(ONE("F32", "[2.0]", "[0,8]"), 8, "non-negative");
    REFUSED(ONE("F32", "[\"2\"]", "[0,8]"), 8, "non-negative");
    REFUSED(ONE("F32", "{}", "[0,8]"), 8, "lacks");
    REFUSED(ONE("F32", "[2]", "[0,8,9]"), 8, "lacks");
    REFUSED(ONE("F32", "[2]", "[0]"), 8, "lacks");
    REFUSED(ONE("F32", "[2]", "[8,0]"), 8, "ascending");
    REFUSED(ONE("F32", "[2]", "[-8,0]"), 8, "ascending");
    REFUSED(ONE("F32", "[2]", "[4,12]"), 12, "hole");
    REFUSED(ONE("F32", "[4611686018427387904,4]", "[0,8]"), 8, "overflow");
    REFUSED(ONE("F32", "[4294967296,4294967296]", "[0,0]"), 0, "overflow");
    REFUSED(ONE("U8", "[9223372036854775807]", "[0,9223372036854775807]"), 8, "overflow");
    REFUSED(ONE("U8", "[1152921504606846976]", "[0,1152921504606846976]"), 8, "truncated");
    REFUSED(ONE("F32", "[99999999999999999999]", "[0,8]"), 8, "JSON");
    REFUSED(ONE("F32", "[1,1,1,1,1,1,1,1,2]", "[0,8]"), 8, "dimensions");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[4],\"data_offsets\":[0,4]},\"b\":{\"dtype\":\"U8\","
            "\"shape\":[4],\"data_offsets\":[2,6]}}",
            6, "overlap");
    REFUSED("{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"a\":{\"dtype\":\"U8\","
            "\"shape\":[1],\"data_offsets\":[1,2]}}",
            2, "duplicate");
    REFUSED("{\"a\":7}", 0, "lacks");
    REFUSED("{\"a\":null}", 0, "lacks");
    REFUSED("{\"__metadata__\":[]}", 0, "__metadata__");
    REFUSED("{\"__metadata__\":{\"a\":1}}", 0, "__metadata__");
    REFUSED("[]", 0, "begin with");
    REFUSED(" {}", 0, "begin with");
    REFUSED("", 0, "begin with");
    REFUSED("{} x", 0, "JSON");
    REFUSED("{\"a\\u0000b\":{}}", 0, "JSON");
    REFUSED("{\"\xff\":{}}", 0, "JSON");
}
END_TEST

START_TEST(absurd_header_lengths_are_refused)
{
    static const uint64_t lengths[] = {3, 100000001, UINT64_MAX, UINT64_MAX - 7, (uint64_t)1 << 63};
    for (size_t i = 0; i < 5; i++) {
        uint8_t file[10] = "xxxxxxxx{}";
        for (int k = 0; k < 8; k++) file[k] = (uint8_t)(lengths[i] >> 8 * k);
        test_file_write(path, file, 10);
        ck_assert_int_eq(truncate(path, 110000000),
                         0); /* large enough for the second, without taking room on the disk */
        ck_assert_int_eq(qs_safetensors_open(path, &st, &e), -QS_EFORMAT);
        if (i) ck_assert_msg(strstr(e.text, "claims a header"), "%s", e.text);
    }
    ck_assert_int_eq(qs_safetensors_open(dir, &st, &e), -QS_EFORMAT);
    unlink(path);
    ck_assert_int_eq(qs_safetensors_open(path, &st, &e), -QS_EMISSING);
}
END_TEST

/* A tree of all of it would need a kilobyte for each. */
START_TEST(a_header_of_very_many_tensors_takes_little_more_than_its_names)
{
#ifdef __SANITIZE_ADDRESS__
    enum { MANY = 200000, EACH = 40000 }; /* the sanitizer's own memory counts too */
#else
    enum { MANY = 200000, EACH = 400 };
#endif
    char *text = qs_malloc((size_t)MANY * 80), *at = text, *where = test_path(dir, "many.safetensors");
    at += snprintf(at, 8, "{");
    for (int i = 0; i < MANY; i++)
        at += snprintf(at, 80, "%s\"t%d\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[%d,%d]}",
                       i ? "," : "", i, i, i + 1);
    at += snprintf(at, 8, "}");
    uint64_t n = (uint64_t)(at - text);
    char *file = qs_calloc(1, 8 + n + MANY);
    memcpy(file, &n, 8);
    memcpy(file + 8, text, n);
    test_file_write(where, file, 8 + n + MANY);
    qs_free(file);
    qs_free(text);
    struct rlimit unlimited, small;
    qs_safetensors many;
    ck_assert_int_eq(getrlimit(RLIMIT_AS, &unlimited), 0);
    FILE *f = fopen("/proc/self/statm", "re");
    long pages = 0;
    ck_assert_int_eq(fscanf(f, "%ld", &pages), 1);
    fclose(f);
    small = (struct rlimit){.rlim_cur = (rlim_t)pages * 4096 + (rlim_t)MANY * EACH,
                            .rlim_max = unlimited.rlim_max};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &small), 0);
    int rc = qs_safetensors_open(where, &many, &e);
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &unlimited), 0);
    ck_assert_msg(!rc, "%s", e.text);
    ck_assert_int_eq(many.count, MANY);
    ck_assert_str_eq(many.tensors[MANY - 1].name, "t199999");
    qs_safetensors_free(&many);
    qs_free(where);
}
END_TEST

START_TEST(deep_nesting_is_refused_without_exhausting_the_stack)
{
    size_t n = 1 << 20;
    static const char front[] = "{\"a\":{\"shape\":";
    char *text = qs_malloc(n + sizeof front);
    memcpy(text, front, sizeof front - 1);
    memset(text + sizeof front - 1, '[', n);
    text[n + sizeof front - 1] = 0;
    REFUSED(text, 0, "JSON");
    qs_free(text);
}
END_TEST

START_TEST(a_file_cut_at_any_byte_is_refused)
{
    test_safetensors_write(path, some, SOME, 1);
    size_t n;
    char *file = test_file_read(path, &n);
    for (size_t cut = 0; cut < n; cut++) {
        ck_assert_int_eq(truncate(path, (off_t)(n - 1 - cut)), 0);
        ck_assert_int_eq(qs_safetensors_open(path, &st, &e), -QS_EFORMAT);
    }
    qs_free(file);
}
END_TEST

/* Whatever the bytes are, the reader answers; what it accepts lies inside the file. Memory errors show under
 * ASAN=1. */
START_TEST(random_damage_never_escapes_the_file)
{
    test_safetensors_write(path, some, SOME, 1);
    size_t n;
    char *file = test_file_read(path, &n), *damaged = qs_malloc(n);
    int accepted = 0;
    for (uint64_t trial = 0; trial < 6000; trial++) {
        memcpy(damaged, file, n);
        for (uint64_t k = 0, flips = 1 + trial % 4; k < flips; k++) {
            uint32_t r = qs_random_u32(11, trial, 2 * k),
                     at = qs_random_u32(11, trial, 2 * k + 1) % (uint32_t)n;
            damaged[at] = trial & 1 ? (char)(damaged[at] ^ 1 << r % 8) : "0123456789\"{}[],:-\\eu"[r % 22];
        }
        test_file_overwrite(path, damaged, n);
        if (qs_safetensors_open(path, &st, &e)) continue;
        accepted++;
        for (int i = 0; i < st.count; i++) ck_assert_uint_le(st.tensors[i].offset + st.tensors[i].bytes, n);
        qs_safetensors_free(&st);
    }
    ck_assert_int_gt(accepted, 0); /* damage to data or names only */
    ck_assert_int_lt(accepted, 6000);
    qs_free(damaged);
    qs_free(file);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("safetensors");
    TCase *t = tcase_create("safetensors");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, what_is_written_reads_back);
    tcase_add_test(t, the_header_is_laid_out_as_the_rust_writer_does);
    tcase_add_test(t, files_of_the_rust_writer_come_out_the_same);
    tcase_add_test(t, a_tensor_reads_as_f32_from_each_float_type);
    tcase_add_test(t, writing_a_name_twice_or_not_in_utf8_is_refused_and_leaves_the_old_file);
    tcase_add_test(t, unaligned_data_and_any_order_are_accepted);
    tcase_add_test(t, damaged_headers_are_refused_with_the_reason);
    tcase_add_test(t, absurd_header_lengths_are_refused);
    tcase_add_test(t, a_header_of_very_many_tensors_takes_little_more_than_its_names);
    tcase_add_test(t, deep_nesting_is_refused_without_exhausting_the_stack);
    tcase_add_test(t, a_file_cut_at_any_byte_is_refused);
    tcase_add_test(t, random_damage_never_escapes_the_file);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
