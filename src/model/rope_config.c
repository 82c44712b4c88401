/* rope_config.c - which rotary scaling a config.json asks for.
 *
 * Three spellings are in the wild: `rope_theta` + `rope_scaling.type` (2023), `rope_theta` + `rope_scaling.rope_type` (2024)
 * and `rope_parameters` with the theta inside (2025). As in transformers, a `rope_scaling` that is not empty beats
 * `rope_parameters`, and a value inside the object beats the one beside it.
 */
#include "src/model/rope_config.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static const double FACTOR_MAX = 1e6;

static int read_type(qs_json r, qs_rope_scaling *type, qs_err *e)
{
    static const struct { const char *name; qs_rope_scaling type; } known[] = {
        {"default", QS_ROPE_PLAIN}, {"linear", QS_ROPE_LINEAR}, {"dynamic", QS_ROPE_DYNAMIC},
        {"llama3", QS_ROPE_LLAMA3}, {"yarn", QS_ROPE_YARN},
    };
    const char *key = qs_json_get(r, "rope_type") ? "rope_type" : "type", *name = "default";
    QS_TRY(qs_json_string(r, key, &name, e));
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strcmp(name, known[i].name) == 0) {
            *type = known[i].type;
            return 0;
        }
    }
    return qs_json_unexpected(r, key, QS_EUNSUP, "default, linear, dynamic, llama3 or yarn: other rotary scalings are not supported", e);
}

static int require(qs_json r, const char *key, qs_err *e)
{
    if (qs_json_get(r, key)) return 0;
    return qs_json_unexpected(r, key, QS_EFORMAT, "a value: this rope_type needs it", e);
}

/* 0.1 m ln(s) + 1 (Peng et al., "YaRN", 2023, section 3.4). */
static double yarn_mscale(double scale, double m) { return scale <= 1 ? 1 : 0.1 * m * log(scale) + 1; }

static int read_yarn(qs_json r, qs_architecture *a, qs_err *e)
{
    a->rope_factor = (double)a->max_positions / a->rope_original_positions;
    QS_TRY(qs_json_number(r, "factor", 1, FACTOR_MAX, &a->rope_factor, e));
    QS_TRY(qs_json_number(r, "beta_fast", 0, FACTOR_MAX, &a->rope_beta_fast, e));
    QS_TRY(qs_json_number(r, "beta_slow", 0, FACTOR_MAX, &a->rope_beta_slow, e));
    if (a->rope_beta_fast == 0) a->rope_beta_fast = 32; /* transformers reads 0 as absent */
    if (a->rope_beta_slow == 0) a->rope_beta_slow = 1;
    if (a->rope_beta_fast < a->rope_beta_slow)
        return qs_json_unexpected(r, "beta_fast", QS_EFORMAT, "at least beta_slow", e);
    QS_TRY(qs_json_bool(r, "truncate", &a->rope_truncate, e));

    double mscale = 0, mscale_all = 0, attention = -1;
    QS_TRY(qs_json_number(r, "mscale", 0, FACTOR_MAX, &mscale, e));
    QS_TRY(qs_json_number(r, "mscale_all_dim", 0, FACTOR_MAX, &mscale_all, e));
    QS_TRY(qs_json_number(r, "attention_factor", 0, FACTOR_MAX, &attention, e));
    if (attention >= 0)
        a->rope_attention_factor = attention;
    else if (mscale != 0 && mscale_all != 0)
        a->rope_attention_factor = yarn_mscale(a->rope_factor, mscale) / yarn_mscale(a->rope_factor, mscale_all);
    else
        a->rope_attention_factor = yarn_mscale(a->rope_factor, 1);
    return 0;
}

static int read_llama3(qs_json r, qs_architecture *a, qs_err *e)
{
    QS_TRY(require(r, "low_freq_factor", e));
    QS_TRY(require(r, "high_freq_factor", e));
    QS_TRY(qs_json_number(r, "low_freq_factor", 1e-6, FACTOR_MAX, &a->rope_low_freq, e));
    QS_TRY(qs_json_number(r, "high_freq_factor", 1e-6, FACTOR_MAX, &a->rope_high_freq, e));
    if (a->rope_high_freq <= a->rope_low_freq)
        return qs_json_unexpected(r, "high_freq_factor", QS_EFORMAT, "more than low_freq_factor", e);
    return 0;
}

