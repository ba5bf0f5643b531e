/* Our own tanh and its derivative, for a u given in two parts: with t = -2 |u| and e^t - 1 = m,
 *   tanh |u| = -m / (2 + m),    1 - tanh^2 = 4 e^t / (2 + m)^2.
 * Neither is a difference of numbers that are nearly equal, so both keep their digits where tanh is nearly 0 or nearly
 * 1. m comes from the reduction and the polynomial of exp_f64: e^r - 1 = r + r^2 q(r), t = n ln 2 + r,
 * m = 2^n (e^r - 1) + (2^n - 1).
 */
#ifndef XENT_TANH_H
#define XENT_TANH_H

#include "elementary.h"

/* |u| from which 1 - tanh^2 is below the smallest normal double, and counts as 0. */
static const double TANH_FLAT = 354.89;

typedef struct {
    wide tanh;    /* of |u| */
    double slope; /* 1 - tanh^2 */
} tanh_and_slope;

/* |u| = hi + lo >= 0, or a NaN, which stays. exact, a constant: with one more rounding of a double, not three. */
XENT_INLINE tanh_and_slope tanh_of(wide u, int exact) {
    const int flat = u.hi > TANH_FLAT;
    const double x = flat ? -2.0 * TANH_FLAT : -2.0 * u.hi, x_lo = flat ? 0.0 : -2.0 * u.lo;
    const double rounder = ROUNDER + 1025.0; /* n + 2 is the exponent: 4 e^t stays normal */
    const double t = fma(x, LOG2E, rounder), n = t - rounder;
    const double four = from_bits(bits_of(t) << 52), scale = 0.25 * four; /* 2^(n + 2), 2^n */
    const double r1 = fma(-n, LN2_HI, x), r = fma(-n, LN2_LO, r1), c = fma(-n, LN2_LO, r1 - r) + x_lo;
    double q = 0x1.ad7f7d1e71586p-26; /* (e^r - 1 - r) / r^2 */
    q = fma(q, r, 0x1.28ad691ad2295p-22);
    q = fma(q, r, 0x1.71df25397cf48p-19);
    q = fma(q, r, 0x1.a0199a165689ap-16);
    q = fma(q, r, 0x1.a01a012a699b7p-13);
    q = fma(q, r, 0x1.6c16c18426a4dp-10);
    q = fma(q, r, 0x1.1111111127b9ep-7);
    q = fma(q, r, 0x1.555555555088bp-5);
    q = fma(q, r, 0x1.55555555554fap-3);
    q = fma(q, r, 0x1.000000000000ap-1);
    if (!exact) {
        const double grown = fma(r * r, q, r), m = fma(scale, grown, scale - 1.0), inverse = 1.0 / (2.0 + m);
        return (tanh_and_slope){{-m * inverse, 0.0}, flat ? 0.0 : fma(four, grown, four) * inverse * inverse};
    }
    const wide grown = fast_two_sum(r, fma(r * r, q, fma(c, fma(r * r, q, r), c))); /* e^(r + c) - 1 */
    const wide one = two_sum(-1.0, scale), m = two_sum(one.hi, scale * grown.hi);
    const double m_lo = m.lo + (one.lo + scale * grown.lo);
    const wide below = two_sum(2.0, m.hi), sum = {below.hi, below.lo + m_lo};
    const wide power = two_sum(1.0, grown.hi);
    const wide part = wide_div((wide){power.hi, power.lo + grown.lo}, sum);
    const double slope = wide_div(part, sum).hi * four;
    return (tanh_and_slope){wide_div((wide){-m.hi, -m_lo}, sum), flat ? 0.0 : slope};
}

#endif
