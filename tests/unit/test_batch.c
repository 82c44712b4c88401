/* Behaviour of src/data/batch and packing: what is in a micro-batch, and that no token is lost or seen twice.
 */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/data/batch.h"
#include "src/data/packing.h"

static const char *const names[] = {"made.jsonl"};

/* A cache in memory: sample i has lengths[i] tokens with ids 1000 i + k; every token from `prompt` on is
 * trained. */
static qs_token_cache make_cache(const int32_t *lengths, int64_t n, int32_t prompt)
{
    qs_token_cache c = {.files = names, .file_count = 1, .sample_count = n};
    for (int64_t i = 0; i < n; i++) c.token_count += lengths[i];
    uint32_t *tokens = malloc((size_t)c.token_count * sizeof *tokens);
    qs_sample *samples = malloc((size_t)n * sizeof *samples);
    uint64_t at = 0;
    for (int64_t i = 0; i < n; i++) {
        samples[i] = (qs_sample){
            .first = at, .tokens = lengths[i], .targets = lengths[i] - prompt, .row = (uint32_t)i + 1};
        if (lengths[i] > c.longest) c.longest = lengths[i];
        c.target_count += samples[i].targets;
        for (int32_t k = 0; k < lengths[i]; k++)
            tokens[at++] = (uint32_t)(1000 * i + k) | (k >= prompt ? QS_TOKEN_TRAINED : 0);
    }
    c.tokens = tokens;
    c.samples = samples;
    return c;
}

static void free_cache(qs_token_cache *c)
{
    free((void *)(uintptr_t)c->tokens);
    free((void *)(uintptr_t)c->samples);
}

static qs_token_cache random_cache(int64_t n, int32_t longest)
{
    int32_t *lengths = malloc((size_t)n * sizeof *lengths);
    for (int64_t i = 0; i < n; i++)
        lengths[i] = 2 + (int32_t)(qs_random_u32(5, 1, (uint64_t)i) % (uint32_t)(longest - 1));
    qs_token_cache c = make_cache(lengths, n, 1);
    free(lengths);
    return c;
}

static qs_micro_batch make_micro_batch(const qs_batch_info *info, void **memory)
{
    qs_micro_batch m;
    qs_arena a = {0};
    qs_micro_batch_carve(info, &a, &m);
    *memory = aligned_alloc(64, qs_round_up(a.used, 64));
    a = (qs_arena){.base = *memory, .capacity = a.used};
    qs_micro_batch_carve(info, &a, &m);
    return m;
}

static qs_batcher *make_batcher(const qs_token_cache *c, const qs_token_cache *eval, qs_batch_options o)
{
    qs_err e = {0};
    qs_batcher *b;
    ck_assert_msg(qs_batcher_create(c, eval, &o, &b, &e) == 0, "%s", e.text);
    return b;
}

START_TEST(targets_are_the_next_ids_and_never_cross_documents)
{
    qs_token_cache c = make_cache((int32_t[]){4, 3}, 2, 2);
    qs_batcher *b =
        make_batcher(&c, NULL, (qs_batch_options){.in_order = true, .rows = 2, .micro_batches = 1});
    void *memory;
    qs_micro_batch m = make_micro_batch(qs_batcher_info(b), &memory);
    qs_batcher_fill(b, 0, 0, &m);
    const int32_t ids[] = {0, 1, 2, 3, 1000, 1001, 1002}, target[] = {-1, 2, 3, -1, -1, 1002, -1},
                  positions[] = {0, 1, 2, 3, 0, 1, 2}, start[] = {0, 0, 0, 0, 4, 4, 4}, offsets[] = {0, 4, 7};
    ck_assert_int_eq(m.tokens, 7);
    ck_assert_int_eq(m.targets, 3);
    ck_assert_int_eq(m.documents, 2);
    ck_assert_mem_eq(m.ids, ids, sizeof ids);
    ck_assert_mem_eq(m.target, target, sizeof target);
    ck_assert_mem_eq(m.positions, positions, sizeof positions);
    ck_assert_mem_eq(m.document_start, start, sizeof start);
    ck_assert_mem_eq(m.offsets, offsets, sizeof offsets);
    char name[64];
    qs_batcher_name_sample(b, &m, 1, name, sizeof name);
    ck_assert_str_eq(name, "made.jsonl, row 2");
    free(memory);
    qs_batcher_free(b);
    free_cache(&c);
}
END_TEST

