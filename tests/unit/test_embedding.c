/* Behaviour of src/model/embedding: rows come out the same from a table in memory and from the checkpoint. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/aio_fault.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/model/embedding.h"
#include "tests/support/model_files.h"
#include "tests/support/temp_dir.h"

enum { SEED = 4, MOST_TOKENS = 3000 };

static char *dir;
static qs_architecture arch;
static qs_source *source;
static qs_aio *aio;
static qs_region memory, table;
static qs_embedding *embedding;
static test_tensor tensor;
static char *rows; /* the tensor's bytes */
static int32_t ids[MOST_TOKENS];
static qs_err e;

static void setup(void) { dir = test_dir_create(); }

static void close_embedding(void)
{
    qs_embedding_close(embedding);
    qs_region_free(&memory);
    qs_region_free(&table);
    embedding = NULL;
}

static void end(void)
{
    close_embedding();
    qs_aio_close(aio);
    qs_source_close(source);
    qs_free(rows);
    aio = NULL;
    source = NULL;
    rows = NULL;
}

static void teardown(void)
{
    end();
    test_dir_remove(dir);
}

/* A model of one matrix (after a few bytes that put its rows at odd places) and its embedding to be opened.
 */
static void begin(int32_t vocab, int32_t hidden, qs_dtype type, const qs_aio_faults *faults)
{
    tensor = (test_tensor){"model.embed_tokens.weight", type, 2, {vocab, hidden}};
    const test_tensor model[] = {{"a", type, 1, {5}}, tensor};
    test_model_write(dir, model, 2, 1, SEED);
    rows = test_tensor_data(SEED, &tensor);
    arch = (qs_architecture){.vocab = vocab, .hidden = hidden, .names.embedding = "model.embed_tokens"};
    ck_assert_msg(!qs_source_open(dir, &source, &e), "%s", e.text);
    ck_assert_int_eq(
        qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD, .seam = test_faults(faults)}, &aio, &e), 0);
}

static int open_embedding(int32_t max_tokens, bool with_table)
{
    uint64_t bytes = qs_embedding_bytes(&arch, source, max_tokens),
             table_bytes = qs_embedding_table_bytes(&arch, source);
    ck_assert_uint_eq(table_bytes,
                      (uint64_t)arch.vocab * (uint64_t)arch.hidden * qs_dtype_bytes(tensor.type));
    ck_assert_int_eq(qs_region_map(&memory, bytes, "buffers", &e), 0);
    if (with_table) ck_assert_int_eq(qs_region_map(&table, table_bytes, "a table", &e), 0);
    qs_arena a = {memory.base, bytes, 0};
    int rc = qs_embedding_open(&arch, source, aio, max_tokens, &a, table.base, &embedding, &e);
    if (!rc) ck_assert_uint_eq(a.used, bytes);
    return rc;
}

static void draw_ids(int32_t tokens, uint64_t seed)
{
    for (int32_t i = 0; i < tokens; i++)
        ids[i] = (int32_t)(qs_random_u32(seed, 7, (uint64_t)i) % (uint32_t)arch.vocab);
}

/* Gathers ids and compares every element; nothing beyond the rows is touched. */
static void gathered_is_right(int32_t tokens, qs_dtype out_type)
{
    size_t row = (size_t)arch.hidden * qs_dtype_bytes(out_type), bytes = (size_t)tokens * row;
    char *out = qs_malloc(bytes + 64), *want = qs_malloc(row);
    memset(out, 0x5a, bytes + 64);
    ck_assert_msg(!qs_embedding_gather(embedding, ids, tokens, out, out_type, &e), "%s", e.text);
    for (int32_t i = 0; i < tokens; i++) {
        qs_convert(want, out_type, rows + (size_t)ids[i] * (size_t)arch.hidden * qs_dtype_bytes(tensor.type),
                   tensor.type, (size_t)arch.hidden);
        ck_assert_msg(!memcmp(out + (size_t)i * row, want, row), "token %d of %d, id %d", i, tokens, ids[i]);
    }
    for (int i = 0; i < 64; i++) ck_assert_int_eq(out[bytes + (size_t)i], 0x5a);
    qs_free(out);
    qs_free(want);
}

/* Rows of every size: less than a sector, odd, more than a page, and larger than the pieces that a table is
 * filled with. */
static const int32_t shapes[][2] = {/* vocab, hidden */ {300, 64},
                                    {77, 63},
                                    {1000, 1},
                                    {50, 2048},
                                    {9, 5001},
                                    {40, 9000},
                                    {2000, 128}};
enum { SHAPES = sizeof shapes / sizeof *shapes };
static const qs_dtype types[] = {QS_F32, QS_BF16, QS_F16};

START_TEST(table_and_checkpoint_give_the_same_rows)
{
    for (int s = 0; s < SHAPES; s++)
        for (int t = 0; t < 3; t++) {
            begin(shapes[s][0], shapes[s][1], types[t], NULL);
            for (int with_table = 0; with_table < 2; with_table++) {
                ck_assert_msg(!open_embedding(500, with_table), "%s", e.text);
                if (with_table)
                    ck_assert_int_eq(memcmp(table.base, rows, qs_embedding_table_bytes(&arch, source)), 0);
                for (int o = 0; o < 3; o++) {
                    draw_ids(500, (uint64_t)(s + o));
                    gathered_is_right(500, types[o]);
                }
                close_embedding();
            }
            end();
        }
}
END_TEST

