/* calibrate.c - the file of measurements, and looking up in it. */
#include "src/plan/calibrate_parts.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "io/file.h"
#include "io/synthetic.h"
#include "src/base/clock.h"
#include "src/base/json.h"
#include "src/base/log.h"
#include "src/base/memory.h"

enum { FORMAT_VERSION = 2, FILE_MAX_BYTES = 4 << 20 };
#define MOST_SECONDS 1e6

static const struct {
    const char *name;
    size_t offset;
} scalars[] = {
    {"disk_read", offsetof(qs_calibration, disk_read)},
    {"disk_write", offsetof(qs_calibration, disk_write)},
    {"disk_latency", offsetof(qs_calibration, disk_latency)},
    {"verify", offsetof(qs_calibration, verify)},
    {"link_in", offsetof(qs_calibration, link_in)},
    {"link_out", offsetof(qs_calibration, link_out)},
};
enum { SCALARS = sizeof scalars / sizeof *scalars };

static double *scalar(const qs_calibration *k, int i)
{
    return (double *)(void *)((char *)(uintptr_t)k + scalars[i].offset);
}

/* ---- the file ---------------------------------------------------------------------------------------- */

static int read_curve(qs_calibration *k, const char *text, const json_t *points)
{
    size_t n = json_array_size(points);
    if (!n || n > QS_CURVE_POINTS || strlen(text) >= sizeof k->curves->text) return -1;
    qs_curve *c = qs_calibration_curve(k, text, true);
    c->count = 0;
    for (size_t i = 0; i < n; i++) {
        const json_t *p = json_array_get(points, i);
        double rows = json_number_value(json_array_get(p, 0)),
               seconds = json_number_value(json_array_get(p, 1));
        if (!(rows > 0) || !(seconds > 0) || rows > 1e15 || seconds > MOST_SECONDS ||
            (i && rows <= c->n[i - 1]))
            return -1;
        c->n[c->count] = rows;
        c->seconds[c->count++] = seconds;
    }
    return 0;
}

static int read_document(qs_calibration *k, const char *text, size_t bytes, qs_err *e)
{
    json_t *root;
    QS_TRY(qs_json_parse(text, bytes, k->path, &root, e));
    qs_json j = {root, k->path, ""}, operations = {0}, host = {0}, touch = {0};
    int64_t version = 0;
    int rc = qs_json_int(j, "format", FORMAT_VERSION, FORMAT_VERSION, &version, e);
    if (!rc) rc = qs_json_object(j, "operations", "operations.", &operations, e);
    if (!rc) rc = qs_json_object(j, "rates", "rates.", &host, e);
    if (!rc) rc = qs_json_object(j, "quantise_on_load", "quantise_on_load.", &touch, e);
    if (!rc && (version != FORMAT_VERSION || !operations.object || !host.object))
        rc = qs_json_unexpected(j, "format", QS_EFORMAT, "2, with operations and rates", e);
    for (int i = 0; !rc && i < SCALARS; i++)
        rc = qs_json_number(host, scalars[i].name, 0, 1e15, scalar(k, i), e);
    if (!rc && touch.object) rc = qs_json_number(touch, k->touch_key, 0, 1e15, &k->quantise_on_load, e);
    const char *key;
    json_t *value;
    if (!rc) json_object_foreach((json_t *)(uintptr_t)operations.object, key, value)
        {
            if (read_curve(k, key, value)) {
                rc = qs_json_unexpected(operations, key, QS_EFORMAT, "pairs of rows and seconds", e);
                break;
            }
        }
    json_decref(root);
    return rc;
}

static void forget(qs_calibration *k)
{
    k->count = 0;
    k->quantise_on_load = 0;
    for (int i = 0; i < SCALARS; i++) *scalar(k, i) = 0;
}

