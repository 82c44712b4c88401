/* Behaviour of src/data/byte_source and unpack: packed files and UTF-16 read as the text in them, damaged
 * ones named. */
#include <bzlib.h>
#include <check.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "src/base/memory.h"
#include "src/data/byte_source.h"
#include "src/data/unpack.h"
#include "tests/support/temp_dir.h"

static char *dir;

static void make_dir(void) { dir = test_dir_create(); }
static void drop_dir(void) { test_dir_remove(dir); }

enum { ROOM = 1 << 20 };

/* text packed by the library of `kind`; its length. */
static size_t pack(qs_packing_kind kind, const void *text, size_t n, unsigned char *out)
{
    if (kind == QS_PACKED_GZIP) {
        z_stream z = {0};
        ck_assert_int_eq(deflateInit2(&z, 6, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY), Z_OK);
        z.next_in = (Bytef *)(uintptr_t)text;
        z.avail_in = (uInt)n;
        z.next_out = out;
        z.avail_out = ROOM;
        ck_assert_int_eq(deflate(&z, Z_FINISH), Z_STREAM_END);
        deflateEnd(&z);
        return z.total_out;
    }
    if (kind == QS_PACKED_XZ) {
        size_t used = 0;
        ck_assert_int_eq(lzma_easy_buffer_encode(6, LZMA_CHECK_CRC64, NULL, text, n, out, &used, ROOM),
                         LZMA_OK);
        return used;
    }
    if (kind == QS_PACKED_ZSTD) {
        ZSTD_CCtx *z = ZSTD_createCCtx();
        ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, 1);
        size_t used = ZSTD_compress2(z, out, ROOM, text, n);
        ck_assert(!ZSTD_isError(used));
        ZSTD_freeCCtx(z);
        return used;
    }
    unsigned used = ROOM;
    ck_assert_int_eq(
        BZ2_bzBuffToBuffCompress((char *)out, &used, (char *)(uintptr_t)text, (unsigned)n, 9, 0, 0), BZ_OK);
    return used;
}

/* All of the file as text, or the error's sentence in e. */
static int read_all(const void *data, size_t n, char **text, size_t *bytes, const char **packing, qs_err *e)
{
    char *path = test_path(dir, "file.txt");
    test_file_write(path, data, n);
    qs_byte_source *s;
    int rc = qs_byte_source_open(path, &s, e);
    qs_free(path);
    *text = qs_malloc(1);
    *bytes = 0;
    if (rc) return rc;
    for (;;) {
        const char *part;
        size_t m;
        rc = qs_byte_source_next(s, &part, &m, e);
        if (rc || !m) break;
        *text = qs_realloc(*text, *bytes + m + 1);
        memcpy(*text + *bytes, part, m);
        *bytes += m;
    }
    *packing = qs_byte_source_packing(s);
    qs_byte_source_close(s);
    return rc;
}

static void reads(const void *data, size_t n, const char *want, size_t want_bytes, const char *packing)
{
    char *text;
    const char *found = NULL;
    size_t bytes;
    qs_err e = {0};
    ck_assert_msg(read_all(data, n, &text, &bytes, &found, &e) == 0, "%s", e.text);
    ck_assert_uint_eq(bytes, want_bytes);
    ck_assert_int_eq(memcmp(text, want, bytes), 0);
    ck_assert_str_eq(found, packing);
    qs_free(text);
}

static void refuses(const void *data, size_t n, const char *word)
{
    char *text;
    const char *found = NULL;
    size_t bytes;
    qs_err e = {0};
    int rc = read_all(data, n, &text, &bytes, &found, &e);
    ck_assert_msg(rc == -QS_EFORMAT || rc == -QS_EUNSUP, "%d after %zu bytes", rc, bytes);
    ck_assert_msg(strstr(e.text, word) != NULL, "\"%s\" lacks \"%s\"", e.text, word);
    qs_free(text);
}

static char *long_text(size_t n)
{
    char *text = qs_malloc(n);
    uint32_t state = 1;
    for (size_t i = 0; i < n; i++) text[i] = (char)('a' + ((state = state * 1664525 + 1013904223) >> 28));
    return text;
}

START_TEST(a_packed_file_is_the_text_in_it_whatever_its_name)
{
    unsigned char *packed = qs_malloc(2 * ROOM);
    const size_t n = 300000;
    char *text = long_text(n);
    size_t used = pack((qs_packing_kind)_i, text, n, packed);
    reads(packed, used, text, n, qs_unpack_name((qs_packing_kind)_i));
    qs_free(text);
    qs_free(packed);
}
END_TEST

START_TEST(streams_one_after_another_are_one_text)
{
    unsigned char *packed = qs_malloc(3 * ROOM);
    size_t used = pack((qs_packing_kind)_i, "one\n", 4, packed);
    used += pack((qs_packing_kind)_i, "", 0, packed + used);
    used += pack((qs_packing_kind)_i, "two\n", 4, packed + used);
    reads(packed, used, "one\ntwo\n", 8, qs_unpack_name((qs_packing_kind)_i));
    if (_i == QS_PACKED_GZIP) {
        memset(packed + used, 0, 512);
        reads(packed, used + 512, "one\ntwo\n", 8, "gzip");
    }
    qs_free(packed);
}
END_TEST

