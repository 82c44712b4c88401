/* rotary_config.c - which rotary scaling a config.json asks for.
 *
 * Three spellings are in the wild: `rope_theta` + `rope_scaling.type` (2023), `rope_theta` +
 * `rope_scaling.rope_type` (2024) and `rope_parameters` with the theta inside (2025). As in transformers, a
 * `rope_scaling` that is not empty beats `rope_parameters`, and a value inside the object beats the one
 * beside it.
 */
#include "src/model/rotary.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "src/base/maths.h"

static const double FACTOR_MAX = 1e6;

static int read_type(qs_json r, qs_rope_scaling *type, qs_err *e)
{
    static const struct {
        const char *name;
        qs_rope_scaling type;
    } known[] = {
        {"default", QS_ROPE_PLAIN}, {"linear", QS_ROPE_LINEAR}, {"dynamic", QS_ROPE_DYNAMIC},
        {"llama3", QS_ROPE_LLAMA3}, {"yarn", QS_ROPE_YARN},     {"longrope", QS_ROPE_LONG},
        {"su", QS_ROPE_LONG},
    };
    const char *key = qs_json_get(r, "rope_type") ? "rope_type" : "type", *name = "default";
    QS_TRY(qs_json_string(r, key, &name, e));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *type = known[i].type;
            return 0;
        }
    }
    return qs_json_unexpected(
        r, key, QS_EUNSUP,
        "default, linear, dynamic, llama3, yarn or longrope: other rotary scalings are not supported", e);
}

static int require(qs_json r, const char *key, qs_err *e)
{
    if (qs_json_get(r, key)) return 0;
    return qs_json_unexpected(r, key, QS_EFORMAT, "a value: this rope_type needs it", e);
}

/* 0.1 m ln(s) + 1 (Peng et al., "YaRN", 2023, section 3.4). */
static double yarn_mscale(double scale, double m) { return scale <= 1 ? 1 : 0.1 * m * qs_ln(scale) + 1; }

static int read_yarn(qs_json r, qs_rotary *a, qs_err *e)
{
    a->factor = (double)a->max_positions / a->original_positions;
    QS_TRY(qs_json_number(r, "factor", 1, FACTOR_MAX, &a->factor, e));
    QS_TRY(qs_json_number(r, "beta_fast", 0, FACTOR_MAX, &a->beta_fast, e));
    QS_TRY(qs_json_number(r, "beta_slow", 0, FACTOR_MAX, &a->beta_slow, e));
    if (a->beta_fast == 0) a->beta_fast = 32; /* transformers reads 0 as absent */
    if (a->beta_slow == 0) a->beta_slow = 1;
    if (a->beta_fast < a->beta_slow)
        return qs_json_unexpected(r, "beta_fast", QS_EFORMAT, "at least beta_slow", e);
    QS_TRY(qs_json_bool(r, "truncate", &a->truncate, e));

    double mscale = 0, mscale_all = 0, attention = -1;
    QS_TRY(qs_json_number(r, "mscale", 0, FACTOR_MAX, &mscale, e));
    QS_TRY(qs_json_number(r, "mscale_all_dim", 0, FACTOR_MAX, &mscale_all, e));
    QS_TRY(qs_json_number(r, "attention_factor", 0, FACTOR_MAX, &attention, e));
    if (attention >= 0)
        a->attention_factor = attention;
    else if (mscale != 0 && mscale_all != 0)
        a->attention_factor = yarn_mscale(a->factor, mscale) / yarn_mscale(a->factor, mscale_all);
    else
        a->attention_factor = yarn_mscale(a->factor, 1);
    return 0;
}

