/* Behaviour of io/model_dir: what people give as a model is found, or named with what helps. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"
#include "io/model_dir.h"
#include "src/base/log.h"
#include "src/base/memory.h"
#include "tests/support/temp_dir.h"

static char *dir;
static qs_err e;

static void setup(void)
{
    dir = test_dir_create();
    e = (qs_err){0};
    qs_log_set_level(QS_LOG_ERROR);
}
static void teardown(void) { test_dir_remove(dir); }

/* A file below dir, with its folders. */
static void put(const char *name, const char *text)
{
    char *path = test_path(dir, name), *slash = strrchr(path, '/');
    *slash = 0;
    ck_assert_int_eq(qs_dir_create(path, &e), 0);
    *slash = '/';
    test_file_write(path, text, strlen(text));
    qs_free(path);
}

static void leads_to(const char *given, const char *wanted)
{
    char *from = test_path(dir, given), *to = test_path(dir, wanted), *out;
    ck_assert_msg(!qs_model_dir(from, "/none", &out, &e), "%s", e.text);
    ck_assert_str_eq(out, to);
    qs_free(out);
    qs_free(from);
    qs_free(to);
}

static void refused(const char *given, int code, const char *word, const char *other)
{
    char *out;
    ck_assert_int_eq(qs_model_dir(given, dir, &out, &e), -code);
    ck_assert_ptr_null(out);
    ck_assert_msg(strstr(e.text, given) && strstr(e.text, word) && strstr(e.text, other), "%s", e.text);
}

static void refused_here(const char *given, int code, const char *word, const char *other)
{
    char *path = test_path(dir, given);
    refused(path, code, word, other);
    qs_free(path);
}

START_TEST(a_model_directory_is_itself)
{
    put("m/config.json", "{}");
    put("m/adapter_config.json", "{}"); /* some models have one beside */
    leads_to("m", "m");
}
END_TEST

START_TEST(a_folder_of_the_hub_cache_leads_to_its_snapshot)
{
    put("models--a--b/snapshots/111/config.json", "{}");
    leads_to("models--a--b", "models--a--b/snapshots/111"); /* the only one */
    put("models--a--b/snapshots/222/config.json", "{}");
    refused_here("models--a--b", QS_EMISSING, "Hugging Face cache", "snapshots");
    put("models--a--b/refs/main", "222\n");
    leads_to("models--a--b", "models--a--b/snapshots/222");
    put("models--a--b/refs/main", "../..");
    refused_here("models--a--b", QS_EMISSING, "Hugging Face cache", "snapshots");
}
END_TEST

START_TEST(a_name_on_the_hub_is_found_in_the_cache_or_named_with_the_command)
{
    char *out, *wanted = test_path(dir, "models--a--b.c/snapshots/9");
    refused("a/b.c", QS_EMISSING, "hf download a/b.c", "--model DIR");
    put("models--a--b.c/snapshots/9/config.json", "{}");
    ck_assert_msg(!qs_model_dir("a/b.c", dir, &out, &e), "%s", e.text);
    ck_assert_str_eq(out, wanted);
    qs_free(out);
    qs_free(wanted);
    refused("https://huggingface.co/a/b", QS_EMISSING, "web address", "hf download");
    refused("/no/such/place", QS_EMISSING, "no such model directory", "");
    refused("./no/such", QS_EMISSING, "no such model directory", "");
}
END_TEST

START_TEST(what_is_no_model_is_named)
{
    put("x/m.gguf", "GGUF\3");
    put("adapter/adapter_config.json", "{}");
    put("meta/params.json", "{}");
    put("run/checkpoint-5/adapter_config.json", "{}");
    put("above/below/config.json", "{}");
    put("empty/readme.txt", "");
    put("w/model.safetensors", "x");
    refused_here("x/m.gguf", QS_EUNSUP, "GGUF", "16-bit");
    refused_here("x", QS_EUNSUP, "GGUF", "m.gguf");
    refused_here("adapter", QS_EUNSUP, "adapter", "--init_adapter");
    refused_here("meta", QS_EUNSUP, "Meta", "convert");
    refused_here("run", QS_EMISSING, "training run", "--init_adapter");
    refused_here("above", QS_EMISSING, "above/below", "config.json");
    refused_here("empty", QS_EMISSING, "no config.json", "expected");
    refused_here("w/model.safetensors", QS_EUNSUP, "is a file", "directory");
}
END_TEST

int main(void)
{
    Suite *s = suite_create("model_dir");
    TCase *t = tcase_create("model_dir");
    tcase_add_checked_fixture(t, setup, teardown);
    tcase_add_test(t, a_model_directory_is_itself);
    tcase_add_test(t, a_folder_of_the_hub_cache_leads_to_its_snapshot);
    tcase_add_test(t, a_name_on_the_hub_is_found_in_the_cache_or_named_with_the_command);
    tcase_add_test(t, what_is_no_model_is_named);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_run_all(r, CK_NORMAL);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    return failed != 0;
}
