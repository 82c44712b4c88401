/* Behaviour of src/data/token_cache, prepare and audit: policies, masks, reuse, damage, refusals. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <dirent.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "src/base/random.h"
#include "src/data/token_cache.h"
#include "tests/support/kill_point.h"
#include "tests/support/shared_data.h"
#include "tests/support/temp_dir.h"

static char *dir, *cache_dir, *model_dir;

static void write_at(const char *folder, const char *name, const char *text)
{
    char *path = test_path(folder, name);
    test_file_write(path, text, strlen(text));
    qs_free(path);
}

/* A tokenizer of single letters: a..z are 0..25, space 26, <s> 27, </s> 28 (also the padding token), newline
 * 29; further ones as given. */
static void write_tokenizer(const char *more)
{
    char vocab[512] = "";
    for (int c = 0; c < 26; c++) sprintf(vocab + strlen(vocab), "\"%c\":%d,", 'a' + c, c);
    char *json = qs_printf("{\"added_tokens\":[{\"id\":27,\"content\":\"<s>\",\"special\":true},{\"id\":28,"
                           "\"content\":\"</s>\",\"special\":true}],"
                           "\"model\":{\"type\":\"BPE\",\"vocab\":{%s\" \":26,\"\\n\":29%s},\"merges\":[]}}",
                           vocab, more);
    write_at(model_dir, "tokenizer.json", json);
    qs_free(json);
}

static void make_dirs(void)
{
    dir = test_dir_create();
    cache_dir = test_path(dir, "cache");
    model_dir = test_path(dir, "model");
    qs_err e;
    ck_assert_int_eq(qs_dir_create(model_dir, &e), 0);
    write_tokenizer("");
    write_at(model_dir, "tokenizer_config.json",
             "{\"bos_token\":\"<s>\",\"eos_token\":\"</s>\",\"pad_token\":\"</s>\",\"add_bos_token\":true}");
}

static void drop_dirs(void)
{
    qs_free(cache_dir);
    qs_free(model_dir);
    test_dir_remove(dir);
}

static char *data_path;

/* Options for a data file of this text; the path lives until the next call. */
static qs_data_options options_for(const char *name, const char *text)
{
    static const char *files[1];
    qs_free(data_path);
    data_path = test_path(dir, name);
    test_file_write(data_path, text, strlen(text));
    files[0] = data_path;
    return (qs_data_options){.data = files,
                             .data_count = 1,
                             .model_dir = model_dir,
                             .cache_dir = cache_dir,
                             .max_seq_length = 64,
                             .vocab_size = 30};
}

static qs_token_cache *open_with(qs_data_options o)
{
    qs_token_cache *c;
    qs_err e = {0};
    ck_assert_msg(qs_token_cache_open(&o, NULL, NULL, NULL, &c, &e) == 0, "%s", e.text);
    return c;
}

/* All samples as text: letters, capitals where trained; < BOS, > EOS, ) a trained EOS, _ space; samples are
 * separated by |. */
static void expect(qs_data_options o, const char *want)
{
    qs_token_cache *c = open_with(o);
    char got[1024] = "";
    size_t n = 0;
    int64_t targets = 0;
    for (int64_t s = 0; s < c->sample_count; s++) {
        if (s) got[n++] = '|';
        int64_t trained = 0;
        for (int32_t k = 0; k < c->samples[s].tokens && n < 1000; k++) {
            uint32_t token = c->tokens[c->samples[s].first + (uint64_t)k], id = token & QS_TOKEN_ID_MASK;
            bool t = token & QS_TOKEN_TRAINED;
            trained += t;
            got[n++] = id < 26    ? (char)((t ? 'A' : 'a') + (int)id)
                       : id == 26 ? '_'
                       : id == 27 ? '<'
                       : id == 28 ? (t ? ')' : '>')
                                  : '?';
        }
        ck_assert_int_eq(trained, c->samples[s].targets);
        targets += trained;
    }
    got[n] = 0;
    ck_assert_str_eq(got, want);
    ck_assert_int_eq(c->target_count, targets);
    qs_token_cache_close(c);
}

