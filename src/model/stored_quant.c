#include "src/model/stored_quant.h"

#include <stdio.h>
#include <string.h>

#include "kernels/quant.h"
#include "src/base/json.h"

enum { NAME_BYTES = 192, STATE_MAX_BYTES = 4096, NESTED_BLOCK = 256 };

static const char *const tails[QS_STORED_PARTS] = {
    [QS_STORED_CODES] = "",
    [QS_STORED_ABSMAX] = ".absmax",
    [QS_STORED_NESTED] = ".nested_absmax",
    [QS_STORED_TABLE] = ".quant_map",
    [QS_STORED_NESTED_MAP] = ".nested_quant_map",
};

static const qs_source_tensor *beside(const qs_source *s, const char *name, const char *tail)
{
    char full[NAME_BYTES];
    snprintf(full, sizeof full, "%s%s", name, tail);
    return qs_source_find(s, full);
}

bool qs_stored_linear_find(const qs_source *s, const char *name, qs_stored_linear *out)
{
    const qs_source_tensor *nf4 = beside(s, name, ".quant_state.bitsandbytes__nf4"),
                           *fp4 = beside(s, name, ".quant_state.bitsandbytes__fp4");
    *out = (qs_stored_linear){.quant = {.type = nf4 ? QS_QUANT_NF4 : QS_QUANT_FP4}};
    if (!nf4 && !fp4) return false;
    for (int i = 0; i < QS_STORED_STATE; i++) out->part[i] = beside(s, name, tails[i]);
    out->part[QS_STORED_STATE] = nf4 ? nf4 : fp4;
    out->quant.double_quant = out->part[QS_STORED_NESTED] != NULL;
    return true;
}

bool qs_stored_is_part(const qs_source *s, const char *name)
{
    char weight[NAME_BYTES];
    qs_stored_linear w;
    const char *end = strstr(name, ".weight.");
    if (!end) return false;
    snprintf(weight, sizeof weight, "%.*s.weight", (int)(end - name), name);
    return qs_stored_linear_find(s, weight, &w);
}

/* A part must have `bytes` bytes of `type`; codes may be labelled with any type. */
static int check_part(const qs_source *s, const char *name, const qs_stored_linear *w, qs_stored_part part,
                      qs_dtype type, uint64_t bytes, qs_err *e)
{
    const qs_source_tensor *t = w->part[part];
    const char *path = qs_source_path(s, w->part[QS_STORED_STATE]->file);
    if (!t)
        QS_FAIL(e, QS_EMISSING,
                "%s: has no tensor %s%s, which a bitsandbytes 4-bit weight needs; download the model again",
                path, name, tails[part]);
    if (!t->readable || (part != QS_STORED_CODES && t->type != type) || t->bytes != bytes)
        QS_FAIL(e, QS_EFORMAT,
                "%s: tensor %s has %llu bytes of type %s; expected %llu%s%s, from the shape in config.json "
                "and blocks of %d weights",
                path, t->name, (unsigned long long)t->bytes, t->type_name, (unsigned long long)bytes,
                part == QS_STORED_CODES ? "" : " of type ",
                part == QS_STORED_CODES ? "" : qs_dtype_name(type), QS_QUANT_BLOCK);
    return 0;
}

int qs_stored_linear_check(const qs_source *s, const char *name, const qs_stored_linear *w, int64_t rows,
                           int64_t cols, qs_err *e)
{
    int64_t n = rows * cols;
    uint64_t blocks = (uint64_t)qs_quant_blocks(n);
    bool twice = w->quant.double_quant;
    const qs_source_tensor *state = w->part[QS_STORED_STATE];
    if (!state->readable || state->type != QS_U8 || state->bytes > STATE_MAX_BYTES)
        QS_FAIL(e, QS_EFORMAT, "%s: tensor %s has %llu bytes of type %s; expected at most %d of type U8",
                qs_source_path(s, state->file), state->name, (unsigned long long)state->bytes,
                state->type_name, STATE_MAX_BYTES);
    QS_TRY(check_part(s, name, w, QS_STORED_CODES, QS_U8, (uint64_t)(n + 1) / 2, e));
    QS_TRY(check_part(s, name, w, QS_STORED_ABSMAX, twice ? QS_U8 : QS_F32, twice ? blocks : blocks * 4, e));
    QS_TRY(check_part(s, name, w, QS_STORED_TABLE, QS_F32, 16 * 4, e));
    if (!twice) return 0;
    QS_TRY(check_part(s, name, w, QS_STORED_NESTED, QS_F32, (uint64_t)qs_nested_blocks(n) * 4, e));
    return check_part(s, name, w, QS_STORED_NESTED_MAP, QS_F32, 256 * 4, e);
}