/* Goes through one epoch; marks the samples seen; checks bounds and the step's own sums. */
static void walk_epoch(const qs_batcher *b, const qs_token_cache *c, int64_t epoch, int *seen,
                       int64_t *tokens, int64_t *targets)
{
    const qs_batch_info *info = qs_batcher_info(b);
    void *memory;
    qs_micro_batch m = make_micro_batch(info, &memory);
    *tokens = *targets = 0;
    for (int64_t s = epoch * info->steps_per_epoch; s < (epoch + 1) * info->steps_per_epoch; s++) {
        qs_step_info step;
        qs_batcher_step(b, s, &step);
        ck_assert_int_eq(step.epoch, epoch);
        ck_assert_int_ge(step.micro_batches, 1);
        int64_t step_tokens = 0, step_targets = 0, step_documents = 0;
        for (int32_t k = 0; k < step.micro_batches; k++) {
            qs_batcher_fill(b, s, k, &m);
            ck_assert_int_le(m.tokens, info->max_tokens);
            ck_assert_int_le(m.documents, info->max_documents);
            int64_t counted = 0;
            for (int64_t i = 0; i < m.tokens; i++) counted += m.target[i] >= 0;
            ck_assert_int_eq(counted, m.targets);
            for (int64_t d = 0; d < m.documents; d++) {
                const qs_sample *sample = &c->samples[m.samples[d]];
                ck_assert_int_eq(m.offsets[d + 1] - m.offsets[d], sample->tokens);
                for (int32_t i = 0; i < sample->tokens; i++) {
                    int32_t at = m.offsets[d] + i;
                    ck_assert_int_eq(m.ids[at],
                                     (int32_t)(c->tokens[sample->first + (uint64_t)i] & QS_TOKEN_ID_MASK));
                    ck_assert_int_eq(m.positions[at], i);
                    ck_assert_int_eq(m.document_start[at], m.offsets[d]);
                }
                seen[m.samples[d]]++;
            }
            step_tokens += m.tokens;
            step_targets += m.targets;
            step_documents += m.documents;
        }
        ck_assert_int_eq(step.tokens, step_tokens);
        ck_assert_int_eq(step.targets, step_targets);
        ck_assert_int_eq(step.documents, step_documents);
        *tokens += step_tokens;
        *targets += step_targets;
    }
    free(memory);
}

START_TEST(every_sample_is_seen_once_an_epoch_packed_or_not)
{
    qs_token_cache c = random_cache(537, 97);
    for (int packing = 0; packing < 2; packing++)
        for (int64_t rows = 1; rows <= 5; rows += 2)
            for (int64_t accumulation = 1; accumulation <= 4; accumulation += 3) {
                qs_batcher *b = make_batcher(&c, NULL,
                                             (qs_batch_options){.seed = 3,
                                                                .packing = packing,
                                                                .max_seq_length = 128,
                                                                .rows = rows,
                                                                .micro_batches = accumulation});
                const qs_batch_info *info = qs_batcher_info(b);
                for (int64_t epoch = 0; epoch < 2; epoch++) {
                    int seen[537] = {0};
                    int64_t tokens, targets;
                    walk_epoch(b, &c, epoch, seen, &tokens, &targets);
                    for (int i = 0; i < 537; i++) ck_assert_int_eq(seen[i], 1);
                    ck_assert_int_eq(tokens, c.token_count);
                    ck_assert_int_eq(targets, c.target_count);
                    ck_assert_int_eq(info->train_tokens, c.token_count);
                    ck_assert_int_eq(info->train_targets, c.target_count);
                }
                qs_batcher_free(b);
            }
    free_cache(&c);
}
END_TEST