static void refuses(qs_data_options o, int code, const char *part, const char *other)
{
    qs_token_cache *c;
    qs_err e = {0};
    int rc = qs_token_cache_open(&o, NULL, NULL, NULL, &c, &e);
    ck_assert_msg(rc == -code, "%d: %s", rc, e.text);
    ck_assert_msg(strstr(e.text, part) && strstr(e.text, other), "%s", e.text);
    ck_assert_ptr_null(c);
}

START_TEST(completions_are_trained_with_eos_even_if_it_is_the_padding_token)
{
    qs_data_options o = options_for(
        "a.jsonl", "{\"prompt\":\"ab\",\"completion\":\"cd\"}\n{\"prompt\":\"e\",\"completion\":\"\"}");
    expect(o, "<abCD)|<e)");
    o.train_on_inputs = true;
    expect(o, "<ABCD)|<E)");
}
END_TEST

START_TEST(text_is_trained_whole_and_may_hold_special_tokens)
{
    qs_data_options o =
        options_for("a.jsonl", "{\"text\":\"ab\"}\n{\"text\":\"a</s>b</s>\"}\n{\"text\":\"\"}");
    expect(o, "<AB)|<A)B)"); /* an EOS that is there already is not doubled; empty rows are left out */
    refuses(options_for("b.jsonl", "{\"text\":\"x\"}\n{\"text\":\"<s>ab\"}"), QS_EFORMAT, "row 2", "two BOS");
}
END_TEST

START_TEST(tokens_made_elsewhere_keep_their_labels)
{
    qs_data_options o = options_for(
        "a.jsonl", "{\"input_ids\":[27,0,1,2],\"labels\":[-100,-100,1,2]}\n{\"input_ids\":[3,4,28]}");
    expect(o, "<aBC|dE)");
    o.model_dir = NULL;
    expect(o, "<aBC|dE)");
    o.model_dir = dir; /* no tokenizer there */
    expect(o, "<aBC|dE)");
    refuses(options_for("b.jsonl", "{\"input_ids\":[27,27,1]}"), QS_EFORMAT, "row 1", "two BOS");
    refuses(options_for("c.jsonl", "{\"input_ids\":[1,2]}\n{\"input_ids\":[1,30]}"), QS_EFORMAT, "row 2",
            "vocabulary has 30");
    refuses(options_for("d.jsonl", "{\"input_ids\":[1,2],\"labels\":[1,-100]}"), QS_EFORMAT, "-100",
            "token to train on");
    /* One row without targets among others is left out and counted. */
    o = options_for("e.jsonl", "{\"input_ids\":[1,2],\"labels\":[-100,-100]}\n{\"input_ids\":[1,2]}");
    expect(o, "bC");
}
END_TEST

#define LONG_ROW "{\"prompt\":\"ab\",\"completion\":\"cdefgh\"}\n{\"prompt\":\"a\",\"completion\":\"b\"}\n"

START_TEST(overlong_rows_follow_the_policy)
{
    qs_data_options o = options_for("a.jsonl", LONG_ROW);
    o.max_seq_length = 5;
    refuses(o, QS_EFORMAT, "row 1", "10 tokens, more than max_seq_length 5");
    o.overlong = QS_OVERLONG_TRUNCATE;
    expect(o, "<abCD|<aB)");
    o.overlong = QS_OVERLONG_DROP;
    expect(o, "<aB)");
    o.overlong = QS_OVERLONG_SPLIT;
    expect(o, "<abCD|<EFGH|<)|<aB)");
    o.max_seq_length = 3;
    expect(o, "<CD|<EF|<GH|<)|<aB|<)"); /* a piece of prompt alone is left out */
    o.overlong = QS_OVERLONG_TRUNCATE;
    expect(o, "<aB");
}
END_TEST

START_TEST(pieces_without_bos_overlap_by_one_token_so_that_no_target_is_lost)
{
    write_at(model_dir, "tokenizer_config.json", "{\"eos_token\":\"</s>\"}");
    qs_data_options o = options_for("a.jsonl", "{\"text\":\"abcdefg\"}");
    o.max_seq_length = 4;
    o.overlong = QS_OVERLONG_SPLIT;
    expect(o, "aBCD|dEFG|g)");
}
END_TEST

