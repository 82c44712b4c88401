/* Behaviour of io/file: whole files, atomic replacement, directory trees. */
#include <check.h>
#include <dirent.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/file.h"
#include "src/base/memory.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_err e;

static void setup(void)
{
    dir = test_dir_create();
    e = (qs_err){0};
}
static void teardown(void) { test_dir_remove(dir); }

START_TEST(a_pipe_a_device_and_a_directory_are_refused_at_once)
{
    qs_err why = {0};
    char *pipe_path = test_path(dir, "pipe"), *text = NULL;
    ck_assert_int_eq(mkfifo(pipe_path, 0600), 0);
    const char *const paths[] = {pipe_path, "/dev/zero", dir};
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(qs_file_read(paths[i], (size_t)1 << 40, &text, NULL, &why), -QS_EIO);
        ck_assert_msg(strstr(why.text, paths[i]) && strstr(why.text, "is not a plain file"), "%s", why.text);
    }
    unlink(pipe_path);
    qs_free(pipe_path);
}
END_TEST

START_TEST(a_file_reads_back_with_a_nul_after_it)
{
    char *path = test_path(dir, "x"), *text;
    size_t n;
    ck_assert_int_eq(qs_file_replace(path, "ab\0cd", 5, &e), 0);
    ck_assert_int_eq(qs_file_read(path, 5, &text, &n, &e), 0);
    ck_assert_uint_eq(n, 5);
    ck_assert_int_eq(memcmp(text, "ab\0cd", 6), 0);
    qs_free(text);
    qs_free(path);
}
END_TEST

START_TEST(an_empty_file_reads_as_the_empty_string)
{
    char *path = test_path(dir, "x"), *text;
    ck_assert_int_eq(qs_file_replace(path, NULL, 0, &e), 0);
    ck_assert_int_eq(qs_file_read(path, 0, &text, NULL, &e), 0);
    ck_assert_str_eq(text, "");
    qs_free(text);
    qs_free(path);
}
END_TEST

START_TEST(a_file_without_a_size_is_read_to_its_end)
{
    char *text;
    size_t n;
    ck_assert_int_eq(qs_file_read("/proc/self/smaps", 1 << 24, &text, &n, &e), 0);
    ck_assert_uint_gt(n, 4096);
    ck_assert_uint_eq(strlen(text), n);
    qs_free(text);
}
END_TEST

START_TEST(a_file_over_the_limit_or_missing_is_an_error_that_names_it)
{
    char *path = test_path(dir, "x"), *text = NULL;
    ck_assert_int_eq(qs_file_replace(path, "abcdef", 6, &e), 0);
    ck_assert_int_eq(qs_file_read(path, 5, &text, NULL, &e), -QS_EFORMAT);
    ck_assert(strstr(e.text, path));
    unlink(path);
    ck_assert_int_eq(qs_file_read(path, 5, &text, NULL, &e), -QS_EMISSING);
    ck_assert(strstr(e.text, path));
    ck_assert_int_eq(qs_file_read(dir, 5, &text, NULL, &e), -QS_EIO);
    ck_assert_ptr_null(text);
    qs_free(path);
}
END_TEST

/* How many files there are in dir. */
static int entries(void)
{
    int n = 0;
    DIR *d = opendir(dir);
    for (struct dirent *entry; (entry = readdir(d));) n += entry->d_name[0] != '.';
    closedir(d);
    return n;
}

START_TEST(a_replacement_that_is_given_up_leaves_the_old_file)
{
    char *path = test_path(dir, "x"), *text;
    ck_assert_int_eq(qs_file_replace(path, "old", 3, &e), 0);
    qs_file_writer w;
    ck_assert_int_eq(qs_file_begin(path, &w, &e), 0);
    ck_assert_int_eq(qs_file_append(&w, "new", 3, &e), 0);
    text = test_file_read(path, NULL);
    ck_assert_str_eq(text, "old");
    qs_free(text);
    qs_file_abort(&w);
    qs_file_abort(&w);
    ck_assert_int_eq(entries(), 1); /* the old file alone */
    text = test_file_read(path, NULL);
    ck_assert_str_eq(text, "old");
    qs_free(text);
    qs_free(path);
}
END_TEST

