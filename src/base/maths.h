/* maths.h - elementary functions whose result is the same on every machine. The C library's differ in the
 * last place from processor to processor and from version to version; where a function decides a bit of a run
 * (learning rates, rotary tables, bias corrections), it is one of these.
 *
 * They use +, -, *, / and fma only, which IEEE 754 rounds correctly everywhere. Not fast: for tables and for
 * once per step.
 */
#ifndef QS_BASE_MATHS_H
#define QS_BASE_MATHS_H

#include <stdint.h>

/* e^x and ln x, rounded correctly but for about one argument in 2^40. x > 0 for ln; infinities and NaN as
 * usual. */
double qs_exp(double x);
double qs_ln(double x);

/* x^y, x >= 0, as accurate. */
double qs_pow(double x, double y);

/* x^n, n >= 0. */
double qs_power_of_integer(double x, int64_t n);

/* Within three units in the last place for |x| < 2^18, and of an absolute 2^-53; NaN beyond 2^30, where
 * nobody needs them. */
double qs_sin(double x);
double qs_cos(double x);

#endif