START_TEST(nothing_left_to_train_on_is_refused)
{
    qs_data_options o = options_for("a.jsonl", "{\"prompt\":\"abcdef\",\"completion\":\"g\"}");
    o.max_seq_length = 4;
    o.overlong = QS_OVERLONG_TRUNCATE;
    refuses(o, QS_EFORMAT, "not one of its 1 samples", "max_seq_length 4");
    o.overlong = QS_OVERLONG_DROP;
    refuses(o, QS_EFORMAT, "no sample is left", "1 dropped");
    refuses(options_for("b.jsonl", "{\"text\":\"\"}"), QS_EFORMAT, "1 empty", "b.jsonl");
    refuses(options_for("c.json", "[]"), QS_EFORMAT, "no rows", "c.json");
    o = options_for("d.jsonl", "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"}]}");
    o.chat_template = "none";
    refuses(o, QS_EFORMAT, "token to train on", "d.jsonl");
}
END_TEST

START_TEST(wrong_options_and_rows_are_refused_in_a_sentence)
{
    qs_data_options o = options_for(
        "a.jsonl",
        "{\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":\"assistant\",\"content\":\"b\"}]}");
    refuses(o, QS_EMISSING, "no chat template", "--chat_template");
    o.chat_template = "nope";
    refuses(o, QS_EINVAL, "nope", "chatml");
    o.chat_template = "none";
    expect(o, "<aB)");
    o.max_seq_length = 1;
    refuses(o, QS_EINVAL, "max_seq_length", "found 1");
    o.max_seq_length = 64;
    o.data_count = 0;
    refuses(o, QS_EINVAL, "data file", "");
    o = options_for("b.jsonl", "{\"text\":\"a!b\"}");
    refuses(o, QS_EFORMAT, "b.jsonl: row 1 (line 1)", "no token");
    o.model_dir = NULL;
    refuses(o, QS_EMISSING, "b.jsonl", "tokenizer");
    o = options_for("b.jsonl", "{\"text\":\"ab\"}");
    o.cache_dir = "/proc/nowhere";
    refuses(o, QS_EIO, "/proc/nowhere", "");
    write_at(model_dir, "tokenizer_config.json", "{}");
    refuses(options_for("c.jsonl", "{\"text\":\"ab\"}"), QS_EMISSING, "end-of-sequence", "eos_token");
}
END_TEST

START_TEST(several_files_make_one_cache_and_samples_know_theirs)
{
    qs_data_options o = options_for("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"b\"}");
    write_at(dir, "b.json", "[{\"text\":\"c\"}]");
    char *second = test_path(dir, "b.json");
    const char *files[] = {data_path, second};
    o.data = files;
    o.data_count = 2;
    qs_token_cache *c = open_with(o);
    ck_assert_int_eq(c->sample_count, 3);
    ck_assert_uint_eq(c->samples[1].row, 2);
    ck_assert_uint_eq(c->samples[2].row, 1);
    ck_assert_uint_eq(c->samples[2].file, 1);
    ck_assert_str_eq(c->files[1], second);
    qs_token_cache_close(c);
    write_at(dir, "b.json", "[{\"input_ids\":[1,2]}]"); /* files may be of different kinds */
    expect(o, "<A)|<B)|bC");
    qs_free(second);
}
END_TEST

START_TEST(weights_say_how_often_rows_come_in_an_epoch)
{
    qs_data_options o = options_for("a.jsonl", "{\"text\":\"a\"}\n{\"text\":\"bcd\"}");
    write_at(dir, "b.jsonl", "{\"text\":\"c\"}");
    char *second = test_path(dir, "b.jsonl"), *twice = qs_printf("%s:2", data_path),
         *once = qs_printf("%s:1", second);
    const char *files[] = {twice, once}, *some[1];
    o.data = files;
    o.data_count = 2;
    expect(o, "<A)|<A)|<BCD)|<BCD)|<C)");
    qs_token_cache *c = open_with(o);
    ck_assert_msg(strstr(c->audit, "80.0 % of an epoch: a.jsonl") && strstr(c->audit, "weight 2: 4 samples"),
                  "%s", c->audit);
    qs_token_cache_close(c);
    /* Of a half about half of the rows, each whole, and always the same ones. */
    char *text = qs_malloc(40 * 20 + 1);
    for (int i = 0; i < 40; i++) memcpy(text + 20 * i, "{\"text\":\"abcdefg\"}\n ", 20);
    text[40 * 20] = 0;
    o = options_for("c.jsonl", text);
    char *half = qs_printf("%s:0.5", data_path);
    some[0] = half;
    o.data = some;
    o.max_seq_length = 5;
    o.overlong = QS_OVERLONG_SPLIT;
    c = open_with(o);
    ck_assert_int_gt(c->sample_count, 20);
    ck_assert_int_lt(c->sample_count, 60);
    ck_assert_int_eq(c->sample_count % 2, 0);
    qs_token_cache_close(c);
    char *none = qs_printf("%s:0", data_path);
    some[0] = none;
    refuses(o, QS_EINVAL, "weight", "c.jsonl:0");
    qs_free(none);
    qs_free(half);
    qs_free(text);
    qs_free(second);
    qs_free(twice);
    qs_free(once);
}
END_TEST