START_TEST(a_packed_file_that_is_cut_off_or_damaged_is_named_as_such)
{
    unsigned char *packed = qs_malloc(2 * ROOM);
    const size_t n = 100000;
    char *text = long_text(n);
    size_t used = pack((qs_packing_kind)_i, text, n, packed);
    refuses(packed, used / 2, "truncated");
    refuses(packed, used - 1, "truncated");
    for (size_t i = used / 2; i < used / 2 + 64; i++) packed[i] ^= 0x5a;
    refuses(packed, used, "damaged");
    qs_free(text);
    qs_free(packed);
}
END_TEST

START_TEST(a_packer_that_wants_too_much_memory_is_refused_by_name)
{
    lzma_options_lzma o;
    ck_assert(!lzma_lzma_preset(&o, 6));
    o.dict_size = UINT32_C(1) << 30;
    lzma_filter filters[] = {{LZMA_FILTER_LZMA2, &o}, {LZMA_VLI_UNKNOWN, NULL}};
    /* The dictionary's size stands in the header; nothing of that size is allocated to write the block header
     * of an empty text. */
    unsigned char out[4096];
    size_t used = 0;
    lzma_stream_flags flags = {.version = 0, .check = LZMA_CHECK_CRC32};
    lzma_block block = {.version = 0,
                        .check = LZMA_CHECK_CRC32,
                        .filters = filters,
                        .compressed_size = LZMA_VLI_UNKNOWN,
                        .uncompressed_size = LZMA_VLI_UNKNOWN};
    ck_assert_int_eq(lzma_stream_header_encode(&flags, out), LZMA_OK);
    used = LZMA_STREAM_HEADER_SIZE;
    ck_assert_int_eq(lzma_block_header_size(&block), LZMA_OK);
    ck_assert_int_eq(lzma_block_header_encode(&block, out + used), LZMA_OK);
    refuses(out, used + block.header_size, "dictionary");
}
END_TEST

START_TEST(utf16_becomes_utf8)
{
    const char want[] = "a\n\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80z1234567";
    const unsigned char little[] = {0xff, 0xfe, 'a',  0,    '\n', 0, 0xe4, 0, 0xac, 0x20,
                                    0x3d, 0xd8, 0x00, 0xde, 'z',  0, '1',  0, '2',  0,
                                    '3',  0,    '4',  0,    '5',  0, '6',  0, '7',  0};
    unsigned char big[sizeof little];
    for (size_t i = 0; i < sizeof little; i++) big[i] = little[i ^ 1];
    reads(little, sizeof little, want, sizeof want - 1, "UTF-16");
    reads(big, sizeof big, want, sizeof want - 1, "UTF-16");
    const unsigned char no_mark[] = {'{', 0, '"', 0, 'a', 0, '"', 0, ':', 0, '1', 0, '}', 0, '\n', 0};
    reads(no_mark, sizeof no_mark, "{\"a\":1}\n", 8, "UTF-16");
    refuses(little, sizeof little - 1, "truncated");
}
END_TEST

START_TEST(utf16_is_read_across_the_ends_of_stretches)
{
    /* One byte before the surrogate pairs, so that every buffer ends inside one. */
    const size_t pairs = 100000;
    unsigned char *file = qs_malloc(4 + 4 * pairs);
    char *want = qs_malloc(1 + 4 * pairs);
    memcpy(file,
           "\xff\xfe"
           "a",
           4);
    file[3] = 0;
    want[0] = 'a';
    for (size_t i = 0; i < pairs; i++) {
        memcpy(file + 4 + 4 * i, "\x3d\xd8\x00\xde", 4);
        memcpy(want + 1 + 4 * i, "\xf0\x9f\x98\x80", 4);
    }
    reads(file, 4 + 4 * pairs, want, 1 + 4 * pairs, "UTF-16");
    qs_free(file);
    qs_free(want);
}
END_TEST

START_TEST(a_byte_order_mark_is_left_out_and_other_bytes_pass)
{
    reads("\xef\xbb\xbfx\xe4", 5, "x\xe4", 2, "");
    reads("", 0, "", 0, "");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("byte_source");
    TCase *t = tcase_create("byte_source");
    tcase_add_checked_fixture(t, make_dir, drop_dir);
    tcase_add_loop_test(t, a_packed_file_is_the_text_in_it_whatever_its_name, QS_PACKED_GZIP,
                        QS_PACKED_BZIP2 + 1);
    tcase_add_loop_test(t, streams_one_after_another_are_one_text, QS_PACKED_GZIP, QS_PACKED_BZIP2 + 1);
    tcase_add_loop_test(t, a_packed_file_that_is_cut_off_or_damaged_is_named_as_such, QS_PACKED_GZIP,
                        QS_PACKED_BZIP2 + 1);
    tcase_add_test(t, a_packer_that_wants_too_much_memory_is_refused_by_name);
    tcase_add_test(t, utf16_becomes_utf8);
    tcase_add_test(t, utf16_is_read_across_the_ends_of_stretches);
    tcase_add_test(t, a_byte_order_mark_is_left_out_and_other_bytes_pass);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_ENV);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
