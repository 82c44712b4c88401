/* vec_math.h - exponential, logarithm and the normal distribution, lane by lane: the same bits on every
 * processor that fuses multiply-adds. The C library's functions differ from processor to processor and from
 * version to version, so none of them decides a bit.
 *
 * Polynomials are minimax fits. The last argument's name says the number of lanes: vec_exp takes a register,
 * qs_exp_f32 one number.
 */
#ifndef QS_KERNELS_CPU_VEC_MATH_H
#define QS_KERNELS_CPU_VEC_MATH_H

#include <math.h>

#include "kernels/cpu/vec.h"

/* e^x to about one unit in the last place: x = n ln2 + r, Taylor's series to r^7, times 2^n in two halves so
 * that subnormal results and overflow to infinity come out right. NaN stays NaN. */
VEC vf vec_exp(vf x)
{
    x = vec_max(vec_min(x, vec_all(89.0f)), vec_all(-104.0f));
    vf magic = vec_all(0x1.8p23f);
    vf shifted = vec_fma(x, vec_all(0x1.715476p0f), magic); /* the low bits of the sum are round(x / ln2) */
    vf n = shifted - magic;
    vf r = vec_fma(n, vec_all(-0x1.62e4p-1f), x); /* ln2's leading bits: the product is exact */
    r = vec_fma(n, vec_all(-0x1.7f7d1cp-20f), r);
    vf p = vec_all(1.0f / 5040);
    p = vec_fma(p, r, vec_all(1.0f / 720));
    p = vec_fma(p, r, vec_all(1.0f / 120));
    p = vec_fma(p, r, vec_all(1.0f / 24));
    p = vec_fma(p, r, vec_all(1.0f / 6));
    p = vec_fma(p, r, vec_all(0.5f));
    p = vec_fma(p, r, vec_all(1.0f));
    p = vec_fma(p, r, vec_all(1.0f));
#if defined(__AVX512F__)
    return (vf)_mm512_scalef_ps((__m512)p,
                                (__m512)n); /* one rounding, like the two products of which one is exact */
#else
    vi e = (vi)shifted - 0x4b400000, half = e >> 1;
    return p * (vf)((half + 127) << 23) * (vf)((e - half + 127) << 23);
#endif
}

VEC vf vec_sigmoid(vf x) { return 1.0f / (1.0f + vec_exp(-x)); }

/* tanh x = 2 s(2x) - 1; where that would cancel, x - x^3/3 + 2x^5/15 - 17x^7/315. */
VEC vf vec_tanh(vf x)
{
    vf y = x * x, p = vec_fma(y, vec_all(-17.0f / 315), vec_all(2.0f / 15));
    p = vec_fma(y, p, vec_all(-1.0f / 3));
    p = vec_fma(y * p, x, x);
    return vec_select(vec_abs(x) < 0.125f, p, 2.0f * vec_sigmoid(2.0f * x) - 1.0f);
}

/* ln x to about one unit in the last place, for x > 0, infinity or NaN; -infinity for 0. x = 2^e m, m around
 * 1: e ln2 + f - f^2/2 + f^3 P(f), f = m - 1. Subnormal numbers are scaled up first. */
VEC vf vec_log(vf x)
{
    vi tiny = x < 0x1p-126f;
    vf scaled = vec_select(tiny, x * 0x1p24f, x);
    vi e = ((vi)scaled - 0x3f3504f3) >> 23; /* so that m lies between sqrt(1/2) and sqrt(2) */
    vf f = (vf)((vi)scaled - (e << 23)) - 1.0f, n = __builtin_convertvector(e - (tiny & 24), vf);
    vf p = vec_all(0x1.2c537ap-4f);
    p = vec_fma(p, f, vec_all(-0x1.dd9588p-4f));
    p = vec_fma(p, f, vec_all(0x1.dc8edcp-4f));
    p = vec_fma(p, f, vec_all(-0x1.fbc51ap-4f));
    p = vec_fma(p, f, vec_all(0x1.23dd16p-3f));
    p = vec_fma(p, f, vec_all(-0x1.55625ap-3f));
    p = vec_fma(p, f, vec_all(0x1.999d36p-3f));
    p = vec_fma(p, f, vec_all(-0x1.ffffe6p-3f));
    p = vec_fma(p, f, vec_all(0x1.555554p-2f));
    vf square = f * f;
    vf low = vec_fma(n, vec_all(0x1.7f7d1cp-20f), vec_fma(square * f, p, -0.5f * square));
    vf result = vec_fma(n, vec_all(0x1.62e4p-1f), f + low);
    result = vec_select((vi)(x == 0.0f), vec_all(-INFINITY), result);
    return vec_select((vi)(x < INFINITY), result, x); /* infinity and NaN stay */
}

/* erfc(z) = exp(-z^2) t Q(t), t = 1 / (1 + 0.4 z), for z >= 0: the factor t Q(t) is smooth. The rounding
 * error of z^2 is put back in, or it would count z^2 times. */
VEC vf vec_erfc_positive(vf z)
{
    vf t = 1.0f / vec_fma(z, vec_all(0.4f), vec_all(1.0f));
    vf q = vec_all(-0x1.de876ap-6f);
    q = vec_fma(q, t, vec_all(0x1.91390ap-3f));
    q = vec_fma(q, t, vec_all(-0x1.f9b76cp-2f));
    q = vec_fma(q, t, vec_all(0x1.14e87ep-1f));
    q = vec_fma(q, t, vec_all(-0x1.1d9224p-2f));
    q = vec_fma(q, t, vec_all(0x1.13943cp-2f));
    q = vec_fma(q, t, vec_all(0x1.0bab52p-3f));
    q = vec_fma(q, t, vec_all(0x1.b7b516p-3f));
    q = vec_fma(q, t, vec_all(0x1.ccc166p-3f));
    q = vec_fma(q, t, vec_all(0x1.ce3eb8p-3f));
    vf square = z * z, lost = vec_fma(z, z, -square);
    return vec_exp(-square) * (1.0f - lost) * t * q;
}

/* The normal distribution function: erfc(-x / sqrt 2) / 2. */
VEC vf vec_normal_cdf(vf x)
{
    vf tail = 0.5f * vec_erfc_positive(vec_min(vec_abs(x) * 0.7071067811865476f, vec_all(20.0f)));
    return vec_select(x < 0.0f, tail, 1.0f - tail);
}

/* One number. */
VEC float qs_exp_f32(float x) { return vec_exp(vec_all(x))[0]; }
VEC float qs_log_f32(float x) { return vec_log(vec_all(x))[0]; }

#endif