START_TEST(bad_rows_are_listed_or_left_out_as_asked)
{
    qs_data_options o = options_for("a.jsonl", "{\"text\":\"a\"}\n{\"text\":5}\n{\"text\":\"b\"");
    refuses(o, QS_EFORMAT, "2 of 3 rows cannot be used", "row 2 (line 2)");
    o.drop_bad_rows = true;
    expect(o, "<A)");
    qs_token_cache *c = open_with(o);
    ck_assert_msg(strstr(c->audit, "2 bad rows") && strstr(c->audit, "row 3 (line 3)") &&
                      strstr(c->audit, "warning: 2 of 3 rows"),
                  "%s", c->audit);
    ck_assert_msg(strstr(c->audit_json, "\"bad_rows\":2"), "%s", c->audit_json);
    qs_token_cache_close(c);
    o = options_for("a.jsonl", "{\"text\":5}");
    o.drop_bad_rows = true;
    refuses(o, QS_EFORMAT, "no sample is left", "\"text\" must be a string");
    o = options_for("a.jsonl", LONG_ROW);
    o.max_seq_length = 4;
    o.overlong = QS_OVERLONG_ERROR; /* is no matter of one row */
    o.drop_bad_rows = true;
    refuses(o, QS_EFORMAT, "max_seq_length 4", "row 1");
}
END_TEST

#define MARK_LETTERS ",\"<\":30,\"/\":31,\">\":32,\"|\":33,\"_\":34"

START_TEST(the_audit_counts_what_is_odd)
{
    write_tokenizer(MARK_LETTERS);
    write_at(model_dir, "config.json", "{\"max_position_embeddings\":8}");
    qs_data_options o = options_for(
        "a.jsonl",
        "{\"instruction\":\"a\",\"output\":\"b</s>\",\"id\":1}\n{\"instruction\":\"a\",\"output\":\" \"}\n"
        "{\"instruction\":\"abcdefgh\",\"output\":\"<s>\"}");
    o.chat_template = "none";
    o.vocab_size = 0;
    qs_token_cache *c = open_with(o);
    ck_assert_ptr_nonnull(strstr(c->audit, "end token typed behind answers: 1 rows"));
    ck_assert_ptr_nonnull(strstr(c->audit, "warning: 1 rows (33.3 %) have an empty answer"));
    ck_assert_ptr_nonnull(strstr(c->audit, "special tokens typed as text: 1 rows"));
    ck_assert_ptr_nonnull(strstr(c->audit, "columns not used: id"));
    ck_assert_ptr_nonnull(strstr(
        c->audit, "warning: 1 samples are longer than the model's 8 positions (max_position_embeddings)"));
    qs_token_cache_close(c);
    o = options_for("a.jsonl", "{\"instruction\":\"a\",\"output\":\"b</s></s> \"}");
    o.chat_template = "none";
    expect(o, "<aB)");
    o.chat_template = "chatml";
    o.vocab_size = 0;
    c = open_with(o);
    ck_assert_ptr_nonnull(
        strstr(c->audit, "warning: marks of the template that are no token of this tokenizer, and so are "
                         "learnt as letters: <|im_start|> <|im_end|>"));
    qs_token_cache_close(c);
}
END_TEST