START_TEST(the_last_group_of_an_epoch_is_a_step_as_in_transformers)
{
    int32_t lengths[11];
    for (int i = 0; i < 11; i++) lengths[i] = 5;
    qs_token_cache c = make_cache(lengths, 11, 1);
    /* 11 rows of batch 2 are 6 batches; groups of 4 make 2 steps: 4 and 2 micro-batches, the last of one row.
     */
    qs_batcher *b = make_batcher(&c, NULL, (qs_batch_options){.rows = 2, .micro_batches = 4});
    ck_assert_int_eq(qs_batcher_info(b)->steps_per_epoch, 2);
    qs_step_info s;
    qs_batcher_step(b, 0, &s);
    ck_assert_int_eq(s.micro_batches, 4);
    ck_assert_int_eq(s.tokens, 40);
    qs_batcher_step(b, 1, &s);
    ck_assert_int_eq(s.micro_batches, 2);
    ck_assert_int_eq(s.tokens, 15);
    qs_batcher_step(b, 2, &s);
    ck_assert_int_eq(s.epoch, 1);
    qs_batcher_free(b);
    free_cache(&c);
}
END_TEST

START_TEST(how_a_step_is_cut_into_micro_batches_does_not_change_its_rows)
{
    qs_token_cache c = random_cache(100, 50);
    void *memory[2];
    qs_batcher *b[2];
    qs_micro_batch m[2];
    for (int i = 0; i < 2; i++) {
        b[i] = make_batcher(&c, NULL,
                            (qs_batch_options){.seed = 9, .rows = i ? 1 : 4, .micro_batches = i ? 8 : 2});
        m[i] = make_micro_batch(qs_batcher_info(b[i]), &memory[i]);
    }
    for (int64_t s = 0; s < 30; s++) {
        int32_t flat[2][8], n[2] = {0};
        for (int i = 0; i < 2; i++) {
            qs_step_info step;
            qs_batcher_step(b[i], s, &step);
            for (int32_t k = 0; k < step.micro_batches; k++) {
                qs_batcher_fill(b[i], s, k, &m[i]);
                for (int64_t d = 0; d < m[i].documents; d++) flat[i][n[i]++] = m[i].samples[d];
            }
        }
        ck_assert_int_eq(n[0], n[1]);
        ck_assert_mem_eq(flat[0], flat[1], (size_t)n[0] * sizeof(int32_t));
    }
    for (int i = 0; i < 2; i++) {
        free(memory[i]);
        qs_batcher_free(b[i]);
    }
    free_cache(&c);
}
END_TEST

START_TEST(validation_samples_are_set_aside_and_read_in_file_order)
{
    qs_token_cache c = random_cache(50, 20);
    qs_batcher *b = make_batcher(
        &c, NULL, (qs_batch_options){.seed = 1, .rows = 3, .micro_batches = 2, .val_set_size = 0.11});
    const qs_batch_info *info = qs_batcher_info(b);
    ck_assert_int_eq(info->eval_samples, 6); /* rounded up */
    ck_assert_int_eq(info->train_samples, 44);
    ck_assert_int_eq(info->eval_batches, 2);
    int seen[50] = {0};
    int64_t tokens, targets;
    walk_epoch(b, &c, 0, seen, &tokens, &targets);
    void *memory;
    qs_micro_batch m = make_micro_batch(info, &memory);
    int32_t last = -1;
    for (int64_t i = 0; i < info->eval_batches; i++) {
        qs_batcher_fill_eval(b, i, &m);
        ck_assert_int_eq(m.documents, 3);
        for (int64_t d = 0; d < m.documents; d++) {
            ck_assert_int_gt(m.samples[d], last);
            last = m.samples[d];
            seen[last] += 10;
        }
    }
    int held = 0;
    for (int i = 0; i < 50; i++) {
        ck_assert(seen[i] == 1 || seen[i] == 10);
        held += seen[i] == 10;
    }
    ck_assert_int_eq(held, 6);
    free(memory);
    qs_batcher_free(b);
    free_cache(&c);
}
END_TEST

