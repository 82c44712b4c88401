#include "src/base/maths.h"

#include <math.h>

/* A number as the sum of two doubles, the second below half a unit of the first (Dekker 1971): some 106 bits.
 */
typedef struct pair {
    double high, low;
} pair;

static pair fast_sum(double a, double b) /* |a| >= |b| or a == 0 */
{
    double s = a + b;
    return (pair){s, b - (s - a)};
}
static pair sum(double a, double b)
{
    double s = a + b, t = s - a;
    return (pair){s, (a - (s - t)) + (b - t)};
}
static pair add(pair a, pair b)
{
    pair s = sum(a.high, b.high), t = sum(a.low, b.low);
    s = fast_sum(s.high, s.low + t.high);
    return fast_sum(s.high, s.low + t.low);
}
static pair multiply(pair a, pair b)
{
    double p = a.high * b.high;
    return fast_sum(p, fma(a.high, b.high, -p) + (a.high * b.low + a.low * b.high));
}
static pair divide(pair a, pair b)
{
    double q = a.high / b.high;
    pair rest = add(a, multiply((pair){-q, 0}, b));
    double q2 = rest.high / b.high;
    rest = add(rest, multiply((pair){-q2, 0}, b));
    pair result = fast_sum(q, q2);
    return fast_sum(result.high, result.low + rest.high / b.high);
}

/* ln 2 in three parts, the first with 21 zero bits at its end: a multiple of it by a small integer is exact.
 */
static const double ln2[3] = {0x1.62e42fee00000p-1, 0x1.a39ef35793c76p-33, 0x1.cc01f97b57a08p-87};

/* e^x times 2^-(*exponent), for |x| < 800: x = k ln2 + r; e^(r / 256) by its series, squared eight times. */
static pair exp_of(pair x, int *exponent)
{
    double k = nearbyint(x.high / ln2[0]);
    *exponent = (int)k;
    pair r = add(x, (pair){-k * ln2[0], 0});
    r = add(r, multiply((pair){-k, 0}, (pair){ln2[1], ln2[2]}));
    r = (pair){r.high / 256, r.low / 256};
    pair term = {1, 0},
         total = {0, 0}; /* e^r - 1, so that squaring loses nothing: (1 + t)^2 - 1 = 2 t + t^2 */
    for (int n = 1; n <= 11; n++) {
        term = divide(multiply(term, r), (pair){n, 0});
        total = add(total, term);
    }
    for (int n = 0; n < 8; n++) total = add((pair){2 * total.high, 2 * total.low}, multiply(total, total));
    return add((pair){1, 0}, total);
}

/* ln x for a positive finite x: x = 2^k m, and ln m = 2 artanh((m - 1) / (m + 1)) by its series. */
static pair log_of(double x)
{
    int k;
    double m = frexp(x, &k);
    if (m < 0x1.6a09e667f3bcdp-1) m *= 2, k--;
    pair s = divide((pair){m - 1, 0}, sum(m, 1)), square = multiply(s, s), power = s, total = s;
    for (int n = 3; n <= 45; n += 2) {
        power = multiply(power, square);
        total = add(total, divide(power, (pair){n, 0}));
    }
    pair result = add((pair){k * ln2[0], 0}, multiply((pair){k, 0}, (pair){ln2[1], ln2[2]}));
    return add(result, (pair){2 * total.high, 2 * total.low});
}

double qs_exp(double x)
{
    if (isnan(x)) return x;
    if (x > 710) return INFINITY;
    if (x < -746) return 0;
    int k;
    pair p = exp_of((pair){x, 0}, &k);
    return ldexp(p.high + p.low, k);
}

double qs_ln(double x)
{
    if (isnan(x) || x == INFINITY) return x;
    if (x <= 0) return x == 0 ? -INFINITY : NAN;
    pair p = log_of(x);
    return p.high + p.low;
}

double qs_pow(double x, double y)
{
    if (y == 0 || x == 1) return 1;
    if (x == 0) return y > 0 ? 0 : INFINITY;
    if (!isfinite(x) || !isfinite(y) || x < 0) return x == INFINITY ? (y > 0 ? x : 0) : NAN;
    pair p = multiply(log_of(x), (pair){y, 0});
    if (p.high > 710) return INFINITY;
    if (p.high < -746) return 0;
    int k;
    p = exp_of(p, &k);
    return ldexp(p.high + p.low, k);
}

double qs_power_of_integer(double x, int64_t n)
{
    pair result = {1, 0}, square = {x, 0};
    for (; n > 0; n /= 2) {
        if (n % 2) result = multiply(result, square);
        square = multiply(square, square);
    }
    return result.high + result.low;
}

/* ---- sine and cosine --------------------------------------------------------------------------------- */

/* Taylor's series on [-pi/4, pi/4]: the terms that follow are below 2^-57. */
static double sine(double r)
{
    static const double c[] = {
        -1.0 / 6,        1.0 / 120,        -1.0 / 5040,          1.0 / 362880,
        -1.0 / 39916800, 1.0 / 6227020800, -1.0 / 1307674368000, 1.0 / 355687428096000};
    double z = r * r, p = c[7];
    for (int n = 6; n >= 0; n--) p = c[n] + z * p;
    return r + r * z * p;
}
static double cosine(double r)
{
    static const double c[] = {1.0 / 24,        -1.0 / 720,         1.0 / 40320,         -1.0 / 3628800,
                               1.0 / 479001600, -1.0 / 87178291200, 1.0 / 20922789888000};
    double z = r * r, p = c[6];
    for (int n = 5; n >= 0; n--) p = c[n] + z * p;
    return 1 - (0.5 * z - z * z * p);
}

/* x = n pi/2 + r. pi/2 in parts of 33 bits: their multiples by n < 2^20 are exact. */
static double reduce(double x, int *quarter)
{
    double n = nearbyint(x * 0x1.45f306dc9c883p-1);
    *quarter = (int)((int64_t)n & 3);
    return ((x - n * 0x1.921fb54400000p+0) - n * 0x1.0b4611a600000p-34) - n * 0x1.3198a2e037073p-69;
}

double qs_sin(double x)
{
    int quarter;
    if (!(fabs(x) < 0x1p30)) return NAN;
    double r = reduce(x, &quarter), value = quarter & 1 ? cosine(r) : sine(r);
    return quarter & 2 ? -value : value;
}

double qs_cos(double x)
{
    int quarter;
    if (!(fabs(x) < 0x1p30)) return NAN;
    double r = reduce(x, &quarter), value = quarter & 1 ? sine(r) : cosine(r);
    return (quarter + 1) & 2 ? -value : value;
}