static void read_file(qs_calibration *k)
{
    char *text;
    size_t bytes;
    qs_err e = {0};
    if (!qs_file_exists(k->path)) return;
    int rc = qs_file_read(k->path, FILE_MAX_BYTES, &text, &bytes, &e);
    if (rc) {
        qs_warn("%s; measuring anew", e.text);
        return;
    }
    rc = read_document(k, text, bytes, &e);
    qs_free(text);
    if (!rc) return;
    qs_warn("%s; measuring anew", e.text);
    forget(k);
}

int qs_calibration_write(const qs_calibration *k, qs_err *e)
{
    json_t *root = json_object(), *operations = json_object(), *rates = json_object(), *touch = json_object();
    for (int i = 0; i < k->count; i++) {
        json_t *points = json_array();
        for (int p = 0; p < k->curves[i].count; p++)
            json_array_append_new(points, json_pack("[f,f]", k->curves[i].n[p], k->curves[i].seconds[p]));
        json_object_set_new(operations, k->curves[i].text, points);
    }
    for (int i = 0; i < SCALARS; i++) json_object_set_new(rates, scalars[i].name, json_real(*scalar(k, i)));
    if (k->quantise_on_load > 0) json_object_set_new(touch, k->touch_key, json_real(k->quantise_on_load));
    json_object_set_new(root, "format", json_integer(FORMAT_VERSION));
    json_object_set_new(root, "device", json_string(k->c.device->info.name));
    json_object_set_new(root, "threads", json_integer(k->c.device->info.threads));
    json_object_set_new(root, "rates", rates);
    json_object_set_new(root, "quantise_on_load", touch);
    json_object_set_new(root, "operations", operations);
    char *text = json_dumps(root, JSON_INDENT(1) | JSON_SORT_KEYS);
    int rc = qs_file_replace(k->path, text, strlen(text), e);
    free(text); /* lint: allow free, jansson allocated it */
    json_decref(root);
    return rc;
}

bool qs_source_is_recipe(const qs_source *s)
{
    const char *path = qs_source_path(s, 0), *slash = strrchr(path, '/');
    return !strcmp(slash ? slash + 1 : path, QS_SYNTHETIC_NAME);
}

qs_calibration *qs_calibration_open(const qs_calibrate_config *c)
{
    qs_calibration *k = qs_calloc(1, sizeof *k);
    k->c = *c;
    if (c->tensor) k->c.tensor = k->tensor = qs_strdup(c->tensor);
    char *key = qs_printf("%s|%d|%d|%d", c->device->info.name, c->device->info.threads,
                          c->device->info.shared_memory, FORMAT_VERSION);
    char *name = qs_printf("calibration-%016" PRIx64 ".json", (uint64_t)XXH3_64bits(key, strlen(key)));
    k->path = qs_path_join(c->dir, name);
    snprintf(k->touch_key, sizeof k->touch_key, "%d %d%s", (int)c->quant.type, c->quant.double_quant,
             c->source && qs_source_is_recipe(c->source) ? " synthetic" : "");
    qs_free(name);
    qs_free(key);
    if (!c->renew) read_file(k);
    return k;
}

void qs_calibration_free(qs_calibration *k)
{
    if (!k) return;
    qs_free(k->path);
    qs_free(k->tensor);
    qs_free(k->curves);
    qs_free(k);
}

/* ---- looking up -------------------------------------------------------------------------------------- */

qs_curve *qs_calibration_curve(qs_calibration *k, const char *text, bool add)
{
    for (int i = 0; i < k->count; i++)
        if (!strcmp(k->curves[i].text, text)) return &k->curves[i];
    if (!add) return NULL;
    if (k->count == k->capacity) {
        k->capacity = k->capacity ? 2 * k->capacity : 64;
        k->curves = qs_realloc(k->curves, (size_t)k->capacity * sizeof *k->curves);
    }
    k->curves[k->count] = (qs_curve){.count = 0};
    snprintf(k->curves[k->count].text, sizeof k->curves->text, "%s", text);
    return &k->curves[k->count++];
}

bool qs_call_is_attention(const qs_op_call *c)
{
    return c->kind == QS_OP_ATTENTION || c->kind == QS_OP_ATTENTION_BACKWARD;
}