/* The share of a head that rotates. */
static int read_rotated_share(qs_json j, double *share, const qs_architecture *a, qs_err *e)
{
    bool partial = a->naming == QS_NAMING_NEOX;
    QS_TRY(qs_json_number(j, "partial_rotary_factor", 0, FACTOR_MAX, share, e));
    if (!partial && *share != 1)
        return qs_json_unexpected(j, "partial_rotary_factor", QS_EUNSUP, "1: heads of this family that rotate in part are not supported", e);
    if (*share > 1) return qs_json_unexpected(j, "partial_rotary_factor", QS_EFORMAT, "at most 1", e);
    return 0;
}

static int set_rotary_dim(qs_json config, double share, qs_architecture *a, qs_err *e)
{
    a->rotary_dim = (int32_t)(a->head_dim * share);
    if (a->rotary_dim < 2 || a->rotary_dim % 2)
        QS_FAIL(e, QS_EUNSUP, "%s: %g of a head of %d is %d columns to rotate; expected an even number of at least 2", config.file, share, a->head_dim,
                a->rotary_dim);
    return 0;
}

int qs_rope_config_read(qs_json config, qs_architecture *a, qs_err *e)
{
    qs_json r, parameters;
    QS_TRY(qs_json_object(config, "rope_scaling", "rope_scaling.", &r, e));
    QS_TRY(qs_json_object(config, "rope_parameters", "rope_parameters.", &parameters, e));
    if (json_object_size(r.object) == 0) r = parameters;
    if (json_object_get(r.object, "full_attention") || json_object_get(r.object, "sliding_attention"))
        QS_FAIL(e, QS_EUNSUP, "%s: rope_parameters differ by layer type, which is not supported; expected one set for all layers",
                config.file);

    a->rope = QS_ROPE_PLAIN;
    a->rope_theta = 10000;
    a->rope_factor = a->rope_attention_factor = 1;
    a->rope_low_freq = a->rope_high_freq = 0;
    a->rope_beta_fast = 32;
    a->rope_beta_slow = 1;
    a->rope_truncate = true;
    a->rope_original_positions = a->max_positions;
    double share = a->naming == QS_NAMING_NEOX ? 0.25 : 1;
    QS_TRY(qs_json_number(config, "rope_theta", 2, 1e15, &a->rope_theta, e));
    QS_TRY(read_rotated_share(config, &share, a, e));
    if (a->naming == QS_NAMING_NEOX) { /* its own names for both */
        QS_TRY(qs_json_number(config, "rotary_emb_base", 2, 1e15, &a->rope_theta, e));
        QS_TRY(qs_json_number(config, "rotary_pct", 0, 1, &share, e));
    }
    if (r.object) {
        QS_TRY(read_type(r, &a->rope, e));
        QS_TRY(qs_json_number(r, "rope_theta", 2, 1e15, &a->rope_theta, e));
        QS_TRY(read_rotated_share(r, &share, a, e));
    }
    QS_TRY(set_rotary_dim(config, share, a, e));
    if (a->rope == QS_ROPE_PLAIN) return 0;

    QS_TRY(qs_json_int32(r, "original_max_position_embeddings", 1, 1 << 30, &a->rope_original_positions, e));
    QS_TRY(qs_json_int32(config, "original_max_position_embeddings", 1, 1 << 30, &a->rope_original_positions, e));
    if (a->rope == QS_ROPE_YARN) return read_yarn(r, a, e);

    QS_TRY(require(r, "factor", e));
    QS_TRY(qs_json_number(r, "factor", 1, FACTOR_MAX, &a->rope_factor, e));
    if (a->rope == QS_ROPE_LLAMA3) return read_llama3(r, a, e);
    if (a->rope == QS_ROPE_DYNAMIC && a->rotary_dim <= 2)
        QS_FAIL(e, QS_EUNSUP, "%s: dynamic rope_scaling needs head_dim of at least 4, found %d", config.file, a->rotary_dim);
    return 0;
}