static int read_llama3(qs_json r, qs_rotary *a, qs_err *e)
{
    QS_TRY(require(r, "low_freq_factor", e));
    QS_TRY(require(r, "high_freq_factor", e));
    QS_TRY(qs_json_number(r, "low_freq_factor", 1e-6, FACTOR_MAX, &a->low_freq, e));
    QS_TRY(qs_json_number(r, "high_freq_factor", 1e-6, FACTOR_MAX, &a->high_freq, e));
    if (a->high_freq <= a->low_freq)
        return qs_json_unexpected(r, "high_freq_factor", QS_EFORMAT, "more than low_freq_factor", e);
    return 0;
}

/* The share of a head that rotates. */
static int read_rotated_share(qs_json j, const qs_rotary_keys *keys, double *share, qs_err *e)
{
    QS_TRY(qs_json_number(j, "partial_rotary_factor", 0, FACTOR_MAX, share, e));
    if (!keys->partial && *share != 1)
        return qs_json_unexpected(j, "partial_rotary_factor", QS_EUNSUP,
                                  "1: heads of this family that rotate in part are not supported", e);
    if (*share > 1) return qs_json_unexpected(j, "partial_rotary_factor", QS_EFORMAT, "at most 1", e);
    return 0;
}

static int set_dim(qs_json config, double share, int32_t head_dim, qs_rotary *a, qs_err *e)
{
    a->dim = (int32_t)(head_dim * share);
    if (a->dim < 2 || a->dim % 2)
        QS_FAIL(e, QS_EUNSUP,
                "%s: %g of a head of %d is %d columns to rotate; expected an even number of at least 2",
                config.file, share, head_dim, a->dim);
    return 0;
}

/* One of the two lists of factors. */
static int read_stretch(qs_json r, const char *key, qs_rotary *a, qs_err *e)
{
    const json_t *list = qs_json_get(r, key);
    if (!json_is_array(list) || json_array_size(list) != (size_t)a->dim / 2 ||
        a->dim / 2 > QS_ROTARY_PAIRS_MAX)
        QS_FAIL(e, QS_EFORMAT,
                "%s: %s%s must be a list of %d numbers, one for each pair of columns that rotates", r.file,
                r.at, key, a->dim / 2);
    for (int i = 0; i < a->dim / 2; i++) {
        const json_t *v = json_array_get(list, (size_t)i);
        if (!json_is_number(v) || json_number_value(v) < 1e-3 || json_number_value(v) > FACTOR_MAX)
            QS_FAIL(e, QS_EFORMAT, "%s: %s%s[%d] is not a number from 0.001 to %g", r.file, r.at, key, i,
                    FACTOR_MAX);
        a->stretch[i] = (float)json_number_value(v);
    }
    return 0;
}

static int read_longrope(qs_json r, qs_rotary *a, qs_err *e)
{
    double attention = -1;
    a->factor = (double)a->max_positions / a->original_positions;
    QS_TRY(qs_json_number(r, "factor", 1e-3, FACTOR_MAX, &a->factor, e));
    QS_TRY(qs_json_number(r, "attention_factor", 0, FACTOR_MAX, &attention, e));
    a->attention_factor = attention >= 0   ? attention
                          : a->factor <= 1 ? 1
                                           : sqrt(1 + qs_ln(a->factor) / qs_ln(a->original_positions));
    return read_stretch(r, "short_factor", a, e);
}

/* What the scaling needs beside theta. */
static int read_scaling(qs_json config, qs_json r, qs_rotary *a, qs_err *e)
{
    QS_TRY(qs_json_int32(r, "original_max_position_embeddings", 1, 1 << 30, &a->original_positions, e));
    QS_TRY(qs_json_int32(config, "original_max_position_embeddings", 1, 1 << 30, &a->original_positions, e));
    if (a->scaling == QS_ROPE_YARN) return read_yarn(r, a, e);
    if (a->scaling == QS_ROPE_LONG) return read_longrope(r, a, e);

    QS_TRY(require(r, "factor", e));
    QS_TRY(qs_json_number(r, "factor", 1, FACTOR_MAX, &a->factor, e));
    if (a->scaling == QS_ROPE_LLAMA3) return read_llama3(r, a, e);
    if (a->scaling == QS_ROPE_DYNAMIC && a->dim <= 2)
        QS_FAIL(e, QS_EUNSUP, "%s: dynamic rope_scaling needs head_dim of at least 4, found %d", config.file,
                a->dim);
    return 0;
}