START_TEST(a_replacement_in_parts_is_seen_whole)
{
    char *path = test_path(dir, "x"), *text;
    qs_file_writer w;
    ck_assert_int_eq(qs_file_replace(path, "old", 3, &e), 0);
    ck_assert_int_eq(qs_file_begin(path, &w, &e), 0);
    ck_assert_int_eq(qs_file_append(&w, "ne", 2, &e), 0);
    ck_assert_int_eq(qs_file_append(&w, "w", 1, &e), 0);
    ck_assert_int_eq(qs_file_commit(&w, &e), 0);
    text = test_file_read(path, NULL);
    ck_assert_str_eq(text, "new");
    qs_free(text);
    qs_free(path);
}
END_TEST

START_TEST(two_that_replace_one_path_at_once_both_succeed)
{
    char *path = test_path(dir, "x"), *text;
    qs_file_writer a, b;
    ck_assert_int_eq(qs_file_begin(path, &a, &e), 0);
    ck_assert_int_eq(qs_file_begin(path, &b, &e), 0);
    ck_assert_int_eq(qs_file_append(&a, "of a", 4, &e), 0);
    ck_assert_int_eq(qs_file_append(&b, "b", 1, &e), 0);
    ck_assert_int_eq(qs_file_commit(&b, &e), 0);
    ck_assert_msg(!qs_file_commit(&a, &e), "%s", e.text);
    text = test_file_read(path, NULL);
    ck_assert_str_eq(text, "of a");
    ck_assert_int_eq(entries(), 1);
    qs_free(text);
    qs_free(path);
}
END_TEST

START_TEST(what_a_killed_process_left_of_a_replacement_goes_with_the_next_and_nothing_else)
{
    static const char *const names[] = {"x.abcdef.tmp", "x.tmp", "x.abcdef.tmp.gz", "y.abcdef.tmp"};
    char *path = test_path(dir, "x"), *link = test_path(dir, "x.linked.tmp");
    for (int i = 0; i < 4; i++) {
        char *other = test_path(dir, names[i]);
        test_file_write(other, "part", 4);
        qs_free(other);
    }
    ck_assert_int_eq(symlink("y.abcdef.tmp", link), 0);
    ck_assert_int_eq(qs_file_replace(path, "new", 3, &e), 0);
    ck_assert_int_eq(entries(), 5); /* x.abcdef.tmp is gone, x is there */
    char *gone = test_path(dir, names[0]);
    ck_assert(!qs_file_exists(gone));
    qs_free(gone);
    qs_free(link);
    qs_free(path);
}
END_TEST

START_TEST(replacing_where_no_directory_is_names_the_path)
{
    char *path = test_path(dir, "none/x");
    ck_assert_int_eq(qs_file_replace(path, "a", 1, &e), -QS_EIO);
    ck_assert(strstr(e.text, path));
    qs_free(path);
}
END_TEST

START_TEST(directories_are_created_with_their_parents_and_again)
{
    static const char *const names[] = {"a/b/c", "a/b/c", "a//b/d/", "a"};
    for (size_t i = 0; i < 4; i++) {
        char *path = test_path(dir, names[i]);
        ck_assert_int_eq(qs_dir_create(path, &e), 0);
        struct stat st;
        ck_assert_int_eq(stat(path, &st), 0);
        ck_assert(S_ISDIR(st.st_mode));
        qs_free(path);
    }
    ck_assert_int_eq(qs_dir_create("/", &e), 0);
    ck_assert_int_eq(qs_dir_create("", &e), -QS_EIO);
    ck_assert_int_eq(qs_dir_create("/proc/self/not/there", &e), -QS_EIO);
}
END_TEST