START_TEST(tokens_may_come_in_any_order_and_often)
{
    begin(3000, 96, QS_BF16, NULL);
    ck_assert_int_eq(open_embedding(MOST_TOKENS, false), 0);
    for (int32_t i = 0; i < MOST_TOKENS; i++) ids[i] = i;
    gathered_is_right(MOST_TOKENS, QS_F32);
    for (int32_t i = 0; i < MOST_TOKENS; i++) ids[i] = MOST_TOKENS - 1 - i;
    gathered_is_right(MOST_TOKENS, QS_F32);
    for (int32_t i = 0; i < MOST_TOKENS; i++) ids[i] = 2999;
    gathered_is_right(MOST_TOKENS, QS_F32);
    for (int32_t i = 0; i < MOST_TOKENS; i++) ids[i] = i % 2 ? 0 : 2999;
    gathered_is_right(MOST_TOKENS, QS_F32);
    for (int32_t n = 0; n < 140; n++) { /* about the number of reads in flight */
        draw_ids(n, (uint64_t)n);
        gathered_is_right(n, QS_BF16);
    }
}
END_TEST

START_TEST(every_distinct_row_is_read_once)
{
    begin(64, 2048, QS_BF16, NULL); /* rows of a page each */
    ck_assert_int_eq(open_embedding(1000, false), 0);
    for (int32_t i = 0; i < 1000; i++) ids[i] = 8 * (i % 4);
    uint64_t before = qs_aio_stats_read(aio).read_bytes;
    gathered_is_right(1000, QS_BF16);
    ck_assert_uint_le(qs_aio_stats_read(aio).read_bytes - before, 4 * 2 * 4096);
}
END_TEST

START_TEST(short_and_reordered_reads_change_nothing)
{
    qs_aio_faults faults = {.seed = 1, .short_every = 3, .interrupt_every = 4, .reorder = true};
    begin(900, 3000, QS_F32, &faults);
    for (int with_table = 0; with_table < 2; with_table++) {
        ck_assert_msg(!open_embedding(400, with_table), "%s", e.text);
        draw_ids(400, 3);
        gathered_is_right(400, QS_F32);
        close_embedding();
    }
}
END_TEST

/* Whichever read fails, the others are waited for and the next gather works. */
START_TEST(a_failed_read_is_an_error_once)
{
    char *out = qs_malloc(400 * 64 * 4);
    for (int n = 1; n < 300; n += 37) {
        qs_aio_faults faults = {.read_error_at = n, .reorder = true, .seed = (uint64_t)n};
        begin(2000, 64, QS_F32, &faults);
        ck_assert_int_eq(open_embedding(400, false), 0);
        for (int32_t i = 0; i < 400; i++) ids[i] = 5 * i;
        e.text[0] = 0;
        ck_assert_int_eq(qs_embedding_gather(embedding, ids, 400, out, QS_F32, &e), -QS_EIO);
        ck_assert_msg(strstr(e.text, "model.safetensors") != NULL, "%s", e.text);
        gathered_is_right(400, QS_F32);
        end();
    }
    qs_free(out);
}
END_TEST

START_TEST(a_table_that_cannot_be_read_is_an_error)
{
    for (int n = 1; n <= 20; n += 6) {
        qs_aio_faults faults = {.read_error_at = n};
        begin(2000, 64, QS_F32, &faults);
        ck_assert_int_eq(open_embedding(400, true), -QS_EIO);
        ck_assert_msg(strstr(e.text, "model.safetensors") != NULL, "%s", e.text);
        ck_assert_ptr_null(embedding);
        end();
    }
}
END_TEST

START_TEST(gathering_allocates_nothing)
{
    static float out[400 * 64];
    begin(2000, 64, QS_F32, NULL);
    ck_assert_int_eq(open_embedding(400, false), 0);
    draw_ids(400, 1);
    uint64_t before = qs_mem_read().calls;
    ck_assert_int_eq(qs_embedding_gather(embedding, ids, 400, out, QS_F32, &e), 0);
    ck_assert_uint_eq(qs_mem_read().calls, before);
}
END_TEST

START_TEST(a_tied_table_is_found_under_the_heads_name)
{
    const test_tensor model[] = {{"lm_head.weight", QS_BF16, 2, {30, 8}}};
    tensor = model[0];
    test_model_write(dir, model, 1, 1, SEED);
    rows = test_tensor_data(SEED, &tensor);
    arch = (qs_architecture){.vocab = 30,
                             .hidden = 8,
                             .tied = true,
                             .names = {.embedding = "model.embed_tokens", .head = "lm_head"}};
    ck_assert_int_eq(qs_source_open(dir, &source, &e), 0);
    ck_assert_int_eq(qs_aio_open(&(qs_aio_config){.engine = QS_AIO_PREAD}, &aio, &e), 0);
    ck_assert_int_eq(open_embedding(20, false), 0);
    draw_ids(20, 2);
    gathered_is_right(20, QS_F32);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("embedding");
    TCase *t = tcase_create("embedding");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, table_and_checkpoint_give_the_same_rows);
    tcase_add_test(t, tokens_may_come_in_any_order_and_often);
    tcase_add_test(t, every_distinct_row_is_read_once);
    tcase_add_test(t, short_and_reordered_reads_change_nothing);
    tcase_add_test(t, a_failed_read_is_an_error_once);
    tcase_add_test(t, a_table_that_cannot_be_read_is_an_error);
    tcase_add_test(t, gathering_allocates_nothing);
    tcase_add_test(t, a_tied_table_is_found_under_the_heads_name);
    suite_add_tcase(suite, t);
    SRunner *r = srunner_create(suite);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
