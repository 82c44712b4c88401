/* rotary.c - frequencies and tables of the rotary position embedding (Su et al., "RoFormer", 2021).
 *
 * The arithmetic is in fp32 in the order of transformers' modeling_rope_utils, so that frequencies agree to
 * the last bit or two: an angle is position * frequency, and an error of one bit in a frequency is an error
 * of one bit in every angle. Powers, sines and cosines are taken in double and rounded once, which no fp32
 * library does worse than.
 */
#include <math.h>

#include "src/base/maths.h"
#include "src/base/memory.h"
#include "src/model/rotary.h"

/* base^(2i/d) in fp32. */
static float wave(float base, int i, int d)
{
    return (float)qs_pow(base, (double)((float)(2 * i) / (float)d));
}

/* bloc97's "NTK-aware" base: longer sequences than the model was trained on stretch the base. */
static float dynamic_base(const qs_rotary *r, int32_t positions)
{
    float base = (float)r->theta, factor = (float)r->factor;
    if (positions <= r->max_positions) return base;
    float stretch = factor * (float)positions / (float)r->max_positions - (float)(r->factor - 1);
    return base * (float)qs_pow(stretch, (double)r->dim / (r->dim - 2));
}

/* Llama 3.1: long waves are slowed by the factor, short ones kept, those between blended. */
static float llama3(const qs_rotary *r, float f)
{
    float old = (float)r->original_positions, factor = (float)r->factor;
    float low = (float)r->low_freq;
    float wavelength = (float)(2 * M_PI) / f;
    if (wavelength > (float)(r->original_positions / r->low_freq)) return f / factor;
    if (wavelength < (float)(r->original_positions / r->high_freq)) return f;
    float s = (old / wavelength - low) / (float)(r->high_freq - r->low_freq);
    return (1 - s) * f / factor + s * f;
}

/* The (fractional) index whose wave turns `rotations` times within the original length. */
static double yarn_index(const qs_rotary *r, double rotations)
{
    return r->dim * qs_ln(r->original_positions / (rotations * 2 * M_PI)) / (2 * qs_ln(r->theta));
}

static void yarn(const qs_rotary *r, float *inv_freq)
{
    int d = r->dim;
    double low = yarn_index(r, r->beta_fast), high = yarn_index(r, r->beta_slow);
    if (r->truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, d - 1);
    if (low == high) high += 0.001;
    for (int i = 0; i < d / 2; i++) {
        float w = wave((float)r->theta, i, d);
        float kept = 1 / w, slowed = 1 / ((float)r->factor * w);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float keep = 1 - fminf(fmaxf(ramp, 0), 1);
        inv_freq[i] = slowed * (1 - keep) + kept * keep;
    }
}

void qs_rotary_frequencies(const qs_rotary *r, int32_t positions, float *inv_freq)
{
    if (r->scaling == QS_ROPE_YARN) {
        yarn(r, inv_freq);
        return;
    }
    float base = r->scaling == QS_ROPE_DYNAMIC ? dynamic_base(r, positions) : (float)r->theta;
    for (int i = 0; i < r->dim / 2; i++) {
        float f =
            1 / (r->scaling == QS_ROPE_LONG ? r->stretch[i] * wave(base, i, r->dim) : wave(base, i, r->dim));
        if (r->scaling == QS_ROPE_LINEAR) f /= (float)r->factor;
        inv_freq[i] = r->scaling == QS_ROPE_LLAMA3 ? llama3(r, f) : f;
    }
}

/* Llama 4's temperature: queries far into a long text are scaled up. */
static float position_scale(const qs_rotary *r, int32_t position)
{
    if (r->position_beta == 0) return 1;
    float turns = floorf((float)position / (float)r->original_positions);
    return 1 + (float)r->position_beta * (float)qs_ln(1 + turns);
}

void qs_rotary_tables(const qs_rotary *r, int32_t positions, float *cos_table, float *sin_table)
{
    int half = r->dim / 2;
    float own[QS_ROTARY_PAIRS_MAX],
        *inv_freq = half > QS_ROTARY_PAIRS_MAX ? qs_malloc((size_t)half * sizeof *inv_freq) : own;
    qs_rotary_frequencies(r, positions, inv_freq);
    for (int32_t p = 0; p < positions; p++) {
        float scale = (float)r->attention_factor * position_scale(r, p);
        for (int i = 0; i < half; i++) {
            float angle = (float)p * inv_freq[i];
            cos_table[(size_t)p * half + i] = (float)qs_cos(angle) * scale;
            sin_table[(size_t)p * half + i] = (float)qs_sin(angle) * scale;
        }
    }
    if (inv_freq != own) qs_free(inv_freq);
}