START_TEST(marks_typed_as_text_are_shown_with_a_backslash)
{
    write_tokenizer(MARK_LETTERS);
    qs_data_options o = options_for("a.jsonl", "{\"instruction\":\"</s>a\",\"output\":\"b\"}");
    o.chat_template = "none";
    o.vocab_size = 0;
    qs_token_cache *c = open_with(o);
    ck_assert_msg(strstr(c->audit, "| <s>\\</s>a\u00abb</s>\u00bb"), "%s", c->audit);
    qs_token_cache_close(c);
    o = options_for("a.jsonl", "{\"text\":\"</s>a\"}");
    o.vocab_size = 0;
    c = open_with(o);
    ck_assert_msg(strstr(c->audit, "| <s>\u00ab</s>a</s>\u00bb") && !strstr(c->audit, "\\"), "%s", c->audit);
    qs_token_cache_close(c);
}
END_TEST

START_TEST(an_end_token_that_is_no_token_is_refused_by_name)
{
    write_at(model_dir, "tokenizer_config.json",
             "{\"bos_token\":\"<s>\",\"eos_token\":{\"content\":\"<|fresh|>\"}}");
    write_at(model_dir, "config.json", "{\"eos_token_id\":28}");
    refuses(options_for("a.jsonl", "{\"text\":\"a\"}"), QS_EFORMAT, "eos_token \"<|fresh|>\"", "no token");
}
END_TEST

START_TEST(another_column_can_be_the_text)
{
    qs_data_options o = options_for("a.jsonl", "{\"instruction\":\"a\",\"output\":\"b\",\"body\":\"cd\"}");
    o.text_column = "body";
    expect(o, "<CD)");
}
END_TEST

static int64_t modified(const char *path)
{
    struct stat st;
    ck_assert_int_eq(stat(path, &st), 0);
    return (int64_t)st.st_ino;
}

START_TEST(a_cache_is_reused_until_something_that_decides_it_changes)
{
    qs_data_options o = options_for("a.jsonl", "{\"text\":\"ab\"}");
    qs_token_cache *c = open_with(o);
    uint64_t key[2] = {c->key[0], c->key[1]};
    char *path = qs_strdup(c->path);
    int64_t first = modified(path);
    qs_token_cache_close(c);
    test_file_write(data_path, "{\"text\":\"ab\"}", 13); /* the same content, written again */
    c = open_with(o);
    ck_assert_int_eq(modified(path), first);
    ck_assert_mem_eq(c->key, key, sizeof key);
    qs_token_cache_close(c);

    qs_data_options others[4] = {o, o, o, o};
    others[0].max_seq_length = 63;
    others[1].overlong = QS_OVERLONG_DROP;
    others[2].train_on_inputs = true;
    others[3].chat_template = "none";
    for (int i = 0; i < 6; i++) {
        if (i == 4) write_at(model_dir, "special_tokens_map.json", "{}");
        if (i == 5) test_file_write(data_path, "{\"text\":\"ac\"}", 13);
        c = open_with(i < 4 ? others[i] : o);
        ck_assert_mem_ne(c->key, key, sizeof key);
        ck_assert_str_ne(c->path, path);
        qs_token_cache_close(c);
    }
    qs_free(path);
}
END_TEST

START_TEST(a_damaged_cache_is_made_again)
{
    qs_log_set_level(QS_LOG_ERROR); /* each damage is mentioned */
    qs_data_options o = options_for("a.jsonl", LONG_ROW);
    qs_token_cache *c = open_with(o);
    size_t bytes;
    char *path = qs_strdup(c->path), *good = test_file_read(path, &bytes);
    qs_token_cache_close(c);
    for (uint64_t i = 0; i < 60; i++) {
        char *bad = malloc(bytes);
        memcpy(bad, good, bytes);
        size_t n = i % 3 ? bytes : qs_random_u32(i, 0, 0) % bytes,
               at = i % 2 ? qs_random_u32(i, 1, 0) % 128 : 4096 + qs_random_u32(i, 1, 0) % (bytes - 4096);
        bad[at] ^= (char)(1 << i % 8);
        test_file_write(path, bad, n);
        free(bad);
        expect(o, "<abCDEFGH)|<aB)");
    }
    size_t again_bytes;
    char *again = test_file_read(path, &again_bytes);
    ck_assert_uint_eq(again_bytes, bytes);
    ck_assert_mem_eq(again, good, bytes); /* the same data give the same file */
    qs_free(again);
    qs_free(good);
    qs_free(path);
}
END_TEST

