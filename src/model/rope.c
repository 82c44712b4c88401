/* rope.c - frequencies and tables of the rotary position embedding (Su et al., "RoFormer", 2021).
 *
 * The arithmetic is in fp32 in the order of transformers' modeling_rope_utils, so that frequencies agree to the last bit or
 * two: an angle is position * frequency, and an error of one bit in a frequency is an error of one bit in every angle. Powers,
 * sines and cosines are taken in double and rounded once, which no fp32 library does worse than.
 */
#include <math.h>

#include "src/base/memory.h"
#include "src/model/architecture.h"

/* base^(2i/d) in fp32. */
static float wave(float base, int i, int d) { return (float)pow(base, (double)((float)(2 * i) / (float)d)); }

/* bloc97's "NTK-aware" base: longer sequences than the model was trained on stretch the base. */
static float dynamic_base(const qs_architecture *a, int32_t positions)
{
    float base = (float)a->rope_theta, factor = (float)a->rope_factor;
    if (positions <= a->max_positions) return base;
    float stretch = factor * (float)positions / (float)a->max_positions - (float)(a->rope_factor - 1);
    return base * (float)pow(stretch, (double)a->rotary_dim / (a->rotary_dim - 2));
}

/* Llama 3.1: long waves are slowed by the factor, short ones kept, those between blended. */
static float llama3(const qs_architecture *a, float f)
{
    float old = (float)a->rope_original_positions, factor = (float)a->rope_factor;
    float low = (float)a->rope_low_freq;
    float wavelength = (float)(2 * M_PI) / f;
    if (wavelength > (float)(a->rope_original_positions / a->rope_low_freq)) return f / factor;
    if (wavelength < (float)(a->rope_original_positions / a->rope_high_freq)) return f;
    float s = (old / wavelength - low) / (float)(a->rope_high_freq - a->rope_low_freq);
    return (1 - s) * f / factor + s * f;
}

/* The (fractional) index whose wave turns `rotations` times within the original length. */
static double yarn_index(const qs_architecture *a, double rotations)
{
    return a->rotary_dim * log(a->rope_original_positions / (rotations * 2 * M_PI)) / (2 * log(a->rope_theta));
}

static void yarn(const qs_architecture *a, float *inv_freq)
{
    int d = a->rotary_dim;
    double low = yarn_index(a, a->rope_beta_fast), high = yarn_index(a, a->rope_beta_slow);
    if (a->rope_truncate) low = floor(low), high = ceil(high);
    low = fmax(low, 0);
    high = fmin(high, d - 1);
    if (low == high) high += 0.001;
    for (int i = 0; i < d / 2; i++) {
        float w = wave((float)a->rope_theta, i, d);
        float kept = 1 / w, slowed = 1 / ((float)a->rope_factor * w);
        float ramp = ((float)i - (float)low) / (float)(high - low);
        float keep = 1 - fminf(fmaxf(ramp, 0), 1);
        inv_freq[i] = slowed * (1 - keep) + kept * keep;
    }
}

void qs_rope_frequencies(const qs_architecture *a, int32_t positions, float *inv_freq)
{
    if (a->rope == QS_ROPE_YARN) {
        yarn(a, inv_freq);
        return;
    }
    float base = a->rope == QS_ROPE_DYNAMIC ? dynamic_base(a, positions) : (float)a->rope_theta;
    for (int i = 0; i < a->rotary_dim / 2; i++) {
        float f = 1 / wave(base, i, a->rotary_dim);
        if (a->rope == QS_ROPE_LINEAR) f /= (float)a->rope_factor;
        inv_freq[i] = a->rope == QS_ROPE_LLAMA3 ? llama3(a, f) : f;
    }
}

void qs_rope_tables(const qs_architecture *a, int32_t positions, float *cos_table, float *sin_table)
{
    int half = a->rotary_dim / 2;
    float scale = (float)a->rope_attention_factor;
    float *inv_freq = qs_malloc((size_t)half * sizeof *inv_freq);
    qs_rope_frequencies(a, positions, inv_freq);
    for (int32_t p = 0; p < positions; p++) {
        for (int i = 0; i < half; i++) {
            float angle = (float)p * inv_freq[i];
            cos_table[(size_t)p * half + i] = (float)cos(angle) * scale;
            sin_table[(size_t)p * half + i] = (float)sin(angle) * scale;
        }
    }
    qs_free(inv_freq);
}