START_TEST(no_row_is_on_both_sides_of_a_validation_split)
{
    enum { ROWS = 20, PIECES = 3 };
    int32_t lengths[ROWS * PIECES];
    for (int i = 0; i < ROWS * PIECES; i++) lengths[i] = 4;
    qs_token_cache c = make_cache(lengths, ROWS * PIECES, 1);
    qs_sample *samples = (qs_sample *)(uintptr_t)c.samples;
    for (int i = 0; i < ROWS * PIECES; i++) samples[i].row = (uint32_t)(i / PIECES + 1);
    for (int i = 0; i < ROWS; i++)
        samples[PIECES * i + 2].first = samples[PIECES * i + 1].first; /* two pieces, one of them twice */
    qs_batcher *b = make_batcher(
        &c, NULL, (qs_batch_options){.seed = 3, .rows = 1, .micro_batches = 1, .val_set_size = 0.25});
    const qs_batch_info *info = qs_batcher_info(b);
    ck_assert_int_eq(info->eval_samples, 5 * 2);
    ck_assert_int_eq(info->train_samples, 15 * PIECES);
    bool eval_row[ROWS + 1] = {false};
    void *memory;
    qs_micro_batch m = make_micro_batch(info, &memory);
    for (int64_t i = 0; i < info->eval_batches; i++) {
        qs_batcher_fill_eval(b, i, &m);
        eval_row[c.samples[m.samples[0]].row] = true;
    }
    for (int64_t s = 0; s < info->steps_per_epoch; s++) {
        qs_batcher_fill(b, s, 0, &m);
        ck_assert(!eval_row[c.samples[m.samples[0]].row]);
    }
    free(memory);
    qs_batcher_free(b);
    free_cache(&c);
}
END_TEST

START_TEST(an_evaluation_file_is_read_whole_and_in_order)
{
    qs_token_cache c = random_cache(10, 20), v = make_cache((int32_t[]){2, 90, 4, 5, 6}, 5, 1);
    qs_batcher *b = make_batcher(&c, &v, (qs_batch_options){.rows = 1, .micro_batches = 1, .eval_rows = 2});
    const qs_batch_info *info = qs_batcher_info(b);
    ck_assert_int_eq(info->eval_batches, 3);
    ck_assert_int_ge(info->max_tokens, 92); /* evaluation counts for the bounds */
    void *memory;
    qs_micro_batch m = make_micro_batch(info, &memory);
    qs_batcher_fill_eval(b, 2, &m);
    ck_assert_int_eq(m.documents, 1);
    ck_assert_int_eq(m.samples[0], 4);
    qs_batcher_fill_eval(b, 0, &m);
    ck_assert_int_eq(m.tokens, 92);
    free(memory);
    qs_batcher_free(b);
    free_cache(&c);
    free_cache(&v);
}
END_TEST

START_TEST(bad_batch_options_are_refused_in_a_sentence)
{
    qs_token_cache c = random_cache(10, 20);
    qs_batcher *b;
    qs_err e = {0};
    const qs_batch_options bad[] = {{.rows = 0, .micro_batches = 1},
                                    {.rows = 1, .micro_batches = 0},
                                    {.rows = 1, .micro_batches = 1, .val_set_size = 10},
                                    {.rows = 1, .micro_batches = 1, .val_set_size = -0.5},
                                    {.rows = 1, .micro_batches = 1, .packing = true, .max_seq_length = 3},
                                    {.rows = (int64_t)1 << 40, .micro_batches = 1, .eval_rows = -1}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        ck_assert_int_eq(qs_batcher_create(&c, NULL, &bad[i], &b, &e), -QS_EINVAL);
        ck_assert_ptr_null(b);
        ck_assert_uint_gt(strlen(e.text), 20);
    }
    qs_batch_options both = {.rows = 1, .micro_batches = 1, .val_set_size = 2};
    ck_assert_int_eq(qs_batcher_create(&c, &c, &both, &b, &e), -QS_EINVAL);
    free_cache(&c);
}
END_TEST

