#include "tests/support/golden.h"

#include <check.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"

void golden_open(golden *g, const char *name)
{
    qs_err e = {0};
    char *path = qs_printf("tests/golden/%s", name);
    ck_assert_msg(qs_safetensors_open(path, &g->header, &e) == 0, "%s", e.text);
    g->bytes = qs_malloc(g->header.file_bytes);
    FILE *f = fopen(path, "rb");
    ck_assert_msg(f && fread(g->bytes, 1, g->header.file_bytes, f) == g->header.file_bytes,
                  "%s: cannot be read", path);
    fclose(f);
    qs_free(path);
}

void golden_close(golden *g)
{
    qs_safetensors_free(&g->header);
    qs_free(g->bytes);
}

static const qs_source_tensor *find(const golden *g, const char *name)
{
    for (int i = 0; i < g->header.count; i++)
        if (!strcmp(g->header.tensors[i].name, name)) return &g->header.tensors[i];
    return NULL;
}

const void *golden_data(const golden *g, int64_t *n, const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    const qs_source_tensor *t = find(g, name);
    ck_assert_msg(t != NULL, "there is no golden tensor %s", name);
    if (n) *n = (int64_t)(t->bytes / qs_dtype_bytes(t->type));
    return g->bytes + t->offset;
}

bool golden_has(const golden *g, const char *format, ...)
{
    char name[256];
    va_list args;
    va_start(args, format);
    vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return find(g, name) != NULL;
}