static int read_any(qs_json config, const qs_rotary_keys *keys, int32_t head_dim, int32_t max_positions,
                    qs_rotary *out, qs_err *e)
{
    qs_json r, parameters;
    double share = keys->default_share ? keys->default_share : 1;
    QS_TRY(qs_json_object(config, "rope_scaling", "rope_scaling.", &r, e));
    QS_TRY(qs_json_object(config, "rope_parameters", "rope_parameters.", &parameters, e));
    if (json_object_size(r.object) == 0 || keys->own) r = parameters;
    bool by_type =
        json_object_get(r.object, "full_attention") || json_object_get(r.object, "sliding_attention");
    if (by_type && !keys->layers)
        QS_FAIL(e, QS_EUNSUP,
                "%s: rope_parameters differ by layer type, which is not supported in this family; expected "
                "one set for all layers",
                config.file);
    if (by_type)
        QS_TRY(qs_json_object(r, keys->layers, "rope_parameters.", &r, e));
    else if (keys->own)
        r.object = NULL;
    *out = (qs_rotary){.scaling = QS_ROPE_PLAIN,
                       .theta = keys->default_theta ? keys->default_theta : 10000,
                       .factor = 1,
                       .attention_factor = 1,
                       .beta_fast = 32,
                       .beta_slow = 1,
                       .truncate = true,
                       .max_positions = max_positions,
                       .original_positions = max_positions};
    if (!keys->own) QS_TRY(qs_json_number(config, "rope_theta", 2, 1e15, &out->theta, e));
    QS_TRY(read_rotated_share(config, keys, &share, e));
    if (keys->theta) QS_TRY(qs_json_number(config, keys->theta, 2, 1e15, &out->theta, e));
    if (keys->share) QS_TRY(qs_json_number(config, keys->share, 0, 1, &share, e));
    if (r.object) {
        QS_TRY(read_type(r, &out->scaling, e));
        QS_TRY(qs_json_number(r, "rope_theta", 2, 1e15, &out->theta, e));
        QS_TRY(read_rotated_share(r, keys, &share, e));
    }
    QS_TRY(set_dim(config, share, head_dim, out, e));
    return out->scaling == QS_ROPE_PLAIN ? 0 : read_scaling(config, r, out, e);
}

int qs_rotary_read(qs_json config, const qs_rotary_keys *keys, int32_t head_dim, int32_t max_positions,
                   qs_rotary *out, qs_err *e)
{
    QS_TRY(read_any(config, keys, head_dim, max_positions, out, e));
    if (out->scaling != QS_ROPE_LONG) return 0;
    QS_FAIL(e, QS_EUNSUP,
            "%s: rope_scaling.rope_type is \"longrope\"; in this family default, linear, dynamic, llama3 and "
            "yarn are supported",
            config.file);
}

int qs_rotary_read_long(qs_json config, const qs_rotary_keys *keys, int32_t head_dim, int32_t max_positions,
                        qs_rotary *out, qs_rotary *longer, bool *long_scaling, qs_err *e)
{
    qs_json r, parameters;
    QS_TRY(read_any(config, keys, head_dim, max_positions, out, e));
    *long_scaling = out->scaling == QS_ROPE_LONG;
    if (!*long_scaling) return 0;
    *longer = *out;
    QS_TRY(qs_json_object(config, "rope_scaling", "rope_scaling.", &r, e));
    QS_TRY(qs_json_object(config, "rope_parameters", "rope_parameters.", &parameters, e));
    if (json_object_size(r.object) == 0) r = parameters;
    return read_stretch(r, "long_factor", longer, e);
}