START_TEST(packing_fills_rows_whole_and_nearly_full)
{
    enum { N = 20000, CAPACITY = 1000 };
    int32_t *lengths = malloc(N * sizeof *lengths);
    int64_t total = 0;
    for (uint64_t i = 0; i < N; i++) {
        lengths[i] = 1 + (int32_t)(qs_random_u32(8, 0, i) % (i % 3 ? 300u : CAPACITY));
        total += lengths[i];
    }
    qs_packing p;
    qs_packing_build(lengths, N, CAPACITY, &p);
    char *seen = calloc(N, 1);
    for (int64_t r = 0; r < p.rows; r++) {
        int64_t filled = 0;
        for (int32_t k = p.start[r]; k < p.start[r + 1]; k++) {
            if (k > p.start[r]) ck_assert_int_gt(p.samples[k], p.samples[k - 1]);
            filled += lengths[p.samples[k]];
            ck_assert_int_eq(seen[p.samples[k]]++, 0);
        }
        ck_assert_int_ge(filled, 1);
        ck_assert_int_le(filled, CAPACITY);
    }
    ck_assert_int_eq(p.start[p.rows], N);
    ck_assert_int_le(p.rows, (total + CAPACITY - 1) / CAPACITY * 101 / 100);
    qs_packing_free(&p);
    free(seen);
    free(lengths);
}
END_TEST

START_TEST(packing_of_one_sample_and_of_full_rows)
{
    qs_packing p;
    qs_packing_build((int32_t[]){64}, 1, 64, &p);
    ck_assert_int_eq(p.rows, 1);
    qs_packing_free(&p);
    qs_packing_build((int32_t[]){1, 127}, 2, 128, &p); /* to the last token */
    ck_assert_int_eq(p.rows, 1);
    qs_packing_free(&p);
    qs_packing_build((int32_t[]){1, 64, 63, 64, 128, 65, 63}, 7, 128, &p);
    ck_assert_int_eq(p.rows, 4); /* 128; 65+63; 64+64; 63+1 */
    qs_packing_free(&p);
}
END_TEST

START_TEST(nothing_is_allocated_once_the_batcher_stands)
{
    qs_token_cache c = random_cache(64, 30);
    qs_batcher *b = make_batcher(
        &c, NULL, (qs_batch_options){.packing = true, .max_seq_length = 64, .rows = 2, .micro_batches = 2});
    void *memory;
    qs_micro_batch m = make_micro_batch(qs_batcher_info(b), &memory);
    uint64_t calls = qs_mem_read().calls;
    qs_step_info s;
    for (int64_t step = 0; step < 20; step++) {
        qs_batcher_step(b, step, &s);
        for (int32_t k = 0; k < s.micro_batches; k++) qs_batcher_fill(b, step, k, &m);
    }
    ck_assert_uint_eq(qs_mem_read().calls, calls);
    free(memory);
    qs_batcher_free(b);
    free_cache(&c);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("batch");
    TCase *t = tcase_create("batch");
    tcase_add_test(t, targets_are_the_next_ids_and_never_cross_documents);
    tcase_add_test(t, every_sample_is_seen_once_an_epoch_packed_or_not);
    tcase_add_test(t, the_last_group_of_an_epoch_is_a_step_as_in_transformers);
    tcase_add_test(t, how_a_step_is_cut_into_micro_batches_does_not_change_its_rows);
    tcase_add_test(t, validation_samples_are_set_aside_and_read_in_file_order);
    tcase_add_test(t, no_row_is_on_both_sides_of_a_validation_split);
    tcase_add_test(t, an_evaluation_file_is_read_whole_and_in_order);
    tcase_add_test(t, bad_batch_options_are_refused_in_a_sentence);
    tcase_add_test(t, packing_fills_rows_whole_and_nearly_full);
    tcase_add_test(t, packing_of_one_sample_and_of_full_rows);
    tcase_add_test(t, nothing_is_allocated_once_the_batcher_stands);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