int64_t qs_call_length(const qs_op_call *c) { return qs_call_is_attention(c) ? c->dim[4] : c->n; }
bool qs_call_has_curve(const qs_op_call *c) { return qs_call_is_attention(c) || c->kind == QS_OP_GEMM; }

void qs_calibration_text(const qs_op_call *call, char text[160])
{
    qs_op_call c = *call;
    if (qs_call_is_attention(call)) c.dim[4] = 0; /* the length of a document is what its curve runs over */
    qs_op_call_text(&c, text);
}

/* On the line through the two points around n; below the first, and with one point, in proportion. */
static double interpolate(const qs_curve *c, double n)
{
    int i = 1;
    if (c->count == 1 || n <= c->n[0])
        return c->seconds[0] * (c->count == 1 ? n / c->n[0] : 1 - (1 - n / c->n[0]) * 0.9);
    while (i + 1 < c->count && c->n[i] < n) i++;
    double slope = (c->seconds[i] - c->seconds[i - 1]) / (c->n[i] - c->n[i - 1]);
    if (slope < 0) slope = 0;
    return c->seconds[i] + slope * (n - c->n[i]);
}

/* Seconds per token are linear in the length of a document. */
static double attention_seconds(const qs_curve *c, double rows, double document)
{
    int last = c->count - 1;
    double per_token = c->seconds[last] / c->n[last],
           slope = last ? (per_token - c->seconds[0] / c->n[0]) / (c->n[last] - c->n[0]) : 0;
    per_token += (slope > 0 ? slope : 0) * (document - c->n[last]);
    double least = c->seconds[0] / c->n[0] / 8;
    return rows * (per_token > least ? per_token : least);
}

static double measured_seconds(const void *context, const qs_op_call *call)
{
    char text[160];
    qs_calibration_text(call, text);
    const qs_curve *c = qs_calibration_curve((qs_calibration *)(uintptr_t)context, text, false);
    if (!c || !c->count) return 0;
    if (qs_call_is_attention(call)) return attention_seconds(c, (double)call->n, (double)call->dim[4]);
    for (int i = 0; i < c->count; i++)
        if (c->n[i] == (double)call->n) return c->seconds[i];
    return interpolate(c, (double)call->n);
}

bool qs_calibration_has(const qs_calibration *k, const qs_op_call *call)
{
    char text[160];
    qs_calibration_text(call, text);
    const qs_curve *c = qs_calibration_curve((qs_calibration *)(uintptr_t)k, text, false);
    if (!c || !c->count) return false;
    double n = (double)qs_call_length(call);
    for (int i = 0; i < c->count; i++)
        if (c->n[i] == n) return true;
    /* Rows lie on a line; what runs over elements is measured at each length, as far as there is room. */
    return c->count > (qs_call_has_curve(call) ? 1 : QS_CURVE_POINTS - 1) && n <= 64 * c->n[c->count - 1] &&
           16 * n >= c->n[0];
}

bool qs_calibration_knows(const qs_calibration *k, const qs_costs *costs)
{
    if (!(k->disk_read > 0) || !(k->verify > 0)) return false;
    if (k->c.source && !(k->quantise_on_load > 0)) return false;
    const qs_op_list *list;
    for (int p = 0; (list = qs_costs_list(costs, p)); p++)
        for (int i = 0; i < list->count; i++)
            if (!qs_calibration_has(k, &list->calls[i])) return false;
    return true;
}

qs_rates qs_calibration_rates(const qs_calibration *k)
{
    return (qs_rates){.seconds = measured_seconds,
                      .context = k,
                      .io = {k->disk_read, k->disk_write, k->disk_latency, k->verify, k->link_in, k->link_out,
                             QS_CALIBRATE_DEPTH * QS_CALIBRATE_CHUNK},
                      .quantise_on_load = k->quantise_on_load,
                      .launch_seconds = 5e-6};
}