/* "nf4 double-quantised", for messages. */
static const char *spelled(bool stored, qs_quant_config q)
{
    if (!stored) return "in 16 or 32 bits";
    if (q.type == QS_QUANT_NF4) return q.double_quant ? "nf4, double-quantised" : "nf4";
    return q.double_quant ? "fp4, double-quantised" : "fp4";
}

int qs_stored_quant_of(const qs_architecture *a, const qs_source *s, bool *stored, qs_quant_config *out,
                       qs_err *e)
{
    char name[128], first[128] = "";
    qs_quant_config kept = {0};
    *stored = false;
    for (int32_t layer = 0; layer < a->layers; layer++) {
        const qs_layer *l = qs_architecture_layer(a, layer);
        for (int i = 0; i < l->tensors; i++) {
            qs_stored_linear w;
            if (l->tensor[i].role != QS_TENSOR_LINEAR) continue;
            qs_architecture_tensor_name(a, layer, &l->tensor[i], name);
            bool found = qs_stored_linear_find(s, name, &w);
            if (!*first) {
                memcpy(first, name, sizeof first);
                *stored = found;
                kept = w.quant;
            }
            if (found != *stored ||
                (found && (w.quant.type != kept.type || w.quant.double_quant != kept.double_quant)))
                QS_FAIL(e, QS_EUNSUP,
                        "%s: %s is stored %s and %s %s; linears must all be stored alike: give the 16-bit "
                        "model, it is quantised on first use",
                        qs_source_path(s, 0), first, spelled(*stored, kept), name, spelled(found, w.quant));
        }
    }
    if (*stored) *out = kept;
    return 0;
}

static int read_state(qs_json j, qs_quant_config quant, int64_t rows, int64_t cols, float *offset, qs_err *e)
{
    const char *type = "", *expected = quant.type == QS_QUANT_NF4 ? "nf4" : "fp4";
    int64_t block = 0, nested = NESTED_BLOCK;
    double mean = 0;
    QS_TRY(qs_json_string(j, "quant_type", &type, e));
    if (strcmp(type, expected) != 0) return qs_json_unexpected(j, "quant_type", QS_EFORMAT, expected, e);
    QS_TRY(qs_json_int(j, "blocksize", 1, INT32_MAX, &block, e));
    if (block != QS_QUANT_BLOCK)
        return qs_json_unexpected(j, "blocksize", QS_EUNSUP, "64, bitsandbytes' default", e);
    const json_t *shape = qs_json_get(j, "shape");
    if (json_array_size(shape) != 2 || json_integer_value(json_array_get(shape, 0)) != rows ||
        json_integer_value(json_array_get(shape, 1)) != cols)
        return qs_json_unexpected(j, "shape", QS_EFORMAT, "what config.json makes it", e);
    if (quant.double_quant) {
        QS_TRY(qs_json_int(j, "nested_blocksize", 1, INT32_MAX, &nested, e));
        if (nested != NESTED_BLOCK) return qs_json_unexpected(j, "nested_blocksize", QS_EUNSUP, "256", e);
        if (!qs_json_get(j, "nested_offset"))
            return qs_json_unexpected(j, "nested_offset", QS_EFORMAT, "a number", e);
        QS_TRY(qs_json_number(j, "nested_offset", -3e38, 3e38, &mean, e));
    }
    *offset = (float)mean;
    return 0;
}

int qs_stored_state_read(const char *text, size_t bytes, const char *file, const char *name,
                         qs_quant_config quant, int64_t rows, int64_t cols, float *offset, qs_err *e)
{
    char called[512];
    json_t *root;
    snprintf(called, sizeof called, "%.300s: %.190s", file, name);
    QS_TRY(qs_json_parse(text, bytes, called, &root, e));
    int rc = read_state((qs_json){root, called, ""}, quant, rows, cols, offset, e);
    json_decref(root);
    return rc;
}

bool qs_stored_table_is_ours(qs_stored_part part, qs_quant_type type, const float *values)
{
    const float *ours = part == QS_STORED_TABLE ? qs_code4_of(type)->value : qs_dynamic_signed;
    bool same = true;
    for (int i = 0; i < (part == QS_STORED_TABLE ? 16 : 256); i++) same &= values[i] == ours[i];
    return same;
}