START_TEST(a_cache_cut_short_while_it_is_mapped_is_an_error_with_its_cause)
{
    qs_token_cache *c = open_with(options_for("a.jsonl", LONG_ROW));
    qs_err e = {0};
    ck_assert_int_eq(qs_token_cache_check(c, &e), 0);
    ck_assert_int_eq(truncate(c->path, 100), 0);
    ck_assert_int_eq(qs_token_cache_check(c, &e), -QS_EIO);
    ck_assert_ptr_nonnull(strstr(e.text, c->path));
    ck_assert_ptr_nonnull(strstr(e.text, "found 100: the token cache was cut short"));
    qs_token_cache_close(c);
    expect(options_for("a.jsonl", LONG_ROW), "<abCDEFGH)|<aB)");
}
END_TEST

START_TEST(a_failed_build_leaves_no_files_behind)
{
    refuses(options_for("a.jsonl", "{\"text\":\"ab\"}\n{\"text\":\"!\"}"), QS_EFORMAT, "row 2", "");
    DIR *d = opendir(cache_dir);
    int files = 0;
    for (struct dirent *entry; (entry = readdir(d));) files += entry->d_name[0] != '.';
    closedir(d);
    ck_assert_int_eq(files, 0);
}
END_TEST

static int stop_at_once(void *user, uint64_t done, uint64_t of)
{
    ck_assert_uint_le(done, of);
    ++*(int *)user;
    return 1;
}

START_TEST(tokenising_can_be_watched_and_stopped)
{
    qs_data_options o = options_for("a.jsonl", "{\"text\":\"ab\"}");
    qs_token_cache *c;
    qs_err e = {0};
    int calls = 0;
    ck_assert_int_eq(qs_token_cache_open(&o, NULL, stop_at_once, &calls, &c, &e), -QS_EINTERRUPT);
    ck_assert_int_eq(calls, 1);
}
END_TEST

static int note_that_it_is_made(void *made, uint64_t done, uint64_t of)
{
    *(bool *)made = true;
    usleep(100000); /* long enough for the others to come */
    return 0;
}

START_TEST(of_several_processes_one_tokenises_and_the_others_wait_for_it)
{
    enum { PROCESSES = 6 };
    qs_data_options o = options_for("d.jsonl", "{\"text\":\"abc\"}\n{\"text\":\"de\"}\n");
    pid_t child[PROCESSES];
    int makers = 0;
    for (int i = 0; i < PROCESSES; i++) {
        child[i] = fork();
        if (child[i]) continue;
        qs_log_set_level(QS_LOG_ERROR);
        bool made = false;
        qs_token_cache *c;
        qs_err e = {0};
        if (qs_token_cache_open(&o, NULL, note_that_it_is_made, &made, &c, &e)) _exit(2);
        _exit(c->sample_count == 2 ? made : 3);
    }
    for (int i = 0; i < PROCESSES; i++) {
        int status = test_child_exit(child[i]);
        ck_assert_int_le(status, 1);
        makers += status;
    }
    ck_assert_int_eq(makers, 1);
    expect(o, "<ABC)|<DE)");
}
END_TEST