START_TEST(a_file_in_the_way_of_a_directory_is_an_error)
{
    char *path = test_path(dir, "x"), *below = test_path(dir, "x/y");
    test_file_write(path, "a", 1);
    ck_assert_int_eq(qs_dir_create(path, &e), -QS_EIO);
    ck_assert(strstr(e.text, "Not a directory"));
    ck_assert_int_eq(qs_dir_create(below, &e), -QS_EIO);
    qs_free(path);
    qs_free(below);
}
END_TEST

START_TEST(removing_a_tree_does_not_follow_links)
{
    char *kept = test_path(dir, "kept"), *precious = test_path(dir, "kept/precious"),
         *tree = test_path(dir, "tree"), *deep = test_path(dir, "tree/a/b"),
         *file = test_path(dir, "tree/a/f"), *link = test_path(dir, "tree/a/b/link");
    ck_assert_int_eq(qs_dir_create(kept, &e), 0);
    ck_assert_int_eq(qs_dir_create(deep, &e), 0);
    test_file_write(precious, "p", 1);
    test_file_write(file, "f", 1);
    ck_assert_int_eq(symlink(kept, link), 0);
    ck_assert_int_eq(qs_dir_remove(tree, &e), 0);
    ck_assert(!qs_file_exists(tree));
    ck_assert(qs_file_exists(precious));
    ck_assert_int_eq(qs_dir_remove(tree, &e), 0); /* absent */

    ck_assert_int_eq(symlink(kept, tree), 0); /* a link is not a tree */
    ck_assert_int_eq(qs_dir_remove(tree, &e), -QS_EIO);
    ck_assert(qs_file_exists(precious));
    unlink(tree);
    char *names[] = {kept, precious, tree, deep, file, link};
    for (size_t i = 0; i < 6; i++) qs_free(names[i]);
}
END_TEST

START_TEST(a_tree_with_a_pipe_is_not_removed)
{
    char *tree = test_path(dir, "tree"), *pipe = test_path(dir, "tree/pipe");
    ck_assert_int_eq(qs_dir_create(tree, &e), 0);
    ck_assert_int_eq(mkfifo(pipe, 0600), 0);
    ck_assert_int_eq(qs_dir_remove(tree, &e), -QS_EINVAL);
    ck_assert(strstr(e.text, pipe));
    unlink(pipe);
    qs_free(tree);
    qs_free(pipe);
}
END_TEST

START_TEST(free_space_is_known_before_the_directory_exists)
{
    uint64_t here = 0, there = 0;
    char *path = test_path(dir, "not/yet/there");
    ck_assert_int_eq(qs_dir_free_bytes(dir, &here, &e), 0);
    ck_assert_int_eq(qs_dir_free_bytes(path, &there, &e), 0);
    ck_assert_uint_gt(here, 0);
    ck_assert_uint_gt(there, 0);
    ck_assert_int_eq(qs_dir_free_bytes("relative/not/there", &there, &e), 0);
    qs_free(path);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("file");
    TCase *t = tcase_create("file");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_pipe_a_device_and_a_directory_are_refused_at_once);
    tcase_add_test(t, a_file_reads_back_with_a_nul_after_it);
    tcase_add_test(t, an_empty_file_reads_as_the_empty_string);
    tcase_add_test(t, a_file_without_a_size_is_read_to_its_end);
    tcase_add_test(t, a_file_over_the_limit_or_missing_is_an_error_that_names_it);
    tcase_add_test(t, a_replacement_that_is_given_up_leaves_the_old_file);
    tcase_add_test(t, a_replacement_in_parts_is_seen_whole);
    tcase_add_test(t, two_that_replace_one_path_at_once_both_succeed);
    tcase_add_test(t, what_a_killed_process_left_of_a_replacement_goes_with_the_next_and_nothing_else);
    tcase_add_test(t, replacing_where_no_directory_is_names_the_path);
    tcase_add_test(t, directories_are_created_with_their_parents_and_again);
    tcase_add_test(t, a_file_in_the_way_of_a_directory_is_an_error);
    tcase_add_test(t, removing_a_tree_does_not_follow_links);
    tcase_add_test(t, a_tree_with_a_pipe_is_not_removed);
    tcase_add_test(t, free_space_is_known_before_the_directory_exists);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
