#include "tests/support/train_run.h"

#include <check.h>
#include <jansson.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/file.h"
#include "io/safetensors.h"
#include "src/base/memory.h"
#include "src/train/trainer.h"

void test_words_add(test_words *w, const char *format, ...)
{
    char text[4096];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    ck_assert_int_lt(w->count, (int)(sizeof w->word / sizeof *w->word));
    w->word[w->count++] = qs_strdup(text);
}

void test_words_free(test_words *w)
{
    for (int i = 0; i < w->count; i++) qs_free(w->word[i]);
    *w = (test_words){0};
}

static void add_value(test_words *w, const char *key, const json_t *value)
{
    char text[1024] = "";
    if (json_is_array(value)) {
        size_t i;
        json_t *item;
        json_array_foreach(value, i, item)
        {
            size_t used = strlen(text);
            if (json_is_integer(item))
                snprintf(text + used, sizeof text - used, "%s%lld", i ? "," : "",
                         (long long)json_integer_value(item));
            else
                snprintf(text + used, sizeof text - used, "%s%s", i ? "," : "", json_string_value(item));
        }
    } else if (json_is_string(value))
        snprintf(text, sizeof text, "%s", json_string_value(value));
    else if (json_is_boolean(value))
        snprintf(text, sizeof text, "%s", json_is_true(value) ? "true" : "false");
    else if (json_is_integer(value))
        snprintf(text, sizeof text, "%lld", (long long)json_integer_value(value));
    else
        snprintf(text, sizeof text, "%.17g", json_real_value(value));
    test_words_add(w, "--%s=%s", key, text);
}

void test_words_golden(test_words *w, const char *case_dir)
{
    char path[512];
    snprintf(path, sizeof path, "%s/train.json", case_dir);
    json_error_t why;
    json_t *root = json_load_file(path, 0, &why);
    ck_assert_msg(root != NULL, "%s: %s", path, why.text);
    const char *key;
    json_t *value;
    json_object_foreach(json_object_get(root, "options"), key, value) add_value(w, key, value);
    test_words_add(w, "--model=%s/model", case_dir);
    test_words_add(w, "--data=%s/data.jsonl", case_dir);
    test_words_add(w, "--init_adapter=%s/init_adapter", case_dir);
    json_decref(root);
}

int test_train(const test_words *w, qs_err *e)
{
    qs_options o = {0};
    int rc = qs_options_parse(&o, w->count, (char **)(uintptr_t)w->word, NULL, 0, e);
    if (!rc) rc = qs_options_check_train(&o, e);
    if (!rc) rc = qs_train(&o, e);
    qs_options_free(&o);
    return rc;
}

int test_read_metrics(const char *out_dir, test_row *rows, int capacity)
{
    char path[512], line[4096];
    snprintf(path, sizeof path, "%s/metrics.jsonl", out_dir);
    FILE *f = fopen(path, "r");
    ck_assert_msg(f != NULL, "%s is missing", path);
    int n = 0;
    while (fgets(line, sizeof line, f)) {
        json_error_t why;
        json_t *row = json_loads(line, 0, &why);
        ck_assert_msg(row != NULL, "%s: %s", path, why.text);
        ck_assert_int_lt(n, capacity);
        json_t *eval = json_object_get(row, "eval_loss");
        rows[n++] = (test_row){json_integer_value(json_object_get(row, "step")),
                               json_number_value(eval ? eval : json_object_get(row, "loss")),
                               json_number_value(json_object_get(row, "learning_rate")),
                               json_number_value(json_object_get(row, "grad_norm")), eval != NULL};
        json_decref(row);
    }
    fclose(f);
    return n;
}

static const qs_source_tensor *find(const qs_safetensors *s, const char *name)
{
    for (int i = 0; i < s->count; i++)
        if (!strcmp(s->tensors[i].name, name)) return &s->tensors[i];
    return NULL;
}

double test_adapter_difference(const char *path, const char *other)
{
    qs_err e = {0};
    qs_safetensors a, b;
    ck_assert_msg(!qs_safetensors_open(path, &a, &e), "%s", e.text);
    ck_assert_msg(!qs_safetensors_open(other, &b, &e), "%s", e.text);
    ck_assert_int_eq(a.count, b.count);
    double most = 0;
    for (int i = 0; i < a.count; i++) {
        const qs_source_tensor *x = &a.tensors[i], *y = find(&b, x->name);
        ck_assert_msg(y && y->bytes == x->bytes, "%s: %s differs in shape or is missing", other, x->name);
        int64_t n = (int64_t)(x->bytes / 4);
        float *u = qs_malloc(x->bytes), *v = qs_malloc(y->bytes);
        ck_assert_msg(!qs_safetensors_read_f32(path, x, u, n, &e), "%s", e.text);
        ck_assert_msg(!qs_safetensors_read_f32(other, y, v, n, &e), "%s", e.text);
        for (int64_t k = 0; k < n; k++) {
            double d = fabs((double)u[k] - v[k]);
            if (!(d <= most)) most = d;
        }
        qs_free(u);
        qs_free(v);
    }
    qs_safetensors_free(&a);
    qs_safetensors_free(&b);
    return most;
}

bool test_same_file(const char *path, const char *other)
{
    qs_err e = {0};
    char *a, *b;
    size_t n, m;
    ck_assert_msg(!qs_file_read(path, 1 << 28, &a, &n, &e), "%s", e.text);
    ck_assert_msg(!qs_file_read(other, 1 << 28, &b, &m, &e), "%s", e.text);
    bool same = n == m && !memcmp(a, b, n);
    qs_free(a);
    qs_free(b);
    return same;
}