START_TEST(the_audit_counts_and_shows_the_mask_each_time)
{
    qs_data_options o =
        options_for("a.jsonl", LONG_ROW "{\"prompt\":\"b\",\"completion\":\"c\\u001b[2Jd\\ne\"}");
    write_at(
        model_dir, "tokenizer.json",
        "{\"added_tokens\":[{\"id\":3,\"content\":\"<s>\",\"special\":true},{\"id\":4,\"content\":\"</s>\","
        "\"special\":true}],\"model\":{\"vocab\":{\"<unk>\":0,\"a\":1,\"b\":2,\"c\":5,\"d\":6,\"e\":7,\"f\":"
        "8,"
        "\"g\":9,\"h\":10,\"\\u001b\":11,\"[\":12,\"2\":13,\"J\":14,\"\\n\":15},\"merges\":[]}}");
    o.max_seq_length = 8;
    o.overlong = QS_OVERLONG_TRUNCATE;
    for (int i = 0; i < 2; i++) {
        char text[4096] = "";
        FILE *f = fmemopen(text, sizeof text, "w");
        qs_token_cache *c;
        qs_err e = {0};
        ck_assert_msg(qs_token_cache_open(&o, f, NULL, NULL, &c, &e) == 0, "%s", e.text);
        fclose(f);
        ck_assert_msg(strstr(text, "3 rows, 3 samples, 20 tokens, 13 trained (65.0 %)"), "%s", text);
        ck_assert_msg(strstr(text, "longer than 8: 2 rows, truncated (66.7 %"), "%s", text);
        ck_assert_msg(strstr(text, "end of answer trained: 1 of 3"), "%s", text);
        ck_assert_msg(strstr(text, "<s>ab\u00abcdefg\u00bb"), "%s", text);
        ck_assert_ptr_null(strchr(text, 27)); /* nothing in the data can steer the terminal */
        ck_assert_str_eq(text, c->audit);
        qs_token_cache_close(c);
    }
}
END_TEST

START_TEST(a_megabyte_of_stories_loses_no_token_when_split)
{
    char *model = test_shared("models/tinystories-656k"),
         *data = test_shared("datasets/tinystories_1MiB.txt");
    if (model && data) {
        const char *files[] = {data};
        qs_data_options o = {.data = files,
                             .data_count = 1,
                             .model_dir = model,
                             .cache_dir = cache_dir,
                             .max_seq_length = 1 << 20,
                             .vocab_size = 2048};
        qs_token_cache *whole = open_with(o);
        o.max_seq_length = 128;
        o.overlong = QS_OVERLONG_SPLIT;
        qs_token_cache *cut = open_with(o);
        ck_assert_int_gt(whole->sample_count, 1000);
        ck_assert_int_eq(cut->target_count, whole->target_count);
        ck_assert_int_eq(cut->token_count - cut->sample_count, whole->token_count - whole->sample_count);
        ck_assert_int_eq(cut->longest, 128);
        ck_assert_int_eq(whole->target_count, whole->token_count - whole->sample_count); /* all but BOS */
        qs_token_cache_close(whole);
        qs_token_cache_close(cut);
    }
    qs_free(model);
    qs_free(data);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("token_cache");
    TCase *t = tcase_create("token_cache");
    tcase_add_checked_fixture(t, make_dirs, drop_dirs);
    tcase_add_test(t, completions_are_trained_with_eos_even_if_it_is_the_padding_token);
    tcase_add_test(t, text_is_trained_whole_and_may_hold_special_tokens);
    tcase_add_test(t, tokens_made_elsewhere_keep_their_labels);
    tcase_add_test(t, overlong_rows_follow_the_policy);
    tcase_add_test(t, pieces_without_bos_overlap_by_one_token_so_that_no_target_is_lost);
    tcase_add_test(t, nothing_left_to_train_on_is_refused);
    tcase_add_test(t, wrong_options_and_rows_are_refused_in_a_sentence);
    tcase_add_test(t, several_files_make_one_cache_and_samples_know_theirs);
    tcase_add_test(t, weights_say_how_often_rows_come_in_an_epoch);
    tcase_add_test(t, bad_rows_are_listed_or_left_out_as_asked);
    tcase_add_test(t, the_audit_counts_what_is_odd);
    tcase_add_test(t, marks_typed_as_text_are_shown_with_a_backslash);
    tcase_add_test(t, an_end_token_that_is_no_token_is_refused_by_name);
    tcase_add_test(t, another_column_can_be_the_text);
    tcase_add_test(t, a_cache_is_reused_until_something_that_decides_it_changes);
    tcase_add_test(t, a_damaged_cache_is_made_again);
    tcase_add_test(t, a_cache_cut_short_while_it_is_mapped_is_an_error_with_its_cause);
    tcase_add_test(t, a_failed_build_leaves_no_files_behind);
    tcase_add_test(t, tokenising_can_be_watched_and_stopped);
    tcase_add_test(t, of_several_processes_one_tokenises_and_the_others_wait_for_it);
    tcase_add_test(t, the_audit_counts_and_shows_the_mask_each_time);
    tcase_add_test(t, a_megabyte_of_stories_loses_no_token_when_split);
    suite_add_tcase(suite, t);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
