/* rotary.h - rotary position embeddings: the scalings that config.json can ask for, their frequencies and
 * tables. */
#ifndef QS_MODEL_ROTARY_H
#define QS_MODEL_ROTARY_H

#include <stdbool.h>
#include <stdint.h>

#include "src/base/json.h"

typedef enum qs_rope_scaling {
    QS_ROPE_PLAIN,
    QS_ROPE_LINEAR,
    QS_ROPE_DYNAMIC,
    QS_ROPE_LLAMA3,
    QS_ROPE_YARN,
    QS_ROPE_LONG
} qs_rope_scaling;

enum { QS_ROTARY_PAIRS_MAX = 128 };

typedef struct qs_rotary {
    int32_t dim; /* leading columns of a head that rotate */
    qs_rope_scaling scaling;
    double theta, factor, low_freq, high_freq, beta_fast, beta_slow;
    double attention_factor; /* cos and sin are multiplied by it; 1 unless yarn */
    bool truncate;           /* yarn: the ramp's ends are whole numbers */
    int32_t max_positions, original_positions;
    float stretch[QS_ROTARY_PAIRS_MAX]; /* longrope: [dim/2] each wave is as many times as long */
    double position_beta; /* tables are scaled by 1 + beta ln(1 + floor(position / original_positions)); 0:
                             not */
} qs_rotary;

/* Where a family keeps what, and what it means when it is absent. */
typedef struct qs_rotary_keys {
    const char *theta, *share; /* further names of rope_theta and partial_rotary_factor; NULL: none */
    double default_theta;      /* 0: 10000 */
    double default_share;      /* 0: 1 */
    bool partial;              /* heads may rotate in part */
    const char *layers; /* rope_parameters may have an object for each type of layer: which to read; NULL: it
                           may not */
    bool own;           /* rope_theta and rope_scaling beside it are not about these layers */
} qs_rotary_keys;

/* Fills *out from the document; head_dim and max_positions are the model's. QS_EFORMAT or QS_EUNSUP. */
int qs_rotary_read(qs_json config, const qs_rotary_keys *keys, int32_t head_dim, int32_t max_positions,
                   qs_rotary *out, qs_err *e);

/* The two embeddings of longrope (Ding et al., "LongRoPE", 2024; Phi-3): *out of short sequences, *longer of
 * those with more than out->original_positions tokens. Where the document asks for no longrope, *out alone:
 * long_scaling false. */
int qs_rotary_read_long(qs_json config, const qs_rotary_keys *keys, int32_t head_dim, int32_t max_positions,
                        qs_rotary *out, qs_rotary *longer, bool *long_scaling, qs_err *e);

/* Whether the tables of a text of so many tokens are its own (dynamic scaling beyond the trained length). */
static inline bool qs_rotary_follows_length(const qs_rotary *r, int32_t positions)
{
    return r->scaling == QS_ROPE_DYNAMIC && positions > r->max_positions;
}

/* inv_freq[dim/2] in fp32, as transformers' modeling_rope_utils computes it. `positions` is the longest
 * sequence that is turned together, which dynamic scaling depends on. */
void qs_rotary_frequencies(const qs_rotary *r, int32_t positions, float *inv_freq);
/* cos, sin [positions][dim/2]: of the fp32 angle position * inv_freq, times the attention factor. */
void qs_rotary_tables(const qs_rotary *r, int32_t positions, float *cos_table, float *sin_table);

#endif
