#include "tests/support/op_run.h"

#include <check.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/memory.h"
#include "src/base/random.h"

double op_uniform(uint64_t stream, uint64_t i)
{
    return (qs_random_u32(20240607, stream, i) + 0.5) * 0x1p-32;
}

double op_normal(uint64_t stream, uint64_t i)
{
    return sqrt(-2 * log(op_uniform(2 * stream, i))) * cos(6.283185307179586 * op_uniform(2 * stream + 1, i));
}

static size_t array_elements(const op_array *a)
{
    return a->rows ? (size_t)((a->rows - 1) * a->stride + a->cols) : 0;
}
static size_t array_bytes(const op_array *a)
{
    return array_elements(a) * (a->fp64 ? 8 : qs_dtype_bytes(a->type));
}

static void array_allocate(op_run *r, int index)
{
    op_array *a = &r->array[index];
    a->before = qs_calloc(array_bytes(a) + 1, 1);
    a->after = qs_calloc(array_bytes(a) + 1, 1);
    if (a->role != OP_INPUT) a->want = qs_calloc((size_t)(a->rows * a->cols) + 1, sizeof(double));
    if (a->role == OP_OUTPUT) memset(a->before, 0xff, array_bytes(a));
    if (index >= r->arrays) r->arrays = index + 1;
}

void op_array_make(op_run *r, int index, op_role role, qs_dtype type, int64_t rows, int64_t cols)
{
    op_array *a = &r->array[index];
    *a = (op_array){.role = role,
                    .type = type,
                    .rows = rows,
                    .cols = cols,
                    .stride = cols + (rows > 1 ? r->c->padding : 0)};
    array_allocate(r, index);
}

void op_array_make_double(op_run *r, int index, op_role role)
{
    r->array[index] =
        (op_array){.role = role, .type = QS_F32, .fp64 = true, .rows = 1, .cols = 1, .stride = 1};
    array_allocate(r, index);
}

void op_array_normal(op_run *r, int index, op_role role, qs_dtype type, int64_t rows, int64_t cols,
                     double scale)
{
    op_array_make(r, index, role, type, rows, cols);
    const op_array *a = &r->array[index];
    for (size_t i = 0; i < array_elements(a); i++)
        qs_store_f32(a->before, type, i, (float)(scale * op_normal((uint64_t)index + 1, i)));
}

static double element(const op_array *a, const void *data, int64_t i, int64_t j)
{
    size_t at = (size_t)(i * a->stride + j);
    if (a->fp64) return ((const double *)data)[at];
    if (a->type == QS_U8) return ((const uint8_t *)data)[at];
    if (a->type == QS_I32) return ((const int32_t *)data)[at];
    return qs_load_f32(data, a->type, at);
}

double op_at(const op_run *r, int index, int64_t i, int64_t j)
{
    return element(&r->array[index], r->array[index].before, i, j);
}

void op_run_create(op_run *r, const op_case *c)
{
    *r = (op_run){.c = c};
    c->kind->setup(r);
}

void op_run_free(op_run *r)
{
    for (int k = 0; k < r->arrays; k++) {
        qs_free(r->array[k].before);
        qs_free(r->array[k].after);
        qs_free(r->array[k].want);
    }
    *r = (op_run){0};
}

qs_mat op_mat(const op_run *r, int index)
{
    const op_array *a = &r->array[index];
    return (qs_mat){a->device, a->type, a->rows, a->cols, a->stride};
}

static void *device_block(qs_device *d, size_t bytes)
{
    qs_err e = {0};
    void *p;
    ck_assert_msg(d->api->alloc(d, bytes, &p, &e) == 0, "%s", e.text);
    return p;
}

void op_workspace(op_run *r, qs_device *d, size_t bytes)
{
    r->workspace = bytes ? device_block(d, bytes) : NULL;
    qs_device_set_workspace(d, r->workspace, bytes);
}

void op_run_execute(op_run *r, qs_device *d)
{
    for (int k = 0; k < r->arrays; k++) {
        op_array *a = &r->array[k];
        a->device = device_block(d, array_bytes(a));
        d->api->copy_in(d, QS_QUEUE_COMPUTE, a->device, a->before, array_bytes(a));
    }
    r->c->kind->launch(r, d);
    d->api->queue_sync(d, QS_QUEUE_COMPUTE);
    for (int k = 0; k < r->arrays; k++) {
        op_array *a = &r->array[k];
        d->api->copy_out(d, QS_QUEUE_COMPUTE, a->after, a->device, array_bytes(a));
        d->api->queue_sync(d, QS_QUEUE_COMPUTE);
        d->api->free(d, a->device);
    }
    qs_device_set_workspace(d, NULL, 0);
    d->api->free(d, r->workspace);
    r->workspace = NULL;
    qs_err e = {0};
    ck_assert_msg(d->api->check(d, &e) == 0, "%s: %s", r->c->name, e.text);
}

/* Whether everything outside the matrix (or all of an input) is as it was. */
static bool untouched(const op_array *a)
{
    size_t size = qs_dtype_bytes(a->type);
    if (a->role == OP_INPUT) return !memcmp(a->before, a->after, array_bytes(a));
    for (int64_t i = 0; i + 1 < a->rows; i++) {
        size_t at = (size_t)(i * a->stride + a->cols) * size, gap = (size_t)(a->stride - a->cols) * size;
        if (memcmp((const char *)a->before + at, (const char *)a->after + at, gap)) return false;
    }
    return true;
}

double op_run_error(const op_run *r, const op_run *other, char where[160])
{
    double worst = 0;
    snprintf(where, 160, "no output");
    for (int k = 0; k < r->arrays; k++) {
        const op_array *a = &r->array[k];
        if (!untouched(a)) {
            snprintf(where, 160, "array %d: memory outside the output was written", k);
            return INFINITY;
        }
        if (a->role == OP_INPUT || !a->rows || !a->cols) continue;
        double squares = 0;
        for (int64_t i = 0; i < a->rows * a->cols; i++) squares += a->want[i] * a->want[i];
        double rms = sqrt(squares / (double)(a->rows * a->cols));
        for (int64_t i = 0; i < a->rows; i++)
            for (int64_t j = 0; j < a->cols; j++) {
                double got = element(a, a->after, i, j);
                double want =
                    other ? element(&other->array[k], other->array[k].after, i, j) : a->want[i * a->cols + j];
                double allowed = r->c->tolerance * (fabs(want) + rms + r->cancelled),
                       error = fabs(got - want);
                double ratio = got == want || (isnan(got) && isnan(want)) ? 0
                               : isfinite(error) && allowed > 0           ? error / allowed
                                                                          : INFINITY;
                if (ratio < worst || ratio == 0) continue;
                worst = ratio;
                snprintf(where, 160, "array %d (%lld, %lld): got %.9g, expected %.9g, allowed error %.3g", k,
                         (long long)i, (long long)j, got, want, allowed);
            }
    }
    return worst;
}
